//! Where a chain breaks, and by which rule. Spec: DPS-X509-21.

use std::fmt;

use jiff::Timestamp;

use super::certificate::Certificate;
use super::chain::PresentedChain;
use super::name::BadCommonName;
use super::signature::SignatureFault;
use super::thumbprint::{Sha1Thumbprint, Sha256Thumbprint};
use super::walk::DEPTH_MAX;

/// A chain that admits nobody: what was received, how far the path led, and where it broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenChain {
    /// Every certificate that the device sent, its own first.
    pub received: Vec<ShownCertificate>,
    /// The path that led farthest, from the device's certificate up.
    pub path: Vec<Step>,
    /// The certificate that failed.
    pub which: Which,
    /// The rule that it failed by.
    pub fault: ChainFault,
}

impl BrokenChain {
    pub(super) fn new(chain: &PresentedChain, path: Vec<Step>, which: Which, fault: ChainFault) -> Box<Self> {
        Box::new(Self { received: shown(chain), path, which, fault })
    }

    /// That the device's own certificate failed.
    pub fn at_leaf(chain: &PresentedChain, fault: ChainFault) -> Box<Self> {
        let which = Which { place: Place::Presented(0), subject: chain.leaf().subject_text() };
        Self::new(chain, Vec::new(), which, fault)
    }
}

/// The certificates of a chain, to be shown.
pub fn shown(chain: &PresentedChain) -> Vec<ShownCertificate> {
    chain.certificates().iter().map(ShownCertificate::from).collect()
}

impl fmt::Display for BrokenChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { which, fault, received, .. } = self;
        match (&which.place, received.len()) {
            (Place::Presented(at), count) if count > 1 => {
                write!(f, "certificate {} of {count}, {}: {fault}", at + 1, which.subject_or_none())
            }
            _ => write!(f, "{which}: {fault}"),
        }
    }
}

/// One certificate of a path, from the device's up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub which: Which,
    /// It.
    pub certificate: ShownCertificate,
}

/// A certificate, by where it came from and its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Which {
    /// Where it came from.
    pub place: Place,
    /// Its subject, as it is shown.
    pub subject: String,
}

impl Which {
    fn subject_or_none(&self) -> &str {
        if self.subject.is_empty() { "of an empty subject" } else { &self.subject }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = self.subject_or_none();
        match &self.place {
            Place::Presented(0) => write!(f, "the device's certificate, {subject}"),
            Place::Presented(at) => write!(f, "certificate {} of the chain, {subject}", at + 1),
            Place::Uploaded(name) => write!(f, "the CA certificate {name}, {subject}"),
            Place::Enrolled(entry) => write!(f, "the signing certificate of {entry}, {subject}"),
        }
    }
}

/// Where a certificate came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The device sent it, so many behind its own.
    Presented(usize),
    /// It is a CA certificate of the instance, of this name.
    Uploaded(String),
    /// It is enrolled in this entry.
    Enrolled(String),
}

/// What people know a certificate by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownCertificate {
    /// Its subject.
    pub subject: String,
    /// Its issuer.
    pub issuer: String,
    /// SHA-1 of it.
    pub sha1_thumbprint: Sha1Thumbprint,
    /// SHA-256 of it.
    pub sha256_thumbprint: Sha256Thumbprint,
    /// The first second at which it is valid.
    pub not_before: Timestamp,
    /// The last one.
    pub not_after: Timestamp,
}

impl From<&Certificate> for ShownCertificate {
    fn from(certificate: &Certificate) -> Self {
        Self {
            subject: certificate.subject_text(),
            issuer: certificate.issuer_text(),
            sha1_thumbprint: certificate.sha1_thumbprint(),
            sha256_thumbprint: certificate.thumbprint(),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
        }
    }
}

