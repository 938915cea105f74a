//! Rows of `audit`. Spec: DPS-AUDIT-1 to DPS-AUDIT-4.

use deadpool_postgres::{GenericClient, Transaction};
use dps_core::audit::{AUDIT_RECORDS_MAX, Action, AuditFilter, AuditRecord, Author, Principal, Subject};
use dps_proto::ids::{ETag, IdScope};

use super::columns::Columns;
use super::fault::Fault;
use super::transaction::{execute, query};
use crate::times::nanoseconds;
use crate::words::Word as _;

/// How many records come between two looks for those that are too many.
const TRIMMED_EVERY: i64 = 1_024;

/// Something that was changed.
pub(super) struct Change<'c> {
    pub(super) scope: &'c IdScope,
    pub(super) subject: Subject,
    /// What was written, where it was not deleted.
    pub(super) etag: Option<&'c ETag>,
}

impl Change<'_> {
    /// Records a put where it has an author. `existed` says whether it was there before.
    pub(super) async fn put(
        &self,
        transaction: &Transaction<'_>,
        by: Option<&Author>,
        existed: bool,
    ) -> Result<(), Fault> {
        let action = if existed { Action::Replaced } else { Action::Created };
        self.write(transaction, by, action).await
    }

    /// Records it as done, where it has an author.
    pub(super) async fn write(
        &self,
        transaction: &Transaction<'_>,
        by: Option<&Author>,
        action: Action,
    ) -> Result<(), Fault> {
        let Some(author) = by else { return Ok(()) };
        let policy = match &author.principal {
            Principal::Policy(name) => Some(&**name),
            Principal::Admin => None,
        };
        let insert =
            "INSERT INTO audit (id_scope, at, policy, address, tracking_id, action, subject_kind, subject, spelling, etag)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING number";
        let (at, address) = (nanoseconds(author.at)?, author.address.map(|address| address.to_string()));
        let tracking_id = author.tracking_id.map(|id| id.to_string());
        let rows = query(
            transaction,
            insert,
            &[
                &self.scope.folded(),
                &at,
                &policy,
                &address,
                &tracking_id,
                &action.word(),
                &self.subject.kind(),
                &self.subject.folded(),
                &self.subject.id(),
                &self.etag.map(ETag::as_str),
            ],
        )
        .await?;
        let number: i64 = rows.first().map_or(Ok(0), |row| Columns::of(row).value())?;
        if number % TRIMMED_EVERY == 0 {
            let last_gone = number - AUDIT_RECORDS_MAX as i64;
            execute(transaction, "DELETE FROM audit WHERE number <= $1", &[&last_gone]).await?;
        }
        Ok(())
    }
}

/// The newest that `filter` takes, newest first.
pub(super) async fn list(
    on: &impl GenericClient,
    scope: &IdScope,
    filter: &AuditFilter,
    limit: u32,
) -> Result<Vec<AuditRecord>, Fault> {
    let before = filter.before.and_then(|before| i64::try_from(before).ok()).unwrap_or(i64::MAX);
    let (scope, limit) = (scope.folded(), i64::from(limit));
    let rows = match &filter.subject {
        None => {
            let select =
                "SELECT number, at, policy, address, tracking_id, action, subject_kind, spelling, etag FROM audit
                 WHERE id_scope = $1 AND number < $2 ORDER BY number DESC LIMIT $3";
            query(on, select, &[&scope, &before, &limit]).await?
        }
        Some(subject) => {
            let select =
                "SELECT number, at, policy, address, tracking_id, action, subject_kind, spelling, etag FROM audit
                 WHERE id_scope = $1 AND number < $2 AND subject = $4 ORDER BY number DESC LIMIT $3";
            query(on, select, &[&scope, &before, &limit, &&**subject]).await?
        }
    };
    rows.iter().map(|row| read(&mut Columns::of(row))).collect()
}

fn read(columns: &mut Columns<'_>) -> Result<AuditRecord, Fault> {
    let number = columns.number()?;
    let at = columns.time()?;
    let policy: Option<&str> = columns.value()?;
    let (address, tracking_id) = (columns.optional()?, columns.optional()?);
    let action = columns.word()?;
    let (kind, spelling): (&str, &str) = (columns.value()?, columns.value()?);
    let subject = Subject::named(kind, spelling)
        .ok_or_else(|| columns.unreadable(format!("{kind:?} {spelling:?} names nothing")))?;
    let principal = policy.map_or(Principal::Admin, |policy| Principal::Policy(policy.into()));
    let author = Author { principal, address, tracking_id, at };
    Ok(AuditRecord { number, author, action, subject, etag: columns.optional()? })
}
