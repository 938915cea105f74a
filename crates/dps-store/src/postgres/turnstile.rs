//! A fair way to enrollment groups for those who write them. Spec: DPS-STORE-19.
//!
//! Batches of registrations lock a group FOR SHARE, and while one after the other does so, on several nodes, a writer that waits for
//! the row would be overtaken for ever. Advisory locks are granted in turn: a batch that comes after a writer waits for it. They
//! are fair and no more than that; what must not change is locked for itself.

use std::collections::BTreeSet;

use deadpool_postgres::Transaction;

use super::fault::Fault;
use super::transaction::query;

/// Takes the turnstiles of these groups, by ID scope and id, with other batches.
pub(super) async fn pass(
    transaction: &Transaction<'_>,
    groups: &BTreeSet<(&str, &str)>,
) -> Result<(), Fault> {
    if groups.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = groups.iter().map(|(scope, id)| name(scope, id)).collect();
    // The numbers are sorted, and not the names: two batches have to take the same ones in the same order.
    let lock = "SELECT pg_advisory_xact_lock_shared(turnstile) FROM (
                    SELECT DISTINCT hashtextextended(name, 0) AS turnstile FROM unnest($1::text[]) AS name
                    ORDER BY turnstile) AS turnstiles";
    query(transaction, lock, &[&names]).await?;
    Ok(())
}

/// Takes the turnstile of a group alone.
pub(super) async fn close(transaction: &Transaction<'_>, scope: &str, id: &str) -> Result<(), Fault> {
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
    query(transaction, lock, &[&name(scope, id)]).await?;
    Ok(())
}

/// What a turnstile's number is made of. Begins with a word of our own: the numbers are those of a whole database.
pub(super) fn name(scope: &str, id: &str) -> String {
    format!("harbormaster/enrollment-group/{scope}/{id}")
}
