//! When a webhook is called again. Spec: DPS-HUB-23.

use std::time::Duration;

/// How often a webhook is called again. Spec: DPS-HUB-23.
pub const RETRIES_MAX: u32 = 10;

const FIRST: Duration = Duration::from_secs(1);
const LONGER_EACH_TIME: Duration = Duration::from_secs(9);

/// How long after the last answer a webhook is called again that was called again `retries` times already; `None` where that was
/// the last time. Spec: DPS-HUB-23.
pub fn retry_delay(retries: u32) -> Option<Duration> {
    (retries < RETRIES_MAX).then(|| FIRST + LONGER_EACH_TIME * retries)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-HUB-23
    #[test]
    fn ten_retries_the_first_after_a_second_and_each_nine_seconds_later_than_the_last() {
        let seconds: Vec<_> = (0..).map_while(retry_delay).map(|delay| delay.as_secs()).collect();
        assert_eq!(seconds, [1, 10, 19, 28, 37, 46, 55, 64, 73, 82]);
        assert_eq!((retry_delay(10), retry_delay(u32::MAX)), (None, None));
    }
}
