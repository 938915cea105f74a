//! Where enrollments, records and the devices of local hubs are kept. Spec: DPS-STORE-1 to DPS-STORE-13, DPS-STORE-30 to DPS-STORE-35 (docs/spec/store.md).
//!
//! Two stores behind [`dps_core::ports::Store`], and one contract suite that both pass (DPS-STORE-9): [`SqliteStore`] for
//! service, [`MemoryStore`] for tests. Nothing is decided here beyond the conditions that a write names itself.

mod condition;
mod data_dir;
mod hub_loads;
mod memory;
mod private_file;
mod sealing;
mod sqlite;

#[cfg(test)]
mod contract;

pub use data_dir::{DataDir, DataDirError};
pub use memory::MemoryStore;
pub use private_file::warn_if_open_to_others;
pub use sealing::{BadSealingKey, KeyId, Sealer, SealingKey};
pub use sqlite::{
    BackupError, Contents, CopyError, Occupied, OpenError, RestoreError, Restored, Sealed, SqliteOptions,
    SqliteStore, Synchronous, Unsound, Versions, WriteStatistics,
};
