//! Operations that wait for a webhook or for a hub outside, in rows of `registration`. Spec: DPS-REG-32, DPS-REG-33, DPS-REG-44.
//!
//! Time comes in with the order, from the clock of the node that asks. Spec: DPS-STORE-22.

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use dps_core::ports::{ClaimOrder, Claimed, ClaimedOperation, Commit, Postponement, WaitingFor};

use super::claim::WaitingRows;
use super::columns::Columns;
use super::fault::Fault;
use super::transaction::{Work, execute};
use crate::times::nanoseconds;

macro_rules! rows_of {
    ($kind:literal) => {
        WaitingRows {
            // The next text after another has one more character, the first there is; before all is the empty one, which is a peer, too.
            peers: concat!(
                "WITH RECURSIVE peers (peer, number) AS (
                     (SELECT waiting_peer, 1::bigint FROM registration
                      WHERE waiting_kind = '",
                $kind,
                "' AND waiting_due_at IS NOT NULL AND waiting_peer >= coalesce($1::text || chr(1), '')
                      ORDER BY waiting_peer LIMIT 1)
                     UNION ALL
                     SELECT next.waiting_peer, peers.number + 1
                     FROM peers CROSS JOIN LATERAL (
                         SELECT waiting_peer FROM registration
                         WHERE waiting_kind = '",
                $kind,
                "' AND waiting_due_at IS NOT NULL AND waiting_peer > peers.peer
                         ORDER BY waiting_peer LIMIT 1) next
                     WHERE peers.number < $2)
                 SELECT peer FROM peers ORDER BY number"
            ),
            due: concat!(
                "SELECT peers.peer, due.*
                 FROM unnest($1::text[], $2::bigint[]) AS peers (peer, room) CROSS JOIN LATERAL (
                     SELECT waiting_due_at, id_scope, registration_id_spelling, operation_guid, etag, waiting_tries
                     FROM registration
                     WHERE waiting_kind = '",
                $kind,
                "' AND waiting_peer = peers.peer AND waiting_due_at IS NOT NULL AND waiting_due_at <= $3
                     ORDER BY waiting_due_at LIMIT peers.room FOR UPDATE SKIP LOCKED) due"
            ),
            next_due: concat!(
                "SELECT min(next.waiting_due_at)
                 FROM unnest($1::text[]) AS peers (peer) CROSS JOIN LATERAL (
                     SELECT waiting_due_at FROM registration
                     WHERE waiting_kind = '",
                $kind,
                "' AND waiting_peer = peers.peer AND waiting_due_at IS NOT NULL AND waiting_due_at > $2
                     ORDER BY waiting_due_at LIMIT 1) next"
            ),
            read,
        }
    };
}

pub(super) const FOR_WEBHOOKS: WaitingRows<ClaimedOperation> = rows_of!("webhook");
pub(super) const FOR_HUBS: WaitingRows<ClaimedOperation> = rows_of!("hub");

fn read(columns: &mut Columns<'_>, peer: &str, order: &ClaimOrder) -> Result<ClaimedOperation, Fault> {
    Ok(ClaimedOperation {
        id_scope: columns.parsed()?,
        registration_id: columns.parsed()?,
        guid: columns.value()?,
        etag: columns.parsed()?,
        tries: columns.number::<u32>()?.saturating_add(1),
        peer: peer.into(),
        lease_until: order.lease_until,
    })
}

/// Claims operations.
pub(super) struct Claim<'w> {
    pub(super) whom: WaitingFor,
    pub(super) order: &'w ClaimOrder,
}

#[async_trait]
impl Work for Claim<'_> {
    type Outcome = Claimed;

    async fn run(&self, transaction: &Transaction<'_>) -> Result<Claimed, Fault> {
        let order = self.order;
        let claimed = match self.whom {
            WaitingFor::Webhook => FOR_WEBHOOKS.due(transaction, order).await?,
            WaitingFor::Hub => FOR_HUBS.due(transaction, order).await?,
        };
        if claimed.operations.is_empty() {
            return Ok(claimed);
        }
        let scopes: Vec<&str> = claimed.operations.iter().map(|claimed| claimed.id_scope.folded()).collect();
        let ids: Vec<&str> =
            claimed.operations.iter().map(|claimed| claimed.registration_id.folded()).collect();
        let (lease_until, now) = (nanoseconds(order.lease_until)?, nanoseconds(order.now)?);
        execute(transaction, LEASE, &[&scopes, &ids, &lease_until, &now]).await?;
        Ok(claimed)
    }
}

/// One that is still under a lease was left by its worker, whatever that had asked a hub for. Spec: DPS-REG-44.
pub(super) const LEASE: &str = "UPDATE registration r
     SET waiting_tries = r.waiting_tries + 1, waiting_due_at = $3, waiting_is_leased = true,
         waiting_unanswered_at = CASE WHEN r.waiting_is_leased AND r.waiting_kind = 'hub' THEN $4
                                      ELSE r.waiting_unanswered_at END
     FROM unnest($1::text[], $2::text[]) AS claimed (id_scope, registration_id)
     WHERE r.id_scope = claimed.id_scope AND r.registration_id = claimed.registration_id";

/// Gives an operation back, to be due at another time, if the claim is its newest.
pub(super) struct Postpone<'w> {
    pub(super) claimed: &'w ClaimedOperation,
    pub(super) postponement: Postponement,
}

#[async_trait]
impl Work for Postpone<'_> {
    type Outcome = Commit;

    async fn run(&self, transaction: &Transaction<'_>) -> Result<Commit, Fault> {
        let Self { claimed, postponement } = self;
        // The later of two times, or the one that there is.
        let update = "UPDATE registration SET waiting_due_at = $6, waiting_is_leased = false,
                          waiting_unanswered_at = CASE waiting_kind WHEN 'hub' THEN
                              greatest(waiting_unanswered_at, $7) END
                      WHERE id_scope = $1 AND registration_id = $2 AND etag = $3 AND operation_guid = $4
                        AND waiting_tries = $5 AND waiting_due_at IS NOT NULL";
        let until = nanoseconds(postponement.until)?;
        let unanswered_at = postponement.unanswered_at.map(nanoseconds).transpose()?;
        let changed = execute(
            transaction,
            update,
            &[
                &claimed.id_scope.folded(),
                &claimed.registration_id.folded(),
                &claimed.etag.as_str(),
                &claimed.guid,
                &i64::from(claimed.tries),
                &until,
                &unanswered_at,
            ],
        )
        .await?;
        Ok(if changed == 1 { Commit::Done } else { Commit::Outdated })
    }
}
