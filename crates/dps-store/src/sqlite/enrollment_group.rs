//! Rows of `enrollment_group`.

use std::sync::Arc;

use dps_core::enrollment::{
    EnrollmentGroup, GroupAttestation, OPEN_GROUPS_MAX, PREFIXED_GROUPS_MAX, RegistrationIdPrefix,
};
use dps_core::ports::{Condition, StoreError, WriteError};
use dps_proto::ids::{EnrollmentGroupId, IdScope, RegistrationId};
use rusqlite::{Connection, OptionalExtension as _, Params, params};

use super::columns::{Columns, open_keys, seal_keys};
use super::conditional::Conditional;
use super::fault::Fault;
use super::settings::{self, SettingsColumns};
use crate::condition::permits_put;
use crate::sealing::Sealer;

const TABLE: Conditional = Conditional {
    select_etag: "SELECT etag FROM enrollment_group WHERE id_scope = ?1 AND enrollment_group_id = ?2",
    delete: "DELETE FROM enrollment_group WHERE id_scope = ?1 AND enrollment_group_id = ?2",
};

/// `sealed_keys` is what [`seal`] gave for this group.
pub(super) fn put(
    connection: &Connection,
    scope: &IdScope,
    group: &EnrollmentGroup,
    sealed_keys: &[u8],
    condition: &Condition,
) -> Result<Result<(), WriteError>, Fault> {
    let (scope, id) = (scope.folded(), &group.id);
    if let Err(refused) = permits_put(condition, TABLE.etag(connection, scope, id.folded())?.as_deref()) {
        return Ok(Err(refused));
    }
    let prefix = group.registration_id_prefix.as_ref().map(RegistrationIdPrefix::as_str);
    let stored = stored_prefix(connection, scope, id)?;
    match &group.registration_id_prefix {
        None => {
            let others = other_open_groups(connection, scope, id)?;
            if others >= OPEN_GROUPS_MAX {
                return Ok(Err(WriteError::TooManyOpenGroups(others)));
            }
        }
        Some(wanted) if stored != Some(Prefix::Of(wanted.clone())) => {
            let most = wanted.most_on_one_id(other_prefixes(connection, scope, id, wanted)?);
            if most > PREFIXED_GROUPS_MAX {
                return Ok(Err(WriteError::TooManyPrefixedGroups(most)));
            }
        }
        Some(_) => {}
    }
    let GroupAttestation::SymmetricKey(_) = group.attestation;
    let settings = SettingsColumns::of(&group.settings)?;
    connection
        .prepare_cached(
            "INSERT INTO enrollment_group (
                 id_scope, enrollment_group_id, enrollment_group_id_spelling, etag, created_at, updated_at,
                 registration_id_prefix, attestation, sealed_keys, provisioning_status, allocation_policy, hubs,
                 initial_twin, iot_edge, update_hub_assignment, migrate_device_data, other_members)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'symmetric_key', ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
             ON CONFLICT (id_scope, enrollment_group_id) DO UPDATE SET
                 etag = excluded.etag, updated_at = excluded.updated_at,
                 registration_id_prefix = excluded.registration_id_prefix, attestation = excluded.attestation,
                 sealed_keys = excluded.sealed_keys, provisioning_status = excluded.provisioning_status,
                 allocation_policy = excluded.allocation_policy, hubs = excluded.hubs,
                 initial_twin = excluded.initial_twin, iot_edge = excluded.iot_edge,
                 update_hub_assignment = excluded.update_hub_assignment,
                 migrate_device_data = excluded.migrate_device_data, other_members = excluded.other_members",
        )?
        .execute(params![
            scope,
            id.folded(),
            id.as_str(),
            settings.etag,
            settings.created_at,
            settings.updated_at,
            prefix,
            sealed_keys,
            settings.provisioning_status,
            settings.allocation_policy,
            settings.hubs,
            settings.initial_twin,
            settings.iot_edge,
            settings.update_hub_assignment,
            settings.migrate_device_data,
            settings.other_members,
        ])?;
    if prefix.is_none() || stored == Some(Prefix::None) {
        count_open_write(connection, scope)?;
    }
    Ok(Ok(()))
}

pub(super) fn delete(
    connection: &Connection,
    scope: &IdScope,
    id: &EnrollmentGroupId,
    condition: &Condition,
) -> Result<Result<(), WriteError>, Fault> {
    let stored = stored_prefix(connection, scope.folded(), id)?;
    let deleted = TABLE.delete(connection, scope.folded(), id.folded(), condition)?;
    if deleted.is_ok() && stored == Some(Prefix::None) {
        count_open_write(connection, scope.folded())?;
    }
    Ok(deleted)
}

