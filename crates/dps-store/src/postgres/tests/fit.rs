//! Which servers will do.

use dps_core::ports::Store;

use crate::contract::fixtures::*;
use crate::postgres::server::{self, Server};
use crate::postgres::{PostgresOpenError, PostgresOptions, PostgresStore, Unfit};

async fn refused(options: &PostgresOptions) -> PostgresOpenError {
    PostgresStore::open(options, server::sealer()).await.err().unwrap()
}

/// DPS-STORE-15
#[tokio::test]
async fn a_server_that_does_not_write_to_the_disk_is_refused_unless_told_otherwise() {
    let server = Server::start(&["fsync=off"]);
    let options = server.options();
    let error = refused(&options).await;
    assert!(matches!(error, PostgresOpenError::Unfit(Unfit::Forgetful { setting: "fsync" })), "{error}");
    let store = server::open(&PostgresOptions { allow_loss: true, ..options }).await;
    committed(store.commit(first(record("d", 1))).await);
}

/// DPS-STORE-15
#[tokio::test]
async fn a_server_that_confirms_before_it_has_written_is_refused_unless_told_otherwise() {
    let server = server::shared();
    for (level, is_fit) in [("off", false), ("local", true), ("remote_write", true), ("on", true)] {
        let target = format!("{} options='-c synchronous_commit={level}'", server.target());
        let options = PostgresOptions { target: target.parse().unwrap(), ..server.options() };
        match is_fit {
            true => server::open(&options).await.is_writable().await.unwrap(),
            false => {
                let error = refused(&options).await;
                let expected = Unfit::Forgetful { setting: "synchronous_commit" };
                assert!(matches!(&error, PostgresOpenError::Unfit(unfit) if *unfit == expected), "{error}");
                server::open(&PostgresOptions { allow_loss: true, ..options })
                    .await
                    .is_writable()
                    .await
                    .unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_unreachable() {
    let target = "host=/nonexistent user=postgres".parse().unwrap();
    let error = refused(&PostgresOptions { target, ..server::shared().options() }).await;
    assert!(matches!(error, PostgresOpenError::Unreachable(_)), "{error}");
}
