//! Rows of `enrollment_group`.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use deadpool_postgres::{Client, GenericClient, Transaction};
use dps_core::audit::{Action, Subject};
use dps_core::enrollment::{EnrollmentGroup, EntryRef, GroupAttestation, RegistrationIdPrefix};
use dps_core::entry_filter::EntryFilter;
use dps_core::ports::{AnchorsWanted, StoreError, WriteError, WriteOrder};
use dps_proto::ids::{EnrollmentGroupId, IdScope, RegistrationId};
use tokio_postgres::Row;

use super::audit::Change;
use super::columns::Columns;
use super::conditional::Conditional;
use super::entry_clause::EntryClause;
use super::fault::Fault;
use super::remembered::Versioned;
use super::settings::{self, SealedEntry};
use super::signers;
use super::table::{Rows, Table, Value};
use super::transaction::{Work, execute, query, query_opt};
use super::{anchor, group_limits, instance, turnstile};
use crate::condition::permits_put;
use crate::remembered_certificates;
use crate::sealed_keys::{open_keys, seal_keys};
use crate::sealing::Sealer;
use crate::signer_columns::SignerColumns;

const ON_CONDITION: Conditional = Conditional {
    lock_etag: "SELECT etag FROM enrollment_group WHERE id_scope = $1 AND enrollment_group_id = $2 FOR UPDATE",
    delete: "DELETE FROM enrollment_group WHERE id_scope = $1 AND enrollment_group_id = $2",
};

const TABLE: Table = Table {
    name: "enrollment_group",
    key: 2,
    made_with: 2,
    columns: &[
        ("id_scope", "text"),
        ("enrollment_group_id", "text"),
        ("enrollment_group_id_spelling", "text"),
        ("created_at", "bigint"),
        ("etag", "text"),
        ("updated_at", "bigint"),
        ("registration_id_prefix", "text"),
        ("attestation", "text"),
        ("sealed_keys", "bytea"),
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

/// The columns that [`read`] reads, of the table that is called `g`.
macro_rules! columns {
    () => {
        "g.enrollment_group_id_spelling, g.created_at, g.etag, g.updated_at, g.registration_id_prefix,
         g.attestation, g.sealed_keys,
         g.provisioning_status, g.allocation_policy, g.hubs, g.initial_twin, g.iot_edge,
         g.update_hub_assignment, g.migrate_device_data, g.other_members, g.sealed_webhook_url, g.webhook_api_version,
         g.primary_certificate, g.secondary_certificate, g.primary_ca_spelling, g.secondary_ca_spelling"
    };
}
pub(super) use columns;

/// The symmetric-key groups without a prefix, remembered. Spec: DPS-REG-2, DPS-REG-3.
pub(super) struct OpenGroups;

pub(super) const OPEN: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM enrollment_group g
     WHERE g.id_scope = $1 AND g.registration_id_prefix IS NULL AND g.attestation = 'symmetric_key'
     ORDER BY g.created_at, g.enrollment_group_id"
);

#[async_trait]
impl Versioned for OpenGroups {
    type Item = EnrollmentGroup;
    const SELECT_VERSION: &'static str = "SELECT version FROM enrollment_group_version WHERE id_scope = $1";

    async fn read(
        transaction: &Transaction<'_>,
        sealer: &Sealer,
        scope: &IdScope,
    ) -> Result<Vec<Arc<EnrollmentGroup>>, Fault> {
        read_all(&query(transaction, OPEN, &[&scope.folded()]).await?, sealer, scope)
    }
}

pub(super) const FIND: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM enrollment_group g WHERE g.id_scope = $1 AND g.enrollment_group_id = $2"
);

pub(super) async fn find(
    on: &impl GenericClient,
    sealer: &Sealer,
    scope: &IdScope,
    id: &EnrollmentGroupId,
) -> Result<Option<Arc<EnrollmentGroup>>, Fault> {
    let rows = query(on, FIND, &[&scope.folded(), &id.folded()]).await?;
    Ok(read_all(&rows, sealer, scope)?.pop())
}

/// Those that `filter` takes and that come after `after`, in the order of their ids. Spec: DPS-STORE-11.
pub(super) async fn list(
    on: &Client,
    sealer: &Sealer,
    scope: &IdScope,
    (filter, after): (&EntryFilter, Option<&EnrollmentGroupId>),
    limit: u32,
) -> Result<Vec<Arc<EnrollmentGroup>>, Fault> {
    let after = after.map(EnrollmentGroupId::folded);
    let clause = EntryClause::of("enrollment_group_id", scope.folded(), filter, after, limit);
    let rows = on.query_typed(&select(&clause), &clause.params()).await?;
    read_all(&rows, sealer, scope)
}

/// The text of a list.
pub(super) fn select(clause: &EntryClause<'_>) -> String {
    format!(concat!("SELECT ", columns!(), " FROM enrollment_group g {}"), clause.sql)
}

/// The groups whose prefix is one of `$2`, longest first.
pub(super) const WITH_PREFIX_OF: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM enrollment_group g WHERE g.id_scope = $1 AND g.registration_id_prefix = ANY ($2)
     ORDER BY length(g.registration_id_prefix) DESC, g.created_at, g.enrollment_group_id"
);

