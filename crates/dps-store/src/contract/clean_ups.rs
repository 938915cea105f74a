//! Devices that are to be gone from hubs outside. Spec: DPS-REG-43, DPS-REG-44.

use std::collections::BTreeMap;
use std::sync::Arc;

use dps_core::ports::{
    ClaimOrder, Claimed, CleanUp, CleanUpOutcome, Commit, Condition, HubDevice, HubDeviceStatus, HubWrite,
    RegistrationWrite, Store,
};
use dps_core::registration::{Assignment, Registration, State};
use uuid::Uuid;

use super::fixtures::*;
use super::waiting::order;

super::on_every_store!(
    a_clean_up_is_ordered_in_the_commit_of_its_record_or_not_at_all,
    the_writes_of_a_commit_are_done_in_their_order,
    a_device_that_was_disabled_where_it_comes_from_is_put_so,
    a_clean_up_is_claimed_once_and_again_when_its_lease_ends,
    a_clean_up_that_is_settled_is_gone_or_due_again,
    a_claim_that_is_not_the_newest_settles_nothing,
    a_device_that_is_to_stay_is_not_removed_by_whoever_has_claimed_it,
    a_clean_up_that_replaces_another_is_another_one,
    what_was_to_be_confirmed_still_is_when_it_is_replaced,
    a_stray_is_cleaned_up_unless_its_record_has_it_there,
    a_hub_that_is_full_keeps_no_other_waiting,
    many_hubs_are_gone_through_in_turn,
    clean_ups_of_all_id_scopes_are_claimed_and_never_meet,
    clean_ups_are_listed_in_the_order_of_hub_and_device,
);

async fn listed(store: &dyn Store) -> Vec<CleanUp> {
    store.clean_ups(&scope(), None, 10_000).await.unwrap()
}

async fn claim(store: &dyn Store, order: ClaimOrder) -> Claimed<CleanUp> {
    store.claim_clean_ups(order).await.unwrap()
}

async fn claim_one(store: &dyn Store, now: u32) -> CleanUp {
    let mut claimed = claim(store, order(now)).await.operations;
    assert_eq!(claimed.len(), 1, "{now}");
    claimed.remove(0)
}

async fn stands(store: &dyn Store, claimed: &CleanUp) -> bool {
    store.clean_up_stands(claimed).await.unwrap()
}

async fn settle(store: &dyn Store, claimed: &CleanUp, outcome: CleanUpOutcome) -> Commit {
    store.settle_clean_up(claimed, outcome).await.unwrap()
}

fn again(number: u32, problem: &str) -> CleanUpOutcome {
    CleanUpOutcome::Again { until: time(number), problem: problem.into() }
}

fn ids(claimed: &Claimed<CleanUp>) -> Vec<&str> {
    claimed.operations.iter().map(|clean_up| clean_up.device_id.as_str()).collect()
}

fn keep(id: &str, at: &str) -> HubWrite {
    HubWrite::Keep { id_scope: scope(), hub: hub(at), device_id: device_id(id) }
}

fn gone(clean_up: CleanUp) -> HubWrite {
    HubWrite::CleanUp(Box::new(clean_up))
}

/// Writes the record `Device-1`, whatever is there, and this along.
async fn write(store: &dyn Store, hub_writes: Vec<HubWrite>) {
    let stored = store.look_up(&scope(), &device("Device-1")).await.unwrap().registration;
    let replaces = stored.map(|stored| stored.etag);
    committed(store.commit(RegistrationWrite { replaces, hub_writes, ..first(record("Device-1", 1)) }).await);
}

#[track_caller]
fn same<const N: usize>(found: &[CleanUp], expected: [CleanUp; N]) {
    // Equality ignores the case of names, the text does not; the ID scope's spelling is the caller's.
    let shown = |clean_ups: &[CleanUp]| {
        let shown = clean_ups.iter().map(|of| format!("{:?}", CleanUp { id_scope: scope(), ..of.clone() }));
        shown.collect::<Vec<_>>()
    };
    assert_eq!(shown(found), shown(&expected));
    assert_eq!(found, expected);
}