/// The columns that [`read`] reads.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT g.etag, g.created_at, g.updated_at, g.enrollment_group_id_spelling, g.registration_id_prefix,
                    g.attestation, g.sealed_keys, g.provisioning_status, g.allocation_policy, g.hubs,
                    g.initial_twin, g.iot_edge, g.update_hub_assignment, g.migrate_device_data,
                    g.other_members ",
            $rest
        )
    };
}

pub(super) fn find(
    connection: &Connection,
    sealer: &Sealer,
    scope: &IdScope,
    id: &EnrollmentGroupId,
) -> Result<Option<Arc<EnrollmentGroup>>, Fault> {
    let query = select!("FROM enrollment_group g WHERE g.id_scope = ?1 AND g.enrollment_group_id = ?2");
    Ok(query_all(connection, sealer, scope, query, [scope.folded(), id.folded()])?.pop())
}

/// Those after `after`, in the order of their ids. Spec: DPS-STORE-11.
pub(super) fn list(
    connection: &Connection,
    sealer: &Sealer,
    scope: &IdScope,
    after: Option<&EnrollmentGroupId>,
    limit: u32,
) -> Result<Vec<Arc<EnrollmentGroup>>, Fault> {
    let query = select!(
        "FROM enrollment_group g WHERE g.id_scope = ?1 AND g.enrollment_group_id > ?2
         ORDER BY g.enrollment_group_id LIMIT ?3"
    );
    // No id is empty, so all come after the empty text.
    let after = after.map_or("", EnrollmentGroupId::folded);
    query_all(connection, sealer, scope, query, params![scope.folded(), after, limit])
}

/// One step in the index for each of the at most 128 beginnings of the id, however many groups there are.
pub(super) const SELECT_WITH_PREFIX_OF: &str = select!(
    "FROM (WITH RECURSIVE beginning (length) AS (
               SELECT 1 UNION ALL SELECT length + 1 FROM beginning WHERE length < length(?2))
           SELECT length FROM beginning) b
     CROSS JOIN enrollment_group g ON g.id_scope = ?1 AND g.registration_id_prefix = substr(?2, 1, b.length)
     ORDER BY b.length DESC, g.created_at, g.enrollment_group_id"
);

/// The groups whose prefix `id` begins with, longest first. Spec: DPS-REG-2.
pub(super) fn with_prefix_of(
    connection: &Connection,
    sealer: &Sealer,
    scope: &IdScope,
    id: &RegistrationId,
) -> Result<Vec<Arc<EnrollmentGroup>>, Fault> {
    query_all(connection, sealer, scope, SELECT_WITH_PREFIX_OF, [scope.folded(), id.folded()])
}

/// The groups without a prefix, oldest first. Spec: DPS-REG-2, DPS-REG-3.
pub(super) fn open_groups(
    connection: &Connection,
    sealer: &Sealer,
    scope: &IdScope,
) -> Result<Vec<Arc<EnrollmentGroup>>, Fault> {
    let query = select!(
        "FROM enrollment_group g WHERE g.id_scope = ?1 AND g.registration_id_prefix IS NULL
         ORDER BY g.created_at, g.enrollment_group_id"
    );
    query_all(connection, sealer, scope, query, [scope.folded()])
}

/// The etag of a group, if there is one.
pub(super) fn etag(
    connection: &Connection,
    scope: &IdScope,
    id: &EnrollmentGroupId,
) -> Result<Option<String>, Fault> {
    TABLE.etag(connection, scope.folded(), id.folded())
}

/// A number that changes with every write that a group without a prefix takes part in; `None` as long as there was none.
pub(super) fn version(connection: &Connection, scope: &IdScope) -> Result<Option<i64>, Fault> {
    let select = "SELECT version FROM enrollment_group_version WHERE id_scope = ?1";
    Ok(connection.prepare_cached(select)?.query_row([scope.folded()], |row| row.get(0)).optional()?)
}

/// The sealed keys of a group.
pub(super) fn seal(sealer: &Sealer, scope: &IdScope, group: &EnrollmentGroup) -> Result<Vec<u8>, StoreError> {
    let GroupAttestation::SymmetricKey(keys) = &group.attestation;
    seal_keys(sealer, &row_key(scope, &group.id), keys)
}

