//! Registrations that are written together.

use std::sync::Arc;

use dps_core::ports::Store;
use dps_core::registration::{JsonText, Registration};
use tokio::task::JoinSet;

use super::unavailable;
use crate::contract::fixtures::*;
use crate::postgres::server;

/// DPS-STORE-3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_that_arrive_together_share_commits() {
    let store = Arc::new(server::open(&server::shared().options()).await);
    let mut clients = JoinSet::new();
    for client in 0..64 {
        let store = Arc::clone(&store);
        clients.spawn(async move {
            for number in 0..20 {
                committed(store.commit(first(record(&format!("d-{client}-{number}"), 1))).await);
            }
        });
    }
    clients.join_all().await;
    let told = store.write_statistics();
    assert_eq!(told.writes, 64 * 20);
    assert!(told.commits * 4 < told.writes, "{told:?}");
}

/// DPS-STORE-3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_that_cannot_be_stored_does_not_take_its_neighbours_along() {
    let store = Arc::new(server::open(&server::shared().options()).await);
    let mut clients = JoinSet::new();
    for client in 0..64 {
        let store = Arc::clone(&store);
        clients.spawn(async move {
            let mut record = record(&format!("d-{client}"), 1);
            if client == 30 {
                // No text of PostgreSQL holds a NUL.
                record.payload = Some(JsonText("\0".into()));
                let why = unavailable(store.commit(first(record)).await);
                assert!(why.contains("22021"), "{why}");
            } else {
                committed(store.commit(first(record)).await);
            }
        });
    }
    clients.join_all().await;
}

/// DPS-STORE-3
#[tokio::test]
async fn registrations_of_one_device_that_wait_together_are_judged_one_after_the_other() {
    let store = server::open(&server::shared().options()).await;
    let writes =
        [first(record("d", 1)), over(1, record("D", 2)), over(2, record("d", 3)), first(record("d", 4))];
    let [one, two, three, four] = writes.map(|write| store.commit(write));
    let (one, two, three, four) = tokio::join!(one, two, three, four);
    for done in [one, two, three] {
        committed(done);
    }
    outdated(four);
    let found = store.look_up(&scope(), &device("d")).await.unwrap().registration.unwrap();
    assert_eq!(found, Registration { created_at: time(1), ..record("d", 3) });
}

/// DPS-STORE-2
#[tokio::test]
async fn closing_lets_the_registrations_that_wait_be_written() {
    let options = server::shared().options();
    let store = Arc::new(server::open(&options).await);
    let mut clients = JoinSet::new();
    for client in 0..50 {
        let store = Arc::clone(&store);
        clients.spawn(async move { store.commit(first(record(&format!("d-{client}"), 1))).await.is_ok() });
    }
    // Each has asked, and holds the store no longer than until it is answered.
    tokio::task::yield_now().await;
    assert!(clients.join_all().await.into_iter().all(|is_done| is_done));
    Arc::into_inner(store).unwrap().close().await;
    let store = server::open(&options).await;
    let found = store.registrations_of_group(&scope(), &group_id("line"), None, 100).await.unwrap();
    assert_eq!(found.len(), 50);
}
