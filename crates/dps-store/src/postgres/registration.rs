//! Rows of `registration`.

use std::sync::LazyLock;

use async_trait::async_trait;
use deadpool_postgres::{GenericClient, Transaction};
use dps_core::audit::{Action, Subject};
use dps_core::enrollment::EntryRef;
use dps_core::ports::{StoreError, WriteError, WriteOrder};
use dps_core::registration::{JsonText, Operation, Registration, State};
use dps_proto::ids::{EnrollmentGroupId, IdScope, RegistrationId};

use super::assignment;
use super::audit::Change;
use super::columns::Columns;
use super::conditional::Conditional;
use super::fault::Fault;
use super::placing::{self, Waits};
use super::table::{Table, Value};
use super::transaction::{Work, query, query_opt};
use crate::failure_columns::{self, FailureColumns};
use crate::record_columns::{AssignmentColumns, WaitingColumns};
use crate::times::nanoseconds;
use crate::words::Word as _;

const ON_CONDITION: Conditional = Conditional {
    lock_etag: "SELECT etag FROM registration WHERE id_scope = $1 AND registration_id = $2 FOR UPDATE",
    delete: "DELETE FROM registration WHERE id_scope = $1 AND registration_id = $2",
};

const TABLE: Table = Table {
    name: "registration",
    key: 2,
    made_with: 2,
    columns: &[
        ("id_scope", "text"),
        ("registration_id", "text"),
        ("registration_id_spelling", "text"),
        ("created_at", "bigint"),
        ("etag", "text"),
        ("updated_at", "bigint"),
        ("entry_kind", "text"),
        ("entry_id", "text"),
        ("entry_id_spelling", "text"),
        ("operation_guid", "uuid"),
        ("operation_began_at", "bigint"),
        ("operation_storage_root_key", "bytea"),
        ("payload", "text"),
        ("strays_until", "bigint"),
        ("state", "text"),
        ("substatus", "text"),
        ("failure", "text"),
        ("failure_status", "bigint"),
        ("failure_said", "text"),
        ("hub", "text"),
        ("device_id", "text"),
        ("derived_spelling", "text"),
        ("thumbprint", "bytea"),
        ("storage_root_key", "bytea"),
        ("target_hub", "text"),
        ("target_device_id", "text"),
        ("target_derived_spelling", "text"),
        ("target_thumbprint", "bytea"),
        ("target_storage_root_key", "bytea"),
        ("waiting_kind", "text"),
        ("waiting_peer", "text"),
        ("waiting_tries", "bigint"),
        ("waiting_due_at", "bigint"),
        ("waiting_payload", "text"),
        ("waiting_certificate", "bytea"),
        ("waiting_predates", "boolean"),
        ("waiting_takes_along", "boolean"),
        ("waiting_iot_edge", "boolean"),
        ("waiting_initial_twin", "text"),
        ("waiting_since", "bigint"),
        ("waiting_unanswered_at", "bigint"),
        ("waiting_is_leased", "boolean"),
    ],
};

/// Makes records of devices that have none.
pub(super) static INSERT_ALL: LazyLock<String> = LazyLock::new(|| TABLE.insert_all());
/// Writes records over.
pub(super) static REPLACE_ALL: LazyLock<String> = LazyLock::new(|| TABLE.replace_all());

/// The columns that [`read`] reads, of the table that is called `r`.
macro_rules! columns {
    () => {
        "r.registration_id_spelling, r.created_at, r.etag, r.updated_at, r.entry_kind, r.entry_id_spelling,
         r.operation_guid, r.operation_began_at, r.operation_storage_root_key, r.payload, r.strays_until,
         r.state, r.substatus, r.failure, r.failure_status, r.failure_said,
         r.hub, r.device_id, r.derived_spelling, r.thumbprint, r.storage_root_key,
         r.target_hub, r.target_device_id, r.target_derived_spelling, r.target_thumbprint, r.target_storage_root_key,
         r.waiting_kind, r.waiting_peer, r.waiting_tries, r.waiting_due_at,
         r.waiting_payload, r.waiting_certificate, r.waiting_predates,
         r.waiting_takes_along, r.waiting_iot_edge, r.waiting_initial_twin, r.waiting_since, r.waiting_unanswered_at"
    };
}
pub(super) use columns;

