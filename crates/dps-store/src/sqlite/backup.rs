//! A backup of a store that may be in use. Spec: DPS-STORE-30.

use std::io;
use std::path::{Path, PathBuf};

use super::SqliteStore;
use super::contents::{Contents, Unsound, examine};
use super::copy::{CopyError, copy};
use super::unfinished::Unfinished;

/// Why there is no backup. Nothing of it is left where it was to be.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is nothing to back up.
    #[error("there is no store at {}", .0.display())]
    NoStore(PathBuf),
    /// Something has the name of the backup.
    #[error("{} is there already, and may be another backup; name another file", .0.display())]
    Exists(PathBuf),
    /// It could not be copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The copy is worth nothing, as the store may be.
    #[error("the copy is not sound, and neither may be the store: {0}")]
    Unsound(#[from] Unsound),
}

impl SqliteStore {
    /// Copies the store at `store`, which a server may be using, to the new file `to`, with mode 0600: what was committed when this
    /// began. The copy has been read whole, found sound, and is durable when this returns. It has no sealing key in it.
    pub fn back_up(store: &Path, to: &Path) -> Result<Contents, BackupError> {
        if !store.exists() {
            return Err(BackupError::NoStore(store.to_owned()));
        }
        let exists = || BackupError::Exists(to.to_owned());
        if to.symlink_metadata().is_ok() {
            return Err(exists());
        }
        let target = |why: io::Error| match why.kind() {
            io::ErrorKind::AlreadyExists => exists(),
            _ => CopyError::Target { path: to.to_owned(), why }.into(),
        };
        let unfinished = Unfinished::of(to).map_err(target)?;
        copy(store, unfinished.path())?;
        let (_, contents) = examine(unfinished.path())?;
        unfinished.keep_as_new(to).map_err(target)?;
        Ok(contents)
    }
}
