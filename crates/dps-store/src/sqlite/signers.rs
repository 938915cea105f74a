//! The columns of certificates and of references to CA certificates, which individual enrollments and groups have in common.

use std::sync::Arc;

use dps_core::ca_certificate::CaName;
use dps_core::enrollment::{Attestation, CaReferences, CertificatePair, Signers};
use dps_core::ports::WriteError;
use dps_core::x509::{BadCertificate, Certificate, Sha256Thumbprint};
use rusqlite::{Connection, OptionalExtension as _};

use super::columns::Columns;
use super::fault::Fault;

/// The word for client certificates, as an entry that was converted has it too.
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

    /// Whether the CA certificates that are referred to are there. Spec: DPS-X509-25.
    pub(super) fn check(
        &self,
        connection: &Connection,
        scope: &str,
    ) -> Result<Result<(), WriteError>, Fault> {
        let select = "SELECT 1 FROM ca_certificate WHERE id_scope = ?1 AND name = ?2";
        for name in [self.primary_ca, self.secondary_ca].into_iter().flatten() {
            let mut statement = connection.prepare_cached(select)?;
            let found: Option<i64> =
                statement.query_row([scope, name.folded()], |row| row.get(0)).optional()?;
            if found.is_none() {
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
    let der: Option<Vec<u8>> = columns.value()?;
    der.map(|der| parse(&der).map_err(|why| columns.unreadable(why))).transpose()
}

/// A thumbprint, if there is one.
pub(super) fn thumbprint(columns: &mut Columns<'_>) -> Result<Option<Sha256Thumbprint>, Fault> {
    let bytes: Option<[u8; 32]> = columns.value()?;
    Ok(bytes.map(Sha256Thumbprint::from_bytes))
}
