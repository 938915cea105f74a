//! SQLite's errors in words that say what to do. Spec: DPS-STORE-32 to DPS-STORE-34.

use std::fmt;

use rusqlite::ffi;
use rusqlite::{Error, ErrorCode};

/// Shows as what is wrong, what to do, and in parentheses SQLite's own number and words; where SQLite's words say it all, as
/// these alone.
pub(super) struct Cause<'error>(pub(super) &'error Error);

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(error) = self;
        match error.sqlite_error().and_then(|failure| in_words(failure.code, failure.extended_code)) {
            Some((words, number)) => write!(f, "{words} (SQLite {number}: {error})"),
            None => write!(f, "{error}"),
        }
    }
}

fn in_words(code: ErrorCode, extended: i32) -> Option<(&'static str, i32)> {
    let words = match code {
        ErrorCode::DiskFull => "the disk is full: make room on it",
        ErrorCode::ReadOnly if extended == ffi::SQLITE_READONLY_DBMOVED => {
            "the file was moved or deleted while it was in use: put it back and restart the service"
        }
        ErrorCode::ReadOnly => {
            "this process may not write it: look at the rights to the file and its directory, and whether the disk is \
             mounted read-only"
        }
        ErrorCode::SystemIoFailure if is_about_reading(extended) => {
            "it cannot be read: look at the disk and the kernel's log"
        }
        ErrorCode::SystemIoFailure => {
            "it cannot be written: the disk fails or is read-only now, or a limit to the size of files or a quota is reached"
        }
        ErrorCode::CannotOpen | ErrorCode::PermissionDenied => {
            "the file, or its log beside it, cannot be opened or made: look at the rights to it and to its directory, and at \
             the room on the disk"
        }
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            "another program holds it locked: end that one"
        }
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
            "a page of it is damaged: put a backup in its place, and look at the disk"
        }
        _ => return None,
    };
    Some((words, extended))
}

fn is_about_reading(extended: i32) -> bool {
    [
        ffi::SQLITE_IOERR_READ,
        ffi::SQLITE_IOERR_SHORT_READ,
        ffi::SQLITE_IOERR_CORRUPTFS,
        ffi::SQLITE_IOERR_DATA,
        ffi::SQLITE_IOERR_MMAP,
    ]
    .contains(&extended)
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    #[track_caller]
    fn check(number: i32, expected: &str) {
        let error = Error::SqliteFailure(ffi::Error::new(number), None);
        let shown = Cause(&error).to_string();
        assert!(shown.starts_with(expected) && shown.contains(&format!("SQLite {number}: ")), "{shown}");
    }

    /// DPS-STORE-32, DPS-STORE-33
    #[test]
    fn each_failure_of_a_disk_says_what_to_do() {
        check(ffi::SQLITE_FULL, "the disk is full");
        check(ffi::SQLITE_IOERR_WRITE, "it cannot be written");
        check(ffi::SQLITE_IOERR_FSYNC, "it cannot be written");
        check(ffi::SQLITE_IOERR_READ, "it cannot be read");
        check(ffi::SQLITE_READONLY, "this process may not write it");
        check(ffi::SQLITE_READONLY_DBMOVED, "the file was moved or deleted");
        check(ffi::SQLITE_CANTOPEN, "the file, or its log beside it, cannot be opened");
        check(ffi::SQLITE_BUSY, "another program holds it locked");
        check(ffi::SQLITE_CORRUPT, "a page of it is damaged");
    }

    #[test]
    fn other_errors_keep_their_words() {
        let error = Connection::open_in_memory().unwrap().prepare("SELEKT").unwrap_err();
        assert_eq!(Cause(&error).to_string(), error.to_string());
    }
}
