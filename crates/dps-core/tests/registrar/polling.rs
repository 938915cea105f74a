//! What a poll tells, to whom, and for how long. Spec: DPS-REG-6, DPS-REG-14, DPS-REG-19, DPS-ID-5.

use std::sync::Arc;

use dps_core::attestation::DeviceClaim;
use dps_core::instance::ServiceInstance;
use dps_core::refusal::{NoSuchOperation, Refusal, Unproven};
use dps_core::registration::{Failure, State, Substatus};
use dps_proto::ids::{InstanceSecret, OperationId};
use uuid::Uuid;

use crate::common::desk::{Desk, assigned, groups_tried, scope, unproven};
use crate::common::entries::{AnyEntry, group, keys, signed, with_password};
use crate::common::hubs::{instance, local, remote};
use crate::common::inline_pool::InlinePool;
use crate::common::registry::{Fate, SimRegistry, Step};
use crate::common::sim_store::Call;

fn desk() -> Desk {
    let desk = Desk::new(vec![local("north.example")]);
    desk.put_group(group("alpha"));
    desk
}

/// DPS-REG-14, DPS-REG-19
#[test]
fn every_operation_id_of_a_device_tells_its_current_state() {
    let registry = SimRegistry::new();
    let mut desk = Desk::new(vec![remote("far.example", &registry)]);
    desk.put_group(group("alpha"));
    let device = desk.by_group("line-1", "alpha");
    let (first, record) = desk.accepted(&device);
    assert_eq!(desk.polled(&device, first), record.state);
    assert!(matches!(record.state, State::Assigning { .. }));

    registry.script(Step::Create, Fate::Refused("no"));
    let failed = State::Failed { failure: Failure::HubRefused { said: "no".into() }, last: None };
    assert_eq!(desk.placed(), failed);
    assert_eq!(desk.polled(&device, first), failed);

    desk.reopen(instance(vec![local("north.example")]));
    let (second, record) = desk.accepted(&device);
    assert_eq!(assigned(&record.state).1, Substatus::InitialAssignment);
    assert_eq!(desk.polled(&device, first), record.state);
    assert_eq!(desk.polled(&device, second), record.state);
}

/// DPS-ID-5
#[test]
fn what_is_no_operation_id_of_the_device_is_not_found() {
    let desk = desk();
    let (others, _) = desk.accepted(&desk.by_group("line-2", "alpha"));
    let device = desk.by_group("line-1", "alpha");
    let (own, _) = desk.accepted(&device);
    let text = own.to_string();
    let forged = format!("5.{:016x}.{}", 0x0123_4567_89ab_cdef_u64, own.guid());
    let other_guid = format!("{}{}", &text[..19], Uuid::from_bytes([9; 16]));
    let elsewhere =
        OperationId::derive(&InstanceSecret::new([8; 32]), &scope(), &"line-1".parse().unwrap(), own.guid());
    let in_another_scope = OperationId::derive(
        &InstanceSecret::new([7; 32]),
        &"0neFFFFFFFF".parse().unwrap(),
        &"line-1".parse().unwrap(),
        own.guid(),
    );
    for (text, why) in [
        (others.to_string(), NoSuchOperation::NotThisDevices),
        (forged, NoSuchOperation::NotThisDevices),
        (other_guid, NoSuchOperation::NotThisDevices),
        (elsewhere.to_string(), NoSuchOperation::NotThisDevices),
        (in_another_scope.to_string(), NoSuchOperation::NotThisDevices),
        (String::new(), NoSuchOperation::Malformed),
        (text[..54].to_owned(), NoSuchOperation::Malformed),
        (text.to_uppercase(), NoSuchOperation::Malformed),
        (format!("{text}0"), NoSuchOperation::Malformed),
        (text.replacen("5.", "4.", 1), NoSuchOperation::Malformed),
    ] {
        check_not_found(&desk, &device, &text, why);
    }
    desk.polled(&device, own);
}

/// DPS-REG-19
#[test]
fn an_operation_id_of_a_deleted_record_is_not_found_until_the_device_registers_again() {
    let desk = desk();
    let device = desk.by_group("line-1", "alpha");
    let (operation, _) = desk.accepted(&device);
    desk.delete_record("line-1");
    check_not_found(&desk, &device, &operation.to_string(), NoSuchOperation::NoRecord);
    let (_, record) = desk.accepted(&device);
    assert_eq!(desk.polled(&device, operation), record.state);
}

#[track_caller]
fn check_not_found(desk: &Desk, device: &DeviceClaim, operation: &str, expected: NoSuchOperation) {
    match desk.poll(device, operation) {
        Err(Refusal::NoSuchOperation(why)) => assert_eq!(why, expected, "{operation:?}"),
        other => panic!("{operation:?}: {other:?}"),
    }
}

/// DPS-REG-6: who cannot prove to be the device does not even learn whether the id is one.
#[test]
fn a_poll_is_judged_like_a_register_before_its_operation_id_is_looked_at() {
    let desk = desk();
    let (operation, _) = desk.accepted(&desk.by_group("line-1", "alpha"));
    for operation in [operation.to_string(), "5.".to_owned()] {
        let wrong = desk.signed("line-1", &keys("wrong").primary);
        assert_eq!(groups_tried(unproven(desk.poll(&wrong, &operation))), Some(1));
        let direct = desk.signed("line-1", &keys("alpha").primary);
        let expected = Unproven::GroupKeyUsedDirectly("alpha".parse().unwrap());
        assert_eq!(unproven(desk.poll(&direct, &operation)), expected);
        let malformed = with_password("line-1", "secret");
        assert!(matches!(unproven(desk.poll(&malformed, &operation)), Unproven::Malformed(_)));
    }
}

