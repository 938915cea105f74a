//! Rows of `instance`: the secret of each, and the settings of those that the store keeps. Spec: DPS-ID-4, DPS-INST-1 to DPS-INST-3.

use dps_core::access::ServiceHost;
use dps_core::audit::{Action, Author, Subject};
use dps_core::instance_settings::{INSTANCES_MAX, InstanceSettings, StoredInstance};
use dps_core::ports::{StoreError, WriteError, WriteOrder};
use dps_core::x509::ChainRules;
use dps_proto::ids::{ETag, IdScope, InstanceSecret};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::audit::Change;
use super::columns::Columns;
use super::fault::Fault;
use super::{linked_hub, shared_access_policy};
use crate::condition::{permits_deletion, permits_put};
use crate::sealing::Sealer;
use crate::times::nanoseconds;
use crate::words::Word as _;

/// The sealed secret of an instance, which `fresh` becomes if the instance is new.
pub(super) fn open(connection: &Connection, scope: &IdScope, fresh: &[u8]) -> Result<Vec<u8>, Fault> {
    let select = "SELECT sealed_secret, is_deleted FROM instance WHERE id_scope = ?1";
    let known: Option<(Vec<u8>, bool)> = connection
        .prepare_cached(select)?
        .query_row([scope.folded()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match known {
        Some((secret, false)) => return Ok(secret),
        // Its secret goes with what is left of it.
        Some((_, true)) => return Err(being_deleted(scope).into()),
        None => {}
    }
    let insert = "INSERT INTO instance (id_scope, id_scope_spelling, sealed_secret) VALUES (?1, ?2, ?3)";
    connection.prepare_cached(insert)?.execute((scope.folded(), scope.as_str(), fresh))?;
    Ok(fresh.to_vec())
}

/// In the order of their creation.
pub(super) fn id_scopes(connection: &Connection) -> Result<Vec<IdScope>, Fault> {
    let select = "SELECT id_scope_spelling FROM instance WHERE is_deleted = 0 ORDER BY number";
    let mut statement = connection.prepare_cached(select)?;
    let mut rows = statement.query([])?;
    let mut scopes = Vec::new();
    while let Some(row) = rows.next()? {
        scopes.push(Columns::of(row).parsed()?);
    }
    Ok(scopes)
}

/// Those whose settings are here, in the order of their creation.
pub(super) fn list(connection: &Connection, sealer: &Sealer) -> Result<Vec<StoredInstance>, Fault> {
    let select = "SELECT id_scope_spelling FROM instance WHERE etag IS NOT NULL ORDER BY number";
    let mut statement = connection.prepare_cached(select)?;
    let mut rows = statement.query([])?;
    let mut instances = Vec::new();
    while let Some(row) = rows.next()? {
        let scope: IdScope = Columns::of(row).parsed()?;
        instances.extend(find(connection, sealer, &scope)?);
    }
    Ok(instances)
}

/// The instance of that ID scope, if its settings are here.
pub(super) fn find(
    connection: &Connection,
    sealer: &Sealer,
    scope: &IdScope,
) -> Result<Option<StoredInstance>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT id_scope_spelling, sealed_secret, etag, created_at, updated_at, service_hosts, allocation_policy,
                claim_across_groups, when_source_unavailable, passes_over_unhealthy_hubs,
                allow_v1_leaf, allow_v1_self_signed_anchor, allow_ca_leaf, enforce_anchor_expiry
         FROM instance WHERE id_scope = ?1 AND etag IS NOT NULL",
    )?;
    let mut rows = statement.query([scope.folded()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let mut columns = Columns::of(row);
    let id_scope: IdScope = columns.parsed()?;
    let sealed: Vec<u8> = columns.value()?;
    let secret = open_secret(sealer, &id_scope, &sealed)?;
    let (etag, created_at, updated_at): (ETag, Timestamp, Timestamp) =
        (columns.parsed()?, columns.time()?, columns.time()?);
    let service_hosts = read_hosts(&mut columns)?;
    let (default_allocation_policy, claim_across_groups) = (columns.word()?, columns.word()?);
    let (when_source_unavailable, passes_over_unhealthy_hubs) = (columns.word()?, columns.value()?);
    let chain_rules = ChainRules {
        allow_v1_leaf: columns.value()?,
        allow_v1_self_signed_anchor: columns.value()?,
        allow_ca_leaf: columns.word()?,
        enforce_anchor_expiry: columns.value()?,
    };
    let settings = InstanceSettings {
        service_hosts,
        default_allocation_policy,
        claim_across_groups,
        when_source_unavailable,
        passes_over_unhealthy_hubs,
        chain_rules,
        linked_hubs: linked_hub::list(connection, sealer, &id_scope)?,
        shared_access_policies: shared_access_policy::list(connection, sealer, &id_scope)?,
        id_scope,
    };
    Ok(Some(StoredInstance { settings, secret, etag, created_at, updated_at }))
}

fn read_hosts(columns: &mut Columns<'_>) -> Result<Vec<ServiceHost>, Fault> {
    let text: String = columns.value()?;
    let names: Vec<String> = serde_json::from_str(&text).map_err(|why| columns.unreadable(why))?;
    names.iter().map(|name| name.parse().map_err(|why| columns.unreadable(why))).collect()
}

/// An instance, and its secrets sealed.
pub(super) struct SealedInstance {
    instance: StoredInstance,
    secret: Vec<u8>,
    connection_strings: Vec<Option<Vec<u8>>>,
    policy_keys: Vec<Vec<u8>>,
}

impl SealedInstance {
    pub(super) fn seal(sealer: &Sealer, instance: StoredInstance) -> Result<Self, StoreError> {
        let scope = &instance.settings.id_scope;
        let secret = seal_secret(sealer, scope, &instance.secret)?;
        let connection_strings = linked_hub::seal(sealer, scope, &instance.settings.linked_hubs)?;
        let policies = &instance.settings.shared_access_policies;
        let policy_keys = shared_access_policy::seal(sealer, scope, policies)?;
        Ok(Self { instance, secret, connection_strings, policy_keys })
    }

    /// Spec: DPS-INST-2 to DPS-INST-4, DPS-INST-10.
    pub(super) fn put(
        &self,
        connection: &Connection,
        sealer: &Sealer,
        order: &WriteOrder,
    ) -> Result<Result<(), WriteError>, Fault> {
        let settings = &self.instance.settings;
        let scope = &settings.id_scope;
        if is_deleted(connection, scope)? {
            return Ok(Err(WriteError::InstanceBeingDeleted(scope.clone())));
        }
        let before = find(connection, sealer, scope)?;
        if let Err(refused) =
            permits_put(&order.condition, before.as_ref().map(|before| before.etag.as_str()))
        {
            return Ok(Err(refused));
        }
        if before.is_none() {
            let select = "SELECT count(*) FROM instance WHERE etag IS NOT NULL";
            let count: i64 = connection.prepare_cached(select)?.query_row([], |row| row.get(0))?;
            if count >= INSTANCES_MAX as i64 {
                return Ok(Err(WriteError::TooManyInstances(INSTANCES_MAX)));
            }
        }
        for host in &settings.service_hosts {
            if let Some(owner) = owner_of(connection, host, scope)? {
                return Ok(Err(WriteError::ServiceHostTaken(host.clone(), owner)));
            }
        }
        self.write(connection)?;
        if let Some(author) = &order.by {
            let changes = settings.changes_since(before.as_ref().map(|before| &before.settings));
            record(connection, scope, author, changes, &self.instance.etag)?;
        }
        Ok(Ok(()))
    }

    fn write(&self, connection: &Connection) -> Result<(), Fault> {
        let StoredInstance { settings, etag, created_at, updated_at, .. } = &self.instance;
        let hosts: Vec<&str> = settings.service_hosts.iter().map(ServiceHost::as_str).collect();
        let rules = settings.chain_rules;
        connection
            .prepare_cached(
                "INSERT INTO instance (
                     id_scope, id_scope_spelling, sealed_secret, etag, created_at, updated_at, service_hosts, allocation_policy,
                     claim_across_groups, allow_v1_leaf, allow_v1_self_signed_anchor, allow_ca_leaf, enforce_anchor_expiry,
                     when_source_unavailable, passes_over_unhealthy_hubs)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
                 ON CONFLICT (id_scope) DO UPDATE SET
                     etag = excluded.etag, created_at = coalesce(created_at, excluded.created_at),
                     updated_at = excluded.updated_at, service_hosts = excluded.service_hosts,
                     allocation_policy = excluded.allocation_policy, claim_across_groups = excluded.claim_across_groups,
                     allow_v1_leaf = excluded.allow_v1_leaf,
                     allow_v1_self_signed_anchor = excluded.allow_v1_self_signed_anchor,
                     allow_ca_leaf = excluded.allow_ca_leaf, enforce_anchor_expiry = excluded.enforce_anchor_expiry,
                     when_source_unavailable = excluded.when_source_unavailable,
                     passes_over_unhealthy_hubs = excluded.passes_over_unhealthy_hubs",
            )?
            .execute(params![
                settings.id_scope.folded(),
                settings.id_scope.as_str(),
                self.secret,
                etag.as_str(),
                nanoseconds(*created_at)?,
                nanoseconds(*updated_at)?,
                serde_json::Value::from(hosts).to_string(),
                settings.default_allocation_policy.word(),
                settings.claim_across_groups.word(),
                rules.allow_v1_leaf,
                rules.allow_v1_self_signed_anchor,
                rules.allow_ca_leaf.word(),
                rules.enforce_anchor_expiry,
                settings.when_source_unavailable.word(),
                settings.passes_over_unhealthy_hubs,
            ])?;
        let hubs = &settings.linked_hubs;
        linked_hub::replace(connection, &settings.id_scope, hubs, &self.connection_strings)?;
        let policies = &settings.shared_access_policies;
        shared_access_policy::replace(connection, &settings.id_scope, policies, &self.policy_keys)
    }
}

/// Spec: DPS-INST-8.
pub(super) fn delete(
    connection: &Connection,
    scope: &IdScope,
    order: &WriteOrder,
) -> Result<Result<(), WriteError>, Fault> {
    let select = "SELECT etag FROM instance WHERE id_scope = ?1 AND etag IS NOT NULL";
    let mut statement = connection.prepare_cached(select)?;
    let stored: Option<String> = statement.query_row([scope.folded()], |row| row.get(0)).optional()?;
    if let Err(refused) = permits_deletion(&order.condition, stored.as_deref()) {
        return Ok(Err(refused));
    }
    let update = "UPDATE instance SET etag = NULL, created_at = NULL, service_hosts = '[]', is_deleted = 1 WHERE id_scope = ?1";
    connection.prepare_cached(update)?.execute([scope.folded()])?;
    linked_hub::delete_all(connection, scope)?;
    shared_access_policy::delete_all(connection, scope)?;
    if let Some(author) = &order.by {
        let change = Change { scope, subject: Subject::ServiceInstance(scope.clone()), etag: None };
        change.write(connection, author, Action::Deleted)?;
    }
    Ok(Ok(()))
}

fn record(
    connection: &Connection,
    scope: &IdScope,
    author: &Author,
    changes: Vec<(Action, Subject)>,
    etag: &ETag,
) -> Result<(), Fault> {
    for (action, subject) in changes {
        let etag = (action != Action::Deleted).then_some(etag);
        Change { scope, subject, etag }.write(connection, author, action)?;
    }
    Ok(())
}

fn being_deleted(scope: &IdScope) -> StoreError {
    StoreError::Unavailable(WriteError::InstanceBeingDeleted(scope.clone()).to_string())
}

fn is_deleted(connection: &Connection, scope: &IdScope) -> Result<bool, Fault> {
    let select = "SELECT is_deleted FROM instance WHERE id_scope = ?1";
    let mut statement = connection.prepare_cached(select)?;
    Ok(statement.query_row([scope.folded()], |row| row.get(0)).optional()?.unwrap_or(false))
}

/// Refuses what would write to an instance of which nothing is left. What is written to one that is being deleted goes with the rest of
/// it. Spec: DPS-INST-8, DPS-STORE-24.
pub(super) fn check_is_there(
    connection: &Connection,
    scope: &IdScope,
) -> Result<Result<(), WriteError>, Fault> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM instance WHERE id_scope = ?1")?;
    Ok(match statement.exists([scope.folded()])? {
        true => Ok(()),
        false => Err(WriteError::InstanceBeingDeleted(scope.clone())),
    })
}

/// The other instance that has this service host. Spec: DPS-INST-3.
fn owner_of(connection: &Connection, host: &ServiceHost, but: &IdScope) -> Result<Option<IdScope>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT id_scope_spelling FROM instance, json_each(service_hosts) WHERE value = ?1 AND id_scope <> ?2",
    )?;
    let mut rows = statement.query([host.as_str(), but.folded()])?;
    rows.next()?.map(|row| Columns::of(row).parsed()).transpose()
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
