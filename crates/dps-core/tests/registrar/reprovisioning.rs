//! Devices that move, and what goes with them. Spec: DPS-REG-22, DPS-REG-23.

use dps_core::attestation::DeviceClaim;
use dps_core::enrollment::{EnrollmentGroup, ReprovisionPolicy, TwinDocument};
use dps_core::instance::{HubKind, LinkedHub};
use dps_core::ports::{Hub, HubDevice, Placement};
use dps_core::registration::{State, Substatus};

use crate::common::desk::{Desk, assigned};
use crate::common::entries::{AnyEntry, group};
use crate::common::hubs::{instance, linked, local};

const NORTH: &str = "north.example";
const SOUTH: &str = "south.example";

const RESET: ReprovisionPolicy =
    ReprovisionPolicy { update_hub_assignment: true, migrate_device_data: false };

/// A hub of which only the name is known.
struct NameOnly;

impl Hub for NameOnly {
    fn place(&self, _: HubDevice) -> Placement {
        Placement::Writes(Vec::new())
    }
}

fn name_only(name: &str) -> LinkedHub {
    LinkedHub { kind: HubKind::Static, ..linked(name, std::sync::Arc::new(NameOnly)) }
}

fn twin(number: u32) -> TwinDocument {
    TwinDocument(format!(r#"{{"tags":{{"n":{number}}}}}"#).into())
}

/// The group, at one hub, with a twin of that number.
fn at(hub: &str, number: u32) -> EnrollmentGroup {
    let mut group = group("alpha").at_hubs(&[hub]);
    group.settings.initial_twin = Some(twin(number));
    group
}

/// A device that lives at the northern hub with twin 1 as an Edge device.
fn settled(hubs: Vec<LinkedHub>) -> (Desk, DeviceClaim) {
    let desk = Desk::new(hubs);
    let mut group = at(NORTH, 1);
    group.settings.iot_edge = true;
    desk.put_group(group);
    let device = desk.by_group("line-1", "alpha");
    desk.accepted(&device);
    (desk, device)
}

fn both() -> Vec<LinkedHub> {
    vec![local(NORTH), local(SOUTH)]
}

/// Where the device lives after its next register, and what was done to its data.
#[track_caller]
fn moved(desk: &Desk, device: &DeviceClaim) -> (String, Substatus) {
    let (_, record) = desk.accepted(device);
    let (assignment, substatus) = assigned(&record.state);
    (assignment.hub.as_str().to_owned(), substatus)
}

/// DPS-REG-22, DPS-REG-23: every policy, and none.
#[test]
fn the_policy_says_whether_a_device_moves_and_what_goes_with_it() {
    let never_and_migrate = ReprovisionPolicy { update_hub_assignment: false, migrate_device_data: true };
    for (policy, predates, expected) in [
        (Some(ReprovisionPolicy::MIGRATE), false, (SOUTH, Substatus::DeviceDataMigrated)),
        (Some(ReprovisionPolicy::MIGRATE), true, (SOUTH, Substatus::DeviceDataMigrated)),
        (Some(RESET), false, (SOUTH, Substatus::DeviceDataReset)),
        (Some(ReprovisionPolicy::NEVER), false, (NORTH, Substatus::ReprovisionedToInitialAssignment)),
        (Some(never_and_migrate), false, (NORTH, Substatus::ReprovisionedToInitialAssignment)),
        (None, false, (SOUTH, Substatus::DeviceDataMigrated)),
        (None, true, (NORTH, Substatus::ReprovisionedToInitialAssignment)),
    ] {
        let (desk, mut device) = settled(both());
        device.predates_reprovisioning = predates;
        let mut group = at(SOUTH, 2);
        group.settings.reprovision_policy = policy;
        desk.put_group(group);
        let (hub, substatus) = expected;
        assert_eq!(moved(&desk, &device), (hub.to_owned(), substatus), "{policy:?} {predates}");
        let other = if hub == SOUTH { NORTH } else { SOUTH };
        assert!(desk.hub_device(other, "line-1").is_none(), "{policy:?}: it lives at one hub alone");
        let device = desk.hub_device(hub, "line-1").unwrap().device;
        // The capability of a device that stays follows its entry; the twin does not.
        let (number, iot_edge) = match substatus {
            Substatus::DeviceDataReset => (2, false),
            Substatus::DeviceDataMigrated => (1, true),
            _ => (1, false),
        };
        assert_eq!((device.initial_twin, device.iot_edge), (Some(twin(number)), iot_edge), "{policy:?}");
    }
}

/// DPS-REG-22: nothing happens before the device registers, and nothing more once it is where it belongs.
#[test]
fn a_device_moves_once_and_then_stays() {
    let (desk, device) = settled(both());
    let (operation, _) = desk.accepted(&device);
    desk.put_group(at(SOUTH, 2));
    assert_eq!(assigned(&desk.polled(&device, operation)).0.hub.as_str(), NORTH);
    assert_eq!(moved(&desk, &device).1, Substatus::DeviceDataMigrated);
    for _ in 0..2 {
        assert_eq!(moved(&desk, &device), (SOUTH.to_owned(), Substatus::ReprovisionedToInitialAssignment));
    }
    assert_eq!(desk.hub_device(SOUTH, "line-1").unwrap().device.initial_twin, Some(twin(1)));
}

/// DPS-REG-23: there and back again, with nothing left behind and nothing of old found again.
#[test]
fn what_a_device_once_left_at_a_hub_does_not_come_back() {
    let (desk, device) = settled(both());
    // Its identity stays at the hub when its record is deleted.
    desk.delete_record("line-1");
    desk.put_group(at(SOUTH, 2));
    assert_eq!(moved(&desk, &device), (SOUTH.to_owned(), Substatus::InitialAssignment));
    assert!(desk.hub_device(NORTH, "line-1").is_some());
    desk.put_group(at(NORTH, 3));
    assert_eq!(moved(&desk, &device), (NORTH.to_owned(), Substatus::DeviceDataMigrated));
    assert_eq!(desk.hub_device(NORTH, "line-1").unwrap().device.initial_twin, Some(twin(2)));
    desk.put_group(at(SOUTH, 4).reprovisioned(RESET));
    assert_eq!(moved(&desk, &device), (SOUTH.to_owned(), Substatus::DeviceDataReset));
    assert_eq!(desk.hub_device(SOUTH, "line-1").unwrap().device.initial_twin, Some(twin(4)));
    assert!(desk.hub_device(NORTH, "line-1").is_none());
}

/// DPS-REG-23: nothing is promised that cannot be done.
#[test]
fn from_or_to_a_hub_of_which_only_the_name_is_known_no_data_moves() {
    let (desk, device) = settled(vec![local(NORTH), name_only(SOUTH)]);
    desk.put_group(at(SOUTH, 2));
    assert_eq!(moved(&desk, &device), (SOUTH.to_owned(), Substatus::DeviceDataReset));
    assert!(desk.hub_device(NORTH, "line-1").is_none());
    desk.put_group(at(NORTH, 3));
    assert_eq!(moved(&desk, &device), (NORTH.to_owned(), Substatus::DeviceDataReset));
    assert_eq!(desk.hub_device(NORTH, "line-1").unwrap().device.initial_twin, Some(twin(3)));
}

/// DPS-REG-23: a hub that is linked no more gives up what it has here.
#[test]
fn a_device_leaves_a_hub_that_is_not_linked_any_more_with_its_data() {
    for (policy, expected, number) in [
        (ReprovisionPolicy::MIGRATE, Substatus::DeviceDataMigrated, 1),
        (RESET, Substatus::DeviceDataReset, 2),
        (ReprovisionPolicy::NEVER, Substatus::DeviceDataReset, 2),
    ] {
        let (mut desk, device) = settled(both());
        desk.reopen(instance(vec![local(SOUTH)]));
        desk.put_group(at(SOUTH, 2).reprovisioned(policy));
        assert_eq!(moved(&desk, &device), (SOUTH.to_owned(), expected));
        assert_eq!(desk.hub_device(SOUTH, "line-1").unwrap().device.initial_twin, Some(twin(number)));
        assert!(desk.hub_device(NORTH, "line-1").is_none());
    }
}

/// DPS-REG-11, DPS-REG-22: where no hub may take it, it is told so, and not forgotten.
#[test]
fn a_device_that_has_nowhere_to_go_keeps_its_identity_where_it_was() {
    let (desk, device) = settled(both());
    desk.put_group(at("gone.example", 2));
    let (_, record) = desk.accepted(&device);
    let State::Failed { last: Some(last), .. } = &record.state else { panic!("{record:?}") };
    assert_eq!(last.hub.as_str(), NORTH);
    assert!(desk.hub_device(NORTH, "line-1").is_some());
    desk.put_group(at(NORTH, 2));
    assert_eq!(moved(&desk, &device), (NORTH.to_owned(), Substatus::ReprovisionedToInitialAssignment));
}
