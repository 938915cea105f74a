//! Operations that wait for a webhook, in rows of `registration`. Spec: DPS-REG-32, DPS-REG-33.

use dps_core::ports::{ClaimOrder, Claimed, ClaimedOperation, Commit};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

use super::columns::{Columns, nanoseconds};
use super::fault::Fault;

/// A row that is due, with its time.
struct Due {
    at: i64,
    operation: ClaimedOperation,
}

/// Claims what is due. One step in the index for each webhook host, then one for each row: those of a host that does not answer
/// keep nobody waiting.
pub(super) fn claim(connection: &Connection, order: &ClaimOrder) -> Result<Claimed, Fault> {
    let (now, lease_until) = (nanoseconds(order.now)?, nanoseconds(order.lease_until)?);
    let (mut due, mut next_due) = (Vec::new(), None);
    let (mut host, mut peers_after, mut looked_at) =
        (first_host(connection, order.after_peer.as_deref())?, None, 0);
    while let Some(current) = host {
        looked_at += 1;
        let room = order.room_for(&current).min(order.limit);
        due.extend(due_of_host(connection, &current, now, room)?);
        let next = next_of_host(connection, &current, now)?;
        next_due = match (next_due, next) {
            (Some(earliest), Some(next)) if earliest <= next => Some(earliest),
            (earliest, next) => next.or(earliest),
        };
        host = first_host(connection, Some(&current))?;
        if looked_at == Claimed::PEERS_MAX && host.is_some() {
            peers_after = Some(current.into());
            break;
        }
    }
    due.sort_by(|a, b| {
        (a.at, a.operation.registration_id.folded()).cmp(&(b.at, b.operation.registration_id.folded()))
    });
    due.truncate(order.limit as usize);
    let update = "UPDATE registration SET waiting_tries = ?3, waiting_due_at = ?4
                  WHERE id_scope = ?1 AND registration_id = ?2";
    for Due { operation, .. } in &due {
        let ClaimedOperation { id_scope, registration_id, tries, .. } = operation;
        let params = params![id_scope.folded(), registration_id.folded(), tries, lease_until];
        connection.prepare_cached(update)?.execute(params)?;
    }
    let next_due = next_due.map(|at: i64| Timestamp::from_nanosecond(at.into()));
    let next_due = next_due.transpose().map_err(|why| Fault::unreadable(why.to_string()))?;
    Ok(Claimed { operations: due.into_iter().map(|due| due.operation).collect(), next_due, peers_after })
}

/// Lets an operation be due at another time, if the claim is its newest.
pub(super) fn postpone(
    connection: &Connection,
    claimed: &ClaimedOperation,
    until: Timestamp,
) -> Result<Commit, Fault> {
    let update = "UPDATE registration SET waiting_due_at = ?6
                  WHERE id_scope = ?1 AND registration_id = ?2 AND etag = ?3 AND operation_guid = ?4
                    AND waiting_tries = ?5 AND waiting_due_at IS NOT NULL";
    let changed = connection.prepare_cached(update)?.execute(params![
        claimed.id_scope.folded(),
        claimed.registration_id.folded(),
        claimed.etag.as_str(),
        claimed.guid.as_bytes(),
        claimed.tries,
        nanoseconds(until)?,
    ])?;
    Ok(if changed == 1 { Commit::Done } else { Commit::Outdated })
}

pub(super) const SELECT_HOST: &str = "SELECT waiting_host FROM registration
     WHERE waiting_due_at IS NOT NULL AND waiting_host > ?1 ORDER BY waiting_host LIMIT 1";

pub(super) const SELECT_FIRST_HOST: &str = "SELECT waiting_host FROM registration
     WHERE waiting_due_at IS NOT NULL ORDER BY waiting_host LIMIT 1";

fn first_host(connection: &Connection, after: Option<&str>) -> Result<Option<String>, Fault> {
    Ok(match after {
        None => connection.prepare_cached(SELECT_FIRST_HOST)?.query_row([], |row| row.get(0)).optional()?,
        Some(after) => {
            connection.prepare_cached(SELECT_HOST)?.query_row([after], |row| row.get(0)).optional()?
        }
    })
}

pub(super) const SELECT_DUE: &str =
    "SELECT waiting_due_at, id_scope, registration_id_spelling, operation_guid, etag, waiting_tries
     FROM registration
     WHERE waiting_host = ?1 AND waiting_due_at IS NOT NULL AND waiting_due_at <= ?2
     ORDER BY waiting_due_at LIMIT ?3";

fn due_of_host(connection: &Connection, host: &str, now: i64, limit: u32) -> Result<Vec<Due>, Fault> {
    let mut statement = connection.prepare_cached(SELECT_DUE)?;
    let mut rows = statement.query(params![host, now, limit])?;
    let mut due = Vec::new();
    while let Some(row) = rows.next()? {
        let mut columns = Columns::of(row);
        let at = columns.value()?;
        let (id_scope, registration_id) = (columns.parsed()?, columns.parsed()?);
        let guid = Uuid::from_bytes(columns.value()?);
        let (etag, tries) = (columns.parsed()?, columns.value::<u32>()?.saturating_add(1));
        let webhook_host = host.into();
        due.push(Due {
            at,
            operation: ClaimedOperation { id_scope, registration_id, guid, etag, tries, webhook_host },
        });
    }
    Ok(due)
}

pub(super) const SELECT_NEXT: &str = "SELECT waiting_due_at FROM registration
     WHERE waiting_host = ?1 AND waiting_due_at IS NOT NULL AND waiting_due_at > ?2
     ORDER BY waiting_due_at LIMIT 1";

fn next_of_host(connection: &Connection, host: &str, now: i64) -> Result<Option<i64>, Fault> {
    let mut statement = connection.prepare_cached(SELECT_NEXT)?;
    Ok(statement.query_row(params![host, now], |row| row.get(0)).optional()?)
}
