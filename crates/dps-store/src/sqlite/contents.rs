//! What a database file holds, and whether it can be used. Spec: DPS-STORE-30, DPS-STORE-31.

use std::path::{Path, PathBuf};

use dps_core::ports::StoreError;
use dps_proto::ids::IdScope;
use rusqlite::{Connection, OptionalExtension as _};

use super::cause::Cause;
use super::open::open_to_read;
use super::{OpenError, SqliteStore, instance};
use crate::sealing::{KeyId, Sealer};

/// What a database file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Of its tables.
    pub version: usize,
    /// Size of the file.
    pub bytes: u64,
    /// ID scopes.
    pub instances: u64,
    /// Enrollments of single devices.
    pub individual_enrollments: u64,
    /// Enrollment groups.
    pub enrollment_groups: u64,
    /// Records of devices.
    pub registrations: u64,
    /// Devices of local hubs.
    pub hub_devices: u64,
    /// The keys without which its secrets cannot be opened: one, or none where there are no secrets yet.
    pub sealing_keys: Vec<KeyId>,
}

/// Why a database file cannot be relied on.
#[derive(Debug, thiserror::Error)]
pub enum Unsound {
    /// It does not open.
    #[error("{}: {why}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        why: OpenError,
    },
    /// SQLite's own check found pages or rows that it would not have written so.
    #[error("{} is damaged: {found}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What, in SQLite's words.
        found: String,
    },
    /// It could not be read to its end.
    #[error("{}: {}", path.display(), Cause(why))]
    Unread {
        /// The file.
        path: PathBuf,
        /// Why.
        why: rusqlite::Error,
    },
}

/// Why its secrets do not open.
#[derive(Debug, thiserror::Error)]
pub enum Sealed {
    /// They were sealed with another key.
    #[error(
        "secrets in {table} are sealed with key {with}, and the sealing key that was given is {given}: find the key that the store \
         was made with"
    )]
    ByAnother {
        /// The table of the first that was found.
        table: String,
        /// The key that is needed.
        with: KeyId,
        /// The key that was given.
        given: KeyId,
    },
    /// They are damaged.
    #[error(transparent)]
    Unreadable(StoreError),
    /// They could not be read.
    #[error("{}", Cause(.0))]
    Unread(rusqlite::Error),
    /// The store does not open.
    #[error(transparent)]
    Unopened(OpenError),
}

impl SqliteStore {
    /// Whether `sealer` opens the secrets of the store at `path`, which a server may be using. Nothing is changed.
    pub fn check_sealing_key(path: &Path, sealer: &Sealer) -> Result<(), Sealed> {
        let (connection, _) = open_to_read(path).map_err(Sealed::Unopened)?;
        check_key(&connection, sealer)
    }
}

/// Reads the whole file at `path`, which nobody writes to: whether all its pages and rows are sound, and what they hold.
pub(super) fn examine(path: &Path) -> Result<(Connection, Contents), Unsound> {
    let (connection, version) =
        open_to_read(path).map_err(|why| Unsound::Open { path: path.to_owned(), why })?;
    let unread = |why: rusqlite::Error| match OpenError::from(why) {
        OpenError::Sqlite(why) => Unsound::Unread { path: path.to_owned(), why },
        damaged => Unsound::Damaged { path: path.to_owned(), found: damaged.to_string() },
    };
    let found: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(unread)?;
    if found != "ok" {
        return Err(Unsound::Damaged { path: path.to_owned(), found });
    }
    let contents = count(&connection, version).map_err(unread)?;
    Ok((connection, contents))
}

fn count(connection: &Connection, version: usize) -> rusqlite::Result<Contents> {
    let number =
        |select: &str| connection.query_row(select, [], |row| Ok(row.get::<_, i64>(0)?.unsigned_abs()));
    let rows = |table: &str| match version {
        0 => Ok(0),
        _ => number(&format!("SELECT count(*) FROM {table}")),
    };
    Ok(Contents {
        version,
        bytes: number("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")?,
        instances: rows("instance")?,
        individual_enrollments: rows("individual_enrollment")?,
        enrollment_groups: rows("enrollment_group")?,
        registrations: rows("registration")?,
        hub_devices: rows("hub_device")?,
        sealing_keys: sealing_keys(connection)?,
    })
}

/// Every column of sealed values, each in quotation marks, with its table: their names begin with `sealed_`.
fn sealed_columns(connection: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    let select = "SELECT quoted.name, columns.name FROM sqlite_schema AS quoted, pragma_table_info(quoted.name) AS columns
                  WHERE quoted.type = 'table' AND columns.name GLOB 'sealed_*'";
    let quote = |name: String| format!("\"{}\"", name.replace('"', "\"\""));
    let mut statement = connection.prepare(select)?;
    let columns = statement.query_map([], |row| Ok((quote(row.get(0)?), quote(row.get(1)?))))?;
    columns.collect()
}

fn sealing_keys(connection: &Connection) -> rusqlite::Result<Vec<KeyId>> {
    let mut keys = Vec::new();
    for (table, column) in sealed_columns(connection)? {
        // A device that proves itself by certificate has no keys, and nothing is sealed for it.
        let select =
            format!("SELECT DISTINCT substr({column}, 1, ?1) FROM {table} WHERE length({column}) > 0");
        let mut statement = connection.prepare(&select)?;
        let heads = statement.query_map([Sealer::HEAD_BYTES], |row| row.get::<_, Vec<u8>>(0))?;
        for head in heads {
            keys.extend(KeyId::of_sealed(&head?).filter(|key| !keys.contains(key)));
        }
    }
    Ok(keys)
}

/// Whether `sealer` opens what the database has sealed: every secret names its key, and those of all instances are opened.
pub(super) fn check_key(connection: &Connection, sealer: &Sealer) -> Result<(), Sealed> {
    for (table, column) in sealed_columns(connection).map_err(Sealed::Unread)? {
        let select = format!(
            "SELECT {column} FROM {table} WHERE length({column}) > 0 AND substr({column}, 1, ?1) <> ?2 LIMIT 1"
        );
        let other: Option<Vec<u8>> = connection
            .query_row(&select, (Sealer::HEAD_BYTES, sealer.head()), |row| row.get(0))
            .optional()
            .map_err(Sealed::Unread)?;
        let Some(other) = other else { continue };
        return Err(match KeyId::of_sealed(&other) {
            Some(with) if with != sealer.id() => Sealed::ByAnother { table, with, given: sealer.id() },
            // It says what is wrong with a value that names its key, or none, and is no value of ours.
            _ => Sealed::Unreadable(sealer.open(&table, &other).err().unwrap_or_else(|| {
                StoreError::Unreadable(format!(
                    "a secret of {table} is not as this program would have sealed it"
                ))
            })),
        });
    }
    let mut statement =
        connection.prepare("SELECT id_scope, sealed_secret FROM instance").map_err(Sealed::Unread)?;
    let secrets = statement
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))
        .map_err(Sealed::Unread)?;
    for secret in secrets {
        let (scope, sealed) = secret.map_err(Sealed::Unread)?;
        let scope: IdScope = scope.parse().map_err(|why| {
            Sealed::Unreadable(StoreError::Unreadable(format!("the ID scope {scope:?} is none: {why}")))
        })?;
        instance::open_secret(sealer, &scope, &sealed).map_err(Sealed::Unreadable)?;
    }
    Ok(())
}
