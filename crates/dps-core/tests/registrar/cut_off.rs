//! Migrations that are cut off, frozen, repeated and late, at each of their steps. Spec: DPS-REG-43, DPS-REG-44.

use dps_core::assignment::{CleanedUp, Placed};
use dps_core::refusal::Refusal;
use dps_core::registration::{State, Substatus};

use crate::common::desk::assigned;
use crate::common::entries::AnyEntry;
use crate::common::executor::Running;
use crate::common::registry::{Fate, Step};

use crate::lived::{Lived, NORTH, SOUTH, at, moved_to_south, twin};

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
