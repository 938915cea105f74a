//! Who asks too often: in total, for an instance, for a device, and with credentials that prove nothing.
//! Spec: DPS-LIMIT-4 to DPS-LIMIT-8, DPS-LIMIT-13.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dps_proto::hub::HubUserName;
use dps_proto::ids::{IdScope, RegistrationId};
use governor::{DefaultKeyedRateLimiter, Quota};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::Limits;
use crate::network::Network;

/// After so many new keys a limiter forgets those that are back at their full allowance: what it remembers stays in
/// proportion to who asked lately.
const CHECKS_BETWEEN_CLEANINGS: u32 = 10_000;

/// How long it counts as one after its last failure too many.
const GUESSER_FOR: Duration = Duration::from_secs(60);

/// Most addresses that are remembered as guessing.
const GUESSERS_MAX: usize = 10_000;

/// Which limit was hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Throttled {
    /// Spec: DPS-LIMIT-4.
    #[error("as many requests as limits.requests_in_flight allows are being decided")]
    InFlight,
    /// Spec: DPS-LIMIT-5.
    #[error("the service instance has had as many registers as limits.registrations_per_minute allows")]
    Registrations,
    /// Spec: DPS-LIMIT-6.
    #[error("the device has polled as often as limits.polls_per_device_per_10_s allows")]
    Polls,
    /// Spec: DPS-LIMIT-7.
    #[error(
        "the credential proved nothing, and its address has failed as often as limits.failed_attestations_per_minute allows"
    )]
    FailedAttestations,
}

/// A broker asks, or is told no, more often than it may. Spec: DPS-BROKER-3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BrokerThrottled;

/// The counters of a node.
pub struct Throttles {
    in_flight: Arc<Semaphore>,
    registrations: Option<Limiter<IdScope>>,
    polls: Option<Limiter<(IdScope, RegistrationId)>>,
    failures_of_device: Option<Limiter<(Network, IdScope, RegistrationId)>>,
    failures_of_address: Option<Limiter<(Network, IdScope)>>,
    guesses: Option<Limiter<(Network, IdScope)>>,
    guessers: Guessers,
    broker_questions: Option<Limiter<Network>>,
    broker_refusals_of_device: Option<Limiter<(Network, HubUserName)>>,
    broker_refusals_of_address: Option<Limiter<Network>>,
}

impl Throttles {
    /// Nothing counted yet.
    pub fn new(limits: &Limits) -> Self {
        let a_minute = |count: NonZeroU32| Quota::per_minute(count);
        let failures = limits.failed_attestations_per_minute;
        let tenfold = |count: NonZeroU32| count.saturating_mul(NonZeroU32::MIN.saturating_add(9));
        Self {
            in_flight: Arc::new(Semaphore::new(limits.requests_in_flight.clamp(1, Semaphore::MAX_PERMITS))),
            registrations: limits.registrations_per_minute.map(|count| Limiter::new(a_minute(count))),
            polls: limits.polls_per_device.and_then(|count| {
                let between = Duration::from_secs(10) / count.get();
                Some(Limiter::new(Quota::with_period(between)?.allow_burst(count)))
            }),
            failures_of_device: failures.map(|count| Limiter::new(a_minute(count))),
            failures_of_address: failures.map(|count| Limiter::new(a_minute(tenfold(count)))),
            guesses: limits.guesses_per_minute.map(|count| Limiter::new(a_minute(count))),
            guessers: Guessers::default(),
            broker_questions: limits
                .broker_questions_per_second
                .map(|count| Limiter::new(Quota::per_second(count))),
            broker_refusals_of_device: failures.map(|count| Limiter::new(a_minute(count))),
            broker_refusals_of_address: failures.map(|count| Limiter::new(a_minute(tenfold(count)))),
        }
    }

    /// Room for one more request to be decided, while the returned value lives. Spec: DPS-LIMIT-4.
    pub fn request(&self) -> Result<OwnedSemaphorePermit, Throttled> {
        Arc::clone(&self.in_flight).try_acquire_owned().map_err(|_| Throttled::InFlight)
    }

    /// Counts a register of a device that has proved itself: a stranger must not use up what belongs to a fleet.
    /// Spec: DPS-LIMIT-5.
    pub fn register(&self, scope: &IdScope) -> Result<(), Throttled> {
        check(&self.registrations, || scope.clone(), Throttled::Registrations)
    }

    /// Counts a poll of a device that has proved itself. Spec: DPS-LIMIT-6.
    pub fn poll(&self, scope: &IdScope, id: &RegistrationId) -> Result<(), Throttled> {
        check(&self.polls, || (scope.clone(), id.clone()), Throttled::Polls)
    }

    /// Counts a credential that proved nothing, after it was judged: one that proves its device is never refused here.
    /// Spec: DPS-LIMIT-7.
    pub fn failed(&self, address: IpAddr, scope: &IdScope, id: &RegistrationId) -> Result<(), Throttled> {
        let address = Network::from(address);
        let guesser = (address, scope.clone());
        if self.guesses.as_ref().is_some_and(|guesses| !guesses.check(&guesser)) {
            self.guessers.add(guesser);
        }
        check(
            &self.failures_of_device,
            || (address, scope.clone(), id.clone()),
            Throttled::FailedAttestations,
        )?;
        check(&self.failures_of_address, || (address, scope.clone()), Throttled::FailedAttestations)
    }

