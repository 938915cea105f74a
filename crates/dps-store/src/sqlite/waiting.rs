//! Operations that wait for a webhook or for a hub outside, in rows of `registration`. Spec: DPS-REG-32, DPS-REG-33, DPS-REG-44.

use dps_core::ports::{ClaimOrder, Claimed, ClaimedOperation, Commit, Postponement, WaitingFor};
use rusqlite::{Connection, params};
use uuid::Uuid;

use super::claim::WaitingRows;
use super::columns::Columns;
use super::fault::Fault;
use crate::times::nanoseconds;

macro_rules! rows_of {
    ($kind:literal) => {
        WaitingRows {
            first_peer: concat!(
                "SELECT waiting_host FROM registration
                 WHERE waiting_kind = '",
                $kind,
                "' AND waiting_due_at IS NOT NULL ORDER BY waiting_host LIMIT 1"
            ),
            next_peer: concat!(
                "SELECT waiting_host FROM registration
                 WHERE waiting_kind = '",
                $kind,
                "' AND waiting_due_at IS NOT NULL AND waiting_host > ?1 ORDER BY waiting_host LIMIT 1"
            ),
            due: concat!(
                "SELECT waiting_due_at, id_scope, registration_id_spelling, operation_guid, etag, waiting_tries
                 FROM registration
                 WHERE waiting_kind = '",
                $kind,
                "' AND waiting_host = ?1 AND waiting_due_at IS NOT NULL AND waiting_due_at <= ?2
                 ORDER BY waiting_due_at LIMIT ?3"
            ),
            next_due: concat!(
                "SELECT waiting_due_at FROM registration
                 WHERE waiting_kind = '",
                $kind,
                "' AND waiting_host = ?1 AND waiting_due_at IS NOT NULL AND waiting_due_at > ?2
                 ORDER BY waiting_due_at LIMIT 1"
            ),
            read,
            lease,
        }
    };
}

pub(super) const FOR_WEBHOOKS: WaitingRows<ClaimedOperation> = rows_of!("webhook");
pub(super) const FOR_HUBS: WaitingRows<ClaimedOperation> = rows_of!("hub");

pub(super) fn claim(connection: &Connection, whom: WaitingFor, order: &ClaimOrder) -> Result<Claimed, Fault> {
    match whom {
        WaitingFor::Webhook => FOR_WEBHOOKS.claim(connection, order),
        WaitingFor::Hub => FOR_HUBS.claim(connection, order),
    }
}

fn read(columns: &mut Columns<'_>, peer: &str, order: &ClaimOrder) -> Result<ClaimedOperation, Fault> {
    Ok(ClaimedOperation {
        id_scope: columns.parsed()?,
        registration_id: columns.parsed()?,
        guid: Uuid::from_bytes(columns.value()?),
        etag: columns.parsed()?,
        tries: columns.value::<u32>()?.saturating_add(1),
        peer: peer.into(),
        lease_until: order.lease_until,
    })
}

/// One that is still under a lease was left by its worker, whatever that had asked a hub for. Spec: DPS-STORE-13.
fn lease(connection: &Connection, claimed: &ClaimedOperation, order: &ClaimOrder) -> Result<(), Fault> {
    let update = "UPDATE registration SET waiting_tries = ?3, waiting_due_at = ?4, waiting_is_leased = 1,
                      waiting_unanswered_at = CASE WHEN waiting_is_leased = 1 AND waiting_kind = 'hub' THEN ?5
                                                   ELSE waiting_unanswered_at END
                  WHERE id_scope = ?1 AND registration_id = ?2";
    connection.prepare_cached(update)?.execute(params![
        claimed.id_scope.folded(),
        claimed.registration_id.folded(),
        claimed.tries,
        nanoseconds(order.lease_until)?,
        nanoseconds(order.now)?,
    ])?;
    Ok(())
}

/// Gives an operation back, to be due at another time, if the claim is its newest.
pub(super) fn postpone(
    connection: &Connection,
    claimed: &ClaimedOperation,
    postponement: Postponement,
) -> Result<Commit, Fault> {
    // The later of two times, or the one that there is.
    let update = "UPDATE registration SET waiting_due_at = ?6, waiting_is_leased = 0,
                      waiting_unanswered_at = CASE waiting_kind WHEN 'hub' THEN
                          max(coalesce(waiting_unanswered_at, ?7), coalesce(?7, waiting_unanswered_at)) END
                  WHERE id_scope = ?1 AND registration_id = ?2 AND etag = ?3 AND operation_guid = ?4
                    AND waiting_tries = ?5 AND waiting_due_at IS NOT NULL";
    let changed = connection.prepare_cached(update)?.execute(params![
        claimed.id_scope.folded(),
        claimed.registration_id.folded(),
        claimed.etag.as_str(),
        claimed.guid.as_bytes(),
        claimed.tries,
        nanoseconds(postponement.until)?,
        postponement.unanswered_at.map(nanoseconds).transpose()?,
    ])?;
    Ok(if changed == 1 { Commit::Done } else { Commit::Outdated })
}
