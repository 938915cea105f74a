//! The first page of a query and a far one, by turns on one connection.

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;
use serde::de::IgnoredAny;
use tokio::time::Instant;

use crate::service::{self, Connection, Service};

/// Most items that the service puts on a page.
const PAGE_MAX: u64 = 1_000;

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    service: service::Options,
    /// Items of a page.
    #[arg(long)]
    items: u64,
    /// Last row of the far page; the first row is 1.
    #[arg(long)]
    row: u64,
    /// Lines to print.
    #[arg(long)]
    rounds: usize,
    /// Requests for each of the two pages in a round.
    #[arg(long)]
    requests: usize,
}

/// How long each request of a round took, in microseconds.
#[derive(Default, Serialize)]
struct Round {
    first_us: Vec<u64>,
    far_us: Vec<u64>,
}

/// Prints a line for each round; what comes before the first warms up.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let mut connection = Service::new(&options.service)?.connect().await?;
    let items = options.items;
    let before = options.row.checked_sub(items).context("the far page begins before the first row")?;
    // As a client comes there: by the continuation that the service gave it.
    let (mut far, mut walked) = (None, 0);
    while walked < before {
        let items = PAGE_MAX.min(before - walked);
        far = page(&mut connection, items, far.as_deref()).await?;
        far.as_ref().with_context(|| format!("the list ends before row {before}"))?;
        walked += items;
    }
    for number in 0..=options.rounds {
        let mut round = Round::default();
        for _ in 0..options.requests {
            let started = Instant::now();
            page(&mut connection, items, None).await?;
            let between = Instant::now();
            page(&mut connection, items, far.as_deref()).await?;
            let (first, far) = (between - started, between.elapsed());
            round.first_us.push(u64::try_from(first.as_micros())?);
            round.far_us.push(u64::try_from(far.as_micros())?);
        }
        if number > 0 {
            crate::tell(&round)?;
        }
    }
    Ok(())
}

/// One page, which must be full; what leads to the next.
async fn page(
    connection: &mut Connection,
    items: u64,
    continuation: Option<&str>,
) -> anyhow::Result<Option<String>> {
    let continuation = continuation.map(|token| format!("x-ms-continuation: {token}\r\n"));
    let headers = format!("x-ms-max-item-count: {items}\r\n{}", continuation.unwrap_or_default());
    let query = r#"{"query":"SELECT * FROM enrollments"}"#;
    let answer = connection.ask("POST /enrollments/query", &headers, query).await?;
    let found = serde_json::from_slice::<Vec<IgnoredAny>>(&answer.body)?.len() as u64;
    if found != items {
        bail!("a page has {found} items instead of {items}");
    }
    Ok(answer.header("x-ms-continuation").map(str::to_owned))
}
