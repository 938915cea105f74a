//! Individual enrollments.

use std::sync::Arc;

use dps_core::enrollment::{AllocationPolicy, Attestation, IndividualEnrollment, ReprovisionPolicy, Signers};
use dps_core::ports::{Condition, Store};

use super::fixtures::*;

super::on_every_store!(
    every_attestation_and_setting_comes_back_as_it_was_written,
    an_enrollment_is_found_in_any_case,
    a_replaced_enrollment_keeps_its_first_spelling_and_its_creation_and_nothing_else,
    an_enrollment_made_anew_after_its_deletion_keeps_nothing,
    another_kind_of_attestation_leaves_nothing_of_the_first,
    an_enrollment_is_written_only_on_its_condition,
    an_enrollment_is_deleted_only_on_its_condition,
    a_refused_write_leaves_the_enrollment_as_it_was,
    the_record_outlives_the_enrollment,
    enrollments_of_two_id_scopes_never_meet,
);

async fn find(store: &dyn Store, id: &str) -> Option<Arc<IndividualEnrollment>> {
    store.look_up(&scope(), &device(id)).await.unwrap().individual_enrollment
}

#[track_caller]
fn same(found: Option<Arc<IndividualEnrollment>>, expected: &IndividualEnrollment) {
    assert_eq!(shown_enrollment(&found.expect("it is stored")), shown_enrollment(expected));
}

/// DPS-STORE-9
async fn every_attestation_and_setting_comes_back_as_it_was_written(store: Arc<dyn Store>) {
    let (one, other) = (certificate("one"), certificate("other"));
    put_ca(&*store, ca("Plant", &one, 1)).await;
    put_ca(&*store, ca("plant-2", &other, 1)).await;
    let attestations = [
        Attestation::SymmetricKey(keys(7)),
        Attestation::ClientCertificates(pair(&one, None)),
        Attestation::ClientCertificates(pair(&other, Some(&one))),
        Attestation::Signers(Signers::Certificates(pair(&one, None))),
        Attestation::Signers(Signers::Certificates(pair(&one, Some(&other)))),
        Attestation::Signers(ca_references("PLANT", None)),
        Attestation::Signers(ca_references("Plant", Some("Plant-2"))),
        Attestation::Tpm { endorsement_key: [0, 1, 0xFF, 0].into() },
    ];
    for attestation in attestations {
        let mut hashed = full_settings(2);
        hashed.allocation_policy = Some(AllocationPolicy::Hashed);
        hashed.reprovision_policy =
            Some(ReprovisionPolicy { update_hub_assignment: false, migrate_device_data: true });
        for settings in [settings(1), full_settings(2), hashed] {
            let named = (!settings.iot_edge).then(|| device_id("Press#1 (of 2)".replace(' ', "_").as_str()));
            let enrollment = IndividualEnrollment {
                registration_id: device("Device-1"),
                device_id: named,
                attestation: attestation.clone(),
                settings,
            };
            let _ = store
                .delete_individual_enrollment(&scope(), &device("device-1"), Condition::Always.into())
                .await;
            put(&*store, enrollment.clone()).await;
            same(find(&*store, "Device-1").await, &enrollment);
        }
    }
}

/// DPS-ID-2
async fn an_enrollment_is_found_in_any_case(store: Arc<dyn Store>) {
    put(&*store, enrollment("Device-1", 1)).await;
    for id in ["Device-1", "device-1", "DEVICE-1"] {
        same(find(&*store, id).await, &enrollment("Device-1", 1));
    }
    assert!(find(&*store, "device-10").await.is_none());
}

/// DPS-ID-2
async fn a_replaced_enrollment_keeps_its_first_spelling_and_its_creation_and_nothing_else(
    store: Arc<dyn Store>,
) {
    put(&*store, enrollment("Device-1", 1)).await;
    let replacing = IndividualEnrollment { settings: full_settings(5), ..enrollment("DEVICE-1", 5) };
    put(&*store, replacing.clone()).await;
    let mut expected = IndividualEnrollment { registration_id: device("Device-1"), ..replacing };
    expected.settings.created_at = time(1);
    same(find(&*store, "device-1").await, &expected);
}

async fn an_enrollment_made_anew_after_its_deletion_keeps_nothing(store: Arc<dyn Store>) {
    put(&*store, enrollment("Device-1", 1)).await;
    store
        .delete_individual_enrollment(&scope(), &device("DEVICE-1"), Condition::Always.into())
        .await
        .unwrap();
    assert!(find(&*store, "Device-1").await.is_none());
    put(&*store, enrollment("DEVICE-1", 5)).await;
    same(find(&*store, "device-1").await, &enrollment("DEVICE-1", 5));
}

