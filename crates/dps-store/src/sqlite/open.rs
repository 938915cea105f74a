//! Opening the database and its connections. Spec: DPS-STORE-2, DPS-STORE-7, DPS-STORE-8, DPS-STORE-34.

use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags};

use super::cause::Cause;
use super::schema;
use crate::private_file;

/// How long a connection waits for someone else's lock, such as that of the `sqlite3` shell.
const BUSY_FOR: Duration = Duration::from_secs(5);
/// Prepared statements that each connection keeps; more than there are.
const STATEMENTS: usize = 64;
/// Memory for pages of the writing connection, in KB; the negative sign is SQLite's.
const WRITER_CACHE: i64 = -16_384;
/// A log that grew larger in a burst is cut back to this, in bytes.
const LOG_BYTES_KEPT: i64 = 64 * 1024 * 1024;

/// How a database is opened.
#[derive(Debug, Clone, Copy)]
pub struct SqliteOptions {
    /// When a commit counts as done.
    pub synchronous: Synchronous,
    /// Threads that read, each with a connection; and as many connections for reads on the caller's own thread.
    pub readers: NonZeroUsize,
}

/// When a commit counts as done. Spec: DPS-STORE-2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synchronous {
    /// When the disk has it: it survives a crash of the machine.
    Full,
    /// When the operating system has it. Only for measuring, for tests that need no durability, and for the test that
    /// proves that a check of durability can fail.
    Off,
}

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// What it was about.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite refused.
    #[error("the database cannot be opened: {}", Cause(.0))]
    Sqlite(rusqlite::Error),
    /// There is a right to read it and none to write it. Spec: DPS-STORE-34.
    #[error(
        "this process may not write the file: look at the rights to it and to its directory, and whether the disk is mounted \
         read-only"
    )]
    ReadOnly,
    /// Its bytes are not what SQLite writes.
    #[error(
        "the file is damaged, or no SQLite database: put a backup in its place, or move it away to begin anew"
    )]
    Damaged,
    /// An enrollment of an older version has a certificate that is none.
    #[error(
        "the certificate of the individual enrollment {registration_id} {why}: delete the enrollment or correct it with the older \
         program, then start this one"
    )]
    Certificate {
        /// Whose.
        registration_id: String,
        /// What is wrong.
        why: String,
    },
    /// A newer version of this program has written it. Spec: DPS-STORE-7.
    #[error(
        "the database has version {found} and this program knows versions up to {known}: use a newer program"
    )]
    Newer {
        /// The database's version.
        found: u32,
        /// The newest version that this program knows.
        known: usize,
    },
    /// It was made by another program.
    #[error("the file is an SQLite database, but not one of Harbormaster's")]
    NotAStore,
    /// The file system lacks what SQLite's write-ahead log needs.
    #[error(
        "the file system does not support a write-ahead log (SQLite chose {0:?} instead); use a local disk"
    )]
    NoLog(String),
    /// No thread could be started.
    #[error("no thread could be started: {0}")]
    Thread(io::Error),
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged,
            _ => Self::Sqlite(error),
        }
    }
}

impl Default for SqliteOptions {
    /// Durable, with two readers.
    fn default() -> Self {
        Self { synchronous: Synchronous::Full, readers: NonZeroUsize::MIN.saturating_add(1) }
    }
}

/// The connections of a store, its database being of the newest version.
pub(super) struct Connections {
    pub(super) writer: Connection,
    pub(super) readers: Vec<Connection>,
    pub(super) spare_readers: Vec<Connection>,
    pub(super) checkpointer: Connection,
}

pub(super) fn open(path: &Path, options: &SqliteOptions) -> Result<Connections, OpenError> {
    let (writer, _) = open_newest(path, options)?;
    let checkpointer = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    prepare_to_write(&checkpointer, options.synchronous)?;
    let reader = |_| connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let readers = (0..options.readers.get()).map(reader).collect::<Result<_, _>>()?;
    let spare_readers = (0..options.readers.get()).map(reader).collect::<Result<_, _>>()?;
    Ok(Connections { writer, readers, spare_readers, checkpointer })
}

/// A connection that writes, its database being of the newest version; and the version that it was of.
pub(super) fn open_newest(path: &Path, options: &SqliteOptions) -> Result<(Connection, usize), OpenError> {
    create_if_absent(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    let mut writer = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    must_be_writable(&writer)?;
    // Before anything is changed, its journal mode included.
    let version = schema::version(&writer)?;
    let mode: String = writer.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(OpenError::NoLog(mode));
    }
    prepare_to_write(&writer, options.synchronous)?;
    writer.pragma_update(None, "cache_size", WRITER_CACHE)?;
    schema::migrate(&mut writer)?;
    Ok((writer, version))
}

/// SQLite takes a file that it may not write for one that is only to be read. Spec: DPS-STORE-34.
pub(super) fn must_be_writable(connection: &Connection) -> Result<(), OpenError> {
    if connection.is_readonly(MAIN_DB)? { Err(OpenError::ReadOnly) } else { Ok(()) }
}

/// A connection that reads a database which is there, whether or not it is in use. Its version is one that this program knows.
pub(super) fn open_to_read(path: &Path) -> Result<(Connection, usize), OpenError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let version = schema::version(&connection)?;
    Ok((connection, version))
}

/// SQLite gives its log files the mode of the database, so it is enough to create that one with the right mode.
fn create_if_absent(path: &Path) -> io::Result<()> {
    match private_file::options().write(true).create_new(true).open(path) {
        Ok(file) => {
            file.sync_all()?;
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            private_file::sync_directory(directory.unwrap_or(Path::new(".")))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            private_file::warn_if_open_to_others(path)
        }
        Err(error) => Err(error),
    }
}

pub(super) fn connect(path: &Path, mode: OpenFlags) -> rusqlite::Result<Connection> {
    // Each connection stays in one thread, so SQLite need not lock it.
    let connection = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_FOR)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // Plans do not depend on the values bound, so no statement is prepared anew for the next value.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // The file's contents are data: no function or virtual table may run from its schema.
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}

fn prepare_to_write(connection: &Connection, synchronous: Synchronous) -> rusqlite::Result<()> {
    // Spec: DPS-STORE-2. FULL syncs the log at each commit; NORMAL, WAL's usual companion, does not.
    let (word, full_fsync) = match synchronous {
        Synchronous::Full => ("FULL", true),
        Synchronous::Off => ("OFF", false),
    };
    connection.pragma_update(None, "synchronous", word)?;
    // macOS keeps what was synced in the disk's cache unless it is told not to; elsewhere this does nothing.
    connection.pragma_update(None, "fullfsync", full_fsync)?;
    connection.pragma_update(None, "checkpoint_fullfsync", full_fsync)?;
    // The checkpointer does it.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT)
}
