//! Enrollments and groups in the service API's JSON shapes. Spec: DPS-DEV-9, DPS-SERVICE-9 to DPS-SERVICE-12.

mod read;
mod vocabulary;
mod write;
mod x509;

use dps_core::enrollment::{
    Attestation, EnrollmentGroup, EntryRef, EntrySettings, GroupAttestation, IndividualEnrollment,
};
use dps_proto::key::KeyPair;

pub use read::read;
pub use vocabulary::{UnknownMember, unknown_members};
pub use write::{attestation, entry};
pub use x509::info;

pub use crate::json_members::BadMember;

/// An entry of either kind.
#[derive(Debug, Clone)]
pub enum EnrollmentEntry {
    /// It has a `registrationId`.
    Individual(IndividualEnrollment),
    /// It has an `enrollmentGroupId`.
    Group(EnrollmentGroup),
}

impl EnrollmentEntry {
    /// Its name.
    pub fn name(&self) -> EntryRef {
        match self {
            Self::Individual(enrollment) => EntryRef::Individual(enrollment.registration_id.clone()),
            Self::Group(group) => EntryRef::Group(group.id.clone()),
        }
    }

    /// What both kinds have.
    pub fn settings(&self) -> &EntrySettings {
        match self {
            Self::Individual(enrollment) => &enrollment.settings,
            Self::Group(group) => &group.settings,
        }
    }

    /// What both kinds have, to be changed.
    pub fn settings_mut(&mut self) -> &mut EntrySettings {
        match self {
            Self::Individual(enrollment) => &mut enrollment.settings,
            Self::Group(group) => &mut group.settings,
        }
    }

    /// Its symmetric keys, where it has any.
    pub fn keys(&self) -> Option<&KeyPair> {
        match self {
            Self::Individual(enrollment) => match &enrollment.attestation {
                Attestation::SymmetricKey(keys) => Some(keys),
                Attestation::ClientCertificates(_) | Attestation::Signers(_) | Attestation::Tpm { .. } => {
                    None
                }
            },
            Self::Group(group) => match &group.attestation {
                GroupAttestation::SymmetricKey(keys) => Some(keys),
                GroupAttestation::Signers(_) => None,
            },
        }
    }
}

/// Whether keys may stand in what is written. Spec: DPS-SERVICE-10.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// They do.
    Shown,
    /// They do not.
    Hidden,
}
