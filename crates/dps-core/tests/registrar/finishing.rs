//! How an operation ends whose hub had to be asked outside. Spec: DPS-REG-10, DPS-REG-11, DPS-REG-13.

use dps_core::refusal::Refusal;
use dps_core::register::Finished;
use dps_core::registration::{Assignment, Failure, Registration, State, Substatus};
use dps_proto::ids::OperationId;
use uuid::Uuid;

use crate::common::desk::{Desk, assigned, scope};
use crate::common::entries::{AnyEntry, group, individual, keyed};
use crate::common::executor::{Running, drive};
use crate::common::hubs::slow;
use crate::common::image::Faults;
use crate::common::sim_store::{Call, Point};

const DONE: Result<Substatus, Failure> = Ok(Substatus::InitialAssignment);

/// A desk with a device that waits for its hub, and where it is to live.
fn assigning() -> (Desk, OperationId, Registration, Assignment) {
    let desk = Desk::new(vec![slow("far.example")]);
    desk.put_group(group("alpha"));
    let (operation, record) = desk.accepted(&desk.by_group("line-1", "alpha"));
    let State::Assigning { target, .. } = record.state.clone() else { panic!("{record:?}") };
    (desk, operation, record, target)
}

/// DPS-REG-10, DPS-REG-14
#[test]
fn the_hubs_answer_ends_the_operation() {
    let (desk, operation, before, target) = assigning();
    desk.step_clock(5);
    assert_eq!(desk.finish("line-1", operation.guid(), DONE), Finished::Recorded);
    let after = desk.record("line-1").unwrap();
    assert_eq!(assigned(&after.state), (&target, Substatus::InitialAssignment));
    assert_ne!(after.etag, before.etag);
    assert_eq!(after.updated_at, desk.clock.get().0);
    assert_eq!((after.created_at, after.operation), (before.created_at, before.operation));
    assert_eq!(desk.polled(&desk.by_group("line-1", "alpha"), operation), after.state);
}

/// DPS-REG-11
#[test]
fn a_hub_that_refuses_leaves_the_device_where_it_was() {
    let (desk, operation, _, target) = assigning();
    let device = desk.by_group("line-1", "alpha");
    assert_eq!(desk.finish("line-1", operation.guid(), Err(Failure::NoUsableHub)), Finished::Recorded);
    let failed = |last| State::Failed { failure: Failure::NoUsableHub, last };
    assert_eq!(desk.record("line-1").unwrap().state, failed(None));

    let (second, _) = desk.accepted(&device);
    assert_ne!(second, operation);
    desk.finish("line-1", second.guid(), DONE);
    let (third, record) = desk.accepted(&device);
    let expected = State::Assigning { target: target.clone(), last: Some(target.clone()) };
    assert_eq!(record.state, expected);
    desk.finish("line-1", third.guid(), Err(Failure::NoUsableHub));
    assert_eq!(desk.record("line-1").unwrap().state, failed(Some(target)));
}

/// DPS-REG-10
#[test]
fn an_answer_to_what_is_no_longer_asked_changes_nothing() {
    let (desk, operation, ..) = assigning();
    desk.finish("line-1", operation.guid(), DONE);
    check_superseded(&desk, operation.guid(), "the same answer again");
    let (newer, _) = desk.accepted(&desk.by_group("line-1", "alpha"));
    check_superseded(&desk, operation.guid(), "a newer operation waits");
    check_superseded(&desk, Uuid::from_bytes([9; 16]), "an operation that never was");
    assert_eq!(desk.finish("line-1", newer.guid(), DONE), Finished::Recorded);
    desk.delete_record("line-1");
    check_superseded(&desk, newer.guid(), "the record is deleted");
}

#[track_caller]
fn check_superseded(desk: &Desk, operation: Uuid, why: &str) {
    let before = desk.record("line-1");
    for outcome in [DONE, Err(Failure::NoUsableHub)] {
        assert_eq!(desk.finish("line-1", operation, outcome), Finished::Superseded, "{why}");
    }
    assert_eq!(desk.record("line-1"), before, "{why}");
}

/// DPS-REG-13
#[test]
fn an_answer_that_comes_after_the_entry_was_disabled_does_not_assign() {
    for outcome in [DONE, Err(Failure::NoUsableHub)] {
        let (desk, operation, ..) = assigning();
        desk.put_group(group("alpha").disabled());
        assert_eq!(desk.finish("line-1", operation.guid(), outcome), Finished::Recorded);
        assert_eq!(desk.record("line-1").unwrap().state, State::Disabled { last: None });
        desk.put_group(group("alpha"));
        let device = desk.by_group("line-1", "alpha");
        assert_eq!(desk.polled(&device, operation), State::Disabled { last: None });
    }
}

