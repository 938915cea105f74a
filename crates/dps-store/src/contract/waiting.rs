//! Operations that wait for a webhook or for a hub outside: claims, their leases, and what a claim that is not the newest may do.
//! Spec: DPS-REG-32, DPS-REG-33, DPS-REG-40.

use std::collections::BTreeMap;
use std::sync::Arc;

use dps_core::ports::{
    ClaimOrder, Claimed, ClaimedOperation, Commit, Condition, Postponement, RegistrationWrite, Store,
    WaitingFor,
};
use dps_core::registration::{HubCredential, JsonText, Registration, State, Substatus};
use dps_proto::ids::IdScope;
use jiff::Timestamp;

use super::fixtures::*;
use super::on_every_store;

on_every_store!(
    what_is_due_is_claimed_once_the_longest_due_first,
    a_lease_ends_by_itself_and_the_next_claim_has_the_next_number,
    a_claim_that_is_not_the_newest_changes_nothing,
    a_claim_outlives_nothing_of_its_operation,
    a_peer_that_is_full_keeps_no_other_waiting,
    those_of_all_id_scopes_are_claimed,
    many_peers_are_gone_through_in_turn,
    what_waits_for_a_webhook_is_no_work_for_hubs,
    what_waits_for_nobody_by_name_is_claimed,
);

/// A test runs on both kinds in turn, in one store: what is left of the first is nothing to the second.
const BOTH: [WaitingFor; 2] = [WaitingFor::Webhook, WaitingFor::Hub];

/// What waits for one kind of peer, in an ID scope of its own.
pub(super) struct Line<'s> {
    pub(super) store: &'s dyn Store,
    pub(super) whom: WaitingFor,
}

impl Line<'_> {
    fn scope(&self) -> IdScope {
        match self.whom {
            WaitingFor::Webhook => scope(),
            WaitingFor::Hub => other_scope(),
        }
    }

    /// The record of a device that waits for this peer, and is due at `time(number)`.
    fn waits(&self, id: &str, peer: &str, number: u32) -> Registration {
        let state = match self.whom {
            WaitingFor::Webhook => {
                let waiting = waiting(HubCredential::EnrollmentKeys, peer, number);
                State::Choosing { waiting: Box::new(waiting), last: None }
            }
            WaitingFor::Hub => State::Assigning { placing: Box::new(placing(id, peer, number)), last: None },
        };
        Registration { id_scope: self.scope(), state, ..record(id, number) }
    }

    async fn put(&self, id: &str, peer: &str, number: u32) {
        committed(self.store.commit(first(self.waits(id, peer, number))).await);
    }

    pub(super) async fn claim(&self, order: ClaimOrder) -> Claimed {
        self.store.claim_waiting(self.whom, order).await.unwrap()
    }

    async fn postpone(&self, claimed: &ClaimedOperation, number: u32) -> Commit {
        self.store.postpone(claimed, until(number)).await.unwrap()
    }

    async fn record(&self, id: &str) -> Registration {
        self.store.look_up(&self.scope(), &device(id)).await.unwrap().registration.unwrap()
    }

    /// How often it was claimed, and when it is due.
    async fn standing(&self, id: &str) -> (u32, Timestamp) {
        match self.record(id).await.state {
            State::Choosing { waiting, .. } => (waiting.tries, waiting.due_at),
            State::Assigning { placing, .. } => (placing.tries, placing.due_at),
            state => panic!("{state:?}"),
        }
    }
}

pub(super) fn order(now: u32) -> ClaimOrder {
    ClaimOrder {
        now: time(now),
        lease_until: time(now + 30),
        limit: 100,
        per_peer_max: 100,
        in_flight: BTreeMap::new(),
        after_peer: None,
    }
}

fn until(number: u32) -> Postponement {
    Postponement { until: time(number), unanswered_at: None }
}

fn ids(claimed: &Claimed) -> Vec<&str> {
    claimed.operations.iter().map(|operation| operation.registration_id.as_str()).collect()
}

/// The write that ends a claimed operation.
pub(super) fn ended(claimed: &ClaimedOperation, number: u32) -> RegistrationWrite {
    let id = claimed.registration_id.as_str();
    let state = State::Assigned { assignment: assignment(id), substatus: Substatus::InitialAssignment };
    RegistrationWrite {
        replaces: Some(claimed.etag.clone()),
        under_claim: Some(claimed.tries),
        ..first(Registration { id_scope: claimed.id_scope.clone(), state, ..record(id, number) })
    }
}

