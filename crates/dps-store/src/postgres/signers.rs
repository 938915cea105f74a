//! The columns of certificates and of references to CA certificates, which individual enrollments and groups have in common.

use std::sync::Arc;

use deadpool_postgres::Transaction;
use dps_core::ca_certificate::CaName;
use dps_core::enrollment::{CaReferences, CertificatePair};
use dps_core::ports::WriteError;
use dps_core::x509::{Certificate, Sha256Thumbprint};

use super::columns::Columns;
use super::fault::Fault;
use super::table::Value;
use super::transaction::query_opt;
use crate::signer_columns::{Parse, Read, SignerColumns};

/// As they stand in a row: the certificates, then the references, each folded and as it was spelled.
pub(super) fn values<'entry>(signers: &SignerColumns<'entry>) -> Vec<Value<'entry>> {
    vec![
        signers.primary_certificate.into(),
        signers.secondary_certificate.into(),
        signers.primary_ca.map(CaName::folded).into(),
        signers.primary_ca.map(CaName::as_str).into(),
        signers.secondary_ca.map(CaName::folded).into(),
        signers.secondary_ca.map(CaName::as_str).into(),
    ]
}

/// Whether the CA certificates that are referred to are there; they stay until the transaction has ended. Spec: DPS-X509-25.
pub(super) async fn check(
    signers: &SignerColumns<'_>,
    transaction: &Transaction<'_>,
    scope: &str,
) -> Result<Result<(), WriteError>, Fault> {
    let select = "SELECT 1 FROM ca_certificate WHERE id_scope = $1 AND name = $2 FOR SHARE";
    let mut names: Vec<_> = [signers.primary_ca, signers.secondary_ca].into_iter().flatten().collect();
    names.sort_by_key(|name| name.folded());
    for name in names {
        if query_opt(transaction, select, &[&scope, &name.folded()]).await?.is_none() {
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
    let der: Option<&[u8]> = columns.value()?;
    der.map(|der| parse(der).map_err(|why| columns.unreadable(why))).transpose()
}

/// A thumbprint, if there is one.
pub(super) fn thumbprint(columns: &mut Columns<'_>) -> Result<Option<Sha256Thumbprint>, Fault> {
    let bytes: Option<&[u8]> = columns.value()?;
    let thumbprint = bytes.map(|bytes| bytes.try_into().map(Sha256Thumbprint::from_bytes));
    thumbprint.transpose().map_err(|_| columns.unreadable("it has not 32 bytes"))
}
