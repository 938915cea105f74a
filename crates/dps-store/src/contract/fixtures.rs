//! Things to store, and a form in which they can be compared: keys have no equality and no text, on purpose.

use std::sync::Arc;

use dps_core::ca_certificate::{CaCertificate, Possession};
use dps_core::custom_allocation::CustomAllocation;
use dps_core::enrollment::{
    AllocationPolicy, Attestation, CaReferences, CertificatePair, EnrollmentGroup, EntryRef, EntrySettings,
    GroupAttestation, IndividualEnrollment, OtherMembers, ProvisioningStatus, ReprovisionPolicy, Signers,
    TwinDocument,
};
use dps_core::ports::{
    CleanUp, Commit, Condition, HubAuthentication, HubDevice, HubWrite, RegistrationWrite, Store,
    StoredHubDevice, WriteError,
};
use dps_core::registration::{
    Assignment, HubCredential, JsonText, Operation, Placing, Registration, State, Substatus, Waiting,
};
use dps_core::x509::Certificate;
use dps_proto::ids::{DeviceId, ETag, EnrollmentGroupId, HubName, IdScope, InstanceSecret, RegistrationId};
use dps_proto::key::{KeyPair, SymmetricKey};
use jiff::Timestamp;
use uuid::Uuid;

pub(crate) fn scope() -> IdScope {
    "0ne000000A1".parse().unwrap()
}

pub(crate) fn other_scope() -> IdScope {
    "0ne000000A2".parse().unwrap()
}

/// Without them nothing is written to their ID scopes. Spec: DPS-STORE-24.
pub(crate) async fn open_instances(store: &dyn Store) {
    for (number, scope) in [(1, scope()), (2, other_scope())] {
        store.open_instance(&scope, InstanceSecret::new([number; 32])).await.unwrap();
    }
}

pub(crate) fn device(text: &str) -> RegistrationId {
    text.parse().unwrap()
}

pub(crate) fn group_id(text: &str) -> EnrollmentGroupId {
    text.parse().unwrap()
}

pub(crate) fn hub(text: &str) -> HubName {
    text.parse().unwrap()
}

pub(crate) fn device_id(text: &str) -> DeviceId {
    text.parse().unwrap()
}

pub(crate) fn etag(text: &str) -> ETag {
    text.parse().unwrap()
}

/// Differs for each number, down to the 100 ns that bodies show and below.
pub(crate) fn time(number: u32) -> Timestamp {
    let first: Timestamp = "2026-11-20T08:00:00.123456789Z".parse().unwrap();
    first + jiff::SignedDuration::from_secs(number.into())
}

pub(crate) fn keys(byte: u8) -> KeyPair {
    let key = |byte| SymmetricKey::from_bytes(vec![byte; 32]).unwrap();
    KeyPair { primary: key(byte), secondary: key(!byte) }
}

/// Plain settings, written at `time(number)` with the etag `e{number}`.
pub(crate) fn settings(number: u32) -> EntrySettings {
    EntrySettings {
        provisioning_status: ProvisioningStatus::Enabled,
        allocation_policy: None,
        custom_allocation: None,
        hubs: Vec::new(),
        initial_twin: None,
        iot_edge: false,
        reprovision_policy: None,
        other_members: None,
        etag: etag(&format!("e{number}")),
        created_at: time(number),
        updated_at: time(number),
    }
}

