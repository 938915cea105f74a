//! Rows of `registration`.

use dps_core::enrollment::EntryRef;
use dps_core::ports::{Commit, RegistrationWrite};
use dps_core::registration::{JsonText, Operation, Registration, State};
use dps_proto::ids::{ETag, EnrollmentGroupId, IdScope, RegistrationId};
use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

use super::assignment;
use super::columns::Columns;
use super::conditional::Conditional;
use super::fault::Fault;
use super::placing::{self, Waits};
use super::{enrollment_group, hub_write, individual_enrollment};
use crate::failure_columns::{self, FailureColumns};
use crate::record_columns::{AssignmentColumns, WaitingColumns};
use crate::times::nanoseconds;
use crate::words::Word as _;

pub(super) const TABLE: Conditional = Conditional {
    select_etag: "SELECT etag FROM registration WHERE id_scope = ?1 AND registration_id = ?2",
    delete: "DELETE FROM registration WHERE id_scope = ?1 AND registration_id = ?2",
};

/// Writes the record and what its hub wants, or nothing. `sealed_keys` is what [`super::hub_device::seal`] gave for each
/// of the hub's writes. Spec: DPS-STORE-4, DPS-STORE-5, DPS-STORE-24, DPS-REG-13.
pub(super) fn commit(
    connection: &Connection,
    write: &RegistrationWrite,
    sealed_keys: &[Vec<u8>],
) -> Result<Commit, Fault> {
    let record = &write.registration;
    let (scope, id) = (record.id_scope.folded(), record.registration_id.folded());
    if let Some((entry, etag)) = &write.decided_on
        && entry_etag(connection, &record.id_scope, entry)?.as_deref() != Some(etag.as_str())
    {
        return Ok(Commit::Outdated);
    }
    let (is_instance_there, stored) = stands(connection, scope, id)?;
    if !is_instance_there || stored.as_deref() != write.replaces.as_ref().map(ETag::as_str) {
        return Ok(Commit::Outdated);
    }
    if let Some(claim) = write.under_claim
        && newest_claim(connection, scope, id)? != Some(claim)
    {
        return Ok(Commit::Outdated);
    }
    put(connection, record)?;
    hub_write::all(connection, &write.hub_writes, sealed_keys, nanoseconds(record.updated_at)?)?;
    Ok(Commit::Done)
}

/// Whether something is left of the instance, and the etag of the record.
fn stands(connection: &Connection, scope: &str, id: &str) -> Result<(bool, Option<String>), Fault> {
    let select = "SELECT EXISTS (SELECT 1 FROM instance WHERE id_scope = ?1),
            (SELECT etag FROM registration WHERE id_scope = ?1 AND registration_id = ?2)";
    let mut statement = connection.prepare_cached(select)?;
    Ok(statement.query_row([scope, id], |row| Ok((row.get(0)?, row.get(1)?)))?)
}

/// The number of the newest claim of an operation that waits.
fn newest_claim(connection: &Connection, scope: &str, id: &str) -> Result<Option<u32>, Fault> {
    let select = "SELECT waiting_tries FROM registration WHERE id_scope = ?1 AND registration_id = ?2";
    let mut statement = connection.prepare_cached(select)?;
    Ok(statement.query_row([scope, id], |row| row.get(0)).optional()?.flatten())
}

/// The columns that [`read`] reads.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT registration_id_spelling, entry_kind, entry_id_spelling, created_at, updated_at, etag,
                    operation_guid, operation_began_at, operation_storage_root_key, payload, strays_until,
                    state, substatus, failure, failure_status, failure_said,
                    hub, device_id, derived_spelling, thumbprint, storage_root_key,
                    target_hub, target_device_id, target_derived_spelling, target_thumbprint,
                    target_storage_root_key, waiting_kind, waiting_host, waiting_tries, waiting_due_at,
                    waiting_payload, waiting_certificate, waiting_predates,
                    waiting_takes_along, waiting_iot_edge, waiting_initial_twin, waiting_since,
                    waiting_unanswered_at
             FROM registration ",
            $rest
        )
    };
}

