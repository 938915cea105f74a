//! Rows of `clean_up`. Spec: DPS-REG-43, DPS-REG-44.

use std::sync::LazyLock;

use async_trait::async_trait;
use deadpool_postgres::{GenericClient, Transaction};
use dps_core::ports::{ClaimOrder, Claimed, CleanUp, CleanUpOutcome, Commit, StoreError};
use dps_proto::ids::{DeviceId, HubName, IdScope};
use jiff::Timestamp;

use super::claim::WaitingRows;
use super::columns::Columns;
use super::fault::Fault;
use super::table::{Rows, Table, Value};
use super::transaction::{Work, execute, query, query_opt};
use super::{instance, registration};
use crate::condition::has_device_there;
use crate::times::nanoseconds;

const TABLE: Table = Table {
    name: "clean_up",
    key: 3,
    made_with: 0,
    columns: &[
        ("id_scope", "text"),
        ("hub", "text"),
        ("device_id", "text"),
        ("hub_spelling", "text"),
        ("guid", "uuid"),
        ("registration_id", "text"),
        ("ordered_at", "bigint"),
        ("confirm_at", "bigint"),
        ("peer", "text"),
        ("tries", "bigint"),
        ("due_at", "bigint"),
        ("problem", "text"),
    ],
};

/// Each takes the place of one of the same device. Where that was to be looked at once more, so is this.
pub(super) static PUT_ALL: LazyLock<String> = LazyLock::new(|| {
    let later = "confirm_at = greatest(clean_up.confirm_at, excluded.confirm_at)";
    TABLE.replace_all().replace("confirm_at = excluded.confirm_at", later)
});

/// Has nothing gone: `$1`, `$2` and `$3` are arrays of keys.
pub(super) const DELETE_ALL: &str = "DELETE FROM clean_up c
     USING unnest($1::text[], $2::text[], $3::text[]) AS kept (id_scope, hub, device_id)
     WHERE c.id_scope = kept.id_scope AND c.hub = kept.hub AND c.device_id = kept.device_id";

/// The row of a clean-up, as it is written.
pub(super) fn values(clean_up: &CleanUp) -> Result<Vec<Value<'_>>, StoreError> {
    Ok(vec![
        clean_up.id_scope.folded().into(),
        clean_up.hub.folded().into(),
        clean_up.device_id.as_str().into(),
        clean_up.hub.as_str().into(),
        clean_up.guid.into(),
        clean_up.registration_id.as_str().into(),
        nanoseconds(clean_up.ordered_at)?.into(),
        clean_up.confirm_at.map(nanoseconds).transpose()?.into(),
        Value::Text(clean_up.peer().into_string().into()),
        clean_up.tries.into(),
        nanoseconds(clean_up.due_at)?.into(),
        clean_up.problem.as_deref().into(),
    ])
}

macro_rules! columns {
    () => {
        "due_at, id_scope, hub_spelling, device_id, guid, registration_id, ordered_at, confirm_at, tries, problem"
    };
}

pub(super) const ROWS: WaitingRows<CleanUp> = WaitingRows {
    peers: "WITH RECURSIVE peers (peer, number) AS (
                (SELECT peer, 1::bigint FROM clean_up WHERE peer > coalesce($1, '') ORDER BY peer LIMIT 1)
                UNION ALL
                SELECT next.peer, peers.number + 1
                FROM peers CROSS JOIN LATERAL (
                    SELECT peer FROM clean_up WHERE clean_up.peer > peers.peer ORDER BY peer LIMIT 1) next
                WHERE peers.number < $2)
            SELECT peer FROM peers ORDER BY number",
    due: concat!(
        "SELECT peers.peer, due.*
         FROM unnest($1::text[], $2::bigint[]) AS peers (peer, room) CROSS JOIN LATERAL (
             SELECT ",
        columns!(),
        " FROM clean_up WHERE clean_up.peer = peers.peer AND due_at <= $3
             ORDER BY due_at LIMIT peers.room FOR UPDATE SKIP LOCKED) due"
    ),
    next_due: "SELECT min(next.due_at)
               FROM unnest($1::text[]) AS peers (peer) CROSS JOIN LATERAL (
                   SELECT due_at FROM clean_up WHERE clean_up.peer = peers.peer AND due_at > $2
                   ORDER BY due_at LIMIT 1) next",
    read: |columns, _, order| {
        let waits = read(columns, order.lease_until)?;
        Ok(CleanUp { tries: waits.tries.saturating_add(1), ..waits })
    },
};

fn read(columns: &mut Columns<'_>, due_at: Timestamp) -> Result<CleanUp, Fault> {
    Ok(CleanUp {
        id_scope: columns.parsed()?,
        hub: columns.parsed()?,
        device_id: columns.parsed()?,
        guid: columns.value()?,
        registration_id: columns.parsed()?,
        ordered_at: columns.time()?,
        confirm_at: columns.optional_time()?,
        tries: columns.number()?,
        problem: columns.value::<Option<&str>>()?.map(Into::into),
        due_at,
    })
}

/// Claims clean-ups.
pub(super) struct Claim<'w> {
    pub(super) order: &'w ClaimOrder,
}

#[async_trait]
impl Work for Claim<'_> {
    type Outcome = Claimed<CleanUp>;

    async fn run(&self, transaction: &Transaction<'_>) -> Result<Claimed<CleanUp>, Fault> {
        let claimed = ROWS.due(transaction, self.order).await?;
        if claimed.operations.is_empty() {
            return Ok(claimed);
        }
        let [scopes, hubs, device_ids] = keys(&claimed.operations);
        let lease_until = nanoseconds(self.order.lease_until)?;
        execute(transaction, LEASE, &[&scopes, &hubs, &device_ids, &lease_until]).await?;
        Ok(claimed)
    }
}

