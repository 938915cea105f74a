//! Signing certificates that devices still come in by and that expire soon: told once a day for each entry.
//! Spec: DPS-X509-14.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use dps_core::enrollment::EntryRef;
use dps_proto::ids::IdScope;
use jiff::{SignedDuration, Timestamp};

/// How long before.
const AHEAD: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How long one warning is enough.
const QUIET: SignedDuration = SignedDuration::from_hours(24);

/// Most entries that are remembered; beyond that all are forgotten, and warned of again.
const REMEMBERED_MAX: usize = 1_024;

/// When each entry was last warned of.
#[derive(Debug, Default)]
pub struct ExpiryWarnings {
    warned: Mutex<HashMap<(IdScope, String), Timestamp>>,
}

impl ExpiryWarnings {
    /// Whether to warn now of the certificate of `entry` that expires then.
    pub fn is_due(&self, scope: &IdScope, entry: &EntryRef, expires_at: Timestamp, now: Timestamp) -> bool {
        if expires_at.duration_since(now) > AHEAD {
            return false;
        }
        // An entry is put in one step.
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.len() >= REMEMBERED_MAX {
            warned.clear();
        }
        let key = (scope.clone(), entry.to_string());
        match warned.get(&key) {
            Some(last) if now.duration_since(*last) < QUIET => false,
            _ => {
                warned.insert(key, now);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-X509-14
    #[test]
    fn an_entry_is_warned_of_once_a_day_from_thirty_days_ahead() {
        let warnings = ExpiryWarnings::default();
        let scope = "0ne00000000".parse().unwrap();
        let [plant, line] = ["plant", "line"].map(|id| EntryRef::Group(id.parse().unwrap()));
        let day = |day: i64| Timestamp::from_second(day * 86_400).unwrap();
        let is_due = |entry, now| warnings.is_due(&scope, entry, day(100), now);
        assert!(!is_due(&plant, day(69)));
        assert!(is_due(&plant, day(70)));
        assert!(!is_due(&plant, day(70) + SignedDuration::from_hours(23)));
        assert!(is_due(&line, day(70)));
        assert!(is_due(&plant, day(71)));
        assert!(is_due(&plant, day(101)), "it may have been let pass");
    }
}
