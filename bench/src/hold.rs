//! Connections that are opened and left alone, so that what each costs can be read off the server.

use std::io::BufRead as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::device::{Device, Stage};
use crate::fleet::Fleet;
use crate::target::{self, Target};

/// Connections that are being opened at one time; few, so that what opening needs does not pass for idle memory.
const AT_ONCE: usize = 16;

/// Longer than any measurement, so that no device pings.
const KEEP_ALIVE_S: u16 = 1_800;

/// For the server to finish with the last of them.
const SETTLE: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: target::Options,
    /// What enrolls the devices.
    #[arg(long)]
    fleet: Fleet,
    /// Number of the first device.
    #[arg(long)]
    first: u64,
    /// How many connections to hold, one number after the other.
    #[arg(long, value_delimiter = ',')]
    counts: Vec<usize>,
    /// How far each device goes before it is left alone.
    #[arg(long)]
    stage: Stage,
}

/// So many connections stand now.
#[derive(Serialize)]
struct Held {
    open: usize,
}

/// Says when each number is reached and then waits for a line on standard input.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let target = Target::new(&options.target)?;
    let mut held: Vec<Device> = Vec::new();
    let mut opening = JoinSet::new();
    let mut next = options.first;
    for count in options.counts {
        while held.len() < count {
            while opening.len() < AT_ONCE.min(count - held.len()) {
                let credentials = options.fleet.credentials(&options.target.id_scope, next)?;
                let (target, stage) = (target.clone(), options.stage);
                opening.spawn(async move {
                    let mut device = Box::pin(Device::connect(&target, credentials, KEEP_ALIVE_S)).await?;
                    device.reach(stage).await?;
                    anyhow::Ok(device)
                });
                next += 1;
            }
            held.push(opening.join_next().await.context("nothing is being opened")???);
        }
        sleep(SETTLE).await;
        let closed = held.iter().filter(|device| !device.is_idle()).count();
        if closed > 0 {
            bail!("the server ended {closed} of {count} connections");
        }
        crate::tell(&Held { open: held.len() })?;
        std::io::stdin().lock().read_line(&mut String::new())?;
    }
    Ok(())
}
