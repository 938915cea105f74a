//! Nothing waits for ever.

use std::time::{Duration, Instant};

use dps_core::ports::{Condition, Store, StoreError, WriteError};

use super::{shell, unavailable};
use crate::contract::fixtures::*;
use crate::postgres::{PostgresOptions, server};

fn impatient() -> PostgresOptions {
    PostgresOptions {
        statement_timeout: Duration::from_millis(300),
        connect_timeout: Duration::from_millis(300),
        connections: 1.try_into().unwrap(),
        ..server::shared().options()
    }
}

/// DPS-STORE-18
#[tokio::test]
async fn a_row_that_somebody_holds_is_waited_for_no_longer_than_a_statement_may_take() {
    let options = impatient();
    let store = server::open(&options).await;
    put(&store, enrollment("d", 1)).await;
    committed(store.commit(first(record("d", 1))).await);
    let shell = shell(&options).await;
    shell
        .batch_execute(
            "BEGIN; SELECT * FROM registration FOR UPDATE; SELECT * FROM individual_enrollment FOR UPDATE",
        )
        .await
        .unwrap();
    let began = Instant::now();
    let why = unavailable(store.commit(over(1, record("d", 2))).await);
    assert!(why.contains("57014"), "{why}");
    let put = store.put_individual_enrollment(&scope(), enrollment("d", 2), Condition::Always.into()).await;
    assert!(matches!(put, Err(WriteError::Store(StoreError::Unavailable(_)))), "{put:?}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    // Readers do not wait for it.
    assert!(store.look_up(&scope(), &device("d")).await.unwrap().registration.is_some());
    shell.batch_execute("ROLLBACK").await.unwrap();
    committed(store.commit(over(1, record("d", 2))).await);
}

/// DPS-STORE-18
#[tokio::test]
async fn a_connection_is_waited_for_no_longer_than_one_may_take_to_come() {
    let options = impatient();
    let store = server::open(&options).await;
    let held = store.connections.get().await.unwrap();
    let why = unavailable(store.look_up(&scope(), &device("d")).await);
    assert!(why.contains("in time"), "{why}");
    // Registrations have a connection of their own.
    committed(store.commit(first(record("d", 1))).await);
    drop(held);
    assert!(store.look_up(&scope(), &device("d")).await.unwrap().registration.is_some());
}

/// DPS-STORE-18
#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let target = format!("host=127.0.0.1 port={port} user=postgres").parse().unwrap();
    let began = Instant::now();
    let refused =
        crate::PostgresStore::open(&PostgresOptions { target, ..impatient() }, server::sealer()).await;
    assert!(refused.is_err() && began.elapsed() < Duration::from_secs(3));
}

/// DPS-STORE-18: the server may be at the statement still, or be gone.
#[tokio::test]
async fn a_connection_that_missed_its_deadline_is_not_used_again() {
    let store = server::open(&impatient()).await;
    let backend = async || -> i32 {
        let session = store.connections.get().await.unwrap();
        session.client().unwrap().query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0)
    };
    let before = backend().await;
    assert_eq!(backend().await, before);
    let session = store.connections.get().await.unwrap();
    let never = session.within(std::future::pending::<Result<(), crate::postgres::fault::Fault>>());
    assert!(unavailable(never.await).contains("in time"));
    drop(session);
    assert_ne!(backend().await, before);
}

/// DPS-STORE-18: writes that wait for each other's rows leave connections to those who read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_wait_keep_no_reader_waiting() {
    let options = PostgresOptions { connections: 2.try_into().unwrap(), ..server::shared().options() };
    let store = std::sync::Arc::new(server::open(&options).await);
    put_group(&*store, group("line", 1)).await;
    let shell = shell(&options).await;
    shell.batch_execute("BEGIN; SELECT * FROM enrollment_group FOR UPDATE").await.unwrap();
    let mut writes = tokio::task::JoinSet::new();
    for number in 2..20 {
        let store = std::sync::Arc::clone(&store);
        writes.spawn(async move { put_group(&*store, group("line", number)).await });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    assert_eq!(store.candidate_groups(&scope(), &device("d")).await.unwrap().open.len(), 1);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    shell.batch_execute("ROLLBACK").await.unwrap();
    writes.join_all().await;
}
