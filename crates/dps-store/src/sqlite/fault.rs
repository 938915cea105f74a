//! What can go wrong inside the SQLite store, on its way to being a [`StoreError`].

use dps_core::ports::StoreError;
use rusqlite::{Error, ErrorCode};

/// A [`StoreError`] that `?` makes of SQLite's errors.
#[derive(Debug)]
pub(super) struct Fault(pub(super) StoreError);

impl Fault {
    /// Something stored is not what this program would have written.
    pub(super) fn unreadable(why: impl Into<String>) -> Self {
        Self(StoreError::Unreadable(why.into()))
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        let damaged = match &error {
            Error::SqliteFailure(failure, _) => {
                matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
            }
            Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::Utf8Error(..)
            | Error::InvalidColumnType(..) => true,
            _ => false,
        };
        Self(if damaged { StoreError::Unreadable(text) } else { StoreError::Unavailable(text) })
    }
}
