//! Why a device is refused. Spec: DPS-REG-1 to DPS-REG-8, DPS-BODY-10, DPS-X509-21.
//!
//! Refusals know nothing of codes: a front end turns them into what its devices know. They hold what a person needs to
//! find the cause, and never a key, a token or a signature.

use std::fmt;

use dps_proto::ids::{EnrollmentGroupId, IdScope, RegistrationId};
use dps_proto::sas::{MalformedToken, SKEW};
use jiff::Timestamp;

use crate::ca_certificate::CaName;
use crate::enrollment::EntryRef;
use crate::ports::StoreError;
use crate::tpm::{BadTpmKey, WINDOW_SECONDS};
use crate::x509::{BadChain, BrokenChain, ShownCertificate};

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No service instance has this ID scope.
    #[error("no service instance has the ID scope {0}")]
    UnknownIdScope(IdScope),
    /// The credential does not prove the device.
    #[error(transparent)]
    Unproven(#[from] Unproven),
    /// The individual enrollment wants a TPM, and this credential is none. Spec: DPS-REG-7.
    #[error("the individual enrollment wants TPM attestation, which this transport does not carry")]
    TpmWanted,
    /// The device is to show that it has the TPM whose keys it presented. Spec: DPS-TPM-1.
    #[error("the device is challenged to prove its TPM")]
    TpmChallenge(TpmChallenge),
    /// The device has proved its TPM, and nobody has enrolled it. Spec: DPS-TPM-6.
    #[error("the device proved its TPM, and there is no individual enrollment with its registration id")]
    TpmNotEnrolled,
    /// The device comes in by another group than before, and the instance forbids that. Spec: DPS-REG-8.
    #[error(
        "the device's record belongs to enrollment group {from}; {to} may not claim it (claim_across_groups)"
    )]
    ClaimedAcrossGroups {
        /// The group of the record.
        from: EnrollmentGroupId,
        /// The group that admits it now.
        to: EnrollmentGroupId,
    },
    /// The poll names no operation of this device. Spec: DPS-ID-5.
    #[error(transparent)]
    NoSuchOperation(#[from] NoSuchOperation),
    /// The device asks for its record, and there is none. Spec: DPS-HTTPS-6.
    #[error("there is no record of this device: it has not registered, or its record was deleted")]
    NoRecord,
    /// Too many group searches wait. Spec: DPS-REG-4.
    #[error("too many searches for enrollment groups wait already")]
    Busy,
    /// Other writes to the same record kept coming first.
    #[error("the record changed each of the {0} times it was about to be written")]
    Contended(u32),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a device with a TPM is asked: a key that its TPM alone can unwrap, to sign a token with. Spec: DPS-TPM-3.
#[derive(Clone)]
pub struct TpmChallenge {
    /// The wrapped key.
    pub authentication_key: Vec<u8>,
    /// Whether it is the TPM of an enrollment.
    pub is_enrolled: bool,
}

impl fmt::Debug for TpmChallenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TpmChallenge({} bytes)", self.authentication_key.len())
    }
}

/// Why a credential does not prove the device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// No credential was presented.
    #[error("the device presented neither a SAS token nor a certificate")]
    NoCredential,
    /// The password is no SAS token.
    #[error("the password is no SAS token: {0}")]
    Malformed(#[source] MalformedToken),
    /// The token is about something else. Spec: DPS-SAS-3.
    #[error("the token is for sr={received:?}, decoded and ignoring case it should be {expected:?}")]
    OtherResource {
        /// `sr` as received.
        received: String,
        /// What it should decode to.
        expected: String,
    },
    /// The token was no longer valid. Spec: DPS-SAS-6, DPS-REG-6.
    #[error(
        "the token expired at {expired_at:.0}, {} s before {judged_at:.0}, the service's clock (on a poll: when its operation \
         began); {} s are forgiven",
        judged_at.duration_since(*expired_at).as_secs(),
        SKEW.as_secs()
    )]
    Expired {
        /// `se`.
        expired_at: Timestamp,
        /// The service's clock, or on a poll the time when the operation began.
        judged_at: Timestamp,
    },
    /// No key of the entry that counts made the signature.
    #[error("the signature is not that of a key of {0}")]
    WrongKey(EntryRef),
    /// No entry's key made the signature.
    #[error("{0}")]
    NoEntry(EntriesTried),
    /// The token was signed with a group's key instead of the key derived from it. Spec: DPS-SAS-9.
    #[error(
        "the token is signed with the key of enrollment group {0} itself; a device signs with the key derived from it: \
         Base64(HMAC-SHA256(group key, registration id))"
    )]
    GroupKeyUsedDirectly(EnrollmentGroupId),
    /// The individual enrollment wants a certificate. Spec: DPS-REG-1, DPS-X509-4.
    #[error("{0} wants an X.509 certificate, and the device presented none")]
    CertificateWanted(EntryRef),
    /// The individual enrollment wants a SAS token. Spec: DPS-X509-4.
    #[error("{0} wants a SAS token, and the device presented a certificate and no password")]
    TokenWanted(EntryRef),
    /// What the device presented is no chain. Spec: DPS-X509-11.
    #[error("the device's certificates: {0}")]
    BadChain(#[source] BadChain),
    /// A certificate of the chain breaks a rule, or leads nowhere. Spec: DPS-X509-21.
    #[error("{0}")]
    Chain(Box<BrokenChain>),
    /// The individual enrollment has another certificate. Spec: DPS-X509-4.
    #[error("{0}")]
    OtherCertificate(Box<OtherCertificate>),
    /// Another device's individual enrollment has this very certificate. Spec: DPS-X509-6.
    #[error("the device's certificate is that of {0}, whose registration id is another")]
    EnrolledForAnother(EntryRef),
    /// The enrollment wants a TPM, and the request has no `tpm`. Spec: DPS-TPM-1.
    #[error("{0} wants TPM attestation, and the request has no member tpm")]
    TpmKeysWanted(EntryRef),
    /// A key of the TPM is no key that secrets can be wrapped for. Spec: DPS-TPM-2.
    #[error("the TPM's keys: {0}")]
    TpmKeys(#[source] BadTpmKey),
    /// The enrollment has another endorsement key. Spec: DPS-TPM-5.
    #[error("the TPM's endorsement key has the name {presented}, and {entry} has {enrolled}")]
    OtherTpm {
        /// The entry.
        entry: EntryRef,
        /// Name of the device's.
        presented: String,
        /// Name of the enrolled one, or why it has none.
        enrolled: String,
    },
    /// The token is not signed with the key of the challenge. Spec: DPS-TPM-4.
    #[error(
        "the token is not signed with the key of a challenge of the last {} minutes to this device with this storage root key",
        2 * WINDOW_SECONDS / 60
    )]
    NotTheChallenge,
    /// The chain leads to a CA certificate that is not verified. Spec: DPS-X509-9.
    #[error(
        "the chain leads to {entry}, which refers to the CA certificate {name}, and that is not verified"
    )]
    UnverifiedCa {
        /// The entry.
        entry: EntryRef,
        /// The CA certificate.
        name: CaName,
    },
}