/// How many columns [`read`] reads.
pub(super) const COLUMNS: usize = 38;

/// The row of a record, as it is written.
pub(super) fn values(record: &Registration) -> Result<Vec<Value<'_>>, StoreError> {
    let (entry_kind, entry_id, entry_id_spelling) = match &record.entry {
        EntryRef::Individual(id) => ("individual", id.folded(), id.as_str()),
        EntryRef::Group(id) => ("group", id.folded(), id.as_str()),
    };
    let (state, substatus, failure) = match &record.state {
        State::Choosing { .. } => ("choosing", None, FailureColumns::default()),
        State::Assigning { .. } => ("assigning", None, FailureColumns::default()),
        State::Assigned { substatus, .. } => ("assigned", Some(substatus.word()), FailureColumns::default()),
        State::Failed { failure, .. } => ("failed", None, FailureColumns::of(failure)),
        State::Disabled { .. } => ("disabled", None, FailureColumns::default()),
    };
    let lives = AssignmentColumns::of(record.assignment());
    let target = match &record.state {
        State::Choosing { waiting, .. } => AssignmentColumns::by(&waiting.credential),
        State::Assigning { placing, .. } => AssignmentColumns::of(Some(&placing.target)),
        State::Assigned { .. } | State::Failed { .. } | State::Disabled { .. } => {
            AssignmentColumns::default()
        }
    };
    let waiting = WaitingColumns::of(&record.state)?;
    Ok(vec![
        record.id_scope.folded().into(),
        record.registration_id.folded().into(),
        record.registration_id.as_str().into(),
        nanoseconds(record.created_at)?.into(),
        record.etag.as_str().into(),
        nanoseconds(record.updated_at)?.into(),
        entry_kind.into(),
        entry_id.into(),
        entry_id_spelling.into(),
        record.operation.guid.into(),
        nanoseconds(record.operation.began_at)?.into(),
        record.storage_root_key.as_deref().into(),
        record.payload.as_ref().map(|payload| &*payload.0).into(),
        record.strays_until.map(nanoseconds).transpose()?.into(),
        state.into(),
        substatus.into(),
        failure.word.into(),
        failure.status.into(),
        failure.said.into(),
        lives.hub.into(),
        lives.device_id.into(),
        lives.derived_spelling.into(),
        lives.thumbprint.into(),
        lives.storage_root_key.into(),
        target.hub.into(),
        target.device_id.into(),
        target.derived_spelling.into(),
        target.thumbprint.into(),
        target.storage_root_key.into(),
        waiting.kind.into(),
        waiting.peer.into(),
        waiting.tries.into(),
        waiting.due_at.into(),
        waiting.payload.into(),
        waiting.certificate.into(),
        waiting.predates.into(),
        waiting.takes_along.into(),
        waiting.iot_edge.into(),
        waiting.initial_twin.into(),
        waiting.since.into(),
        waiting.unanswered_at.into(),
        waiting.kind.map(|_| false).into(),
    ])
}

/// A record that nobody writes to before the transaction has ended. Where there is none, another node may make one meanwhile.
pub(super) async fn find_locked(
    transaction: &Transaction<'_>,
    scope: &IdScope,
    id: &RegistrationId,
) -> Result<Option<Registration>, Fault> {
    let select = concat!(
        "SELECT ",
        columns!(),
        " FROM registration r WHERE r.id_scope = $1 AND r.registration_id = $2 FOR UPDATE"
    );
    let row = query_opt(transaction, select, &[&scope.folded(), &id.folded()]).await?;
    row.map(|row| read(&mut Columns::of(&row), scope)).transpose()
}

/// Waits for records that are being written, and lets no other be written before the transaction has ended.
pub(super) async fn let_none_be_made(transaction: &Transaction<'_>) -> Result<(), Fault> {
    Ok(transaction.batch_execute("LOCK TABLE registration IN SHARE MODE").await?)
}

