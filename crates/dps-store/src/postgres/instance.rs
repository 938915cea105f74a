//! Rows of `instance`: the secret of each, and the settings of those that the store keeps. Spec: DPS-ID-4, DPS-INST-1 to DPS-INST-3.

use async_trait::async_trait;
use deadpool_postgres::{GenericClient, Transaction};
use dps_core::access::ServiceHost;
use dps_core::audit::{Action, Author, Subject};
use dps_core::instance_settings::{INSTANCES_MAX, InstanceSettings, StoredInstance};
use dps_core::ports::{StoreError, WriteError, WriteOrder};
use dps_core::x509::ChainRules;
use dps_proto::ids::{ETag, IdScope, InstanceSecret};

use super::audit::Change;
use super::columns::Columns;
use super::fault::Fault;
use super::table::{Rows, Value};
use super::transaction::{Work, execute, query, query_opt};
use super::{linked_hub, shared_access_policy};
use crate::condition::{permits_deletion, permits_put};
use crate::sealing::Sealer;
use crate::times::nanoseconds;
use crate::words::Word as _;

/// Gives the sealed secret of an instance, which `fresh` becomes if the instance is new.
pub(super) struct Open<'w> {
    pub(super) scope: &'w IdScope,
    pub(super) fresh: &'w [u8],
}

#[async_trait]
impl Work for Open<'_> {
    type Outcome = Vec<u8>;

    async fn run(&self, transaction: &Transaction<'_>) -> Result<Vec<u8>, Fault> {
        let Self { scope, fresh } = self;
        let insert = "INSERT INTO instance (id_scope, id_scope_spelling, sealed_secret) VALUES ($1, $2, $3)
                      ON CONFLICT DO NOTHING";
        let select = "SELECT sealed_secret, is_deleted FROM instance WHERE id_scope = $1";
        // Numbers are given out even to those that are there already: looked for first, so that restarts use none up.
        let mut found = query_opt(transaction, select, &[&scope.folded()]).await?;
        if found.is_none() {
            execute(transaction, insert, &[&scope.folded(), &scope.as_str(), fresh]).await?;
            found = query_opt(transaction, select, &[&scope.folded()]).await?;
        }
        let row = found.ok_or_else(|| Fault::raced("an instance"))?;
        let mut columns = Columns::of(&row);
        let (secret, is_deleted) = (columns.value()?, columns.value()?);
        match is_deleted {
            false => Ok(secret),
            // Its secret goes with what is left of it.
            true => {
                let why = WriteError::InstanceBeingDeleted((*scope).clone());
                Err(StoreError::Unavailable(why.to_string()).into())
            }
        }
    }
}

/// In the order of their creation.
pub(super) async fn id_scopes(on: &impl GenericClient) -> Result<Vec<IdScope>, Fault> {
    let select = "SELECT id_scope_spelling FROM instance WHERE NOT is_deleted ORDER BY number";
    query(on, select, &[]).await?.iter().map(|row| Columns::of(row).parsed()).collect()
}

/// Reads the instance of that ID scope, or all in the order of their creation, if their settings are here.
pub(super) struct Kept<'r> {
    pub(super) sealer: &'r Sealer,
    pub(super) scope: Option<&'r IdScope>,
}

#[async_trait]
impl Work for Kept<'_> {
    type Outcome = Vec<StoredInstance>;

    async fn run(&self, transaction: &Transaction<'_>) -> Result<Vec<StoredInstance>, Fault> {
        let Self { sealer, scope } = self;
        let select = "SELECT id_scope_spelling, sealed_secret, etag, created_at, updated_at, service_hosts, allocation_policy,
                claim_across_groups, when_source_unavailable, passes_over_unhealthy_hubs,
                allow_v1_leaf, allow_v1_self_signed_anchor, allow_ca_leaf, enforce_anchor_expiry
             FROM instance WHERE id_scope = coalesce($1, id_scope) AND etag IS NOT NULL ORDER BY number";
        let mut hubs = linked_hub::list(transaction, sealer, *scope).await?;
        let mut policies = shared_access_policy::list(transaction, sealer, *scope).await?;
        let mut instances = Vec::new();
        for row in query(transaction, select, &[&scope.map(IdScope::folded)]).await? {
            let mut instance = read(&mut Columns::of(&row), sealer)?;
            let settings = &mut instance.settings;
            settings.linked_hubs = hubs.remove(settings.id_scope.folded()).unwrap_or_default();
            settings.shared_access_policies = policies.remove(settings.id_scope.folded()).unwrap_or_default();
            instances.push(instance);
        }
        Ok(instances)
    }
}

