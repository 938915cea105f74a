//! What a register does to the record. Spec: DPS-REG-10, DPS-REG-11, DPS-REG-15, DPS-REG-16, DPS-REG-18, DPS-REG-19.

use dps_core::enrollment::{IndividualEnrollment, ReprovisionPolicy};
use dps_core::register::{Noted, Registered};
use dps_core::registration::{Failure, HubCredential, State, Substatus};

use crate::common::desk::{Desk, accepted, assigned};
use crate::common::entries::{AnyEntry, group, group_ref, individual, individual_ref};
use crate::common::hubs::{instance, local, picky, slow};
use crate::common::sim_store::{Call, Point};

fn desk() -> Desk {
    let desk = Desk::new(vec![local("north.example")]);
    desk.put_group(group("alpha"));
    desk
}

/// DPS-REG-12, DPS-ID-4
#[test]
fn the_first_register_makes_a_record_and_is_told_its_operation_id() {
    let desk = desk();
    let (operation, record) = desk.accepted(&desk.by_group("line-1", "alpha"));
    assert_eq!(operation.guid(), record.operation.guid);
    assert_eq!(record.entry, group_ref("alpha"));
    let now = desk.clock.get().0;
    assert_eq!((record.created_at, record.updated_at, record.operation.began_at), (now, now, now));
    let (assignment, substatus) = assigned(&record.state);
    assert_eq!((assignment.hub.as_str(), assignment.device_id.as_str()), ("north.example", "line-1"));
    assert_eq!(assignment.credential, HubCredential::DerivedKeys { spelling: "line-1".into() });
    assert_eq!(substatus, Substatus::InitialAssignment);
    assert_eq!(desk.record("line-1"), Some(record));
}

/// DPS-REG-10, DPS-ID-6
#[test]
fn every_later_register_begins_a_new_operation_of_the_same_record() {
    let desk = desk();
    let device = desk.by_group("line-1", "alpha");
    let (first_operation, first) = desk.accepted(&device);
    desk.step_clock(60);
    let (second_operation, second) = desk.accepted(&device);
    assert_ne!(first_operation, second_operation);
    assert_ne!(first.etag, second.etag);
    assert_eq!(second.created_at, first.created_at);
    assert_eq!((second.updated_at, second.operation.began_at), (desk.clock.get().0, desk.clock.get().0));
    let (home, _) = assigned(&first.state);
    assert_eq!(assigned(&second.state), (home, Substatus::ReprovisionedToInitialAssignment));
}

/// DPS-ID-7: dates of a record only grow, for whoever sorts by them.
#[test]
fn a_clock_that_steps_back_does_not_take_the_records_dates_along() {
    let desk = desk();
    let device = desk.by_group("line-1", "alpha");
    let (_, first) = desk.accepted(&device);
    desk.step_clock(-600);
    let (_, second) = desk.accepted(&device);
    assert_eq!((second.created_at, second.updated_at), (first.created_at, first.updated_at));
    assert_eq!(second.operation.began_at, desk.clock.get().0, "the operation is dated by the clock as it is");
}

/// DPS-REG-10
#[test]
fn a_register_while_assigning_joins_the_operation_and_writes_nothing() {
    let desk = Desk::new(vec![slow("far.example")]);
    desk.put_group(group("alpha"));
    desk.put_group(group("beta"));
    let (operation, record) = desk.accepted(&desk.by_group("line-1", "alpha"));
    assert!(matches!(&record.state, State::Assigning { last: None, .. }));
    desk.step_clock(60);
    let commits = desk.store.calls(Call::Commit);

    for group in ["alpha", "beta"] {
        let joined = desk.register(&desk.by_group("line-1", group));
        assert!(
            matches!(&joined, Ok(Registered::Accepted { noted: Noted { claimed_from: None, .. }, .. })),
            "{joined:?}"
        );
        assert_eq!(accepted(joined), (operation, record.clone()));
    }
    assert_eq!(desk.store.calls(Call::Commit), commits);
}

/// DPS-REG-10: joining takes the same proof as beginning.
#[test]
fn a_stranger_cannot_join_an_operation() {
    let desk = Desk::new(vec![slow("far.example")]);
    desk.put_group(group("alpha"));
    desk.accepted(&desk.by_group("line-1", "alpha"));
    desk.unproven(&desk.by_group("line-1", "beta"));
}

