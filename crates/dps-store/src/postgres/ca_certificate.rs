//! Rows of `ca_certificate`. Spec: DPS-X509-23 to DPS-X509-25.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use dps_core::audit::{Action, Subject};
use dps_core::ca_certificate::{CA_CERTIFICATES_MAX, CaCertificate, CaName, Possession, VerificationCode};
use dps_core::enrollment::EntryRef;
use dps_core::ports::{WriteError, WriteOrder};
use dps_core::x509::Certificate;
use dps_proto::ids::IdScope;

use super::audit::Change;
use super::columns::Columns;
use super::conditional::Conditional;
use super::fault::Fault;
use super::remembered::Versioned;
use super::table::{Rows, Table, Value};
use super::transaction::{Work, execute, query, query_opt};
use super::{anchor, instance};
use crate::condition::{permits_deletion, permits_put};
use crate::sealing::Sealer;
use crate::times::nanoseconds;

const ON_CONDITION: Conditional = Conditional {
    lock_etag: "SELECT etag FROM ca_certificate WHERE id_scope = $1 AND name = $2 FOR UPDATE",
    delete: "DELETE FROM ca_certificate WHERE id_scope = $1 AND name = $2",
};

const TABLE: Table = Table {
    name: "ca_certificate",
    key: 2,
    made_with: 2,
    columns: &[
        ("id_scope", "text"),
        ("name", "text"),
        ("name_spelling", "text"),
        ("created_at", "bigint"),
        ("etag", "text"),
        ("updated_at", "bigint"),
        ("certificate", "bytea"),
        ("is_verified", "boolean"),
        ("verification_code", "text"),
    ],
};

static PUT: LazyLock<String> = LazyLock::new(|| TABLE.put());

/// All of an instance, remembered. Spec: DPS-X509-23.
pub(super) struct CaCertificates;

pub(super) const ALL: &str =
    "SELECT name_spelling, created_at, etag, updated_at, certificate, is_verified, verification_code
     FROM ca_certificate WHERE id_scope = $1 ORDER BY name";

#[async_trait]
impl Versioned for CaCertificates {
    type Item = CaCertificate;
    const SELECT_VERSION: &'static str = "SELECT version FROM ca_certificate_version WHERE id_scope = $1";

    async fn read(
        transaction: &Transaction<'_>,
        _: &Sealer,
        scope: &IdScope,
    ) -> Result<Vec<Arc<CaCertificate>>, Fault> {
        let rows = query(transaction, ALL, &[&scope.folded()]).await?;
        rows.iter().map(|row| read(&mut Columns::of(row)).map(Arc::new)).collect()
    }
}

fn read(columns: &mut Columns<'_>) -> Result<CaCertificate, Fault> {
    let name = columns.parsed()?;
    let (created_at, etag, updated_at) = (columns.time()?, columns.parsed()?, columns.time()?);
    let der: &[u8] = columns.value()?;
    let certificate = Certificate::from_der(der).map_err(|why| columns.unreadable(why))?;
    let (is_verified, code): (bool, Option<&str>) = (columns.value()?, columns.value()?);
    let possession = match is_verified {
        true => Possession::Verified,
        false => Possession::Unverified { code: code.map(VerificationCode::kept) },
    };
    Ok(CaCertificate { name, certificate: Arc::new(certificate), possession, etag, created_at, updated_at })
}

/// Creates a CA certificate or replaces it.
pub(super) struct Put<'w> {
    pub(super) scope: &'w IdScope,
    pub(super) ca: &'w CaCertificate,
    pub(super) order: &'w WriteOrder,
}

impl Put<'_> {
    fn row(&self) -> Result<Vec<Value<'_>>, Fault> {
        let ca = self.ca;
        let code = match &ca.possession {
            Possession::Verified => None,
            Possession::Unverified { code } => code.as_ref().map(VerificationCode::as_str),
        };
        Ok(vec![
            self.scope.folded().into(),
            ca.name.folded().into(),
            ca.name.as_str().into(),
            nanoseconds(ca.created_at)?.into(),
            ca.etag.as_str().into(),
            nanoseconds(ca.updated_at)?.into(),
            ca.certificate.der().into(),
            ca.is_verified().into(),
            code.into(),
        ])
    }
}