/// DPS-REG-43, DPS-STORE-5
async fn a_clean_up_is_ordered_in_the_commit_of_its_record_or_not_at_all(store: Arc<dyn Store>) {
    let full = CleanUp {
        confirm_at: Some(time(4_000)),
        tries: 3,
        due_at: time(77),
        problem: Some("the hub was asked too often: ä".into()),
        ..clean_up("Press#1", "Old.Example", 5)
    };
    let mut late = over(9, record("Device-1", 2));
    late.hub_writes = vec![gone(full.clone())];
    outdated(store.commit(late).await);
    assert!(listed(&*store).await.is_empty());
    write(&*store, vec![gone(full.clone())]).await;
    same(&listed(&*store).await, [full.clone()]);
    // Nor is it called off by a write that did not happen.
    let mut late = over(9, record("Device-1", 2));
    late.hub_writes = vec![keep("Press#1", "old.example")];
    outdated(store.commit(late).await);
    same(&listed(&*store).await, [full]);
    // It outlives the record.
    store.delete_registration(&scope(), &device("Device-1"), Condition::Always.into()).await.unwrap();
    assert_eq!(listed(&*store).await.len(), 1);
}

/// DPS-REG-23, DPS-REG-43
async fn the_writes_of_a_commit_are_done_in_their_order(store: Arc<dyn Store>) {
    let first_of_them = clean_up("d", "old.example", 1);
    write(&*store, vec![gone(first_of_them.clone()), keep("d", "OLD.example")]).await;
    assert!(listed(&*store).await.is_empty());
    write(&*store, vec![keep("d", "old.example"), gone(first_of_them.clone())]).await;
    same(&listed(&*store).await, [first_of_them]);
    // Of another device, or at another hub: nothing is called off.
    write(&*store, vec![keep("D", "old.example"), keep("d", "other.example")]).await;
    assert_eq!(listed(&*store).await.len(), 1);
}

/// DPS-REG-42, DPS-BROKER-12
async fn a_device_that_was_disabled_where_it_comes_from_is_put_so(store: Arc<dyn Store>) {
    let at = hub("Hub.Localhost");
    let disable =
        |id: &str| HubWrite::DisableDevice { id_scope: scope(), hub: at.clone(), device_id: device_id(id) };
    let put = |id: &str| HubWrite::PutDevice(Box::new(hub_device(id, 1)));
    let status = async |id: &str| {
        let found = store.hub_device(&scope(), &at, &device_id(id)).await.unwrap();
        found.map(|stored| stored.status)
    };
    write(&*store, vec![put("a"), disable("a"), put("b"), disable("nobody")]).await;
    assert_eq!(status("a").await, Some(HubDeviceStatus::Disabled));
    assert_eq!(status("b").await, Some(HubDeviceStatus::Enabled));
    assert_eq!(status("nobody").await, None);
    let theirs = HubDevice { id_scope: other_scope(), ..hub_device("b", 1) };
    let their_record = Registration { id_scope: other_scope(), ..record("b", 1) };
    committed(store.commit(with_devices(first(their_record), vec![theirs])).await);
    write(&*store, vec![disable("b")]).await;
    assert_eq!(status("b").await, Some(HubDeviceStatus::Disabled));
    let theirs = store.hub_device(&other_scope(), &at, &device_id("b")).await.unwrap().unwrap();
    assert_eq!(theirs.status, HubDeviceStatus::Enabled);
}

/// DPS-REG-43
async fn a_clean_up_is_claimed_once_and_again_when_its_lease_ends(store: Arc<dyn Store>) {
    let ordered =
        ["b", "a", "c", "d"].map(|id| (id, if id == "d" { 50 } else { u32::from(id.as_bytes()[0]) - 96 }));
    write(&*store, ordered.map(|(id, number)| gone(clean_up(id, "Old.Example", number))).into()).await;
    let some = claim(&*store, ClaimOrder { limit: 2, ..order(10) }).await;
    assert_eq!((ids(&some), some.next_due), (vec!["a", "b"], Some(time(50))));
    same(&some.operations[..1], [CleanUp { tries: 1, due_at: time(40), ..clean_up("a", "Old.Example", 1) }]);
    assert!(stands(&*store, &some.operations[0]).await);
    let rest = claim(&*store, order(10)).await;
    assert_eq!((ids(&rest), rest.next_due), (vec!["c"], Some(time(40))));
    let mut anew = claim(&*store, order(40)).await;
    // They have become due together.
    anew.operations.sort_by(|a, b| a.device_id.cmp(&b.device_id));
    assert_eq!(ids(&anew), ["a", "b", "c"]);
    assert!(anew.operations.iter().all(|clean_up| clean_up.tries == 2 && clean_up.due_at == time(70)));
    assert!(stands(&*store, &anew.operations[0]).await);
    assert!(!stands(&*store, &some.operations[0]).await);
}

