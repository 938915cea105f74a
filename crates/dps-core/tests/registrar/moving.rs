//! Devices that move between hubs of which one is outside. Spec: DPS-REG-23, DPS-REG-42, DPS-REG-43, DPS-REG-45.

use dps_core::assignment::{CleanedUp, Placed};
use dps_core::enrollment::TwinDocument;
use dps_core::instance::WhenSourceUnavailable;
use dps_core::ports::HubDeviceStatus;
use dps_core::registration::{Failure, State, Substatus};

use crate::common::desk::{Desk, assigned};
use crate::common::entries::AnyEntry;
use crate::common::hubs::{instance, local, remote};
use crate::common::registry::{Fate, SimRegistry, Step};

use crate::lived::{LIVED_IN, Lived, NORTH, RESET, SOUTH, at, moved_to_south, twin};

/// DPS-REG-42, DPS-REG-43: told once it is at the new hub, and then gone from the old one.
#[test]
fn a_device_moves_with_all_that_it_has_and_is_gone_from_the_old_hub_afterwards() {
    let lived = Lived::new();
    let mut kept = lived.north.device("line-1").unwrap();
    kept.status = HubDeviceStatus::Disabled;
    lived.north.put("line-1", kept);
    lived.sent_to(at(SOUTH, 2));
    assert_eq!(assigned(&lived.desk.placed()).1, Substatus::DeviceDataMigrated);
    assert_eq!(lived.north.take_calls(), [Step::Identity, Step::Twin]);
    assert_eq!(lived.south.take_calls(), [Step::Create]);
    assert_eq!(lived.south.device("line-1").unwrap().status, HubDeviceStatus::Disabled);
    assert!(lived.north.device("line-1").is_some());
    assert_eq!(lived.desk.clean_up(), [CleanedUp::Gone]);
    assert_eq!(lived.north.take_calls(), [Step::Identity, Step::Delete]);
    lived.check_home(SOUTH, "moved");
}

/// DPS-REG-42: nobody asks the old hub for what is not taken along.
#[test]
fn a_device_that_is_reset_begins_anew() {
    let lived = Lived::new();
    lived.sent_to(at(SOUTH, 2).reprovisioned(RESET));
    assert_eq!(assigned(&lived.desk.placed()).1, Substatus::DeviceDataReset);
    assert_eq!(lived.north.take_calls(), []);
    let kept = lived.south.device("line-1").unwrap();
    assert_eq!((kept.twin, kept.iot_edge), (Some(twin(2)), false));
    assert_eq!(lived.desk.clean_up(), [CleanedUp::Gone]);
    assert!(lived.north.device("line-1").is_none());
}

/// DPS-REG-42
#[test]
fn a_device_that_its_old_hub_does_not_have_begins_anew() {
    let lived = Lived::new();
    lived.north.remove("line-1");
    lived.sent_to(at(SOUTH, 2));
    assert_eq!(assigned(&lived.desk.placed()).1, Substatus::DeviceDataReset);
    assert_eq!(lived.south.device("line-1").unwrap().twin, Some(twin(2)));
    assert_eq!(lived.desk.clean_up(), [CleanedUp::Gone]);
}

/// DPS-REG-42: as from one local hub to another.
#[test]
fn what_a_device_left_at_its_new_hub_long_ago_counts_no_more() {
    let lived = Lived::new();
    let mut old = lived.north.device("line-1").unwrap();
    old.twin = Some(twin(9));
    lived.south.put("line-1", old);
    lived.sent_to(at(SOUTH, 2));
    lived.desk.placed();
    let expected = [Step::Create, Step::Identity, Step::Delete, Step::Create];
    assert_eq!(lived.south.take_calls(), expected);
    lived.settle();
    lived.check_home(SOUTH, "moved");
}

