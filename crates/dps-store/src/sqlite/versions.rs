//! Which version a store has, and the newest one given to it without opening it for service. Spec: DPS-STORE-7.

use std::path::Path;

use super::open::{open_newest, open_to_read};
use super::{OpenError, SqliteOptions, SqliteStore, schema};
use crate::Versions;

impl SqliteStore {
    /// Looks at the store at `path`, which a server may be using, and changes nothing.
    pub fn versions(path: &Path) -> Result<Versions, OpenError> {
        let found = if path.exists() { open_to_read(path)?.1 } else { 0 };
        Ok(Versions { found, newest: schema::newest() })
    }

    /// Brings the store at `path` to the newest version, or makes one; what it was before. The caller holds the lock of the [data
    /// directory](crate::DataDir). Each step is durable as a whole or was not done.
    pub fn migrate(path: &Path) -> Result<Versions, OpenError> {
        let (connection, found) = open_newest(path, &SqliteOptions::default())?;
        connection.close().map_err(|(_, why)| OpenError::from(why))?;
        Ok(Versions { found, newest: schema::newest() })
    }
}
