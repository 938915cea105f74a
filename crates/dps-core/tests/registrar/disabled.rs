//! What a disabled entry does, and who is told. Spec: DPS-REG-5, DPS-REG-11, DPS-REG-20.

use dps_core::assignment::Placed;
use dps_core::enrollment::ReprovisionPolicy;
use dps_core::refusal::Unproven;
use dps_core::registration::{State, Substatus};

use crate::common::certificates::self_signed;
use crate::common::desk::{Desk, assigned, groups_tried, unproven};
use crate::common::entries::{
    AnyEntry, client, group, group_ref, individual, individual_by, individual_ref, keys, signed, tpm,
};
use crate::common::hubs::{local, slow};
use crate::common::sim_store::Call;

fn desk() -> Desk {
    let desk = Desk::new(vec![local("north.example"), local("south.example")]);
    desk.put_group(group("alpha"));
    desk
}

/// DPS-REG-5
#[test]
fn a_disabled_individual_enrollment_is_told_to_who_proves_by_it_or_by_a_group() {
    for entry in [
        individual("press-1"),
        individual_by("press-1", client(&self_signed("press-1"))),
        individual_by("press-1", tpm()),
    ] {
        let desk = desk();
        let is_symmetric = desk_takes_own_key(&entry);
        desk.put_individual(entry.disabled());
        let record = desk.told_disabled(&desk.by_group("press-1", "alpha"));
        assert_eq!(
            (&record.entry, &record.state),
            (&individual_ref("press-1"), &State::Disabled { last: None })
        );
        assert_eq!(desk.record("press-1"), Some(record));
        if is_symmetric {
            desk.told_disabled(&desk.by_own_key("press-1"));
            desk.told_disabled(&desk.signed("press-1", &keys("press-1").secondary));
        }
    }
}

fn desk_takes_own_key(entry: &dps_core::enrollment::IndividualEnrollment) -> bool {
    matches!(entry.attestation, dps_core::enrollment::Attestation::SymmetricKey(_))
}

/// DPS-REG-5
#[test]
fn nobody_else_learns_that_an_individual_enrollment_is_disabled() {
    for entry in [
        individual("press-1"),
        individual_by("press-1", client(&self_signed("press-1"))),
        individual_by("press-1", tpm()),
    ] {
        let desk = desk();
        desk.put_individual(entry.disabled());
        assert_eq!(groups_tried(desk.unproven(&desk.by_group("press-1", "beta"))), Some(1));
        let wrong_key = desk.unproven(&desk.signed("press-1", &keys("wrong").primary));
        let said = wrong_key.to_string();
        assert!(said.contains("individual enrollment press-1 is disabled"), "for the log alone: {said}");
        assert_eq!(groups_tried(wrong_key), Some(1));
        let group_key = desk.signed("press-1", &keys("alpha").primary);
        assert_eq!(desk.unproven(&group_key), Unproven::GroupKeyUsedDirectly("alpha".parse().unwrap()));
        let expired = signed("press-1", &keys("press-1").primary, desk.clock.get().after(-301));
        assert!(matches!(desk.unproven(&expired), Unproven::Expired { .. }));
        assert!(desk.record("press-1").is_none(), "and nothing is recorded");
    }
}

/// DPS-REG-5
#[test]
fn a_disabled_group_is_told_to_its_devices_only() {
    let desk = desk();
    desk.put_group(group("alpha").disabled());
    let record = desk.told_disabled(&desk.by_group("line-1", "alpha"));
    assert_eq!((&record.entry, &record.state), (&group_ref("alpha"), &State::Disabled { last: None }));
    assert_eq!(groups_tried(desk.unproven(&desk.by_group("line-2", "beta"))), Some(1));
    assert!(desk.record("line-2").is_none());
}

/// DPS-REG-5: an individual enrollment bars one device of a group that stays enabled for the others.
#[test]
fn a_disabled_individual_enrollment_bars_one_device_of_an_enabled_group() {
    let desk = desk();
    desk.put_individual(individual("line-1").disabled());
    desk.told_disabled(&desk.by_group("line-1", "alpha"));
    desk.accepted(&desk.by_group("line-2", "alpha"));
}

