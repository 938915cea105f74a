//! Many complete registrations, and how long each took.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::device::{Completed, Device};
use crate::fleet::{Credentials, Fleet};
use crate::https;
use crate::target::{self, Target, Transport};

/// A registration that takes longer has failed.
const REGISTER_WITHIN: Duration = Duration::from_secs(60);

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
    /// How many devices register.
    #[arg(long)]
    count: usize,
    #[command(flatten)]
    pace: Pace,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Pace {
    /// So many devices at a time, the next as soon as one is done.
    #[arg(long)]
    at_once: Option<usize>,
    /// So many new devices a second, whether or not earlier ones are done; latency counts from when each was due.
    #[arg(long)]
    per_second: Option<f64>,
}

/// Of one run.
#[derive(Serialize)]
struct Results {
    /// Devices that were assigned.
    completed: usize,
    /// From the first connection to the last end of one.
    seconds: f64,
    /// Of each device that was assigned, in microseconds.
    latencies_us: Vec<u64>,
    /// Devices that were told to come back later at least once; that wait is part of their latency.
    deferred: usize,
    /// Devices that were not assigned.
    failed: usize,
    /// Why the first of them was not.
    first_failure: Option<String>,
}

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let target = Target::new(&options.target)?;
    // Tokens are signed, and certificates issued, beforehand: the driver's core is to keep up with the server's.
    let numbers = options.first..options.first + options.count as u64;
    let devices = numbers.map(|number| options.fleet.credentials(&options.target.id_scope, number));
    let devices: Arc<[Credentials]> = devices.collect::<anyhow::Result<Vec<_>>>()?.into();
    // The first use of the random generator takes milliseconds.
    let _ = aws_lc_rs::rand::fill(&mut [0; 16]);

    let started = Instant::now();
    let outcomes = match (options.pace.at_once, options.pace.per_second) {
        (Some(at_once), _) => closed_loop(&target, &devices, at_once).await?,
        (None, rate) => open_loop(&target, &devices, rate.context("a pace")?).await?,
    };
    let seconds = started.elapsed().as_secs_f64();

    let mut results = Results {
        completed: 0,
        seconds,
        latencies_us: Vec::with_capacity(outcomes.len()),
        deferred: 0,
        failed: 0,
        first_failure: None,
    };
    for outcome in outcomes {
        match outcome {
            Ok(Completed { latency, deferred }) => {
                results.completed += 1;
                results.deferred += usize::from(!deferred.is_zero());
                results.latencies_us.push(u64::try_from(latency.as_micros())?);
            }
            Err(why) => {
                results.failed += 1;
                results.first_failure.get_or_insert_with(|| format!("{why:#}"));
            }
        }
    }
    crate::tell(&results)
}

type Outcome = anyhow::Result<Completed>;

async fn closed_loop(
    target: &Target,
    fleet: &Arc<[Credentials]>,
    at_once: usize,
) -> anyhow::Result<Vec<Outcome>> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut devices = JoinSet::new();
    for _ in 0..at_once {
        let (target, fleet, next) = (target.clone(), Arc::clone(fleet), Arc::clone(&next));
        devices.spawn(async move {
            let mut outcomes = Vec::new();
            while let Some(credentials) = fleet.get(next.fetch_add(1, Ordering::Relaxed)) {
                outcomes.push(register(&target, credentials.clone()).await);
            }
            outcomes
        });
    }
    let mut all = Vec::with_capacity(fleet.len());
    while let Some(outcomes) = devices.join_next().await {
        all.extend(outcomes?);
    }
    Ok(all)
}

async fn open_loop(target: &Target, fleet: &[Credentials], per_second: f64) -> anyhow::Result<Vec<Outcome>> {
    let started = Instant::now();
    let mut devices = JoinSet::new();
    let mut due = started;
    for credentials in fleet {
        sleep_until(due).await;
        let (target, credentials) = (target.clone(), credentials.clone());
        devices.spawn(async move {
            let late = due.elapsed();
            let completed = register(&target, credentials).await?;
            Ok(Completed { latency: completed.latency + late, ..completed })
        });
        due += Duration::from_secs_f64(1.0 / per_second);
    }
    let mut all = Vec::with_capacity(fleet.len());
    while let Some(outcome) = devices.join_next().await {
        all.push(outcome?);
    }
    Ok(all)
}

async fn register(target: &Target, credentials: Credentials) -> Outcome {
    let registered = async {
        match target.transport {
            Transport::Mqtt | Transport::MqttWs => Box::pin(Device::register(target, credentials)).await,
            Transport::Https => Box::pin(https::register(target, credentials, true)).await,
            Transport::HttpsAnew => Box::pin(https::register(target, credentials, false)).await,
        }
    };
    timeout(REGISTER_WITHIN, registered).await.context("not done in time")?
}
