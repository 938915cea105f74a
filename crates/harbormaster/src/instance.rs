//! `harbormaster instance`: the service instances of a server, over its admin listener. Spec: DPS-CLI-29, DPS-INST-1 to DPS-INST-8.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::anyhow;
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use dps_client::admin::AdminError;
use dps_core::access::{ServiceHost, SharedAccessPolicy};
use dps_core::enrollment::AllocationPolicy;
use dps_core::instance::{ClaimAcrossGroups, WhenSourceUnavailable};
use dps_proto::ids::{IdScope, PolicyName};
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

use crate::admin_option;
use crate::exit::Failure;
use crate::instance_option::{Instance, Output, ServerOptions, failed};
use crate::manage::table::{INSTANCES, Table, lines, text};
use crate::policy::WhichKey;

const ALL: &str = "/admin/v1/id-scopes";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a service instance: an ID scope with hubs, policies and enrollments of its own.
    Create {
        /// Its ID scope, 4 to 32 letters and digits [default: a new one].
        id_scope: Option<IdScope>,
        #[command(flatten)]
        settings: SettingOptions,
        #[command(flatten)]
        server: ServerOptions,
    },
    /// List all service instances.
    List {
        #[command(flatten)]
        server: ServerOptions,
    },
    /// Show one service instance.
    Show {
        /// Its ID scope [default: that of the running `harbormaster dev`].
        id_scope: Option<IdScope>,
        #[command(flatten)]
        server: ServerOptions,
    },
    /// Change settings of a service instance; what no option names stays.
    Update {
        /// Its ID scope [default: that of the running `harbormaster dev`].
        id_scope: Option<IdScope>,
        #[command(flatten)]
        settings: SettingOptions,
        /// Only if it has this etag.
        #[arg(long, value_name = "ETAG")]
        etag: Option<String>,
        #[command(flatten)]
        server: ServerOptions,
    },
    /// Delete a service instance with all its enrollments, records and CA certificates. Its devices are refused at once.
    Delete {
        /// Its ID scope.
        id_scope: IdScope,
        /// Only if it has this etag.
        #[arg(long, value_name = "ETAG")]
        etag: Option<String>,
        #[command(flatten)]
        server: ServerOptions,
    },
    /// Print a connection string for the service API of an instance.
    ConnectionString(ConnectionStringOptions),
}

#[derive(Args)]
pub(crate) struct SettingOptions {
    /// A name by which clients call its service API; the server certificate must carry it. May be repeated; replaces those
    /// that there are.
    #[arg(long = "service-host", value_name = "HOST")]
    service_hosts: Vec<ServiceHost>,
    /// How a hub is chosen where the enrollment does not say.
    #[arg(long, value_name = "POLICY", value_parser = PossibleValuesParser::new(AllocationPolicy::DEFAULTS.map(AllocationPolicy::as_str)))]
    default_allocation_policy: Option<String>,
    /// What happens when a device of one group comes in by another.
    #[arg(long, value_name = "WHAT", value_parser = PossibleValuesParser::new(ClaimAcrossGroups::ALL.map(ClaimAcrossGroups::as_str)))]
    claim_across_groups: Option<String>,
    /// What becomes of a device that is to take its data along from a hub that cannot be read: its registration fails, or it begins
    /// anew.
    #[arg(long, value_name = "WHAT", value_parser = PossibleValuesParser::new(WhenSourceUnavailable::ALL.map(WhenSourceUnavailable::as_str)))]
    when_source_unavailable: Option<String>,
    /// Whether new devices go to other hubs than those that do not answer, where they may [default: false].
    #[arg(long, value_name = "BOOL")]
    pass_over_unhealthy_hubs: Option<bool>,
}

#[derive(Args)]
pub(crate) struct ConnectionStringOptions {
    /// ID scope of the instance [default: that of the running `harbormaster dev`].
    id_scope: Option<IdScope>,
    /// Whose key.
    #[arg(long, value_name = "NAME", default_value = SharedAccessPolicy::OWNER)]
    policy: PolicyName,
    /// Which of its keys.
    #[arg(long, value_enum, default_value_t = WhichKey::Primary)]
    key: WhichKey,
    /// Where the service API is served [default: where the running `harbormaster dev` serves it, else 443].
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    #[command(flatten)]
    server: ServerOptions,
}