/// DPS-REG-13
#[test]
fn an_answer_that_comes_after_the_entry_was_deleted_does_not_assign() {
    for outcome in [DONE, Err(Failure::NoUsableHub)] {
        let (desk, operation, ..) = assigning();
        desk.delete_group("alpha");
        assert_eq!(desk.finish("line-1", operation.guid(), outcome), Finished::Recorded);
        let expected = State::Failed { failure: Failure::EnrollmentGone, last: None };
        assert_eq!(desk.record("line-1").unwrap().state, expected);
    }
    let desk = Desk::new(vec![slow("far.example")]);
    desk.put_individual(individual("press-1"));
    let (operation, _) = desk.accepted(&desk.by_own_key("press-1"));
    desk.delete_individual("press-1");
    assert_eq!(desk.finish("press-1", operation.guid(), DONE), Finished::Recorded);
    let expected = State::Failed { failure: Failure::EnrollmentGone, last: None };
    assert_eq!(desk.record("press-1").unwrap().state, expected);
}

/// DPS-REG-11, DPS-REG-13
#[test]
fn where_the_device_lived_outlasts_an_entry_that_was_disabled_or_deleted_meanwhile() {
    for is_deleted in [false, true] {
        let (desk, operation, _, home) = assigning();
        desk.finish("line-1", operation.guid(), DONE);
        let (again, _) = desk.accepted(&desk.by_group("line-1", "alpha"));
        if is_deleted {
            desk.delete_group("alpha")
        } else {
            desk.put_group(group("alpha").disabled())
        }
        desk.finish("line-1", again.guid(), DONE);
        let record = desk.record("line-1").unwrap();
        assert!(!matches!(record.state, State::Assigned { .. }));
        assert_eq!(record.assignment(), Some(&home));
    }
}

/// DPS-REG-13: that the entry has changed is no reason to refuse, only to look again.
#[test]
fn an_answer_after_the_entry_was_written_anew_assigns() {
    let (desk, operation, _, target) = assigning();
    desk.put_group(keyed(group("alpha"), "renewed"));
    assert_eq!(desk.finish("line-1", operation.guid(), DONE), Finished::Recorded);
    assert_eq!(assigned(&desk.record("line-1").unwrap().state).0, &target);
}

/// DPS-REG-13, DPS-STORE-4
#[test]
fn an_entry_disabled_between_decision_and_write_is_seen() {
    let (desk, operation, ..) = assigning();
    let mut finish = start_finish(&desk, operation);
    assert!(finish.step().is_pending());
    desk.store.wait_nowhere();
    desk.put_group(group("alpha").disabled());
    assert_eq!(finish.end().unwrap(), Finished::Recorded);
    assert_eq!(desk.record("line-1").unwrap().state, State::Disabled { last: None });
}

/// DPS-REG-10, DPS-STORE-4
#[test]
fn a_record_changed_between_decision_and_write_is_left_alone() {
    let (desk, operation, ..) = assigning();
    let mut finish = start_finish(&desk, operation);
    assert!(finish.step().is_pending());
    desk.store.wait_nowhere();
    assert_eq!(desk.finish("line-1", operation.guid(), Err(Failure::NoUsableHub)), Finished::Recorded);
    let failed = desk.record("line-1");
    assert_eq!(finish.end().unwrap(), Finished::Superseded);
    assert_eq!(desk.record("line-1"), failed);
}

/// A `finish` that stops before its write is applied.
fn start_finish(desk: &Desk, operation: OperationId) -> Running<Result<Finished, Refusal>> {
    desk.store.wait_at(Point::BeforeApply, 1);
    let (registrar, moment) = (desk.registrar.clone(), desk.moment());
    Running::start(async move {
        let id = "line-1".parse().unwrap();
        registrar.finish(&scope(), &id, operation.guid(), DONE, moment).await
    })
}

/// DPS-STORE-4: bounded, whatever the others do.
#[test]
fn an_answer_that_never_gets_its_turn_gives_up() {
    let (desk, operation, ..) = assigning();
    desk.store.set_faults(Faults { always_outdated: true, ..Faults::default() });
    let commits = desk.store.calls(Call::Commit);
    let id = "line-1".parse().unwrap();
    let refused = drive(desk.registrar.finish(&scope(), &id, operation.guid(), DONE, desk.moment()));
    assert!(matches!(refused, Err(Refusal::Contended(16))), "{refused:?}");
    assert_eq!(desk.store.calls(Call::Commit), commits + 16);
}
