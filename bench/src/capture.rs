//! What the service answers one device, byte for byte.

use clap::Args;

use crate::device::Device;
use crate::fleet::Fleet;
use crate::target::{self, Target};

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: target::Options,
    /// What enrolls the device.
    #[arg(long)]
    fleet: Fleet,
    /// Number of the device.
    #[arg(long)]
    device: u64,
}

/// Prints an array of the answers, each an array of bytes.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let target = Target::new(&options.target)?;
    let credentials = options.fleet.credentials(&options.target.id_scope, options.device)?;
    crate::tell(&Device::register_recorded(&target, credentials).await?)
}
