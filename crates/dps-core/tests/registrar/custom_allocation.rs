//! Devices whose hub a webhook chooses. Spec: DPS-REG-26 to DPS-REG-32.

use std::collections::BTreeMap;

use dps_core::attestation::DeviceClaim;
use dps_core::custom_allocation::{AllocationRequest, Asking, AskingEntry, CustomAllocation, Proof, Settled};
use dps_core::enrollment::{AllocationPolicy, EnrollmentGroup, ReprovisionPolicy, TwinDocument};
use dps_core::ports::{AllocationOutcome, ClaimOrder, ClaimedOperation, NamedHub, WaitingFor};
use dps_core::register::Registered;
use dps_core::registration::{Failure, JsonText, Registration, State, Substatus};
use dps_proto::ids::OperationId;

use crate::common::desk::{Desk, assigned};
use crate::common::entries::{AnyEntry, group, keyed};
use crate::common::executor::drive;
use crate::common::hubs::{instance, local, slow};

/// The group `alpha`, whose hubs a webhook chooses.
fn custom() -> EnrollmentGroup {
    let mut group = group("alpha");
    group.settings.allocation_policy = Some(AllocationPolicy::Custom);
    group.settings.custom_allocation = Some(webhook());
    group.settings.initial_twin = Some(twin("entry"));
    group
}

fn webhook() -> CustomAllocation {
    let url = "https://Hook.example:8443/api?code=s3cret".parse().unwrap();
    CustomAllocation { webhook_url: url, api_version: "2019-03-31".into() }
}

