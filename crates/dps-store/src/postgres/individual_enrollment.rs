//! Rows of `individual_enrollment`.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use deadpool_postgres::{Client, GenericClient, Transaction};
use dps_core::audit::{Action, Subject};
use dps_core::enrollment::{Attestation, EntryRef, IndividualEnrollment};
use dps_core::entry_filter::EntryFilter;
use dps_core::ports::{ChainEntries, StoreError, WriteError, WriteOrder};
use dps_core::x509::{Certificate, Sha256Thumbprint};
use dps_proto::ids::{IdScope, RegistrationId};
use tokio_postgres::Row;

use super::audit::Change;
use super::columns::Columns;
use super::conditional::Conditional;
use super::entry_clause::EntryClause;
use super::fault::Fault;
use super::settings::{self, SealedEntry};
use super::table::{Rows, Table, Value};
use super::transaction::{Work, execute, query};
use super::{instance, signers};
use crate::condition::permits_put;
use crate::sealed_keys::{open_keys, seal_keys};
use crate::sealing::Sealer;
use crate::signer_columns::{CLIENT_CERTIFICATES, SignerColumns};

const ON_CONDITION: Conditional = Conditional {
    lock_etag: "SELECT etag FROM individual_enrollment WHERE id_scope = $1 AND registration_id = $2 FOR UPDATE",
    delete: "DELETE FROM individual_enrollment WHERE id_scope = $1 AND registration_id = $2",
};

const TABLE: Table = Table {
    name: "individual_enrollment",
    key: 2,
    made_with: 2,
    columns: &[
        ("id_scope", "text"),
        ("registration_id", "text"),
        ("registration_id_spelling", "text"),
        ("created_at", "bigint"),
        ("etag", "text"),
        ("updated_at", "bigint"),
        ("device_id", "text"),
        ("attestation", "text"),
        ("sealed_keys", "bytea"),
        ("endorsement_key", "bytea"),
        ("primary_thumbprint", "bytea"),
        ("secondary_thumbprint", "bytea"),
        ("primary_certificate", "bytea"),
        ("secondary_certificate", "bytea"),
        ("primary_ca", "text"),
        ("primary_ca_spelling", "text"),
        ("secondary_ca", "text"),
        ("secondary_ca_spelling", "text"),
        ("provisioning_status", "text"),
        ("allocation_policy", "text"),
        ("hubs", "text[]"),
        ("initial_twin", "text"),
        ("iot_edge", "boolean"),
        ("update_hub_assignment", "boolean"),
        ("migrate_device_data", "boolean"),
        ("other_members", "text"),
        ("sealed_webhook_url", "bytea"),
        ("webhook_api_version", "text"),
    ],
};

static PUT: LazyLock<String> = LazyLock::new(|| TABLE.put());

/// The columns that [`read`] reads, of the table that is called `e`.
macro_rules! columns {
    () => {
        "e.registration_id_spelling, e.created_at, e.etag, e.updated_at, e.device_id,
         e.attestation, e.sealed_keys, e.endorsement_key,
         e.provisioning_status, e.allocation_policy, e.hubs, e.initial_twin, e.iot_edge,
         e.update_hub_assignment, e.migrate_device_data, e.other_members, e.sealed_webhook_url, e.webhook_api_version,
         e.primary_certificate, e.secondary_certificate, e.primary_ca_spelling, e.secondary_ca_spelling"
    };
}
pub(super) use columns;

/// How many columns [`read`] reads.
pub(super) const COLUMNS: usize = 22;

/// Those that have exactly this client certificate, as their primary and as their secondary one: one step in an index each.
pub(super) const OF_THUMBPRINT: [&str; 2] = [
    concat!(
        "SELECT ",
        columns!(),
        " FROM individual_enrollment e WHERE e.id_scope = $1 AND e.primary_thumbprint = $2
         ORDER BY e.created_at, e.registration_id LIMIT 16"
    ),
    concat!(
        "SELECT ",
        columns!(),
        " FROM individual_enrollment e WHERE e.id_scope = $1 AND e.secondary_thumbprint = $2
         ORDER BY e.created_at, e.registration_id LIMIT 16"
    ),
];