/// DPS-REG-43
async fn a_clean_up_that_is_settled_is_gone_or_due_again(store: Arc<dyn Store>) {
    write(&*store, vec![gone(clean_up("d", "old.example", 1)), gone(clean_up("D", "old.example", 500))])
        .await;
    let claimed = claim_one(&*store, 1).await;
    assert_eq!(settle(&*store, &claimed, again(9, "the hub did not answer")).await, Commit::Done);
    let expected =
        CleanUp { due_at: time(9), problem: Some("the hub did not answer".into()), ..claimed.clone() };
    same(&listed(&*store).await[1..], [expected]);
    assert!(claim(&*store, order(8)).await.operations.is_empty());
    let claimed = claim_one(&*store, 9).await;
    assert_eq!((claimed.tries, claimed.problem.as_deref()), (2, Some("the hub did not answer")));
    assert_eq!(settle(&*store, &claimed, CleanUpOutcome::Done).await, Commit::Done);
    assert_eq!(settle(&*store, &claimed, CleanUpOutcome::Done).await, Commit::Outdated);
    assert_eq!(settle(&*store, &claimed, again(10, "too late")).await, Commit::Outdated);
    assert!(!stands(&*store, &claimed).await);
    same(&listed(&*store).await, [clean_up("D", "old.example", 500)]);
}

/// DPS-REG-43, DPS-REG-44
async fn a_claim_that_is_not_the_newest_settles_nothing(store: Arc<dyn Store>) {
    write(&*store, vec![gone(clean_up("d", "old.example", 1))]).await;
    let frozen = claim_one(&*store, 1).await;
    let newer = claim_one(&*store, 31).await;
    for outcome in [CleanUpOutcome::Done, again(99, "frozen")] {
        assert_eq!(settle(&*store, &frozen, outcome).await, Commit::Outdated);
        same(&listed(&*store).await, [newer.clone()]);
    }
    for not_it in [
        CleanUp { guid: Uuid::from_u128(2), ..newer.clone() },
        CleanUp { tries: 3, ..newer.clone() },
        CleanUp { hub: hub("other.example"), ..newer.clone() },
        CleanUp { device_id: device_id("D"), ..newer.clone() },
        CleanUp { id_scope: other_scope(), ..newer.clone() },
    ] {
        assert!(!stands(&*store, &not_it).await, "{not_it:?}");
        assert_eq!(settle(&*store, &not_it, CleanUpOutcome::Done).await, Commit::Outdated, "{not_it:?}");
    }
    let shouted = CleanUp { hub: hub("OLD.example"), ..newer };
    assert!(stands(&*store, &shouted).await);
    assert_eq!(settle(&*store, &shouted, CleanUpOutcome::Done).await, Commit::Done);
}

/// DPS-REG-43
async fn a_device_that_is_to_stay_is_not_removed_by_whoever_has_claimed_it(store: Arc<dyn Store>) {
    write(&*store, vec![gone(clean_up("d", "old.example", 1))]).await;
    let claimed = claim_one(&*store, 1).await;
    assert!(stands(&*store, &claimed).await);
    write(&*store, vec![keep("d", "Old.Example")]).await;
    assert!(!stands(&*store, &claimed).await);
    assert_eq!(settle(&*store, &claimed, again(9, "late")).await, Commit::Outdated);
    assert!(listed(&*store).await.is_empty());
    assert!(claim(&*store, order(999)).await.operations.is_empty());
}

/// DPS-REG-43
async fn a_clean_up_that_replaces_another_is_another_one(store: Arc<dyn Store>) {
    write(&*store, vec![gone(clean_up("d", "old.example", 1))]).await;
    let claimed = claim_one(&*store, 1).await;
    settle(&*store, &claimed, again(2, "of the first")).await;
    let claimed = claim_one(&*store, 2).await;
    let newer = CleanUp { registration_id: device("Device-2"), ..clean_up("d", "OLD.Example", 3) };
    write(&*store, vec![gone(newer.clone())]).await;
    same(&listed(&*store).await, [newer.clone()]);
    assert!(!stands(&*store, &claimed).await);
    assert_eq!(settle(&*store, &claimed, CleanUpOutcome::Done).await, Commit::Outdated);
    // The number is that of the first one's claim, the clean-up is not.
    let mut same_number = claim_one(&*store, 3).await;
    assert_eq!((same_number.guid, same_number.tries), (newer.guid, 1));
    same_number.guid = claimed.guid;
    assert!(!stands(&*store, &same_number).await);
}

