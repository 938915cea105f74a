//! A server that dies and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dps_core::ports::{Commit, Store, StoreError};
use tokio::task::JoinSet;

use super::unavailable;
use crate::contract::fixtures::*;
use crate::postgres::PostgresOptions;
use crate::postgres::server::{self, Server};

/// DPS-STORE-2, DPS-STORE-18
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_answered_is_lost_when_the_server_is_killed_and_the_store_goes_on_by_itself() {
    let server = Server::start(&[]);
    let options = PostgresOptions { connect_timeout: Duration::from_secs(1), ..server.options() };
    let store = Arc::new(server::open(&options).await);
    let ends = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for client in 0..32 {
        let (store, ends) = (Arc::clone(&store), Arc::clone(&ends));
        clients.spawn(async move {
            let (mut answered, mut failed) = (Vec::new(), 0);
            for number in 0.. {
                if ends.load(Ordering::SeqCst) {
                    break;
                }
                let id = format!("d-{client}-{number}");
                match store.commit(first(record(&id, 1))).await {
                    Ok(commit) => {
                        assert_eq!(commit, Commit::Done);
                        answered.push(id);
                    }
                    Err(StoreError::Unavailable(_)) => failed += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            (answered, failed)
        });
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    tokio::task::block_in_place(|| server.kill());
    let began = Instant::now();
    unavailable(store.look_up(&scope(), &device("d")).await);
    unavailable(store.is_writable().await);
    unavailable(store.commit(first(record("while-it-is-down", 1))).await);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    tokio::task::block_in_place(|| server.start_again());
    store.is_writable().await.unwrap();
    committed(store.commit(first(record("after", 1))).await);
    ends.store(true, Ordering::SeqCst);
    let (mut answered, mut failed) = (0, 0);
    for (ids, failures) in clients.join_all().await {
        failed += failures;
        for id in ids {
            answered += 1;
            let found = store.look_up(&scope(), &device(&id)).await.unwrap();
            assert!(found.registration.is_some(), "{id} was answered, and is lost");
        }
    }
    assert!(answered > 100 && failed > 0, "{answered} answered, {failed} failed");
}

/// DPS-STORE-18: the connections of a store that nobody used for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_broke_while_they_were_not_used_are_made_again() {
    let server = Server::start(&[]);
    let store = server::open(&server.options()).await;
    committed(store.commit(first(record("d", 1))).await);
    tokio::task::block_in_place(|| {
        server.kill();
        server.start_again();
    });
    assert!(store.look_up(&scope(), &device("d")).await.unwrap().registration.is_some());
    committed(store.commit(over(1, record("d", 2))).await);
}

/// The test suite leaves nothing behind.
#[test]
fn a_server_ends_with_its_owner_and_its_directory_is_gone() {
    let server = Server::start(&[]);
    let directory = server.directory.clone();
    assert!(directory.join("data").exists());
    drop(server);
    let began = Instant::now();
    while directory.exists() {
        assert!(began.elapsed() < Duration::from_secs(10), "{} is still there", directory.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}
