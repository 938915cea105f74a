//! What the registrar makes of the store: conditions, durability, failures. Spec: DPS-REG-12, DPS-REG-13, DPS-STORE-2 to
//! DPS-STORE-4.

use dps_core::enrollment::ReprovisionPolicy;
use dps_core::ports::StoreError;
use dps_core::refusal::{NoSuchOperation, Refusal, Unproven};
use dps_core::register::Registered;
use dps_core::registration::{State, Substatus};

use crate::common::desk::{Desk, accepted, assigned, groups_tried, unproven};
use crate::common::entries::{AnyEntry, group, group_ref, individual, individual_ref, keyed};
use crate::common::executor::Running;
use crate::common::hubs::local;
use crate::common::image::Faults;
use crate::common::sim_store::{Call, Point, Syncs};

fn desk() -> Desk {
    let desk = Desk::new(vec![local("north.example"), local("south.example")]);
    desk.put_group(group("alpha").at_hubs(&["north.example"]).reprovisioned(ReprovisionPolicy::NEVER));
    desk
}

/// A register of line-1 that has decided and not written.
fn decided(desk: &Desk) -> Running<Result<Registered, Refusal>> {
    desk.store.wait_at(Point::BeforeApply, 1);
    let mut register = desk.start_register(&desk.by_group("line-1", "alpha"));
    assert!(register.step().is_pending());
    assert_eq!(desk.store.calls(Call::Commit), 1);
    desk.store.wait_nowhere();
    register
}

/// DPS-REG-13, DPS-STORE-4
#[test]
fn an_entry_disabled_before_the_write_never_assigns() {
    let desk = desk();
    let register = decided(&desk);
    desk.put_group(group("alpha").disabled());
    let told = register.end();
    let Ok(Registered::Disabled { registration }) = told else { panic!("{told:?}") };
    assert_eq!(registration.state, State::Disabled { last: None });
    assert_eq!(desk.record("line-1"), Some(registration));
    assert!(desk.hub_device("north.example", "line-1").is_none());
}

/// DPS-REG-13
#[test]
fn an_entry_enabled_before_the_write_of_disabled_assigns() {
    let desk = desk();
    desk.put_group(group("alpha").disabled());
    let register = decided(&desk);
    desk.put_group(group("alpha"));
    let (_, record) = accepted(register.end());
    assert!(matches!(record.state, State::Assigned { .. }));
}

/// DPS-REG-13
#[test]
fn an_entry_that_is_gone_or_has_other_keys_before_the_write_refuses() {
    let desk_of_deleted = desk();
    let register = decided(&desk_of_deleted);
    desk_of_deleted.delete_group("alpha");
    assert_eq!(groups_tried(unproven(register.end())), Some(0));
    assert!(desk_of_deleted.record("line-1").is_none());

    let desk_of_renewed = desk();
    let register = decided(&desk_of_renewed);
    desk_of_renewed.put_group(keyed(group("alpha"), "renewed"));
    assert_eq!(groups_tried(unproven(register.end())), Some(1));
    assert!(desk_of_renewed.record("line-1").is_none());
}

/// DPS-REG-13
#[test]
fn an_entry_that_names_another_hub_before_the_write_is_followed() {
    let desk = desk();
    let register = decided(&desk);
    desk.put_group(group("alpha").at_hubs(&["south.example"]));
    let (_, record) = accepted(register.end());
    assert_eq!(assigned(&record.state).0.hub.as_str(), "south.example");
    assert!(
        desk.hub_device("north.example", "line-1").is_none(),
        "nothing of the first decision was written"
    );
}

/// DPS-STORE-4
#[test]
fn a_record_written_by_another_before_the_write_is_built_upon() {
    let desk = desk();
    desk.put_group(group("beta").at_hubs(&["south.example"]));
    let register = decided(&desk);
    desk.accepted(&desk.by_group("line-1", "beta"));
    let told = register.end();
    let Ok(Registered::Accepted { registration, noted, .. }) = told else { panic!("{told:?}") };
    let (assignment, substatus) = assigned(&registration.state);
    assert_eq!(assignment.hub.as_str(), "south.example", "it stays where it lives by now");
    assert_eq!(substatus, Substatus::ReprovisionedToInitialAssignment);
    assert_eq!(
        (&registration.entry, noted.claimed_from),
        (&group_ref("alpha"), Some("beta".parse().unwrap()))
    );
    assert!(desk.hub_device("north.example", "line-1").is_none());
}

/// DPS-STORE-4, DPS-REG-19
#[test]
fn a_record_deleted_before_the_write_makes_the_register_the_first() {
    let desk = desk();
    let mut first = desk.start_register(&desk.by_group("line-1", "alpha"));
    assert!(first.run().is_ready());
    desk.store.wait_at(Point::BeforeApply, 1);
    let mut register = desk.start_register(&desk.by_group("line-1", "alpha"));
    assert!(register.step().is_pending());
    desk.store.wait_nowhere();
    desk.delete_record("line-1");
    let (_, record) = accepted(register.end());
    assert_eq!(assigned(&record.state).1, Substatus::InitialAssignment);
}

