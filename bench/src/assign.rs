//! Many devices whose hub takes its time: each registers, and asks again when it was told to, until it is assigned. Their requests
//! share a few connections, so that it is not handshakes and idle connections that are measured.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use dps_proto::device_path::DeviceResource;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::client::TlsStream;

use crate::fleet::{Credentials, Fleet};
use crate::https;
use crate::target::{self, Target};

/// An answer that takes longer does not come.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

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
    count: u64,
    /// Connections that their requests share, each with one at a time.
    #[arg(long)]
    connections: usize,
    /// A line says each time that so many more are assigned.
    #[arg(long)]
    every: u64,
    /// What enrolls devices that register before, and of which nobody asks what becomes of them.
    #[arg(long, requires = "abandoned_count")]
    abandoned_fleet: Option<Fleet>,
    /// How many they are; their numbers come after those of the others.
    #[arg(long, default_value_t = 0)]
    abandoned_count: u64,
}

/// So many were told that they are assigned.
#[derive(Serialize)]
struct Reached {
    assigned: u64,
}

/// Of one run, all devices of which were assigned.
#[derive(Serialize)]
struct Results {
    /// From the first register to the answer of the last one.
    register_seconds: f64,
    /// From the first register to the time of the last record that says `assigned`.
    seconds: f64,
    /// How often they asked again.
    polls: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told<'t> {
    operation_id: &'t str,
    status: &'t str,
    #[serde(borrow)]
    registration_state: Option<Record<'t>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record<'t> {
    /// As long as it has never been assigned there is none.
    last_updated_date_time_utc: Option<&'t str>,
}

/// When which device asks what.
struct Turn {
    at: Instant,
    device: usize,
    /// `None`: it registers.
    operation: Option<Box<str>>,
}

/// What all connections share.
struct Queue {
    devices: Vec<Credentials>,
    state: Mutex<State>,
    /// Whether those that registered are to be asked for.
    is_awaited: bool,
    every: u64,
}

struct State {
    /// In the order of their times, but for milliseconds: every device waits as long as every other.
    turns: VecDeque<Turn>,
    registered_at: Instant,
    last_record_at: Timestamp,
    assigned: u64,
    polls: u64,
}

type Connection = TlsStream<TcpStream>;

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let target = Target::new(&options.target)?;
    let scope = &options.target.id_scope;
    let queue = |fleet: &Fleet, first, count, is_awaited| {
        // Tokens are signed beforehand: the driver's core is to keep up with the server's.
        let devices = (first..first + count).map(|number| fleet.credentials(scope, number));
        anyhow::Ok(Queue::new(devices.collect::<anyhow::Result<_>>()?, is_awaited, options.every))
    };
    let awaited = queue(&options.fleet, options.first, options.count, true)?;
    let mut connections = Vec::new();
    for _ in 0..options.connections {
        connections.push(Box::pin(target.connect(None)).await.context("TCP or TLS")?);
    }
    if let Some(fleet) = &options.abandoned_fleet {
        let abandoned = queue(fleet, options.first + options.count, options.abandoned_count, false)?;
        connections = carry_out(&Arc::new(abandoned), connections).await?;
    }
    let (began, began_at) = (Instant::now(), Timestamp::now());
    let awaited = Arc::new(awaited);
    carry_out(&awaited, connections).await?;
    let state = awaited.state();
    crate::tell(&Results {
        register_seconds: state.registered_at.duration_since(began).as_secs_f64(),
        seconds: state.last_record_at.duration_since(began_at).as_secs_f64(),
        polls: state.polls,
    })
}

/// Until no device has anything more to ask.
async fn carry_out(queue: &Arc<Queue>, connections: Vec<Connection>) -> anyhow::Result<Vec<Connection>> {
    let mut clients = JoinSet::new();
    for mut connection in connections {
        let queue = Arc::clone(queue);
        clients.spawn(async move {
            loop {
                let turn = queue.state().turns.pop_front();
                let Some(turn) = turn else { return anyhow::Ok(connection) };
                sleep_until(turn.at).await;
                queue.take(turn, &mut connection).await?;
            }
        });
    }
    let mut connections = Vec::new();
    while let Some(connection) = clients.join_next().await {
        connections.push(connection??);
    }
    Ok(connections)
}

impl Queue {
    fn new(devices: Vec<Credentials>, is_awaited: bool, every: u64) -> Self {
        let at = Instant::now();
        let state = State {
            turns: (0..devices.len()).map(|device| Turn { at, device, operation: None }).collect(),
            registered_at: at,
            last_record_at: Timestamp::MIN,
            assigned: 0,
            polls: 0,
        };
        Self { devices, state: Mutex::new(state), is_awaited, every }
    }

    async fn take(&self, turn: Turn, connection: &mut Connection) -> anyhow::Result<()> {
        let credentials = self.devices.get(turn.device).context("a device")?;
        let is_poll = turn.operation.is_some();
        let (resource, body) = match turn.operation {
            None => (DeviceResource::Register, "{}"),
            Some(operation) => (DeviceResource::Operation(operation), ""),
        };
        let asked = https::ask(connection, credentials, resource, body);
        let answer = timeout(ANSWER_WITHIN, asked).await.context("no answer in time")??;
        let told: Told<'_> = serde_json::from_str(&answer.body).with_context(|| answer.body.clone())?;
        let mut state = self.state();
        match is_poll {
            true => state.polls += 1,
            false => state.registered_at = Instant::now(),
        }
        match (told.status, &told.registration_state) {
            ("assigning", _) if self.is_awaited => {
                let at = Instant::now() + answer.retry_after.context("retry-after")?;
                let operation = Some(told.operation_id.into());
                state.turns.push_back(Turn { at, device: turn.device, operation });
            }
            ("assigning", _) => {}
            ("assigned", Some(record)) if is_poll => {
                let at = record.last_updated_date_time_utc.context("lastUpdatedDateTimeUtc")?;
                state.last_record_at = state.last_record_at.max(at.parse()?);
                state.assigned += 1;
                if state.assigned.is_multiple_of(self.every) {
                    crate::tell(&Reached { assigned: state.assigned })?;
                }
            }
            _ => bail!("{}", answer.body),
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
