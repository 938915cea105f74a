//! Whether a write may happen. Spec: DPS-STORE-10.

use dps_core::ports::{Condition, WriteError};

/// Judges a creation or replacement where the stored version, if there is one, has the etag `stored`.
pub(crate) fn permits_put(condition: &Condition, stored: Option<&str>) -> Result<(), WriteError> {
    match (condition, stored) {
        (Condition::Always, _) | (Condition::IfAbsent, None) => Ok(()),
        (Condition::IfAbsent, Some(_)) => Err(WriteError::Exists),
        (Condition::IfMatches(_), None) => Err(WriteError::Missing),
        (Condition::IfMatches(etag), Some(stored)) if etag.as_str() == stored => Ok(()),
        (Condition::IfMatches(_), Some(_)) => Err(WriteError::Changed),
    }
}

/// Judges a deletion: what is not there cannot be deleted on any condition.
pub(crate) fn permits_deletion(condition: &Condition, stored: Option<&str>) -> Result<(), WriteError> {
    match stored {
        None => Err(WriteError::Missing),
        Some(_) => permits_put(condition, stored),
    }
}
