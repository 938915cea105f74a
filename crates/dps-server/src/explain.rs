//! Why devices were refused: a bounded ring for the person who runs the service. Spec: DPS-EXPLAIN-1 to DPS-EXPLAIN-5.
//!
//! The device is told a code; the reason is kept here and in the log, under the same tracking id, and never with a key, a
//! token or a signature in it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dps_proto::code::TrackingId;
use dps_proto::ids::{IdScope, RegistrationId};
use jiff::Timestamp;

use crate::chain_explanation::ChainExplanation;
use crate::excerpt::excerpt;
use crate::network::Network;

/// Refusals that are kept for each ID scope. Spec: DPS-EXPLAIN-1.
pub const KEPT_MAX: usize = 10_000;

/// How many of them may come from one address: a stranger must not push out what others need. Spec: DPS-EXPLAIN-1.
pub const KEPT_PER_ADDRESS_MAX: usize = 1_000;

/// Longest reason that is kept, in characters: room for what was expected and what came, whatever a peer sent. Spec: DPS-EXPLAIN-11.
const REASON_CHARACTERS_MAX: usize = 1_024;

/// ID scopes that are kept apart; refusals that name none, or an unknown one, share one more ring.
const SCOPES_MAX: usize = 1_000;

/// One refusal.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// When.
    pub at: Timestamp,
    /// What the device was told to look for; absent where it was told nothing.
    pub tracking_id: Option<TrackingId>,
    /// Counts up from the start of the process; none where a webhook was asked, which no connection waits for.
    pub connection: Option<u64>,
    /// Where it came from; none as above.
    pub peer: Option<SocketAddr>,
    /// How it came: `mqtt`, `mqtt-ws` or `https`; `broker` where a broker asked.
    pub transport: Option<&'static str>,
    /// As far as the device said it.
    pub id_scope: Option<IdScope>,
    /// As far as the device said it.
    pub registration_id: Option<RegistrationId>,
    /// Which step failed.
    pub step: Step,
    /// What the device was told, such as `401002` or `CONNACK 5`; empty where it was told nothing.
    pub told: String,
    /// What was wrong, with what was expected and what came.
    pub reason: String,
    /// What would have worked.
    pub advice: Option<String>,
    /// What the device presented, where that was certificates. Spec: DPS-EXPLAIN-12.
    pub chain: Option<Box<ChainExplanation>>,
}

impl Explanation {
    /// Whose share of the ring it takes; those without a peer share one.
    fn network(&self) -> Network {
        self.peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip()).into()
    }
}

/// The step at which a device failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The header in which a balancer names the client. Spec: DPS-LIMIT-15.
    ProxyHeader,
    /// The TLS handshake.
    TlsHandshake,
    /// CONNECT was refused.
    Connect,
    /// A register or a poll was refused.
    Request,
    /// The webhook that was to choose its hub. Spec: DPS-EXPLAIN-14.
    Allocation,
    /// A request to the service API was refused.
    ServiceRequest,
    /// The connection was closed for what the device sent, or did not send.
    Connection,
    /// The broker that is its hub asked about it, and was told no. Spec: DPS-BROKER-13.
    Broker,
}

impl Step {
    /// The word for people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProxyHeader => "proxy-header",
            Self::TlsHandshake => "tls-handshake",
            Self::Connect => "connect",
            Self::Request => "request",
            Self::Allocation => "allocation",
            Self::ServiceRequest => "service-request",
            Self::Connection => "connection",
            Self::Broker => "broker",
        }
    }
}

/// What to look for.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// This refusal.
    pub tracking_id: Option<String>,
    /// Those of this connection.
    pub connection: Option<u64>,
    /// Those of this device.
    pub registration_id: Option<RegistrationId>,
}

/// The refusals of this node, newest last. Spec: DPS-EXPLAIN-1.
#[derive(Debug, Default)]
pub struct Explanations {
    rings: Mutex<HashMap<Option<IdScope>, Ring>>,
}

