//! Which group a device comes in by, and what the search costs. Spec: DPS-REG-2, DPS-REG-4, DPS-REG-8.

use std::sync::Arc;

use dps_core::enrollment::{EnrollmentGroup, ReprovisionPolicy};
use dps_core::instance::{ClaimAcrossGroups, ServiceInstance};
use dps_core::refusal::Refusal;
use dps_core::register::{Noted, Registered};
use dps_core::registration::State;

use crate::common::desk::{Desk, assigned, groups_tried};
use crate::common::entries::{AnyEntry, group, group_ref, individual, keyed, keys, prefixed};
use crate::common::hubs::{instance, local, slow};
use crate::common::inline_pool::{BusyPool, ForgetfulPool, InlinePool};
use crate::common::sim_store::Call;

/// All groups here have the key of this name, so that only the order decides.
const SHARED: &str = "shared";

/// DPS-REG-2: each row is a set of groups that one token fits, the one that decides first.
#[test]
fn the_longest_prefix_decides_then_the_oldest_group_without_one() {
    check_order(&[prefixed("long", "line-1"), prefixed("short", "line-"), group("open")]);
    check_order(&[prefixed("short", "line-"), group("open")]);
    check_order(&[prefixed("other-case", "LINE-1"), prefixed("short", "line-")]);
    check_order(&[group("older").created_at(1), group("newer").created_at(2)]);
    check_order(&[prefixed("short", "line-"), group("open").disabled()]);
    check_order(&[prefixed("long", "line-1"), prefixed("short", "line-").disabled()]);
    check_order(&[group("open"), prefixed("of-others", "press-")]);
}

#[track_caller]
fn check_order(groups: &[EnrollmentGroup]) {
    for reversed in [false, true] {
        let desk = Desk::new(vec![local("north.example")]);
        let mut groups = groups.to_vec();
        let first = groups[0].id.clone();
        if reversed {
            groups.reverse();
        }
        for group in groups {
            desk.put_group(keyed(group, SHARED));
        }
        let (_, record) = desk.accepted(&desk.by_group("line-1", SHARED));
        assert_eq!(record.entry, group_ref(first.as_str()));
    }
}

/// DPS-REG-2
#[test]
fn within_a_step_a_disabled_group_comes_before_an_enabled_one() {
    let desk = Desk::new(vec![local("north.example")]);
    desk.put_group(keyed(group("enabled"), SHARED).created_at(1));
    desk.put_group(keyed(group("disabled"), SHARED).created_at(2).disabled());
    let record = desk.told_disabled(&desk.by_group("line-1", SHARED));
    assert_eq!(record.entry, group_ref("disabled"));

    desk.put_group(keyed(prefixed("on", "press-"), SHARED));
    desk.put_group(keyed(prefixed("off", "Press-"), SHARED).disabled());
    let record = desk.told_disabled(&desk.by_group("press-1", SHARED));
    assert_eq!(record.entry, group_ref("off"));
}

/// DPS-REG-2
#[test]
fn the_group_of_the_record_is_tried_before_all_others() {
    let desk = Desk::new(vec![local("north.example")]);
    desk.put_group(keyed(group("first"), SHARED));
    desk.accepted(&desk.by_group("line-1", SHARED));
    desk.put_group(keyed(prefixed("nearer", "line-1"), SHARED).disabled());
    let asked = desk.store.calls(Call::CandidateGroups);
    let (_, record) = desk.accepted(&desk.by_group("line-1", SHARED));
    assert_eq!(record.entry, group_ref("first"));
    assert_eq!(desk.store.calls(Call::CandidateGroups), asked, "the other groups were not even read");

    desk.delete_group("first");
    let record = desk.told_disabled(&desk.by_group("line-1", SHARED));
    assert_eq!(record.entry, group_ref("nearer"));
}

/// DPS-REG-2
#[test]
fn a_group_whose_prefix_does_not_match_is_not_tried() {
    let desk = Desk::new(vec![local("north.example")]);
    desk.put_group(keyed(prefixed("line", "line-"), SHARED));
    let why = desk.unproven(&desk.by_group("press-1", SHARED));
    assert_eq!(groups_tried(why), Some(0));
}