/// DPS-REG-10, DPS-STORE-4
#[test]
fn two_registers_of_one_device_at_the_same_moment_become_one_record() {
    for point in [Point::BeforeRead, Point::AfterRead, Point::BeforeApply, Point::BeforeDurable] {
        let desk = desk();
        let device = desk.by_group("line-1", "alpha");
        desk.store.wait_at(point, 1);
        let (mut one, mut other) = (desk.start_register(&device), desk.start_register(&device));
        // Turn by turn, so that both have looked before either has written.
        let (mut first, mut second) = (None, None);
        while first.is_none() || second.is_none() {
            for (task, result) in [(&mut one, &mut first), (&mut other, &mut second)] {
                if result.is_none()
                    && let std::task::Poll::Ready(registered) = task.step()
                {
                    *result = Some(accepted(registered));
                }
            }
        }
        let ((first, _), (second, _)) = (first.unwrap(), second.unwrap());
        assert_ne!(first, second);
        desk.store.wait_nowhere();
        let states = [desk.polled(&device, first), desk.polled(&device, second)];
        assert_eq!(states[0], states[1], "both operation ids tell the one record");
        assert!(matches!(states[0], State::Assigned { .. }));
    }
}

/// DPS-REG-10, DPS-STORE-4
#[test]
fn of_two_first_registers_at_an_outside_hub_the_second_joins() {
    let desk = Desk::new(vec![slow("far.example")]);
    desk.put_group(group("alpha"));
    let device = desk.by_group("line-1", "alpha");
    desk.store.wait_at(Point::BeforeApply, 1);
    let (mut one, mut other) = (desk.start_register(&device), desk.start_register(&device));
    assert!(one.step().is_pending() && other.step().is_pending());
    let (first, _) = accepted(one.end());
    let (second, _) = accepted(other.end());
    assert_eq!(first, second);
}

/// DPS-REG-15
#[test]
fn without_a_usable_hub_the_operation_fails() {
    let no_hub = State::Failed { failure: Failure::NoUsableHub, last: None };
    let desk = Desk::new(Vec::new());
    desk.put_group(group("alpha"));
    let device = desk.by_group("line-1", "alpha");
    let (operation, record) = desk.accepted(&device);
    assert_eq!(record.state, no_hub);
    assert_eq!(desk.polled(&device, operation), no_hub);

    let desk = Desk::new(vec![local("north.example")]);
    desk.put_group(group("alpha").at_hubs(&["unlinked.example"]));
    let (_, record) = desk.accepted(&desk.by_group("line-1", "alpha"));
    assert_eq!(record.state, no_hub);
}

/// DPS-REG-11, DPS-REG-15
#[test]
fn a_device_whose_register_fails_is_remembered_and_returns_to_its_hub() {
    let mut desk = desk();
    let device = desk.by_group("line-1", "alpha");
    let (_, record) = desk.accepted(&device);
    let home = assigned(&record.state).0.clone();

    desk.reopen(instance(Vec::new()));
    for _ in 0..2 {
        let (_, record) = desk.accepted(&device);
        let expected = State::Failed { failure: Failure::NoUsableHub, last: Some(home.clone()) };
        assert_eq!(record.state, expected);
    }
    desk.reopen(instance(vec![local("north.example"), local("south.example")]));
    desk.put_group(group("alpha").reprovisioned(ReprovisionPolicy::NEVER));
    let (_, record) = desk.accepted(&device);
    assert_eq!(assigned(&record.state), (&home, Substatus::ReprovisionedToInitialAssignment));
}

/// DPS-BROKER-11, DPS-REG-11
#[test]
fn a_hub_that_refuses_a_device_fails_its_operation_and_the_device_keeps_the_home_it_has() {
    let mut desk = desk();
    let device = desk.by_group("line-1", "alpha");
    let (_, record) = desk.accepted(&device);
    let home = assigned(&record.state).0.clone();
    desk.reopen(instance(vec![picky("south.example")]));
    let (operation, record) = desk.accepted(&device);
    let failed = State::Failed { failure: Failure::DeviceIdRefused, last: Some(home) };
    assert_eq!(record.state, failed);
    assert_eq!(desk.polled(&device, operation), failed);
    assert!(desk.hub_device("north.example", "line-1").is_some());
    assert!(desk.hub_device("south.example", "line-1").is_none());
}

/// DPS-REG-22
#[test]
fn a_device_whose_hub_is_no_longer_linked_moves() {
    let mut desk = Desk::new(vec![local("north.example")]);
    desk.put_individual(named("press-1", "unit-a"));
    desk.accepted(&desk.by_own_key("press-1"));
    desk.put_individual(named("press-1", "unit-b"));
    desk.reopen(instance(vec![local("south.example")]));
    let (_, record) = desk.accepted(&desk.by_own_key("press-1"));
    let (assignment, substatus) = assigned(&record.state);
    assert_eq!((assignment.hub.as_str(), assignment.device_id.as_str()), ("south.example", "unit-b"));
    assert_eq!(substatus, Substatus::DeviceDataMigrated);
}

