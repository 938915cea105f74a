//! `harbormaster linked-hub`: the hubs of a service instance, over the admin listener. Spec: DPS-CLI-29, DPS-CLI-33, DPS-INST-9.

mod shown;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand, ValueEnum};
use dps_core::instance::HubKind;
use dps_core::instance_settings::ALLOCATION_WEIGHT_MAX;
use dps_proto::connection_string::ServiceConnectionString;
use dps_proto::ids::HubName;
use dps_proto::percent;
use ipnet::IpNet;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::exit::{self, Failure};
use crate::instance_option::{Instance, InstanceOptions, failed};
use crate::manage::table::text;
use crate::{argument, file_option};

/// Most clean-ups that are asked for at a time.
const PAGE: usize = 1_000;

/// Where a connection string of a hub stands: never on the command line itself, which others may read.
const CONNECTION_STRING_FILE: &str = "--connection-string-file";

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
        /// File with the connection string of an Azure IoT Hub, of a policy with the rights RegistryWrite and ServiceConnect; - is
        /// standard input.
        #[arg(long, value_name = "FILE", required_if_eq("kind", "azureIotHub"))]
        connection_string_file: Option<PathBuf>,
        #[command(flatten)]
        choice: ChoiceOptions,
        #[command(flatten)]
        service: InstanceOptions,
    },
    /// List the linked hubs, how they do and how many devices they have.
    List {
        #[command(flatten)]
        service: InstanceOptions,
    },
    /// Show one linked hub, how it does and how many devices it has.
    Show {
        /// Its host name.
        name: HubName,
        #[command(flatten)]
        service: InstanceOptions,
    },
    /// Change which devices a hub gets, how many, and how an Azure IoT Hub is reached; what no option names stays.
    Update {
        /// Its host name.
        name: HubName,
        /// Its share of new devices among the hubs that may take them.
        #[arg(long, value_name = "SHARE", value_parser = clap::value_parser!(u16).range(1..=i64::from(ALLOCATION_WEIGHT_MAX)))]
        allocation_weight: Option<u16>,
        /// File with the connection string of an Azure IoT Hub; - is standard input.
        #[arg(long, value_name = "FILE")]
        connection_string_file: Option<PathBuf>,
        #[command(flatten)]
        choice: ChoiceOptions,
        #[command(flatten)]
        service: InstanceOptions,
    },
    /// Send no more devices to a hub that can go elsewhere, so that it can be unlinked; those that it has go to another hub when they
    /// register again, where their enrollments let them.
    Drain {
        /// Its host name.
        name: HubName,
        /// Let it take devices again.
        #[arg(long)]
        undo: bool,
        #[command(flatten)]
        service: InstanceOptions,
    },
    /// Unlink a hub. Its devices keep their records, and go to another hub when they register again.
    Delete {
        /// Its host name.
        name: HubName,
        /// Also where devices live there, are on their way, or are still to be removed from there. These last then stay at an Azure IoT
        /// Hub, and no data is taken along from it.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        service: InstanceOptions,
    },
    /// List devices that are to be gone from Azure IoT Hubs that they left.
    CleanUps {
        /// At most so many, by hub and device.
        #[arg(long, value_name = "NUMBER", default_value = "100", value_parser = argument::count)]
        limit: NonZeroUsize,
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
    /// Puts what was given into a hub of the admin API.
    fn put_into(&self, hub: &mut Value) {
        if let Some(applies) = self.apply_allocation_policy {
            hub["applyAllocationPolicy"] = applies.into();
        }
        if !self.networks.is_empty() {
            hub["networks"] = self.networks.iter().map(ToString::to_string).collect();
        }
    }
}

/// Who makes the identities of a hub's devices.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Harbormaster keeps them.
    Local,
    /// Whoever runs the hub.
    Static,
    /// The registry of an Azure IoT Hub, which Harbormaster asks.
    #[value(name = "azureIotHub")]
    Azure,
}

impl Kind {
    fn hub_kind(self) -> HubKind {
        match self {
            Self::Local => HubKind::Local,
            Self::Static => HubKind::Static,
            Self::Azure => HubKind::Azure,
        }
    }
}

