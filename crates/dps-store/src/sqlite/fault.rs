//! What can go wrong inside the SQLite store, on its way to being a [`StoreError`]. Spec: DPS-STORE-32, DPS-STORE-33.

use dps_core::ports::StoreError;
use rusqlite::{Connection, Error, ErrorCode};

use super::cause::Cause;

/// What `?` makes of SQLite's errors, and of those of what is stored.
#[derive(Debug)]
pub(super) enum Fault {
    /// SQLite's own. Which file it is about is known where the connection is.
    Sqlite(Error),
    /// Told in full already.
    Stored(StoreError),
}

/// What is wrong with the database as a whole, or with a page of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// What was asked for cannot be had now: the disk is full, read-only or failing, or someone else has the lock.
    Refused,
    /// Bytes are not what SQLite writes.
    Damage,
}

impl Fault {
    /// Something stored is not what this program would have written.
    pub(super) fn unreadable(why: impl Into<String>) -> Self {
        Self::Stored(StoreError::Unreadable(why.into()))
    }

    /// Where the database is to blame, and not what was asked of it.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        let Self::Sqlite(error) = self else { return None };
        match error.sqlite_error_code()? {
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Some(Trouble::Damage),
            ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::ReadOnly
            | ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::OutOfMemory => Some(Trouble::Refused),
            _ => None,
        }
    }

    /// As it is told to whoever asked, with the file that `connection` is of.
    pub(super) fn told(self, connection: &Connection) -> StoreError {
        let error = match self {
            Self::Sqlite(error) => error,
            Self::Stored(error) => return error,
        };
        let cause = Cause(&error);
        let text = match connection.path().filter(|path| !path.is_empty()) {
            Some(path) => format!("{path}: {cause}"),
            None => cause.to_string(),
        };
        let is_unreadable = match &error {
            Error::SqliteFailure(failure, _) => {
                matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
            }
            Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::Utf8Error(..)
            | Error::InvalidColumnType(..) => true,
            _ => false,
        };
        if is_unreadable { StoreError::Unreadable(text) } else { StoreError::Unavailable(text) }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Stored(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Sqlite(error)
    }
}
