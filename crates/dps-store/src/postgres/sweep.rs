//! What deleted instances leave behind, deleted in steps that keep no other write waiting for long. Spec: DPS-INST-8.

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use dps_core::ports::Sweep;
use dps_proto::ids::IdScope;

use super::columns::Columns;
use super::fault::Fault;
use super::transaction::{Work, execute, query_opt};

/// Tables of which at most so many rows of an ID scope are deleted in a step. The audit is not among them; neither are the counts of
/// writes, by which nodes know what they remember.
pub(super) const SWEPT: [&str; 7] = [
    "registration",
    "hub_device",
    "clean_up",
    "individual_enrollment",
    "enrollment_group_anchor",
    "enrollment_group",
    "ca_certificate",
];

const COUNTS: [&str; 2] = [
    "UPDATE enrollment_group_version SET version = version + 1 WHERE id_scope = $1",
    "UPDATE ca_certificate_version SET version = version + 1 WHERE id_scope = $1",
];

/// One step.
pub(super) struct Step<'w> {
    pub(super) of: Option<&'w IdScope>,
    pub(super) limit: u32,
}

#[async_trait]
impl Work for Step<'_> {
    type Outcome = Sweep;

    async fn run(&self, transaction: &Transaction<'_>) -> Result<Sweep, Fault> {
        // Held, so that two nodes do not each take what the other deletes for the last of it.
        let select = "SELECT id_scope FROM instance WHERE is_deleted AND id_scope = coalesce($1, id_scope)
                      ORDER BY number LIMIT 1 FOR UPDATE";
        let found = query_opt(transaction, select, &[&self.of.map(IdScope::folded)]).await?;
        let scope: Option<String> = found.map(|row| Columns::of(&row).value()).transpose()?;
        let Some(scope) = scope else { return Ok(Sweep::Clean) };
        let mut is_empty = true;
        for table in SWEPT {
            let deleted = execute(transaction, &delete(table), &[&scope, &i64::from(self.limit)]).await?;
            is_empty &= deleted < u64::from(self.limit);
        }
        for count in COUNTS {
            execute(transaction, count, &[&scope]).await?;
        }
        if is_empty {
            execute(transaction, "DELETE FROM instance WHERE id_scope = $1", &[&scope]).await?;
        }
        Ok(Sweep::More)
    }
}

/// Deletes at most `$2` rows of the ID scope `$1`.
pub(super) fn delete(table: &str) -> String {
    format!(
        "DELETE FROM {table} WHERE ctid = ANY (ARRAY (SELECT ctid FROM {table} WHERE id_scope = $1 LIMIT $2))"
    )
}
