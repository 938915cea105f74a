//! Operations that wait for a webhook: claims, their leases, and what a claim that is not the newest may do. Spec: DPS-REG-32,
//! DPS-REG-33.

use std::collections::BTreeMap;
use std::sync::Arc;

use dps_core::ports::{ClaimOrder, Claimed, ClaimedOperation, Commit, Condition, RegistrationWrite, Store};
use dps_core::registration::{HubCredential, Registration, State, Substatus, Waiting};

use super::fixtures::*;
use super::on_every_store;

on_every_store!(
    what_is_due_is_claimed_once_the_longest_due_first,
    a_lease_ends_by_itself_and_the_next_claim_has_the_next_number,
    a_claim_that_is_not_the_newest_changes_nothing,
    a_claim_outlives_nothing_of_its_operation,
    a_webhook_host_that_is_full_keeps_no_other_waiting,
    those_of_all_id_scopes_are_claimed,
    many_hosts_are_gone_through_in_turn,
);

/// The record of a device that waits for this host, and is due at `time(number)`.
fn waits(id: &str, host: &str, number: u32) -> Registration {
    let waiting = waiting(HubCredential::EnrollmentKeys, host, number);
    Registration { state: State::Choosing { waiting: Box::new(waiting), last: None }, ..record(id, number) }
}

fn order(now: u32) -> ClaimOrder {
    ClaimOrder {
        now: time(now),
        lease_until: time(now + 30),
        limit: 100,
        per_peer_max: 100,
        in_flight: BTreeMap::new(),
        after_peer: None,
    }
}

async fn claim(store: &dyn Store, order: ClaimOrder) -> Claimed {
    store.claim_waiting(order).await.unwrap()
}

fn ids(claimed: &Claimed) -> Vec<&str> {
    claimed.operations.iter().map(|operation| operation.registration_id.as_str()).collect()
}

async fn waiting_of(store: &dyn Store, id: &str) -> Waiting {
    let record = store.look_up(&scope(), &device(id)).await.unwrap().registration.unwrap();
    let State::Choosing { waiting, .. } = record.state else { panic!("{record:?}") };
    *waiting
}

/// The write that ends a claimed operation.
fn ended(claimed: &ClaimedOperation, number: u32) -> RegistrationWrite {
    let id = claimed.registration_id.as_str();
    let state = State::Assigned { assignment: assignment(id), substatus: Substatus::InitialAssignment };
    RegistrationWrite {
        replaces: Some(claimed.etag.clone()),
        under_claim: Some(claimed.tries),
        ..first(Registration { state, ..record(id, number) })
    }
}

/// DPS-REG-32
async fn what_is_due_is_claimed_once_the_longest_due_first(store: Arc<dyn Store>) {
    assert_eq!(ids(&claim(&*store, order(99)).await), [""; 0]);
    for (id, number) in [("c", 3), ("a", 1), ("e", 50), ("b", 2), ("f", 60)] {
        committed(store.commit(first(waits(id, "hook.example", number))).await);
    }
    committed(store.commit(first(record("assigned", 4))).await);
    let some = claim(&*store, ClaimOrder { limit: 2, ..order(10) }).await;
    assert_eq!((ids(&some), some.next_due), (vec!["a", "b"], Some(time(50))));
    let first_of_them = &some.operations[0];
    assert_eq!((first_of_them.tries, &*first_of_them.webhook_host), (1, "hook.example"));
    assert_eq!((&first_of_them.etag, first_of_them.guid), (&etag("r1"), record("a", 1).operation.guid));
    let rest = claim(&*store, order(10)).await;
    assert_eq!((ids(&rest), rest.next_due), (vec!["c"], Some(time(40))), "the lease of the first ends");
    let nothing = claim(&*store, order(10)).await;
    assert_eq!((ids(&nothing), nothing.next_due), (vec![], Some(time(40))));
}