/// DPS-STORE-12, DPS-REG-44
async fn what_was_to_be_confirmed_still_is_when_it_is_replaced(store: Arc<dyn Store>) {
    let confirmed = |number: u32, at: Option<u32>| CleanUp {
        confirm_at: at.map(time),
        ..clean_up("d", "old.example", number)
    };
    for (number, given, expected) in [
        (1, None, None),
        (2, Some(100), Some(100)),
        (3, None, Some(100)),
        (4, Some(90), Some(100)),
        (5, Some(110), Some(110)),
    ] {
        match number % 2 {
            0 => write(&*store, vec![gone(confirmed(number, given))]).await,
            _ => committed(store.clean_up_stray(confirmed(number, given)).await),
        }
        same(&listed(&*store).await, [confirmed(number, expected)]);
    }
    write(&*store, vec![keep("d", "old.example"), gone(confirmed(6, None))]).await;
    same(&listed(&*store).await, [confirmed(6, None)]);
}

/// DPS-REG-44
async fn a_stray_is_cleaned_up_unless_its_record_has_it_there(store: Arc<dyn Store>) {
    let at = |hub_name: &str, id: &str| Assignment {
        hub: hub(hub_name),
        device_id: device_id(id),
        ..assignment(id)
    };
    let placing = dps_core::registration::Placing { target: at("New.Example", "d"), ..placing("d", "p", 1) };
    let moves = State::Assigning { placing: Box::new(placing), last: Some(at("Old.Example", "d")) };
    let failed = State::Failed {
        failure: dps_core::registration::Failure::HubUnavailable,
        last: Some(at("old.example", "d")),
    };
    let nowhere = State::Disabled { last: None };
    let mut number = 0;
    for (state, stray_at, id, expected) in [
        (None, "new.example", "d", Commit::Done),
        (Some(moves.clone()), "NEW.example", "d", Commit::Outdated),
        (Some(moves.clone()), "OLD.example", "d", Commit::Outdated),
        (Some(moves.clone()), "new.example", "D", Commit::Done),
        (Some(moves), "third.example", "d", Commit::Done),
        (Some(failed.clone()), "old.example", "d", Commit::Outdated),
        (Some(failed), "new.example", "d", Commit::Done),
        (Some(nowhere), "old.example", "d", Commit::Done),
    ] {
        number += 1;
        if let Some(state) = state {
            let always = Condition::Always.into();
            let _ = store.delete_registration(&scope(), &device("Device-1"), always).await;
            committed(store.commit(first(Registration { state, ..record("Device-1", number) })).await);
        }
        let stray = clean_up(id, stray_at, number);
        assert_eq!(store.clean_up_stray(stray.clone()).await.unwrap(), expected, "{number}");
        let waits = listed(&*store).await.into_iter().any(|listed| listed == stray);
        assert_eq!(waits, expected == Commit::Done, "{number}");
    }
    // A record of that id in another ID scope has nothing to do with it.
    let theirs = Registration {
        id_scope: other_scope(),
        state: State::Disabled { last: Some(at("old.example", "d")) },
        ..record("Device-1", 1)
    };
    committed(store.commit(first(theirs)).await);
    committed(store.clean_up_stray(clean_up("d", "old.example", 20)).await);
    let theirs = CleanUp { id_scope: other_scope(), ..clean_up("d", "old.example", 21) };
    outdated(store.clean_up_stray(theirs).await);
}

/// DPS-REG-40, DPS-REG-43
async fn a_hub_that_is_full_keeps_no_other_waiting(store: Arc<dyn Store>) {
    let slow = (1..=9).map(|number| gone(clean_up(&format!("slow-{number}"), "Slow.example", number)));
    let quick = [gone(clean_up("quick", "quick.example", 20))];
    write(&*store, slow.chain(quick).collect()).await;
    let bounded = ClaimOrder { limit: 5, per_peer_max: 3, ..order(30) };
    let claimed = claim(&*store, bounded.clone()).await;
    assert_eq!(ids(&claimed), ["slow-1", "slow-2", "slow-3", "quick"]);
    let peer = clean_up("x", "slow.EXAMPLE", 1).peer();
    let in_flight = |count| BTreeMap::from([(peer.clone(), count)]);
    let claimed = claim(&*store, ClaimOrder { in_flight: in_flight(2), ..bounded.clone() }).await;
    assert_eq!(ids(&claimed), ["slow-4"]);
    let claimed = claim(&*store, ClaimOrder { in_flight: in_flight(3), ..bounded }).await;
    assert_eq!(ids(&claimed), [""; 0]);
}