/// Spec: DPS-REG-3.
fn other_open_groups(connection: &Connection, scope: &str, id: &EnrollmentGroupId) -> Result<usize, Fault> {
    let select = "SELECT count(*) FROM enrollment_group
                  WHERE id_scope = ?1 AND registration_id_prefix IS NULL AND enrollment_group_id <> ?2";
    let count: i64 = connection.prepare_cached(select)?.query_row([scope, id.folded()], |row| row.get(0))?;
    // A count is never negative, and too many for the type are too many.
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

/// Of the other groups, those whose prefix is the beginning of `prefix` or goes on from it. Spec: DPS-REG-21.
fn other_prefixes(
    connection: &Connection,
    scope: &str,
    id: &EnrollmentGroupId,
    prefix: &RegistrationIdPrefix,
) -> Result<Vec<RegistrationIdPrefix>, Fault> {
    // No prefix holds a character as high as DEL.
    let select = "SELECT registration_id_prefix FROM enrollment_group
                  WHERE id_scope = ?1 AND enrollment_group_id <> ?2
                    AND registration_id_prefix >= ?3 AND registration_id_prefix < ?3 || char(127)
                  UNION ALL
                  SELECT g.registration_id_prefix
                  FROM (WITH RECURSIVE beginning (length) AS (
                            SELECT 1 UNION ALL SELECT length + 1 FROM beginning WHERE length < length(?3))
                        SELECT length FROM beginning WHERE length < length(?3)) b
                  CROSS JOIN enrollment_group g
                      ON g.id_scope = ?1 AND g.registration_id_prefix = substr(?3, 1, b.length)
                  WHERE g.enrollment_group_id <> ?2";
    let mut statement = connection.prepare_cached(select)?;
    let mut rows = statement.query([scope, id.folded(), prefix.as_str()])?;
    let mut prefixes = Vec::new();
    while let Some(row) = rows.next()? {
        prefixes.push(Columns::of(row).parsed()?);
    }
    Ok(prefixes)
}

/// The prefix of a stored group.
#[derive(PartialEq, Eq)]
enum Prefix {
    None,
    Of(RegistrationIdPrefix),
}

/// `None` where there is no such group.
fn stored_prefix(
    connection: &Connection,
    scope: &str,
    id: &EnrollmentGroupId,
) -> Result<Option<Prefix>, Fault> {
    let select = "SELECT registration_id_prefix FROM enrollment_group
                  WHERE id_scope = ?1 AND enrollment_group_id = ?2";
    let mut statement = connection.prepare_cached(select)?;
    let mut rows = statement.query([scope, id.folded()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(Columns::of(row).optional()?.map_or(Prefix::None, Prefix::Of)))
}

/// Counts a write to a group that has no prefix, or had none.
fn count_open_write(connection: &Connection, scope: &str) -> Result<(), Fault> {
    let upsert = "INSERT INTO enrollment_group_version (id_scope, version) VALUES (?1, 1)
                  ON CONFLICT (id_scope) DO UPDATE SET version = version + 1";
    connection.prepare_cached(upsert)?.execute([scope])?;
    Ok(())
}

fn query_all(
    connection: &Connection,
    sealer: &Sealer,
    scope: &IdScope,
    query: &str,
    params: impl Params,
) -> Result<Vec<Arc<EnrollmentGroup>>, Fault> {
    let mut statement = connection.prepare_cached(query)?;
    let mut rows = statement.query(params)?;
    let mut groups = Vec::new();
    while let Some(row) = rows.next()? {
        groups.push(Arc::new(read(&mut Columns::of(row), sealer, scope)?));
    }
    Ok(groups)
}

fn read(columns: &mut Columns<'_>, sealer: &Sealer, scope: &IdScope) -> Result<EnrollmentGroup, Fault> {
    let version = settings::read_version(columns)?;
    let id = columns.parsed()?;
    let registration_id_prefix = columns.optional()?;
    let row_key = row_key(scope, &id);
    let attestation: String = columns.value()?;
    let sealed: Option<Vec<u8>> = columns.value()?;
    let attestation = match (attestation.as_str(), sealed) {
        ("symmetric_key", Some(sealed)) => {
            GroupAttestation::SymmetricKey(open_keys(sealer, &row_key, &sealed)?)
        }
        _ => {
            let why =
                format!("{row_key} has an attestation {attestation:?} that its columns do not bear out");
            return Err(Fault::unreadable(why));
        }
    };
    Ok(EnrollmentGroup {
        id,
        registration_id_prefix,
        attestation,
        settings: settings::read(columns, version)?,
    })
}

fn row_key(scope: &IdScope, id: &EnrollmentGroupId) -> String {
    format!("enrollment-group/{}/{}", scope.folded(), id.folded())
}