/// DPS-STORE-6
async fn another_kind_of_attestation_leaves_nothing_of_the_first(store: Arc<dyn Store>) {
    put(&*store, enrollment("Device-1", 1)).await;
    let tpm = Attestation::Tpm { endorsement_key: [1, 2].into() };
    put(&*store, IndividualEnrollment { attestation: tpm, ..enrollment("Device-1", 1) }).await;
    let found = find(&*store, "Device-1").await.unwrap();
    assert!(
        matches!(&found.attestation, Attestation::Tpm { endorsement_key } if **endorsement_key == [1, 2])
    );
    put(&*store, enrollment("Device-1", 1)).await;
    same(find(&*store, "Device-1").await, &enrollment("Device-1", 1));
}

/// DPS-STORE-10
async fn an_enrollment_is_written_only_on_its_condition(store: Arc<dyn Store>) {
    for (condition, where_none_is, where_one_is, _) in conditions("e1") {
        let _ = store.delete_individual_enrollment(&scope(), &device("d"), Condition::Always.into()).await;
        let written =
            store.put_individual_enrollment(&scope(), enrollment("d", 2), condition.clone().into()).await;
        assert_eq!(outcome(&written), where_none_is, "{condition:?}");
        assert_eq!(find(&*store, "d").await.is_some(), written.is_ok(), "{condition:?}");

        put(&*store, enrollment("d", 1)).await;
        let written =
            store.put_individual_enrollment(&scope(), enrollment("D", 2), condition.clone().into()).await;
        assert_eq!(outcome(&written), where_one_is, "{condition:?}");
    }
}

/// DPS-STORE-10
async fn an_enrollment_is_deleted_only_on_its_condition(store: Arc<dyn Store>) {
    for (condition, .., deletion) in conditions("e1") {
        let deleted =
            store.delete_individual_enrollment(&scope(), &device("d"), condition.clone().into()).await;
        assert_eq!(outcome(&deleted), "missing", "{condition:?}");
        put(&*store, enrollment("d", 1)).await;
        let deleted =
            store.delete_individual_enrollment(&scope(), &device("D"), condition.clone().into()).await;
        assert_eq!(outcome(&deleted), deletion, "{condition:?}");
        assert_eq!(find(&*store, "d").await.is_none(), deleted.is_ok(), "{condition:?}");
        let _ = store.delete_individual_enrollment(&scope(), &device("d"), Condition::Always.into()).await;
    }
}

/// DPS-STORE-10
async fn a_refused_write_leaves_the_enrollment_as_it_was(store: Arc<dyn Store>) {
    put(&*store, enrollment("Device-1", 1)).await;
    for condition in [Condition::IfAbsent, Condition::IfMatches(etag("another"))] {
        let refused =
            store.put_individual_enrollment(&scope(), enrollment("device-1", 9), condition.into()).await;
        assert!(refused.is_err());
        same(find(&*store, "Device-1").await, &enrollment("Device-1", 1));
    }
}

async fn the_record_outlives_the_enrollment(store: Arc<dyn Store>) {
    put(&*store, enrollment("Device-1", 1)).await;
    committed(store.commit(first(record("Device-1", 1))).await);
    store
        .delete_individual_enrollment(&scope(), &device("Device-1"), Condition::Always.into())
        .await
        .unwrap();
    let look_up = store.look_up(&scope(), &device("Device-1")).await.unwrap();
    assert!(look_up.individual_enrollment.is_none());
    assert_eq!(look_up.registration, Some(record("Device-1", 1)));
}

/// DPS-STORE-1
async fn enrollments_of_two_id_scopes_never_meet(store: Arc<dyn Store>) {
    let (id, theirs) = (device("Device-1"), other_scope());
    put(&*store, enrollment("Device-1", 1)).await;
    assert!(store.look_up(&theirs, &id).await.unwrap().individual_enrollment.is_none());
    let deleted = store.delete_individual_enrollment(&theirs, &id, Condition::Always.into()).await;
    assert_eq!(outcome(&deleted), "missing");

    store
        .put_individual_enrollment(&theirs, enrollment("device-1", 2), Condition::IfAbsent.into())
        .await
        .unwrap();
    same(find(&*store, "Device-1").await, &enrollment("Device-1", 1));
    same(store.look_up(&theirs, &id).await.unwrap().individual_enrollment, &enrollment("device-1", 2));
    store.delete_individual_enrollment(&theirs, &id, Condition::Always.into()).await.unwrap();
    same(find(&*store, "Device-1").await, &enrollment("Device-1", 1));
}
