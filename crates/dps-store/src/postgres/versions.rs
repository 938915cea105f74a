//! Which version the tables of a database have, and the newest one given to them without opening it for service. Spec: DPS-STORE-16.

use super::options::{PostgresOpenError, PostgresOptions};
use super::pool::Connections;
use super::{PostgresStore, schema};
use crate::Versions;

impl PostgresStore {
    /// Looks at the tables, which nodes may be using, and changes nothing. Tables that this program cannot work with are refused.
    pub async fn versions(options: &PostgresOptions) -> Result<Versions, PostgresOpenError> {
        let session = Connections::new(options, 1)?.get_first().await?;
        let client = session.client().map_err(PostgresOpenError::unreachable)?;
        let found = schema::found(client, &options.schema).await?;
        Ok(Versions { found, newest: schema::newest() })
    }

    /// Brings the tables to the newest version, or makes them; what they were before. Nodes of this version and of older ones may be at
    /// work meanwhile.
    pub async fn migrate(options: &PostgresOptions) -> Result<Versions, PostgresOpenError> {
        let mut session = Connections::new(options, 1)?.get_first().await?;
        let client = session.client_mut().map_err(PostgresOpenError::unreachable)?;
        let found = schema::found(client, &options.schema).await?;
        schema::migrate(client, &options.schema, options.migration_timeout).await?;
        Ok(Versions { found, newest: schema::newest() })
    }
}
