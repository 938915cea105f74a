//! Rows of `individual_enrollment`.

use std::sync::Arc;

use dps_core::enrollment::{Attestation, IndividualEnrollment};
use dps_core::ports::{Condition, StoreError, WriteError};
use dps_proto::ids::{IdScope, RegistrationId};
use rusqlite::{Connection, params};

use super::columns::{Columns, open_keys, seal_keys};
use super::conditional::Conditional;
use super::fault::Fault;
use super::settings::{self, SettingsColumns};
use crate::condition::permits_put;
use crate::sealing::Sealer;

pub(super) const TABLE: Conditional = Conditional {
    select_etag: "SELECT etag FROM individual_enrollment WHERE id_scope = ?1 AND registration_id = ?2",
    delete: "DELETE FROM individual_enrollment WHERE id_scope = ?1 AND registration_id = ?2",
};

/// `sealed_keys` is what [`seal`] gave for this enrollment.
pub(super) fn put(
    connection: &Connection,
    scope: &IdScope,
    enrollment: &IndividualEnrollment,
    sealed_keys: Option<&[u8]>,
    condition: &Condition,
) -> Result<Result<(), WriteError>, Fault> {
    let (scope, id) = (scope.folded(), &enrollment.registration_id);
    if let Err(refused) = permits_put(condition, TABLE.etag(connection, scope, id.folded())?.as_deref()) {
        return Ok(Err(refused));
    }
    let (word, primary, secondary, endorsement_key) = match &enrollment.attestation {
        Attestation::SymmetricKey(_) => ("symmetric_key", None, None, None),
        Attestation::X509 { primary, secondary } => ("x509", Some(primary), secondary.as_ref(), None),
        Attestation::Tpm { endorsement_key } => ("tpm", None, None, Some(endorsement_key)),
    };
    let settings = SettingsColumns::of(&enrollment.settings)?;
    connection
        .prepare_cached(
            "INSERT INTO individual_enrollment (
                 id_scope, registration_id, registration_id_spelling, etag, created_at, updated_at, device_id,
                 attestation, sealed_keys, x509_primary, x509_secondary, endorsement_key,
                 provisioning_status, allocation_policy, hubs, initial_twin, iot_edge,
                 update_hub_assignment, migrate_device_data, other_members)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)
             ON CONFLICT (id_scope, registration_id) DO UPDATE SET
                 etag = excluded.etag, updated_at = excluded.updated_at, device_id = excluded.device_id,
                 attestation = excluded.attestation, sealed_keys = excluded.sealed_keys,
                 x509_primary = excluded.x509_primary, x509_secondary = excluded.x509_secondary,
                 endorsement_key = excluded.endorsement_key, provisioning_status = excluded.provisioning_status,
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
            enrollment.device_id.as_ref().map(|device_id| device_id.as_str()),
            word,
            sealed_keys,
            primary,
            secondary,
            endorsement_key,
            settings.provisioning_status,
            settings.allocation_policy,
            settings.hubs,
            settings.initial_twin,
            settings.iot_edge,
            settings.update_hub_assignment,
            settings.migrate_device_data,
            settings.other_members,
        ])?;
    Ok(Ok(()))
}

/// The columns that [`read`] reads.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT etag, created_at, updated_at, registration_id_spelling, device_id,
                    attestation, sealed_keys, x509_primary, x509_secondary, endorsement_key,
                    provisioning_status, allocation_policy, hubs, initial_twin, iot_edge,
                    update_hub_assignment, migrate_device_data, other_members
             FROM individual_enrollment ",
            $rest
        )
    };
}

pub(super) fn find(
    connection: &Connection,
    sealer: &Sealer,
    scope: &IdScope,
    id: &RegistrationId,
) -> Result<Option<IndividualEnrollment>, Fault> {
    let query = select!("WHERE id_scope = ?1 AND registration_id = ?2");
    let mut statement = connection.prepare_cached(query)?;
    let mut rows = statement.query([scope.folded(), id.folded()])?;
    rows.next()?.map(|row| read(&mut Columns::of(row), sealer, scope)).transpose()
}

/// Those after `after`, in the order of their ids. Spec: DPS-STORE-11.
pub(super) fn list(
    connection: &Connection,
    sealer: &Sealer,
    scope: &IdScope,
    after: Option<&RegistrationId>,
    limit: u32,
) -> Result<Vec<Arc<IndividualEnrollment>>, Fault> {
    let query = select!("WHERE id_scope = ?1 AND registration_id > ?2 ORDER BY registration_id LIMIT ?3");
    let mut statement = connection.prepare_cached(query)?;
    // No id is empty, so all come after the empty text.
    let after = after.map_or("", RegistrationId::folded);
    let mut rows = statement.query(params![scope.folded(), after, limit])?;
    let mut enrollments = Vec::new();
    while let Some(row) = rows.next()? {
        enrollments.push(Arc::new(read(&mut Columns::of(row), sealer, scope)?));
    }
    Ok(enrollments)
}

fn read(columns: &mut Columns<'_>, sealer: &Sealer, scope: &IdScope) -> Result<IndividualEnrollment, Fault> {
    let version = settings::read_version(columns)?;
    let registration_id = columns.parsed()?;
    let device_id = columns.optional()?;
    let attestation = read_attestation(columns, sealer, &row_key(scope, &registration_id))?;
    let settings = settings::read(columns, version)?;
    Ok(IndividualEnrollment { registration_id, device_id, attestation, settings })
}

/// The sealed keys of an enrollment that has keys.
pub(super) fn seal(
    sealer: &Sealer,
    scope: &IdScope,
    enrollment: &IndividualEnrollment,
) -> Result<Option<Vec<u8>>, StoreError> {
    match &enrollment.attestation {
        Attestation::SymmetricKey(keys) => {
            seal_keys(sealer, &row_key(scope, &enrollment.registration_id), keys).map(Some)
        }
        Attestation::X509 { .. } | Attestation::Tpm { .. } => Ok(None),
    }
}

fn read_attestation(columns: &mut Columns<'_>, sealer: &Sealer, row_key: &str) -> Result<Attestation, Fault> {
    let word: String = columns.value()?;
    let sealed_keys: Option<Vec<u8>> = columns.value()?;
    let primary: Option<Box<str>> = columns.value()?;
    let secondary: Option<Box<str>> = columns.value()?;
    let endorsement_key: Option<Vec<u8>> = columns.value()?;
    match (word.as_str(), sealed_keys, primary, endorsement_key) {
        ("symmetric_key", Some(sealed), None, None) => {
            Ok(Attestation::SymmetricKey(open_keys(sealer, row_key, &sealed)?))
        }
        ("x509", None, Some(primary), None) => Ok(Attestation::X509 { primary, secondary }),
        ("tpm", None, None, Some(key)) => Ok(Attestation::Tpm { endorsement_key: key.into() }),
        _ => Err(Fault::unreadable(format!(
            "{row_key} has an attestation {word:?} that its columns do not bear out"
        ))),
    }
}

fn row_key(scope: &IdScope, id: &RegistrationId) -> String {
    format!("individual-enrollment/{}/{}", scope.folded(), id.folded())
}
