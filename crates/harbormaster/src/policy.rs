//! `harbormaster policy`: who may manage a service instance, over the admin listener. Spec: DPS-CLI-29, DPS-INST-6, DPS-INST-7.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::{Subcommand, ValueEnum};
use dps_core::access::Right;
use dps_proto::ids::PolicyName;
use serde_json::{Value, json};

use crate::exit::{self, Failure};
use crate::file_option;
use crate::instance_option::{Instance, InstanceOptions, Output, failed};
use crate::manage::table::{POLICIES, Table, lines, text};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a shared access policy, and print its keys.
    Create {
        /// Its name, as tokens carry it: 1 to 64 letters, digits, "-", "_", ".".
        name: PolicyName,
        /// What its holder may do. May be repeated; "owner" is all six.
        #[arg(long = "right", value_name = "RIGHT", required = true, value_parser = rights)]
        rights: Vec<Rights>,
        /// File with its primary key, Base64 [default: a new key].
        #[arg(long, value_name = "FILE")]
        primary_key_file: Option<PathBuf>,
        /// File with its secondary key, Base64 [default: a new key].
        #[arg(long, value_name = "FILE")]
        secondary_key_file: Option<PathBuf>,
        #[command(flatten)]
        service: InstanceOptions,
    },
    /// List the shared access policies.
    List {
        #[command(flatten)]
        service: InstanceOptions,
    },
    /// Show one shared access policy.
    Show {
        /// Its name.
        name: PolicyName,
        #[command(flatten)]
        service: InstanceOptions,
    },
    /// Print the keys of a policy.
    Keys {
        /// Its name.
        name: PolicyName,
        #[command(flatten)]
        service: InstanceOptions,
    },
    /// Change what the holder of a policy may do; its keys stay.
    Update {
        /// Its name.
        name: PolicyName,
        /// What its holder may do. May be repeated; "owner" is all six.
        #[arg(long = "right", value_name = "RIGHT", required = true, value_parser = rights)]
        rights: Vec<Rights>,
        #[command(flatten)]
        service: InstanceOptions,
    },
    /// Make one key of a policy anew, or exchange the two; tokens signed with the other one stay good.
    RenewKey {
        /// Its name.
        name: PolicyName,
        /// Which.
        #[arg(long, value_enum)]
        key: RenewedKey,
        #[command(flatten)]
        service: InstanceOptions,
    },
    /// Delete a policy: its keys are good for nothing from now on.
    Delete {
        /// Its name.
        name: PolicyName,
        #[command(flatten)]
        service: InstanceOptions,
    },
}

/// One of the two keys of a policy.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WhichKey {
    Primary,
    Secondary,
}

/// What is done to the keys of a policy.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum RenewedKey {
    Primary,
    Secondary,
    /// They exchange places.
    Swap,
}

/// One right, or all of them.
#[derive(Clone)]
pub(crate) struct Rights(Vec<Right>);

impl WhichKey {
    /// The member of the admin API that holds it.
    pub(crate) fn member(self) -> &'static str {
        match self {
            Self::Primary => "primaryKey",
            Self::Secondary => "secondaryKey",
        }
    }
}

fn rights(text: &str) -> Result<Rights, dps_core::access::UnknownRight> {
    if text.eq_ignore_ascii_case("owner") {
        return Ok(Rights(Right::ALL.to_vec()));
    }
    text.parse().map(|right| Rights(vec![right]))
}

/// The words of all rights that were given, each once, in their usual order.
fn words(given: &[Rights]) -> Vec<&'static str> {
    let is_given = |right: &Right| given.iter().any(|Rights(rights)| rights.contains(right));
    Right::ALL.iter().filter(|right| is_given(right)).map(|right| right.as_str()).collect()
}

pub(crate) fn run(command: Command) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        Command::Create { name, rights, primary_key_file, secondary_key_file, service } => {
            let mut body = json!({"rights": words(&rights)});
            for (option, member, file) in [
                ("--primary-key-file", "primaryKey", primary_key_file),
                ("--secondary-key-file", "secondaryKey", secondary_key_file),
            ] {
                if let Some(file) = file {
                    let key = file_option::key(option, &file).map_err(Failure::usage)?;
                    body[member] = key.expose_base64().as_str().into();
                }
            }
            let instance = Instance::of(service)?;
            let made = runtime.block_on(instance.endpoint.put(&one(&instance, &name), &body));
            show(&instance, &made.map_err(failed)?)?;
        }
        Command::List { service } => {
            let instance = Instance::of(service)?;
            let all =
                runtime.block_on(instance.endpoint.get(&format!("{}/shared-access-policies", instance.path)));
            let all = all.map_err(failed)?;
            match instance.output {
                Output::Json => writeln!(io::stdout(), "{all}")?,
                Output::Text => write!(io::stdout(), "{}", Table::whole(&POLICIES, &all)?)?,
            }
        }
        Command::Show { name, service } => {
            let instance = Instance::of(service)?;
            let found = runtime.block_on(instance.endpoint.get(&one(&instance, &name)));
            show(&instance, &found.map_err(failed)?)?;
        }
        Command::Keys { name, service } => {
            let instance = Instance::of(service)?;
            let path = format!("{}/list-keys", one(&instance, &name));
            let told = runtime.block_on(instance.endpoint.post(&path, &json!({})));
            show(&instance, &told.map_err(failed)?)?;
        }
        Command::Update { name, rights, service } => {
            let instance = Instance::of(service)?;
            let written = runtime.block_on(async {
                let path = one(&instance, &name);
                // A policy that is not there is not made by an update.
                instance.endpoint.get(&path).await?;
                instance.endpoint.put_over(&path, &json!({"rights": words(&rights)}), "*").await
            });
            show(&instance, &written.map_err(failed)?)?;
        }
        Command::RenewKey { name, key, service } => {
            let instance = Instance::of(service)?;
            let key = match key {
                RenewedKey::Primary => "primary",
                RenewedKey::Secondary => "secondary",
                RenewedKey::Swap => "swap",
            };
            let path = format!("{}/renew-key", one(&instance, &name));
            let renewed = runtime.block_on(instance.endpoint.post(&path, &json!({"key": key})));
            show(&instance, &renewed.map_err(failed)?)?;
        }
        Command::Delete { name, service } => {
            let instance = Instance::of(service)?;
            let deleted = runtime.block_on(instance.endpoint.delete(&one(&instance, &name))).map_err(failed);
            deleted.map_err(|why| match why.code {
                // The admin API's 400 is about what would be left.
                exit::FAILED => {
                    Failure { code: exit::FAILED, why: anyhow!("{name} is not deleted: {}", why.why) }
                }
                _ => why,
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A name needs no encoding.
fn one(instance: &Instance, name: &PolicyName) -> String {
    format!("{}/shared-access-policies/{name}", instance.path)
}

fn show(instance: &Instance, policy: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if instance.output == Output::Json {
        return writeln!(out, "{policy}");
    }
    let fields = [
        ("policy", text(&policy["name"])),
        ("rights", text(&policy["rights"])),
        ("primary key", text(&policy["primaryKey"])),
        ("secondary key", text(&policy["secondaryKey"])),
        ("primary SHA-256", text(&policy["primaryKeySha256"])),
        ("secondary SHA-256", text(&policy["secondaryKeySha256"])),
    ];
    out.write_all(lines(&fields).as_bytes())
}