/// DPS-REG-42: the old hub cannot be read.
#[test]
fn an_old_hub_that_cannot_be_read_fails_the_operation_or_costs_the_device_its_data() {
    for (fate, seconds) in [
        (Fate::Refused("no"), 0),
        (Fate::NotAllowed, 0),
        (Fate::Unavailable, 61),
        (Fate::Lost, 61),
        (Fate::Throttled, 3_601),
    ] {
        for setting in WhenSourceUnavailable::ALL {
            for step in [Step::Identity, Step::Twin] {
                let lived = Lived::with(setting);
                lived.sent_to(at(SOUTH, 2));
                if seconds > 0 {
                    lived.north.script(step, fate.clone());
                    let placed = lived.desk.place();
                    assert!(matches!(placed, Placed::Postponed { .. }), "{fate:?} {placed:?}");
                    lived.desk.step_clock(seconds);
                }
                lived.north.script(step, fate.clone());
                let Placed::Recorded { registration, trouble } = lived.desk.place() else {
                    panic!("{fate:?}")
                };
                assert_eq!(trouble.unwrap().hub.as_str(), NORTH);
                match setting {
                    WhenSourceUnavailable::Fail => {
                        let State::Failed { failure, last: Some(last) } = registration.state else {
                            panic!("{fate:?}")
                        };
                        let expected = match fate {
                            Fate::Refused(said) => Failure::HubRefused { said: said.into() },
                            Fate::NotAllowed => Failure::HubNotAllowed,
                            Fate::Throttled => Failure::HubThrottled,
                            _ => Failure::SourceUnavailable,
                        };
                        assert_eq!((failure, last.hub.as_str()), (expected, NORTH));
                        lived.settle();
                        assert!(lived.south.device("line-1").is_none());
                        lived.sent_to(at(SOUTH, 2));
                        lived.settle();
                        lived.check_home(SOUTH, "at the next register");
                    }
                    WhenSourceUnavailable::Reset => {
                        assert_eq!(assigned(&registration.state).1, Substatus::DeviceDataReset);
                        assert_eq!(lived.south.device("line-1").unwrap().twin, Some(twin(2)));
                        lived.settle();
                        assert!(lived.north.device("line-1").is_none());
                    }
                }
            }
        }
    }
}

/// DPS-REG-42, DPS-REG-43: in either direction.
#[test]
fn a_device_moves_between_a_hub_that_is_kept_here_and_one_outside() {
    let north = SimRegistry::new();
    let desk = Desk::new(vec![remote(NORTH, &north), local(SOUTH)]);
    desk.put_group(at(SOUTH, 1));
    let device = desk.by_group("line-1", "alpha");
    desk.accepted(&device);
    desk.put_group(at(NORTH, 2));
    desk.accepted(&device);
    assert!(desk.hub_device(SOUTH, "line-1").is_some());
    assert_eq!(assigned(&desk.placed()).1, Substatus::DeviceDataMigrated);
    assert!(desk.hub_device(SOUTH, "line-1").is_none());
    let mut kept = north.device("line-1").unwrap();
    assert_eq!(kept.twin, Some(twin(1)));
    (kept.twin, kept.status) = (Some(TwinDocument(LIVED_IN.into())), HubDeviceStatus::Disabled);
    north.put("line-1", kept);

    desk.put_group(at(SOUTH, 3));
    let (_, record) = desk.accepted(&device);
    let State::Assigning { placing, .. } = &record.state else { panic!("{record:?}") };
    assert_eq!(&*placing.peer, "0ne00000000/south.example<north.example");
    assert_eq!(assigned(&desk.placed()).1, Substatus::DeviceDataMigrated);
    let at_home = desk.hub_device(SOUTH, "line-1").unwrap();
    assert_eq!(&*at_home.device.initial_twin.unwrap().0, LIVED_IN);
    assert_eq!(at_home.status, HubDeviceStatus::Disabled);
    assert_eq!(desk.clean_up(), [CleanedUp::Gone]);
    assert!(north.device("line-1").is_none());

    // Without its data nobody has to be asked before it is told.
    desk.put_group(at(NORTH, 4));
    desk.accepted(&device);
    desk.placed();
    desk.put_group(at(SOUTH, 5).reprovisioned(RESET));
    let (_, record) = desk.accepted(&device);
    assert_eq!(assigned(&record.state).1, Substatus::DeviceDataReset);
    assert_eq!(desk.clean_up(), [CleanedUp::Gone]);
    assert!(north.device("line-1").is_none());
}

