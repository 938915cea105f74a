//! Rows of `individual_enrollment`.

use std::sync::Arc;

use dps_core::ca_certificate::CaName;
use dps_core::enrollment::{Attestation, IndividualEnrollment};
use dps_core::entry_filter::EntryFilter;
use dps_core::ports::{ChainEntries, Condition, StoreError, WriteError};
use dps_core::x509::{Certificate, Sha256Thumbprint};
use dps_proto::ids::{IdScope, RegistrationId};
use rusqlite::{Connection, Params, params, params_from_iter};

use super::columns::Columns;
use super::conditional::Conditional;
use super::entry_clause::EntryClause;
use super::fault::Fault;
use super::settings::{self, SealedEntry, SettingsColumns};
use super::{instance, signers};
use crate::condition::permits_put;
use crate::sealed_keys::{open_keys, seal_keys};
use crate::sealing::Sealer;
use crate::signer_columns::{CLIENT_CERTIFICATES, Read, SignerColumns};

pub(super) const TABLE: Conditional = Conditional {
    select_etag: "SELECT etag FROM individual_enrollment WHERE id_scope = ?1 AND registration_id = ?2",
    delete: "DELETE FROM individual_enrollment WHERE id_scope = ?1 AND registration_id = ?2",
};

/// `sealed` is what [`seal`] gave for this enrollment.
pub(super) fn put(
    connection: &Connection,
    scope: &IdScope,
    enrollment: &IndividualEnrollment,
    sealed: &SealedEntry,
    condition: &Condition,
) -> Result<Result<(), WriteError>, Fault> {
    if let Err(refused) = instance::check_is_there(connection, scope)? {
        return Ok(Err(refused));
    }
    let (scope, id) = (scope.folded(), &enrollment.registration_id);
    if let Err(refused) = permits_put(condition, TABLE.etag(connection, scope, id.folded())?.as_deref()) {
        return Ok(Err(refused));
    }
    let (mut endorsement_key, mut thumbprints) = (None, [None, None]);
    let (word, signers) = match &enrollment.attestation {
        Attestation::SymmetricKey(_) => ("symmetric_key", SignerColumns::default()),
        Attestation::ClientCertificates(pair) => {
            thumbprints =
                [Some(pair.primary.thumbprint()), pair.secondary.as_ref().map(|it| it.thumbprint())];
            (CLIENT_CERTIFICATES, SignerColumns::of_pair(pair))
        }
        Attestation::Signers(signers) => SignerColumns::of(signers),
        Attestation::Tpm { endorsement_key: key } => {
            endorsement_key = Some(key);
            ("tpm", SignerColumns::default())
        }
    };
    if let Err(refused) = signers::check(&signers, connection, scope)? {
        return Ok(Err(refused));
    }
    let settings = SettingsColumns::of(&enrollment.settings)?;
    connection
        .prepare_cached(
            "INSERT INTO individual_enrollment (
                 id_scope, registration_id, registration_id_spelling, etag, created_at, updated_at, device_id,
                 attestation, sealed_keys, endorsement_key,
                 provisioning_status, allocation_policy, hubs, initial_twin, iot_edge,
                 update_hub_assignment, migrate_device_data, other_members,
                 primary_certificate, secondary_certificate, primary_ca, primary_ca_spelling, secondary_ca,
                 secondary_ca_spelling, primary_thumbprint, secondary_thumbprint,
                 sealed_webhook_url, webhook_api_version)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
                 ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28)
             ON CONFLICT (id_scope, registration_id) DO UPDATE SET
                 etag = excluded.etag, updated_at = excluded.updated_at, device_id = excluded.device_id,
                 attestation = excluded.attestation, sealed_keys = excluded.sealed_keys,
                 endorsement_key = excluded.endorsement_key, provisioning_status = excluded.provisioning_status,
                 allocation_policy = excluded.allocation_policy, hubs = excluded.hubs,
                 initial_twin = excluded.initial_twin, iot_edge = excluded.iot_edge,
                 update_hub_assignment = excluded.update_hub_assignment,
                 migrate_device_data = excluded.migrate_device_data, other_members = excluded.other_members,
                 primary_certificate = excluded.primary_certificate,
                 secondary_certificate = excluded.secondary_certificate,
                 primary_ca = excluded.primary_ca, primary_ca_spelling = excluded.primary_ca_spelling,
                 secondary_ca = excluded.secondary_ca, secondary_ca_spelling = excluded.secondary_ca_spelling,
                 primary_thumbprint = excluded.primary_thumbprint,
                 secondary_thumbprint = excluded.secondary_thumbprint,
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
            enrollment.device_id.as_ref().map(|device_id| device_id.as_str()),
            word,
            sealed.keys.as_deref(),
            endorsement_key,
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
            thumbprints[0].as_ref().map(|thumbprint| thumbprint.as_bytes()),
            thumbprints[1].as_ref().map(|thumbprint| thumbprint.as_bytes()),
            sealed.webhook_url.as_deref(),
            settings.webhook_api_version,
        ])?;
    Ok(Ok(()))
}

