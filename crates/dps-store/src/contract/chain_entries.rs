//! What chains find entries by. Spec: DPS-X509-6, DPS-X509-7, DPS-X509-30.

use std::sync::Arc;

use dps_core::ca_certificate::{CaCertificate, Possession};
use dps_core::enrollment::{Attestation, GROUPS_OF_ONE_SUBJECT_MAX, IndividualEnrollment, Signers};
use dps_core::ports::{
    ChainEntries, ChainWanted, Condition, HubAuthentication, HubDevice, Store, WriteError,
};
use dps_core::registration::{HubCredential, State, Substatus};
use dps_core::x509::Certificate;

use super::fixtures::*;

super::on_every_store!(
    groups_are_found_by_the_subject_of_either_certificate,
    groups_are_found_by_the_ca_certificates_that_they_refer_to,
    a_group_is_found_by_what_it_was_last_written_with,
    holders_of_a_certificate_are_found_oldest_first,
    signed_groups_are_no_candidates_for_a_token,
    groups_of_one_subject_are_limited_and_a_refused_one_is_unchanged,
    entries_of_two_id_scopes_never_meet,
    a_hub_device_with_thumbprints_and_its_record_come_back,
);

async fn found(store: &dyn Store, wanted: &ChainWanted) -> (Vec<String>, Vec<String>) {
    let ChainEntries { individual_enrollments, groups, .. } =
        store.chain_entries(&scope(), wanted).await.unwrap();
    (
        individual_enrollments.iter().map(|enrollment| enrollment.registration_id.to_string()).collect(),
        groups.iter().map(|group| group.id.to_string()).collect(),
    )
}

/// A chain that may stand under these names, one above the other, with a leaf that nobody has.
fn wanted(names: &[&Arc<Certificate>]) -> ChainWanted {
    let names: Vec<_> = names.iter().map(|certificate| certificate.subject()).collect();
    ChainWanted {
        leaf: dps_core::x509::Sha256Thumbprint::from_bytes([0; 32]),
        issuer: names.first().copied().unwrap_or_else(|| certificate("nobody").subject()),
        sent: names.windows(2).map(|pair| (pair[0], pair[1])).collect(),
    }
}

/// DPS-X509-7
async fn groups_are_found_by_the_subject_of_either_certificate(store: Arc<dyn Store>) {
    let (plant, line, other) = (certificate("Plant CA"), certificate("Line CA"), certificate("PLANT  ca"));
    put_group(&*store, signed_group("both", Signers::Certificates(pair(&plant, Some(&line))), 3)).await;
    put_group(&*store, signed_group("one", Signers::Certificates(pair(&other, None)), 1)).await;
    put_group(&*store, group("keys", 2)).await;
    let groups = async |wanted: ChainWanted| found(&*store, &wanted).await.1;
    assert_eq!(groups(wanted(&[&plant])).await, ["one", "both"]);
    assert_eq!(groups(wanted(&[&line])).await, ["both"]);
    assert_eq!(groups(wanted(&[&line, &plant, &plant])).await, ["one", "both"]);
    assert_eq!(groups(wanted(&[&certificate("else")])).await, [""; 0]);
}

/// DPS-X509-7, DPS-X509-9
async fn groups_are_found_by_the_ca_certificates_that_they_refer_to(store: Arc<dyn Store>) {
    let (plant, next) = (certificate("Plant CA"), certificate("Next CA"));
    put_ca(&*store, ca("Plant", &plant, 1)).await;
    let unverified = Possession::Unverified { code: None };
    put_ca(&*store, CaCertificate { possession: unverified, ..ca("next", &next, 1) }).await;
    put_ca(&*store, ca("third", &certificate("Third CA"), 1)).await;
    put_group(&*store, signed_group("line", ca_references("plant", Some("NEXT")), 1)).await;
    for certificate in [&plant, &next] {
        assert_eq!(found(&*store, &wanted(&[certificate])).await.1, ["line"]);
    }
    assert_eq!(found(&*store, &wanted(&[&certificate("Third CA")])).await.1, [""; 0]);
    let entries = store.chain_entries(&scope(), &wanted(&[])).await.unwrap();
    let names: Vec<_> = entries.authorities.iter().map(|ca| ca.name.as_str()).collect();
    assert_eq!(names, ["next", "Plant", "third"]);
}

/// DPS-X509-7
async fn a_group_is_found_by_what_it_was_last_written_with(store: Arc<dyn Store>) {
    let (old, new) = (certificate("Old CA"), certificate("New CA"));
    for (certificate, seen_by_old, seen_by_new) in [(&old, 1, 0), (&new, 0, 1), (&old, 1, 0)] {
        put_group(&*store, signed_group("line", Signers::Certificates(pair(certificate, None)), 1)).await;
        assert_eq!(found(&*store, &wanted(&[&old])).await.1.len(), seen_by_old);
        assert_eq!(found(&*store, &wanted(&[&new])).await.1.len(), seen_by_new);
    }
    put_group(&*store, group("line", 2)).await;
    assert_eq!(found(&*store, &wanted(&[&old, &new])).await.1.len(), 0);
    put_group(&*store, signed_group("line", Signers::Certificates(pair(&new, None)), 3)).await;
    store.delete_enrollment_group(&scope(), &group_id("line"), Condition::Always.into()).await.unwrap();
    assert_eq!(found(&*store, &wanted(&[&old, &new])).await.1.len(), 0);
}