/// An instance without what has tables of its own.
fn read(columns: &mut Columns<'_>, sealer: &Sealer) -> Result<StoredInstance, Fault> {
    let id_scope: IdScope = columns.parsed()?;
    let sealed: &[u8] = columns.value()?;
    let secret = open_secret(sealer, &id_scope, sealed)?;
    let etag = columns.parsed()?;
    let (created_at, updated_at) = (columns.time()?, columns.time()?);
    let settings = InstanceSettings {
        service_hosts: columns.all_parsed()?,
        default_allocation_policy: columns.word()?,
        claim_across_groups: columns.word()?,
        when_source_unavailable: columns.word()?,
        passes_over_unhealthy_hubs: columns.value()?,
        chain_rules: ChainRules {
            allow_v1_leaf: columns.value()?,
            allow_v1_self_signed_anchor: columns.value()?,
            allow_ca_leaf: columns.word()?,
            enforce_anchor_expiry: columns.value()?,
        },
        linked_hubs: Vec::new(),
        shared_access_policies: Vec::new(),
        id_scope,
    };
    Ok(StoredInstance { settings, secret, etag, created_at, updated_at })
}

/// Creates an instance or replaces its settings. Spec: DPS-INST-2 to DPS-INST-4, DPS-INST-10.
pub(super) struct Put<'w> {
    sealer: &'w Sealer,
    instance: &'w StoredInstance,
    order: &'w WriteOrder,
    secret: Vec<u8>,
    connection_strings: Vec<Option<Vec<u8>>>,
    policy_keys: Vec<Vec<u8>>,
}

impl<'w> Put<'w> {
    pub(super) fn new(
        sealer: &'w Sealer,
        instance: &'w StoredInstance,
        order: &'w WriteOrder,
    ) -> Result<Self, StoreError> {
        let settings = &instance.settings;
        let scope = &settings.id_scope;
        let secret = seal_secret(sealer, scope, &instance.secret)?;
        let connection_strings = linked_hub::seal(sealer, scope, &settings.linked_hubs)?;
        let policy_keys = shared_access_policy::seal(sealer, scope, &settings.shared_access_policies)?;
        Ok(Self { sealer, instance, order, secret, connection_strings, policy_keys })
    }

    async fn write(&self, transaction: &Transaction<'_>) -> Result<(), Fault> {
        let StoredInstance { settings, etag, created_at, updated_at, .. } = self.instance;
        let scope = &settings.id_scope;
        let rules = settings.chain_rules;
        let upsert =
            "INSERT INTO instance (
                 id_scope, id_scope_spelling, sealed_secret, etag, created_at, updated_at, service_hosts, allocation_policy,
                 claim_across_groups, when_source_unavailable, passes_over_unhealthy_hubs,
                 allow_v1_leaf, allow_v1_self_signed_anchor, allow_ca_leaf, enforce_anchor_expiry)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
             ON CONFLICT (id_scope) DO UPDATE SET
                 etag = excluded.etag, created_at = coalesce(instance.created_at, excluded.created_at),
                 updated_at = excluded.updated_at, service_hosts = excluded.service_hosts,
                 allocation_policy = excluded.allocation_policy, claim_across_groups = excluded.claim_across_groups,
                 when_source_unavailable = excluded.when_source_unavailable,
                 passes_over_unhealthy_hubs = excluded.passes_over_unhealthy_hubs,
                 allow_v1_leaf = excluded.allow_v1_leaf,
                 allow_v1_self_signed_anchor = excluded.allow_v1_self_signed_anchor,
                 allow_ca_leaf = excluded.allow_ca_leaf, enforce_anchor_expiry = excluded.enforce_anchor_expiry";
        let row = [
            scope.folded().into(),
            scope.as_str().into(),
            self.secret.as_slice().into(),
            etag.as_str().into(),
            nanoseconds(*created_at)?.into(),
            nanoseconds(*updated_at)?.into(),
            Value::Texts(settings.service_hosts.iter().map(|host| host.as_str().into()).collect()),
            settings.default_allocation_policy.word().into(),
            settings.claim_across_groups.word().into(),
            settings.when_source_unavailable.word().into(),
            settings.passes_over_unhealthy_hubs.into(),
            rules.allow_v1_leaf.into(),
            rules.allow_v1_self_signed_anchor.into(),
            rules.allow_ca_leaf.word().into(),
            rules.enforce_anchor_expiry.into(),
        ];
        execute(transaction, upsert, &Rows::params_of(&row)).await?;
        linked_hub::replace(transaction, scope, &settings.linked_hubs, &self.connection_strings).await?;
        let policies = &settings.shared_access_policies;
        shared_access_policy::replace(transaction, scope, policies, &self.policy_keys).await
    }
}