/// DPS-REG-32
async fn a_lease_ends_by_itself_and_the_next_claim_has_the_next_number(store: Arc<dyn Store>) {
    committed(store.commit(first(waits("a", "hook.example", 1))).await);
    let before = store.look_up(&scope(), &device("a")).await.unwrap().registration.unwrap();
    for (now, tries) in [(1, 1), (31, 2), (61, 3)] {
        let claimed = claim(&*store, order(now)).await;
        assert_eq!(claimed.operations[0].tries, tries);
        assert!(claim(&*store, order(now + 29)).await.operations.is_empty());
    }
    let after = store.look_up(&scope(), &device("a")).await.unwrap().registration.unwrap();
    assert_eq!((after.etag, after.updated_at), (before.etag, before.updated_at));
    let Waiting { tries, due_at, payload, .. } = waiting_of(&*store, "a").await;
    assert_eq!((tries, due_at), (3, time(91)));
    assert_eq!(&*payload.unwrap().0, r#"{"sent":1}"#);
}

/// DPS-REG-32
async fn a_claim_that_is_not_the_newest_changes_nothing(store: Arc<dyn Store>) {
    committed(store.commit(first(waits("a", "hook.example", 1))).await);
    let frozen = claim(&*store, order(1)).await.operations.remove(0);
    let newer = claim(&*store, order(31)).await.operations.remove(0);
    assert_eq!(store.postpone(&frozen, time(99)).await.unwrap(), Commit::Outdated);
    outdated(store.commit(ended(&frozen, 7)).await);
    assert_eq!(waiting_of(&*store, "a").await.due_at, time(61));
    assert_eq!(store.postpone(&newer, time(40)).await.unwrap(), Commit::Done);
    assert_eq!(waiting_of(&*store, "a").await.due_at, time(40));
    committed(store.commit(ended(&newer, 8)).await);
    assert_eq!(store.postpone(&newer, time(99)).await.unwrap(), Commit::Outdated);
    assert!(claim(&*store, order(999)).await.operations.is_empty(), "what has ended is never due");
}

/// DPS-REG-32
async fn a_claim_outlives_nothing_of_its_operation(store: Arc<dyn Store>) {
    committed(store.commit(first(waits("a", "hook.example", 1))).await);
    let claimed = claim(&*store, order(1)).await.operations.remove(0);
    // The record was deleted, and the device registers anew.
    store.delete_registration(&scope(), &device("a"), Condition::Always.into()).await.unwrap();
    assert_eq!(store.postpone(&claimed, time(99)).await.unwrap(), Commit::Outdated);
    committed(store.commit(first(waits("a", "hook.example", 2))).await);
    let anew = claim(&*store, order(2)).await.operations.remove(0);
    assert_eq!(anew.tries, claimed.tries);
    assert_eq!(store.postpone(&claimed, time(99)).await.unwrap(), Commit::Outdated);
    outdated(store.commit(ended(&claimed, 7)).await);
    // Ended in another way meanwhile: no claim is left.
    committed(store.commit(over(2, record("a", 3))).await);
    outdated(store.commit(RegistrationWrite { replaces: Some(etag("r3")), ..ended(&anew, 8) }).await);
}

/// DPS-REG-33
async fn a_webhook_host_that_is_full_keeps_no_other_waiting(store: Arc<dyn Store>) {
    for number in 1..=9 {
        committed(store.commit(first(waits(&format!("slow-{number}"), "slow.example", number))).await);
    }
    committed(store.commit(first(waits("quick", "quick.example", 20))).await);
    let bounded = ClaimOrder { limit: 5, per_peer_max: 3, ..order(30) };
    let claimed = claim(&*store, bounded.clone()).await;
    assert_eq!(ids(&claimed), ["slow-1", "slow-2", "slow-3", "quick"]);
    let in_flight = BTreeMap::from([("slow.example".into(), 2)]);
    let claimed = claim(&*store, ClaimOrder { in_flight, ..bounded.clone() }).await;
    assert_eq!(ids(&claimed), ["slow-4"]);
    let in_flight = BTreeMap::from([("slow.example".into(), 3)]);
    assert_eq!(ids(&claim(&*store, ClaimOrder { in_flight, ..bounded }).await), [""; 0]);
}

/// DPS-STORE-1
async fn those_of_all_id_scopes_are_claimed(store: Arc<dyn Store>) {
    committed(store.commit(first(waits("a", "hook.example", 2))).await);
    let theirs = Registration { id_scope: other_scope(), ..waits("a", "hook.example", 1) };
    committed(store.commit(first(theirs)).await);
    let claimed = claim(&*store, order(9)).await;
    let scopes: Vec<_> = claimed.operations.iter().map(|operation| operation.id_scope.clone()).collect();
    assert_eq!(scopes, [other_scope(), scope()]);
    assert_eq!(store.postpone(&claimed.operations[0], time(50)).await.unwrap(), Commit::Done);
    assert_eq!(waiting_of(&*store, "a").await.due_at, time(39));
}

/// DPS-REG-33
async fn many_hosts_are_gone_through_in_turn(store: Arc<dyn Store>) {
    let hosts = 2 * Claimed::PEERS_MAX as u32 + 3;
    for number in 0..hosts {
        let record = waits(&format!("d-{number}"), &format!("hook-{number:04}.example"), 1 + number % 2);
        committed(store.commit(first(record)).await);
    }
    let (mut after_peer, mut claimed, mut claims) = (None, 0, 0);
    loop {
        let part = claim(&*store, ClaimOrder { limit: 1_000, after_peer, ..order(1) }).await;
        claimed += part.operations.len() as u32;
        claims += 1;
        assert!(part.operations.iter().all(|operation| operation.tries == 1));
        assert_eq!(part.next_due, Some(time(2)));
        after_peer = part.peers_after;
        if after_peer.is_none() {
            break;
        }
    }
    assert_eq!(claimed, hosts.div_ceil(2));
    assert!(claims <= 3, "{claims}");
}
