//! Rows of `clean_up`. Spec: DPS-REG-43, DPS-REG-44.

use dps_core::ports::{ClaimOrder, CleanUp, CleanUpOutcome, Commit};
use dps_proto::ids::{DeviceId, HubName, IdScope};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

use super::claim::WaitingRows;
use super::columns::Columns;
use super::fault::Fault;
use super::{instance, registration};
use crate::condition::has_device_there;
use crate::times::nanoseconds;

/// The columns of a row: when it is due, then what [`read`] reads.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT due_at, id_scope, hub_spelling, device_id, guid, registration_id, ordered_at, confirm_at, tries, problem
             FROM clean_up ",
            $rest
        )
    };
}

pub(super) const ROWS: WaitingRows<CleanUp> = WaitingRows {
    first_peer: "SELECT peer FROM clean_up ORDER BY peer LIMIT 1",
    next_peer: "SELECT peer FROM clean_up WHERE peer > ?1 ORDER BY peer LIMIT 1",
    due: select!("WHERE peer = ?1 AND due_at <= ?2 ORDER BY due_at LIMIT ?3"),
    next_due: "SELECT due_at FROM clean_up WHERE peer = ?1 AND due_at > ?2 ORDER BY due_at LIMIT 1",
    read: |columns, _, order| {
        let waits = read(columns, order.lease_until)?;
        Ok(CleanUp { tries: waits.tries.saturating_add(1), ..waits })
    },
    lease,
};

fn read(columns: &mut Columns<'_>, due_at: Timestamp) -> Result<CleanUp, Fault> {
    Ok(CleanUp {
        id_scope: columns.parsed()?,
        hub: columns.parsed()?,
        device_id: columns.parsed()?,
        guid: Uuid::from_bytes(columns.value()?),
        registration_id: columns.parsed()?,
        ordered_at: columns.time()?,
        confirm_at: columns.optional_time()?,
        tries: columns.value()?,
        problem: columns.value()?,
        due_at,
    })
}

fn lease(connection: &Connection, claimed: &CleanUp, order: &ClaimOrder) -> Result<(), Fault> {
    let update =
        "UPDATE clean_up SET tries = ?4, due_at = ?5 WHERE id_scope = ?1 AND hub = ?2 AND device_id = ?3";
    let CleanUp { id_scope, hub, device_id, tries, .. } = claimed;
    let due_at = nanoseconds(order.lease_until)?;
    let params = params![id_scope.folded(), hub.folded(), device_id.as_str(), tries, due_at];
    connection.prepare_cached(update)?.execute(params)?;
    Ok(())
}

/// Takes the place of one of the same device. Where that was to be looked at once more, so is this. Spec: DPS-STORE-12.
pub(super) fn put(connection: &Connection, clean_up: &CleanUp) -> Result<(), Fault> {
    let insert = "INSERT INTO clean_up (
             id_scope, hub, device_id, hub_spelling, guid, registration_id, ordered_at, confirm_at, peer, tries, due_at,
             problem)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
         ON CONFLICT (id_scope, hub, device_id) DO UPDATE SET
             hub_spelling = excluded.hub_spelling, guid = excluded.guid, registration_id = excluded.registration_id,
             ordered_at = excluded.ordered_at,
             confirm_at = max(coalesce(confirm_at, excluded.confirm_at), coalesce(excluded.confirm_at, confirm_at)),
             peer = excluded.peer, tries = excluded.tries, due_at = excluded.due_at, problem = excluded.problem";
    connection.prepare_cached(insert)?.execute(params![
        clean_up.id_scope.folded(),
        clean_up.hub.folded(),
        clean_up.device_id.as_str(),
        clean_up.hub.as_str(),
        clean_up.guid.as_bytes(),
        clean_up.registration_id.as_str(),
        nanoseconds(clean_up.ordered_at)?,
        clean_up.confirm_at.map(nanoseconds).transpose()?,
        clean_up.peer(),
        clean_up.tries,
        nanoseconds(clean_up.due_at)?,
        clean_up.problem,
    ])?;
    Ok(())
}

