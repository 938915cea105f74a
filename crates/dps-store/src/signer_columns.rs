//! The columns of certificates and of references to CA certificates, which individual enrollments and groups have in common, as stores
//! of tables keep them.

use std::sync::Arc;

use dps_core::ca_certificate::CaName;
use dps_core::enrollment::{Attestation, CaReferences, CertificatePair, Signers};
use dps_core::x509::{BadCertificate, Certificate};

/// The word for client certificates, as an entry that was converted has it too.
pub(crate) const CLIENT_CERTIFICATES: &str = "client_certificates";

/// Certificates and references as they are written; all NULL for an entry that has none.
#[derive(Default)]
pub(crate) struct SignerColumns<'entry> {
    pub(crate) primary_certificate: Option<&'entry [u8]>,
    pub(crate) secondary_certificate: Option<&'entry [u8]>,
    pub(crate) primary_ca: Option<&'entry CaName>,
    pub(crate) secondary_ca: Option<&'entry CaName>,
}

impl<'entry> SignerColumns<'entry> {
    pub(crate) fn of_pair(pair: &'entry CertificatePair) -> Self {
        Self {
            primary_certificate: Some(pair.primary.der()),
            secondary_certificate: pair.secondary.as_ref().map(|certificate| certificate.der()),
            ..Self::default()
        }
    }

    /// The word for the kind, and its columns.
    pub(crate) fn of(signers: &'entry Signers) -> (&'static str, Self) {
        match signers {
            Signers::Certificates(pair) => ("signing_certificates", Self::of_pair(pair)),
            Signers::CaReferences(names) => {
                let columns = Self {
                    primary_ca: Some(&names.primary),
                    secondary_ca: names.secondary.as_ref(),
                    ..Self::default()
                };
                ("ca_references", columns)
            }
        }
    }
}

/// How DER becomes a certificate.
pub(crate) type Parse = fn(&[u8]) -> Result<Arc<Certificate>, BadCertificate>;

/// What stands in the four columns.
pub(crate) struct Read {
    pub(crate) pair: Option<CertificatePair>,
    pub(crate) references: Option<CaReferences>,
}

impl Read {
    /// An individual enrollment's attestation by certificates, of the kind that a word names.
    pub(crate) fn into_attestation(self, word: &str) -> Option<Attestation> {
        match self {
            Self { pair: Some(pair), references: None } if word == CLIENT_CERTIFICATES => {
                Some(Attestation::ClientCertificates(pair))
            }
            other => other.signers(word).map(Attestation::Signers),
        }
    }

    /// Signers of the kind that a word names; `None` where the columns do not bear it out.
    pub(crate) fn signers(self, word: &str) -> Option<Signers> {
        match (word, self.pair, self.references) {
            ("signing_certificates", Some(pair), None) => Some(Signers::Certificates(pair)),
            ("ca_references", None, Some(references)) => Some(Signers::CaReferences(references)),
            _ => None,
        }
    }
}
