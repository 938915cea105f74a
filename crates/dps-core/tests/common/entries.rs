//! Enrollments and claims for tests. An entry's keys follow from its name.

use std::sync::Arc;

use dps_core::attestation::{Credential, DeviceClaim};
use dps_core::enrollment::{
    Attestation, CaReferences, CertificatePair, EnrollmentGroup, EntryRef, EntrySettings, GroupAttestation,
    IndividualEnrollment, ProvisioningStatus, ReprovisionPolicy, Signers,
};
use dps_core::ports::SearchTurn;
use dps_core::x509::Certificate;
use dps_proto::ids::ETag;
use dps_proto::key::{KeyPair, SymmetricKey};
use dps_proto::sas::{SasToken, sign_device_token};
use jiff::Timestamp;

/// The service instance of all tests.
pub(crate) const SCOPE: &str = "0ne00000000";

/// The two keys of the entry of that name.
pub(crate) fn keys(name: &str) -> KeyPair {
    KeyPair { primary: key(&format!("{name} primary")), secondary: key(&format!("{name} secondary")) }
}

/// A key for each text of at most 64 characters.
pub(crate) fn key(text: &str) -> SymmetricKey {
    SymmetricKey::from_bytes(format!("{text:.<32}").into_bytes()).unwrap()
}

/// An enabled individual enrollment with [`keys`] of its id.
pub(crate) fn individual(id: &str) -> IndividualEnrollment {
    individual_by(id, Attestation::SymmetricKey(keys(id)))
}

pub(crate) fn individual_by(id: &str, attestation: Attestation) -> IndividualEnrollment {
    IndividualEnrollment {
        registration_id: id.parse().unwrap(),
        device_id: None,
        attestation,
        settings: settings(),
    }
}

/// Exactly this certificate.
pub(crate) fn client(certificate: &Arc<Certificate>) -> Attestation {
    Attestation::ClientCertificates(pair(certificate, None))
}

pub(crate) fn pair(primary: &Arc<Certificate>, secondary: Option<&Arc<Certificate>>) -> CertificatePair {
    CertificatePair { primary: Arc::clone(primary), secondary: secondary.map(Arc::clone) }
}

/// An enabled group with this signing certificate.
pub(crate) fn signed_by(id: &str, signer: &Arc<Certificate>) -> EnrollmentGroup {
    by_signers(id, Signers::Certificates(pair(signer, None)))
}

pub(crate) fn by_signers(id: &str, signers: Signers) -> EnrollmentGroup {
    EnrollmentGroup { attestation: GroupAttestation::Signers(signers), ..group(id) }
}

pub(crate) fn ca_references(primary: &str, secondary: Option<&str>) -> Signers {
    let name = |text: &str| text.parse().unwrap();
    Signers::CaReferences(CaReferences { primary: name(primary), secondary: secondary.map(name) })
}

pub(crate) fn tpm() -> Attestation {
    Attestation::Tpm { endorsement_key: vec![1, 2, 3].into() }
}

/// An enabled group without prefix, with [`keys`] of its id.
pub(crate) fn group(id: &str) -> EnrollmentGroup {
    EnrollmentGroup {
        id: id.parse().unwrap(),
        registration_id_prefix: None,
        attestation: GroupAttestation::SymmetricKey(keys(id)),
        settings: settings(),
    }
}

/// A group that only ids with this prefix may come in by.
pub(crate) fn prefixed(id: &str, prefix: &str) -> EnrollmentGroup {
    EnrollmentGroup { registration_id_prefix: Some(prefix.parse().unwrap()), ..group(id) }
}

/// The same group with the keys of another name: an operator may give two groups one key.
pub(crate) fn keyed(group: EnrollmentGroup, name: &str) -> EnrollmentGroup {
    EnrollmentGroup { attestation: GroupAttestation::SymmetricKey(keys(name)), ..group }
}

fn settings() -> EntrySettings {
    EntrySettings {
        provisioning_status: ProvisioningStatus::Enabled,
        allocation_policy: None,
        custom_allocation: None,
        hubs: Vec::new(),
        initial_twin: None,
        iot_edge: false,
        reprovision_policy: None,
        other_members: None,
        etag: ETag::generate([0; 16], 0),
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

/// What may be said of either kind of entry.
pub(crate) trait AnyEntry: Sized {
    fn settings(&mut self) -> &mut EntrySettings;

    fn disabled(mut self) -> Self {
        self.settings().provisioning_status = ProvisioningStatus::Disabled;
        self
    }

    fn at_hubs(mut self, hubs: &[&str]) -> Self {
        self.settings().hubs = hubs.iter().map(|name| name.parse().unwrap()).collect();
        self
    }

    fn reprovisioned(mut self, policy: ReprovisionPolicy) -> Self {
        self.settings().reprovision_policy = Some(policy);
        self
    }

    fn created_at(mut self, seconds: i64) -> Self {
        self.settings().created_at = Timestamp::from_second(seconds).unwrap();
        self
    }
}

impl AnyEntry for IndividualEnrollment {
    fn settings(&mut self) -> &mut EntrySettings {
        &mut self.settings
    }
}

impl AnyEntry for EnrollmentGroup {
    fn settings(&mut self) -> &mut EntrySettings {
        &mut self.settings
    }
}

pub(crate) fn individual_ref(id: &str) -> EntryRef {
    EntryRef::Individual(id.parse().unwrap())
}

pub(crate) fn group_ref(id: &str) -> EntryRef {
    EntryRef::Group(id.parse().unwrap())
}

/// A device with a token that it signed with `key`.
pub(crate) fn signed(id: &str, key: &SymmetricKey, expires_at: Timestamp) -> DeviceClaim {
    let token = sign_device_token(&SCOPE.parse().unwrap(), &id.parse().unwrap(), key, expires_at);
    with_password(id, &token)
}

/// A device with this text as its password.
pub(crate) fn with_password(id: &str, password: &str) -> DeviceClaim {
    DeviceClaim {
        id_scope: SCOPE.parse().unwrap(),
        registration_id: id.parse().unwrap(),
        credential: Credential {
            password: Some(SasToken::parse(password.as_bytes())),
            ..Credential::default()
        },
        search_turn: SearchTurn::InOrder,
        predates_reprovisioning: false,
        address: None,
    }
}