#[async_trait]
impl Work for Put<'_> {
    type Outcome = Result<(), WriteError>;

    async fn run(&self, transaction: &Transaction<'_>) -> Result<Self::Outcome, Fault> {
        let settings = &self.instance.settings;
        let scope = &settings.id_scope;
        lock_all(transaction).await?;
        if is_deleted(transaction, scope).await? {
            return Ok(Err(WriteError::InstanceBeingDeleted(scope.clone())));
        }
        let before = Kept { sealer: self.sealer, scope: Some(scope) }.run(transaction).await?.pop();
        let stored = before.as_ref().map(|before| before.etag.as_str());
        if let Err(refused) = permits_put(&self.order.condition, stored) {
            return Ok(Err(refused));
        }
        if before.is_none() {
            let rows =
                query(transaction, "SELECT count(*) FROM instance WHERE etag IS NOT NULL", &[]).await?;
            let others: usize = rows.first().map_or(Ok(0), |row| Columns::of(row).number())?;
            if others >= INSTANCES_MAX {
                return Ok(Err(WriteError::TooManyInstances(INSTANCES_MAX)));
            }
        }
        for host in &settings.service_hosts {
            if let Some(owner) = owner_of(transaction, host, scope).await? {
                return Ok(Err(WriteError::ServiceHostTaken(host.clone(), owner)));
            }
        }
        self.write(transaction).await?;
        let changes = settings.changes_since(before.as_ref().map(|before| &before.settings));
        record(transaction, scope, self.order.by.as_deref(), changes, &self.instance.etag).await?;
        Ok(Ok(()))
    }
}

/// Takes an instance's settings away. Spec: DPS-INST-8.
pub(super) struct Delete<'w> {
    pub(super) scope: &'w IdScope,
    pub(super) order: &'w WriteOrder,
}

#[async_trait]
impl Work for Delete<'_> {
    type Outcome = Result<(), WriteError>;

    async fn run(&self, transaction: &Transaction<'_>) -> Result<Self::Outcome, Fault> {
        let Self { scope, order } = self;
        lock_all(transaction).await?;
        // Waits for those who write to any instance, and holds up those who begin to: see NOT_THERE.
        transaction.batch_execute("LOCK TABLE instance IN EXCLUSIVE MODE").await?;
        let select = "SELECT etag FROM instance WHERE id_scope = $1 AND etag IS NOT NULL FOR UPDATE";
        let row = query_opt(transaction, select, &[&scope.folded()]).await?;
        let stored: Option<String> = row.map(|row| Columns::of(&row).value()).transpose()?;
        if let Err(refused) = permits_deletion(&order.condition, stored.as_deref()) {
            return Ok(Err(refused));
        }
        let update =
            "UPDATE instance SET etag = NULL, created_at = NULL, service_hosts = '{}', is_deleted = true
                      WHERE id_scope = $1";
        execute(transaction, update, &[&scope.folded()]).await?;
        linked_hub::delete_all(transaction, scope).await?;
        shared_access_policy::delete_all(transaction, scope).await?;
        let change = Change { scope, subject: Subject::ServiceInstance((*scope).clone()), etag: None };
        change.write(transaction, order.by.as_deref(), Action::Deleted).await?;
        Ok(Ok(()))
    }
}