/// DPS-REG-43: a hub that is linked no more is not asked; what was ordered before is not forgotten.
#[test]
fn what_is_to_be_gone_waits_for_its_hub_to_be_linked_again() {
    let Lived { mut desk, north, south, .. } = moved_to_south();
    desk.reopen(instance(vec![remote(SOUTH, &south)]));
    let done = desk.clean_up();
    assert!(matches!(&done[..], [CleanedUp::Postponed { .. }]), "{done:?}");
    desk.reopen(instance(vec![remote(NORTH, &north), remote(SOUTH, &south)]));
    desk.step_clock(600);
    assert_eq!(desk.clean_up(), [CleanedUp::Gone]);
    assert!(north.device("line-1").is_none());
}

/// DPS-REG-43: again and again, with what the hub did to show.
#[test]
fn a_hub_that_does_not_let_a_device_go_is_asked_again() {
    let lived = moved_to_south();
    let mut pauses = Vec::new();
    for (step, fate) in [
        (Step::Identity, Fate::Unavailable),
        (Step::Delete, Fate::Refused("no")),
        (Step::Delete, Fate::Lost),
        (Step::Identity, Fate::Throttled),
    ] {
        lived.north.script(step, fate);
        let done = lived.desk.clean_up();
        let [CleanedUp::Postponed { until, .. }] = &done[..] else { panic!("{done:?}") };
        let pause = until.duration_since(lived.desk.clock.get().0).as_secs();
        pauses.push(pause);
        lived.desk.step_clock(pause);
    }
    assert_eq!(pauses, [1, 2, 4, 7]);
    // Someone writes it in between: that version is to be gone as well.
    lived.north.script(Step::Delete, Fate::Overtaken);
    assert_eq!(lived.desk.clean_up(), [CleanedUp::Gone]);
    lived.check_home(SOUTH, "moved");
}

/// DPS-REG-45: what may have been made at a hub that the device was not told of.
#[test]
fn a_migration_that_fails_leaves_nothing_at_the_new_hub() {
    for fate in [Fate::Unheard, Fate::Lost] {
        let lived = Lived::new();
        lived.sent_to(at(SOUTH, 2));
        lived.south.script(Step::Create, fate.clone());
        assert!(matches!(lived.desk.place(), Placed::Postponed { .. }));
        lived.desk.step_clock(301);
        for step in [Step::Create, Step::Identity] {
            lived.south.script(step, Fate::Unavailable);
        }
        let failed = lived.desk.placed();
        let State::Failed { failure: Failure::HubUnavailable, last: Some(last) } = &failed else {
            panic!("{failed:?}")
        };
        assert_eq!(last.hub.as_str(), NORTH);
        lived.settle();
        assert!(lived.south.device("line-1").is_none(), "{fate:?}");
        assert!(lived.north.device("line-1").is_some(), "{fate:?}");
        lived.sent_to(at(NORTH, 1));
        lived.settle();
        lived.check_home(NORTH, "it never left");
    }
}

/// DPS-REG-10: the device asks again, and joins what is under way.
#[test]
fn a_device_that_registers_while_it_moves_joins_the_move() {
    let lived = Lived::new();
    lived.sent_to(at(SOUTH, 2));
    let before = lived.desk.record("line-1").unwrap();
    lived.desk.put_group(at(NORTH, 3));
    let (_, joined) = lived.desk.accepted(&lived.device);
    assert_eq!(joined, before);
    assert_eq!(assigned(&lived.desk.placed()).0.hub.as_str(), SOUTH);
}
