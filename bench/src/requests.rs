//! Many creations or readings of individual enrollments, one a request, on connections that are kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::entries;
use crate::fleet::{self, Fleet};
use crate::service::{self, Service};

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    service: service::Options,
    /// What is done.
    #[arg(long)]
    what: What,
    /// Number of the first entry.
    #[arg(long)]
    first: u64,
    /// How many requests.
    #[arg(long)]
    count: u64,
    /// Entries that there are, over which readings are scattered.
    #[arg(long, default_value_t = 1)]
    of: u64,
    /// Connections, each with one request at a time.
    #[arg(long)]
    at_once: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// PUT of an entry that is not there.
    Create,
    /// GET of an entry that is there.
    Read,
}

/// Of one run, all requests of which were answered with 200.
#[derive(Serialize)]
struct Results {
    /// From the first request to the last answer.
    seconds: f64,
    /// Of each request, in microseconds.
    latencies_us: Vec<u64>,
}

/// What is sent: request line and body.
type Prepared = (String, String);

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let service = Service::new(&options.service)?;
    // Made beforehand: the driver's core is to keep up with the server's.
    let numbers = options.first..options.first + options.count;
    let prepared = numbers.map(|number| options.what.prepare(number, options.of));
    let prepared: Arc<[Prepared]> = prepared.collect::<anyhow::Result<Vec<_>>>()?.into();
    let mut connections = Vec::new();
    for _ in 0..options.at_once {
        connections.push(service.connect().await?);
    }

    let started = Instant::now();
    let next = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for mut connection in connections {
        let (prepared, next) = (Arc::clone(&prepared), Arc::clone(&next));
        clients.spawn(async move {
            let mut latencies_us = Vec::new();
            while let Some((request, body)) = prepared.get(next.fetch_add(1, Ordering::Relaxed)) {
                let asked = Instant::now();
                connection.ask(request, "", body).await?;
                latencies_us.push(u64::try_from(asked.elapsed().as_micros())?);
            }
            anyhow::Ok(latencies_us)
        });
    }
    let mut latencies_us = Vec::with_capacity(prepared.len());
    while let Some(client) = clients.join_next().await {
        latencies_us.extend(client??);
    }
    crate::tell(&Results { seconds: started.elapsed().as_secs_f64(), latencies_us })
}

impl What {
    fn prepare(self, number: u64, of: u64) -> anyhow::Result<Prepared> {
        Ok(match self {
            Self::Create => {
                let id = fleet::individual_id(number)?;
                (format!("PUT /enrollments/{id}"), entries::individual(number)?)
            }
            Self::Read => {
                let id = Fleet::Individual(of).registration_id(number)?;
                (format!("GET /enrollments/{id}"), String::new())
            }
        })
    }
}
