//! A store in SQLite in which every column of every table has a value somewhere.

use std::path::Path;
use std::sync::Arc;

use dps_core::audit::{Author, Principal};
use dps_core::ca_certificate::{CaCertificate, Possession, VerificationCode};
use dps_core::enrollment::{
    Attestation, EnrollmentGroup, EntryRef, GroupAttestation, IndividualEnrollment, Signers,
};
use dps_core::ports::{
    ClaimOrder, CleanUp, Condition, HubAuthentication, HubDevice, HubDeviceStatus, HubWrite, Store,
    WaitingFor, WriteOrder,
};
use dps_core::registration::{Assignment, HubCredential, Registration, State, Substatus};
use dps_core::x509::Certificate;
use dps_proto::ids::InstanceSecret;

use crate::contract::fixtures::*;
use crate::contract::instance_settings::{full_instance, instance};
use crate::contract::registrations::every_state;
use crate::{Sealer, SealingKey, SqliteOptions, SqliteStore};

/// Of the store that is copied.
pub(super) const SOURCE_KEY: u8 = 1;

pub(super) fn sealer(key: u8) -> Sealer {
    Sealer::new(&SealingKey::from_bytes([key; 32]))
}

/// What chains lead to in the store.
pub(super) struct Certificates {
    pub(super) device: Arc<Certificate>,
    pub(super) line: Arc<Certificate>,
    pub(super) plant: Arc<Certificate>,
}

/// Makes the store at `path`; it is closed when this returns.
pub(super) async fn fill(path: &Path) -> Certificates {
    let store = SqliteStore::open(path, SqliteOptions::default(), sealer(SOURCE_KEY)).unwrap();
    let certificates = Certificates {
        device: certificate("d-x"),
        line: certificate("Line CA"),
        plant: certificate("Plant CA"),
    };
    instances(&store).await;
    entries(&store, &certificates).await;
    records(&store, &certificates).await;
    devices(&store, &certificates).await;
    what_waits(&store).await;
    store.close();
    certificates
}

fn by(number: u32) -> WriteOrder {
    let author = match number % 2 {
        0 => Author { principal: Principal::Admin, address: None, tracking_id: None, at: time(number) },
        _ => Author {
            principal: Principal::Policy("Owner".into()),
            address: Some("192.0.2.7".parse().unwrap()),
            tracking_id: Some(uuid::Uuid::from_u128(number.into())),
            at: time(number),
        },
    };
    WriteOrder::by(author, Condition::Always)
}

/// One that a configuration has, one with every setting, and one that is being deleted.
async fn instances(store: &SqliteStore) {
    store.open_instance(&other_scope(), InstanceSecret::new([9; 32])).await.unwrap();
    store.put_service_instance(full_instance(&scope(), 3), by(1)).await.unwrap();
    let gone = "0neDE1E7ED".parse().unwrap();
    store.put_service_instance(instance(&gone, 4), by(2)).await.unwrap();
    store
        .put_individual_enrollment(&gone, enrollment("left-over", 5), Condition::Always.into())
        .await
        .unwrap();
    store.delete_service_instance(&gone, by(3)).await.unwrap();
}

async fn entries(store: &SqliteStore, certificates: &Certificates) {
    let Certificates { device, line, plant } = certificates;
    let code = Some(VerificationCode::generate([0xC3; 24]));
    let unverified = Possession::Unverified { code };
    put_ca(store, ca("Plant", plant, 1)).await;
    put_ca(store, CaCertificate { possession: unverified, updated_at: time(9), ..ca("next", line, 2) }).await;
    let attestations = [
        ("D-keys", Attestation::SymmetricKey(keys(0xA2))),
        ("D-X", Attestation::ClientCertificates(pair(device, Some(line)))),
        ("D-signed", Attestation::Signers(Signers::Certificates(pair(line, Some(plant))))),
        ("D-ca", Attestation::Signers(ca_references("PLANT", Some("Next")))),
        ("D-tpm", Attestation::Tpm { endorsement_key: [0, 1, 0xFF, 0].into() }),
    ];
    for (number, (id, attestation)) in (1..).zip(attestations) {
        let settings = if number % 2 == 0 { settings(number) } else { full_settings(number) };
        let device_id = (number % 2 == 1).then(|| device_id("Press#1"));
        let enrollment = IndividualEnrollment { attestation, settings, device_id, ..enrollment(id, number) };
        store.put_individual_enrollment(&scope(), enrollment, by(number)).await.unwrap();
    }
    store
        .put_individual_enrollment(&other_scope(), enrollment("D-keys", 0xA3), Condition::Always.into())
        .await
        .unwrap();
    put_group(store, group("Line", 7)).await;
    put_group(store, group("open", 8)).await;
    put_group(store, prefixed_group("Press", "d-", 9)).await;
    let full = EnrollmentGroup { settings: full_settings(10), ..prefixed_group("Full", "f", 10) };
    store.put_enrollment_group(&scope(), full, by(10)).await.unwrap();
    put_group(store, signed_group("Signed", Signers::Certificates(pair(line, Some(plant))), 11)).await;
    let by_ca = EnrollmentGroup {
        attestation: GroupAttestation::Signers(ca_references("plant", Some("NEXT"))),
        settings: full_settings(12),
        ..group("By-CA", 12)
    };
    put_group(store, by_ca).await;
    store.put_enrollment_group(&other_scope(), group("Line", 13), Condition::Always.into()).await.unwrap();
}