/// The groups whose prefix `id` begins with, longest first: one step in the index for each of its at most 128 beginnings, however
/// many groups there are. Spec: DPS-REG-2.
pub(super) async fn with_prefix_of(
    on: &impl GenericClient,
    sealer: &Sealer,
    scope: &IdScope,
    id: &RegistrationId,
) -> Result<Vec<Arc<EnrollmentGroup>>, Fault> {
    let rows = query(on, WITH_PREFIX_OF, &[&scope.folded(), &group_limits::beginnings(id.folded())]).await?;
    read_all(&rows, sealer, scope)
}

/// The groups that have one of the anchors `$2`: one step in the index of anchors for each, then one for each group.
pub(super) const OF_ANCHORS: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM (SELECT DISTINCT a.enrollment_group_id FROM enrollment_group_anchor a
           WHERE a.id_scope = $1 AND a.anchor = ANY ($2)) a
     JOIN enrollment_group g ON g.id_scope = $1 AND g.enrollment_group_id = a.enrollment_group_id"
);

/// The groups that have a signing certificate of one of these subjects, or refer to one of these CA certificates, each once,
/// oldest first. Spec: DPS-X509-7.
pub(super) async fn of_anchors(
    on: &impl GenericClient,
    sealer: &Sealer,
    scope: &IdScope,
    wanted: &AnchorsWanted,
) -> Result<Vec<Arc<EnrollmentGroup>>, Fault> {
    let rows = query(on, OF_ANCHORS, &[&scope.folded(), &anchor::wanted(wanted)]).await?;
    let mut groups = read_all(&rows, sealer, scope)?;
    groups.sort_by(|a, b| (a.settings.created_at, &a.id).cmp(&(b.settings.created_at, &b.id)));
    Ok(groups)
}

fn read_all(rows: &[Row], sealer: &Sealer, scope: &IdScope) -> Result<Vec<Arc<EnrollmentGroup>>, Fault> {
    rows.iter().map(|row| read(&mut Columns::of(row), sealer, scope).map(Arc::new)).collect()
}

pub(super) fn read(
    columns: &mut Columns<'_>,
    sealer: &Sealer,
    scope: &IdScope,
) -> Result<EnrollmentGroup, Fault> {
    let id = columns.parsed()?;
    let version = settings::read_version(columns)?;
    let registration_id_prefix = columns.optional()?;
    let row_key = row_key(scope, &id);
    let (word, sealed): (&str, Option<&[u8]>) = (columns.value()?, columns.value()?);
    let settings = settings::read(columns, (sealer, &row_key), version)?;
    let signers = signers::read(columns, remembered_certificates::read)?;
    let attestation = match (word, sealed, signers.signers(word)) {
        ("symmetric_key", Some(sealed), None) => {
            GroupAttestation::SymmetricKey(open_keys(sealer, &row_key, sealed)?)
        }
        (_, None, Some(signers)) => GroupAttestation::Signers(signers),
        _ => {
            let why = format!("{row_key} has an attestation {word:?} that its columns do not bear out");
            return Err(Fault::unreadable(why));
        }
    };
    Ok(EnrollmentGroup { id, registration_id_prefix, attestation, settings })
}

/// The sealed secrets of a group.
fn seal(sealer: &Sealer, scope: &IdScope, group: &EnrollmentGroup) -> Result<SealedEntry, StoreError> {
    let row_key = row_key(scope, &group.id);
    let keys = match &group.attestation {
        GroupAttestation::SymmetricKey(keys) => Some(seal_keys(sealer, &row_key, keys)?),
        GroupAttestation::Signers(_) => None,
    };
    Ok(SealedEntry { keys, webhook_url: settings::seal_webhook(sealer, &row_key, &group.settings)? })
}

/// Creates a group or replaces it. Spec: DPS-REG-3, DPS-REG-21, DPS-X509-30.
pub(super) struct Put<'w> {
    scope: &'w IdScope,
    group: &'w EnrollmentGroup,
    sealed: SealedEntry,
    order: &'w WriteOrder,
}

impl<'w> Put<'w> {
    pub(super) fn new(
        sealer: &Sealer,
        scope: &'w IdScope,
        group: &'w EnrollmentGroup,
        order: &'w WriteOrder,
    ) -> Result<Self, StoreError> {
        Ok(Self { scope, group, sealed: seal(sealer, scope, group)?, order })
    }

    /// The row, and its certificates.
    fn row(&self) -> Result<(SignerColumns<'_>, Vec<Value<'_>>), StoreError> {
        let Self { scope, group, sealed, .. } = self;
        let (word, signers) = match &group.attestation {
            GroupAttestation::SymmetricKey(_) => ("symmetric_key", SignerColumns::default()),
            GroupAttestation::Signers(signers) => SignerColumns::of(signers),
        };
        let mut row = vec![scope.folded().into(), group.id.folded().into(), group.id.as_str().into()];
        row.extend(settings::version(&group.settings)?);
        let prefix = group.registration_id_prefix.as_ref().map(RegistrationIdPrefix::as_str);
        row.extend([prefix.into(), word.into(), sealed.keys.as_deref().into()]);
        row.extend(signers::values(&signers));
        row.extend(settings::values(&group.settings, sealed));
        Ok((signers, row))
    }
}