#[async_trait]
impl Work for Put<'_> {
    type Outcome = Result<(), WriteError>;

    async fn run(&self, transaction: &Transaction<'_>) -> Result<Self::Outcome, Fault> {
        let Self { scope, ca, order } = self;
        let folded = scope.folded();
        if let Err(refused) = instance::check_stays(transaction, scope).await? {
            return Ok(Err(refused));
        }
        lock_all(transaction, folded).await?;
        let stored = ON_CONDITION.lock(transaction, folded, ca.name.folded()).await?;
        if let Err(refused) = permits_put(&order.condition, stored.as_deref()) {
            return Ok(Err(refused));
        }
        if stored.is_none() {
            let count = "SELECT count(*) FROM ca_certificate WHERE id_scope = $1";
            let rows = query(transaction, count, &[&folded]).await?;
            let others: usize = rows.first().map_or(Ok(0), |row| Columns::of(row).number())?;
            if others >= CA_CERTIFICATES_MAX {
                return Ok(Err(WriteError::TooManyCaCertificates(CA_CERTIFICATES_MAX)));
            }
        }
        let mut row = self.row()?;
        row.push(stored.as_deref().into());
        if execute(transaction, &PUT, &Rows::params_of(&row)).await? == 0 {
            return Err(Fault::raced("a CA certificate"));
        }
        count_write(transaction, folded).await?;
        let change = Change { scope, subject: Subject::CaCertificate(ca.name.clone()), etag: Some(&ca.etag) };
        change.put(transaction, order.by.as_deref(), stored.is_some()).await?;
        Ok(Ok(()))
    }
}

/// Deletes a CA certificate that no entry refers to.
pub(super) struct Delete<'w> {
    pub(super) scope: &'w IdScope,
    pub(super) name: &'w CaName,
    pub(super) order: &'w WriteOrder,
}

#[async_trait]
impl Work for Delete<'_> {
    type Outcome = Result<(), WriteError>;

    async fn run(&self, transaction: &Transaction<'_>) -> Result<Self::Outcome, Fault> {
        let Self { scope, name, order } = self;
        let folded = scope.folded();
        lock_all(transaction, folded).await?;
        // Entries that come to refer to it hold it too: those that are being written are waited for here, and seen below.
        let stored = ON_CONDITION.lock(transaction, folded, name.folded()).await?;
        if let Err(refused) = permits_deletion(&order.condition, stored.as_deref()) {
            return Ok(Err(refused));
        }
        if let Some(entry) = referrer(transaction, folded, name).await? {
            return Ok(Err(WriteError::CaCertificateInUse(entry)));
        }
        execute(transaction, ON_CONDITION.delete, &[&folded, &name.folded()]).await?;
        count_write(transaction, folded).await?;
        let change = Change { scope, subject: Subject::CaCertificate((*name).clone()), etag: None };
        change.write(transaction, order.by.as_deref(), Action::Deleted).await?;
        Ok(Ok(()))
    }
}

pub(super) const REFERRING_GROUP: &str =
    "SELECT g.enrollment_group_id_spelling FROM enrollment_group_anchor a
     JOIN enrollment_group g ON g.id_scope = a.id_scope AND g.enrollment_group_id = a.enrollment_group_id
     WHERE a.id_scope = $1 AND a.anchor = $2 LIMIT 1";

pub(super) const REFERRING_ENROLLMENT: &str =
    "SELECT registration_id_spelling FROM individual_enrollment WHERE id_scope = $1 AND primary_ca = $2
     UNION ALL
     SELECT registration_id_spelling FROM individual_enrollment WHERE id_scope = $1 AND secondary_ca = $2 LIMIT 1";

/// An entry that refers to it. Spec: DPS-X509-25.
async fn referrer(
    transaction: &Transaction<'_>,
    scope: &str,
    name: &CaName,
) -> Result<Option<EntryRef>, Fault> {
    if let Some(row) = query_opt(transaction, REFERRING_GROUP, &[&scope, &anchor::of_ca(name)]).await? {
        return Ok(Some(EntryRef::Group(Columns::of(&row).parsed()?)));
    }
    let row = query_opt(transaction, REFERRING_ENROLLMENT, &[&scope, &name.folded()]).await?;
    row.map(|row| Ok(EntryRef::Individual(Columns::of(&row).parsed()?))).transpose()
}

/// Lets nobody else write a CA certificate of this ID scope before the transaction has ended.
async fn lock_all(transaction: &Transaction<'_>, scope: &str) -> Result<(), Fault> {
    let insert =
        "INSERT INTO ca_certificate_version (id_scope, version) VALUES ($1, 0) ON CONFLICT DO NOTHING";
    execute(transaction, insert, &[&scope]).await?;
    let lock = "SELECT version FROM ca_certificate_version WHERE id_scope = $1 FOR UPDATE";
    query(transaction, lock, &[&scope]).await?;
    Ok(())
}

async fn count_write(transaction: &Transaction<'_>, scope: &str) -> Result<(), Fault> {
    let update = "UPDATE ca_certificate_version SET version = version + 1 WHERE id_scope = $1";
    execute(transaction, update, &[&scope]).await?;
    Ok(())
}