/// DPS-REG-32
async fn what_is_due_is_claimed_once_the_longest_due_first(store: Arc<dyn Store>) {
    for whom in BOTH {
        let line = Line { store: &*store, whom };
        assert_eq!(ids(&line.claim(order(99)).await), [""; 0]);
        for (id, number) in [("c", 3), ("a", 1), ("e", 50), ("b", 2), ("f", 60)] {
            line.put(id, "peer.example", number).await;
        }
        let assigned = Registration { id_scope: line.scope(), ..record("assigned", 4) };
        committed(store.commit(first(assigned)).await);
        let some = line.claim(ClaimOrder { limit: 2, ..order(10) }).await;
        assert_eq!((ids(&some), some.next_due), (vec!["a", "b"], Some(time(50))));
        let expected = ClaimedOperation {
            id_scope: line.scope(),
            registration_id: device("a"),
            guid: record("a", 1).operation.guid,
            etag: etag("r1"),
            tries: 1,
            peer: "peer.example".into(),
            lease_until: time(40),
        };
        assert_eq!(some.operations[0], expected);
        let rest = line.claim(order(10)).await;
        assert_eq!((ids(&rest), rest.next_due), (vec!["c"], Some(time(40))), "the lease of the first ends");
        let nothing = line.claim(order(10)).await;
        assert_eq!((ids(&nothing), nothing.next_due), (vec![], Some(time(40))));
    }
}

