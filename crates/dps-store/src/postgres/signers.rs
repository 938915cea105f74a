//! The columns of certificates and of references to CA certificates, which individual enrollments and groups have in common.

use std::sync::Arc;

use deadpool_postgres::Transaction;
use dps_core::ca_certificate::CaName;
use dps_core::enrollment::{Attestation, CaReferences, CertificatePair, Signers};
use dps_core::ports::WriteError;
use dps_core::x509::{BadCertificate, Certificate, Sha256Thumbprint};

use super::columns::Columns;
use super::fault::Fault;
use super::table::Value;
use super::transaction::query_opt;

/// The word for client certificates.
pub(super) const CLIENT_CERTIFICATES: &str = "client_certificates";

/// Certificates and references as they are written; all NULL for an entry that has none.
#[derive(Default)]
pub(super) struct SignerColumns<'entry> {
    pub(super) primary_certificate: Option<&'entry [u8]>,
    pub(super) secondary_certificate: Option<&'entry [u8]>,
    pub(super) primary_ca: Option<&'entry CaName>,
    pub(super) secondary_ca: Option<&'entry CaName>,
}

impl<'entry> SignerColumns<'entry> {
    pub(super) fn of_pair(pair: &'entry CertificatePair) -> Self {
        Self {
            primary_certificate: Some(pair.primary.der()),
            secondary_certificate: pair.secondary.as_ref().map(|certificate| certificate.der()),
            ..Self::default()
        }
    }

    /// The word for the kind, and its columns.
    pub(super) fn of(signers: &'entry Signers) -> (&'static str, Self) {
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

    /// As they stand in a row: the certificates, then the references, each folded and as it was spelled.
    pub(super) fn values(&self) -> Vec<Value<'entry>> {
        vec![
            self.primary_certificate.into(),
            self.secondary_certificate.into(),
            self.primary_ca.map(CaName::folded).into(),
            self.primary_ca.map(CaName::as_str).into(),
            self.secondary_ca.map(CaName::folded).into(),
            self.secondary_ca.map(CaName::as_str).into(),
        ]
    }

    /// Whether the CA certificates that are referred to are there; they stay until the transaction has ended. Spec: DPS-X509-25.
    pub(super) async fn check(
        &self,
        transaction: &Transaction<'_>,
        scope: &str,
    ) -> Result<Result<(), WriteError>, Fault> {
        let select = "SELECT 1 FROM ca_certificate WHERE id_scope = $1 AND name = $2 FOR SHARE";
        let mut names: Vec<_> = [self.primary_ca, self.secondary_ca].into_iter().flatten().collect();
        names.sort_by_key(|name| name.folded());
        for name in names {
            if query_opt(transaction, select, &[&scope, &name.folded()]).await?.is_none() {
                return Ok(Err(WriteError::NoSuchCaCertificate(name.clone())));
            }
        }
        Ok(Ok(()))
    }
}

/// How DER becomes a certificate.
pub(super) type Parse = fn(&[u8]) -> Result<Arc<Certificate>, BadCertificate>;

/// What stands in the four columns.
pub(super) struct Read {
    pub(super) pair: Option<CertificatePair>,
    pub(super) references: Option<CaReferences>,
}

impl Read {
    /// Reads primary_certificate, secondary_certificate, primary_ca_spelling and secondary_ca_spelling, the certificates by
    /// `parse`.
    pub(super) fn next(columns: &mut Columns<'_>, parse: Parse) -> Result<Self, Fault> {
        let primary = certificate(columns, parse)?;
        let secondary = certificate(columns, parse)?;
        let primary_ca: Option<CaName> = columns.optional()?;
        let secondary_ca = columns.optional()?;
        Ok(Self {
            pair: primary.map(|primary| CertificatePair { primary, secondary }),
            references: primary_ca.map(|primary| CaReferences { primary, secondary: secondary_ca }),
        })
    }

    /// An individual enrollment's attestation by certificates, of the kind that a word names.
    pub(super) fn into_attestation(self, word: &str) -> Option<Attestation> {
        match self {
            Self { pair: Some(pair), references: None } if word == CLIENT_CERTIFICATES => {
                Some(Attestation::ClientCertificates(pair))
            }
            other => other.signers(word).map(Attestation::Signers),
        }
    }

    /// Signers of the kind that a word names; `None` where the columns do not bear it out.
    pub(super) fn signers(self, word: &str) -> Option<Signers> {
        match (word, self.pair, self.references) {
            ("signing_certificates", Some(pair), None) => Some(Signers::Certificates(pair)),
            ("ca_references", None, Some(references)) => Some(Signers::CaReferences(references)),
            _ => None,
        }
    }
}

fn certificate(columns: &mut Columns<'_>, parse: Parse) -> Result<Option<Arc<Certificate>>, Fault> {
    let der: Option<&[u8]> = columns.value()?;
    der.map(|der| parse(der).map_err(|why| columns.unreadable(why))).transpose()
}

/// A thumbprint, if there is one.
pub(super) fn thumbprint(columns: &mut Columns<'_>) -> Result<Option<Sha256Thumbprint>, Fault> {
    let bytes: Option<&[u8]> = columns.value()?;
    let thumbprint = bytes.map(|bytes| bytes.try_into().map(Sha256Thumbprint::from_bytes));
    thumbprint.transpose().map_err(|_| columns.unreadable("it has not 32 bytes"))
}