pub(super) fn find(
    connection: &Connection,
    scope: &IdScope,
    id: &RegistrationId,
) -> Result<Option<Registration>, Fault> {
    let query = select!("WHERE id_scope = ?1 AND registration_id = ?2");
    let mut statement = connection.prepare_cached(query)?;
    let mut rows = statement.query([scope.folded(), id.folded()])?;
    rows.next()?.map(|row| read(&mut Columns::of(row), scope)).transpose()
}

/// Those of a group after `after`, in the order of their ids. Spec: DPS-STORE-11.
pub(super) fn of_group(
    connection: &Connection,
    scope: &IdScope,
    group: &EnrollmentGroupId,
    after: Option<&RegistrationId>,
    limit: u32,
) -> Result<Vec<Registration>, Fault> {
    let query = select!(
        "WHERE id_scope = ?1 AND entry_kind = 'group' AND entry_id = ?2 AND registration_id > ?3
         ORDER BY registration_id LIMIT ?4"
    );
    let mut statement = connection.prepare_cached(query)?;
    // No id is empty, so all come after the empty text.
    let after = after.map_or("", RegistrationId::folded);
    let mut rows = statement.query(params![scope.folded(), group.folded(), after, limit])?;
    let mut registrations = Vec::new();
    while let Some(row) = rows.next()? {
        registrations.push(read(&mut Columns::of(row), scope)?);
    }
    Ok(registrations)
}

fn read(columns: &mut Columns<'_>, scope: &IdScope) -> Result<Registration, Fault> {
    Ok(Registration {
        id_scope: scope.clone(),
        registration_id: columns.parsed()?,
        entry: read_entry(columns)?,
        created_at: columns.time()?,
        updated_at: columns.time()?,
        etag: columns.parsed()?,
        operation: Operation { guid: Uuid::from_bytes(columns.value()?), began_at: columns.time()? },
        storage_root_key: columns.value::<Option<Vec<u8>>>()?.map(Into::into),
        payload: columns.value::<Option<Box<str>>>()?.map(JsonText),
        strays_until: columns.optional_time()?,
        state: read_state(columns)?,
    })
}

fn entry_etag(connection: &Connection, scope: &IdScope, entry: &EntryRef) -> Result<Option<String>, Fault> {
    match entry {
        EntryRef::Individual(id) => {
            individual_enrollment::TABLE.etag(connection, scope.folded(), id.folded())
        }
        EntryRef::Group(id) => enrollment_group::etag(connection, scope, id),
    }
}

