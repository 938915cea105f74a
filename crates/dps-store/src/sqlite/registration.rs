//! Rows of `registration`.

use dps_core::enrollment::EntryRef;
use dps_core::ports::{Commit, RegistrationWrite, StoreError};
use dps_core::registration::{Assignment, HubCredential, Operation, Registration, State};
use dps_proto::ids::{ETag, EnrollmentGroupId, HubName, IdScope, RegistrationId};
use rusqlite::{Connection, params};
use uuid::Uuid;

use super::columns::{Columns, Word as _, nanoseconds};
use super::conditional::Conditional;
use super::fault::Fault;
use super::{enrollment_group, hub_device, individual_enrollment, signers};

pub(super) const TABLE: Conditional = Conditional {
    select_etag: "SELECT etag FROM registration WHERE id_scope = ?1 AND registration_id = ?2",
    delete: "DELETE FROM registration WHERE id_scope = ?1 AND registration_id = ?2",
};

/// Writes the record and what its hub wants, or nothing. `sealed_keys` is what [`hub_device::seal`] gave for each of the hub's
/// writes. Spec: DPS-STORE-4, DPS-STORE-5, DPS-REG-13.
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
    if TABLE.etag(connection, scope, id)?.as_deref() != write.replaces.as_ref().map(ETag::as_str) {
        return Ok(Commit::Outdated);
    }
    put(connection, record)?;
    hub_device::write(connection, &write.hub_writes, sealed_keys, nanoseconds(record.updated_at)?)?;
    Ok(Commit::Done)
}

/// The columns that [`read`] reads.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT registration_id_spelling, entry_kind, entry_id_spelling, created_at, updated_at, etag,
                    operation_guid, operation_began_at, operation_storage_root_key, state, substatus, failure,
                    hub, device_id, derived_spelling, thumbprint, storage_root_key,
                    target_hub, target_device_id, target_derived_spelling, target_thumbprint,
                    target_storage_root_key
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
    let (state, substatus, failure, target) = match &record.state {
        State::Assigning { target, .. } => ("assigning", None, None, Some(target)),
        State::Assigned { substatus, .. } => ("assigned", Some(substatus.word()), None, None),
        State::Failed { failure, .. } => ("failed", None, Some(failure.word()), None),
        State::Disabled { .. } => ("disabled", None, None, None),
    };
    let lives = AssignmentColumns::of(record.assignment());
    let target = AssignmentColumns::of(target);
    connection
        .prepare_cached(
            "INSERT INTO registration (
                 id_scope, registration_id, registration_id_spelling, etag, created_at, updated_at,
                 entry_kind, entry_id, entry_id_spelling, operation_guid, operation_began_at,
                 state, substatus, failure, hub, device_id, derived_spelling,
                 target_hub, target_device_id, target_derived_spelling, thumbprint, target_thumbprint,
                 storage_root_key, target_storage_root_key, operation_storage_root_key)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21,
                 ?22, ?23, ?24, ?25)
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
                 operation_storage_root_key = excluded.operation_storage_root_key",
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
            failure,
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
        ])?;
    Ok(())
}

/// All NULL where there is no assignment.
#[derive(Default)]
struct AssignmentColumns<'record> {
    hub: Option<&'record str>,
    device_id: Option<&'record str>,
    derived_spelling: Option<&'record str>,
    thumbprint: Option<&'record [u8; 32]>,
    storage_root_key: Option<&'record [u8]>,
}

impl<'record> AssignmentColumns<'record> {
    fn of(assignment: Option<&'record Assignment>) -> Self {
        let Some(assignment) = assignment else { return Self::default() };
        let (hub, device_id) = (Some(assignment.hub.as_str()), Some(assignment.device_id.as_str()));
        let bare = Self { hub, device_id, ..Self::default() };
        match &assignment.credential {
            HubCredential::EnrollmentKeys => bare,
            HubCredential::DerivedKeys { spelling } => Self { derived_spelling: Some(spelling), ..bare },
            HubCredential::Certificate { thumbprint } => {
                Self { thumbprint: Some(thumbprint.as_bytes()), ..bare }
            }
            HubCredential::Tpm { storage_root_key } => {
                Self { storage_root_key: Some(storage_root_key), ..bare }
            }
        }
    }
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
    let failure = columns.optional_word()?;
    let last = read_assignment(columns)?;
    let target = read_assignment(columns)?;
    match (state.as_str(), substatus, failure, last, target) {
        ("assigning", None, None, last, Some(target)) => Ok(State::Assigning { target, last }),
        ("assigned", Some(substatus), None, Some(assignment), None) => {
            Ok(State::Assigned { assignment, substatus })
        }
        ("failed", None, Some(failure), last, None) => Ok(State::Failed { failure, last }),
        ("disabled", None, None, last, None) => Ok(State::Disabled { last }),
        _ => Err(Fault(StoreError::Unreadable(format!(
            "a record is {state:?}, which its columns do not bear out"
        )))),
    }
}

fn read_assignment(columns: &mut Columns<'_>) -> Result<Option<Assignment>, Fault> {
    let hub: Option<HubName> = columns.optional()?;
    let device_id = columns.optional()?;
    let derived_spelling: Option<Box<str>> = columns.value()?;
    let thumbprint = signers::thumbprint(columns)?;
    let storage_root_key: Option<Vec<u8>> = columns.value()?;
    let (Some(hub), Some(device_id)) = (hub, device_id) else { return Ok(None) };
    let credential = match (derived_spelling, thumbprint, storage_root_key) {
        (Some(spelling), _, _) => HubCredential::DerivedKeys { spelling },
        (None, Some(thumbprint), _) => HubCredential::Certificate { thumbprint },
        (None, None, Some(key)) => HubCredential::Tpm { storage_root_key: key.into() },
        (None, None, None) => HubCredential::EnrollmentKeys,
    };
    Ok(Some(Assignment { hub, device_id, credential }))
}
