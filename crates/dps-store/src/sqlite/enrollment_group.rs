//! Rows of `enrollment_group`.

use std::collections::BTreeSet;
use std::sync::Arc;

use dps_core::ca_certificate::CaName;
use dps_core::enrollment::{
    EnrollmentGroup, GROUPS_OF_ONE_SUBJECT_MAX, GroupAttestation, OPEN_GROUPS_MAX, PREFIXED_GROUPS_MAX,
    RegistrationIdPrefix, Signers,
};
use dps_core::entry_filter::EntryFilter;
use dps_core::ports::{AnchorsWanted, Condition, StoreError, WriteError};
use dps_core::x509::NameKey;
use dps_proto::ids::{EnrollmentGroupId, IdScope, RegistrationId};
use rusqlite::{Connection, Params, params, params_from_iter};

use super::columns::Columns;
use super::conditional::Conditional;
use super::entry_clause::EntryClause;
use super::fault::Fault;
use super::remembered::Versioned;
use super::settings::{self, SealedEntry, SettingsColumns};
use super::{instance, signers};
use crate::condition::permits_put;
use crate::remembered_certificates;
use crate::sealed_keys::{open_keys, seal_keys};
use crate::sealing::Sealer;
use crate::signer_columns::SignerColumns;

const TABLE: Conditional = Conditional {
    select_etag: "SELECT etag FROM enrollment_group WHERE id_scope = ?1 AND enrollment_group_id = ?2",
    delete: "DELETE FROM enrollment_group WHERE id_scope = ?1 AND enrollment_group_id = ?2",
};

/// The columns that [`read`] reads.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT g.etag, g.created_at, g.updated_at, g.enrollment_group_id_spelling, g.registration_id_prefix,
                    g.attestation, g.sealed_keys, g.provisioning_status, g.allocation_policy, g.hubs,
                    g.initial_twin, g.iot_edge, g.update_hub_assignment, g.migrate_device_data,
                    g.other_members, g.sealed_webhook_url, g.webhook_api_version, g.primary_certificate, g.secondary_certificate, g.primary_ca_spelling,
                    g.secondary_ca_spelling ",
            $rest
        )
    };
}

/// The groups without a prefix, remembered. Spec: DPS-REG-2, DPS-REG-3.
pub(super) struct OpenGroups;

impl Versioned for OpenGroups {
    type Item = EnrollmentGroup;
    const SELECT_VERSION: &'static str = "SELECT version FROM enrollment_group_version WHERE id_scope = ?1";

    fn read(
        connection: &Connection,
        sealer: &Sealer,
        scope: &IdScope,
    ) -> Result<Vec<Arc<EnrollmentGroup>>, Fault> {
        let query = select!(
            "FROM enrollment_group g
             WHERE g.id_scope = ?1 AND g.registration_id_prefix IS NULL AND g.attestation = 'symmetric_key'
             ORDER BY g.created_at, g.enrollment_group_id"
        );
        query_all(connection, sealer, scope, query, [scope.folded()])
    }
}

