//! The task that writes the registrations of this node. Spec: DPS-STORE-2, DPS-STORE-3.
//!
//! What arrives while a batch is under way goes into the next one, and so shares its few statements and its one wait for the disk. No
//! one is answered before that transaction is committed.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dps_core::ports::{Commit, StoreError};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::batch::{Batch, Wanted};
use super::fault::Fault;
use super::pool::Connections;
use super::transaction::{Waiting, commit};
use crate::WriteStatistics;

/// Most writes that wait in the queue; who comes later waits for room.
const WAITING_MAX: usize = 4_096;
/// Most writes of one commit, so that the first of them does not wait long for the last.
const TOGETHER_MAX: usize = 256;

#[derive(Debug, Default)]
struct Counts {
    writes: AtomicU64,
    commits: AtomicU64,
}

struct Job {
    wanted: Wanted,
    answer: oneshot::Sender<Result<Commit, StoreError>>,
    _waiting: Option<Waiting>,
}

/// The writing task. When it is dropped the writes that wait are finished still, as long as the runtime runs.
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
    task: JoinHandle<()>,
    counts: Arc<Counts>,
}

impl Writer {
    /// Starts the task, which has `connections` for itself.
    pub(super) fn start(connections: Connections) -> Self {
        let (jobs, waiting) = mpsc::channel(WAITING_MAX);
        let counts = Arc::new(Counts::default());
        let task = tokio::spawn(serve(connections, waiting, Arc::clone(&counts)));
        Self { jobs, task, counts }
    }

    /// How many writes there were, and how many commits they shared.
    pub(super) fn statistics(&self) -> WriteStatistics {
        WriteStatistics {
            writes: self.counts.writes.load(Ordering::Relaxed),
            commits: self.counts.commits.load(Ordering::Relaxed),
        }
    }

    /// Writes a registration; returns when that is durable.
    pub(super) async fn write(&self, wanted: Wanted, waiting: Option<Waiting>) -> Result<Commit, StoreError> {
        let ended = || StoreError::Unavailable("the writing task has ended".to_owned());
        let (answer, answered) = oneshot::channel();
        self.jobs.send(Job { wanted, answer, _waiting: waiting }).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }

    /// Lets the writes that wait finish.
    pub(super) async fn close(self) {
        drop(self.jobs);
        if self.task.await.is_err() {
            tracing::error!("the writing task of the store had ended in a panic");
        }
    }
}

async fn serve(connections: Connections, mut jobs: mpsc::Receiver<Job>, counts: Arc<Counts>) {
    let mut waiting = VecDeque::new();
    loop {
        if waiting.is_empty() {
            let Some(first) = jobs.recv().await else { return };
            waiting.push_back(first);
        }
        while waiting.len() < TOGETHER_MAX
            && let Ok(next) = jobs.try_recv()
        {
            waiting.push_back(next);
        }
        settle(&connections, next_batch(&mut waiting), &counts).await;
    }
}

/// Takes those out of what waits that have nothing in common; the others are for a batch after this one.
fn next_batch(waiting: &mut VecDeque<Job>) -> Vec<Job> {
    let (mut taken, mut batch, mut later) = (HashSet::new(), Vec::new(), VecDeque::new());
    for job in waiting.drain(..) {
        let targets = job.wanted.targets();
        if targets.iter().any(|target| taken.contains(target)) {
            later.push_back(job);
        } else {
            taken.extend(targets);
            batch.push(job);
        }
    }
    *waiting = later;
    batch
}

async fn settle(connections: &Connections, batch: Vec<Job>, counts: &Counts) {
    match commit_all(connections, &batch, counts).await {
        Ok(outcomes) => answer_all(batch, outcomes.into_iter().map(Ok)),
        Err(Fault::OfOne(_)) if batch.len() > 1 => {
            for job in batch {
                let outcome = commit_all(connections, std::slice::from_ref(&job), counts).await;
                let outcome = outcome.map(|outcomes| outcomes.first().copied().unwrap_or(Commit::Outdated));
                answer_all(vec![job], std::iter::once(outcome.map_err(Into::into)));
            }
        }
        Err(fault) => {
            let error = StoreError::from(fault);
            answer_all(batch, std::iter::repeat_with(|| Err(error.clone())));
        }
    }
}

fn answer_all(batch: Vec<Job>, outcomes: impl Iterator<Item = Result<Commit, StoreError>>) {
    for (job, outcome) in batch.into_iter().zip(outcomes) {
        // Whoever asked may have left; the write stands all the same.
        let _ = job.answer.send(outcome);
    }
}

async fn commit_all(connections: &Connections, jobs: &[Job], counts: &Counts) -> Result<Vec<Commit>, Fault> {
    let batch = Batch { wanted: jobs.iter().map(|job| &job.wanted).collect() };
    let outcomes = commit(connections, &batch).await?;
    counts.commits.fetch_add(1, Ordering::Relaxed);
    counts.writes.fetch_add(jobs.len() as u64, Ordering::Relaxed);
    Ok(outcomes)
}
