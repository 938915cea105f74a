//! CA certificates of an instance. Spec: DPS-X509-23 to DPS-X509-25.

use std::sync::Arc;

use dps_core::ca_certificate::{CA_CERTIFICATES_MAX, CaCertificate, Possession, VerificationCode};
use dps_core::enrollment::{Attestation, EntryRef, IndividualEnrollment};
use dps_core::ports::{Condition, Store, WriteError};

use super::fixtures::*;

super::on_every_store!(
    a_ca_certificate_comes_back_as_it_was_written,
    ca_certificates_are_written_on_conditions,
    ca_certificates_are_listed_by_name_and_each_write_is_seen_at_once,
    one_ca_certificate_too_many_is_refused,
    a_ca_certificate_that_an_entry_refers_to_stays,
    an_entry_refers_to_no_ca_certificate_that_is_not_there,
    ca_certificates_of_two_id_scopes_never_meet,
);

async fn all(store: &dyn Store) -> Vec<Arc<CaCertificate>> {
    store.ca_certificates(&scope()).await.unwrap().to_vec()
}

/// DPS-X509-23, DPS-X509-24
async fn a_ca_certificate_comes_back_as_it_was_written(store: Arc<dyn Store>) {
    let certificate = certificate("Plant CA");
    let code = Some(VerificationCode::generate([0xC3; 24]));
    for possession in
        [Possession::Verified, Possession::Unverified { code: None }, Possession::Unverified { code }]
    {
        let written = CaCertificate { possession, updated_at: time(2), ..ca("Plant-CA", &certificate, 1) };
        put_ca(&*store, written.clone()).await;
        assert_eq!(format!("{:?}", all(&*store).await), format!("[{written:?}]"));
    }
}

/// DPS-STORE-4, DPS-X509-23
async fn ca_certificates_are_written_on_conditions(store: Arc<dyn Store>) {
    let certificate = certificate("Plant CA");
    for (condition, where_none, where_one, deletion) in conditions("c1") {
        let _ = store.delete_ca_certificate(&scope(), &"p".parse().unwrap(), Condition::Always.into()).await;
        let put = async |number| {
            let ca = ca("P", &certificate, number);
            store.put_ca_certificate(&scope(), ca, condition.clone().into()).await
        };
        assert_eq!(outcome(&put(2).await), where_none, "{condition:?}");
        put_ca(&*store, ca("p", &certificate, 1)).await;
        assert_eq!(outcome(&put(2).await), where_one, "{condition:?}");
        put_ca(&*store, ca("p", &certificate, 1)).await;
        let deleted =
            store.delete_ca_certificate(&scope(), &"P".parse().unwrap(), condition.clone().into()).await;
        assert_eq!(outcome(&deleted), deletion, "{condition:?}");
    }
    let _ = store.delete_ca_certificate(&scope(), &"p".parse().unwrap(), Condition::Always.into()).await;
    let deleted =
        store.delete_ca_certificate(&scope(), &"p".parse().unwrap(), Condition::Always.into()).await;
    assert_eq!(outcome(&deleted), "missing");
}

/// DPS-X509-23
async fn ca_certificates_are_listed_by_name_and_each_write_is_seen_at_once(store: Arc<dyn Store>) {
    let certificate = certificate("Plant CA");
    let names =
        |all: Vec<Arc<CaCertificate>>| -> Vec<String> { all.iter().map(|ca| ca.name.to_string()).collect() };
    assert_eq!(names(all(&*store).await), [""; 0]);
    for (name, seen) in [("b", &["b"][..]), ("A", &["A", "b"]), ("B", &["A", "b"])] {
        put_ca(&*store, ca(name, &certificate, 1)).await;
        assert_eq!(names(all(&*store).await), seen);
    }
    store.delete_ca_certificate(&scope(), &"a".parse().unwrap(), Condition::Always.into()).await.unwrap();
    assert_eq!(names(all(&*store).await), ["b"]);
}

/// DPS-X509-23
async fn one_ca_certificate_too_many_is_refused(store: Arc<dyn Store>) {
    let certificate = certificate("Plant CA");
    for number in 0..CA_CERTIFICATES_MAX {
        put_ca(&*store, ca(&format!("ca-{number}"), &certificate, 1)).await;
    }
    let more =
        store.put_ca_certificate(&scope(), ca("more", &certificate, 1), Condition::Always.into()).await;
    assert!(matches!(more, Err(WriteError::TooManyCaCertificates(CA_CERTIFICATES_MAX))), "{more:?}");
    put_ca(&*store, ca("CA-7", &certificate, 2)).await;
    assert_eq!(all(&*store).await.len(), CA_CERTIFICATES_MAX);
}

/// DPS-X509-25
async fn a_ca_certificate_that_an_entry_refers_to_stays(store: Arc<dyn Store>) {
    let certificate = certificate("Plant CA");
    for name in ["one", "two", "three"] {
        put_ca(&*store, ca(name, &certificate, 1)).await;
    }
    put_group(&*store, signed_group("Line", ca_references("ONE", Some("two")), 1)).await;
    let attestation = Attestation::Signers(ca_references("three", None));
    put(&*store, IndividualEnrollment { attestation, ..enrollment("Device-1", 1) }).await;
    let device = EntryRef::Individual(device("Device-1"));
    let line = EntryRef::Group(group_id("Line"));
    for (name, holder) in [("one", &line), ("TWO", &line), ("Three", &device)] {
        let refused =
            store.delete_ca_certificate(&scope(), &name.parse().unwrap(), Condition::Always.into()).await;
        assert!(
            matches!(&refused, Err(WriteError::CaCertificateInUse(entry)) if entry == holder),
            "{refused:?}"
        );
    }
    put_group(&*store, group("Line", 2)).await;
    store.delete_ca_certificate(&scope(), &"one".parse().unwrap(), Condition::Always.into()).await.unwrap();
}

/// DPS-X509-25
async fn an_entry_refers_to_no_ca_certificate_that_is_not_there(store: Arc<dyn Store>) {
    put_ca(&*store, ca("one", &certificate("Plant CA"), 1)).await;
    let references = ca_references("one", Some("Two"));
    let group = signed_group("Line", references.clone(), 1);
    let refused = store.put_enrollment_group(&scope(), group, Condition::Always.into()).await;
    assert!(
        matches!(&refused, Err(WriteError::NoSuchCaCertificate(name)) if name.as_str() == "Two"),
        "{refused:?}"
    );
    assert!(store.enrollment_group(&scope(), &group_id("line")).await.unwrap().is_none());
    let attestation = Attestation::Signers(references);
    let device = IndividualEnrollment { attestation, ..enrollment("Device-1", 1) };
    let refused = store.put_individual_enrollment(&scope(), device, Condition::Always.into()).await;
    assert_eq!(outcome(&refused), "no such CA");
}

/// DPS-STORE-1
async fn ca_certificates_of_two_id_scopes_never_meet(store: Arc<dyn Store>) {
    put_ca(&*store, ca("one", &certificate("Plant CA"), 1)).await;
    assert!(store.ca_certificates(&other_scope()).await.unwrap().is_empty());
    let name = "one".parse().unwrap();
    let deleted = store.delete_ca_certificate(&other_scope(), &name, Condition::Always.into()).await;
    assert_eq!(outcome(&deleted), "missing");
    let group = signed_group("Line", ca_references("one", None), 1);
    let refused = store.put_enrollment_group(&other_scope(), group, Condition::Always.into()).await;
    assert_eq!(outcome(&refused), "no such CA");
}
