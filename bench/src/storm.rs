//! Devices that come all at one time, as after an outage of their network, and come again as real ones do: each waits as long as it is
//! told to.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::device::{Completed, Device};
use crate::fleet::Fleet;
use crate::target::{self, Target};

/// The addresses that devices come from begin after it.
const NETWORK: Ipv4Addr = Ipv4Addr::new(127, 0, 64, 0);

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
    /// How many come at one time.
    #[arg(long)]
    count: u64,
    /// How many times so many others come: each time when the last of those before is done.
    #[arg(long)]
    waves: u64,
    /// From how many addresses.
    #[arg(long)]
    addresses: u16,
    /// Seconds after which a device gives up that is not assigned.
    #[arg(long)]
    give_up_after_s: u64,
}

/// Of one wave.
#[derive(Serialize, Default)]
struct Results {
    /// Devices that were assigned.
    assigned: usize,
    /// From when all came to when the last one was done.
    seconds: f64,
    /// Of each device that was assigned, from when all came to the answer, in microseconds.
    latencies_us: Vec<u64>,
    /// Devices that were told to come back later at least once.
    deferred: usize,
    /// Devices that were not assigned in time, or whose connection was refused or broke.
    gave_up: usize,
    /// Why the first of them did.
    first_failure: Option<String>,
}

/// Says of each wave what came of it.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let target = Target::new(&options.target)?;
    // The first use of the random generator takes milliseconds.
    let _ = aws_lc_rs::rand::fill(&mut [0; 16]);
    for wave in 0..options.waves {
        let first = options.first + wave * options.count;
        crate::tell(&come(&options, &target, first).await?)?;
    }
    Ok(())
}

async fn come(options: &Options, target: &Target, first: u64) -> anyhow::Result<Results> {
    // Tokens are signed beforehand: the driver's core is to keep up with the server's.
    let numbers = first..first + options.count;
    let fleet = numbers.map(|number| options.fleet.credentials(&options.target.id_scope, number));
    let fleet = fleet.collect::<anyhow::Result<Vec<_>>>()?;
    let patience = Duration::from_secs(options.give_up_after_s);
    let (mut devices, all_came) = (JoinSet::new(), Instant::now());
    for (address, credentials) in (0..options.addresses).cycle().zip(fleet) {
        let target = target.from(source(address));
        devices.spawn(async move {
            let assigned = timeout(patience, Device::register_patiently(&target, credentials)).await;
            let Completed { deferred, .. } = assigned.context("not assigned in time")??;
            anyhow::Ok((all_came.elapsed(), deferred))
        });
    }
    let mut results = Results::default();
    while let Some(device) = devices.join_next().await {
        match device? {
            Ok((latency, deferred)) => {
                results.assigned += 1;
                results.deferred += usize::from(!deferred.is_zero());
                results.latencies_us.push(u64::try_from(latency.as_micros())?);
            }
            Err(why) => {
                results.gave_up += 1;
                results.first_failure.get_or_insert_with(|| format!("{why:#}"));
            }
        }
    }
    results.seconds = all_came.elapsed().as_secs_f64();
    Ok(results)
}

fn source(number: u16) -> IpAddr {
    Ipv4Addr::from_bits(NETWORK.to_bits() + 1 + u32::from(number)).into()
}
