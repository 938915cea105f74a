//! Devices that move between hubs of which one is outside, with all that can go wrong on the way. Spec: DPS-REG-23, DPS-REG-42 to DPS-REG-44.

use std::sync::Arc;

use dps_core::assignment::{CleanedUp, Placed};
use dps_core::attestation::DeviceClaim;
use dps_core::enrollment::{EnrollmentGroup, ReprovisionPolicy, TwinDocument};
use dps_core::instance::{ServiceInstance, WhenSourceUnavailable};
use dps_core::ports::HubDeviceStatus;
use dps_core::refusal::Refusal;
use dps_core::registration::{Failure, State, Substatus};

use crate::common::desk::{Desk, assigned};
use crate::common::entries::{AnyEntry, group};
use crate::common::executor::Running;
use crate::common::hubs::{instance, local, remote};
use crate::common::inline_pool::InlinePool;
use crate::common::registry::{Fate, SimRegistry, Step};

const NORTH: &str = "north.example";
const SOUTH: &str = "south.example";

const RESET: ReprovisionPolicy =
    ReprovisionPolicy { update_hub_assignment: true, migrate_device_data: false };

/// As a hub has it: with what the device reported.
const LIVED_IN: &str = r#"{"tags":{"n":1},"properties":{"desired":{"d":1},"reported":{"r":1}}}"#;

/// A device that lives at the northern hub, both hubs outside.
struct Lived {
    desk: Desk,
    device: DeviceClaim,
    north: Arc<SimRegistry>,
    south: Arc<SimRegistry>,
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

impl Lived {
    fn new() -> Self {
        Self::with(WhenSourceUnavailable::Fail)
    }

    fn with(when_source_unavailable: WhenSourceUnavailable) -> Self {
        let (north, south) = (SimRegistry::new(), SimRegistry::new());
        let hubs = vec![remote(NORTH, &north), remote(SOUTH, &south)];
        let instance = ServiceInstance { when_source_unavailable, ..instance(hubs) };
        let desk = Desk::with(instance, Arc::new(InlinePool::default()));
        desk.put_group(at(NORTH, 1));
        let device = desk.by_group("line-1", "alpha");
        desk.accepted(&device);
        assert_eq!(assigned(&desk.placed()).0.hub.as_str(), NORTH);
        let mut kept = north.device("line-1").unwrap();
        kept.twin = Some(TwinDocument(LIVED_IN.into()));
        kept.iot_edge = true;
        north.put("line-1", kept);
        north.take_calls();
        south.take_calls();
        Self { desk, device, north, south }
    }

    /// It is to live there from its next register on, which it makes.
    fn sent_to(&self, group: EnrollmentGroup) {
        self.desk.put_group(group);
        let device = self.desk.by_group("line-1", "alpha");
        let (_, record) = self.desk.accepted(&device);
        assert!(matches!(record.state, State::Assigning { .. }), "{record:?}");
    }

    /// All that waits is done, over every pause, and what is to be looked at again is.
    fn settle(&self) {
        for minutes in [2, 2, 70, 70] {
            self.desk.step_clock(minutes * 60);
            for claimed in self.desk.claim() {
                self.desk.start_place(&claimed).end().unwrap();
            }
            self.desk.clean_up();
        }
    }

