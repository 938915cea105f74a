//! How a hub does, and how long it is left alone, by what its calls came to. Spec: DPS-REG-45, DPS-REG-46.

use std::time::{Duration, Instant};

use dps_core::ports::HubHealth;
use jiff::Timestamp;

use super::refusal::{HubError, HubRefusal};

/// So many calls in a row that came to nothing make a hub unhealthy. Spec: DPS-REG-46.
const IN_VAIN_MAX: u32 = 3;

/// How long a hub is left alone that does not say for how long. Spec: DPS-REG-45.
const PAUSE: Duration = Duration::from_secs(1);

/// That, doubled again and again. Spec: DPS-REG-45.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What a call says of the hub.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// The hub answers, be it that it refuses.
    Answers,
    /// The call came to nothing.
    InVain,
    /// It does not accept its connection string.
    Rejects,
    /// It wants to be left alone.
    Throttles(Option<Duration>),
    /// Nothing: it was not asked.
    None,
}

/// How a hub does. Time comes in as arguments.
#[derive(Debug, Default)]
pub(super) struct Condition {
    in_vain: u32,
    unhealthy: Option<(Timestamp, Box<str>)>,
    throttled: u32,
    pause: Option<Pause>,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    since: Instant,
    until: Instant,
}

impl Sign {
    pub(super) fn of<T>(outcome: &Result<T, HubError>) -> Self {
        match outcome {
            Ok(_)
            | Err(
                HubError::Exists(_)
                | HubError::Absent(_)
                | HubError::PreconditionFailed(_)
                | HubError::TooManyDevices(_),
            ) => Self::Answers,
            Err(HubError::Rejected(refusal)) if refusal.is_of_a_hub() => Self::Answers,
            Err(HubError::Unauthorized(_)) => Self::Rejects,
            Err(HubError::Throttled(refusal)) => Self::Throttles(wanted_pause(refusal)),
            // Whatever stands in its place, it is not the hub.
            Err(HubError::Rejected(_)) => Self::InVain,
            Err(HubError::Unavailable(_) | HubError::NoAnswer(_) | HubError::Malformed(_)) => Self::InVain,
            Err(HubError::Unaddressable | HubError::Url(_)) => Self::None,
        }
    }
}

/// For how long a hub wants to be left alone: no time at all is none that could be kept.
pub(super) fn wanted_pause(refusal: &HubRefusal) -> Option<Duration> {
    refusal.retry_after().filter(|wanted| !wanted.is_zero())
}

impl Condition {
    /// That of a hub that nothing can be asked of.
    pub(super) fn hopeless(now: Timestamp, reason: Box<str>) -> Self {
        Self { unhealthy: Some((now, reason)), ..Self::default() }
    }

    /// Takes what a call says that was begun at `began` and ended `now`; `reason` is why it failed.
    pub(super) fn note(
        &mut self,
        sign: &Sign,
        reason: impl FnOnce() -> Box<str>,
        began: Instant,
        now: (Instant, Timestamp),
    ) {
        match sign {
            Sign::Answers => {
                let Self { in_vain, unhealthy, throttled, pause: _ } = self;
                (*in_vain, *unhealthy, *throttled) = (0, None, 0);
            }
            Sign::InVain => {
                self.in_vain = self.in_vain.saturating_add(1);
                if self.in_vain >= IN_VAIN_MAX {
                    self.ail(now.1, reason());
                }
            }
            Sign::Rejects => self.ail(now.1, reason()),
            Sign::Throttles(wanted) => self.pause(*wanted, began, now.0),
            Sign::None => {}
        }
    }

    /// The time stays that of the beginning, the reason is the latest.
    fn ail(&mut self, now: Timestamp, reason: Box<str>) {
        let since = self.unhealthy.as_ref().map_or(now, |(since, _)| *since);
        self.unhealthy = Some((since, reason));
    }

    fn pause(&mut self, wanted: Option<Duration>, began: Instant, now: Instant) {
        // Calls that were under way when the hub first said so tell it no second time.
        let is_news = self.pause.is_none_or(|pause| began >= pause.since);
        if is_news {
            self.throttled = self.throttled.saturating_add(1);
        }
        let doubled = PAUSE.saturating_mul(1 << self.throttled.saturating_sub(1).min(16)).min(PAUSE_MAX);
        let Some(length) = wanted.or(is_news.then_some(doubled)) else { return };
        let until = now + length;
        self.pause = Some(match self.pause {
            Some(pause) if !is_news => Pause { until: pause.until.max(until), ..pause },
            pause => Pause { since: now, until: pause.map_or(until, |pause| pause.until.max(until)) },
        });
    }

    pub(super) fn health(&self) -> HubHealth {
        match &self.unhealthy {
            None => HubHealth::Healthy,
            Some((since, reason)) => HubHealth::Unhealthy { since: *since, reason: reason.clone() },
        }
    }

