//! What the log says of a store that fails: at once, then once a minute, and when it is over. Spec: DPS-STORE-32, DPS-STORE-33.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dps_core::ports::StoreError;
use rusqlite::Connection;

use super::cause::Cause;
use super::fault::{Fault, Trouble};

/// How long what lasts is told once: each request that is refused for it has a line of its own.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// How long it must not have failed before it counts as over: where some writes fit on the disk and others do not, the log
/// would else change its mind at each.
const OVER_AFTER: Duration = Duration::from_secs(1);

/// Those of one store, shared by its threads.
#[derive(Default)]
pub(super) struct Alarms {
    writing: Alarm,
    reading: Alarm,
    damage: Alarm,
    checkpoint: Alarm,
}

impl Alarms {
    /// A write failed; what whoever asked is told.
    pub(super) fn of_write(&self, fault: Fault, connection: &Connection) -> StoreError {
        let trouble = fault.trouble();
        let error = fault.told(connection);
        match trouble {
            Some(Trouble::Refused) if self.writing.is_to_be_told(Instant::now()) => {
                tracing::error!(reason = %error, "the store cannot write, so what needs it is refused");
            }
            Some(Trouble::Damage) => self.damaged(&error),
            _ => {}
        }
        error
    }

    /// Writes were committed.
    pub(super) fn written(&self) {
        if self.writing.is_over() {
            tracing::info!("the store writes again");
        }
    }

    /// A read failed; what whoever asked is told.
    pub(super) fn of_read(&self, fault: Fault, connection: &Connection) -> StoreError {
        let trouble = fault.trouble();
        let error = fault.told(connection);
        match trouble {
            Some(Trouble::Refused) if self.reading.is_to_be_told(Instant::now()) => {
                tracing::error!(reason = %error, "the store cannot read, so what needs it is refused");
            }
            Some(Trouble::Damage) => self.damaged(&error),
            _ => {}
        }
        error
    }

    /// A checkpoint failed; nothing is lost as long as the log can grow.
    pub(super) fn checkpoint_failed(&self, error: &rusqlite::Error) {
        if self.checkpoint.is_to_be_told(Instant::now()) {
            tracing::warn!(reason = %Cause(error), "a checkpoint of the store failed; it is tried again");
        }
    }

    /// A checkpoint was made.
    pub(super) fn checkpoint_made(&self) {
        self.checkpoint.is_over();
    }

    fn damaged(&self, error: &StoreError) {
        if self.damage.is_to_be_told(Instant::now()) {
            tracing::error!(reason = %error, "the store is damaged, and what lies on the damaged page is refused");
        }
    }
}

/// One thing that fails, or works.
#[derive(Default)]
struct Alarm {
    /// So that as long as all is well nobody waits for `state`.
    is_on: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    told: Option<Instant>,
    failed: Option<Instant>,
}

impl Alarm {
    /// Notes that it failed.
    fn is_to_be_told(&self, now: Instant) -> bool {
        self.is_on.store(true, Ordering::Relaxed);
        let mut state = self.state();
        state.failed = Some(now);
        let is_due = state.told.is_none_or(|told| now.duration_since(told) >= AGAIN_AFTER);
        if is_due {
            state.told = Some(now);
        }
        is_due
    }

    /// Notes that it worked, now; whether that ends what was told.
    fn is_over(&self) -> bool {
        self.is_on.load(Ordering::Relaxed) && self.is_over_at(Instant::now())
    }

    fn is_over_at(&self, now: Instant) -> bool {
        let mut state = self.state();
        if state.failed.is_none_or(|failed| now.duration_since(failed) < OVER_AFTER) {
            return false;
        }
        *state = State::default();
        self.is_on.store(false, Ordering::Relaxed);
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-STORE-32
    #[test]
    fn what_lasts_is_told_once_a_minute_and_that_it_is_over_once() {
        let alarm = Alarm::default();
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        assert!(!alarm.is_over_at(at(0.0)), "nothing was told");
        for (seconds, told) in [(0.0, true), (0.1, false), (59.9, false), (60.1, true), (61.0, false)] {
            assert_eq!(alarm.is_to_be_told(at(seconds)), told, "at {seconds} s");
        }
        assert!(!alarm.is_over_at(at(61.9)), "it failed a moment ago");
        assert!(alarm.is_over_at(at(62.1)));
        assert!(!alarm.is_over_at(at(63.0)), "that was told");
        assert!(alarm.is_to_be_told(at(63.0)), "it is another failure");
    }
}
