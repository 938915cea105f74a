//! What can go wrong inside the PostgreSQL store, on its way to being a [`StoreError`].

use std::error::Error as _;

use dps_core::ports::StoreError;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// What `?` makes of PostgreSQL's errors.
#[derive(Debug)]
pub(super) enum Fault {
    /// It is over.
    Store(StoreError),
    /// The transaction met another one and was undone: it may be run again from its beginning.
    Again(String),
    /// A value cannot be stored: of several writes, all others may well succeed without the one that has it.
    OfOne(StoreError),
}

impl Fault {
    /// Something stored is not what this program would have written.
    pub(super) fn unreadable(why: impl Into<String>) -> Self {
        Self::Store(StoreError::Unreadable(why.into()))
    }

    /// One write has something that cannot be stored.
    pub(super) fn of_one(error: StoreError) -> Self {
        Self::OfOne(error)
    }

    /// Another transaction wrote a row after this one had found none.
    pub(super) fn raced(what: &str) -> Self {
        Self::Again(format!("another node wrote {what} at the same time"))
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Store(error) | Fault::OfOne(error) => error,
            Fault::Again(why) => Self::Unavailable(why),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let text = text_of(&error);
        match error.code() {
            Some(&SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED) => {
                Self::Again(text)
            }
            Some(&SqlState::DATA_CORRUPTED | &SqlState::INDEX_CORRUPTED) => Self::unreadable(text),
            // Data that cannot be, or are too much.
            Some(code) if ["22", "23", "54"].iter().any(|class| code.code().starts_with(class)) => {
                Self::OfOne(StoreError::Unavailable(text))
            }
            _ => Self::Store(StoreError::Unavailable(text)),
        }
    }
}

/// What the server or the connection says, without the values that PostgreSQL names in the details of an error.
pub(super) fn text_of(error: &Error) -> String {
    if let Some(told) = error.as_db_error() {
        return format!("PostgreSQL: {} ({})", told.message(), told.code().code());
    }
    match error.source() {
        Some(source) => format!("PostgreSQL: {error}: {source}"),
        None => format!("PostgreSQL: {error}"),
    }
}
