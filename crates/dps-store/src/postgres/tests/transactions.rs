//! Transactions that meet others.

use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use tokio::sync::Barrier;

use crate::postgres::fault::Fault;
use crate::postgres::pool::Connections;
use crate::postgres::server;
use crate::postgres::transaction::{Work, commit, execute};

async fn connections() -> Connections {
    let options = server::shared().options();
    server::open(&options).await.close().await;
    Connections::new(&options, 4).unwrap()
}

/// Counts two rows up, one after the other; the first time, when the other one has counted its first.
struct Crossing<'w> {
    rows: [&'static str; 2],
    met: &'w Barrier,
    runs: AtomicU32,
    isolation: &'static str,
}

#[async_trait]
impl Work for Crossing<'_> {
    type Outcome = ();

    async fn run(&self, transaction: &Transaction<'_>) -> Result<(), Fault> {
        transaction.batch_execute(&format!("SET TRANSACTION ISOLATION LEVEL {}", self.isolation)).await?;
        let is_first_run = self.runs.fetch_add(1, Ordering::SeqCst) == 0;
        // What is read is part of what is decided on, where that is watched.
        transaction.query("SELECT * FROM turn", &[]).await?;
        for row in self.rows {
            execute(transaction, "UPDATE turn SET taken = taken + 1 WHERE name = $1", &[&row]).await?;
            if is_first_run && row == self.rows[0] {
                self.met.wait().await;
            }
        }
        Ok(())
    }
}

async fn taken(connections: &Connections) -> Vec<i64> {
    let session = connections.get().await.unwrap();
    let rows = session.client().unwrap().query("SELECT taken FROM turn ORDER BY name", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// DPS-STORE-19
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_transactions_that_wait_for_each_other_one_is_run_again() {
    let connections = connections().await;
    let met = Barrier::new(2);
    let crossing = |rows| Crossing { rows, met: &met, runs: AtomicU32::new(0), isolation: "READ COMMITTED" };
    let (one, other) = (crossing(["check", "instances"]), crossing(["instances", "check"]));
    let (done, also_done) = tokio::join!(commit(&connections, &one), commit(&connections, &other));
    done.unwrap();
    also_done.unwrap();
    assert_eq!(one.runs.into_inner() + other.runs.into_inner(), 3);
    assert_eq!(taken(&connections).await, [2, 2]);
}

/// DPS-STORE-19: as databases answer that are spread over machines and speak PostgreSQL's protocol.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_cannot_be_serialized_is_run_again() {
    let connections = connections().await;
    let met = Barrier::new(2);
    let crossing =
        |row| Crossing { rows: [row, row], met: &met, runs: AtomicU32::new(0), isolation: "SERIALIZABLE" };
    let (one, other) = (crossing("check"), crossing("instances"));
    let (done, also_done) = tokio::join!(commit(&connections, &one), commit(&connections, &other));
    done.unwrap();
    also_done.unwrap();
    assert!(one.runs.into_inner() + other.runs.into_inner() >= 3);
    assert_eq!(taken(&connections).await, [2, 2]);
}

/// DPS-STORE-19
#[tokio::test]
async fn a_transaction_that_always_meets_another_is_given_up() {
    struct Unlucky(AtomicU32);

    #[async_trait]
    impl Work for Unlucky {
        type Outcome = ();
        async fn run(&self, _: &Transaction<'_>) -> Result<(), Fault> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Err(Fault::raced("a row"))
        }
    }

    let (connections, unlucky) = (connections().await, Unlucky(AtomicU32::new(0)));
    let given_up = commit(&connections, &unlucky).await.unwrap_err();
    assert!(matches!(given_up, Fault::Store(dps_core::ports::StoreError::Unavailable(_))), "{given_up:?}");
    assert_eq!(unlucky.0.into_inner(), 7);
}