    /// Counts a question of a broker, before it is read. Spec: DPS-BROKER-3.
    pub(crate) fn broker_question(&self, address: IpAddr) -> Result<(), BrokerThrottled> {
        check(&self.broker_questions, || address.into(), BrokerThrottled)
    }

    /// Counts a no to a broker, after it was judged: a device that proves itself is never refused here. Spec: DPS-BROKER-3.
    pub(crate) fn broker_refused(
        &self,
        address: IpAddr,
        named: Option<&HubUserName>,
    ) -> Result<(), BrokerThrottled> {
        let address = Network::from(address);
        if let Some(named) = named {
            let key = || (address, named.clone());
            check(&self.broker_refusals_of_device, key, BrokerThrottled)?;
        }
        check(&self.broker_refusals_of_address, || address, BrokerThrottled)
    }

    /// Whether an address has failed so often lately that its searches should wait for those of others. Spec: DPS-LIMIT-8.
    pub fn is_guessing(&self, address: IpAddr, scope: &IdScope) -> bool {
        self.guessers.contains(&(Network::from(address), scope.clone()))
    }
}

fn check<K: Hash + Eq + Clone, T>(
    limiter: &Option<Limiter<K>>,
    key: impl FnOnce() -> K,
    throttled: T,
) -> Result<(), T> {
    match limiter {
        Some(limiter) if !limiter.check(&key()) => Err(throttled),
        Some(_) | None => Ok(()),
    }
}

/// One rule for many keys. Spec: DPS-LIMIT-12.
struct Limiter<K: Hash + Eq + Clone> {
    by_key: DefaultKeyedRateLimiter<K>,
    checks: AtomicU32,
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    fn new(quota: Quota) -> Self {
        Self { by_key: DefaultKeyedRateLimiter::keyed(quota), checks: AtomicU32::new(0) }
    }

    /// Counts one; false where that is one too many.
    fn check(&self, key: &K) -> bool {
        if self.checks.fetch_add(1, Ordering::Relaxed) % CHECKS_BETWEEN_CLEANINGS
            == CHECKS_BETWEEN_CLEANINGS - 1
        {
            self.by_key.retain_recent();
            self.by_key.shrink_to_fit();
        }
        self.by_key.check_key(key).is_ok()
    }
}

/// Addresses that failed too often lately, and until when they count as such.
#[derive(Default)]
struct Guessers(Mutex<HashMap<(Network, IdScope), Instant>>);

impl Guessers {
    fn add(&self, guesser: (Network, IdScope)) {
        let mut until = self.lock();
        if until.len() >= GUESSERS_MAX {
            let now = Instant::now();
            until.retain(|_, until| *until > now);
        }
        // With so many at once no one of them is worth remembering.
        if until.len() < GUESSERS_MAX {
            until.insert(guesser, Instant::now() + GUESSER_FOR);
        }
    }