/// Has nothing gone.
pub(super) fn keep(
    connection: &Connection,
    scope: &IdScope,
    hub: &HubName,
    device_id: &DeviceId,
) -> Result<(), Fault> {
    let delete = "DELETE FROM clean_up WHERE id_scope = ?1 AND hub = ?2 AND device_id = ?3";
    let key = params![scope.folded(), hub.folded(), device_id.as_str()];
    connection.prepare_cached(delete)?.execute(key)?;
    Ok(())
}

/// Orders one, unless the record has the device there. Spec: DPS-REG-44.
pub(super) fn put_stray(connection: &Connection, clean_up: &CleanUp) -> Result<Commit, Fault> {
    let is_there = instance::check_is_there(connection, &clean_up.id_scope)?.is_ok();
    if !is_there || is_wanted(connection, clean_up)? {
        return Ok(Commit::Outdated);
    }
    put(connection, clean_up)?;
    Ok(Commit::Done)
}

/// Whether this claim is the newest, and the record does not have the device there.
pub(super) fn stands(connection: &Connection, claimed: &CleanUp) -> Result<bool, Fault> {
    Ok(is_newest(connection, claimed)? && !is_wanted(connection, claimed)?)
}

fn is_wanted(connection: &Connection, clean_up: &CleanUp) -> Result<bool, Fault> {
    let record = registration::find(connection, &clean_up.id_scope, &clean_up.registration_id)?;
    Ok(record.is_some_and(|record| has_device_there(&record, clean_up)))
}

fn is_newest(connection: &Connection, claimed: &CleanUp) -> Result<bool, Fault> {
    let select = "SELECT 1 FROM clean_up
         WHERE id_scope = ?1 AND hub = ?2 AND device_id = ?3 AND guid = ?4 AND tries = ?5";
    let CleanUp { id_scope, hub, device_id, guid, tries, .. } = claimed;
    let claim = params![id_scope.folded(), hub.folded(), device_id.as_str(), guid.as_bytes(), tries];
    let found: Option<i64> =
        connection.prepare_cached(select)?.query_row(claim, |row| row.get(0)).optional()?;
    Ok(found.is_some())
}

/// Ends or postpones it, if the claim is its newest.
pub(super) fn settle(
    connection: &Connection,
    claimed: &CleanUp,
    outcome: &CleanUpOutcome,
) -> Result<Commit, Fault> {
    if !is_newest(connection, claimed)? {
        return Ok(Commit::Outdated);
    }
    let CleanUp { id_scope, hub, device_id, .. } = claimed;
    match outcome {
        CleanUpOutcome::Done => keep(connection, id_scope, hub, device_id)?,
        CleanUpOutcome::Again { until, problem } => {
            let update = "UPDATE clean_up SET due_at = ?4, problem = ?5 WHERE id_scope = ?1 AND hub = ?2 AND device_id = ?3";
            let until = nanoseconds(*until)?;
            let params = params![id_scope.folded(), hub.folded(), device_id.as_str(), until, problem];
            connection.prepare_cached(update)?.execute(params)?;
        }
    }
    Ok(Commit::Done)
}

pub(super) const LIST: &str =
    select!("WHERE id_scope = ?1 AND (hub, device_id) > (?2, ?3) ORDER BY hub, device_id LIMIT ?4");

/// Those of an instance after `after`, in the order of hub and device id.
pub(super) fn list(
    connection: &Connection,
    scope: &IdScope,
    after: Option<&(HubName, DeviceId)>,
    limit: u32,
) -> Result<Vec<CleanUp>, Fault> {
    let mut statement = connection.prepare_cached(LIST)?;
    // No hub's name is empty, so all come after the empty text.
    let (hub, device_id) = after.map_or(("", ""), |(hub, device_id)| (hub.folded(), device_id.as_str()));
    let mut rows = statement.query(params![scope.folded(), hub, device_id, limit])?;
    let mut clean_ups = Vec::new();
    while let Some(row) = rows.next()? {
        let mut columns = Columns::of(row);
        let due_at = columns.time()?;
        clean_ups.push(read(&mut columns, due_at)?);
    }
    Ok(clean_ups)
}