pub(super) const LEASE: &str = "UPDATE clean_up c SET tries = c.tries + 1, due_at = $4
     FROM unnest($1::text[], $2::text[], $3::text[]) AS claimed (id_scope, hub, device_id)
     WHERE c.id_scope = claimed.id_scope AND c.hub = claimed.hub AND c.device_id = claimed.device_id";

fn keys(clean_ups: &[CleanUp]) -> [Vec<&str>; 3] {
    [
        clean_ups.iter().map(|clean_up| clean_up.id_scope.folded()).collect(),
        clean_ups.iter().map(|clean_up| clean_up.hub.folded()).collect(),
        clean_ups.iter().map(|clean_up| clean_up.device_id.as_str()).collect(),
    ]
}

/// Orders one, unless the record has the device there. Spec: DPS-REG-44.
pub(super) struct PutStray<'w> {
    pub(super) clean_up: &'w CleanUp,
}

#[async_trait]
impl Work for PutStray<'_> {
    type Outcome = Commit;

    async fn run(&self, transaction: &Transaction<'_>) -> Result<Commit, Fault> {
        let clean_up = self.clean_up;
        let (scope, id) = (&clean_up.id_scope, &clean_up.registration_id);
        if instance::check_stays(transaction, scope).await?.is_err() {
            return Ok(Commit::Outdated);
        }
        let mut record = registration::find_locked(transaction, scope, id).await?;
        if record.is_none() {
            // It may be about to be made, by a commit that lets nothing be gone from there.
            registration::let_none_be_made(transaction).await?;
            record = registration::find_locked(transaction, scope, id).await?;
        }
        if record.is_some_and(|record| has_device_there(&record, clean_up)) {
            return Ok(Commit::Outdated);
        }
        let mut rows = Rows::default();
        rows.push(values(clean_up)?);
        execute(transaction, &PUT_ALL, &rows.params()).await?;
        Ok(Commit::Done)
    }
}

/// One row where the claim is there, and the newest; with the record of the device, seen at the same point in time.
pub(super) const STANDS: &str = concat!(
    "SELECT ",
    registration::columns!(),
    " FROM clean_up c
     LEFT JOIN registration r ON r.id_scope = $1 AND r.registration_id = $6
     WHERE c.id_scope = $1 AND c.hub = $2 AND c.device_id = $3 AND c.guid = $4 AND c.tries = $5"
);

/// Whether this claim is there, and the newest, and the record does not have the device there.
pub(super) async fn stands(on: &impl GenericClient, claimed: &CleanUp) -> Result<bool, Fault> {
    let CleanUp { id_scope, hub, device_id, guid, tries, registration_id, .. } = claimed;
    let (scope, hub, device_id) = (id_scope.folded(), hub.folded(), device_id.as_str());
    let tries = i64::from(*tries);
    let row =
        query_opt(on, STANDS, &[&scope, &hub, &device_id, guid, &tries, &registration_id.folded()]).await?;
    let Some(row) = row else { return Ok(false) };
    let mut columns = Columns::of(&row);
    if columns.is_null()? {
        return Ok(true);
    }
    let record = registration::read(&mut columns, id_scope)?;
    Ok(!has_device_there(&record, claimed))
}

/// Ends or postpones it, if the claim is its newest.
pub(super) struct Settle<'w> {
    pub(super) claimed: &'w CleanUp,
    pub(super) outcome: &'w CleanUpOutcome,
}

#[async_trait]
impl Work for Settle<'_> {
    type Outcome = Commit;

    async fn run(&self, transaction: &Transaction<'_>) -> Result<Commit, Fault> {
        let CleanUp { id_scope, hub, device_id, guid, tries, .. } = self.claimed;
        let (scope, hub, device_id) = (id_scope.folded(), hub.folded(), device_id.as_str());
        let tries = i64::from(*tries);
        let settled = match self.outcome {
            CleanUpOutcome::Done => {
                let delete = "DELETE FROM clean_up
                              WHERE id_scope = $1 AND hub = $2 AND device_id = $3 AND guid = $4 AND tries = $5";
                execute(transaction, delete, &[&scope, &hub, &device_id, guid, &tries]).await?
            }
            CleanUpOutcome::Again { until, problem } => {
                let update = "UPDATE clean_up SET due_at = $6, problem = $7
                              WHERE id_scope = $1 AND hub = $2 AND device_id = $3 AND guid = $4 AND tries = $5";
                let until = nanoseconds(*until)?;
                execute(transaction, update, &[&scope, &hub, &device_id, guid, &tries, &until, &&**problem])
                    .await?
            }
        };
        Ok(if settled == 1 { Commit::Done } else { Commit::Outdated })
    }
}

pub(super) const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM clean_up WHERE id_scope = $1 AND (hub, device_id) > ($2, $3) ORDER BY hub, device_id LIMIT $4"
);

/// Those of an instance after `after`, in the order of hub and device id.
pub(super) async fn list(
    on: &impl GenericClient,
    scope: &IdScope,
    after: Option<(&HubName, &DeviceId)>,
    limit: u32,
) -> Result<Vec<CleanUp>, Fault> {
    // No hub's name is empty, so all come after the empty text.
    let (hub, device_id) = after.map_or(("", ""), |(hub, device_id)| (hub.folded(), device_id.as_str()));
    let rows = query(on, LIST, &[&scope.folded(), &hub, &device_id, &i64::from(limit)]).await?;
    let mut clean_ups = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut columns = Columns::of(row);
        let due_at = columns.time()?;
        clean_ups.push(read(&mut columns, due_at)?);
    }
    Ok(clean_ups)
}
