//! Which entries of an instance a list is to hold. Spec: DPS-SERVICE-23.

use dps_proto::ids::HubName;
use jiff::Timestamp;

use crate::enrollment::{
    AllocationPolicy, Attestation, EnrollmentGroup, EntrySettings, GroupAttestation, IndividualEnrollment,
    ProvisioningStatus,
};

/// Every condition that is there must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryFilter {
    /// What the folded id begins with, or is.
    pub id: Option<IdFilter>,
    /// Whether it admits devices.
    pub provisioning_status: Option<ProvisioningStatus>,
    /// How its devices prove themselves.
    pub attestation: Option<AttestationKind>,
    /// How it chooses a hub.
    pub allocation_policy: Option<PolicyFilter>,
    /// One of the hubs that it names, ignoring case.
    pub hub: Option<HubName>,
    /// When it was created.
    pub created_at: TimeRange,
    /// When it was last written.
    pub updated_at: TimeRange,
}

/// A condition on the folded id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdFilter {
    /// It is this text.
    Is(Box<str>),
    /// It begins with this text.
    BeginsWith(Box<str>),
}

/// The kinds of attestation that the service API names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttestationKind {
    /// Symmetric keys.
    SymmetricKey,
    /// Certificates, however enrolled.
    X509,
    /// A TPM.
    Tpm,
}

/// A condition on the allocation policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyFilter {
    /// The entry's policy.
    pub policy: AllocationPolicy,
    /// Whether an entry without one has it: it is the instance's default.
    pub is_default: bool,
}

/// Times from `from` on and up to `to`, both included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeRange {
    /// The first.
    pub from: Option<Timestamp>,
    /// The last.
    pub to: Option<Timestamp>,
}

impl EntryFilter {
    /// Whether a list holds this individual enrollment.
    pub fn takes_individual(&self, enrollment: &IndividualEnrollment) -> bool {
        let kind = match &enrollment.attestation {
            Attestation::SymmetricKey(_) => AttestationKind::SymmetricKey,
            Attestation::ClientCertificates(_) | Attestation::Signers(_) => AttestationKind::X509,
            Attestation::Tpm { .. } => AttestationKind::Tpm,
        };
        self.takes(enrollment.registration_id.folded(), kind, &enrollment.settings)
    }

    /// Whether a list holds this group.
    pub fn takes_group(&self, group: &EnrollmentGroup) -> bool {
        let kind = match &group.attestation {
            GroupAttestation::SymmetricKey(_) => AttestationKind::SymmetricKey,
            GroupAttestation::Signers(_) => AttestationKind::X509,
        };
        self.takes(group.id.folded(), kind, &group.settings)
    }

    fn takes(&self, id: &str, kind: AttestationKind, settings: &EntrySettings) -> bool {
        let Self { id: wanted, provisioning_status, attestation, allocation_policy, hub, .. } = self;
        let is_wanted = match wanted {
            None => true,
            Some(IdFilter::Is(text)) => **text == *id,
            Some(IdFilter::BeginsWith(text)) => id.starts_with(&**text),
        };
        let has_policy = allocation_policy.is_none_or(|wanted| match settings.allocation_policy {
            Some(policy) => policy == wanted.policy,
            None => wanted.is_default,
        });
        let has_hub = hub.as_ref().is_none_or(|wanted| {
            settings.hubs.iter().any(|hub| hub.as_str().eq_ignore_ascii_case(wanted.as_str()))
        });
        is_wanted
            && provisioning_status.is_none_or(|wanted| wanted == settings.provisioning_status)
            && attestation.is_none_or(|wanted| wanted == kind)
            && has_policy
            && has_hub
            && self.created_at.has(settings.created_at)
            && self.updated_at.has(settings.updated_at)
    }
}

impl TimeRange {
    fn has(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| at >= from) && self.to.is_none_or(|to| at <= to)
    }
}
