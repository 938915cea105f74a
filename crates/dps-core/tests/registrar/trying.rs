//! A register that is only tried. Spec: DPS-EXPLAIN-6.

use dps_core::attestation::DeviceClaim;
use dps_core::refusal::Refusal;
use dps_core::register::Registered;
use dps_core::registration::{State, Substatus};

use crate::common::desk::{Desk, accepted, assigned};
use crate::common::entries::{AnyEntry, group, individual, keys};
use crate::common::executor::drive;
use crate::common::hubs::{local, slow};
use crate::common::sim_store::Call;

fn desk() -> Desk {
    let desk = Desk::new(vec![local("north.example")]);
    desk.put_group(group("alpha"));
    desk
}

fn try_out(desk: &Desk, device: &DeviceClaim) -> Result<Registered, Refusal> {
    let commits = desk.store.calls(Call::Commit);
    let told = drive(desk.registrar.would_register(device, desk.moment()));
    assert_eq!(desk.store.calls(Call::Commit), commits, "nothing is written");
    told
}

/// DPS-EXPLAIN-6
#[test]
fn a_try_tells_the_assignment_that_the_register_then_makes() {
    let desk = desk();
    let device = desk.by_group("line-1", "alpha");
    let (_, tried) = accepted(try_out(&desk, &device));
    assert!(desk.record("line-1").is_none() && desk.hub_device("north.example", "line-1").is_none());
    let (_, registered) = desk.accepted(&device);
    assert_eq!((&tried.entry, &tried.state), (&registered.entry, &registered.state));

    let (_, again) = accepted(try_out(&desk, &device));
    assert_eq!(assigned(&again.state).1, Substatus::ReprovisionedToInitialAssignment);
    assert_eq!(desk.record("line-1"), Some(registered), "the record is as the register left it");
}

/// DPS-EXPLAIN-6
#[test]
fn a_try_is_refused_for_the_reason_that_the_register_is_refused_for() {
    let desk = desk();
    desk.put_individual(individual("own"));
    for device in [
        desk.by_group("line-1", "other"),
        desk.signed("line-1", &keys("alpha").primary),
        desk.signed("own", &keys("other").primary),
    ] {
        let tried = try_out(&desk, &device).unwrap_err().to_string();
        assert_eq!(tried, desk.register(&device).unwrap_err().to_string());
    }
}

/// DPS-EXPLAIN-6
#[test]
fn a_try_by_a_disabled_entry_is_told_so_and_records_nothing() {
    let desk = desk();
    desk.put_individual(individual("own").disabled());
    let told = try_out(&desk, &desk.by_own_key("own"));
    assert!(matches!(told, Ok(Registered::Disabled { .. })), "{told:?}");
    assert!(desk.record("own").is_none());
}

/// DPS-EXPLAIN-6
#[test]
fn a_try_during_an_operation_tells_of_that_operation() {
    let desk = Desk::new(vec![slow("far.example")]);
    desk.put_group(group("alpha"));
    let device = desk.by_group("line-1", "alpha");
    assert!(matches!(accepted(try_out(&desk, &device)).1.state, State::Assigning { .. }));
    let (operation, record) = desk.accepted(&device);
    let (tried_operation, tried) = accepted(try_out(&desk, &device));
    assert_eq!((tried_operation, tried), (operation, record));
}

/// DPS-LIMIT-5
#[test]
fn a_register_is_allowed_or_not_once_the_device_has_proved_itself_and_before_anything_is_written() {
    let desk = desk();
    let asked = std::cell::Cell::new(0);
    let register = |device: &DeviceClaim| {
        drive(desk.registrar.register_if(device, None, desk.moment(), || {
            asked.set(asked.get() + 1);
            Err(Refusal::Busy)
        }))
    };
    let stranger = desk.signed("line-1", &keys("nobody").primary);
    assert!(matches!(register(&stranger), Err(Refusal::Unproven(_))));
    assert_eq!(asked.get(), 0, "a stranger's tries do not count");
    assert!(matches!(register(&desk.by_group("line-1", "alpha")), Err(Refusal::Busy)));
    assert_eq!(asked.get(), 1);
    assert!(desk.record("line-1").is_none());
}
