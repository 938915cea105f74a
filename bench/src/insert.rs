//! How fast the store alone takes entries, as many as are imported: what an import is judged by.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::anyhow;
use clap::Args;
use dps_core::ports::{Condition, Store as _};
use dps_proto::ids::IdScope;
use dps_store::WriteStatistics;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::fill;

/// Puts that are under way at one time: four times as many as one commit takes.
const AT_ONCE: usize = 1_024;

#[derive(Args)]
pub(crate) struct Options {
    /// Created if it is missing.
    #[arg(long)]
    data_dir: PathBuf,
    /// ID scope of the service instance to make.
    #[arg(long)]
    id_scope: IdScope,
    /// How many entries.
    #[arg(long)]
    count: u64,
}

#[derive(Serialize)]
struct Inserted {
    entries: u64,
    /// From the first put to the last answer.
    seconds: f64,
    /// Commits that they shared.
    commits: u64,
}

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let (_data_dir, store) = fill::open(options.data_dir, &options.id_scope).await?;
    // Made beforehand: the store's rate is what is asked for.
    let entries: Vec<_> = (0..options.count).map(fill::individual).collect::<anyhow::Result<_>>()?;
    let before = store.write_statistics();
    let started = Instant::now();
    let entries = Arc::new(Mutex::new(entries.into_iter()));
    let mut writers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (store, entries) = (Arc::clone(&store), Arc::clone(&entries));
        let scope = options.id_scope.clone();
        writers.spawn(async move {
            loop {
                let entry = entries.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(entry) = entry else { return anyhow::Ok(()) };
                store.put_individual_enrollment(&scope, entry, Condition::IfAbsent.into()).await?;
            }
        });
    }
    while let Some(written) = writers.join_next().await {
        written??;
    }
    let seconds = started.elapsed().as_secs_f64();
    let WriteStatistics { commits, .. } = store.write_statistics();
    Arc::into_inner(store).ok_or_else(|| anyhow!("the store is still in use"))?.close();
    crate::tell(&Inserted { entries: options.count, seconds, commits: commits - before.commits })
}