    fn contains(&self, guesser: &(Network, IdScope)) -> bool {
        self.lock().get(guesser).is_some_and(|until| *until > Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Network, IdScope), Instant>> {
        // Nothing panics while it is held, and a map is whole after any of its own operations.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::BROADCAST);

    fn scope() -> IdScope {
        "0ne00000001".parse().unwrap()
    }

    fn device(number: u32) -> RegistrationId {
        format!("dev-{number}").parse().unwrap()
    }

    /// How many of `asks` are let through.
    fn passed(asks: u32, ask: impl Fn(u32) -> Result<(), Throttled>) -> u32 {
        (0..asks).filter(|number| ask(*number).is_ok()).count() as u32
    }

    /// DPS-LIMIT-4
    #[test]
    fn requests_beyond_those_in_flight_are_turned_away_until_one_is_done() {
        let throttles = Throttles::new(&Limits { requests_in_flight: 2, ..Limits::default() });
        let _first = throttles.request().unwrap();
        let second = throttles.request().unwrap();
        assert_eq!(throttles.request().unwrap_err(), Throttled::InFlight);
        drop(second);
        assert!(throttles.request().is_ok());
    }

    /// DPS-LIMIT-5
    #[test]
    fn registers_are_counted_for_each_instance() {
        let limits = Limits { registrations_per_minute: NonZeroU32::new(30), ..Limits::default() };
        let throttles = Throttles::new(&limits);
        assert_eq!(passed(40, |_| throttles.register(&scope())), 30);
        assert_eq!(throttles.register(&scope()), Err(Throttled::Registrations));
        assert!(throttles.register(&"0ne00000002".parse().unwrap()).is_ok());
    }

    /// DPS-LIMIT-6
    #[test]
    fn polls_are_counted_for_each_device() {
        let throttles = Throttles::new(&Limits { polls_per_device: NonZeroU32::new(5), ..Limits::default() });
        assert_eq!(passed(9, |_| throttles.poll(&scope(), &device(1))), 5);
        assert_eq!(throttles.poll(&scope(), &"DEV-1".parse().unwrap()), Err(Throttled::Polls));
        assert!(throttles.poll(&scope(), &device(2)).is_ok());
    }

    /// DPS-LIMIT-7
    #[test]
    fn failures_are_counted_by_address_and_device_and_never_by_instance_alone() {
        let limits = Limits { failed_attestations_per_minute: NonZeroU32::new(4), ..Limits::default() };
        let throttles = Throttles::new(&limits);
        assert_eq!(passed(9, |_| throttles.failed(ADDRESS, &scope(), &device(1))), 4);
        // The address has failed nine times, of which four count for it too.
        assert_eq!(passed(99, |number| throttles.failed(ADDRESS, &scope(), &device(100 + number))), 36);
        assert!(throttles.failed(OTHER, &scope(), &device(1)).is_ok());
    }

    /// DPS-LIMIT-5, DPS-LIMIT-6, DPS-LIMIT-7
    #[test]
    fn what_is_not_set_limits_nothing() {
        let limits = Limits { failed_attestations_per_minute: None, ..Limits::default() };
        let throttles = Throttles::new(&limits);
        assert_eq!(passed(5_000, |_| throttles.register(&scope())), 5_000);
        assert_eq!(passed(5_000, |_| throttles.poll(&scope(), &device(1))), 5_000);
        assert_eq!(passed(5_000, |_| throttles.failed(ADDRESS, &scope(), &device(1))), 5_000);
    }

    /// DPS-LIMIT-8
    #[test]
    fn an_address_that_keeps_failing_counts_as_guessing_and_no_other_does() {
        let throttles = Throttles::new(&Limits::default());
        for _ in 0..20 {
            let _ = throttles.failed(ADDRESS, &scope(), &device(1));
        }
        assert!(!throttles.is_guessing(ADDRESS, &scope()), "a device with a wrong key is no stranger yet");
        let _ = throttles.failed(ADDRESS, &scope(), &device(2));
        assert!(throttles.is_guessing(ADDRESS, &scope()) && !throttles.is_guessing(OTHER, &scope()));
    }

    /// DPS-BROKER-3
    #[test]
    fn a_broker_may_ask_so_often_and_what_it_is_refused_is_counted_by_device_and_address() {
        let limits = Limits {
            broker_questions_per_second: NonZeroU32::new(50),
            failed_attestations_per_minute: NonZeroU32::new(4),
            ..Limits::default()
        };
        let throttles = Throttles::new(&limits);
        let asked = (0..200).filter(|_| throttles.broker_question(ADDRESS).is_ok()).count();
        assert!((50..150).contains(&asked), "{asked}");
        assert!(throttles.broker_question(OTHER).is_ok());

        let named = |number: u32| format!("a.x/dev-{number}").parse::<HubUserName>().unwrap();
        let told = |address, number| throttles.broker_refused(address, Some(&named(number))).is_ok();
        assert_eq!((0..9).filter(|_| told(ADDRESS, 1)).count(), 4);
        assert!(told(OTHER, 1));
        assert_eq!((0..99).filter(|number| told(ADDRESS, 100 + number)).count(), 36);
        assert!(throttles.broker_refused(ADDRESS, None).is_err());
        let unlimited = Limits { failed_attestations_per_minute: None, ..limits };
        let throttles = Throttles::new(&unlimited);
        assert!((0..999).all(|_| throttles.broker_refused(ADDRESS, Some(&named(1))).is_ok()));
    }

    /// DPS-LIMIT-12
    #[test]
    fn an_allowance_that_is_used_up_comes_back_bit_by_bit() {
        let limiter = Limiter::new(Quota::per_second(NonZeroU32::new(100).unwrap()));
        while limiter.check(&1) {}
        // A hundredth of a second brings one back.
        std::thread::sleep(Duration::from_millis(15));
        assert!(limiter.check(&1));
    }

    /// DPS-LIMIT-7
    #[test]
    fn what_is_remembered_stays_in_proportion_to_who_asked_lately() {
        let limiter = Limiter::new(Quota::per_second(NonZeroU32::MAX));
        for number in 0..3 * CHECKS_BETWEEN_CLEANINGS {
            limiter.check(&number);
        }
        assert!(limiter.by_key.len() <= CHECKS_BETWEEN_CLEANINGS as usize, "{}", limiter.by_key.len());
    }

    /// DPS-LIMIT-13
    #[test]
    fn failures_of_one_ipv6_network_are_counted_together() {
        let limits = Limits {
            failed_attestations_per_minute: NonZeroU32::new(4),
            guesses_per_minute: NonZeroU32::new(20),
            ..Limits::default()
        };
        let throttles = Throttles::new(&limits);
        let address = |host: u32| -> IpAddr { format!("2001:db8::{host:x}").parse().unwrap() };
        assert_eq!(passed(30, |number| throttles.failed(address(number), &scope(), &device(1))), 4);
        assert!(throttles.is_guessing(address(99), &scope()));
        assert!(!throttles.is_guessing("2001:db8:0:1::1".parse().unwrap(), &scope()));
    }
}