#[derive(Debug, Default)]
struct Ring {
    /// By numbers that count up.
    kept: BTreeMap<u64, Arc<Explanation>>,
    next: u64,
    /// The numbers of those of each address, so that its oldest is found at once.
    per_address: HashMap<Network, VecDeque<u64>>,
}

impl Explanations {
    /// Keeps a refusal; the oldest goes when there are too many. `known` says whether an instance has its ID scope.
    pub fn keep(&self, mut explanation: Explanation, known: bool) {
        explanation.reason = excerpt(explanation.reason, REASON_CHARACTERS_MAX);
        let mut rings = self.lock();
        let mut scope = explanation.id_scope.clone().filter(|_| known);
        if rings.len() > SCOPES_MAX && !rings.contains_key(&scope) {
            scope = None;
        }
        rings.entry(scope).or_default().push(explanation);
    }

    /// The newest refusals that fit, newest first, at most `limit`. Spec: DPS-EXPLAIN-2.
    pub fn find(&self, wanted: &Wanted, limit: usize) -> Vec<Arc<Explanation>> {
        let mut found: Vec<_> = self
            .lock()
            .values()
            .flat_map(|ring| ring.kept.values().rev().filter(|kept| wanted.fits(kept)).take(limit))
            .cloned()
            .collect();
        found.sort_by_key(|explanation| std::cmp::Reverse(explanation.at));
        found.truncate(limit);
        found
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Option<IdScope>, Ring>> {
        // Nothing panics while it is held, and a ring is whole between its own operations.
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wanted {
    fn fits(&self, kept: &Explanation) -> bool {
        let tracking_id = self.tracking_id.as_deref().is_none_or(|wanted| {
            kept.tracking_id.is_some_and(|id| id.to_string().eq_ignore_ascii_case(wanted))
        });
        let connection = self.connection.is_none_or(|wanted| Some(wanted) == kept.connection);
        let device =
            self.registration_id.as_ref().is_none_or(|wanted| Some(wanted) == kept.registration_id.as_ref());
        tracking_id && connection && device
    }
}

impl Ring {
    fn push(&mut self, explanation: Explanation) {
        let address = explanation.network();
        if self.per_address.get(&address).is_some_and(|numbers| numbers.len() >= KEPT_PER_ADDRESS_MAX) {
            self.forget_oldest_of(address);
        } else if self.kept.len() >= KEPT_MAX
            && let Some((_, oldest)) = self.kept.first_key_value()
        {
            self.forget_oldest_of(oldest.network());
        }
        let number = self.next;
        self.next += 1;
        self.per_address.entry(address).or_default().push_back(number);
        self.kept.insert(number, Arc::new(explanation));
    }

    fn forget_oldest_of(&mut self, address: Network) {
        let Some(numbers) = self.per_address.get_mut(&address) else { return };
        if let Some(oldest) = numbers.pop_front() {
            self.kept.remove(&oldest);
        }
        if numbers.is_empty() {
            self.per_address.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(scope: &str, number: u64, address: &str) -> Explanation {
        Explanation {
            at: Timestamp::from_second(number.try_into().unwrap()).unwrap(),
            tracking_id: Some(TrackingId::from_random(u128::from(number).to_be_bytes())),
            connection: Some(number),
            peer: Some(format!("{address}:1").parse().unwrap()),
            transport: Some("mqtt"),
            id_scope: Some(scope.parse().unwrap()),
            registration_id: Some(format!("dev-{}", number % 10).parse().unwrap()),
            step: Step::Request,
            told: "401002".into(),
            reason: "x".into(),
            advice: None,
            chain: None,
        }
    }

    /// DPS-EXPLAIN-2
    #[test]
    fn a_refusal_is_found_by_tracking_id_connection_and_device() {
        let explanations = Explanations::default();
        for number in 0..30 {
            explanations.keep(refusal("0ne0", number, "127.0.0.1"), true);
        }
        let connections = |wanted: &Wanted, limit| -> Vec<_> {
            explanations.find(wanted, limit).iter().filter_map(|found| found.connection).collect()
        };
        let tracking_id = TrackingId::from_random(7u128.to_be_bytes()).to_string().to_uppercase();
        assert_eq!(connections(&Wanted { tracking_id: Some(tracking_id), ..Wanted::default() }, 9), [7]);
        assert_eq!(connections(&Wanted { connection: Some(8), ..Wanted::default() }, 9), [8]);
        let device = Wanted { registration_id: Some("DEV-3".parse().unwrap()), ..Wanted::default() };
        assert_eq!(connections(&device, 9), [23, 13, 3]);
        assert_eq!(connections(&Wanted::default(), 2), [29, 28]);
    }

    /// DPS-EXPLAIN-1
    #[test]
    fn one_address_pushes_out_its_own_refusals_and_no_others() {
        let explanations = Explanations::default();
        explanations.keep(refusal("0ne0", 0, "127.0.0.9"), true);
        for number in 1..=KEPT_MAX as u64 + 10 {
            explanations.keep(refusal("0ne0", number, "127.0.0.1"), true);
        }
        assert_eq!(explanations.find(&Wanted::default(), usize::MAX).len(), KEPT_PER_ADDRESS_MAX + 1);
        assert_eq!(explanations.find(&Wanted { connection: Some(0), ..Wanted::default() }, 9).len(), 1);
        let rings = explanations.lock();
        let ring = rings.values().next().unwrap();
        assert_eq!(ring.per_address.values().map(VecDeque::len).sum::<usize>(), KEPT_PER_ADDRESS_MAX + 1);
        assert_eq!(ring.kept.keys().nth(1), Some(&(KEPT_MAX as u64 + 11 - KEPT_PER_ADDRESS_MAX as u64)));
    }

    /// DPS-LIMIT-13
    #[test]
    fn a_host_with_many_ipv6_addresses_keeps_no_more_than_one_with_one() {
        let explanations = Explanations::default();
        for number in 0..KEPT_PER_ADDRESS_MAX as u64 + 10 {
            explanations.keep(refusal("0ne0", number, &format!("[2001:db8::{number:x}]")), true);
        }
        assert_eq!(explanations.find(&Wanted::default(), usize::MAX).len(), KEPT_PER_ADDRESS_MAX);
    }

    /// DPS-EXPLAIN-11
    #[test]
    fn a_reason_is_kept_at_a_bounded_length() {
        let explanations = Explanations::default();
        explanations
            .keep(Explanation { reason: "r".repeat(200_000), ..refusal("0ne0", 1, "127.0.0.1") }, true);
        let kept = explanations.find(&Wanted::default(), 1);
        assert_eq!(kept[0].reason.len(), REASON_CHARACTERS_MAX);
    }

    /// DPS-EXPLAIN-1
    #[test]
    fn the_ring_of_a_scope_is_bounded_and_unknown_scopes_share_one() {
        let explanations = Explanations::default();
        for number in 0..KEPT_MAX as u64 + 50 {
            let address = format!("10.0.{}.{}", number % 200, number % 50);
            explanations.keep(refusal("0ne0", number, &address), true);
        }
        let kept = explanations.find(&Wanted::default(), usize::MAX);
        assert_eq!(
            (kept.len(), kept.last().unwrap().connection),
            (KEPT_MAX, Some(50)),
            "the oldest went first"
        );
        {
            let rings = explanations.lock();
            let ring = rings.values().next().unwrap();
            assert_eq!(ring.per_address.values().map(VecDeque::len).sum::<usize>(), KEPT_MAX);
        }
        for number in 0..2_000u64 {
            explanations.keep(refusal(&format!("0ne{number}a"), number, "10.9.9.9"), false);
        }
        assert_eq!(explanations.lock().len(), 2, "strangers cannot make rings");
    }
}
