//! `harbormaster linked-hub`: the hubs of a service instance, over the admin listener. Spec: DPS-CLI-29, DPS-INST-9.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::anyhow;
use clap::{Args, Subcommand, ValueEnum};
use dps_core::instance::HubKind;
use dps_core::instance_settings::ALLOCATION_WEIGHT_MAX;
use dps_proto::ids::HubName;
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::exit::{self, Failure};
use crate::instance_option::{Instance, InstanceOptions, Output, failed};
use crate::manage::table::{LINKED_HUBS, Table};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Link a hub: devices may be assigned to it from now on.
    Create {
        /// Its host name, as devices are told it.
        name: HubName,
        /// Who makes the devices' identities there.
        #[arg(long, value_enum)]
        kind: Kind,
        /// Its share of new devices among the hubs that may take them.
        #[arg(long, value_name = "SHARE", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(ALLOCATION_WEIGHT_MAX)))]
        allocation_weight: u16,
        #[command(flatten)]
        choice: ChoiceOptions,
        #[command(flatten)]
        service: InstanceOptions,
    },
    /// List the linked hubs.
    List {
        #[command(flatten)]
        service: InstanceOptions,
    },
    /// Show one linked hub.
    Show {
        /// Its host name.
        name: HubName,
        #[command(flatten)]
        service: InstanceOptions,
    },
    /// Change which devices a hub gets, and how many; what no option names stays.
    Update {
        /// Its host name.
        name: HubName,
        /// Its share of new devices among the hubs that may take them.
        #[arg(long, value_name = "SHARE", value_parser = clap::value_parser!(u16).range(1..=i64::from(ALLOCATION_WEIGHT_MAX)))]
        allocation_weight: Option<u16>,
        #[command(flatten)]
        choice: ChoiceOptions,
        #[command(flatten)]
        service: InstanceOptions,
    },
    /// Unlink a hub. Its devices keep their records, and go to another hub when they register again.
    Delete {
        /// Its host name.
        name: HubName,
        #[command(flatten)]
        service: InstanceOptions,
    },
}

/// Which devices a hub is chosen for.
#[derive(Args)]
pub(crate) struct ChoiceOptions {
    /// Whether enrollments that name no hubs may choose it [default: true].
    #[arg(long, value_name = "BOOL")]
    apply_allocation_policy: Option<bool>,
    /// A network whose devices it is nearest to, such as 10.1.0.0/16, for the allocation policy geoLatency. May be repeated;
    /// replaces those that there are.
    #[arg(long = "network", value_name = "NETWORK")]
    networks: Vec<IpNet>,
}

impl ChoiceOptions {
    /// Puts what was given into a hub of the admin API; whether that is anything.
    fn put_into(&self, hub: &mut Value) -> bool {
        if let Some(applies) = self.apply_allocation_policy {
            hub["applyAllocationPolicy"] = applies.into();
        }
        if !self.networks.is_empty() {
            hub["networks"] = self.networks.iter().map(ToString::to_string).collect();
        }
        self.apply_allocation_policy.is_some() || !self.networks.is_empty()
    }
}

/// Who makes the identities of a hub's devices.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Kind {
    /// Harbormaster keeps them.
    Local,
    /// Whoever runs the hub.
    Static,
}

pub(crate) fn run(command: Command) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        Command::Create { name, kind, allocation_weight, choice, service } => {
            let kind = match kind {
                Kind::Local => HubKind::Local,
                Kind::Static => HubKind::Static,
            };
            let mut body = json!({"kind": kind.as_str(), "allocationWeight": allocation_weight});
            choice.put_into(&mut body);
            let instance = Instance::of(service)?;
            let linked = runtime.block_on(instance.endpoint.put(&one(&instance, &name), &body));
            show(&instance, &json!([linked.map_err(failed)?]))?;
        }
        Command::List { service } => {
            let instance = Instance::of(service)?;
            let all = runtime.block_on(instance.endpoint.get(&format!("{}/hubs", instance.path)));
            show_all(&instance, &all.map_err(failed)?)?;
        }
        Command::Show { name, service } => {
            let instance = Instance::of(service)?;
            let found = runtime.block_on(instance.endpoint.get(&one(&instance, &name)));
            show(&instance, &json!([found.map_err(failed)?]))?;
        }
        Command::Update { name, allocation_weight, choice, service } => {
            if allocation_weight.is_none() && !choice.put_into(&mut json!({})) {
                return Err(Failure::usage(anyhow!(
                    "nothing is to be changed: give an option that says what"
                )));
            }
            let instance = Instance::of(service)?;
            let settings = runtime.block_on(instance.endpoint.get(&instance.path)).map_err(failed)?;
            let hubs = settings["linkedHubs"].as_array().into_iter().flatten();
            let is_it =
                |hub: &&Value| hub["name"].as_str().is_some_and(|it| it.eq_ignore_ascii_case(name.as_str()));
            let mut hub = hubs.into_iter().find(is_it).cloned().ok_or_else(|| Failure {
                code: exit::NOT_FOUND,
                why: anyhow!("the service instance has no linked hub {name}"),
            })?;
            if let Some(allocation_weight) = allocation_weight {
                hub["allocationWeight"] = allocation_weight.into();
            }
            choice.put_into(&mut hub);
            // On the version that the rest of the hub was read from.
            let etag = settings["etag"].as_str().unwrap_or("*");
            let written = runtime.block_on(instance.endpoint.put_over(&one(&instance, &name), &hub, etag));
            show(&instance, &json!([written.map_err(failed)?]))?;
        }
        Command::Delete { name, service } => {
            let instance = Instance::of(service)?;
            runtime.block_on(instance.endpoint.delete(&one(&instance, &name))).map_err(failed)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A host name needs no encoding.
fn one(instance: &Instance, name: &HubName) -> String {
    format!("{}/hubs/{name}", instance.path)
}

fn show(instance: &Instance, one: &Value) -> Result<(), Failure> {
    match instance.output {
        Output::Json => Ok(writeln!(io::stdout(), "{}", one[0])?),
        Output::Text => show_all(instance, one),
    }
}

fn show_all(instance: &Instance, all: &Value) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match instance.output {
        Output::Json => writeln!(out, "{all}")?,
        Output::Text => write!(out, "{}", Table::whole(&LINKED_HUBS, all)?)?,
    }
    Ok(())
}
