//! The store that a configuration names, opened. Spec: DPS-SERVE-5, DPS-SERVE-19, DPS-SERVE-21.

use std::sync::Arc;

use anyhow::Context as _;
use dps_core::ports::Store;
use dps_store::{
    DataDir, DataDirError, PostgresOpenError, PostgresStore, Sealer, SqliteOptions, SqliteStore,
};

use super::place::Place;
use crate::configuration::{self, Postgres};
use crate::exit::Failure;
use crate::store_place::STORE_FILE;

/// A store, and what is to live as long.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn Store>,
    /// Of SQLite; locked while it is here.
    pub(crate) data_dir: Option<DataDir>,
}

/// Opens it; its tables are of the newest version then.
pub(crate) async fn open(store: &configuration::Store, place: &Place) -> Result<Opened, Failure> {
    let sealer = Sealer::new(&store.sealing_key.value);
    match &store.place {
        configuration::Place::DataDir(path) => {
            let data_dir = DataDir::open(&path.value).map_err(|why| match &why {
                // It mends without the configuration, and a supervisor tries again.
                DataDirError::Io { source, .. } if super::is_about_the_disk(source) => why.into(),
                _ => place.fault(path.at, "store.data_dir", why, "the service's user must own it"),
            })?;
            let file = data_dir.file(STORE_FILE)?;
            let opened = SqliteStore::open(&file, SqliteOptions::default(), sealer);
            let store = Arc::new(opened.with_context(|| file.display().to_string())?);
            Ok(Opened { store, data_dir: Some(data_dir) })
        }
        configuration::Place::Postgres(postgres) => {
            let opened = PostgresStore::open(&postgres.options(), sealer).await;
            let store = Arc::new(opened.map_err(|why| refused(why, postgres, place))?);
            Ok(Opened { store, data_dir: None })
        }
    }
}

/// What the operator has to change is a fault of the configuration; what may pass by itself is not.
pub(crate) fn refused(why: PostgresOpenError, postgres: &Postgres, place: &Place) -> Failure {
    let advice = match &why {
        PostgresOpenError::Unfit(_) => {
            "mend the server's settings, name another server, or write allow_unsafe_durability = true where what devices were told may be lost"
        }
        PostgresOpenError::Tls(_) => {
            "name a PEM file with the CA of the server's certificate by store.ca_file"
        }
        PostgresOpenError::NotAStore(_) => "name a schema of its own by store.schema",
        PostgresOpenError::Unreachable(_)
        | PostgresOpenError::Newer { .. }
        | PostgresOpenError::Busy
        | PostgresOpenError::Migration { .. } => {
            return Failure::from(anyhow::Error::new(why).context("the store"));
        }
    };
    place.fault(postgres.url.at, "store.url", why, advice)
}