pub(crate) fn run(command: Command) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        Command::Create { id_scope, settings, server } => {
            let output = server.output;
            let endpoint = admin_option::find(&server.admin, None)?.endpoint;
            let body = Value::Object(settings.members());
            let made = runtime.block_on(async {
                match &id_scope {
                    Some(id_scope) => endpoint.put(&format!("{ALL}/{id_scope}"), &body).await,
                    None => endpoint.post(ALL, &body).await,
                }
            });
            let made = made.map_err(failed)?;
            show(output, &made)?;
            let id_scope = made["idScope"].as_str().unwrap_or_default();
            if output == Output::Text {
                writeln!(
                    io::stderr(),
                    "no device can be assigned yet: harbormaster linked-hub create HOST --kind local|static|azureIotHub --id-scope {id_scope}"
                )?;
            }
        }
        Command::List { server } => {
            let endpoint = admin_option::find(&server.admin, None)?.endpoint;
            let all = runtime.block_on(endpoint.get(ALL)).map_err(failed)?;
            match server.output {
                Output::Json => writeln!(io::stdout(), "{all}")?,
                Output::Text => write!(io::stdout(), "{}", Table::whole(&INSTANCES, &all)?)?,
            }
        }
        Command::Show { id_scope, server } => {
            let instance = Instance::at(id_scope, server)?;
            show(instance.output, &read(&runtime, &instance)?)?;
        }
        Command::Update { id_scope, settings, etag, server } => {
            let members = settings.members();
            if members.is_empty() {
                return Err(Failure::usage(anyhow!(
                    "nothing is to be changed: give an option that says what"
                )));
            }
            let instance = Instance::at(id_scope, server)?;
            let mut current = read(&runtime, &instance)?;
            let etag = etag.or_else(|| current["etag"].as_str().map(str::to_owned)).unwrap_or_default();
            for (member, value) in members {
                current[member] = value;
            }
            let written = runtime.block_on(instance.endpoint.put_over(&instance.path, &current, &etag));
            show(instance.output, &written.map_err(failed)?)?;
        }
        Command::Delete { id_scope, etag, server } => {
            let instance = Instance::at(Some(id_scope), server)?;
            let deleted = runtime.block_on(async {
                match etag {
                    Some(etag) => instance.endpoint.delete_if(&instance.path, &etag).await,
                    None => instance.endpoint.delete(&instance.path).await,
                }
            });
            deleted.map_err(failed)?;
        }
        Command::ConnectionString(options) => connection_string(&runtime, options)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn read(runtime: &Runtime, instance: &Instance) -> Result<Value, Failure> {
    runtime.block_on(instance.endpoint.get(&instance.path)).map_err(failed)
}

fn connection_string(runtime: &Runtime, options: ConnectionStringOptions) -> Result<(), Failure> {
    let ConnectionStringOptions { id_scope, policy, key, port, server } = options;
    let instance = Instance::at(id_scope, server)?;
    let settings = read(runtime, &instance)?;
    let host = settings["serviceHosts"][0].as_str().ok_or_else(|| {
        Failure::from(anyhow!(
            "the instance has no service host: harbormaster instance update --service-host HOST"
        ))
    })?;
    let path = format!("{}/shared-access-policies/{policy}/list-keys", instance.path);
    let keys: Result<Value, AdminError> = runtime.block_on(instance.endpoint.post(&path, &json!({})));
    let keys = keys.map_err(failed)?;
    let host = match port.or(instance.https_port).filter(|port| *port != 443) {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let text = format!(
        "HostName={host};SharedAccessKeyName={};SharedAccessKey={}",
        keys["name"].as_str().unwrap_or_default(),
        keys[key.member()].as_str().unwrap_or_default()
    );
    let shown = match instance.output {
        Output::Json => json!({"connectionString": text}).to_string(),
        Output::Text => text,
    };
    Ok(writeln!(io::stdout(), "{shown}")?)
}

impl SettingOptions {
    /// As the admin API names them; only those that were given.
    fn members(self) -> Map<String, Value> {
        let mut members = Map::new();
        if !self.service_hosts.is_empty() {
            let hosts: Vec<_> = self.service_hosts.iter().map(ServiceHost::as_str).collect();
            members.insert("serviceHosts".to_owned(), hosts.into());
        }
        for (member, value) in [
            ("defaultAllocationPolicy", self.default_allocation_policy),
            ("claimAcrossGroups", self.claim_across_groups),
            ("whenSourceUnavailable", self.when_source_unavailable),
        ] {
            if let Some(value) = value {
                members.insert(member.to_owned(), value.into());
            }
        }
        if let Some(passes_over) = self.pass_over_unhealthy_hubs {
            members.insert("passOverUnhealthyHubs".to_owned(), passes_over.into());
        }
        members
    }
}

fn show(output: Output, instance: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if output == Output::Json {
        return writeln!(out, "{instance}");
    }
    let passes_over = instance["passOverUnhealthyHubs"] == true;
    let mut fields = vec![
        ("ID scope", text(&instance["idScope"])),
        ("managed by", text(&instance["managedBy"])),
        ("service hosts", text(&instance["serviceHosts"])),
        ("default allocation", text(&instance["defaultAllocationPolicy"])),
        ("claims", text(&instance["claimAcrossGroups"])),
        ("source unavailable", text(&instance["whenSourceUnavailable"])),
        ("unhealthy hubs", if passes_over { "passed over" } else { "chosen" }.to_owned()),
    ];
    for hub in instance["linkedHubs"].as_array().into_iter().flatten() {
        let shown =
            format!("{}, {}, weight {}", text(&hub["name"]), text(&hub["kind"]), hub["allocationWeight"]);
        fields.push(("linked hub", shown));
    }
    for policy in instance["sharedAccessPolicies"].as_array().into_iter().flatten() {
        fields.push(("policy", format!("{}: {}", text(&policy["name"]), text(&policy["rights"]))));
    }
    fields.push(("etag", text(&instance["etag"])));
    fields.push(("created", text(&instance["createdDateTimeUtc"])));
    fields.push(("last updated", text(&instance["lastUpdatedDateTimeUtc"])));
    out.write_all(lines(&fields).as_bytes())
}