fn put(connection: &Connection, record: &Registration) -> Result<(), Fault> {
    let (entry_kind, entry_id, entry_id_spelling) = match &record.entry {
        EntryRef::Individual(id) => ("individual", id.folded(), id.as_str()),
        EntryRef::Group(id) => ("group", id.folded(), id.as_str()),
    };
    let (state, substatus) = match &record.state {
        State::Choosing { .. } => ("choosing", None),
        State::Assigning { .. } => ("assigning", None),
        State::Assigned { substatus, .. } => ("assigned", Some(substatus.word())),
        State::Failed { .. } => ("failed", None),
        State::Disabled { .. } => ("disabled", None),
    };
    let failure = match &record.state {
        State::Failed { failure, .. } => FailureColumns::of(failure),
        _ => FailureColumns::default(),
    };
    let lives = AssignmentColumns::of(record.assignment());
    let target = match &record.state {
        State::Choosing { waiting, .. } => AssignmentColumns::by(&waiting.credential),
        State::Assigning { placing, .. } => AssignmentColumns::of(Some(&placing.target)),
        _ => AssignmentColumns::default(),
    };
    let waits = WaitingColumns::of(&record.state)?;
    connection
        .prepare_cached(
            "INSERT INTO registration (
                 id_scope, registration_id, registration_id_spelling, etag, created_at, updated_at,
                 entry_kind, entry_id, entry_id_spelling, operation_guid, operation_began_at,
                 state, substatus, failure, hub, device_id, derived_spelling,
                 target_hub, target_device_id, target_derived_spelling, thumbprint, target_thumbprint,
                 storage_root_key, target_storage_root_key, operation_storage_root_key, payload, failure_status,
                 failure_said, strays_until,
                 waiting_due_at, waiting_host, waiting_tries, waiting_payload, waiting_certificate, waiting_predates,
                 waiting_kind, waiting_takes_along, waiting_iot_edge, waiting_initial_twin, waiting_since,
                 waiting_unanswered_at, waiting_is_leased)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21,
                 ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36, ?37, ?38, ?39, ?40, ?41,
                 0)
             ON CONFLICT (id_scope, registration_id) DO UPDATE SET
                 etag = excluded.etag, updated_at = excluded.updated_at, entry_kind = excluded.entry_kind,
                 entry_id = excluded.entry_id, entry_id_spelling = excluded.entry_id_spelling,
                 operation_guid = excluded.operation_guid, operation_began_at = excluded.operation_began_at,
                 state = excluded.state, substatus = excluded.substatus, failure = excluded.failure,
                 hub = excluded.hub, device_id = excluded.device_id, derived_spelling = excluded.derived_spelling,
                 target_hub = excluded.target_hub, target_device_id = excluded.target_device_id,
                 target_derived_spelling = excluded.target_derived_spelling,
                 thumbprint = excluded.thumbprint, target_thumbprint = excluded.target_thumbprint,
                 storage_root_key = excluded.storage_root_key,
                 target_storage_root_key = excluded.target_storage_root_key,
                 operation_storage_root_key = excluded.operation_storage_root_key,
                 payload = excluded.payload, failure_status = excluded.failure_status,
                 failure_said = excluded.failure_said, strays_until = excluded.strays_until,
                 waiting_due_at = excluded.waiting_due_at, waiting_host = excluded.waiting_host,
                 waiting_tries = excluded.waiting_tries, waiting_payload = excluded.waiting_payload,
                 waiting_certificate = excluded.waiting_certificate,
                 waiting_predates = excluded.waiting_predates, waiting_kind = excluded.waiting_kind,
                 waiting_takes_along = excluded.waiting_takes_along,
                 waiting_iot_edge = excluded.waiting_iot_edge,
                 waiting_initial_twin = excluded.waiting_initial_twin, waiting_since = excluded.waiting_since,
                 waiting_unanswered_at = excluded.waiting_unanswered_at,
                 waiting_is_leased = excluded.waiting_is_leased",
        )?
        .execute(params![
            record.id_scope.folded(),
            record.registration_id.folded(),
            record.registration_id.as_str(),
            record.etag.as_str(),
            nanoseconds(record.created_at)?,
            nanoseconds(record.updated_at)?,
            entry_kind,
            entry_id,
            entry_id_spelling,
            record.operation.guid.as_bytes(),
            nanoseconds(record.operation.began_at)?,
            state,
            substatus,
            failure.word,
            lives.hub,
            lives.device_id,
            lives.derived_spelling,
            target.hub,
            target.device_id,
            target.derived_spelling,
            lives.thumbprint,
            target.thumbprint,
            lives.storage_root_key,
            target.storage_root_key,
            record.storage_root_key.as_deref(),
            record.payload.as_ref().map(|payload| &*payload.0),
            failure.status,
            failure.said,
            record.strays_until.map(nanoseconds).transpose()?,
            waits.due_at,
            waits.peer,
            waits.tries,
            waits.payload,
            waits.certificate,
            waits.predates,
            waits.kind,
            waits.takes_along,
            waits.iot_edge,
            waits.initial_twin,
            waits.since,
            waits.unanswered_at,
        ])?;
    Ok(())
}

fn read_entry(columns: &mut Columns<'_>) -> Result<EntryRef, Fault> {
    let kind: String = columns.value()?;
    match kind.as_str() {
        "individual" => Ok(EntryRef::Individual(columns.parsed()?)),
        "group" => Ok(EntryRef::Group(columns.parsed()?)),
        _ => Err(columns.unreadable(format!("{kind:?} is no kind of entry"))),
    }
}

fn read_state(columns: &mut Columns<'_>) -> Result<State, Fault> {
    let state: String = columns.value()?;
    let substatus = columns.optional_word()?;
    let (text, status, said): (Option<String>, Option<u16>, Option<Box<str>>) =
        (columns.value()?, columns.value()?, columns.value()?);
    let failure =
        failure_columns::failure(text.as_deref(), status, said).map_err(|why| columns.unreadable(why))?;
    let (last, _) = assignment::read(columns)?;
    let (target, credential) = assignment::read(columns)?;
    let waits = placing::read(columns, target.as_ref(), credential)?;
    match (state.as_str(), substatus, failure, last, target, waits) {
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
