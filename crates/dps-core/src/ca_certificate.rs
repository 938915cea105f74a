//! CA certificates of a service instance: uploaded, and verified by proof of possession. Spec: DPS-X509-9, DPS-X509-23, DPS-X509-24.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use dps_proto::ids::ETag;
use jiff::Timestamp;

use crate::moment::Moment;
use crate::x509::{Certificate, SignatureFault};

/// Most CA certificates of one instance. Spec: DPS-X509-23.
pub const CA_CERTIFICATES_MAX: usize = 100;

/// The name of a CA certificate: 1 to 64 letters, digits, `-`, `.`, `_`, compared ignoring ASCII case. Spec: DPS-X509-23.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaName {
    folded: Box<str>,
    spelling: Box<str>,
}

/// A text that is no name of a CA certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the name of a CA certificate is 1 to 64 letters, digits, '-', '.', '_'")]
pub struct BadCaName;

impl CaName {
    /// As it was first written.
    pub fn as_str(&self) -> &str {
        &self.spelling
    }

    /// In lower case, to look it up by.
    pub fn folded(&self) -> &str {
        &self.folded
    }

    /// Whether both name the same certificate.
    pub fn is(&self, other: &Self) -> bool {
        self.folded == other.folded
    }
}

impl FromStr for CaName {
    type Err = BadCaName;

    fn from_str(text: &str) -> Result<Self, BadCaName> {
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if text.is_empty() || text.len() > 64 || !text.bytes().all(is_fit) {
            return Err(BadCaName);
        }
        Ok(Self { folded: text.to_ascii_lowercase().into(), spelling: text.into() })
    }
}

impl fmt::Display for CaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spelling)
    }
}

/// One CA certificate of an instance.
#[derive(Debug, Clone)]
pub struct CaCertificate {
    /// Names it.
    pub name: CaName,
    /// It.
    pub certificate: Arc<Certificate>,
    /// Whether it admits anybody.
    pub possession: Possession,
    /// Version; a new one at each write.
    pub etag: ETag,
    /// First upload.
    pub created_at: Timestamp,
    /// Last write.
    pub updated_at: Timestamp,
}

/// Whether somebody has shown to have the key of a CA certificate. Spec: DPS-X509-24.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Possession {
    /// Shown, or said at the upload.
    Verified,
    /// Not yet.
    Unverified {
        /// What a proof has to have as its common name, once it was asked for.
        code: Option<VerificationCode>,
    },
}

/// What a proof of possession has to have as its common name: 48 upper-case hexadecimal digits, random.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerificationCode(Box<str>);

/// Why a certificate proves no possession.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoProof {
    /// Nobody asked for a code, or the proof was given already.
    #[error(
        "no verification code was given out for this CA certificate since it was uploaded or verified: ask for one first"
    )]
    NoCode,
    /// Its common name is something else.
    #[error("its common name is not the verification code that was given out last")]
    OtherCode,
    /// The CA's key did not sign it.
    #[error("{0}")]
    Signature(SignatureFault),
}

impl VerificationCode {
    /// From fresh random bytes.
    pub fn generate(random: [u8; 24]) -> Self {
        Self(random.iter().map(|byte| format!("{byte:02X}")).collect())
    }

    /// One that was kept.
    pub fn kept(text: &str) -> Self {
        Self(text.into())
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl CaCertificate {
    /// A new one.
    pub fn uploaded(name: CaName, certificate: Arc<Certificate>, is_verified: bool, moment: Moment) -> Self {
        let possession =
            if is_verified { Possession::Verified } else { Possession::Unverified { code: None } };
        let (etag, created_at) = (moment.etag(), moment.now);
        Self { name, certificate, possession, etag, created_at, updated_at: created_at }
    }

    /// The same, unverified, to be proved by `code` from here on.
    pub fn awaiting(&self, code: VerificationCode, moment: Moment) -> Self {
        self.with(Possession::Unverified { code: Some(code) }, moment)
    }

    /// The same, verified, where `proof` proves it. Spec: DPS-X509-24.
    pub fn verified_by(&self, proof: &Certificate, moment: Moment) -> Result<Self, NoProof> {
        self.check_proof(proof)?;
        Ok(self.with(Possession::Verified, moment))
    }

    fn with(&self, possession: Possession, moment: Moment) -> Self {
        Self { possession, etag: moment.etag(), updated_at: self.updated_at.max(moment.now), ..self.clone() }
    }

    /// Whether it was verified.
    pub fn is_verified(&self) -> bool {
        self.possession == Possession::Verified
    }

    /// Whether `proof` was signed with this CA's key over the code that was given out last. Spec: DPS-X509-24.
    pub fn check_proof(&self, proof: &Certificate) -> Result<(), NoProof> {
        let Possession::Unverified { code: Some(code) } = &self.possession else {
            return Err(NoProof::NoCode);
        };
        if !proof.common_name().is_ok_and(|name| name.eq_ignore_ascii_case(code.as_str())) {
            return Err(NoProof::OtherCode);
        }
        proof.verify_signature(&self.certificate).map_err(NoProof::Signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-X509-23
    #[test]
    fn names_are_compared_ignoring_case_and_keep_their_spelling() {
        let name: CaName = "Plant-CA_1.b".parse().unwrap();
        assert_eq!((name.as_str(), name.folded()), ("Plant-CA_1.b", "plant-ca_1.b"));
        assert!(name.is(&"plant-ca_1.B".parse().unwrap()));
        for bad in ["", "a b", "a/b", &"a".repeat(65), "é"] {
            assert_eq!(bad.parse::<CaName>(), Err(BadCaName), "{bad}");
        }
    }
}
