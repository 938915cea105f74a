//! Records, and on what conditions they are written.

use std::sync::Arc;

use dps_core::enrollment::{EntryRef, ProvisioningStatus};
use dps_core::ports::{Condition, LookUp, RegistrationWrite, Store};
use dps_core::registration::{
    Assignment, Failure, HubCredential, Placing, Registration, State, Substatus, Waiting,
};

use super::fixtures::*;

super::on_every_store!(
    an_unknown_device_has_nothing,
    every_state_comes_back_as_it_was_written,
    a_record_is_found_in_any_case_and_keeps_its_first_spelling_and_creation,
    a_look_up_tells_the_group_of_the_record_while_it_exists,
    a_record_of_an_individual_enrollment_has_no_group,
    a_first_record_is_written_only_where_there_is_none,
    a_record_is_replaced_only_by_who_knows_its_etag,
    a_record_is_written_only_on_the_entry_it_was_decided_on,
    no_record_is_written_on_an_entry_that_was_disabled_meanwhile,
    an_entry_of_the_other_kind_or_of_another_id_scope_does_not_count,
    a_record_is_deleted_only_on_its_condition,
    a_deleted_record_makes_the_next_one_the_first,
    records_of_two_id_scopes_never_meet,
);

async fn look_up(store: &dyn Store, id: &str) -> LookUp {
    store.look_up(&scope(), &device(id)).await.unwrap()
}

#[track_caller]
fn same(found: Option<Registration>, expected: &Registration) {
    // Equality ignores the case of ids, the text does not.
    assert_eq!(format!("{:?}", found.expect("it is stored")), format!("{expected:?}"));
}

/// A first write that was decided on this entry with the etag `e{number}`.
fn decided_on(entry: EntryRef, number: u32) -> RegistrationWrite {
    RegistrationWrite { decided_on: Some((entry, etag(&format!("e{number}")))), ..first(record("d", 1)) }
}

fn line() -> EntryRef {
    EntryRef::Group(group_id("LINE"))
}

fn individual() -> EntryRef {
    EntryRef::Individual(device("D"))
}

async fn an_unknown_device_has_nothing(store: Arc<dyn Store>) {
    let found = look_up(&*store, "d").await;
    assert!(found.individual_enrollment.is_none() && found.registration.is_none());
    assert!(found.registration_group.is_none());
}