/// DPS-REG-4: eight groups cost less than handing the job over.
#[test]
fn a_search_of_up_to_eight_groups_needs_no_pool() {
    let desk = Desk::with(instance(vec![local("north.example")]), Arc::new(BusyPool));
    put_groups(&desk, 8);
    let (_, record) = desk.accepted(&desk.by_group("line-1", "group-7"));
    assert_eq!(record.entry, group_ref("group-7"));
    assert_eq!(groups_tried(desk.unproven(&desk.by_group("line-2", "other"))), Some(8));
}

/// DPS-REG-4: two keys, each spelling, deriving and verifying; once more with the group's own keys.
#[test]
fn a_search_of_more_groups_is_charged_before_it_runs() {
    check_charge("line-1", 9, 9 * 6);
    check_charge("Line-1", 9, 9 * 10);
    check_charge("line-1", 100, 100 * 6);
}

#[track_caller]
fn check_charge(id: &str, groups: usize, signatures: u32) {
    let pool = Arc::new(InlinePool::default());
    let desk = Desk::with(instance(vec![local("north.example")]), Arc::clone(&pool) as _);
    put_groups(&desk, groups);
    let last = format!("group-{}", groups - 1);
    let (_, record) = desk.accepted(&desk.by_group(id, &last));
    assert_eq!(record.entry, group_ref(&last));
    assert_eq!(pool.charges(), [signatures]);
}

/// DPS-REG-4
#[test]
fn a_spent_pool_refuses_a_search_but_not_a_device_that_comes_back() {
    let mut desk = Desk::new(vec![local("north.example")]);
    put_groups(&desk, 9);
    let known = desk.by_group("line-1", "group-8");
    let (operation, _) = desk.accepted(&known);

    desk.reopen_with(instance(vec![local("north.example")]), Arc::new(BusyPool));
    let refused = desk.register(&desk.by_group("line-2", "group-8"));
    assert!(matches!(refused, Err(Refusal::Busy)), "{refused:?}");
    let refused = desk.poll(&desk.by_group("line-1", "group-0"), operation);
    assert!(matches!(refused, Err(Refusal::Busy)), "{refused:?}");
    desk.accepted(&known);
    desk.polled(&known, operation);
}

/// DPS-REG-4
#[test]
fn a_pool_that_loses_a_search_is_a_busy_one() {
    let desk = Desk::with(instance(vec![local("north.example")]), Arc::new(ForgetfulPool));
    put_groups(&desk, 9);
    let refused = desk.register(&desk.by_group("line-1", "group-0"));
    assert!(matches!(refused, Err(Refusal::Busy)), "{refused:?}");
}

/// DPS-REG-3, DPS-REG-4: the most that one token can cost still finds its group.
#[test]
fn a_thousand_groups_without_a_prefix_are_searched_to_the_last() {
    let desk = Desk::new(vec![local("north.example")]);
    put_groups(&desk, 1_000);
    let (_, record) = desk.accepted(&desk.by_group("line-1", "group-999"));
    assert_eq!(record.entry, group_ref("group-999"));
    assert_eq!(groups_tried(desk.unproven(&desk.by_group("line-2", "other"))), Some(1_000));
}

/// Groups without a prefix, each newer than the one before.
fn put_groups(desk: &Desk, count: usize) {
    for number in 0..count {
        desk.put_group(group(&format!("group-{number}")).created_at(number as i64));
    }
}

/// DPS-REG-8
#[test]
fn a_device_may_move_to_another_group_and_the_move_is_told() {
    let desk = two_groups(ClaimAcrossGroups::Allow);
    let (_, record) = desk.accepted(&desk.by_group("line-1", "alpha"));
    let before = assigned(&record.state).0.clone();

    let moved = desk.register(&desk.by_group("line-1", "beta"));
    let Ok(Registered::Accepted { registration, noted: Noted { claimed_from: Some(from), .. }, .. }) = moved
    else {
        panic!("{moved:?}")
    };
    assert_eq!(from, "alpha".parse().unwrap());
    assert_eq!(registration.entry, group_ref("beta"));
    assert_eq!(assigned(&registration.state).0.hub, before.hub, "it stays where it lives");

    let again = desk.register(&desk.by_group("line-1", "beta"));
    assert!(
        matches!(&again, Ok(Registered::Accepted { noted: Noted { claimed_from: None, .. }, .. })),
        "{again:?}"
    );
}