async fn record(
    transaction: &Transaction<'_>,
    scope: &IdScope,
    by: Option<&Author>,
    changes: Vec<(Action, Subject)>,
    etag: &ETag,
) -> Result<(), Fault> {
    for (action, subject) in changes {
        let etag = (action != Action::Deleted).then_some(etag);
        Change { scope, subject, etag }.write(transaction, by, action).await?;
    }
    Ok(())
}

/// Lets nobody else write the settings of instances before the transaction has ended: they are counted, and no two may have the same
/// service host.
async fn lock_all(transaction: &Transaction<'_>) -> Result<(), Fault> {
    execute(transaction, "UPDATE turn SET taken = taken + 1 WHERE name = 'instances'", &[]).await?;
    Ok(())
}

/// Another number after each change: each that writes settings counts its turn, in its own transaction. Spec: DPS-NODE-3.
pub(super) async fn settings_version(on: &impl GenericClient) -> Result<i64, Fault> {
    let row = query_opt(on, "SELECT taken FROM turn WHERE name = 'instances'", &[]).await?;
    let row =
        row.ok_or_else(|| Fault::unreadable("the row of the table turn that is called instances is gone"))?;
    Columns::of(&row).value()
}

/// Those of the ID scopes `$1` that no instance has, or one that is being deleted. It holds no row of another, and yet lets none be
/// deleted before the transaction has ended: whoever locks rows holds the table too, and [`Delete`] waits for that.
pub(super) const NOT_THERE: &str = "WITH being_deleted AS (
         SELECT id_scope FROM instance WHERE is_deleted AND id_scope = ANY ($1::text[]) FOR KEY SHARE)
     SELECT wanted.id_scope FROM unnest($1::text[]) AS wanted (id_scope)
     WHERE wanted.id_scope IN (SELECT id_scope FROM being_deleted)
         OR (SELECT true FROM instance i WHERE i.id_scope = wanted.id_scope AND NOT i.is_deleted) IS NULL";

/// Refuses what would write to an instance that is being deleted or gone: a node may serve it for a moment more, and a request that
/// it took may be late. Spec: DPS-INST-8, DPS-STORE-23, DPS-STORE-24.
pub(super) async fn check_stays(
    transaction: &Transaction<'_>,
    scope: &IdScope,
) -> Result<Result<(), WriteError>, Fault> {
    let found = query_opt(transaction, NOT_THERE, &[&[scope.folded()].as_slice()]).await?;
    Ok(match found {
        Some(_) => Err(WriteError::InstanceBeingDeleted(scope.clone())),
        None => Ok(()),
    })
}

async fn is_deleted(transaction: &Transaction<'_>, scope: &IdScope) -> Result<bool, Fault> {
    let select = "SELECT is_deleted FROM instance WHERE id_scope = $1";
    let row = query_opt(transaction, select, &[&scope.folded()]).await?;
    row.map_or(Ok(false), |row| Columns::of(&row).value())
}

/// The other instance that has this service host. Spec: DPS-INST-3.
async fn owner_of(
    transaction: &Transaction<'_>,
    host: &ServiceHost,
    but: &IdScope,
) -> Result<Option<IdScope>, Fault> {
    let select =
        "SELECT id_scope_spelling FROM instance WHERE $1 = ANY (service_hosts) AND id_scope <> $2 LIMIT 1";
    let row = query_opt(transaction, select, &[&host.as_str(), &but.folded()]).await?;
    row.map(|row| Columns::of(&row).parsed()).transpose()
}

pub(super) fn seal_secret(
    sealer: &Sealer,
    scope: &IdScope,
    secret: &InstanceSecret,
) -> Result<Vec<u8>, StoreError> {
    sealer.seal(&row_key(scope), secret.expose())
}

pub(super) fn open_secret(
    sealer: &Sealer,
    scope: &IdScope,
    sealed: &[u8],
) -> Result<InstanceSecret, StoreError> {
    let row_key = row_key(scope);
    let secret = sealer.open(&row_key, sealed)?;
    let bytes = <[u8; 32]>::try_from(secret.as_slice());
    bytes
        .map(InstanceSecret::new)
        .map_err(|_| StoreError::Unreadable(format!("the secret of {row_key} has no 32 bytes")))
}

fn row_key(scope: &IdScope) -> String {
    format!("instance/{}", scope.folded())
}