/// `sealed` is what [`seal`] gave for this group.
pub(super) fn put(
    connection: &Connection,
    scope: &IdScope,
    group: &EnrollmentGroup,
    sealed: &SealedEntry,
    condition: &Condition,
) -> Result<Result<(), WriteError>, Fault> {
    if let Err(refused) = instance::check_is_there(connection, scope)? {
        return Ok(Err(refused));
    }
    let (scope, id) = (scope.folded(), &group.id);
    if let Err(refused) = permits_put(condition, TABLE.etag(connection, scope, id.folded())?.as_deref()) {
        return Ok(Err(refused));
    }
    let prefix = group.registration_id_prefix.as_ref().map(RegistrationIdPrefix::as_str);
    let stored = stored_prefix(connection, scope, id)?;
    let (attestation, signers) = match &group.attestation {
        GroupAttestation::SymmetricKey(_) => ("symmetric_key", SignerColumns::default()),
        GroupAttestation::Signers(signers) => SignerColumns::of(signers),
    };
    if let Err(refused) = signers::check(&signers, connection, scope)? {
        return Ok(Err(refused));
    }
    match &group.registration_id_prefix {
        None if matches!(group.attestation, GroupAttestation::Signers(_)) => {}
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
    let anchors = anchors(group);
    if let Err(refused) = check_anchors(connection, scope, group, &anchors)? {
        return Ok(Err(refused));
    }
    put_anchors(connection, scope, group, &anchors)?;
    let settings = SettingsColumns::of(&group.settings)?;
    connection
        .prepare_cached(
            "INSERT INTO enrollment_group (
                 id_scope, enrollment_group_id, enrollment_group_id_spelling, etag, created_at, updated_at,
                 registration_id_prefix, attestation, sealed_keys, provisioning_status, allocation_policy, hubs,
                 initial_twin, iot_edge, update_hub_assignment, migrate_device_data, other_members,
                 primary_certificate, secondary_certificate, primary_ca, primary_ca_spelling, secondary_ca,
                 secondary_ca_spelling, sealed_webhook_url, webhook_api_version)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
                 ?21, ?22, ?23, ?24, ?25)
             ON CONFLICT (id_scope, enrollment_group_id) DO UPDATE SET
                 etag = excluded.etag, updated_at = excluded.updated_at,
                 registration_id_prefix = excluded.registration_id_prefix, attestation = excluded.attestation,
                 sealed_keys = excluded.sealed_keys, provisioning_status = excluded.provisioning_status,
                 allocation_policy = excluded.allocation_policy, hubs = excluded.hubs,
                 initial_twin = excluded.initial_twin, iot_edge = excluded.iot_edge,
                 update_hub_assignment = excluded.update_hub_assignment,
                 migrate_device_data = excluded.migrate_device_data, other_members = excluded.other_members,
                 primary_certificate = excluded.primary_certificate,
                 secondary_certificate = excluded.secondary_certificate,
                 primary_ca = excluded.primary_ca, primary_ca_spelling = excluded.primary_ca_spelling,
                 secondary_ca = excluded.secondary_ca, secondary_ca_spelling = excluded.secondary_ca_spelling,
                 sealed_webhook_url = excluded.sealed_webhook_url,
                 webhook_api_version = excluded.webhook_api_version",
        )?
        .execute(params![
            scope,
            id.folded(),
            id.as_str(),
            settings.etag,
            settings.created_at,
            settings.updated_at,
            prefix,
            attestation,
            sealed.keys.as_deref(),
            settings.provisioning_status,
            settings.allocation_policy,
            settings.hubs,
            settings.initial_twin,
            settings.iot_edge,
            settings.update_hub_assignment,
            settings.migrate_device_data,
            settings.other_members,
            signers.primary_certificate,
            signers.secondary_certificate,
            signers.primary_ca.map(CaName::folded),
            signers.primary_ca.map(CaName::as_str),
            signers.secondary_ca.map(CaName::folded),
            signers.secondary_ca.map(CaName::as_str),
            sealed.webhook_url.as_deref(),
            settings.webhook_api_version,
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
    if deleted.is_ok() {
        delete_anchors(connection, scope.folded(), id)?;
        if stored == Some(Prefix::None) {
            count_open_write(connection, scope.folded())?;
        }
    }
    Ok(deleted)
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

/// Those that `filter` takes and that come after `after`, in the order of their ids. Spec: DPS-STORE-11.
pub(super) fn list(
    connection: &Connection,
    sealer: &Sealer,
    scope: &IdScope,
    filter: &EntryFilter,
    after: Option<&EnrollmentGroupId>,
    limit: u32,
) -> Result<Vec<Arc<EnrollmentGroup>>, Fault> {
    let after = after.map(EnrollmentGroupId::folded);
    let clause = EntryClause::of("enrollment_group_id", scope.folded(), filter, after, limit);
    let query = format!("{} {}", select!("FROM enrollment_group g"), clause.sql);
    query_all(connection, sealer, scope, &query, params_from_iter(clause.params))
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

/// The etag of a group, if there is one.
pub(super) fn etag(
    connection: &Connection,
    scope: &IdScope,
    id: &EnrollmentGroupId,
) -> Result<Option<String>, Fault> {
    TABLE.etag(connection, scope.folded(), id.folded())
}

/// The sealed secrets of a group.
pub(super) fn seal(
    sealer: &Sealer,
    scope: &IdScope,
    group: &EnrollmentGroup,
) -> Result<SealedEntry, StoreError> {
    let row_key = row_key(scope, &group.id);
    let keys = match &group.attestation {
        GroupAttestation::SymmetricKey(keys) => Some(seal_keys(sealer, &row_key, keys)?),
        GroupAttestation::Signers(_) => None,
    };
    Ok(SealedEntry { keys, webhook_url: settings::seal_webhook(sealer, &row_key, &group.settings)? })
}

/// One step in the index of anchors, then one for each group.
pub(super) const SELECT_OF_ANCHOR: &str = select!(
    "FROM enrollment_group_anchor a
     CROSS JOIN enrollment_group g
         ON g.id_scope = a.id_scope AND g.enrollment_group_id = a.enrollment_group_id
     WHERE a.id_scope = ?1 AND a.anchor = ?2"
);

/// The groups that have a signing certificate of one of these subjects, or refer to one of these CA certificates, each once,
/// oldest first. Spec: DPS-X509-7.
pub(super) fn of_anchors(
    connection: &Connection,
    sealer: &Sealer,
    scope: &IdScope,
    wanted: &AnchorsWanted,
) -> Result<Vec<Arc<EnrollmentGroup>>, Fault> {
    let anchors = wanted.subjects.iter().map(subject_anchor).chain(wanted.ca_names.iter().map(ca_anchor));
    let mut groups = Vec::new();
    for anchor in anchors {
        let params = [scope.folded(), &anchor];
        groups.extend(query_all(connection, sealer, scope, SELECT_OF_ANCHOR, params)?);
    }
    groups.sort_by(|a, b| (a.settings.created_at, &a.id).cmp(&(b.settings.created_at, &b.id)));
    groups.dedup_by(|a, b| a.id == b.id);
    Ok(groups)
}

/// Whether there is room for the anchors of a group, beside those of others. Spec: DPS-X509-30.
fn check_anchors(
    connection: &Connection,
    scope: &str,
    group: &EnrollmentGroup,
    anchors: &BTreeSet<String>,
) -> Result<Result<(), WriteError>, Fault> {
    let count = "SELECT count(*) FROM enrollment_group_anchor
                 WHERE id_scope = ?1 AND anchor = ?2 AND enrollment_group_id <> ?3";
    for anchor in anchors {
        let others: i64 = connection
            .prepare_cached(count)?
            .query_row([scope, anchor, group.id.folded()], |row| row.get(0))?;
        if others >= GROUPS_OF_ONE_SUBJECT_MAX as i64 {
            return Ok(Err(WriteError::TooManyGroupsOfOneSubject(GROUPS_OF_ONE_SUBJECT_MAX)));
        }
    }
    Ok(Ok(()))
}

/// Puts the anchors of a group in place of those that it had.
fn put_anchors(
    connection: &Connection,
    scope: &str,
    group: &EnrollmentGroup,
    anchors: &BTreeSet<String>,
) -> Result<(), Fault> {
    delete_anchors(connection, scope, &group.id)?;
    let insert =
        "INSERT INTO enrollment_group_anchor (id_scope, anchor, enrollment_group_id) VALUES (?1, ?2, ?3)";
    for anchor in anchors {
        connection.prepare_cached(insert)?.execute([scope, anchor, group.id.folded()])?;
    }
    Ok(())
}

/// What chains find a group by.
fn anchors(group: &EnrollmentGroup) -> BTreeSet<String> {
    match &group.attestation {
        GroupAttestation::SymmetricKey(_) => BTreeSet::new(),
        GroupAttestation::Signers(Signers::Certificates(pair)) => {
            pair.iter().map(|certificate| subject_anchor(&certificate.subject())).collect()
        }
        GroupAttestation::Signers(Signers::CaReferences(names)) => names.iter().map(ca_anchor).collect(),
    }
}

fn delete_anchors(connection: &Connection, scope: &str, id: &EnrollmentGroupId) -> Result<(), Fault> {
    let delete = "DELETE FROM enrollment_group_anchor WHERE id_scope = ?1 AND enrollment_group_id = ?2";
    connection.prepare_cached(delete)?.execute([scope, id.folded()])?;
    Ok(())
}

fn subject_anchor(subject: &NameKey) -> String {
    let digits = subject.as_bytes().iter().flat_map(|byte| [byte >> 4, byte & 0x0f]);
    let digits = digits.filter_map(|digit| char::from_digit(digit.into(), 16));
    "subject/".chars().chain(digits).collect()
}

fn ca_anchor(name: &CaName) -> String {
    format!("ca/{}", name.folded())
}

/// Spec: DPS-REG-3.
fn other_open_groups(connection: &Connection, scope: &str, id: &EnrollmentGroupId) -> Result<usize, Fault> {
    let select = "SELECT count(*) FROM enrollment_group
                  WHERE id_scope = ?1 AND registration_id_prefix IS NULL AND attestation = 'symmetric_key'
                    AND enrollment_group_id <> ?2";
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
    let settings = settings::read(columns, (sealer, &row_key), version)?;
    let signers = signers::read(columns, remembered_certificates::read)?;
    let attestation = match (attestation.as_str(), sealed, signers.signers(&attestation)) {
        ("symmetric_key", Some(sealed), None) => {
            GroupAttestation::SymmetricKey(open_keys(sealer, &row_key, &sealed)?)
        }
        (_, None, Some(signers)) => GroupAttestation::Signers(signers),
        _ => {
            let why =
                format!("{row_key} has an attestation {attestation:?} that its columns do not bear out");
            return Err(Fault::unreadable(why));
        }
    };
    Ok(EnrollmentGroup { id, registration_id_prefix, attestation, settings })
}

fn row_key(scope: &IdScope, id: &EnrollmentGroupId) -> String {
    format!("enrollment-group/{}/{}", scope.folded(), id.folded())
}
