//! Where enrollments, records and the devices of local hubs are kept. Spec: DPS-STORE-1 to DPS-STORE-45 (docs/spec/store.md).
//!
//! Three stores behind [`dps_core::ports::Store`], and one contract suite that all pass (DPS-STORE-9): [`SqliteStore`] for
//! service on one machine, [`PostgresStore`] for several nodes, [`MemoryStore`] for tests. Nothing is decided here beyond the conditions that a write names itself.

mod condition;
mod data_dir;
mod failure_columns;
mod hub_loads;
mod memory;
mod postgres;
mod private_file;
mod record_columns;
mod remembered_certificates;
mod sealed_keys;
mod sealing;
mod signer_columns;
mod sqlite;
mod times;
mod transfer;
mod versions;
mod words;

#[cfg(test)]
mod contract;

pub use data_dir::{DataDir, DataDirError};
pub use memory::MemoryStore;
pub use postgres::{
    BadSchemaName, BadTarget, FillError, PostgresOpenError, PostgresOptions, PostgresStore, PostgresTarget,
    SchemaName, Unfit,
};
pub use private_file::warn_if_open_to_others;
pub use sealing::{BadSealingKey, KeyId, Sealer, SealingKey};
pub use sqlite::{
    BackupError, Contents, CopyError, Occupied, OpenError, RestoreError, Restored, Sealed, SourceError,
    SqliteOptions, SqliteSource, SqliteStore, Synchronous, Unsound, WriteStatistics,
};
pub use transfer::TableCount;
pub use versions::Versions;