/// The columns that [`read`] reads.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT etag, created_at, updated_at, registration_id_spelling, device_id,
                    attestation, sealed_keys, endorsement_key,
                    provisioning_status, allocation_policy, hubs, initial_twin, iot_edge,
                    update_hub_assignment, migrate_device_data, other_members,
                    sealed_webhook_url, webhook_api_version, primary_certificate, secondary_certificate, primary_ca_spelling, secondary_ca_spelling
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

/// One step in an index each: quicker than one statement for both.
pub(super) const SELECT_OF_THUMBPRINT: [&str; 2] = [
    select!("WHERE id_scope = ?1 AND primary_thumbprint = ?2 ORDER BY created_at, registration_id LIMIT 16"),
    select!(
        "WHERE id_scope = ?1 AND secondary_thumbprint = ?2 ORDER BY created_at, registration_id LIMIT 16"
    ),
];

/// The first that have exactly this client certificate, oldest first. Spec: DPS-X509-6.
pub(super) fn of_thumbprint(
    connection: &Connection,
    sealer: &Sealer,
    scope: &IdScope,
    thumbprint: &Sha256Thumbprint,
) -> Result<Vec<Arc<IndividualEnrollment>>, Fault> {
    let mut holders = Vec::new();
    for select in SELECT_OF_THUMBPRINT {
        let params = params![scope.folded(), thumbprint.as_bytes()];
        holders.extend(query_all(connection, sealer, scope, select, params)?);
    }
    let key = |holder: &Arc<IndividualEnrollment>| {
        (holder.settings.created_at, holder.registration_id.folded().to_owned())
    };
    holders.sort_by_cached_key(key);
    holders.dedup_by(|a, b| a.registration_id == b.registration_id);
    holders.truncate(ChainEntries::HOLDERS_MAX);
    Ok(holders)
}

/// Those that `filter` takes and that come after `after`, in the order of their ids. Spec: DPS-STORE-11.
pub(super) fn list(
    connection: &Connection,
    sealer: &Sealer,
    scope: &IdScope,
    filter: &EntryFilter,
    after: Option<&RegistrationId>,
    limit: u32,
) -> Result<Vec<Arc<IndividualEnrollment>>, Fault> {
    let after = after.map(RegistrationId::folded);
    let clause = EntryClause::of("registration_id", scope.folded(), filter, after, limit);
    let query = format!("{}{}", select!(""), clause.sql);
    query_all(connection, sealer, scope, &query, params_from_iter(clause.params))
}

fn query_all(
    connection: &Connection,
    sealer: &Sealer,
    scope: &IdScope,
    query: &str,
    params: impl Params,
) -> Result<Vec<Arc<IndividualEnrollment>>, Fault> {
    let mut statement = connection.prepare_cached(query)?;
    let mut rows = statement.query(params)?;
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
    let kept = Kept::next(columns)?;
    let row_key = row_key(scope, &registration_id);
    let settings = settings::read(columns, (sealer, &row_key), version)?;
    let signers = signers::read(columns, |der| Certificate::from_der(der).map(Arc::new))?;
    let attestation = kept.attestation(signers, sealer, &row_key)?;
    Ok(IndividualEnrollment { registration_id, device_id, attestation, settings })
}

/// The sealed secrets of an enrollment.
pub(super) fn seal(
    sealer: &Sealer,
    scope: &IdScope,
    enrollment: &IndividualEnrollment,
) -> Result<SealedEntry, StoreError> {
    let row_key = row_key(scope, &enrollment.registration_id);
    let keys = match &enrollment.attestation {
        Attestation::SymmetricKey(keys) => Some(seal_keys(sealer, &row_key, keys)?),
        Attestation::ClientCertificates(_) | Attestation::Signers(_) | Attestation::Tpm { .. } => None,
    };
    Ok(SealedEntry { keys, webhook_url: settings::seal_webhook(sealer, &row_key, &enrollment.settings)? })
}

/// The columns that say how a device proves itself, but for certificates.
struct Kept {
    word: String,
    sealed_keys: Option<Vec<u8>>,
    endorsement_key: Option<Vec<u8>>,
}

impl Kept {
    fn next(columns: &mut Columns<'_>) -> Result<Self, Fault> {
        Ok(Self { word: columns.value()?, sealed_keys: columns.value()?, endorsement_key: columns.value()? })
    }

    fn attestation(self, certificates: Read, sealer: &Sealer, row_key: &str) -> Result<Attestation, Fault> {
        let Self { word, sealed_keys, endorsement_key } = self;
        let signers = certificates.into_attestation(&word);
        match (word.as_str(), sealed_keys, endorsement_key, signers) {
            ("symmetric_key", Some(sealed), None, None) => {
                Ok(Attestation::SymmetricKey(open_keys(sealer, row_key, &sealed)?))
            }
            ("tpm", None, Some(key), None) => Ok(Attestation::Tpm { endorsement_key: key.into() }),
            (_, None, None, Some(attestation)) => Ok(attestation),
            _ => Err(Fault::unreadable(format!(
                "{row_key} has an attestation {word:?} that its columns do not bear out"
            ))),
        }
    }
}

fn row_key(scope: &IdScope, id: &RegistrationId) -> String {
    format!("individual-enrollment/{}/{}", scope.folded(), id.folded())
}
