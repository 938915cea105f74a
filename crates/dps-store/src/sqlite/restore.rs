//! A backup that becomes the store. Spec: DPS-STORE-31.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};

use super::contents::{Contents, Sealed, Unsound, check_key, examine};
use super::copy::{CopyError, copy};
use super::unfinished::{Unfinished, beside};
use super::{SqliteStore, open};
use crate::data_dir::{DataDir, DataDirError};
use crate::sealing::Sealer;

/// What becomes of a store that is in the place of the restored one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occupied {
    /// It stays, and nothing is restored.
    Refuse,
    /// It gets another name in the same directory.
    MoveAside,
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// What the store holds now.
    pub contents: Contents,
    /// Where the store is that was there before.
    pub aside: Option<PathBuf>,
}

/// Why nothing was restored: what was there is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is nothing to restore.
    #[error("there is no backup at {}", .0.display())]
    NoBackup(PathBuf),
    /// There is a store.
    #[error("there is a store at {}", .0.display())]
    Occupied(PathBuf),
    /// Its place cannot be used.
    #[error(transparent)]
    Place(#[from] DataDirError),
    /// It could not be copied into its place.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The backup cannot be relied on.
    #[error("the backup is not sound: {0}")]
    Unsound(#[from] Unsound),
    /// Nobody could use it.
    #[error("the backup's secrets cannot be opened: {0}")]
    Sealed(#[from] Sealed),
    /// What is there could not be moved aside.
    #[error("{} cannot be moved aside: {why}", path.display())]
    Aside {
        /// The store.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
}

impl SqliteStore {
    /// Makes the backup at `from` the file `name` of a data directory, whose lock the caller holds: no server uses it. Before
    /// anything there is touched, the copy is durable beside it, was read whole and found sound, is of a version that this program
    /// knows, and has secrets that `sealer` opens.
    pub fn restore(
        from: &Path,
        (data_dir, name): (&DataDir, &str),
        sealer: &Sealer,
        occupied: Occupied,
    ) -> Result<Restored, RestoreError> {
        let store = data_dir.file(name)?;
        if !from.is_file() {
            return Err(RestoreError::NoBackup(from.to_owned()));
        }
        let is_there = store.symlink_metadata().is_ok();
        if is_there && occupied == Occupied::Refuse {
            return Err(RestoreError::Occupied(store));
        }
        let target = |why| CopyError::Target { path: store.clone(), why };
        let unfinished = Unfinished::of(&store).map_err(target)?;
        copy(from, unfinished.path())?;
        let (connection, contents) = examine(unfinished.path())?;
        check_key(&connection, sealer)?;
        drop(connection);
        let aside = move_aside(&store).map_err(|why| RestoreError::Aside { path: store.clone(), why })?;
        unfinished.keep_instead(&store).map_err(target)?;
        Ok(Restored { contents, aside: aside.filter(|_| is_there) })
    }
}

/// Gives the store a second name, so that at no moment there is none under its own: a server that started then would begin anew.
/// Takes away what SQLite keeps beside it, which must not be taken for that of the store to come.
fn move_aside(store: &Path) -> io::Result<Option<PathBuf>> {
    empty_log(store);
    let aside = free_name(store);
    // What is left of its log, if it could not be emptied.
    let mut was_there = rename_if_there(&beside(store, "-wal"), &beside(&aside, "-wal"))?;
    match fs::remove_file(beside(store, "-shm")) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
        _ => {}
    }
    was_there |= match fs::hard_link(store, &aside) {
        Ok(()) => true,
        Err(why) if why.kind() == io::ErrorKind::NotFound => false,
        // The file system knows no second names.
        Err(_) => rename_if_there(store, &aside)?,
    };
    Ok(was_there.then_some(aside))
}

/// Moves what a crash left in the log into the database, so that it is one file. A database that is damaged, as it may well be,
/// keeps its log.
fn empty_log(store: &Path) {
    if !store.exists() {
        return;
    }
    let emptied =
        open::connect(store, OpenFlags::SQLITE_OPEN_READ_WRITE).and_then(|connection: Connection| {
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            connection.close().map_err(|(_, why)| why)
        });
    if let Err(why) = emptied {
        tracing::warn!(reason = %why, "the log of the store that is moved aside could not be emptied, and goes with it");
    }
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<bool> {
    match fs::rename(from, to) {
        Ok(()) => Ok(true),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(why) => Err(why),
    }
}

fn free_name(store: &Path) -> PathBuf {
    let now = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let is_free =
        |path: &PathBuf| ["", "-wal"].iter().all(|suffix| beside(path, suffix).symlink_metadata().is_err());
    (1_u32..)
        .map(|number| match number {
            1 => beside(store, &format!(".replaced-{now}")),
            _ => beside(store, &format!(".replaced-{now}-{number}")),
        })
        .find(is_free)
        .unwrap_or_else(|| beside(store, ".replaced"))
}
