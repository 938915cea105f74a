//! What every store must do, run on each of them. Spec: DPS-STORE-9.
//!
//! A test is a function of a store; [`on_every_store`] lists those of a file and makes one test of each store. One that is not
//! listed is dead code, which the lints refuse.

mod audit;
mod ca_certificates;
mod chain_entries;
mod clean_ups;
mod enrollment_groups;
pub(crate) mod fixtures;
mod group_limits;
mod hub_devices;
mod hub_loads;
mod individual_enrollments;
pub(crate) mod instance_settings;
mod instances;
mod lists;
mod load;
mod model;
mod placing;
pub(crate) mod registrations;
mod waiting;

use std::sync::Arc;

use dps_core::ports::Store;

use crate::postgres::alternating::Nodes;
use crate::postgres::server;
use crate::{MemoryStore, Sealer, SealingKey, SqliteOptions, SqliteStore};

/// A store and what must outlive it.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn Store>,
    _directory: Option<tempfile::TempDir>,
}

pub(crate) fn memory() -> Opened {
    Opened { store: Arc::new(MemoryStore::new()), _directory: None }
}

pub(crate) fn sqlite(options: SqliteOptions) -> Opened {
    let directory = tempfile::tempdir().unwrap();
    let sealer = Sealer::new(&SealingKey::from_bytes([0x5E; 32]));
    let store = SqliteStore::open(&directory.path().join("store.db"), options, sealer).unwrap();
    Opened { store: Arc::new(store), _directory: Some(directory) }
}

/// A store in a schema of its own.
pub(crate) async fn postgres() -> Opened {
    let store = server::open_empty(&server::shared().options()).await;
    Opened { store: Arc::new(store), _directory: None }
}

/// Three nodes on one database, each call to another one. Spec: DPS-STORE-14.
pub(crate) async fn postgres_nodes() -> Opened {
    let options = server::shared().options();
    let (one, two, three) = tokio::join!(
        server::open_empty(&options),
        server::open_empty(&options),
        server::open_empty(&options)
    );
    Opened { store: Arc::new(Nodes::new(vec![one, two, three])), _directory: None }
}

/// The store once it has the instances that most tests write to. Spec: DPS-STORE-24.
async fn with_instances(store: &Arc<dyn Store>) -> Arc<dyn Store> {
    fixtures::open_instances(&**store).await;
    Arc::clone(store)
}

/// The store as it is when it is new.
async fn empty(store: &Arc<dyn Store>) -> Arc<dyn Store> {
    Arc::clone(store)
}

macro_rules! on_every_store {
    ($($test:ident),* $(,)?) => { crate::contract::on_every_store!(with_instances: $($test),*); };
    ($filled:ident: $($test:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let opened = crate::contract::memory();
                super::$test(crate::contract::$filled(&opened.store).await).await;
            })*
        }
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let opened = crate::contract::sqlite(Default::default());
                super::$test(crate::contract::$filled(&opened.store).await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let opened = crate::contract::postgres().await;
                super::$test(crate::contract::$filled(&opened.store).await).await;
            })*
        }
        mod postgres_nodes {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let opened = crate::contract::postgres_nodes().await;
                super::$test(crate::contract::$filled(&opened.store).await).await;
            })*
        }
    };
}
use on_every_store;