    pub(super) fn paused_for(&self, now: Instant) -> Option<Duration> {
        self.pause.and_then(|pause| pause.until.checked_duration_since(now)).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hub's condition, and a clock that stands still in between.
    struct Watched {
        condition: Condition,
        start: Instant,
        elapsed: Duration,
    }

    impl Watched {
        fn new() -> Self {
            Self { condition: Condition::default(), start: Instant::now(), elapsed: Duration::ZERO }
        }

        fn wall(&self) -> Timestamp {
            Timestamp::from_second(1_800_000_000 + i64::try_from(self.elapsed.as_secs()).unwrap()).unwrap()
        }

        fn wait(&mut self, seconds: u64) {
            self.elapsed += Duration::from_secs(seconds);
        }

        /// A call that ends when it begins.
        fn note(&mut self, sign: &Sign, reason: &str) {
            self.note_of(sign, reason, self.elapsed);
        }

        /// A call that was begun at that time and ends now.
        fn note_of(&mut self, sign: &Sign, reason: &str, began: Duration) {
            let now = (self.start + self.elapsed, self.wall());
            self.condition.note(sign, || reason.into(), self.start + began, now);
        }

        fn since(&self) -> Option<(i64, String)> {
            match self.condition.health() {
                HubHealth::Healthy => None,
                HubHealth::Unhealthy { since, reason } => {
                    Some((since.as_second() - 1_800_000_000, reason.to_string()))
                }
            }
        }

        fn paused_for(&self) -> Option<u64> {
            self.condition.paused_for(self.start + self.elapsed).map(|left| left.as_secs())
        }
    }

    /// DPS-REG-46
    #[test]
    fn three_calls_in_a_row_that_come_to_nothing_make_a_hub_unhealthy_until_one_is_answered() {
        let mut hub = Watched::new();
        for _ in 0..3 {
            hub.note(&Sign::InVain, "no");
            hub.note(&Sign::InVain, "no");
            // Neither of these ends the row; an answer does.
            hub.note(&Sign::Throttles(None), "");
            hub.note(&Sign::None, "");
            assert_eq!(hub.since(), None);
            hub.note(&Sign::Answers, "");
        }
        for (at, reason) in ["first", "second", "third", "fourth"].into_iter().enumerate() {
            hub.note(&Sign::InVain, reason);
            let expected = [None, None, Some((2, "third")), Some((2, "fourth"))][at];
            assert_eq!(hub.since(), expected.map(|(since, reason)| (since, reason.to_owned())));
            hub.wait(1);
        }
        for sign in [Sign::Throttles(None), Sign::None] {
            hub.note(&sign, "");
            assert!(hub.since().is_some());
        }
        hub.note(&Sign::Answers, "");
        assert_eq!(hub.since(), None);
        hub.note(&Sign::InVain, "no");
        assert_eq!(hub.since(), None, "the row begins anew");
    }

    /// DPS-REG-46
    #[test]
    fn a_hub_that_does_not_accept_its_connection_string_is_unhealthy_at_once() {
        let mut hub = Watched::new();
        hub.wait(7);
        hub.note(&Sign::Rejects, "401");
        assert_eq!(hub.since(), Some((7, "401".to_owned())));
        hub.wait(1);
        hub.note(&Sign::InVain, "gone");
        assert_eq!(hub.since(), Some((7, "401".to_owned())), "one call in vain says nothing yet");
        hub.note(&Sign::Answers, "");
        assert_eq!(hub.since(), None);
        let hopeless = Condition::hopeless(hub.wall(), "no host".into());
        assert!(matches!(hopeless.health(), HubHealth::Unhealthy { reason, .. } if &*reason == "no host"));
    }

    /// DPS-REG-45
    #[test]
    fn a_hub_is_left_alone_for_as_long_as_it_says_or_twice_as_long_each_time() {
        let mut hub = Watched::new();
        assert_eq!(hub.paused_for(), None);
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            hub.note(&Sign::Throttles(None), "");
            assert_eq!(hub.paused_for(), Some(expected));
            hub.wait(expected - 1);
            assert_eq!(hub.paused_for(), Some(1));
            hub.wait(1);
            assert_eq!(hub.paused_for(), None);
        }
        hub.note(&Sign::InVain, "no");
        hub.note(&Sign::Throttles(Some(Duration::from_secs(5))), "");
        assert_eq!(hub.paused_for(), Some(5));
        hub.note(&Sign::Answers, "");
        assert_eq!(hub.paused_for(), Some(5), "what it asked for stays");
        hub.wait(5);
        hub.note(&Sign::Throttles(None), "");
        assert_eq!(hub.paused_for(), Some(1), "the row begins anew");
    }

    /// DPS-REG-45
    #[test]
    fn calls_that_were_under_way_when_a_hub_first_throttled_lengthen_the_pause_only_where_it_says_so() {
        let mut hub = Watched::new();
        let began = hub.elapsed;
        hub.wait(2);
        for _ in 0..16 {
            hub.note_of(&Sign::Throttles(None), "", began);
        }
        assert_eq!(hub.paused_for(), Some(1));
        hub.wait(3);
        hub.note_of(&Sign::Throttles(None), "", began);
        assert_eq!(hub.paused_for(), None, "it says no more than the first");
        hub.note_of(&Sign::Throttles(Some(Duration::from_secs(9))), "", began);
        hub.note_of(&Sign::Throttles(Some(Duration::from_secs(4))), "", began);
        assert_eq!(hub.paused_for(), Some(9));
        hub.wait(9);
        hub.note(&Sign::Throttles(None), "");
        assert_eq!(hub.paused_for(), Some(2));
    }
}
