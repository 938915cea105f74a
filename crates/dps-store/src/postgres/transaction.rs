//! Transactions: those that write, run again where they met another one, and those that read at one point in time.
//!
//! Writing transactions are READ COMMITTED, and lock what they decide on: a statement that waited for a row sees it as it was
//! committed last, and no one changes it before this transaction has ended. See [`super::batch`] for the order of the locks.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use deadpool_postgres::{GenericClient, Transaction};
use dps_core::ports::{StoreError, WriteObserver};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{IsolationLevel, Row};

use super::fault::Fault;
use super::pool::Connections;

/// How long it is waited, in milliseconds, before a transaction that met another one is run again; after that it is given up.
const PAUSES_MS: [u64; 6] = [2, 5, 10, 25, 50, 100];

/// A write of several statements.
#[async_trait]
pub(super) trait Work: Sync {
    /// What came of it.
    type Outcome: Send;

    /// Carries it out, all or nothing. May be called several times: a transaction that met another one is undone, and run again.
    async fn run(&self, transaction: &Transaction<'_>) -> Result<Self::Outcome, Fault>;
}

/// How long a write waits for its turn.
const PATIENCE: Duration = Duration::from_secs(30);

/// Carries out writes, in the order in which they were asked for: half of the connections at most, however many writes wait for
/// each other's rows, so that devices are looked up meanwhile.
pub(super) struct Writes {
    connections: Connections,
    turns: Semaphore,
    observer: OnceLock<Arc<dyn WriteObserver>>,
}

impl Writes {
    pub(super) fn new(connections: Connections) -> Self {
        let turns = Semaphore::new(connections.count().div_ceil(2));
        Self { connections, turns, observer: OnceLock::new() }
    }

    /// Spec: DPS-METRICS-5. A second observer is not taken.
    pub(super) fn observe(&self, observer: Arc<dyn WriteObserver>) {
        let _ = self.observer.set(observer);
    }

    /// A write that is asked for now, observed until what is returned is dropped.
    pub(super) fn asked(&self) -> Option<Waiting> {
        self.observer.get().map(Waiting::begin)
    }

    /// Carries `work` out in a transaction of its own; returns when that is durable.
    pub(super) async fn write<W: Work>(&self, work: &W) -> Result<W::Outcome, StoreError> {
        let _waiting = self.asked();
        let late =
            |_| StoreError::Unavailable("too many writes to PostgreSQL waited before this one".to_owned());
        let closed = |_| StoreError::Unavailable("the store is closed".to_owned());
        let _turn = timeout(PATIENCE, self.turns.acquire()).await.map_err(late)?.map_err(closed)?;
        Ok(commit(&self.connections, work).await?)
    }
}

/// Runs `work` until it has met no other transaction, and commits it. Spec: DPS-STORE-19.
pub(super) async fn commit<W: Work>(connections: &Connections, work: &W) -> Result<W::Outcome, Fault> {
    let mut pauses = PAUSES_MS.iter();
    loop {
        let why = match attempt(connections, work, Kind::Writing).await {
            Ok(outcome) => return Ok(outcome),
            Err(Fault::Again(why)) => why,
            Err(over) => return Err(over),
        };
        match pauses.next() {
            Some(pause) => tokio::time::sleep(Duration::from_millis(*pause)).await,
            None => return Err(StoreError::Unavailable(why).into()),
        }
    }
}

/// Runs `work`, which only reads, so that all it sees is of one point in time.
pub(super) async fn at_one_point_in_time<W: Work>(
    connections: &Connections,
    work: &W,
) -> Result<W::Outcome, StoreError> {
    Ok(attempt(connections, work, Kind::Reading).await?)
}

#[derive(PartialEq)]
enum Kind {
    Writing,
    Reading,
}

async fn attempt<W: Work>(connections: &Connections, work: &W, kind: Kind) -> Result<W::Outcome, Fault> {
    let mut session = connections.get().await?;
    let deadline = session.deadline();
    let running = async {
        let client = session.client_mut()?;
        // Dropped before its end, it is undone.
        let transaction = match kind {
            Kind::Writing => client.transaction().await?,
            Kind::Reading => {
                let snapshot = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead);
                snapshot.read_only(true).start().await?
            }
        };
        let outcome = work.run(&transaction).await?;
        if kind == Kind::Writing {
            transaction.commit().await?;
        }
        Ok(outcome)
    };
    match timeout(deadline, running).await {
        Ok(done) => done,
        Err(_) => Err(session.is_late()),
    }
}

/// Sends a statement that is prepared once for each connection.
pub(super) async fn query(
    on: &impl GenericClient,
    sql: &str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, Fault> {
    let statement = on.prepare_cached(sql).await?;
    Ok(on.query(&statement, params).await?)
}

/// As [`query`], for one row at most.
pub(super) async fn query_opt(
    on: &impl GenericClient,
    sql: &str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<Option<Row>, Fault> {
    Ok(query(on, sql, params).await?.pop())
}

/// As [`query`]; gives how many rows were written.
pub(super) async fn execute(
    on: &impl GenericClient,
    sql: &str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<u64, Fault> {
    let statement = on.prepare_cached(sql).await?;
    Ok(on.execute(&statement, params).await?)
}

/// A write that is observed from the time it was asked for to its end, however it ends.
pub(super) struct Waiting {
    observer: Arc<dyn WriteObserver>,
    since: Instant,
}

impl Waiting {
    fn begin(observer: &Arc<dyn WriteObserver>) -> Self {
        observer.asked();
        Self { observer: Arc::clone(observer), since: Instant::now() }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.observer.ended(self.since.elapsed());
    }
}