#[async_trait]
impl Work for Put<'_> {
    type Outcome = Result<(), WriteError>;

    async fn run(&self, transaction: &Transaction<'_>) -> Result<Self::Outcome, Fault> {
        let Self { scope, group, order, .. } = self;
        let (folded, id) = (scope.folded(), &group.id);
        if let Err(refused) = instance::check_stays(transaction, scope).await? {
            return Ok(Err(refused));
        }
        lock_all(transaction, folded).await?;
        turnstile::close(transaction, folded, id.folded()).await?;
        let stored = ON_CONDITION.lock(transaction, folded, id.folded()).await?;
        if let Err(refused) = permits_put(&order.condition, stored.as_deref()) {
            return Ok(Err(refused));
        }
        let before = stored_prefix(transaction, folded, id).await?;
        let (signers, mut row) = self.row()?;
        if let Err(refused) = signers::check(&signers, transaction, folded).await? {
            return Ok(Err(refused));
        }
        let has_prefix_already = before.as_ref() == Some(&group.registration_id_prefix);
        if let Err(refused) = group_limits::check(transaction, folded, group, has_prefix_already).await? {
            return Ok(Err(refused));
        }
        if let Err(refused) = anchor::replace(transaction, folded, group).await? {
            return Ok(Err(refused));
        }
        row.push(stored.as_deref().into());
        if execute(transaction, &PUT, &Rows::params_of(&row)).await? == 0 {
            return Err(Fault::raced("an enrollment group"));
        }
        if group.registration_id_prefix.is_none() || before == Some(None) {
            count_open_write(transaction, folded).await?;
        }
        let change = Change {
            scope,
            subject: Subject::Entry(EntryRef::Group(id.clone())),
            etag: Some(&group.settings.etag),
        };
        change.put(transaction, order.by.as_deref(), stored.is_some()).await?;
        Ok(Ok(()))
    }
}

/// Deletes a group.
pub(super) struct Delete<'w> {
    pub(super) scope: &'w IdScope,
    pub(super) id: &'w EnrollmentGroupId,
    pub(super) order: &'w WriteOrder,
}

#[async_trait]
impl Work for Delete<'_> {
    type Outcome = Result<(), WriteError>;

    async fn run(&self, transaction: &Transaction<'_>) -> Result<Self::Outcome, Fault> {
        let Self { scope, id, order } = self;
        let folded = scope.folded();
        lock_all(transaction, folded).await?;
        turnstile::close(transaction, folded, id.folded()).await?;
        let before = stored_prefix(transaction, folded, id).await?;
        let key = (folded, id.folded());
        if let Err(refused) = ON_CONDITION.delete(transaction, key, &order.condition).await? {
            return Ok(Err(refused));
        }
        anchor::delete(transaction, folded, id).await?;
        if before == Some(None) {
            count_open_write(transaction, folded).await?;
        }
        let subject = Subject::Entry(EntryRef::Group((*id).clone()));
        let change = Change { scope, subject, etag: None };
        change.write(transaction, order.by.as_deref(), Action::Deleted).await?;
        Ok(Ok(()))
    }
}

/// Lets nobody else write a group of this ID scope before the transaction has ended: what may be no more than so many is counted.
async fn lock_all(transaction: &Transaction<'_>, scope: &str) -> Result<(), Fault> {
    let insert =
        "INSERT INTO enrollment_group_version (id_scope, version) VALUES ($1, 0) ON CONFLICT DO NOTHING";
    execute(transaction, insert, &[&scope]).await?;
    let lock = "SELECT version FROM enrollment_group_version WHERE id_scope = $1 FOR UPDATE";
    query(transaction, lock, &[&scope]).await?;
    Ok(())
}

/// The prefix of a stored group; `None` where there is no such group.
async fn stored_prefix(
    transaction: &Transaction<'_>,
    scope: &str,
    id: &EnrollmentGroupId,
) -> Result<Option<Option<RegistrationIdPrefix>>, Fault> {
    let select = "SELECT registration_id_prefix FROM enrollment_group
                  WHERE id_scope = $1 AND enrollment_group_id = $2";
    let row = query_opt(transaction, select, &[&scope, &id.folded()]).await?;
    row.map(|row| Columns::of(&row).optional()).transpose()
}

/// Counts a write to a group that has no prefix, or had none.
async fn count_open_write(transaction: &Transaction<'_>, scope: &str) -> Result<(), Fault> {
    let update = "UPDATE enrollment_group_version SET version = version + 1 WHERE id_scope = $1";
    execute(transaction, update, &[&scope]).await?;
    Ok(())
}

fn row_key(scope: &IdScope, id: &EnrollmentGroupId) -> String {
    format!("enrollment-group/{}/{}", scope.folded(), id.folded())
}