/// DPS-REG-40
async fn many_hubs_are_gone_through_in_turn(store: Arc<dyn Store>) {
    let hubs = 2 * Claimed::PEERS_MAX as u32 + 3;
    let all = (0..hubs).map(|number| gone(clean_up("d", &format!("h-{number:04}.example"), 1 + number % 2)));
    write(&*store, all.collect()).await;
    let (mut after_peer, mut claimed, mut claims) = (None, 0, 0);
    loop {
        let part = claim(&*store, ClaimOrder { limit: 1_000, after_peer, ..order(1) }).await;
        claimed += part.operations.len() as u32;
        claims += 1;
        assert!(part.operations.iter().all(|clean_up| clean_up.tries == 1));
        assert_eq!(part.next_due, Some(time(2)));
        after_peer = part.peers_after;
        if after_peer.is_none() {
            break;
        }
    }
    assert_eq!(claimed, hubs.div_ceil(2));
    assert!(claims <= 3, "{claims}");
}

/// DPS-STORE-1
async fn clean_ups_of_all_id_scopes_are_claimed_and_never_meet(store: Arc<dyn Store>) {
    let theirs = CleanUp { id_scope: other_scope(), ..clean_up("d", "old.example", 1) };
    let mut their_write = first(Registration { id_scope: other_scope(), ..record("Device-1", 1) });
    their_write.hub_writes = vec![gone(theirs.clone())];
    committed(store.commit(their_write).await);
    write(&*store, vec![gone(clean_up("d", "old.example", 2))]).await;
    same(&listed(&*store).await, [clean_up("d", "old.example", 2)]);
    assert_eq!(store.clean_ups(&other_scope(), None, 9).await.unwrap(), [theirs]);
    let claimed = claim(&*store, order(9)).await.operations;
    let scopes: Vec<_> = claimed.iter().map(|clean_up| clean_up.id_scope.clone()).collect();
    assert_eq!(scopes, [other_scope(), scope()]);
    write(&*store, vec![keep("d", "old.example")]).await;
    assert!(stands(&*store, &claimed[0]).await && !stands(&*store, &claimed[1]).await);
    assert_eq!(settle(&*store, &claimed[0], CleanUpOutcome::Done).await, Commit::Done);
    assert!(store.clean_ups(&other_scope(), None, 9).await.unwrap().is_empty());
}

/// DPS-REG-47
async fn clean_ups_are_listed_in_the_order_of_hub_and_device(store: Arc<dyn Store>) {
    let all = [("b", "A.x"), ("B", "a.X"), ("a", "b.x"), ("z", "a-0.x"), ("#1", "b.x")];
    write(&*store, all.map(|(id, at)| gone(clean_up(id, at, 1))).into()).await;
    let page = async |after: Option<(&str, &str)>, limit| {
        let after = after.map(|(id, at)| (hub(at), device_id(id)));
        let after = after.as_ref().map(|(hub, id)| (hub, id));
        let listed = store.clean_ups(&scope(), after, limit).await.unwrap();
        let shown = listed.iter().map(|of| format!("{} {}", of.hub.folded(), of.device_id));
        shown.collect::<Vec<_>>()
    };
    assert_eq!(page(None, 99).await, ["a-0.x z", "a.x B", "a.x b", "b.x #1", "b.x a"]);
    assert_eq!(page(None, 2).await, ["a-0.x z", "a.x B"]);
    assert_eq!(page(Some(("B", "A.X")), 2).await, ["a.x b", "b.x #1"]);
    assert_eq!(page(Some(("zz", "a.x")), 1).await, ["b.x #1"], "one that does not exist marks a place too");
    assert_eq!(page(Some(("a", "b.x")), 9).await, [""; 0]);
    assert_eq!(page(None, 0).await, [""; 0]);
}
