//! The columns of certificates and of references to CA certificates, which individual enrollments and groups have in common.

use std::sync::Arc;

use dps_core::ca_certificate::CaName;
use dps_core::enrollment::{CaReferences, CertificatePair};
use dps_core::ports::WriteError;
use dps_core::x509::{Certificate, Sha256Thumbprint};
use rusqlite::{Connection, OptionalExtension as _};

use super::columns::Columns;
use super::fault::Fault;
use crate::signer_columns::{Parse, Read, SignerColumns};

/// Whether the CA certificates that are referred to are there. Spec: DPS-X509-25.
pub(super) fn check(
    signers: &SignerColumns<'_>,
    connection: &Connection,
    scope: &str,
) -> Result<Result<(), WriteError>, Fault> {
    let select = "SELECT 1 FROM ca_certificate WHERE id_scope = ?1 AND name = ?2";
    for name in [signers.primary_ca, signers.secondary_ca].into_iter().flatten() {
        let mut statement = connection.prepare_cached(select)?;
        let found: Option<i64> = statement.query_row([scope, name.folded()], |row| row.get(0)).optional()?;
        if found.is_none() {
            return Ok(Err(WriteError::NoSuchCaCertificate(name.clone())));
        }
    }
    Ok(Ok(()))
}

/// Reads primary_certificate, secondary_certificate, primary_ca_spelling and secondary_ca_spelling, the certificates by
/// `parse`.
pub(super) fn read(columns: &mut Columns<'_>, parse: Parse) -> Result<Read, Fault> {
    let primary = certificate(columns, parse)?;
    let secondary = certificate(columns, parse)?;
    let primary_ca: Option<CaName> = columns.optional()?;
    let secondary_ca = columns.optional()?;
    Ok(Read {
        pair: primary.map(|primary| CertificatePair { primary, secondary }),
        references: primary_ca.map(|primary| CaReferences { primary, secondary: secondary_ca }),
    })
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
