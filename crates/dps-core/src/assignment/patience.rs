//! How long a hub is tried for, and how often. Spec: DPS-REG-42, DPS-REG-45.

use std::time::Duration;

/// How long an operation waits for a hub that does not answer, or cannot. Spec: DPS-REG-45.
pub(super) const FOR_HUB: Duration = Duration::from_secs(5 * 60);

/// How long it waits for a hub that has no time. Spec: DPS-REG-45.
pub(super) const FOR_THROTTLE: Duration = Duration::from_secs(60 * 60);

/// How long it waits to read what the device has at the hub that it leaves. Spec: DPS-REG-42.
pub(super) const FOR_SOURCE: Duration = Duration::from_secs(60);

/// Longest pause between two tries of an operation. Spec: DPS-REG-45.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Longest pause between two tries of a clean-up: nobody waits for it.
const CLEAN_UP_PAUSE_MAX: Duration = Duration::from_secs(10 * 60);

/// How long to wait after that many tries of an operation.
pub(super) fn pause(tries: u32) -> Duration {
    doubled(tries).min(PAUSE_MAX)
}

/// How long to wait after that many tries of a clean-up.
pub(super) fn clean_up_pause(tries: u32) -> Duration {
    doubled(tries).min(CLEAN_UP_PAUSE_MAX)
}

fn doubled(tries: u32) -> Duration {
    Duration::from_secs(1 << tries.saturating_sub(1).min(16))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-REG-45
    #[test]
    fn pauses_double_up_to_their_limit() {
        let seconds = |of: fn(u32) -> Duration| [0, 1, 2, 3, 5, 6, 99].map(|tries| of(tries).as_secs());
        assert_eq!(seconds(pause), [1, 1, 2, 4, 16, 30, 30]);
        assert_eq!(seconds(clean_up_pause), [1, 1, 2, 4, 16, 32, 600]);
    }
}