/// DPS-REG-32
async fn a_lease_ends_by_itself_and_the_next_claim_has_the_next_number(store: Arc<dyn Store>) {
    for whom in BOTH {
        let line = Line { store: &*store, whom };
        line.put("a", "peer.example", 1).await;
        let before = line.record("a").await;
        for (now, tries) in [(1, 1), (31, 2), (61, 3)] {
            let claimed = line.claim(order(now)).await;
            assert_eq!(claimed.operations[0].tries, tries);
            assert!(line.claim(order(now + 29)).await.operations.is_empty());
        }
        let mut after = line.record("a").await;
        assert_eq!(line.standing("a").await, (3, time(91)));
        match &mut after.state {
            State::Choosing { waiting, .. } => {
                assert_eq!(waiting.payload, Some(JsonText(r#"{"sent":1}"#.into())));
                (waiting.tries, waiting.due_at) = (0, time(1));
            }
            State::Assigning { placing, .. } => {
                (placing.tries, placing.due_at, placing.unanswered_at) = (0, time(1), None);
            }
            state => panic!("{state:?}"),
        }
        assert_eq!(after, before, "all else is as it was");
    }
}

/// DPS-REG-32
async fn a_claim_that_is_not_the_newest_changes_nothing(store: Arc<dyn Store>) {
    for whom in BOTH {
        let line = Line { store: &*store, whom };
        line.put("a", "peer.example", 1).await;
        let frozen = line.claim(order(1)).await.operations.remove(0);
        let newer = line.claim(order(31)).await.operations.remove(0);
        let before = line.record("a").await;
        assert_eq!(line.postpone(&frozen, 99).await, Commit::Outdated);
        outdated(store.commit(ended(&frozen, 7)).await);
        assert_eq!(line.record("a").await, before);
        assert_eq!(line.standing("a").await, (2, time(61)));
        assert_eq!(line.postpone(&newer, 40).await, Commit::Done);
        assert_eq!(line.standing("a").await, (2, time(40)));
        committed(store.commit(ended(&newer, 8)).await);
        assert_eq!(line.postpone(&newer, 99).await, Commit::Outdated);
        assert!(line.claim(order(999)).await.operations.is_empty(), "what has ended is never due");
    }
}

/// DPS-REG-32
async fn a_claim_outlives_nothing_of_its_operation(store: Arc<dyn Store>) {
    for whom in BOTH {
        let line = Line { store: &*store, whom };
        line.put("a", "peer.example", 1).await;
        let claimed = line.claim(order(1)).await.operations.remove(0);
        // The record was deleted, and the device registers anew.
        let always = Condition::Always.into();
        store.delete_registration(&line.scope(), &device("a"), always).await.unwrap();
        assert_eq!(line.postpone(&claimed, 99).await, Commit::Outdated);
        line.put("a", "peer.example", 2).await;
        let anew = line.claim(order(2)).await.operations.remove(0);
        assert_eq!(anew.tries, claimed.tries);
        assert_eq!(line.postpone(&claimed, 99).await, Commit::Outdated);
        outdated(store.commit(ended(&claimed, 7)).await);
        // Ended in another way meanwhile: no claim is left.
        let otherwise = Registration { id_scope: line.scope(), ..record("a", 3) };
        committed(store.commit(over(2, otherwise)).await);
        outdated(store.commit(RegistrationWrite { replaces: Some(etag("r3")), ..ended(&anew, 8) }).await);
    }
}

/// DPS-REG-33, DPS-REG-40
async fn a_peer_that_is_full_keeps_no_other_waiting(store: Arc<dyn Store>) {
    for whom in BOTH {
        let line = Line { store: &*store, whom };
        for number in 1..=9 {
            line.put(&format!("slow-{number}"), "slow.example", number).await;
        }
        line.put("quick", "quick.example", 20).await;
        let bounded = ClaimOrder { limit: 5, per_peer_max: 3, ..order(30) };
        let claimed = line.claim(bounded.clone()).await;
        assert_eq!(ids(&claimed), ["slow-1", "slow-2", "slow-3", "quick"]);
        let in_flight = BTreeMap::from([("slow.example".into(), 2)]);
        let claimed = line.claim(ClaimOrder { in_flight, ..bounded.clone() }).await;
        assert_eq!(ids(&claimed), ["slow-4"]);
        let in_flight = BTreeMap::from([("slow.example".into(), 3)]);
        assert_eq!(ids(&line.claim(ClaimOrder { in_flight, ..bounded }).await), [""; 0]);
    }
}

/// DPS-STORE-1
async fn those_of_all_id_scopes_are_claimed(store: Arc<dyn Store>) {
    for (whom, id) in [(WaitingFor::Webhook, "a"), (WaitingFor::Hub, "b")] {
        let line = Line { store: &*store, whom };
        for (id_scope, number) in [(scope(), 2), (other_scope(), 1)] {
            let waits = Registration { id_scope, ..line.waits(id, "peer.example", number) };
            committed(store.commit(first(waits)).await);
        }
        let claimed = line.claim(order(9)).await;
        let scopes: Vec<_> = claimed.operations.iter().map(|operation| operation.id_scope.clone()).collect();
        assert_eq!(scopes, [other_scope(), scope()]);
        let ours = usize::from(line.scope() == scope());
        assert_eq!(line.postpone(&claimed.operations[1 - ours], 50).await, Commit::Done);
        assert_eq!(line.standing(id).await, (1, time(39)), "the other one was postponed");
    }
}

/// DPS-REG-33
async fn many_peers_are_gone_through_in_turn(store: Arc<dyn Store>) {
    for whom in BOTH {
        let line = Line { store: &*store, whom };
        let peers = 2 * Claimed::PEERS_MAX as u32 + 3;
        for number in 0..peers {
            line.put(&format!("d-{number}"), &format!("peer-{number:04}.example"), 1 + number % 2).await;
        }
        let (mut after_peer, mut claimed, mut claims) = (None, 0, 0);
        loop {
            let part = line.claim(ClaimOrder { limit: 1_000, after_peer, ..order(1) }).await;
            claimed += part.operations.len() as u32;
            claims += 1;
            assert!(part.operations.iter().all(|operation| operation.tries == 1));
            assert_eq!(part.next_due, Some(time(2)));
            after_peer = part.peers_after;
            if after_peer.is_none() {
                break;
            }
        }
        assert_eq!(claimed, peers.div_ceil(2));
        assert!(claims <= 3, "{claims}");
    }
}

/// DPS-REG-40: not even where both ask the same name.
async fn what_waits_for_a_webhook_is_no_work_for_hubs(store: Arc<dyn Store>) {
    let [webhook, hub] = BOTH.map(|whom| Line { store: &*store, whom });
    webhook.put("chooses", "same.example", 1).await;
    hub.put("goes", "same.example", 2).await;
    assert_eq!(ids(&hub.claim(order(9)).await), ["goes"]);
    let claimed = webhook.claim(order(9)).await;
    assert_eq!((ids(&claimed), claimed.next_due), (vec!["chooses"], None));
    // The webhook has chosen: the same operation waits for a hub from then on.
    let goes_on = Registration { id_scope: scope(), ..hub.waits("chooses", "same.example", 3) };
    let write = RegistrationWrite { under_claim: Some(1), ..over(1, goes_on) };
    committed(store.commit(write).await);
    assert_eq!(ids(&webhook.claim(order(999)).await), [""; 0]);
    let claimed = hub.claim(order(9)).await;
    assert_eq!(ids(&claimed), ["chooses"]);
    assert_eq!(claimed.operations[0].tries, 1, "counted anew");
}

/// DPS-REG-32: an entry that a webhook is to choose for, and that names none, comes to an end only under a claim.
async fn what_waits_for_nobody_by_name_is_claimed(store: Arc<dyn Store>) {
    for whom in BOTH {
        let line = Line { store: &*store, whom };
        line.put("nobody", "", 1).await;
        line.put("somebody", "peer.example", 2).await;
        assert_eq!(ids(&line.claim(order(9)).await), ["nobody", "somebody"]);
        let after_nobody = ClaimOrder { after_peer: Some("".into()), ..order(99) };
        assert_eq!(ids(&line.claim(after_nobody).await), ["somebody"]);
        let after_somebody = ClaimOrder { after_peer: Some("peer.example".into()), ..order(999) };
        assert_eq!(ids(&line.claim(after_somebody).await), [""; 0]);
    }
}