/// The rule that a certificate of a chain fails by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// The subject gives no registration id. Spec: DPS-X509-3.
    #[error("{0}")]
    CommonName(#[from] BadCommonName),
    /// It is another device's. Spec: DPS-X509-3.
    #[error("its common name {common_name:?} is not the registration id {registration_id:?}")]
    OtherRegistrationId {
        /// That of the certificate.
        common_name: String,
        /// That of the user name.
        registration_id: String,
    },
    /// Too late. Spec: DPS-X509-14.
    #[error("it expired at {not_after:.0}; it was judged at {judged_at:.0}")]
    Expired {
        /// Its last second.
        not_after: Timestamp,
        /// The service's clock, or on a poll the time when the operation began.
        judged_at: Timestamp,
    },
    /// Too early. Spec: DPS-X509-14.
    #[error("it is not valid before {not_before:.0}; it was judged at {judged_at:.0}")]
    NotYetValid {
        /// Its first second.
        not_before: Timestamp,
        /// The service's clock, or on a poll the time when the operation began.
        judged_at: Timestamp,
    },
    /// Spec: DPS-X509-15.
    #[error("it is of X.509 version {0}, which is not accepted at this place of a chain")]
    Version(u32),
    /// Spec: DPS-X509-16.
    #[error("its critical extension {0} is not understood")]
    CriticalExtension(Box<str>),
    /// Spec: DPS-X509-16.
    #[error("it has name constraints, which are not evaluated")]
    NameConstraints,
    /// Spec: DPS-X509-17.
    #[error("its extended key usage does not include clientAuth")]
    NotForClients,
    /// Spec: DPS-X509-18.
    #[error("it is a CA certificate, and a device's own is not to be one")]
    CaLeaf,
    /// Spec: DPS-X509-13.
    #[error("it signed a certificate and is no CA certificate ({})", if *.is_said { "basicConstraints says so" } else { "it has no basicConstraints" })]
    NotACa {
        /// Whether it has basicConstraints.
        is_said: bool,
    },
    /// Spec: DPS-X509-13.
    #[error("it signed a certificate, which its key usage does not allow (no keyCertSign)")]
    MayNotSign,
    /// Spec: DPS-X509-13.
    #[error("its pathLenConstraint allows {allowed} CA certificates below it, and there are {below}")]
    PathLength {
        /// By its basicConstraints.
        allowed: u32,
        /// On this path.
        below: u32,
    },
    /// Spec: DPS-X509-19.
    #[error("{why} ({issuer})")]
    Signature {
        /// The issuer by its name.
        issuer: Box<Which>,
        /// What is wrong.
        why: SignatureFault,
    },
    /// Nothing has the issuer's name. Spec: DPS-X509-7.
    #[error("its issuer {issuer} is neither sent along nor uploaded nor enrolled")]
    NoIssuer {
        /// The name.
        issuer: String,
    },
    /// The path ends in a certificate that nobody enrolled. Spec: DPS-X509-7.
    #[error("it is self-signed, and no entry has it")]
    NotEnrolled,
    /// Spec: DPS-X509-20.
    #[error(
        "no signing certificate of an entry was reached within {DEPTH_MAX} certificates above the device's"
    )]
    TooDeep,
    /// Spec: DPS-X509-20.
    #[error("the path was given up after {0} signatures")]
    TooManySignatures(u32),
}

impl ChainFault {
    /// A word for programs; never changes.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::CommonName(_) => "common-name",
            Self::OtherRegistrationId { .. } => "registration-id",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not-yet-valid",
            Self::Version(_) => "version",
            Self::CriticalExtension(_) => "critical-extension",
            Self::NameConstraints => "name-constraints",
            Self::NotForClients => "extended-key-usage",
            Self::CaLeaf => "ca-leaf",
            Self::NotACa { .. } => "not-a-ca",
            Self::MayNotSign => "key-usage",
            Self::PathLength { .. } => "path-length",
            Self::Signature { why: SignatureFault::Wrong, .. } => "signature",
            Self::Signature { .. } => "signature-algorithm",
            Self::NoIssuer { .. } => "no-issuer",
            Self::NotEnrolled => "not-enrolled",
            Self::TooDeep => "too-deep",
            Self::TooManySignatures(_) => "too-many-signatures",
        }
    }

    /// How much it says: of two paths that lead equally far the one that says more is told.
    pub(super) fn weight(&self) -> u8 {
        match self {
            Self::NoIssuer { .. } | Self::NotEnrolled => 0,
            Self::Signature { why: SignatureFault::Wrong, .. } => 1,
            Self::TooManySignatures(_) => 3,
            _ => 2,
        }
    }
}