/// Settings in which every member has a value of its own.
pub(crate) fn full_settings(number: u32) -> EntrySettings {
    EntrySettings {
        provisioning_status: ProvisioningStatus::Disabled,
        allocation_policy: Some(AllocationPolicy::Custom),
        custom_allocation: Some(custom_allocation(number)),
        hubs: vec![hub("Hub-One.example"), hub("hub-two.example")],
        initial_twin: Some(twin(number)),
        iot_edge: true,
        reprovision_policy: Some(ReprovisionPolicy {
            update_hub_assignment: true,
            migrate_device_data: false,
        }),
        other_members: Some(OtherMembers(
            format!(r#"{{"optionalDeviceInformation":{{"n":{number}}}}}"#).into(),
        )),
        updated_at: time(number + 1),
        ..settings(number)
    }
}

pub(crate) fn custom_allocation(number: u32) -> CustomAllocation {
    let url = format!("https://hook-{number}.example:8443/api/choose?code=k3y{number}");
    CustomAllocation { webhook_url: url.parse().unwrap(), api_version: "2019-03-31".into() }
}

pub(crate) fn twin(number: u32) -> TwinDocument {
    TwinDocument(format!(r#"{{"tags":{{"line":"ä\"{number}"}}}}"#).into())
}

pub(crate) fn enrollment(id: &str, number: u32) -> IndividualEnrollment {
    IndividualEnrollment {
        registration_id: device(id),
        device_id: None,
        attestation: Attestation::SymmetricKey(keys(number as u8)),
        settings: settings(number),
    }
}

/// A new certificate with this common name: each has a key of its own.
pub(crate) fn certificate(common_name: &str) -> Arc<Certificate> {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, common_name);
    let key = rcgen::KeyPair::generate().unwrap();
    Arc::new(Certificate::from_der(params.self_signed(&key).unwrap().der()).unwrap())
}

pub(crate) fn pair(primary: &Arc<Certificate>, secondary: Option<&Arc<Certificate>>) -> CertificatePair {
    CertificatePair { primary: Arc::clone(primary), secondary: secondary.map(Arc::clone) }
}

/// A group with these signing certificates.
pub(crate) fn signed_group(id: &str, signers: Signers, number: u32) -> EnrollmentGroup {
    EnrollmentGroup { attestation: GroupAttestation::Signers(signers), ..group(id, number) }
}

pub(crate) fn ca_references(primary: &str, secondary: Option<&str>) -> Signers {
    let name = |text: &str| text.parse().unwrap();
    Signers::CaReferences(CaReferences { primary: name(primary), secondary: secondary.map(name) })
}

/// A verified CA certificate with the etag `c{number}`.
pub(crate) fn ca(name: &str, certificate: &Arc<Certificate>, number: u32) -> CaCertificate {
    CaCertificate {
        name: name.parse().unwrap(),
        certificate: Arc::clone(certificate),
        possession: Possession::Verified,
        etag: etag(&format!("c{number}")),
        created_at: time(number),
        updated_at: time(number),
    }
}

pub(crate) async fn put_ca(store: &dyn Store, ca: CaCertificate) {
    store.put_ca_certificate(&scope(), ca, Condition::Always.into()).await.unwrap();
}

/// A group without a prefix.
pub(crate) fn group(id: &str, number: u32) -> EnrollmentGroup {
    EnrollmentGroup {
        id: group_id(id),
        registration_id_prefix: None,
        attestation: GroupAttestation::SymmetricKey(keys(number as u8)),
        settings: settings(number),
    }
}

pub(crate) fn prefixed_group(id: &str, prefix: &str, number: u32) -> EnrollmentGroup {
    EnrollmentGroup { registration_id_prefix: Some(prefix.parse().unwrap()), ..group(id, number) }
}

pub(crate) fn assignment(id: &str) -> Assignment {
    Assignment {
        hub: hub("Hub.Localhost"),
        device_id: device_id(id),
        credential: HubCredential::DerivedKeys { spelling: id.into() },
    }
}

/// The record of a device that came in by the group `line`, with the etag `r{number}`.
pub(crate) fn record(id: &str, number: u32) -> Registration {
    Registration {
        id_scope: scope(),
        registration_id: device(id),
        entry: EntryRef::Group(group_id("line")),
        created_at: time(number),
        updated_at: time(number),
        etag: etag(&format!("r{number}")),
        operation: Operation { guid: Uuid::from_u128(number.into()), began_at: time(number) },
        storage_root_key: number.is_multiple_of(2).then(|| [number as u8; 314].into()),
        payload: number.is_multiple_of(3).then(|| JsonText(format!(r#"{{"n":{number}}}"#).into())),
        strays_until: number.is_multiple_of(5).then(|| time(number + 65 * 60)),
        state: State::Assigned { assignment: assignment(id), substatus: Substatus::InitialAssignment },
    }
}

/// What waits for this webhook host, and is due at `time(number)`.
pub(crate) fn waiting(credential: HubCredential, webhook_host: &str, number: u32) -> Waiting {
    Waiting {
        credential,
        certificate: None,
        payload: Some(JsonText(format!(r#"{{"sent":{number}}}"#).into())),
        predates_reprovisioning: false,
        webhook_host: webhook_host.into(),
        tries: 0,
        due_at: time(number),
    }
}

/// What is to bring the device to `Hub.Localhost` and asks this peer, and is due at `time(number)`.
pub(crate) fn placing(id: &str, peer: &str, number: u32) -> Placing {
    Placing {
        target: assignment(id),
        takes_along: false,
        iot_edge: false,
        initial_twin: Some(twin(number)),
        peer: peer.into(),
        since: time(number),
        unanswered_at: None,
        tries: 0,
        due_at: time(number),
    }
}

/// Has the device gone from this hub; due at `time(number)`. The record is `Device-1`.
pub(crate) fn clean_up(id: &str, at: &str, number: u32) -> CleanUp {
    CleanUp {
        id_scope: scope(),
        hub: hub(at),
        device_id: device_id(id),
        guid: Uuid::from_u128(number.into()),
        registration_id: device("Device-1"),
        ordered_at: time(number),
        confirm_at: None,
        tries: 0,
        due_at: time(number),
        problem: None,
    }
}

/// A first write of a record that needs no entry.
pub(crate) fn first(registration: Registration) -> RegistrationWrite {
    RegistrationWrite {
        registration,
        replaces: None,
        under_claim: None,
        decided_on: None,
        hub_writes: Vec::new(),
    }
}

/// A write of a record over the one with the etag `r{replaces}`, which needs no entry.
pub(crate) fn over(replaces: u32, registration: Registration) -> RegistrationWrite {
    RegistrationWrite { replaces: Some(etag(&format!("r{replaces}"))), ..first(registration) }
}

/// A device at `hub.localhost` with the keys `keys(number)`.
pub(crate) fn hub_device(id: &str, number: u32) -> HubDevice {
    HubDevice {
        id_scope: scope(),
        hub: hub("Hub.Localhost"),
        device_id: device_id(id),
        registration_id: device("Device-1"),
        authentication: HubAuthentication::Keys(keys(number as u8)),
        iot_edge: false,
        initial_twin: None,
    }
}

/// The write that makes these devices along with the record of `r{number}`.
pub(crate) fn with_devices(mut write: RegistrationWrite, devices: Vec<HubDevice>) -> RegistrationWrite {
    write.hub_writes = devices.into_iter().map(|device| HubWrite::PutDevice(Box::new(device))).collect();
    write
}

pub(crate) async fn put(store: &dyn Store, enrollment: IndividualEnrollment) {
    store.put_individual_enrollment(&scope(), enrollment, Condition::Always.into()).await.unwrap();
}

pub(crate) async fn put_group(store: &dyn Store, group: EnrollmentGroup) {
    store.put_enrollment_group(&scope(), group, Condition::Always.into()).await.unwrap();
}

#[track_caller]
pub(crate) fn committed(commit: Result<Commit, dps_core::ports::StoreError>) {
    assert_eq!(commit.unwrap(), Commit::Done);
}

#[track_caller]
pub(crate) fn outdated(commit: Result<Commit, dps_core::ports::StoreError>) {
    assert_eq!(commit.unwrap(), Commit::Outdated);
}

/// The name of an outcome, for tables.
pub(crate) fn outcome(written: &Result<(), WriteError>) -> &'static str {
    match written {
        Ok(()) => "written",
        Err(WriteError::Exists) => "exists",
        Err(WriteError::Missing) => "missing",
        Err(WriteError::Changed) => "changed",
        Err(
            WriteError::TooManyOpenGroups(_)
            | WriteError::TooManyPrefixedGroups(_)
            | WriteError::TooManyGroupsOfOneSubject(_)
            | WriteError::TooManyCaCertificates(_)
            | WriteError::TooManyInstances(_),
        ) => "too many",
        Err(WriteError::NoSuchCaCertificate(_)) => "no such CA",
        Err(WriteError::CaCertificateInUse(_)) => "in use",
        Err(WriteError::ServiceHostTaken(..)) => "host taken",
        Err(WriteError::InstanceBeingDeleted(_)) => "being deleted",
        Err(WriteError::Store(error)) => panic!("{error}"),
    }
}

/// Every condition, what a put comes to where nothing is stored, and where `e1` or `r1` is; a deletion where it is.
pub(crate) fn conditions(stored: &str) -> [(Condition, &'static str, &'static str, &'static str); 4] {
    [
        (Condition::Always, "written", "written", "written"),
        (Condition::IfAbsent, "written", "exists", "exists"),
        (Condition::IfMatches(etag(stored)), "missing", "written", "written"),
        (Condition::IfMatches(etag("another")), "missing", "changed", "changed"),
    ]
}

/// Everything in an enrollment, spellings and keys included.
pub(crate) fn shown_enrollment(enrollment: &IndividualEnrollment) -> String {
    let keys = match &enrollment.attestation {
        Attestation::SymmetricKey(keys) => shown_keys(keys),
        Attestation::ClientCertificates(_) | Attestation::Signers(_) | Attestation::Tpm { .. } => {
            String::new()
        }
    };
    format!("{enrollment:?} {keys} {}", shown_webhook(&enrollment.settings))
}

/// Everything in a group, spellings and keys included.
pub(crate) fn shown_group(group: &EnrollmentGroup) -> String {
    let keys = match &group.attestation {
        GroupAttestation::SymmetricKey(keys) => shown_keys(keys),
        GroupAttestation::Signers(_) => String::new(),
    };
    format!("{group:?} {keys} {}", shown_webhook(&group.settings))
}

/// Everything in a hub's device, spellings and keys included; the ID scope's spelling is the caller's.
pub(crate) fn shown_device(stored: &StoredHubDevice) -> String {
    let keys = match &stored.device.authentication {
        HubAuthentication::Keys(keys) => shown_keys(keys),
        HubAuthentication::SelfSigned { .. } => String::new(),
    };
    format!("{stored:?} {keys}")
}

fn shown_webhook(settings: &EntrySettings) -> &str {
    settings.custom_allocation.as_ref().map_or("", |custom| custom.webhook_url.expose())
}

fn shown_keys(keys: &KeyPair) -> String {
    format!("{:?} {:?}", keys.primary.expose(), keys.secondary.expose())
}