/// DPS-REG-6
#[test]
fn a_poll_is_refused_once_the_entry_is_gone_or_has_other_keys() {
    let desk = desk();
    let device = desk.by_group("line-1", "alpha");
    let (operation, _) = desk.accepted(&device);
    desk.delete_group("alpha");
    assert_eq!(groups_tried(unproven(desk.poll(&device, operation))), Some(0));
    desk.put_group(crate::common::entries::keyed(group("alpha"), "renewed"));
    assert_eq!(groups_tried(unproven(desk.poll(&device, operation))), Some(1));
    desk.polled(&desk.by_group("line-1", "renewed"), operation);
}

/// DPS-REG-6: real tokens live as little as thirty seconds.
#[test]
fn a_token_that_was_good_when_the_operation_began_is_good_for_its_polls() {
    let desk = desk();
    let now = desk.clock.get();
    let device = signed("line-1", &keys("alpha").primary.derive("line-1"), now.after(30));
    let (operation, _) = desk.accepted(&device);
    desk.step_clock(86_400);
    assert!(matches!(desk.polled(&device, operation), State::Assigned { .. }));
    let refused = desk.unproven(&device);
    assert_eq!(refused, Unproven::Expired { expired_at: now.after(30), judged_at: now.after(86_400) });
}

/// DPS-REG-6
#[test]
fn a_token_that_had_expired_when_the_operation_began_is_refused() {
    let desk = desk();
    let old = signed("line-1", &keys("alpha").primary.derive("line-1"), desk.clock.get().after(30));
    let (first, _) = desk.accepted(&old);
    desk.step_clock(331);
    let began_at = desk.clock.get().0;
    let (second, _) = desk.accepted(&desk.by_group("line-1", "alpha"));
    desk.step_clock(60);
    for operation in [first, second] {
        let Unproven::Expired { judged_at, .. } = unproven(desk.poll(&old, operation)) else { panic!() };
        assert_eq!(judged_at, began_at);
    }
}

/// DPS-REG-6: with no operation there is nothing to relax the expiry by.
#[test]
fn without_a_record_a_polls_token_is_judged_by_the_clock() {
    let desk = desk();
    let device = signed("line-1", &keys("alpha").primary.derive("line-1"), desk.clock.get().after(30));
    let (operation, _) = desk.accepted(&device);
    desk.delete_record("line-1");
    desk.step_clock(331);
    let Unproven::Expired { judged_at, .. } = unproven(desk.poll(&device, operation)) else { panic!() };
    assert_eq!(judged_at, desk.clock.get().0);
}

/// DPS-REG-6: an operation that seems to begin in the future is no reason to refuse a token that is good now.
#[test]
fn a_clock_that_stepped_back_since_the_register_refuses_no_token_that_is_good_now() {
    let desk = desk();
    let (operation, _) = desk.accepted(&desk.by_group("line-1", "alpha"));
    desk.step_clock(-86_400);
    desk.polled(&desk.by_group("line-1", "alpha"), operation);
}

/// DPS-REG-14
#[test]
fn polls_write_nothing() {
    let desk = desk();
    let device = desk.by_group("line-1", "alpha");
    let (operation, record) = desk.accepted(&device);
    let commits = desk.store.calls(Call::Commit);
    desk.polled(&device, operation);
    desk.poll(&device, "5.").unwrap_err();
    assert_eq!(desk.store.calls(Call::Commit), commits);
    assert_eq!(desk.record("line-1"), Some(record));
}

/// DPS-HTTPS-6, DPS-REG-14
#[test]
fn a_look_up_tells_the_record_to_its_device_alone_and_writes_nothing() {
    let desk = desk();
    let device = desk.by_group("line-1", "alpha");
    assert!(matches!(desk.look_up(&device), Err(Refusal::NoRecord)));
    let (_, record) = desk.accepted(&device);
    let commits = desk.store.calls(Call::Commit);
    assert_eq!(desk.look_up(&device).unwrap(), record);
    assert!(matches!(desk.look_up(&desk.by_group("line-1", "nobody")), Err(Refusal::Unproven(_))));
    desk.put_group(group("alpha").disabled());
    assert!(matches!(desk.look_up(&device).unwrap().state, State::Disabled { .. }));
    assert_eq!(desk.store.calls(Call::Commit), commits);
}

/// DPS-ID-5, DPS-ID-2: the id is folded before it is judged.
#[test]
fn an_operation_id_is_good_whatever_the_spelling_of_the_device() {
    let desk = desk();
    let (operation, _) = desk.accepted(&desk.by_group("Line-1", "alpha"));
    desk.polled(&desk.by_group("LINE-1", "alpha"), operation);
}

/// DPS-ID-4: what was issued under another secret of the instance is not recognised.
#[test]
fn an_instance_with_another_secret_knows_no_operation_of_before() {
    let mut desk = desk();
    let device = desk.by_group("line-1", "alpha");
    let (operation, _) = desk.accepted(&device);
    let linked = vec![local("north.example")];
    desk.reopen_with(
        ServiceInstance { secret: InstanceSecret::new([9; 32]), ..instance(linked) },
        Arc::new(InlinePool::default()),
    );
    check_not_found(&desk, &device, &operation.to_string(), NoSuchOperation::NotThisDevices);
}

/// DPS-REG-5, DPS-REG-14: an individual enrollment that bars the device speaks at the poll already.
#[test]
fn a_poll_after_the_device_was_barred_by_an_entry_of_its_own_says_disabled() {
    let desk = desk();
    let device = desk.by_group("line-1", "alpha");
    let (operation, record) = desk.accepted(&device);
    let home = assigned(&record.state).0.clone();
    desk.put_individual(crate::common::entries::individual("line-1").disabled());
    assert_eq!(desk.polled(&device, operation), State::Disabled { last: Some(home) });
}