/// DPS-REG-20
#[test]
fn each_register_of_a_disabled_device_is_recorded_anew() {
    let desk = desk();
    desk.put_group(group("alpha").disabled());
    let device = desk.by_group("line-1", "alpha");
    let first = desk.told_disabled(&device);
    desk.step_clock(60);
    let second = desk.told_disabled(&device);
    assert_ne!(first.etag, second.etag);
    assert_ne!(first.operation.guid, second.operation.guid);
    assert_eq!(second.created_at, first.created_at);
    assert_eq!(second.updated_at, desk.clock.get().0);
    assert_eq!(desk.record("line-1"), Some(second));
}

/// DPS-REG-11
#[test]
fn a_disabled_device_is_remembered_and_given_back_its_hub() {
    let desk = desk();
    desk.put_group(group("alpha").at_hubs(&["north.example"]));
    let device = desk.by_group("line-1", "alpha");
    let (_, record) = desk.accepted(&device);
    let home = assigned(&record.state).0.clone();

    desk.put_group(group("alpha").at_hubs(&["north.example"]).disabled());
    let record = desk.told_disabled(&device);
    assert_eq!(record.state, State::Disabled { last: Some(home.clone()) });
    let record = desk.told_disabled(&device);
    assert_eq!(record.assignment(), Some(&home), "the second time as well");

    // The entry would now send a new device elsewhere.
    desk.put_group(group("alpha").at_hubs(&["south.example"]).reprovisioned(ReprovisionPolicy::NEVER));
    let (_, record) = desk.accepted(&device);
    assert_eq!(assigned(&record.state), (&home, Substatus::ReprovisionedToInitialAssignment));
}

/// DPS-REG-20, DPS-REG-14
#[test]
fn a_poll_of_a_disabled_device_says_so_and_writes_nothing() {
    let desk = desk();
    let device = desk.by_group("line-1", "alpha");
    let (operation, record) = desk.accepted(&device);
    let home = assigned(&record.state).0.clone();
    desk.put_group(group("alpha").disabled());
    let commits = desk.store.calls(Call::Commit);

    assert_eq!(desk.polled(&device, operation), State::Disabled { last: Some(home) });
    assert_eq!(desk.store.calls(Call::Commit), commits);
    assert_eq!(desk.record("line-1"), Some(record), "the record still says assigned");

    desk.put_group(group("alpha"));
    assert!(matches!(desk.polled(&device, operation), State::Assigned { .. }));
}

/// DPS-REG-5, DPS-REG-6
#[test]
fn a_poll_without_proof_does_not_learn_that_the_entry_is_disabled() {
    let desk = desk();
    let (operation, _) = desk.accepted(&desk.by_group("line-1", "alpha"));
    desk.put_group(group("alpha").disabled());
    let refused = desk.poll(&desk.by_group("line-1", "beta"), operation);
    assert_eq!(groups_tried(unproven(refused)), Some(1));
}

/// DPS-REG-20, DPS-REG-10: a device that is disabled while its hub is asked is not brought in by the hub's answer.
#[test]
fn a_register_of_a_disabled_device_ends_the_operation_that_was_under_way() {
    let desk = Desk::new(vec![slow("far.example")]);
    desk.put_group(group("alpha"));
    let device = desk.by_group("line-1", "alpha");
    let (operation, _) = desk.accepted(&device);
    let worker = desk.start_place(&desk.claim_one());
    desk.put_group(group("alpha").disabled());
    assert_eq!(desk.polled(&device, operation), State::Disabled { last: None });

    let record_now = desk.told_disabled(&device);
    assert_eq!(record_now.state, State::Disabled { last: None });
    assert!(matches!(worker.end().unwrap(), Placed::Superseded));
    assert_eq!(desk.record("line-1"), Some(record_now));
    assert_eq!(desk.polled(&device, operation), State::Disabled { last: None });
}