/// Records in each state, with each thing that one may carry, and with each place where the device may have lived before.
pub(crate) fn every_state() -> Vec<State> {
    let with_keys = |credential| Assignment {
        hub: hub("Other-Hub.Localhost"),
        device_id: device_id("Press#1"),
        credential,
    };
    let tpm = HubCredential::Tpm { storage_root_key: [7; 314].into() };
    let lasts =
        [None, Some(assignment("D-1")), Some(with_keys(HubCredential::EnrollmentKeys)), Some(with_keys(tpm))];
    let mut states = Vec::new();
    for last in lasts {
        states.push(State::Disabled { last: last.clone() });
        for failure in [
            Failure::NoUsableHub,
            Failure::EnrollmentGone,
            Failure::WebhookChoseNone,
            Failure::WebhookUnauthorized,
            Failure::WebhookStatus(404),
            Failure::WebhookSilent,
            Failure::WebhookChoseAnother,
            Failure::WebhookUnreadable,
            Failure::WebhookNotCalled,
            Failure::DeviceIdRefused,
            Failure::HubRefused { said: r#"{"Message":"ErrorCode:..ä"}"#.into() },
            Failure::HubRefused { said: "".into() },
            Failure::HubUnavailable,
            Failure::HubThrottled,
            Failure::SourceUnavailable,
            Failure::HubNotAllowed,
            Failure::DeviceIdUnaddressable,
        ] {
            states.push(State::Failed { failure, last: last.clone() });
        }
        let credential = HubCredential::DerivedKeys { spelling: "D-1".into() };
        for waiting in [
            waiting(credential, "hook.example", 3),
            Waiting { payload: None, ..waiting(HubCredential::EnrollmentKeys, "", 0) },
            Waiting {
                certificate: Some(certificate("d-1")),
                predates_reprovisioning: true,
                ..waiting(HubCredential::Tpm { storage_root_key: [8; 314].into() }, "hook.example:8443", 9)
            },
        ] {
            states.push(State::Choosing { waiting: Box::new(waiting), last: last.clone() });
        }
        for placing in [
            placing("D-1", "0ne1/hub.localhost", 4),
            Placing {
                target: with_keys(HubCredential::EnrollmentKeys),
                takes_along: true,
                initial_twin: None,
                unanswered_at: Some(time(6)),
                tries: 3,
                due_at: time(7),
                ..placing("D-1", "0ne1/other-hub.localhost<hub.localhost", 5)
            },
            Placing {
                target: with_keys(HubCredential::Tpm { storage_root_key: [9; 314].into() }),
                iot_edge: true,
                ..placing("D-1", "", 8)
            },
        ] {
            states.push(State::Assigning { placing: Box::new(placing), last: last.clone() });
        }
        for substatus in [
            Substatus::InitialAssignment,
            Substatus::ReprovisionedToInitialAssignment,
            Substatus::DeviceDataMigrated,
            Substatus::DeviceDataReset,
        ] {
            states.extend(last.clone().map(|assignment| State::Assigned { assignment, substatus }));
        }
    }
    states
}

/// DPS-REG-11, DPS-REG-27, DPS-REG-40, DPS-REG-45
async fn every_state_comes_back_as_it_was_written(store: Arc<dyn Store>) {
    let states = every_state();
    // All of one device, so that each is also written over the one before, which had other members.
    committed(store.commit(first(record("Device-1", 0))).await);
    let mut replaces = 0;
    for entry in [line(), individual()] {
        for state in &states {
            let number = replaces + 1;
            let written =
                Registration { state: state.clone(), entry: entry.clone(), ..record("Device-1", number) };
            committed(store.commit(over(replaces, written.clone())).await);
            let expected = Registration { created_at: time(0), ..written };
            same(look_up(&*store, "Device-1").await.registration, &expected);
            replaces = number;
        }
    }
}

/// DPS-ID-2
async fn a_record_is_found_in_any_case_and_keeps_its_first_spelling_and_creation(store: Arc<dyn Store>) {
    committed(store.commit(first(record("Device-1", 1))).await);
    committed(store.commit(over(1, record("DEVICE-1", 2))).await);
    let expected =
        Registration { registration_id: device("Device-1"), created_at: time(1), ..record("DEVICE-1", 2) };
    for id in ["device-1", "Device-1"] {
        same(look_up(&*store, id).await.registration, &expected);
    }
}

/// DPS-REG-2
async fn a_look_up_tells_the_group_of_the_record_while_it_exists(store: Arc<dyn Store>) {
    put_group(&*store, group("Line", 1)).await;
    committed(store.commit(first(record("d", 1))).await);
    let found = look_up(&*store, "d").await.registration_group.unwrap();
    assert_eq!(shown_group(&found), shown_group(&group("Line", 1)));

    store.delete_enrollment_group(&scope(), &group_id("line"), Condition::Always.into()).await.unwrap();
    let found = look_up(&*store, "d").await;
    assert!(found.registration_group.is_none());
    same(found.registration, &record("d", 1));
}

/// DPS-REG-2
async fn a_record_of_an_individual_enrollment_has_no_group(store: Arc<dyn Store>) {
    put(&*store, enrollment("d", 1)).await;
    put_group(&*store, group("d", 1)).await;
    committed(store.commit(first(Registration { entry: individual(), ..record("d", 1) })).await);
    let found = look_up(&*store, "d").await;
    assert!(found.registration_group.is_none() && found.individual_enrollment.is_some());
}

/// DPS-STORE-4
async fn a_first_record_is_written_only_where_there_is_none(store: Arc<dyn Store>) {
    committed(store.commit(first(record("d", 1))).await);
    outdated(store.commit(first(record("D", 2))).await);
    same(look_up(&*store, "d").await.registration, &record("d", 1));
}

/// DPS-STORE-4
async fn a_record_is_replaced_only_by_who_knows_its_etag(store: Arc<dyn Store>) {
    outdated(store.commit(over(1, record("d", 2))).await);
    assert!(look_up(&*store, "d").await.registration.is_none());
    committed(store.commit(first(record("d", 1))).await);
    committed(store.commit(over(1, record("d", 2))).await);
    outdated(store.commit(over(1, record("d", 3))).await);
    assert_eq!(look_up(&*store, "d").await.registration.unwrap().etag, etag("r2"));
}

/// DPS-STORE-4, DPS-REG-13
async fn a_record_is_written_only_on_the_entry_it_was_decided_on(store: Arc<dyn Store>) {
    for entry in [line(), individual()] {
        outdated(store.commit(decided_on(entry.clone(), 1)).await);
        put_group(&*store, group("Line", 2)).await;
        put(&*store, enrollment("d", 2)).await;
        outdated(store.commit(decided_on(entry.clone(), 1)).await);
        assert!(look_up(&*store, "d").await.registration.is_none());
        committed(store.commit(decided_on(entry.clone(), 2)).await);

        store.delete_registration(&scope(), &device("d"), Condition::Always.into()).await.unwrap();
        store.delete_enrollment_group(&scope(), &group_id("line"), Condition::Always.into()).await.unwrap();
        store.delete_individual_enrollment(&scope(), &device("d"), Condition::Always.into()).await.unwrap();
        outdated(store.commit(decided_on(entry, 2)).await);
    }
}

/// DPS-REG-13
async fn no_record_is_written_on_an_entry_that_was_disabled_meanwhile(store: Arc<dyn Store>) {
    let mut disabled = (group("line", 2), enrollment("d", 2));
    disabled.0.settings.provisioning_status = ProvisioningStatus::Disabled;
    disabled.1.settings.provisioning_status = ProvisioningStatus::Disabled;
    put_group(&*store, group("line", 1)).await;
    put(&*store, enrollment("d", 1)).await;
    put_group(&*store, disabled.0).await;
    put(&*store, disabled.1).await;
    for entry in [line(), individual()] {
        outdated(store.commit(decided_on(entry, 1)).await);
    }
    assert!(look_up(&*store, "d").await.registration.is_none());
}

/// DPS-STORE-1, DPS-STORE-4
async fn an_entry_of_the_other_kind_or_of_another_id_scope_does_not_count(store: Arc<dyn Store>) {
    put_group(&*store, group("d", 1)).await;
    put(&*store, enrollment("line", 1)).await;
    store.put_enrollment_group(&other_scope(), group("line", 1), Condition::Always.into()).await.unwrap();
    store
        .put_individual_enrollment(&other_scope(), enrollment("d", 1), Condition::Always.into())
        .await
        .unwrap();
    for entry in [line(), individual()] {
        outdated(store.commit(decided_on(entry, 1)).await);
    }
}

/// DPS-STORE-10
async fn a_record_is_deleted_only_on_its_condition(store: Arc<dyn Store>) {
    for (condition, .., deletion) in conditions("r1") {
        let deleted = store.delete_registration(&scope(), &device("d"), condition.clone().into()).await;
        assert_eq!(outcome(&deleted), "missing", "{condition:?}");
        committed(store.commit(first(record("d", 1))).await);
        let deleted = store.delete_registration(&scope(), &device("D"), condition.clone().into()).await;
        assert_eq!(outcome(&deleted), deletion, "{condition:?}");
        assert_eq!(look_up(&*store, "d").await.registration.is_none(), deleted.is_ok(), "{condition:?}");
        let _ = store.delete_registration(&scope(), &device("d"), Condition::Always.into()).await;
    }
}

/// DPS-REG-19
async fn a_deleted_record_makes_the_next_one_the_first(store: Arc<dyn Store>) {
    committed(store.commit(first(record("Device-1", 1))).await);
    store.delete_registration(&scope(), &device("device-1"), Condition::Always.into()).await.unwrap();
    outdated(store.commit(over(1, record("device-1", 2))).await);
    committed(store.commit(first(record("DEVICE-1", 3))).await);
    same(look_up(&*store, "device-1").await.registration, &record("DEVICE-1", 3));
}

/// DPS-STORE-1
async fn records_of_two_id_scopes_never_meet(store: Arc<dyn Store>) {
    let theirs = Registration { id_scope: other_scope(), ..record("device-1", 2) };
    committed(store.commit(first(record("Device-1", 1))).await);
    assert!(store.look_up(&other_scope(), &device("Device-1")).await.unwrap().registration.is_none());
    committed(store.commit(first(theirs.clone())).await);
    same(look_up(&*store, "Device-1").await.registration, &record("Device-1", 1));
    same(store.look_up(&other_scope(), &device("Device-1")).await.unwrap().registration, &theirs);
    store.delete_registration(&other_scope(), &device("Device-1"), Condition::Always.into()).await.unwrap();
    same(look_up(&*store, "Device-1").await.registration, &record("Device-1", 1));
}