/// Those of a group after `after`, in the order of their ids. Spec: DPS-STORE-11.
pub(super) async fn of_group(
    on: &impl GenericClient,
    scope: &IdScope,
    group: &EnrollmentGroupId,
    after: Option<&RegistrationId>,
    limit: u32,
) -> Result<Vec<Registration>, Fault> {
    // No id is empty, so all come after the empty text.
    let (after, limit) = (after.map_or("", RegistrationId::folded), i64::from(limit));
    let rows = query(on, OF_GROUP, &[&scope.folded(), &group.folded(), &after, &limit]).await?;
    rows.iter().map(|row| read(&mut Columns::of(row), scope)).collect()
}

pub(super) const OF_GROUP: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM registration r
     WHERE r.id_scope = $1 AND r.entry_kind = 'group' AND r.entry_id = $2 AND r.registration_id > $3
     ORDER BY r.registration_id LIMIT $4"
);

pub(super) fn read(columns: &mut Columns<'_>, scope: &IdScope) -> Result<Registration, Fault> {
    let registration_id = columns.parsed()?;
    let (created_at, etag, updated_at) = (columns.time()?, columns.parsed()?, columns.time()?);
    Ok(Registration {
        id_scope: scope.clone(),
        registration_id,
        entry: read_entry(columns)?,
        created_at,
        updated_at,
        etag,
        operation: Operation { guid: columns.value()?, began_at: columns.time()? },
        storage_root_key: columns.value::<Option<&[u8]>>()?.map(Into::into),
        payload: columns.value::<Option<&str>>()?.map(|text| JsonText(text.into())),
        strays_until: columns.optional_time()?,
        state: read_state(columns)?,
    })
}

fn read_entry(columns: &mut Columns<'_>) -> Result<EntryRef, Fault> {
    let kind: &str = columns.value()?;
    match kind {
        "individual" => Ok(EntryRef::Individual(columns.parsed()?)),
        "group" => Ok(EntryRef::Group(columns.parsed()?)),
        _ => Err(columns.unreadable(format!("{kind:?} is no kind of entry"))),
    }
}

fn read_state(columns: &mut Columns<'_>) -> Result<State, Fault> {
    let state: &str = columns.value()?;
    let substatus = columns.optional_word()?;
    let text: Option<&str> = columns.value()?;
    let (status, said): (Option<u16>, Option<&str>) = (columns.optional_number()?, columns.value()?);
    let failure = failure_columns::failure(text, status, said.map(Into::into))
        .map_err(|why| columns.unreadable(why))?;
    let (last, _) = assignment::read(columns)?;
    let (target, credential) = assignment::read(columns)?;
    let waits = placing::read(columns, target.as_ref(), credential)?;
    match (state, substatus, failure, last, target, waits) {
        ("choosing", None, None, last, None, Some(Waits::ForWebhook(waiting))) => {
            Ok(State::Choosing { waiting, last })
        }
        ("assigning", None, None, last, Some(_), Some(Waits::ForHub(placing))) => {
            Ok(State::Assigning { placing, last })
        }
        ("assigned", Some(substatus), None, Some(assignment), None, None) => {
            Ok(State::Assigned { assignment, substatus })
        }
        ("failed", None, Some(failure), last, None, None) => Ok(State::Failed { failure, last }),
        ("disabled", None, None, last, None, None) => Ok(State::Disabled { last }),
        _ => Err(Fault::unreadable(format!("a record is {state:?}, which its columns do not bear out"))),
    }
}

/// Deletes a record.
pub(super) struct Delete<'w> {
    pub(super) scope: &'w IdScope,
    pub(super) id: &'w RegistrationId,
    pub(super) order: &'w WriteOrder,
}

#[async_trait]
impl Work for Delete<'_> {
    type Outcome = Result<(), WriteError>;

    async fn run(&self, transaction: &Transaction<'_>) -> Result<Self::Outcome, Fault> {
        let Self { scope, id, order } = self;
        let key = (scope.folded(), id.folded());
        if let Err(refused) = ON_CONDITION.delete(transaction, key, &order.condition).await? {
            return Ok(Err(refused));
        }
        let change = Change { scope, subject: Subject::Registration((*id).clone()), etag: None };
        change.write(transaction, order.by.as_deref(), Action::Deleted).await?;
        Ok(Ok(()))
    }
}
