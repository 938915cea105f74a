//! Rows of `ca_certificate`. Spec: DPS-X509-23 to DPS-X509-25.

use std::sync::Arc;

use dps_core::ca_certificate::{CA_CERTIFICATES_MAX, CaCertificate, CaName, Possession, VerificationCode};
use dps_core::enrollment::EntryRef;
use dps_core::ports::{Condition, WriteError};
use dps_core::x509::Certificate;
use dps_proto::ids::IdScope;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::columns::Columns;
use super::conditional::Conditional;
use super::fault::Fault;
use super::instance;
use super::remembered::Versioned;
use crate::condition::{permits_deletion, permits_put};
use crate::sealing::Sealer;
use crate::times::nanoseconds;

pub(super) const TABLE: Conditional = Conditional {
    select_etag: "SELECT etag FROM ca_certificate WHERE id_scope = ?1 AND name = ?2",
    delete: "DELETE FROM ca_certificate WHERE id_scope = ?1 AND name = ?2",
};

/// All of an instance, remembered. Spec: DPS-X509-23.
pub(super) struct CaCertificates;

impl Versioned for CaCertificates {
    type Item = CaCertificate;
    const SELECT_VERSION: &'static str = "SELECT version FROM ca_certificate_version WHERE id_scope = ?1";

    fn read(connection: &Connection, _: &Sealer, scope: &IdScope) -> Result<Vec<Arc<CaCertificate>>, Fault> {
        list(connection, scope)
    }
}

pub(super) fn put(
    connection: &Connection,
    scope: &IdScope,
    ca: &CaCertificate,
    condition: &Condition,
) -> Result<Result<(), WriteError>, Fault> {
    if let Err(refused) = instance::check_is_there(connection, scope)? {
        return Ok(Err(refused));
    }
    let scope = scope.folded();
    let stored = TABLE.etag(connection, scope, ca.name.folded())?;
    if let Err(refused) = permits_put(condition, stored.as_deref()) {
        return Ok(Err(refused));
    }
    if stored.is_none() {
        let select = "SELECT count(*) FROM ca_certificate WHERE id_scope = ?1";
        let count: i64 = connection.prepare_cached(select)?.query_row([scope], |row| row.get(0))?;
        if count >= CA_CERTIFICATES_MAX as i64 {
            return Ok(Err(WriteError::TooManyCaCertificates(CA_CERTIFICATES_MAX)));
        }
    }
    let code = match &ca.possession {
        Possession::Verified => None,
        Possession::Unverified { code } => code.as_ref().map(VerificationCode::as_str),
    };
    connection
        .prepare_cached(
            "INSERT INTO ca_certificate (
                 id_scope, name, name_spelling, etag, created_at, updated_at, certificate, is_verified, verification_code)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT (id_scope, name) DO UPDATE SET
                 etag = excluded.etag, updated_at = excluded.updated_at, certificate = excluded.certificate,
                 is_verified = excluded.is_verified, verification_code = excluded.verification_code",
        )?
        .execute(params![
            scope,
            ca.name.folded(),
            ca.name.as_str(),
            ca.etag.as_str(),
            nanoseconds(ca.created_at)?,
            nanoseconds(ca.updated_at)?,
            ca.certificate.der(),
            ca.is_verified(),
            code,
        ])?;
    count_write(connection, scope)?;
    Ok(Ok(()))
}

pub(super) fn delete(
    connection: &Connection,
    scope: &IdScope,
    name: &CaName,
    condition: &Condition,
) -> Result<Result<(), WriteError>, Fault> {
    if let Err(refused) = instance::check_is_there(connection, scope)? {
        return Ok(Err(refused));
    }
    let scope = scope.folded();
    let stored = TABLE.etag(connection, scope, name.folded())?;
    if let Err(refused) = permits_deletion(condition, stored.as_deref()) {
        return Ok(Err(refused));
    }
    if let Some(entry) = referrer(connection, scope, name)? {
        return Ok(Err(WriteError::CaCertificateInUse(entry)));
    }
    let deleted = TABLE.delete(connection, scope, name.folded(), condition)?;
    if deleted.is_ok() {
        count_write(connection, scope)?;
    }
    Ok(deleted)
}

/// An entry that refers to it. Spec: DPS-X509-25.
fn referrer(connection: &Connection, scope: &str, name: &CaName) -> Result<Option<EntryRef>, Fault> {
    let individual = "SELECT registration_id_spelling FROM individual_enrollment WHERE id_scope = ?1 AND primary_ca = ?2
                      UNION ALL
                      SELECT registration_id_spelling FROM individual_enrollment WHERE id_scope = ?1 AND secondary_ca = ?2";
    let group = "SELECT g.enrollment_group_id_spelling FROM enrollment_group_anchor a
                 JOIN enrollment_group g ON g.id_scope = a.id_scope AND g.enrollment_group_id = a.enrollment_group_id
                 WHERE a.id_scope = ?1 AND a.anchor = 'ca/' || ?2";
    let first = |select| -> Result<Option<String>, Fault> {
        let mut statement = connection.prepare_cached(select)?;
        Ok(statement.query_row([scope, name.folded()], |row| row.get(0)).optional()?)
    };
    let unreadable = |why: dps_proto::ids::BadId| Fault::unreadable(why.to_string());
    if let Some(id) = first(group)? {
        return Ok(Some(EntryRef::Group(id.parse().map_err(unreadable)?)));
    }
    match first(individual)? {
        Some(id) => Ok(Some(EntryRef::Individual(id.parse().map_err(unreadable)?))),
        None => Ok(None),
    }
}

fn list(connection: &Connection, scope: &IdScope) -> Result<Vec<Arc<CaCertificate>>, Fault> {
    let select =
        "SELECT name_spelling, etag, created_at, updated_at, certificate, is_verified, verification_code
                  FROM ca_certificate WHERE id_scope = ?1 ORDER BY name";
    let mut statement = connection.prepare_cached(select)?;
    let mut rows = statement.query([scope.folded()])?;
    let mut certificates = Vec::new();
    while let Some(row) = rows.next()? {
        certificates.push(Arc::new(read(&mut Columns::of(row))?));
    }
    Ok(certificates)
}

fn read(columns: &mut Columns<'_>) -> Result<CaCertificate, Fault> {
    let name = columns.parsed()?;
    let etag = columns.parsed()?;
    let (created_at, updated_at) = (columns.time()?, columns.time()?);
    let der: Vec<u8> = columns.value()?;
    let certificate = Certificate::from_der(&der).map_err(|why| columns.unreadable(why))?;
    let is_verified: bool = columns.value()?;
    let code: Option<String> = columns.value()?;
    let possession = match is_verified {
        true => Possession::Verified,
        false => Possession::Unverified { code: code.as_deref().map(VerificationCode::kept) },
    };
    Ok(CaCertificate { name, certificate: Arc::new(certificate), possession, etag, created_at, updated_at })
}

fn count_write(connection: &Connection, scope: &str) -> Result<(), Fault> {
    let upsert = "INSERT INTO ca_certificate_version (id_scope, version) VALUES (?1, 1)
                  ON CONFLICT (id_scope) DO UPDATE SET version = version + 1";
    connection.prepare_cached(upsert)?.execute([scope])?;
    Ok(())
}
