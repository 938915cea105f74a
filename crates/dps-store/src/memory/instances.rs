//! The instances of a store in memory: the secret of each, and the settings of those that it keeps.

use dps_core::audit::{Action, Subject};
use dps_core::instance_settings::{INSTANCES_MAX, StoredInstance};
use dps_core::ports::{Condition, StoreError, WriteError};
use dps_proto::ids::{IdScope, InstanceSecret};

use crate::condition::{permits_deletion, permits_put};

/// In the order of their creation.
#[derive(Debug, Default)]
pub(super) struct Instances(Vec<Instance>);

#[derive(Debug)]
struct Instance {
    scope: IdScope,
    secret: InstanceSecret,
    kept: Kept,
}

/// What is kept of an instance beside its secret.
#[derive(Debug)]
enum Kept {
    /// A configuration has its settings.
    Nothing,
    Settings(Box<StoredInstance>),
    /// What belongs to it is to be deleted.
    Deleted,
}

impl Instances {
    pub(super) fn open(
        &mut self,
        scope: &IdScope,
        fresh: InstanceSecret,
    ) -> Result<InstanceSecret, StoreError> {
        match self.find(scope) {
            Some(Instance { kept: Kept::Deleted, .. }) => {
                let why = WriteError::InstanceBeingDeleted(scope.clone());
                return Err(StoreError::Unavailable(why.to_string()));
            }
            Some(known) => return Ok(known.secret.clone()),
            None => {}
        }
        self.0.push(Instance { scope: scope.clone(), secret: fresh.clone(), kept: Kept::Nothing });
        Ok(fresh)
    }

    /// Refuses what would write to an instance of which nothing is left. Spec: DPS-INST-8, DPS-STORE-24.
    pub(super) fn check_is_there(&self, scope: &IdScope) -> Result<(), WriteError> {
        self.find(scope).map(drop).ok_or_else(|| WriteError::InstanceBeingDeleted(scope.clone()))
    }

    pub(super) fn id_scopes(&self) -> Vec<IdScope> {
        let there = self.0.iter().filter(|instance| !matches!(instance.kept, Kept::Deleted));
        there.map(|instance| instance.scope.clone()).collect()
    }

    pub(super) fn stored(&self) -> impl Iterator<Item = &StoredInstance> {
        self.0.iter().filter_map(|instance| match &instance.kept {
            Kept::Settings(stored) => Some(&**stored),
            Kept::Nothing | Kept::Deleted => None,
        })
    }

    /// Gives what was changed. Spec: DPS-INST-2 to DPS-INST-4.
    pub(super) fn put(
        &mut self,
        mut new: StoredInstance,
        condition: &Condition,
    ) -> Result<Vec<(Action, Subject)>, WriteError> {
        let scope = new.settings.id_scope.clone();
        if self.find(&scope).is_some_and(|instance| matches!(instance.kept, Kept::Deleted)) {
            return Err(WriteError::InstanceBeingDeleted(scope));
        }
        let before = self.stored().find(|stored| stored.settings.id_scope == scope).cloned();
        permits_put(condition, before.as_ref().map(|before| before.etag.as_str()))?;
        if before.is_none() && self.stored().count() >= INSTANCES_MAX {
            return Err(WriteError::TooManyInstances(INSTANCES_MAX));
        }
        for host in &new.settings.service_hosts {
            let mut others = self.stored().filter(|stored| stored.settings.id_scope != scope);
            if let Some(owner) = others.find(|stored| stored.settings.service_hosts.contains(host)) {
                return Err(WriteError::ServiceHostTaken(host.clone(), owner.settings.id_scope.clone()));
            }
        }
        let changes = new.settings.changes_since(before.as_ref().map(|before| &before.settings));
        if let Some(before) = before {
            new.created_at = before.created_at;
            new.settings.id_scope = before.settings.id_scope;
        }
        new.secret = self.open(&scope, new.secret)?;
        if let Some(instance) = self.0.iter_mut().find(|instance| instance.scope == scope) {
            new.settings.id_scope = instance.scope.clone();
            instance.kept = Kept::Settings(Box::new(new));
        }
        Ok(changes)
    }

    pub(super) fn delete(&mut self, scope: &IdScope, condition: &Condition) -> Result<(), WriteError> {
        let instance = self.0.iter_mut().find(|instance| instance.scope == *scope);
        let etag = match instance.as_ref().map(|instance| &instance.kept) {
            Some(Kept::Settings(stored)) => Some(stored.etag.as_str()),
            Some(Kept::Nothing | Kept::Deleted) | None => None,
        };
        permits_deletion(condition, etag)?;
        if let Some(instance) = instance {
            instance.kept = Kept::Deleted;
        }
        Ok(())
    }

    /// Forgets the deleted ones, or the one of that ID scope if it is, and gives their ID scopes.
    pub(super) fn take_deleted(&mut self, of: Option<&IdScope>) -> Vec<IdScope> {
        let deleted = self.0.extract_if(.., |instance| {
            matches!(instance.kept, Kept::Deleted) && of.is_none_or(|of| *of == instance.scope)
        });
        deleted.map(|instance| instance.scope).collect()
    }

    fn find(&self, scope: &IdScope) -> Option<&Instance> {
        self.0.iter().find(|instance| instance.scope == *scope)
    }
}
