//! What a store is asked for, and finds, where devices are judged.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::ca_certificate::{CaCertificate, CaName};
use crate::enrollment::{EnrollmentGroup, IndividualEnrollment};
use crate::registration::Registration;
use crate::x509::{NameKey, Sha256Thumbprint};

/// What is known of a registration id.
#[derive(Debug, Clone, Default)]
pub struct LookUp {
    /// Its individual enrollment.
    pub individual_enrollment: Option<Arc<IndividualEnrollment>>,
    /// Its record.
    pub registration: Option<Registration>,
    /// The group that the record came from, if it came from one that still exists.
    pub registration_group: Option<Arc<EnrollmentGroup>>,
}

/// The groups that a device may belong to. Spec: DPS-REG-2.
#[derive(Debug, Clone)]
pub struct CandidateGroups {
    /// Those whose prefix matches, longest prefix first; at most [`crate::enrollment::PREFIXED_GROUPS_MAX`].
    pub prefixed: Vec<Arc<EnrollmentGroup>>,
    /// Those without a prefix, oldest first; at most [`crate::enrollment::OPEN_GROUPS_MAX`].
    pub open: Arc<[Arc<EnrollmentGroup>]>,
}

/// What is wanted for a chain. Spec: DPS-X509-6, DPS-X509-7.
#[derive(Debug, Clone)]
pub struct ChainWanted {
    /// Individual enrollments that have exactly this client certificate, primary or secondary, are wanted.
    pub leaf: Sha256Thumbprint,
    /// Who issued that.
    pub issuer: NameKey,
    /// Subject and issuer of each certificate that came with it.
    pub sent: Vec<(NameKey, NameKey)>,
}

/// By what groups are found. Spec: DPS-X509-7.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchorsWanted {
    /// Groups that have a signing certificate with one of these subjects are wanted; at most 256.
    pub subjects: BTreeSet<NameKey>,
    /// And groups that refer to one of these CA certificates.
    pub ca_names: Vec<CaName>,
}

impl ChainWanted {
    /// The names of all that may stand above the device's certificate, by name alone: no signature is verified for it.
    pub fn anchors(&self, authorities: &[Arc<CaCertificate>]) -> AnchorsWanted {
        let uploaded = authorities.iter().filter(|ca| ca.is_verified());
        let uploaded = uploaded.map(|ca| (ca.certificate.subject(), ca.certificate.issuer()));
        let known: Vec<_> = self.sent.iter().copied().chain(uploaded).collect();
        let mut subjects = BTreeSet::from([self.issuer]);
        loop {
            let before = subjects.len();
            for (subject, issuer) in &known {
                if subjects.contains(subject) {
                    subjects.insert(*issuer);
                }
            }
            if subjects.len() == before {
                break;
            }
        }
        let named = authorities.iter().filter(|ca| subjects.contains(&ca.certificate.subject()));
        AnchorsWanted { ca_names: named.map(|ca| ca.name.clone()).collect(), subjects }
    }
}

/// What of a [`ChainWanted`] there is, enabled or not.
#[derive(Debug, Clone)]
pub struct ChainEntries {
    /// Holders of the device's certificate, oldest first, then by their folded ids; the first [`Self::HOLDERS_MAX`].
    pub individual_enrollments: Vec<Arc<IndividualEnrollment>>,
    /// Groups of the subjects and CA certificates, each once, oldest first, then by their folded ids. Few: one subject has at most
    /// [`crate::enrollment::GROUPS_OF_ONE_SUBJECT_MAX`], and so has one CA certificate.
    pub groups: Vec<Arc<EnrollmentGroup>>,
    /// All CA certificates of the instance, as [`super::Store::ca_certificates`] gives them.
    pub authorities: Arc<[Arc<CaCertificate>]>,
}

impl ChainEntries {
    /// Most individual enrollments that are looked at for one certificate.
    pub const HOLDERS_MAX: usize = 16;
}
