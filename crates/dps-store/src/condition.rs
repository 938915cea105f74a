//! Whether a write may happen. Spec: DPS-STORE-10, DPS-REG-44.

use dps_core::ports::{CleanUp, Condition, WriteError};
use dps_core::registration::{Assignment, Registration, State};

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

/// Whether the record has the device of a clean-up at that hub, or is about to: it is not to be gone then. Spec: DPS-REG-44.
pub(crate) fn has_device_there(record: &Registration, clean_up: &CleanUp) -> bool {
    let target = match &record.state {
        State::Assigning { placing, .. } => Some(&placing.target),
        _ => None,
    };
    let is_there = |at: &Assignment| at.hub == clean_up.hub && at.device_id == clean_up.device_id;
    record.assignment().is_some_and(is_there) || target.is_some_and(is_there)
}