pub(crate) fn run(command: Command) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        Command::Create { name, kind, allocation_weight, connection_string_file, choice, service } => {
            if connection_string_file.is_some() && kind != Kind::Azure {
                return Err(Failure::usage(anyhow!(
                    "{CONNECTION_STRING_FILE} is for --kind azureIotHub alone"
                )));
            }
            let mut body = json!({"kind": kind.hub_kind().as_str(), "allocationWeight": allocation_weight});
            choice.put_into(&mut body);
            put_connection_string_into(&mut body, connection_string_file.as_deref())?;
            let instance = Instance::of(service)?;
            let linked = runtime.block_on(instance.endpoint.put(&one(&instance, &name), &body));
            shown::one(instance.output, &linked.map_err(failed)?)?;
        }
        Command::List { service } => {
            let instance = Instance::of(service)?;
            let all = runtime.block_on(instance.endpoint.get(&format!("{}/hubs", instance.path)));
            shown::all(instance.output, &all.map_err(failed)?)?;
        }
        Command::Show { name, service } => {
            let instance = Instance::of(service)?;
            shown::one(instance.output, &found(&runtime, &instance, &name)?)?;
        }
        Command::Update { name, allocation_weight, connection_string_file, choice, service } => {
            let mut changes = json!({});
            if let Some(allocation_weight) = allocation_weight {
                changes["allocationWeight"] = allocation_weight.into();
            }
            choice.put_into(&mut changes);
            put_connection_string_into(&mut changes, connection_string_file.as_deref())?;
            if changes == json!({}) {
                return Err(Failure::usage(anyhow!(
                    "nothing is to be changed: give an option that says what"
                )));
            }
            let instance = Instance::of(service)?;
            shown::one(instance.output, &changed(&runtime, &instance, &name, &changes)?)?;
        }
        Command::Drain { name, undo, service } => {
            let instance = Instance::of(service)?;
            let now = changed(&runtime, &instance, &name, &json!({"draining": !undo}))?;
            shown::one(instance.output, &now)?;
        }
        Command::Delete { name, force, service } => {
            let instance = Instance::of(service)?;
            if !force {
                refuse_in_use(&found(&runtime, &instance, &name)?)?;
            }
            runtime.block_on(instance.endpoint.delete(&one(&instance, &name))).map_err(failed)?;
        }
        Command::CleanUps { limit, service } => {
            let instance = Instance::of(service)?;
            let all = runtime.block_on(clean_ups(&instance, limit.get()))?;
            shown::clean_ups(instance.output, &all)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn found(runtime: &Runtime, instance: &Instance, name: &HubName) -> Result<Value, Failure> {
    runtime.block_on(instance.endpoint.get(&one(instance, name))).map_err(failed)
}

/// The hub after these members of it were set, on the version that the rest was read from.
fn changed(
    runtime: &Runtime,
    instance: &Instance,
    name: &HubName,
    changes: &Value,
) -> Result<Value, Failure> {
    let settings = runtime.block_on(instance.endpoint.get(&instance.path)).map_err(failed)?;
    let hubs = settings["linkedHubs"].as_array().into_iter().flatten();
    let is_it = |hub: &&Value| hub["name"].as_str().is_some_and(|it| it.eq_ignore_ascii_case(name.as_str()));
    let mut hub = hubs.into_iter().find(is_it).cloned().ok_or_else(|| Failure {
        code: exit::NOT_FOUND,
        why: anyhow!("the service instance has no linked hub {name}"),
    })?;
    for (member, value) in changes.as_object().into_iter().flatten() {
        hub[member] = value.clone();
    }
    let etag = settings["etag"].as_str().unwrap_or("*");
    let written = runtime.block_on(instance.endpoint.put_over(&one(instance, name), &hub, etag));
    written.map_err(failed)
}

fn put_connection_string_into(hub: &mut Value, file: Option<&Path>) -> Result<(), Failure> {
    let Some(file) = file else { return Ok(()) };
    let read = || {
        let text = file_option::text(CONNECTION_STRING_FILE, file)?;
        // Judged here, so that nothing is sent where another file was named.
        let read: ServiceConnectionString =
            text.parse().with_context(|| format!("{CONNECTION_STRING_FILE} {}", file.display()))?;
        anyhow::Ok(read)
    };
    hub["connectionString"] = read().map_err(Failure::usage)?.expose().as_str().into();
    Ok(())
}

/// Spec: DPS-CLI-33.
fn refuse_in_use(hub: &Value) -> Result<(), Failure> {
    let count = |member: &str| hub["load"][member].as_u64().unwrap_or_default();
    let (devices, assigning, clean_ups) = (count("devices"), count("assigning"), count("cleanUps"));
    if devices == 0 && assigning == 0 && clean_ups == 0 {
        return Ok(());
    }
    let name = text(&hub["name"]);
    Err(Failure::from(anyhow!(
        "{name} is not unlinked: devices that live there: {devices}, on their way there: {assigning}, still to be removed from there: \
         {clean_ups}; harbormaster linked-hub drain {name} has them go elsewhere, and --force unlinks it nevertheless"
    )))
}

/// The first `limit` clean-ups of the instance.
async fn clean_ups(instance: &Instance, limit: usize) -> Result<Value, Failure> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let wanted = (limit - all.len()).min(PAGE);
        let mut path = format!("{}/clean-ups?limit={wanted}", instance.path);
        if let Some(last) = all.last() {
            let id = |member: &str| percent::encode(last[member].as_str().unwrap_or_default());
            path.push_str(&format!("&afterHub={}&afterDeviceId={}", id("hub"), id("deviceId")));
        }
        let page = instance.endpoint.get(&path).await.map_err(failed)?;
        let page = page.as_array().cloned().unwrap_or_default();
        let is_last = page.len() < wanted;
        all.extend(page);
        if is_last || all.len() >= limit {
            return Ok(Value::Array(all));
        }
    }
}

/// A host name needs no encoding.
fn one(instance: &Instance, name: &HubName) -> String {
    format!("{}/hubs/{name}", instance.path)
}
