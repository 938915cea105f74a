//! Operations at hubs outside whose worker was cut off, or gave a call up. Spec: DPS-REG-44.

use std::sync::Arc;

use dps_core::ports::{ClaimedOperation, Commit, Condition, Postponement, Store, WaitingFor};
use dps_core::registration::{HubCredential, Placing, Registration, State};
use jiff::Timestamp;

use super::fixtures::*;
use super::waiting::{Line, ended, order};

super::on_every_store!(
    an_operation_that_was_given_back_is_not_taken_for_one_that_was_left,
    an_operation_that_a_worker_left_may_have_an_unanswered_call,
    a_fresh_write_ends_what_a_worker_left,
    the_latest_unanswered_call_is_remembered,
    a_frozen_worker_does_not_give_back_what_another_has,
    a_webhook_leaves_no_unanswered_call,
);

fn on_the_way(number: u32) -> Registration {
    let placing = Box::new(placing("a", "0ne1/hub.localhost", number));
    Registration { state: State::Assigning { placing, last: None }, ..record("a", number) }
}

async fn claim(store: &dyn Store, now: u32) -> ClaimedOperation {
    let mut claimed = Line { store, whom: WaitingFor::Hub }.claim(order(now)).await.operations;
    assert_eq!(claimed.len(), 1, "{now}");
    claimed.remove(0)
}

async fn placing_of(store: &dyn Store) -> Placing {
    let record = store.look_up(&scope(), &device("a")).await.unwrap().registration.unwrap();
    let State::Assigning { placing, .. } = record.state else { panic!("{record:?}") };
    *placing
}

async fn unanswered_at(store: &dyn Store) -> Option<Timestamp> {
    placing_of(store).await.unanswered_at
}

async fn give_back(store: &dyn Store, claimed: &ClaimedOperation, until: u32, unanswered_at: Option<u32>) {
    let postponement = Postponement { until: time(until), unanswered_at: unanswered_at.map(time) };
    assert_eq!(store.postpone(claimed, postponement).await.unwrap(), Commit::Done);
}

/// DPS-REG-44
async fn an_operation_that_was_given_back_is_not_taken_for_one_that_was_left(store: Arc<dyn Store>) {
    committed(store.commit(first(on_the_way(1))).await);
    for now in [1, 11, 21] {
        let claimed = claim(&*store, now).await;
        assert_eq!(unanswered_at(&*store).await, None, "{now}");
        give_back(&*store, &claimed, now + 10, None).await;
    }
    let expected = Placing { tries: 3, due_at: time(31), ..placing("a", "0ne1/hub.localhost", 1) };
    assert_eq!(placing_of(&*store).await, expected);
}

/// DPS-REG-44, DPS-STORE-13
async fn an_operation_that_a_worker_left_may_have_an_unanswered_call(store: Arc<dyn Store>) {
    committed(store.commit(first(on_the_way(1))).await);
    claim(&*store, 1).await;
    let second = claim(&*store, 37).await;
    assert_eq!(unanswered_at(&*store).await, Some(time(37)));
    // Given back, it stays known, and is not taken for left once more.
    give_back(&*store, &second, 40, None).await;
    let third = claim(&*store, 41).await;
    assert_eq!((third.tries, unanswered_at(&*store).await), (3, Some(time(37))));
    claim(&*store, 71).await;
    assert_eq!(unanswered_at(&*store).await, Some(time(71)));
}

/// DPS-REG-44, DPS-STORE-13
async fn a_fresh_write_ends_what_a_worker_left(store: Arc<dyn Store>) {
    committed(store.commit(first(on_the_way(1))).await);
    claim(&*store, 1).await;
    committed(store.commit(over(1, on_the_way(2))).await);
    claim(&*store, 40).await;
    assert_eq!(unanswered_at(&*store).await, None, "the claim was of another write");
    store.delete_registration(&scope(), &device("a"), Condition::Always.into()).await.unwrap();
    committed(store.commit(first(on_the_way(3))).await);
    claim(&*store, 99).await;
    assert_eq!(unanswered_at(&*store).await, None, "the claim was of another record");
}

/// DPS-REG-44
async fn the_latest_unanswered_call_is_remembered(store: Arc<dyn Store>) {
    committed(store.commit(first(on_the_way(1))).await);
    for (now, gave_up, expected) in [(1, Some(5), 5), (11, None, 5), (21, Some(25), 25), (31, Some(7), 25)] {
        let claimed = claim(&*store, now).await;
        give_back(&*store, &claimed, now + 10, gave_up).await;
        assert_eq!(unanswered_at(&*store).await, Some(time(expected)), "{now}");
    }
}

/// DPS-REG-32, DPS-REG-44
async fn a_frozen_worker_does_not_give_back_what_another_has(store: Arc<dyn Store>) {
    committed(store.commit(first(on_the_way(1))).await);
    let frozen = claim(&*store, 1).await;
    claim(&*store, 31).await;
    let before = placing_of(&*store).await;
    let late = Postponement { until: time(50), unanswered_at: Some(time(49)) };
    assert_eq!(store.postpone(&frozen, late).await.unwrap(), Commit::Outdated);
    assert_eq!(placing_of(&*store).await, before);
    let third = claim(&*store, 61).await;
    assert_eq!(unanswered_at(&*store).await, Some(time(61)), "the second lease was not given back");
    committed(store.commit(ended(&third, 9)).await);
}

/// DPS-REG-44: asking one twice makes no device.
async fn a_webhook_leaves_no_unanswered_call(store: Arc<dyn Store>) {
    let waiting = Box::new(waiting(HubCredential::EnrollmentKeys, "hook.example", 1));
    let chooses = Registration { state: State::Choosing { waiting, last: None }, ..record("a", 1) };
    committed(store.commit(first(chooses)).await);
    let line = Line { store: &*store, whom: WaitingFor::Webhook };
    line.claim(order(1)).await;
    let second = line.claim(order(31)).await.operations.remove(0);
    give_back(&*store, &second, 40, Some(33)).await;
    committed(store.commit(over(1, on_the_way(2))).await);
    claim(&*store, 40).await;
    assert_eq!(unanswered_at(&*store).await, None);
}