/// The first that have exactly this client certificate, oldest first. Spec: DPS-X509-6.
pub(super) async fn of_thumbprint(
    on: &impl GenericClient,
    sealer: &Sealer,
    scope: &IdScope,
    thumbprint: &Sha256Thumbprint,
) -> Result<Vec<Arc<IndividualEnrollment>>, Fault> {
    let mut holders = Vec::new();
    for select in OF_THUMBPRINT {
        let rows = query(on, select, &[&scope.folded(), &thumbprint.as_bytes().as_slice()]).await?;
        holders.extend(read_all(&rows, sealer, scope)?);
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
pub(super) async fn list(
    on: &Client,
    sealer: &Sealer,
    scope: &IdScope,
    (filter, after): (&EntryFilter, Option<&RegistrationId>),
    limit: u32,
) -> Result<Vec<Arc<IndividualEnrollment>>, Fault> {
    let after = after.map(RegistrationId::folded);
    let clause = EntryClause::of("registration_id", scope.folded(), filter, after, limit);
    let rows = on.query_typed(&select(&clause), &clause.params()).await?;
    read_all(&rows, sealer, scope)
}

/// The text of a list.
pub(super) fn select(clause: &EntryClause<'_>) -> String {
    format!(concat!("SELECT ", columns!(), " FROM individual_enrollment e {}"), clause.sql)
}

fn read_all(rows: &[Row], sealer: &Sealer, scope: &IdScope) -> Result<Vec<Arc<IndividualEnrollment>>, Fault> {
    rows.iter().map(|row| read(&mut Columns::of(row), sealer, scope).map(Arc::new)).collect()
}

pub(super) fn read(
    columns: &mut Columns<'_>,
    sealer: &Sealer,
    scope: &IdScope,
) -> Result<IndividualEnrollment, Fault> {
    let registration_id = columns.parsed()?;
    let version = settings::read_version(columns)?;
    let device_id = columns.optional()?;
    let word: &str = columns.value()?;
    let (sealed_keys, endorsement_key): (Option<&[u8]>, Option<&[u8]>) = (columns.value()?, columns.value()?);
    let row_key = row_key(scope, &registration_id);
    let settings = settings::read(columns, (sealer, &row_key), version)?;
    let signers = signers::read(columns, |der| Certificate::from_der(der).map(Arc::new))?;
    let attestation = match (word, sealed_keys, endorsement_key, signers.into_attestation(word)) {
        ("symmetric_key", Some(sealed), None, None) => {
            Attestation::SymmetricKey(open_keys(sealer, &row_key, sealed)?)
        }
        ("tpm", None, Some(key), None) => Attestation::Tpm { endorsement_key: key.into() },
        (_, None, None, Some(attestation)) => attestation,
        _ => {
            let why = format!("{row_key} has an attestation {word:?} that its columns do not bear out");
            return Err(Fault::unreadable(why));
        }
    };
    Ok(IndividualEnrollment { registration_id, device_id, attestation, settings })
}

/// The sealed secrets of an enrollment.
fn seal(
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

/// Creates an enrollment or replaces it.
pub(super) struct Put<'w> {
    scope: &'w IdScope,
    enrollment: &'w IndividualEnrollment,
    sealed: SealedEntry,
    order: &'w WriteOrder,
}

impl<'w> Put<'w> {
    pub(super) fn new(
        sealer: &Sealer,
        scope: &'w IdScope,
        enrollment: &'w IndividualEnrollment,
        order: &'w WriteOrder,
    ) -> Result<Self, StoreError> {
        Ok(Self { scope, enrollment, sealed: seal(sealer, scope, enrollment)?, order })
    }

    /// The word for the attestation, its certificates, and the row.
    fn row(&self) -> Result<(SignerColumns<'_>, Vec<Value<'_>>), StoreError> {
        let (id, enrollment) = (&self.enrollment.registration_id, self.enrollment);
        let (mut endorsement_key, mut thumbprints) = (None, [None, None]);
        let (word, signers) = match &enrollment.attestation {
            Attestation::SymmetricKey(_) => ("symmetric_key", SignerColumns::default()),
            Attestation::ClientCertificates(pair) => {
                let of = |certificate: &Arc<Certificate>| certificate.thumbprint().as_bytes().to_vec();
                thumbprints = [Some(of(&pair.primary)), pair.secondary.as_ref().map(of)];
                (CLIENT_CERTIFICATES, SignerColumns::of_pair(pair))
            }
            Attestation::Signers(signers) => SignerColumns::of(signers),
            Attestation::Tpm { endorsement_key: key } => {
                endorsement_key = Some(&**key);
                ("tpm", SignerColumns::default())
            }
        };
        let mut row = vec![self.scope.folded().into(), id.folded().into(), id.as_str().into()];
        row.extend(settings::version(&enrollment.settings)?);
        row.extend([
            enrollment.device_id.as_ref().map(|device_id| device_id.as_str()).into(),
            word.into(),
            self.sealed.keys.as_deref().into(),
            endorsement_key.into(),
        ]);
        row.extend(
            thumbprints.map(|thumbprint| thumbprint.map_or(Value::Null, |bytes| Value::Bytes(bytes.into()))),
        );
        row.extend(signers::values(&signers));
        row.extend(settings::values(&enrollment.settings, &self.sealed));
        Ok((signers, row))
    }
}

#[async_trait]
impl Work for Put<'_> {
    type Outcome = Result<(), WriteError>;

    async fn run(&self, transaction: &Transaction<'_>) -> Result<Self::Outcome, Fault> {
        let Self { scope, enrollment, order, .. } = self;
        let id = &enrollment.registration_id;
        if let Err(refused) = instance::check_stays(transaction, scope).await? {
            return Ok(Err(refused));
        }
        let stored = ON_CONDITION.lock(transaction, scope.folded(), id.folded()).await?;
        if let Err(refused) = permits_put(&order.condition, stored.as_deref()) {
            return Ok(Err(refused));
        }
        let (signers, mut row) = self.row()?;
        if let Err(refused) = signers::check(&signers, transaction, scope.folded()).await? {
            return Ok(Err(refused));
        }
        row.push(stored.as_deref().into());
        if execute(transaction, &PUT, &Rows::params_of(&row)).await? == 0 {
            return Err(Fault::raced("an individual enrollment"));
        }
        let subject = Subject::Entry(EntryRef::Individual(id.clone()));
        let change = Change { scope, subject, etag: Some(&enrollment.settings.etag) };
        change.put(transaction, order.by.as_deref(), stored.is_some()).await?;
        Ok(Ok(()))
    }
}

/// Deletes an enrollment.
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
        let subject = Subject::Entry(EntryRef::Individual((*id).clone()));
        let change = Change { scope, subject, etag: None };
        change.write(transaction, order.by.as_deref(), Action::Deleted).await?;
        Ok(Ok(()))
    }
}

fn row_key(scope: &IdScope, id: &RegistrationId) -> String {
    format!("individual-enrollment/{}/{}", scope.folded(), id.folded())
}