fn twin(name: &str) -> TwinDocument {
    TwinDocument(format!(r#"{{"tags":{{"of":"{name}"}}}}"#).into())
}

fn desk() -> Desk {
    let desk = Desk::new(vec![local("a.example"), local("b.example"), slow("far.example")]);
    desk.put_group(custom());
    desk
}

fn device(desk: &Desk) -> DeviceClaim {
    desk.by_group("Line-1", "alpha")
}

fn named(hub: &str) -> AllocationOutcome {
    AllocationOutcome::Named(Box::new(NamedHub {
        hub: hub.parse().unwrap(),
        initial_twin: Some(twin("webhook")),
        payload: Some(JsonText(r#"{"for":"device"}"#.into())),
    }))
}

/// Registers with a payload; the device is told `assigning`.
fn register(desk: &Desk) -> (OperationId, Registration) {
    let payload = JsonText(r#"{"model":7}"#.into());
    let registered = drive(desk.registrar.register(&device(desk), Some(&payload), desk.moment())).unwrap();
    match registered {
        Registered::Accepted { operation_id, registration, .. } => (operation_id, registration),
        other => panic!("{other:?}"),
    }
}

fn claim(desk: &Desk) -> Vec<ClaimedOperation> {
    let now = desk.clock.get();
    let order = ClaimOrder {
        now: now.0,
        lease_until: now.after(30),
        limit: 10,
        per_peer_max: 10,
        in_flight: BTreeMap::new(),
        after_peer: None,
    };
    drive(desk.registrar.claim_waiting(WaitingFor::Webhook, order)).unwrap().operations
}

#[track_caller]
fn claim_one(desk: &Desk) -> ClaimedOperation {
    let mut claimed = claim(desk);
    assert_eq!(claimed.len(), 1, "{claimed:?}");
    claimed.remove(0)
}

#[track_caller]
fn question(desk: &Desk, claimed: &ClaimedOperation) -> AllocationRequest {
    match drive(desk.registrar.allocation_request(claimed, desk.moment())).unwrap() {
        Asking::Webhook(request) => *request,
        other => panic!("{other:?}"),
    }
}

fn settle(desk: &Desk, claimed: &ClaimedOperation, outcome: AllocationOutcome) -> Settled {
    drive(desk.registrar.settle_allocation(claimed, outcome, desk.moment())).unwrap()
}

#[track_caller]
fn recorded(settled: Settled) -> Registration {
    match settled {
        Settled::Recorded(record) => *record,
        other => panic!("{other:?}"),
    }
}

/// One register whose webhook answers so.
fn registered(desk: &Desk, outcome: AllocationOutcome) -> Registration {
    register(desk);
    let claimed = claim_one(desk);
    question(desk, &claimed);
    recorded(settle(desk, &claimed, outcome))
}

fn hub_twin(desk: &Desk, hub: &str) -> Option<String> {
    let devices = desk.store.durable().hub_devices;
    let found = devices.into_iter().find(|((_, of, _), _)| of.as_str() == hub);
    found.map(|(_, kept)| kept.stored.device.initial_twin.unwrap().0.into())
}

/// DPS-REG-27, DPS-REG-30
#[test]
fn the_webhook_is_asked_with_all_it_may_need_and_its_hub_is_the_devices() {
    let desk = desk();
    let (operation, record) = register(&desk);
    let State::Choosing { waiting, last: None } = &record.state else { panic!("{record:?}") };
    assert_eq!((&*waiting.webhook_host, waiting.tries), ("hook.example:8443", 0));
    assert_eq!(desk.polled(&device(&desk), operation), record.state);
    let claimed = claim_one(&desk);
    let request = question(&desk, &claimed);
    let hubs: Vec<_> = request.candidates.iter().map(|hub| hub.as_str()).collect();
    assert_eq!(hubs, ["a.example", "b.example", "far.example"]);
    assert!(matches!(&request.entry, AskingEntry::Group(group) if group.id.as_str() == "alpha"));
    assert!(matches!(request.proof, Proof::SymmetricKey) && request.current.is_none());
    assert_eq!(request.webhook, webhook());
    assert_eq!(
        (request.registration_id.as_str(), &*request.payload.unwrap().0),
        ("Line-1", r#"{"model":7}"#)
    );
    desk.step_clock(2);
    let record = recorded(settle(&desk, &claimed, named("B.example")));
    let (assignment, substatus) = assigned(&record.state);
    assert_eq!((assignment.hub.as_str(), substatus), ("b.example", Substatus::InitialAssignment));
    assert_eq!(&*record.payload.clone().unwrap().0, r#"{"for":"device"}"#);
    assert_eq!(desk.record("line-1").unwrap(), record);
    assert_eq!((record.operation.guid, record.updated_at), (operation.guid(), desk.clock.get().0));
    assert_eq!(hub_twin(&desk, "b.example").unwrap(), r#"{"tags":{"of":"webhook"}}"#);
    assert!(claim(&desk).is_empty());
}

/// DPS-REG-28
#[test]
fn each_answer_that_names_no_offered_hub_fails_in_its_own_way_and_forgets_no_home() {
    let rows = [
        (named("c.example"), Failure::WebhookChoseAnother),
        (AllocationOutcome::NotNamed, Failure::WebhookChoseNone),
        (AllocationOutcome::Unauthorized, Failure::WebhookUnauthorized),
        (AllocationOutcome::Refused { status: 400 }, Failure::WebhookStatus(400)),
        (AllocationOutcome::Refused { status: 404 }, Failure::WebhookStatus(404)),
        (AllocationOutcome::Unreadable, Failure::WebhookUnreadable),
        (AllocationOutcome::NotSent, Failure::WebhookNotCalled),
    ];
    for (outcome, failure) in rows {
        let desk = desk();
        let failed = registered(&desk, outcome.clone());
        assert_eq!(failed.state, State::Failed { failure: failure.clone(), last: None });
        let home = registered(&desk, named("a.example")).assignment().cloned();
        let failed = registered(&desk, outcome);
        assert_eq!(failed.state, State::Failed { failure, last: home.clone() });
        assert!(failed.payload.is_none());
        // Registering again tells the webhook where the device lives all the same.
        register(&desk);
        assert_eq!(question(&desk, &claim_one(&desk)).current, home);
    }
}

/// DPS-REG-29: in virtual time, to the second.
#[test]
fn a_webhook_that_does_not_answer_is_asked_ten_times_more_each_time_nine_seconds_later() {
    for (status, failure) in [(Some(503), Failure::WebhookStatus(503)), (None, Failure::WebhookSilent)] {
        let desk = desk();
        let (operation, before) = register(&desk);
        for wait in [1, 10, 19, 28, 37, 46, 55, 64, 73, 82] {
            let claimed = claim_one(&desk);
            question(&desk, &claimed);
            let settled = settle(&desk, &claimed, AllocationOutcome::Retryable { status });
            let Settled::Postponed(until) = settled else { panic!("{settled:?}") };
            assert_eq!(until, desk.clock.get().after(wait));
            desk.step_clock(wait - 1);
            assert!(claim(&desk).is_empty(), "a second before {wait}");
            let State::Choosing { waiting, .. } = desk.polled(&device(&desk), operation) else { panic!() };
            assert!(waiting.payload.is_some());
            desk.step_clock(1);
        }
        let claimed = claim_one(&desk);
        assert_eq!((claimed.tries, &claimed.etag), (11, &before.etag));
        let record = recorded(settle(&desk, &claimed, AllocationOutcome::Retryable { status }));
        assert_eq!(record.state, State::Failed { failure, last: None });
    }
}

/// DPS-REG-29, DPS-REG-32
#[test]
fn a_try_that_nobody_lived_to_settle_counts() {
    let desk = desk();
    register(&desk);
    for tries in 1..=11 {
        let claimed = claim_one(&desk);
        assert_eq!(claimed.tries, tries);
        question(&desk, &claimed);
        desk.step_clock(30);
    }
    let claimed = claim_one(&desk);
    let asking = drive(desk.registrar.allocation_request(&claimed, desk.moment())).unwrap();
    let Asking::Settled(settled) = asking else { panic!("{asking:?}") };
    assert_eq!(recorded(settled).state, State::Failed { failure: Failure::WebhookSilent, last: None });
}

/// DPS-REG-32
#[test]
fn a_worker_that_was_frozen_past_its_lease_changes_nothing() {
    let desk = desk();
    register(&desk);
    let frozen = claim_one(&desk);
    desk.step_clock(30);
    let newer = claim_one(&desk);
    assert!(matches!(settle(&desk, &frozen, named("a.example")), Settled::Superseded));
    let silent = AllocationOutcome::Retryable { status: None };
    assert!(matches!(settle(&desk, &frozen, silent), Settled::Superseded));
    let record = recorded(settle(&desk, &newer, named("b.example")));
    assert!(matches!(settle(&desk, &newer, named("a.example")), Settled::Superseded));
    let asking = drive(desk.registrar.allocation_request(&newer, desk.moment())).unwrap();
    assert!(matches!(asking, Asking::Settled(Settled::Superseded)));
    assert_eq!(desk.record("line-1").unwrap(), record);
}

/// DPS-REG-10
#[test]
fn a_register_that_comes_meanwhile_joins() {
    let desk = desk();
    let (operation, record) = register(&desk);
    desk.step_clock(5);
    let (joined, again) = register(&desk);
    assert_eq!((joined, &again), (operation, &record));
    recorded(settle(&desk, &claim_one(&desk), named("a.example")));
    assert_ne!(register(&desk).0, operation);
}

/// DPS-REG-30
#[test]
fn the_webhooks_twin_counts_only_for_a_device_that_begins_anew() {
    let policies = [
        (ReprovisionPolicy::MIGRATE, "a.example", Substatus::DeviceDataMigrated),
        (
            ReprovisionPolicy { update_hub_assignment: true, migrate_device_data: false },
            "webhook",
            Substatus::DeviceDataReset,
        ),
    ];
    for (policy, expected, told) in policies {
        let desk = desk();
        let first = NamedHub {
            hub: "a.example".parse().unwrap(),
            initial_twin: Some(twin("a.example")),
            payload: None,
        };
        registered(&desk, AllocationOutcome::Named(Box::new(first)));
        assert_eq!(hub_twin(&desk, "a.example").unwrap(), r#"{"tags":{"of":"a.example"}}"#);
        desk.put_group(custom().reprovisioned(policy));
        let stays = registered(&desk, named("a.example"));
        assert_eq!(assigned(&stays.state).1, Substatus::ReprovisionedToInitialAssignment);
        assert_eq!(hub_twin(&desk, "a.example").unwrap(), r#"{"tags":{"of":"a.example"}}"#);
        let moved = registered(&desk, named("b.example"));
        assert_eq!(assigned(&moved.state).1, told);
        assert_eq!(hub_twin(&desk, "b.example").unwrap(), format!(r#"{{"tags":{{"of":"{expected}"}}}}"#));
        assert_eq!(hub_twin(&desk, "a.example"), None);
    }
}

/// DPS-REG-27
#[test]
fn under_the_policy_never_the_webhook_is_asked_and_offered_the_devices_hub_alone() {
    let desk = desk();
    desk.put_group(custom().reprovisioned(ReprovisionPolicy::NEVER));
    register(&desk);
    let claimed = claim_one(&desk);
    assert_eq!(question(&desk, &claimed).candidates.len(), 3);
    recorded(settle(&desk, &claimed, named("a.example")));
    register(&desk);
    let claimed = claim_one(&desk);
    let request = question(&desk, &claimed);
    assert_eq!(request.candidates, ["a.example".parse().unwrap()]);
    assert_eq!(request.current.unwrap().hub.as_str(), "a.example");
    let record = recorded(settle(&desk, &claimed, named("b.example")));
    assert!(matches!(record.state, State::Failed { failure: Failure::WebhookChoseAnother, last: Some(_) }));
    let record = registered(&desk, named("a.example"));
    assert!(record.payload.is_some(), "what it has for the device may be new each time");
}

/// DPS-REG-27
#[test]
fn the_hubs_that_are_offered_are_those_of_the_entry_and_without_one_nobody_is_asked() {
    let desk = desk();
    desk.put_group(custom().at_hubs(&["b.example"]));
    register(&desk);
    let claimed = claim_one(&desk);
    assert_eq!(question(&desk, &claimed).candidates, ["b.example".parse().unwrap()]);
    let record = recorded(settle(&desk, &claimed, named("a.example")));
    assert_eq!(record.state, State::Failed { failure: Failure::WebhookChoseAnother, last: None });
    desk.put_group(custom().at_hubs(&["gone.example"]));
    let (_, record) = register(&desk);
    assert_eq!(record.state, State::Failed { failure: Failure::NoUsableHub, last: None });
    assert!(claim(&desk).is_empty());
}

/// DPS-REG-27
#[test]
fn hubs_that_go_while_a_device_waits_end_its_wait() {
    let mut desk = desk();
    register(&desk);
    desk.reopen(instance(Vec::new()));
    let claimed = claim_one(&desk);
    let asking = drive(desk.registrar.allocation_request(&claimed, desk.moment())).unwrap();
    let Asking::Settled(settled) = asking else { panic!("{asking:?}") };
    assert_eq!(recorded(settled).state, State::Failed { failure: Failure::NoUsableHub, last: None });
}

/// DPS-REG-31
#[test]
fn the_entry_counts_as_it_is_when_the_webhook_has_answered() {
    type Change = fn(&Desk);
    let rows: [(Change, State); 3] = [
        (|desk| desk.delete_group("alpha"), State::Failed { failure: Failure::EnrollmentGone, last: None }),
        (|desk| desk.put_group(custom().disabled()), State::Disabled { last: None }),
        (
            // Another attestation: what the device proved itself by is no part of the entry any more.
            |desk| {
                let signer = crate::common::certificates::self_signed("CA");
                let mut other = crate::common::entries::signed_by("alpha", &signer);
                other.settings = custom().settings;
                desk.put_group(other);
            },
            State::Failed { failure: Failure::EnrollmentGone, last: None },
        ),
    ];
    for (change, expected) in rows {
        for outcome in [named("a.example"), AllocationOutcome::Retryable { status: None }] {
            let desk = desk();
            register(&desk);
            let claimed = claim_one(&desk);
            question(&desk, &claimed);
            change(&desk);
            assert_eq!(recorded(settle(&desk, &claimed, outcome)).state, expected);
        }
    }
    // Before the webhook is asked at all.
    let desk = desk();
    register(&desk);
    desk.put_group(custom().disabled());
    let claimed = claim_one(&desk);
    let asking = drive(desk.registrar.allocation_request(&claimed, desk.moment())).unwrap();
    assert!(
        matches!(asking, Asking::Settled(Settled::Recorded(record)) if record.state == State::Disabled { last: None })
    );
}

/// DPS-REG-31: keys that were renewed are those that the hub gets; a policy that is custom no more decides by itself.
#[test]
fn an_entry_that_was_written_anew_is_followed() {
    let desk = desk();
    register(&desk);
    let claimed = claim_one(&desk);
    desk.put_group(keyed(custom(), "renewed"));
    let record = recorded(settle(&desk, &claimed, named("a.example")));
    assert_eq!(assigned(&record.state).0.hub.as_str(), "a.example");
    register_as_renewed(&desk);
    let mut plain = keyed(custom().at_hubs(&["b.example"]), "renewed");
    plain.settings.allocation_policy = Some(AllocationPolicy::Static);
    desk.put_group(plain);
    let asking = drive(desk.registrar.allocation_request(&claim_one(&desk), desk.moment())).unwrap();
    let Asking::Settled(settled) = asking else { panic!("{asking:?}") };
    assert_eq!(assigned(&recorded(settled).state).0.hub.as_str(), "b.example");
}

fn register_as_renewed(desk: &Desk) {
    let device = desk.by_group("Line-1", "renewed");
    drive(desk.registrar.register(&device, None, desk.moment())).unwrap();
}

/// DPS-REG-27, DPS-REG-30: a hub that has to be asked is asked after the webhook, and what the webhook had is kept.
#[test]
fn a_chosen_hub_outside_is_asked_next() {
    let desk = desk();
    let record = registered(&desk, named("far.example"));
    let State::Assigning { placing, last: None } = &record.state else { panic!("{record:?}") };
    let target = &placing.target;
    assert_eq!(target.hub.as_str(), "far.example");
    assert!(matches!(desk.placed(), State::Assigned { .. }));
    let after = desk.record("line-1").unwrap();
    assert_eq!(assigned(&after.state).0, target);
    assert!(after.payload.is_some());
}

/// DPS-REG-19
#[test]
fn a_deleted_record_supersedes_what_is_asked() {
    let desk = desk();
    register(&desk);
    let claimed = claim_one(&desk);
    desk.delete_record("line-1");
    assert!(matches!(settle(&desk, &claimed, named("a.example")), Settled::Superseded));
    assert_eq!(desk.record("line-1"), None);
}

/// DPS-EXPLAIN-6
#[test]
fn a_register_that_is_only_tried_asks_no_webhook() {
    let desk = desk();
    let tried = drive(desk.registrar.would_register(&device(&desk), desk.moment())).unwrap();
    assert!(
        matches!(tried, Registered::Accepted { registration, .. } if matches!(registration.state, State::Choosing { .. }))
    );
    assert!(claim(&desk).is_empty() && desk.record("line-1").is_none());
}
