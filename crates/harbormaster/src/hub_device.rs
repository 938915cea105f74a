//! `harbormaster hub-device`: the devices of local hubs, over the admin listener. Spec: DPS-BROKER-12, DPS-DEV-10.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use dps_core::ports::HubDeviceStatus;
use dps_proto::ids::{DeviceId, HubName};
use dps_proto::percent;
use serde_json::{Value, json};

use crate::exit::Failure;
use crate::instance_option::{Instance, InstanceOptions, Output, failed};
use crate::manage::table::{HUB_DEVICES, Table};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List the first 1,000 devices of a local hub, by their ids.
    List {
        /// The hub's host name.
        hub: HubName,
        #[command(flatten)]
        service: InstanceOptions,
    },
    /// Show one device of a local hub.
    Show(OneDevice),
    /// Let a device connect again to the broker that is its hub.
    Enable(OneDevice),
    /// Refuse a device at the broker that is its hub, from its next connection on; it stays so when it registers again.
    Disable(OneDevice),
}

#[derive(Args)]
pub(crate) struct OneDevice {
    /// The hub's host name.
    hub: HubName,
    /// The device's id there.
    device_id: DeviceId,
    #[command(flatten)]
    service: InstanceOptions,
}

pub(crate) fn run(command: Command) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        Command::List { hub, service } => {
            let instance = Instance::of(service)?;
            let all =
                runtime.block_on(instance.endpoint.get(&format!("{}/hubs/{hub}/devices", instance.path)));
            show_all(&instance, &all.map_err(failed)?)?;
        }
        Command::Show(one) => {
            let (instance, path) = one.found()?;
            let found = runtime.block_on(instance.endpoint.get(&path));
            show(&instance, &found.map_err(failed)?)?;
        }
        Command::Enable(one) => runtime.block_on(one.set(HubDeviceStatus::Enabled))?,
        Command::Disable(one) => runtime.block_on(one.set(HubDeviceStatus::Disabled))?,
    }
    Ok(ExitCode::SUCCESS)
}

impl OneDevice {
    /// The instance, and the path of the device.
    fn found(self) -> Result<(Instance, String), Failure> {
        let Self { hub, device_id, service } = self;
        let instance = Instance::of(service)?;
        // A device id may hold what means something in a path.
        let path = format!("{}/hubs/{hub}/devices/{}", instance.path, percent::encode(device_id.as_str()));
        Ok((instance, path))
    }

    async fn set(self, status: HubDeviceStatus) -> Result<(), Failure> {
        let (instance, path) = self.found()?;
        let body = json!({"status": status.as_str()});
        let written = instance.endpoint.put(&format!("{path}/status"), &body).await;
        show(&instance, &written.map_err(failed)?)
    }
}

fn show(instance: &Instance, one: &Value) -> Result<(), Failure> {
    match instance.output {
        Output::Json => Ok(writeln!(io::stdout(), "{one}")?),
        Output::Text => show_all(instance, &json!([one])),
    }
}

fn show_all(instance: &Instance, all: &Value) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match instance.output {
        Output::Json => writeln!(out, "{all}")?,
        Output::Text => write!(out, "{}", Table::whole(&HUB_DEVICES, all)?)?,
    }
    Ok(())
}
