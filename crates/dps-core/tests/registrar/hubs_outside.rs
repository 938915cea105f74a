//! Devices that come to a hub outside, and what keeps them from it. Spec: DPS-REG-10, DPS-REG-11, DPS-REG-13, DPS-REG-40, DPS-REG-41,
//! DPS-REG-45.

use std::sync::Arc;

use dps_core::assignment::Placed;
use dps_core::enrollment::TwinDocument;
use dps_core::ports::{HubAuthentication, HubDeviceStatus};
use dps_core::refusal::Refusal;
use dps_core::registration::{Failure, State, Substatus};

use crate::common::desk::{Desk, assigned};
use crate::common::entries::{AnyEntry, group, individual, individual_by, keyed, keys, tpm};
use crate::common::hubs::{instance, local, remote};
use crate::common::image::Faults;
use crate::common::registry::{Fate, Kept, SimRegistry, Step};
use crate::common::sim_store::{Call, Point};

const FAR: &str = "far.example";

/// A desk with a device that waits for its hub.
fn assigning() -> (Desk, Arc<SimRegistry>) {
    let registry = SimRegistry::new();
    let desk = Desk::new(vec![remote(FAR, &registry)]);
    let mut group = group("alpha");
    group.settings.initial_twin = Some(twin(1));
    group.settings.iot_edge = true;
    desk.put_group(group);
    let (_, record) = desk.accepted(&desk.by_group("line-1", "alpha"));
    assert!(matches!(record.state, State::Assigning { last: None, .. }), "{record:?}");
    (desk, registry)
}

/// One that has come there.
fn settled() -> (Desk, Arc<SimRegistry>) {
    let (desk, registry) = assigning();
    assert_eq!(assigned(&desk.placed()).1, Substatus::InitialAssignment);
    registry.take_calls();
    (desk, registry)
}