/// DPS-REG-8
#[test]
fn a_device_may_not_move_to_another_group_where_the_instance_forbids_it() {
    let desk = two_groups(ClaimAcrossGroups::Refuse);
    let (_, before) = desk.accepted(&desk.by_group("line-1", "alpha"));
    let refused = desk.register(&desk.by_group("line-1", "beta"));
    let Err(Refusal::ClaimedAcrossGroups { from, to }) = refused else { panic!("{refused:?}") };
    assert_eq!((from, to), ("alpha".parse().unwrap(), "beta".parse().unwrap()));
    assert_eq!(desk.record("line-1"), Some(before), "the record is as it was");
    desk.accepted(&desk.by_group("line-1", "alpha"));
}

/// DPS-REG-8: nor does it learn where the record's device lives.
#[test]
fn a_device_that_may_not_claim_a_record_can_neither_poll_nor_join_its_operation() {
    let claimed = |result: Result<(), Refusal>| {
        assert!(matches!(result, Err(Refusal::ClaimedAcrossGroups { .. })), "{result:?}");
    };
    let refuse = ServiceInstance {
        claim_across_groups: ClaimAcrossGroups::Refuse,
        ..instance(vec![slow("out.example")])
    };
    let desk = Desk::with(refuse, Arc::new(InlinePool::default()));
    desk.put_group(group("alpha"));
    desk.put_group(group("beta"));
    let (operation, before) = desk.accepted(&desk.by_group("line-1", "alpha"));
    claimed(desk.register(&desk.by_group("line-1", "beta")).map(drop));
    claimed(desk.poll(&desk.by_group("line-1", "beta"), operation).map(drop));
    assert!(matches!(desk.polled(&desk.by_group("line-1", "alpha"), operation), State::Assigning { .. }));
    assert_eq!(desk.record("line-1"), Some(before));
}

/// DPS-REG-8, DPS-REG-5: a disabled group is no way to take a record either.
#[test]
fn a_device_of_a_disabled_group_does_not_take_a_record_that_it_may_not_claim() {
    let desk = two_groups(ClaimAcrossGroups::Refuse);
    let (_, before) = desk.accepted(&desk.by_group("line-1", "alpha"));
    desk.put_group(group("beta").disabled());
    let refused = desk.register(&desk.by_group("line-1", "beta"));
    assert!(matches!(refused, Err(Refusal::ClaimedAcrossGroups { .. })), "{refused:?}");
    assert_eq!(desk.record("line-1"), Some(before));
    desk.accepted(&desk.by_group("line-1", "alpha"));
}

/// DPS-REG-8: it speaks of groups; an individual enrollment was written for this very device.
#[test]
fn a_device_may_pass_between_a_group_and_its_own_entry_whatever_the_instance_says() {
    let desk = two_groups(ClaimAcrossGroups::Refuse);
    desk.accepted(&desk.by_group("line-1", "alpha"));
    desk.put_individual(individual("line-1"));
    desk.accepted(&desk.by_own_key("line-1"));
    desk.delete_individual("line-1");
    let (_, record) = desk.accepted(&desk.by_group("line-1", "beta"));
    assert_eq!(record.entry, group_ref("beta"));
}

fn two_groups(claim_across_groups: ClaimAcrossGroups) -> Desk {
    let instance = ServiceInstance {
        claim_across_groups,
        ..instance(vec![local("north.example"), local("south.example")])
    };
    let desk = Desk::with(instance, Arc::new(InlinePool::default()));
    desk.put_group(group("alpha").at_hubs(&["north.example"]));
    desk.put_group(group("beta").at_hubs(&["south.example"]).reprovisioned(ReprovisionPolicy::NEVER));
    desk
}

/// DPS-REG-2
#[test]
fn a_group_that_was_given_new_keys_takes_devices_with_those_and_no_others() {
    let desk = Desk::new(vec![local("north.example")]);
    desk.put_group(group("alpha"));
    desk.accepted(&desk.by_group("line-1", "alpha"));
    desk.put_group(keyed(group("alpha"), "renewed"));
    desk.accepted(&desk.by_group("line-1", "renewed"));
    assert_eq!(groups_tried(desk.unproven(&desk.by_group("line-1", "alpha"))), Some(1));
    let misused = desk.unproven(&desk.signed("line-2", &keys("alpha").primary));
    assert_eq!(groups_tried(misused), Some(1), "a key the group no longer has");
}
