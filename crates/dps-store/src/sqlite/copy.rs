//! A copy of a database that may be in use. Spec: DPS-STORE-30.
//!
//! By SQLite's online backup, a few pages at a time, and not by `VACUUM INTO`: that is one statement, which can neither pause nor be
//! ended, and builds every index anew. All steps read from one snapshot. Without it a copy begins anew at each commit of another
//! process, and would never end where devices register; with it the log grows meanwhile, which [`super::checkpoint`] makes up for.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::OpenError;
use super::cause::Cause;
use super::open::{self, open_to_read};

/// Pages of one step: 1 MiB.
const PAGES_AT_ONCE: i32 = 256;
/// Between steps, so that the disk has time for the writes of others.
const PAUSE: Duration = Duration::from_millis(2);
/// Steps between two times that what was written is sent to the disk: all of it at the end would keep the writes of others waiting.
const STEPS_AT_ONCE: u32 = 16;
/// The log grows for as long, for nothing that is written after the snapshot can leave it.
const WITHIN: Duration = Duration::from_secs(60 * 60);

/// Why a database was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// What was to be copied is no store that can be read.
    #[error("{}: {why}", path.display())]
    Source {
        /// The database.
        path: PathBuf,
        /// Why.
        why: OpenError,
    },
    /// The operating system does not take the copy.
    #[error("{}: {why}", path.display())]
    Target {
        /// The copy.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// SQLite gave up; from its words it is seen at which side.
    #[error("copying {} to {}: {}", from.display(), to.display(), Cause(why))]
    Sqlite {
        /// The database.
        from: PathBuf,
        /// The copy.
        to: PathBuf,
        /// Why.
        why: rusqlite::Error,
    },
    /// It took too long.
    #[error("the copy was not made within {} minutes: look at the disks", WITHIN.as_secs() / 60)]
    TooSlow,
}

/// Copies the database at `from`, as it is at this moment, over the empty file at `to`. The copy is a single file, without a log
/// beside it. Not yet durable.
///
/// # Errors
/// What of `to` was written is left for the caller to remove.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), CopyError> {
    let (source, _) = open_to_read(from).map_err(|why| CopyError::Source { path: from.to_owned(), why })?;
    let refused = |why| CopyError::Sqlite { from: from.to_owned(), to: to.to_owned(), why };
    // Reading anything begins the snapshot, which lasts as long as the transaction.
    let snapshot = source
        .execute_batch("BEGIN")
        .and_then(|()| source.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())));
    snapshot.map_err(refused)?;
    let mut target = open_unfinished(to).map_err(refused)?;
    let written = |why| CopyError::Target { path: to.to_owned(), why };
    let file = File::open(to).map_err(written)?;
    let backup = Backup::new(&source, &mut target).map_err(refused)?;
    let began = Instant::now();
    for step in 1_u32.. {
        if backup.step(PAGES_AT_ONCE).map_err(refused)? == StepResult::Done {
            break;
        }
        if step % STEPS_AT_ONCE == 0 {
            file.sync_data().map_err(written)?;
        }
        if began.elapsed() > WITHIN {
            return Err(CopyError::TooSlow);
        }
        thread::sleep(PAUSE);
    }
    drop(backup);
    drop(target);
    make_single_file(to).map_err(refused)
}

/// Nobody else knows the file, and it is worth nothing before it is whole: no journal, and no waiting for the disk.
fn open_unfinished(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.query_row("PRAGMA journal_mode = OFF", [], |_| Ok(()))?;
    Ok(connection)
}

/// A copy has its source's word for how it is written; one with a log beside it could not be read from a disk that is read-only.
fn make_single_file(path: &Path) -> rusqlite::Result<()> {
    let connection = open::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // The log that it may begin with needs no index in a file then.
    connection.query_row("PRAGMA locking_mode = EXCLUSIVE", [], |_| Ok(()))?;
    connection.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
    connection.close().map_err(|(_, why)| why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::schema;

    /// A store with as many records of no meaning as take some steps to copy.
    fn large(path: &Path) -> Connection {
        let mut connection = Connection::open(path).unwrap();
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0").unwrap();
        schema::migrate(&mut connection).unwrap();
        connection.execute_batch("CREATE TABLE filler (number INTEGER, bytes BLOB) STRICT").unwrap();
        connection
            .execute_batch(
                "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
                 INSERT INTO filler SELECT i, randomblob(4000) FROM n",
            )
            .unwrap();
        connection
    }

    fn sum(connection: &Connection) -> (i64, i64) {
        let select = "SELECT count(*), sum(number) FROM filler";
        connection.query_row(select, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    }

    /// DPS-STORE-30
    #[test]
    fn a_copy_is_of_one_moment_while_another_connection_writes_without_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let [from, to] = ["store.db", "copy.db"].map(|name| directory.path().join(name));
        let writer = large(&from);
        writer.busy_timeout(Duration::ZERO).unwrap();
        // Each commit leaves the same sum.
        let swap = "BEGIN; UPDATE filler SET number = number + 1 WHERE rowid = ?1; \
                    UPDATE filler SET number = number - 1 WHERE rowid = 2001 - ?1; COMMIT";
        File::create(&to).unwrap();
        let copying = thread::spawn({
            let (from, to) = (from.clone(), to.clone());
            move || copy(&from, &to)
        });
        let mut commits = 0;
        while !copying.is_finished() {
            let row = commits % 1_000 + 1;
            // A wait for the copy would be an error.
            writer.execute_batch(&swap.replace("?1", &row.to_string())).unwrap();
            commits += 1;
        }
        copying.join().unwrap().unwrap();
        assert!(commits >= 10, "only {commits} commits while it was copied");
        let copied = Connection::open_with_flags(&to, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        assert_eq!(sum(&copied), (2_000, 2_001_000));
        let checked: String = copied.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        let mode: String = copied.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        assert_eq!((checked.as_str(), mode.as_str()), ("ok", "delete"));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 4, "no log of the copy is left");
    }
}