fn twin(number: u32) -> TwinDocument {
    TwinDocument(format!(r#"{{"tags":{{"n":{number}}}}}"#).into())
}

/// A device with other keys, as someone made it by hand.
fn foreign() -> Kept {
    Kept {
        etag: "".into(),
        authentication: HubAuthentication::Keys(keys("by hand")),
        iot_edge: false,
        status: HubDeviceStatus::Enabled,
        twin: Some(twin(9)),
    }
}

#[track_caller]
fn check_keys(registry: &SimRegistry, id: &str, group: &str) {
    let HubAuthentication::Keys(found) = registry.device(id).unwrap().authentication else { panic!() };
    assert!(found.primary.is_same(&keys(group).primary.derive(id)));
    assert!(found.secondary.is_same(&keys(group).secondary.derive(id)));
}

fn failed(failure: Failure) -> State {
    State::Failed { failure, last: None }
}

/// DPS-REG-40, DPS-REG-41, DPS-REG-10, DPS-REG-14
#[test]
fn a_new_device_is_made_with_its_twin_by_one_call() {
    let (desk, registry) = assigning();
    desk.step_clock(5);
    let before = desk.record("line-1").unwrap();
    let placed = desk.placed();
    let (assignment, substatus) = assigned(&placed);
    assert_eq!((assignment.hub.as_str(), substatus), (FAR, Substatus::InitialAssignment));
    assert_eq!(registry.take_calls(), [Step::Create]);
    let kept = registry.device("line-1").unwrap();
    assert_eq!((kept.iot_edge, kept.twin, kept.status), (true, Some(twin(1)), HubDeviceStatus::Enabled));
    check_keys(&registry, "line-1", "alpha");
    let after = desk.record("line-1").unwrap();
    assert_eq!((after.updated_at, after.strays_until), (desk.clock.get().0, None));
    assert_eq!((after.created_at, after.operation), (before.created_at, before.operation));
    assert_ne!(after.etag, before.etag);
    assert!(desk.claim().is_empty() && desk.claim_clean_ups().is_empty());
}

/// DPS-REG-41
#[test]
fn a_device_that_is_there_already_gets_its_authentication_and_keeps_its_twin() {
    let (desk, registry) = assigning();
    registry.put("line-1", foreign());
    assert_eq!(assigned(&desk.placed()).1, Substatus::InitialAssignment);
    assert_eq!(registry.take_calls(), [Step::Create, Step::Identity, Step::SetAuthentication]);
    assert_eq!(registry.device("line-1").unwrap().twin, Some(twin(9)));
    check_keys(&registry, "line-1", "alpha");
}

/// DPS-REG-41
#[test]
fn a_device_that_stays_gets_the_keys_that_its_entry_has_now_and_keeps_its_twin() {
    let (desk, registry) = settled();
    let mut renewed = keyed(group("alpha"), "renewed");
    renewed.settings.initial_twin = Some(twin(2));
    desk.put_group(renewed);
    desk.accepted(&desk.by_group("line-1", "renewed"));
    assert_eq!(assigned(&desk.placed()).1, Substatus::ReprovisionedToInitialAssignment);
    assert_eq!(registry.take_calls(), [Step::Identity, Step::SetAuthentication]);
    assert_eq!(registry.device("line-1").unwrap().twin, Some(twin(1)));
    check_keys(&registry, "line-1", "renewed");
}

/// DPS-REG-41, DPS-REG-44: whoever read the device before has an old version in hand from then on.
#[test]
fn what_is_written_makes_another_version_even_where_nothing_changes() {
    let (desk, registry) = settled();
    let before = registry.device("line-1").unwrap().etag;
    desk.accepted(&desk.by_group("line-1", "alpha"));
    desk.placed();
    assert_ne!(registry.device("line-1").unwrap().etag, before);
}

/// DPS-REG-41: as Azure does for a device that someone has deleted at the hub.
#[test]
fn a_device_that_is_gone_from_its_hub_is_made_anew() {
    let (desk, registry) = settled();
    registry.remove("line-1");
    desk.accepted(&desk.by_group("line-1", "alpha"));
    assert_eq!(assigned(&desk.placed()).1, Substatus::ReprovisionedToInitialAssignment);
    assert_eq!(registry.take_calls(), [Step::Identity, Step::Create]);
    assert_eq!(registry.device("line-1").unwrap().twin, Some(twin(1)));
}

/// DPS-REG-44
#[test]
fn a_device_that_others_change_meanwhile_is_read_again_and_not_for_ever() {
    let (desk, registry) = settled();
    desk.accepted(&desk.by_group("line-1", "alpha"));
    registry.script(Step::SetAuthentication, Fate::Overtaken);
    desk.placed();
    let twice = [Step::Identity, Step::SetAuthentication, Step::Identity, Step::SetAuthentication];
    assert_eq!(registry.take_calls(), twice);
    desk.accepted(&desk.by_group("line-1", "alpha"));
    for _ in 0..4 {
        registry.script(Step::SetAuthentication, Fate::Overtaken);
    }
    let placed = desk.place();
    assert!(matches!(placed, Placed::Postponed { trouble: None, .. }), "{placed:?}");
}

/// DPS-REG-45, DPS-REG-11: for good, with what the hub said.
#[test]
fn a_hub_that_refuses_ends_the_operation_and_leaves_the_device_where_it_was() {
    let (desk, registry) = assigning();
    for (fate, failure) in [
        (Fate::Refused("{\"Message\":\"no\"}"), Failure::HubRefused { said: "{\"Message\":\"no\"}".into() }),
        (Fate::NotAllowed, Failure::HubNotAllowed),
    ] {
        desk.accepted(&desk.by_group("line-1", "alpha"));
        registry.script(Step::Create, fate);
        assert_eq!(desk.placed(), failed(failure));
        assert!(desk.claim_clean_ups().is_empty(), "nothing was made");
    }
    let (desk, registry) = settled();
    let home = assigned(&desk.record("line-1").unwrap().state).0.clone();
    desk.accepted(&desk.by_group("line-1", "alpha"));
    registry.script(Step::Identity, Fate::Refused("no"));
    let failure = Failure::HubRefused { said: "no".into() };
    assert_eq!(desk.placed(), State::Failed { failure, last: Some(home) });
    assert!(desk.claim_clean_ups().is_empty(), "it lives there");
}

/// DPS-REG-45
#[test]
fn a_hub_that_cannot_answer_is_asked_again_for_five_minutes() {
    for fate in [Fate::Unavailable, Fate::Lost] {
        let (desk, registry) = assigning();
        let mut pauses = Vec::new();
        let state = loop {
            registry.script(Step::Create, fate.clone());
            match desk.place() {
                Placed::Postponed { until, trouble: Some(trouble) } => {
                    assert_eq!(trouble.hub.as_str(), FAR);
                    assert!(desk.claim().is_empty(), "not before its time");
                    let pause = until.duration_since(desk.clock.get().0).as_secs();
                    pauses.push(pause);
                    desk.step_clock(pause);
                }
                Placed::Recorded { registration, .. } => break registration.state,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(pauses[..6], [1, 2, 4, 8, 16, 30], "{fate:?}");
        assert_eq!(pauses.iter().sum::<i64>(), 301, "{fate:?}");
        assert_eq!(state, failed(Failure::HubUnavailable));
        desk.accepted(&desk.by_group("line-1", "alpha"));
        assert!(matches!(desk.placed(), State::Assigned { .. }));
    }
}

/// DPS-REG-45: a fleet may have been at its hub for years before it registers here for the first time.
#[test]
fn what_was_at_a_hub_before_is_not_removed_for_a_device_that_could_not_be_brought_there() {
    for case in ["refused", "unanswered", "cut off", "disabled", "deleted"] {
        let (desk, registry) = assigning();
        registry.put("line-1", foreign());
        match case {
            "refused" => registry.script(Step::Create, Fate::Refused("no")),
            "unanswered" => {
                registry.script(Step::Create, Fate::Lost);
                desk.place();
                desk.step_clock(301);
                registry.script(Step::Create, Fate::Lost);
            }
            "cut off" => {
                drop(desk.claim_one());
                desk.step_clock(301);
                registry.script(Step::Create, Fate::Unavailable);
            }
            "disabled" => {
                drop(desk.claim_one());
                desk.step_clock(61);
                desk.put_group(group("alpha").disabled());
                desk.told_disabled(&desk.by_group("line-1", "alpha"));
            }
            _ => {
                drop(desk.claim_one());
                desk.step_clock(61);
                desk.delete_group("alpha");
            }
        }
        if case != "disabled" {
            assert!(!matches!(desk.placed(), State::Assigned { .. }), "{case}");
        }
        for _ in 0..3 {
            desk.step_clock(3_600);
            desk.clean_up();
        }
        assert!(registry.device("line-1").is_some(), "{case}");
    }
}

/// DPS-REG-45
#[test]
fn a_hub_that_is_asked_too_often_is_asked_when_it_says_and_for_an_hour() {
    let (desk, registry) = assigning();
    let mut waited = 0;
    for at in [0, 600, 3_600, 3_608] {
        desk.step_clock(at - waited);
        waited = at;
        registry.script(Step::Create, Fate::Throttled);
        match desk.place() {
            Placed::Postponed { until, .. } if at <= 3_600 => assert_eq!(until, desk.clock.get().after(7)),
            Placed::Recorded { registration, .. } if at > 3_600 => {
                assert_eq!(registration.state, failed(Failure::HubThrottled));
            }
            other => panic!("{at}: {other:?}"),
        }
    }
}

/// DPS-REG-45, DPS-REG-46: those that have waited long enough do not wait for one call each.
#[test]
fn a_hub_that_is_known_not_to_answer_is_not_asked_by_those_that_have_waited_long_enough() {
    let (desk, registry) = assigning();
    registry.set_unhealthy(true);
    desk.step_clock(301);
    assert_eq!(desk.placed(), failed(Failure::HubUnavailable));
    assert_eq!(registry.take_calls(), []);
}

/// DPS-REG-45: what is refused by its form alone.
#[test]
fn a_hub_that_is_linked_no_more_when_its_turn_comes_ends_the_operation() {
    let (mut desk, _) = assigning();
    desk.reopen(instance(vec![local("near.example")]));
    assert_eq!(desk.placed(), failed(Failure::NoUsableHub));
}

/// DPS-REG-40
#[test]
fn no_call_begins_that_could_outlast_its_claim() {
    let (desk, registry) = assigning();
    let claimed = desk.claim_one();
    desk.step_clock(51);
    let placed = desk.start_place(&claimed).end().unwrap();
    assert!(matches!(placed, Placed::Postponed { trouble: None, .. }), "{placed:?}");
    assert_eq!(registry.take_calls(), []);
    assert!(matches!(desk.placed(), State::Assigned { .. }), "it was given back");
    assert_eq!(desk.record("line-1").unwrap().strays_until, None);
}

/// DPS-REG-13, DPS-REG-31
#[test]
fn an_entry_that_is_disabled_deleted_or_has_another_attestation_ends_the_operation() {
    let registry = SimRegistry::new();
    for (case, expected) in [
        ("disabled", State::Disabled { last: None }),
        ("deleted", failed(Failure::EnrollmentGone)),
        ("attestation", failed(Failure::EnrollmentGone)),
    ] {
        let desk = Desk::new(vec![remote(FAR, &registry)]);
        desk.put_individual(individual("press-1"));
        let device = desk.by_own_key("press-1");
        let (operation, _) = desk.accepted(&device);
        match case {
            "disabled" => desk.put_individual(individual("press-1").disabled()),
            "deleted" => desk.delete_individual("press-1"),
            _ => desk.put_individual(individual_by("press-1", tpm())),
        }
        assert_eq!(desk.placed(), expected, "{case}");
        assert_eq!(registry.take_calls(), [], "{case}");
        desk.put_individual(individual("press-1"));
        assert_eq!(desk.polled(&device, operation), expected, "{case}");
    }
}

/// DPS-REG-13, DPS-STORE-4, DPS-REG-44: what was made for a device that is not let in after all is to be gone.
#[test]
fn an_entry_disabled_while_its_hub_is_asked_is_seen() {
    let (desk, registry) = assigning();
    desk.store.wait_at(Point::BeforeApply, 1);
    let mut worker = desk.start_place(&desk.claim_one());
    assert!(worker.step().is_pending());
    desk.store.wait_nowhere();
    assert!(registry.device("line-1").is_some());
    desk.put_group(group("alpha").disabled());
    let placed = worker.end().unwrap();
    assert!(matches!(placed, Placed::Recorded { .. }), "{placed:?}");
    assert_eq!(desk.record("line-1").unwrap().state, State::Disabled { last: None });
    desk.clean_up();
    assert!(registry.device("line-1").is_none());
}

/// DPS-REG-13: that the entry has changed is no reason to refuse, only to look again.
#[test]
fn keys_renewed_while_the_hub_is_asked_are_those_that_it_gets() {
    let (desk, registry) = assigning();
    desk.store.wait_at(Point::BeforeApply, 1);
    let mut worker = desk.start_place(&desk.claim_one());
    assert!(worker.step().is_pending());
    desk.store.wait_nowhere();
    desk.put_group(keyed(group("alpha"), "renewed"));
    worker.end().unwrap();
    assert!(matches!(desk.record("line-1").unwrap().state, State::Assigned { .. }));
    check_keys(&registry, "line-1", "renewed");
}

/// DPS-REG-10, DPS-REG-44: a record that was deleted meanwhile wants no device.
#[test]
fn what_is_made_for_a_record_that_was_deleted_meanwhile_is_to_be_gone() {
    let (desk, registry) = assigning();
    let claimed = desk.claim_one();
    registry.wait_a_turn(true);
    let mut worker = desk.start_place(&claimed);
    assert!(worker.step().is_pending());
    registry.wait_a_turn(false);
    desk.delete_record("line-1");
    assert!(matches!(worker.end().unwrap(), Placed::Superseded));
    assert!(registry.device("line-1").is_some());
    desk.clean_up();
    assert!(registry.device("line-1").is_none() && desk.record("line-1").is_none());
}

/// DPS-REG-10: a claim that another has finished changes nothing.
#[test]
fn a_claim_that_is_over_changes_nothing() {
    let (desk, registry) = assigning();
    let first = desk.claim_one();
    desk.step_clock(61);
    let second = desk.claim_one();
    assert_eq!((first.tries, second.tries), (1, 2));
    assert!(matches!(desk.start_place(&second).end().unwrap(), Placed::Recorded { .. }));
    registry.take_calls();
    let record = desk.record("line-1");
    for claimed in [&first, &second] {
        assert!(matches!(desk.start_place(claimed).end().unwrap(), Placed::Superseded));
    }
    assert_eq!((desk.record("line-1"), registry.take_calls()), (record, vec![]));
}

/// DPS-STORE-4: bounded, whatever the others do.
#[test]
fn a_placement_that_never_gets_its_turn_gives_up() {
    let (desk, _) = assigning();
    let claimed = desk.claim_one();
    desk.store.set_faults(Faults { always_outdated: true, ..Faults::default() });
    let commits = desk.store.calls(Call::Commit);
    let refused = desk.start_place(&claimed).end();
    assert!(matches!(refused, Err(Refusal::Contended(16))), "{refused:?}");
    assert_eq!(desk.store.calls(Call::Commit), commits + 16);
}