    /// It lives there with its twin, and nowhere else.
    #[track_caller]
    fn check_home(&self, hub: &str, why: &str) {
        let (home, other) =
            if hub == NORTH { (&self.north, &self.south) } else { (&self.south, &self.north) };
        let record = self.desk.record("line-1").unwrap();
        assert_eq!(assigned(&record.state).0.hub.as_str(), hub, "{why}");
        let kept = home.device("line-1").unwrap_or_else(|| panic!("{why}: it is nowhere"));
        assert_eq!(&*kept.twin.unwrap().0, LIVED_IN, "{why}");
        assert!(kept.iot_edge, "{why}");
        assert!(other.device("line-1").is_none(), "{why}: it is still at the other hub");
        assert!(self.desk.claim_clean_ups().is_empty(), "{why}");
    }
}

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

/// A device that has moved, and is to be gone from where it was.
fn moved_to_south() -> Lived {
    let lived = Lived::new();
    lived.sent_to(at(SOUTH, 2));
    assert!(matches!(lived.desk.placed(), State::Assigned { .. }));
    lived
}

/// DPS-REG-43: it is to stay from the commit on that says so.
#[test]
fn a_device_that_comes_back_is_not_removed_by_what_was_ordered_before() {
    let lived = moved_to_south();
    let frozen = lived.desk.claim_clean_ups().remove(0);
    lived.north.wait_a_turn(true);
    // It has read the version there, and not yet asked whether it is still to be gone.
    let mut asked = lived.desk.start_clean_up(&frozen);
    for _ in 0..2 {
        assert!(asked.step().is_pending());
    }
    lived.north.wait_a_turn(false);
    lived.sent_to(at(NORTH, 3));
    assert_eq!(asked.end().unwrap(), CleanedUp::Superseded);
    assert_eq!(lived.desk.start_clean_up(&frozen).end().unwrap(), CleanedUp::Superseded);
    assert_eq!(assigned(&lived.desk.placed()).1, Substatus::DeviceDataMigrated);
    lived.settle();
    lived.check_home(NORTH, "back");
}

/// DPS-REG-43, DPS-REG-44: the worker stands before its deletion while the device comes back.
#[test]
fn a_removal_that_was_decided_before_a_device_came_back_removes_another_version_or_none() {
    for turns in 0.. {
        let lived = moved_to_south();
        lived.north.wait_a_turn(true);
        let frozen = lived.desk.claim_clean_ups().remove(0);
        let mut removal = lived.desk.start_clean_up(&frozen);
        let has_ended = (0..turns).any(|_| removal.step().is_ready());
        lived.north.wait_a_turn(false);
        lived.sent_to(at(NORTH, 3));
        lived.desk.placed();
        if !has_ended {
            removal.end().unwrap();
        }
        lived.settle();
        lived.check_home(NORTH, &format!("removal frozen after {turns} turns"));
        if has_ended {
            assert!(turns >= 4, "{turns}");
            break;
        }
    }
}

/// Steps of a try until it is over, so that each can be cut off.
fn steps(worker: &mut Running<Result<Placed, Refusal>>, turns: u32) -> bool {
    (0..turns).any(|_| worker.step().is_ready())
}

/// DPS-REG-44: a process that ends at each of the steps of a migration.
#[test]
fn a_migration_that_is_cut_off_anywhere_is_carried_through_by_the_next_worker() {
    for turns in 0.. {
        let lived = Lived::new();
        lived.sent_to(at(SOUTH, 2));
        slow(&lived, true);
        let mut worker = lived.desk.start_place(&lived.desk.claim_one());
        let has_ended = steps(&mut worker, turns);
        drop(worker);
        slow(&lived, false);
        lived.settle();
        lived.check_home(SOUTH, &format!("cut off after {turns} turns"));
        if has_ended {
            assert!(turns >= 8, "{turns}");
            break;
        }
    }
}

/// DPS-REG-44: and of what comes after it.
#[test]
fn a_clean_up_that_is_cut_off_anywhere_is_carried_through_by_the_next_worker() {
    for turns in 0..8 {
        let lived = moved_to_south();
        slow(&lived, true);
        let mut removal = lived.desk.start_clean_up(&lived.desk.claim_clean_ups().remove(0));
        let _ = (0..turns).any(|_| removal.step().is_ready());
        drop(removal);
        slow(&lived, false);
        lived.settle();
        lived.check_home(SOUTH, &format!("cut off after {turns} turns"));
    }
}

/// Each call and each write takes a turn.
fn slow(lived: &Lived, is_slow: bool) {
    lived.north.wait_a_turn(is_slow);
    lived.south.wait_a_turn(is_slow);
    match is_slow {
        true => lived.desk.store.wait_at(crate::common::sim_store::Point::BeforeApply, 1),
        false => lived.desk.store.wait_nowhere(),
    }
}

/// DPS-REG-44: a worker is frozen at each step of A to B, and goes on when the device is back at A.
#[test]
fn a_worker_that_was_frozen_while_the_device_went_there_and_back_leaves_it_at_one_hub() {
    for turns in 0.. {
        let lived = Lived::new();
        lived.sent_to(at(SOUTH, 2));
        slow(&lived, true);
        let mut frozen = lived.desk.start_place(&lived.desk.claim_one());
        let has_ended = steps(&mut frozen, turns);
        slow(&lived, false);
        if !has_ended {
            lived.desk.step_clock(61);
            lived.desk.placed();
        }
        // With and without the old hub rid of it in between.
        if turns.is_multiple_of(2) {
            lived.desk.clean_up();
        }
        lived.sent_to(at(NORTH, 3));
        lived.desk.placed();
        lived.desk.clean_up();
        if !has_ended {
            frozen.end().unwrap();
        }
        lived.settle();
        lived.check_home(NORTH, &format!("frozen after {turns} turns"));
        if has_ended {
            assert!(turns >= 8, "{turns}");
            break;
        }
    }
}

/// DPS-REG-44: what the device has at its new hub by then is not what it had when the worker was frozen.
#[test]
fn a_worker_that_was_frozen_before_it_read_what_was_left_at_the_new_hub_touches_nothing_there() {
    for turns in 0.. {
        let lived = Lived::new();
        let mut old = lived.north.device("line-1").unwrap();
        old.twin = Some(twin(9));
        lived.south.put("line-1", old);
        lived.sent_to(at(SOUTH, 2));
        slow(&lived, true);
        let mut frozen = lived.desk.start_place(&lived.desk.claim_one());
        let has_ended = steps(&mut frozen, turns);
        slow(&lived, false);
        if has_ended {
            assert!(turns >= 12, "{turns}");
            break;
        }
        lived.desk.step_clock(61);
        assert!(matches!(lived.desk.placed(), State::Assigned { .. }));
        let mut lives = lived.south.device("line-1").unwrap();
        lives.twin = Some(twin(5));
        lived.south.put("line-1", lives);
        frozen.end().unwrap();
        for _ in 0..3 {
            lived.desk.step_clock(4_000);
            lived.desk.clean_up();
        }
        let lives = lived.south.device("line-1").map(|kept| kept.twin);
        assert_eq!(lives, Some(Some(twin(5))), "frozen after {turns} turns");
        assert!(lived.north.device("line-1").is_none());
    }
}

/// DPS-REG-44: what nobody hears of is found when the token that it carried is of no use any more.
#[test]
fn a_call_that_is_carried_out_after_the_device_has_left_again_is_undone() {
    let lived = Lived::new();
    lived.sent_to(at(SOUTH, 2));
    let until = lived.desk.clock.get().after(3_600);
    lived.south.script(Step::Create, Fate::Late(until));
    assert!(matches!(lived.desk.place(), Placed::Postponed { .. }));
    lived.desk.step_clock(1);
    assert!(matches!(lived.desk.placed(), State::Assigned { .. }));
    lived.desk.clean_up();
    lived.sent_to(at(NORTH, 3));
    lived.desk.placed();
    let done = lived.desk.clean_up();
    assert!(matches!(&done[..], [CleanedUp::ToConfirm(_)]), "{done:?}");
    assert!(lived.south.device("line-1").is_none());
    lived.desk.step_clock(3_500);
    assert!(lived.south.carry_out_late(lived.desk.clock.get().0), "it comes now");
    assert!(lived.south.device("line-1").is_some());
    lived.settle();
    lived.check_home(NORTH, "looked at again");
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

/// DPS-REG-20, DPS-REG-44: no worker is left that would come back to it.
#[test]
fn what_a_worker_had_made_that_was_cut_off_is_gone_when_the_device_is_told_that_it_is_disabled() {
    let lived = Lived::new();
    lived.sent_to(at(SOUTH, 2));
    lived.south.script(Step::Create, Fate::Unheard);
    let claimed = lived.desk.claim_one();
    let mut cut_off = lived.desk.start_place(&claimed);
    lived.desk.store.wait_at(crate::common::sim_store::Point::BeforeApply, 1);
    assert!(cut_off.step().is_pending());
    drop(cut_off);
    lived.desk.store.wait_nowhere();
    assert!(lived.south.device("line-1").is_some());
    lived.desk.put_group(at(SOUTH, 2).disabled());
    lived.desk.told_disabled(&lived.device);
    lived.settle();
    assert!(lived.south.device("line-1").is_none(), "it lives at the other hub");
    assert!(lived.north.device("line-1").is_some());
    lived.sent_to(at(SOUTH, 3));
    lived.settle();
    lived.check_home(SOUTH, "enabled again");
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