/// In every state, of either kind of entry.
async fn records(store: &SqliteStore, certificates: &Certificates) {
    for (number, state) in (1..).zip(every_state()) {
        let entry = match number % 3 {
            0 => EntryRef::Individual(device("D-keys")),
            _ => EntryRef::Group(group_id("Line")),
        };
        let record = Registration { state, entry, ..record(&format!("D-{number}"), number) };
        committed(store.commit(first(record)).await);
    }
    let thumbprint = certificates.device.thumbprint();
    let credential = HubCredential::Certificate { thumbprint };
    let assignment = Assignment { credential: credential.clone(), ..assignment("D-x") };
    let lives = State::Assigned { assignment, substatus: Substatus::InitialAssignment };
    let waiting = Box::new(waiting(credential, "hook.example", 8));
    let chooses = State::Choosing { waiting, last: None };
    for (id, state) in [("D-x", lives), ("D-y", chooses)] {
        committed(store.commit(first(Registration { state, ..record(id, 1) })).await);
    }
}

async fn devices(store: &SqliteStore, certificates: &Certificates) {
    let certified = HubDevice {
        authentication: HubAuthentication::SelfSigned {
            primary: certificates.device.thumbprint(),
            secondary: certificates.line.thumbprint(),
        },
        ..hub_device("D-x", 1)
    };
    let full = HubDevice { iot_edge: true, initial_twin: Some(twin(2)), ..hub_device("Edge#1", 0xA5) };
    let write =
        with_devices(first(record("with-devices", 1)), vec![hub_device("D-1", 0xA4), certified, full]);
    committed(store.commit(write).await);
    let disabled = HubDeviceStatus::Disabled;
    store
        .set_hub_device_status(&scope(), &hub("hub.localhost"), &device_id("Edge#1"), disabled, by(5).by)
        .await
        .unwrap();
}

/// Clean-ups that nobody has tried, that somebody is at, and that did not work; and a lease on what waits for hubs and webhooks.
async fn what_waits(store: &SqliteStore) {
    let full = CleanUp {
        confirm_at: Some(time(4_000)),
        tries: 3,
        due_at: time(500),
        problem: Some("the hub was asked too often: ä".into()),
        ..clean_up("Press#1", "Old.Example", 5)
    };
    let mut write = first(record("with-clean-ups", 1));
    write.hub_writes = [full, clean_up("due", "old.example", 1), clean_up("later", "Other.Example", 600)]
        .map(|clean_up| HubWrite::CleanUp(Box::new(clean_up)))
        .into();
    committed(store.commit(write).await);
    let some = ClaimOrder { limit: 5, ..claim_order(100) };
    for whom in [WaitingFor::Hub, WaitingFor::Webhook] {
        assert!(!store.claim_waiting(whom, some.clone()).await.unwrap().operations.is_empty());
    }
    assert_eq!(store.claim_clean_ups(some).await.unwrap().operations.len(), 1);
}

/// What is due at `time(now)`, all of it.
pub(super) fn claim_order(now: u32) -> ClaimOrder {
    ClaimOrder {
        now: time(now),
        lease_until: time(now + 60),
        limit: 1_000,
        per_peer_max: 1_000,
        in_flight: Default::default(),
        after_peer: None,
    }
}