/// DPS-REG-22: whatever hubs the entry names by now.
#[test]
fn an_assigned_device_that_may_not_move_stays_while_its_hub_is_linked() {
    let desk = Desk::new(vec![local("north.example"), local("south.example")]);
    desk.put_group(group("alpha").at_hubs(&["north.example"]));
    let device = desk.by_group("line-1", "alpha");
    desk.accepted(&device);
    desk.put_group(group("alpha").at_hubs(&["south.example"]).reprovisioned(ReprovisionPolicy::NEVER));
    let (_, record) = desk.accepted(&device);
    assert_eq!(assigned(&record.state).0.hub.as_str(), "north.example");
    let (_, record) = desk.accepted(&desk.by_group("line-2", "alpha"));
    assert_eq!(
        assigned(&record.state).0.hub.as_str(),
        "south.example",
        "a new device goes where the entry says"
    );
}

/// DPS-REG-18
#[test]
fn an_enrollments_device_id_is_used_and_kept_by_the_device_that_has_it() {
    let desk = desk();
    desk.put_individual(named("press-1", "unit-a"));
    let device = desk.by_own_key("press-1");
    let (_, record) = desk.accepted(&device);
    assert_eq!(assigned(&record.state).0.device_id.as_str(), "unit-a");

    for entry in [named("press-1", "unit-b"), individual("press-1")] {
        desk.put_individual(entry);
        let (_, record) = desk.accepted(&device);
        assert_eq!(assigned(&record.state).0.device_id.as_str(), "unit-a");
    }
    assert!(desk.hub_device("north.example", "unit-b").is_none());
}

/// DPS-REG-18, DPS-REG-19
#[test]
fn a_deleted_record_makes_the_next_register_the_first() {
    let desk = desk();
    desk.put_individual(named("press-1", "unit-a"));
    let device = desk.by_own_key("press-1");
    desk.accepted(&device);
    desk.put_individual(named("press-1", "unit-b"));
    desk.delete_record("press-1");
    desk.step_clock(60);

    let (_, record) = desk.accepted(&device);
    let (assignment, substatus) = assigned(&record.state);
    assert_eq!((assignment.device_id.as_str(), substatus), ("unit-b", Substatus::InitialAssignment));
    assert_eq!(record.created_at, desk.clock.get().0);
    assert!(desk.hub_device("north.example", "unit-a").is_some(), "the old identity stays at the hub");
}

/// DPS-REG-18, DPS-ID-2
#[test]
fn a_device_keeps_the_spelling_it_first_came_with() {
    let desk = desk();
    desk.accepted(&desk.by_group("Line-1", "alpha"));
    let (operation, record) = desk.accepted(&desk.by_group("LINE-1", "alpha"));
    assert_eq!(record.registration_id.as_str(), "Line-1");
    let (assignment, substatus) = assigned(&record.state);
    assert_eq!(assignment.device_id.as_str(), "Line-1");
    assert_eq!(substatus, Substatus::ReprovisionedToInitialAssignment);
    desk.polled(&desk.by_group("line-1", "alpha"), operation);
}

/// DPS-REG-11: the assignment belongs to the device, not to the entry.
#[test]
fn a_device_that_passes_from_a_group_to_its_own_entry_keeps_its_hub_and_id() {
    let desk = Desk::new(vec![local("north.example"), local("south.example")]);
    desk.put_group(group("alpha").at_hubs(&["north.example"]));
    let (_, record) = desk.accepted(&desk.by_group("line-1", "alpha"));
    let (hub, device_id) =
        (assigned(&record.state).0.hub.clone(), assigned(&record.state).0.device_id.clone());
    desk.put_individual(
        named("line-1", "unit-a").at_hubs(&["south.example"]).reprovisioned(ReprovisionPolicy::NEVER),
    );

    let (_, record) = desk.accepted(&desk.by_own_key("line-1"));
    assert_eq!(record.entry, individual_ref("line-1"));
    let (assignment, substatus) = assigned(&record.state);
    assert_eq!((&assignment.hub, &assignment.device_id), (&hub, &device_id));
    assert_eq!(assignment.credential, HubCredential::EnrollmentKeys);
    assert_eq!(substatus, Substatus::ReprovisionedToInitialAssignment);
}

fn named(id: &str, device_id: &str) -> IndividualEnrollment {
    IndividualEnrollment { device_id: Some(device_id.parse().unwrap()), ..individual(id) }
}