/// DPS-REG-1, DPS-REG-13: the second look is a whole one.
#[test]
fn a_decision_made_again_sees_an_entry_of_the_devices_own() {
    let desk = desk();
    let register = decided(&desk);
    desk.put_group(group("alpha"));
    desk.put_individual(individual("line-1"));
    assert_eq!(unproven(register.end()), Unproven::WrongKey(individual_ref("line-1")));
}

/// DPS-STORE-4
#[test]
fn a_register_that_never_gets_its_turn_gives_up() {
    let desk = desk();
    desk.store.set_faults(Faults { always_outdated: true, ..Faults::default() });
    let refused = desk.register(&desk.by_group("line-1", "alpha"));
    assert!(matches!(refused, Err(Refusal::Contended(16))), "{refused:?}");
    assert_eq!(desk.store.calls(Call::Commit), 16);
    assert!(desk.record("line-1").is_none());
}

/// DPS-REG-12
#[test]
fn a_store_that_fails_is_told_and_nothing_is_promised() {
    for call in [Call::LookUp, Call::CandidateGroups, Call::Commit] {
        for error in [
            StoreError::Unavailable("the disk is full".to_owned()),
            StoreError::Unreadable("damaged".to_owned()),
        ] {
            let desk = desk();
            desk.store.break_at(call, error.clone());
            let refused = desk.register(&desk.by_group("line-1", "alpha"));
            let Err(Refusal::Store(told)) = refused else { panic!("{call:?}: {refused:?}") };
            assert_eq!(told.to_string(), error.to_string());
            assert!(desk.store.durable().registrations.is_empty());
        }
    }
}

/// DPS-REG-12, DPS-STORE-2
#[test]
fn the_answer_waits_until_the_record_is_durable() {
    let desk = desk();
    desk.store.set_syncs(Syncs::ByHand);
    let device = desk.by_group("line-1", "alpha");
    let mut register = desk.start_register(&device);
    assert!(register.run().is_pending());
    assert!(desk.store.has_unsynced() && desk.record("line-1").is_none(), "applied, and nobody sees it");
    assert_eq!(desk.store.sync(), 1);
    let (operation, _) = accepted(register.end());
    desk.store.crash();
    desk.store.restart();
    assert!(matches!(desk.polled(&device, operation), State::Assigned { .. }));
}

/// DPS-REG-12, DPS-STORE-2
#[test]
fn a_register_cut_off_by_a_crash_was_never_answered_and_leaves_nothing_behind() {
    for point in [Point::BeforeRead, Point::AfterRead, Point::BeforeApply, Point::BeforeDurable] {
        let desk = desk();
        desk.store.wait_at(point, 1);
        let mut register = desk.start_register(&desk.by_group("line-1", "alpha"));
        assert!(register.step().is_pending());
        desk.store.crash();
        assert!(register.run().is_pending(), "{point:?}: a process that is gone answers nobody");
        let refused = desk.register(&desk.by_group("line-1", "alpha"));
        assert!(matches!(refused, Err(Refusal::Store(StoreError::Unavailable(_)))), "{refused:?}");
        desk.store.restart();
        desk.store.wait_nowhere();
        assert!(desk.record("line-1").is_none(), "{point:?}");
        assert!(desk.hub_device("north.example", "line-1").is_none(), "{point:?}");
        desk.accepted(&desk.by_group("line-1", "alpha"));
    }
}

/// DPS-REG-14: durable and not answered: the device asks again and finds itself where it is.
#[test]
fn a_register_whose_answer_was_lost_in_a_crash_is_repeated_to_the_same_end() {
    let desk = desk();
    desk.store.wait_at(Point::BeforeAnswer, 1);
    let mut register = desk.start_register(&desk.by_group("line-1", "alpha"));
    assert!(register.step().is_pending());
    desk.store.crash();
    desk.store.restart();
    desk.store.wait_nowhere();
    let lost = desk.record("line-1").unwrap();
    let (_, record) = desk.accepted(&desk.by_group("line-1", "alpha"));
    let home = assigned(&lost.state).0;
    assert_eq!(assigned(&record.state), (home, Substatus::ReprovisionedToInitialAssignment));
}

/// DPS-STORE-3
#[test]
fn registers_that_arrive_together_become_durable_together() {
    let desk = desk();
    desk.store.set_syncs(Syncs::ByHand);
    let ids = ["line-1", "line-2", "line-3"];
    let mut registers = ids.map(|id| desk.start_register(&desk.by_group(id, "alpha")));
    assert!(registers.iter_mut().all(|register| register.run().is_pending()));
    assert_eq!(desk.store.sync(), 3);
    for register in registers {
        accepted(register.end());
    }
}

/// DPS-REG-12: a poll tells nothing that a crash could take back.
#[test]
fn a_poll_does_not_see_a_record_that_is_not_durable() {
    let desk = desk();
    let device = desk.by_group("line-1", "alpha");
    let (operation, _) = desk.accepted(&device);
    desk.delete_record("line-1");
    desk.store.set_syncs(Syncs::ByHand);
    let mut register = desk.start_register(&device);
    assert!(register.run().is_pending());
    let refused = desk.poll(&device, operation);
    assert!(matches!(refused, Err(Refusal::NoSuchOperation(NoSuchOperation::NoRecord))), "{refused:?}");
    desk.store.sync();
    desk.polled(&device, operation);
}