impl Unproven {
    /// The chain as it was received, and how far it led, where that is what was wrong. Spec: DPS-X509-21.
    pub fn broken_chain(&self) -> Option<&BrokenChain> {
        match self {
            Self::Chain(broken) => Some(broken),
            _ => None,
        }
    }
}

/// What a device presented instead of what its individual enrollment has. Spec: DPS-X509-4.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the device's certificate ({}, SHA-1 {}) is not the one of {entry}, which has {}",
    .presented.subject, .presented.sha1_thumbprint, in_words(.enrolled)
)]
pub struct OtherCertificate {
    /// The entry.
    pub entry: EntryRef,
    /// The device's own.
    pub presented: ShownCertificate,
    /// Primary, then secondary, if there is one.
    pub enrolled: Vec<ShownCertificate>,
}

fn in_words(certificates: &[ShownCertificate]) -> String {
    let words = certificates
        .iter()
        .map(|certificate| format!("{} (SHA-1 {})", certificate.subject, certificate.sha1_thumbprint));
    words.collect::<Vec<_>>().join(" and ")
}

/// What a token was tried against in vain, for a device that no enabled individual enrollment decides on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntriesTried {
    /// The device's individual enrollment, where there is a disabled one.
    pub disabled: Option<RegistrationId>,
    /// How many groups were tried.
    pub groups: usize,
    /// The first [`EntriesTried::GROUPS_NAMED_MAX`] of them, in the order in which they were tried.
    pub groups_named: Vec<EnrollmentGroupId>,
    /// The spellings of the registration id that each group's key was derived with. Spec: DPS-SAS-7.
    pub spellings: Vec<Box<str>>,
}

impl EntriesTried {
    /// Most groups that are named.
    pub const GROUPS_NAMED_MAX: usize = 8;
}

impl fmt::Display for EntriesTried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.disabled {
            None => f.write_str("there is no individual enrollment with this registration id")?,
            Some(id) => {
                write!(f, "the individual enrollment {id} is disabled and does not prove the device")?
            }
        }
        if self.groups == 0 {
            return f.write_str(
                ", and no enrollment group takes it: none exists whose registrationIdPrefix the id begins with, and none \
                 without a prefix",
            );
        }
        let spellings: Vec<_> = self.spellings.iter().map(|spelling| format!("{spelling:?}")).collect();
        let names: Vec<_> = self.groups_named.iter().map(EnrollmentGroupId::as_str).collect();
        write!(f, ", and the signature is not that of a key derived for {} from ", spellings.join(" or "))?;
        match names.as_slice() {
            [only] if self.groups == 1 => write!(f, "enrollment group {only}, the only one to try"),
            names => {
                let more = if self.groups > names.len() { ", ..." } else { "" };
                write!(f, "any of the {} enrollment groups tried ({}{more})", self.groups, names.join(", "))
            }
        }
    }
}

/// Why a poll finds no operation. Spec: DPS-ID-5, DPS-REG-19.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoSuchOperation {
    /// The text is no operation id.
    #[error("the operation id is not of the form 5.{{16 hex digits}}.{{guid}}")]
    Malformed,
    /// It was not issued to this device by this instance.
    #[error("the operation id was not issued to this device")]
    NotThisDevices,
    /// The device has no record.
    #[error("the device has no record")]
    NoRecord,
}
