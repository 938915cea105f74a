//! Rows of `audit`. Spec: DPS-AUDIT-1 to DPS-AUDIT-4.

use dps_core::audit::{AUDIT_RECORDS_MAX, Action, AuditFilter, AuditRecord, Author, Principal, Subject};
use dps_core::ports::WriteError;
use dps_proto::ids::{ETag, IdScope};
use rusqlite::{Connection, params};

use super::columns::Columns;
use super::fault::Fault;
use crate::times::nanoseconds;
use crate::words::Word as _;

/// How many records come between two looks for those that are too many.
const TRIMMED_EVERY: i64 = 1_024;

/// Something that is about to be changed.
pub(super) struct Change<'c> {
    pub(super) scope: &'c IdScope,
    pub(super) subject: Subject,
    /// What is written, where it is not deleted.
    pub(super) etag: Option<&'c ETag>,
}

impl Change<'_> {
    /// Carries it out by `work`, and records it where it has an author. `existed` says whether it was there before.
    pub(super) fn carry_out(
        &self,
        connection: &Connection,
        by: Option<&Author>,
        existed: impl FnOnce(&Connection) -> Result<bool, Fault>,
        work: impl FnOnce(&Connection) -> Result<Result<(), WriteError>, Fault>,
    ) -> Result<Result<(), WriteError>, Fault> {
        let Some(author) = by else { return work(connection) };
        let action = match (self.etag, existed(connection)?) {
            (None, _) => Action::Deleted,
            (Some(_), true) => Action::Replaced,
            (Some(_), false) => Action::Created,
        };
        let done = work(connection)?;
        if done.is_ok() {
            self.write(connection, author, action)?;
        }
        Ok(done)
    }

    /// Records it as done.
    pub(super) fn write(
        &self,
        connection: &Connection,
        author: &Author,
        action: Action,
    ) -> Result<(), Fault> {
        let policy = match &author.principal {
            Principal::Policy(name) => Some(&**name),
            Principal::Admin => None,
        };
        connection
            .prepare_cached(
                "INSERT INTO audit (id_scope, at, policy, address, tracking_id, action, subject_kind, subject, spelling, etag)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                self.scope.folded(),
                nanoseconds(author.at)?,
                policy,
                author.address.map(|address| address.to_string()),
                author.tracking_id.map(|id| id.to_string()),
                action.word(),
                self.subject.kind(),
                self.subject.folded(),
                self.subject.id(),
                self.etag.map(ETag::as_str),
            ])?;
        let number = connection.last_insert_rowid();
        if number % TRIMMED_EVERY == 0 {
            let last_gone = number - AUDIT_RECORDS_MAX as i64;
            connection.prepare_cached("DELETE FROM audit WHERE number <= ?1")?.execute([last_gone])?;
        }
        Ok(())
    }
}

/// The newest that `filter` takes, newest first.
pub(super) fn list(
    connection: &Connection,
    scope: &IdScope,
    filter: &AuditFilter,
    limit: u32,
) -> Result<Vec<AuditRecord>, Fault> {
    let before = filter.before.and_then(|before| i64::try_from(before).ok()).unwrap_or(i64::MAX);
    let select = match filter.subject {
        None => {
            "SELECT number, at, policy, address, tracking_id, action, subject_kind, spelling, etag FROM audit
             WHERE id_scope = ?1 AND number < ?2 ORDER BY number DESC LIMIT ?3"
        }
        Some(_) => {
            "SELECT number, at, policy, address, tracking_id, action, subject_kind, spelling, etag FROM audit
             WHERE id_scope = ?1 AND number < ?2 AND subject = ?4 ORDER BY number DESC LIMIT ?3"
        }
    };
    let mut statement = connection.prepare_cached(select)?;
    let mut rows = match &filter.subject {
        None => statement.query(params![scope.folded(), before, limit])?,
        Some(subject) => statement.query(params![scope.folded(), before, limit, subject])?,
    };
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push(read(&mut Columns::of(row))?);
    }
    Ok(records)
}

fn read(columns: &mut Columns<'_>) -> Result<AuditRecord, Fault> {
    let number: i64 = columns.value()?;
    let at = columns.time()?;
    let policy: Option<Box<str>> = columns.value()?;
    let (address, tracking_id) = (columns.optional()?, columns.optional()?);
    let action = columns.word()?;
    let (kind, spelling): (String, String) = (columns.value()?, columns.value()?);
    let subject = Subject::named(&kind, &spelling)
        .ok_or_else(|| columns.unreadable(format!("{kind:?} {spelling:?} names nothing")))?;
    let principal = policy.map_or(Principal::Admin, Principal::Policy);
    let author = Author { principal, address, tracking_id, at };
    Ok(AuditRecord { number: number as u64, author, action, subject, etag: columns.optional()? })
}