/// DPS-X509-6
async fn holders_of_a_certificate_are_found_oldest_first(store: Arc<dyn Store>) {
    let (mine, next) = (certificate("d"), certificate("d"));
    let hold = async |id: &str, attestation: Attestation, number: u32| {
        put(&*store, IndividualEnrollment { attestation, ..enrollment(id, number) }).await;
    };
    hold("young", Attestation::ClientCertificates(pair(&mine, None)), 3).await;
    hold("old", Attestation::ClientCertificates(pair(&next, Some(&mine))), 1).await;
    hold("signer", Attestation::Signers(Signers::Certificates(pair(&mine, None))), 2).await;
    let leaf = |certificate: &Certificate| ChainWanted { leaf: certificate.thumbprint(), ..wanted(&[]) };
    assert_eq!(found(&*store, &leaf(&mine)).await.0, ["old", "young"]);
    assert_eq!(found(&*store, &leaf(&next)).await.0, ["old"]);
    hold("old", Attestation::ClientCertificates(pair(&next, None)), 1).await;
    assert_eq!(found(&*store, &leaf(&mine)).await.0, ["young"]);
}

/// DPS-REG-2, DPS-REG-3
async fn signed_groups_are_no_candidates_for_a_token(store: Arc<dyn Store>) {
    let open = async || store.candidate_groups(&scope(), &device("d")).await.unwrap().open.len();
    put_group(&*store, group("line", 1)).await;
    assert_eq!(open().await, 1);
    let signers = Signers::Certificates(pair(&certificate("Plant CA"), None));
    put_group(&*store, signed_group("line", signers, 2)).await;
    assert_eq!(open().await, 0);
    put_group(&*store, group("line", 3)).await;
    assert_eq!(open().await, 1);
}

/// DPS-X509-30
async fn groups_of_one_subject_are_limited_and_a_refused_one_is_unchanged(store: Arc<dyn Store>) {
    let (plant, other) = (certificate("Plant CA"), certificate("Other CA"));
    let signers = |certificate| Signers::Certificates(pair(certificate, None));
    for number in 0..GROUPS_OF_ONE_SUBJECT_MAX {
        put_group(&*store, signed_group(&format!("g{number}"), signers(&plant), number as u32)).await;
    }
    put_group(&*store, signed_group("more", signers(&other), 1)).await;
    for asked in [signers(&plant), Signers::Certificates(pair(&certificate("third"), Some(&plant)))] {
        let refused = store
            .put_enrollment_group(&scope(), signed_group("more", asked, 2), Condition::Always.into())
            .await;
        assert!(
            matches!(refused, Err(WriteError::TooManyGroupsOfOneSubject(GROUPS_OF_ONE_SUBJECT_MAX))),
            "{refused:?}"
        );
        assert_eq!(found(&*store, &wanted(&[&other])).await.1, ["more"]);
    }
    put_group(&*store, signed_group("g3", signers(&plant), 9)).await;
    store.delete_enrollment_group(&scope(), &group_id("g5"), Condition::Always.into()).await.unwrap();
    put_group(&*store, signed_group("more", signers(&plant), 3)).await;
    assert_eq!(found(&*store, &wanted(&[&plant])).await.1.len(), GROUPS_OF_ONE_SUBJECT_MAX);
}

/// DPS-STORE-1
async fn entries_of_two_id_scopes_never_meet(store: Arc<dyn Store>) {
    let mine = certificate("Plant CA");
    put_group(&*store, signed_group("line", Signers::Certificates(pair(&mine, None)), 1)).await;
    let attestation = Attestation::ClientCertificates(pair(&mine, None));
    put(&*store, IndividualEnrollment { attestation, ..enrollment("d", 1) }).await;
    let wanted = ChainWanted { leaf: mine.thumbprint(), ..wanted(&[&mine]) };
    let ChainEntries { individual_enrollments, groups, .. } =
        store.chain_entries(&other_scope(), &wanted).await.unwrap();
    assert!(individual_enrollments.is_empty() && groups.is_empty());
    assert_eq!(found(&*store, &wanted).await, (vec!["d".to_owned()], vec!["line".to_owned()]));
}

/// DPS-X509-22
async fn a_hub_device_with_thumbprints_and_its_record_come_back(store: Arc<dyn Store>) {
    let (mine, next) = (certificate("d").thumbprint(), certificate("d").thumbprint());
    let device = |primary, secondary| HubDevice {
        authentication: HubAuthentication::SelfSigned { primary, secondary },
        ..hub_device("d", 1)
    };
    let record = |number, thumbprint| {
        let mut record = record("d", number);
        let mut assignment = assignment("d");
        assignment.credential = HubCredential::Certificate { thumbprint };
        record.state = State::Assigned { assignment, substatus: Substatus::InitialAssignment };
        record
    };
    let written = async || {
        let device =
            store.hub_device(&scope(), &hub("hub.localhost"), &device_id("d")).await.unwrap().unwrap();
        (device.device.authentication, store.look_up(&scope(), &super::fixtures::device("d")).await.unwrap())
    };
    committed(store.commit(with_devices(first(record(1, mine)), vec![device(mine, mine)])).await);
    let (authentication, look_up) = written().await;
    assert!(
        matches!(authentication, HubAuthentication::SelfSigned { primary, secondary } if (primary, secondary) == (mine, mine))
    );
    assert_eq!(look_up.registration, Some(record(1, mine)));

    committed(store.commit(with_devices(over(1, record(2, next)), vec![device(next, mine)])).await);
    let (authentication, look_up) = written().await;
    assert!(
        matches!(authentication, HubAuthentication::SelfSigned { primary, secondary } if (primary, secondary) == (next, mine))
    );
    assert_eq!(look_up.registration.unwrap().state, record(2, next).state);

    // A device that comes back with keys has keys.
    committed(
        store.commit(with_devices(over(2, super::fixtures::record("d", 3)), vec![hub_device("d", 1)])).await,
    );
    assert!(matches!(written().await.0, HubAuthentication::Keys(_)));
}
