//! Changing the settings of a service instance while it is served. Spec: DPS-INST-1, DPS-INST-4.

use std::sync::Arc;
use std::time::Duration;

use dps_core::instance::ServiceInstance;
use dps_core::instance_settings::{InstanceSettings, StoredInstance};
use dps_core::instances::Origin;
use dps_core::ports::{Condition, StoreError, WriteError};
use dps_proto::ids::{ETag, IdScope, InstanceSecret};
use tokio::sync::MutexGuard;
use tokio::task;
use tokio::time::timeout;

use super::Admin;
use super::refused::Refused;
use crate::if_match::IfMatch;

/// Longest wait for changes that came earlier.
const TURN_WITHIN: Duration = Duration::from_secs(15);

/// What a change begins with: the settings that there are.
pub(super) type Current<'c> = Option<&'c InstanceSettings>;

/// What a change came to.
pub(super) struct Changed {
    /// The settings that there were.
    pub(super) before: Option<InstanceSettings>,
    pub(super) now: StoredInstance,
}

impl Admin {
    /// Writes what `to` makes of the settings of an instance, and serves that from then on. What was begun is ended, whether or
    /// not somebody waits for the answer: what is kept and what is served never differ.
    pub(super) async fn change_instance<F>(
        self: &Arc<Self>,
        scope: IdScope,
        condition: ChangeCondition,
        to: F,
    ) -> Result<Changed, Refused>
    where
        F: FnOnce(Current<'_>) -> Result<InstanceSettings, Refused> + Send + 'static,
    {
        let admin = Arc::clone(self);
        let change = async move { admin.change_in_turn(scope, condition, to).await };
        task::spawn(change).await.unwrap_or_else(|why| Err(why.into()))
    }

    async fn change_in_turn(
        &self,
        scope: IdScope,
        condition: ChangeCondition,
        to: impl FnOnce(Current<'_>) -> Result<InstanceSettings, Refused>,
    ) -> Result<Changed, Refused> {
        let _turn = self.turn().await?;
        self.refuse_configured(&scope)?;
        let current = self.store.service_instance(&scope).await?;
        let condition = condition.on(&scope, current.as_ref().map(|current| &current.etag))?;
        let settings = to(current.as_ref().map(|current| &current.settings))?.checked()?;
        self.refuse_hosts_of_configured(&settings)?;
        let moment = self.moments.moment();
        let instance = match &current {
            // In the spelling of the creation.
            Some(current) => {
                let id_scope = current.settings.id_scope.clone();
                current.with(InstanceSettings { id_scope, ..settings }, moment)
            }
            None => {
                let secret = InstanceSecret::new(self.moments.moment().random);
                StoredInstance::first(settings, secret, moment)
            }
        };
        match self.store.put_service_instance(instance.clone(), self.order(condition)).await {
            Ok(()) => {}
            Err(WriteError::Exists) => return Err(exists(&scope)),
            Err(why) => return Err(why.into()),
        }
        let now = match &current {
            Some(_) => instance,
            // With the secret and the spelling of an instance that was in a configuration before.
            None => self.store.service_instance(&scope).await?.ok_or(Refused::Changed)?,
        };
        let served = ServiceInstance::new(now.settings.clone(), now.secret.clone(), &*self.hubs);
        self.registrar.instances().set(Origin::Store, served);
        Ok(Changed { before: current.map(|current| current.settings), now })
    }

    /// One change at a time.
    pub(super) async fn turn(&self) -> Result<MutexGuard<'_, ()>, Refused> {
        let waited = timeout(TURN_WITHIN, self.changing.lock()).await;
        waited.map_err(|_| {
            let why = format!("earlier changes have not ended for {} s", TURN_WITHIN.as_secs());
            StoreError::Unavailable(why).into()
        })
    }

    /// Spec: DPS-INST-1.
    pub(super) fn refuse_configured(&self, scope: &IdScope) -> Result<(), Refused> {
        if self.registrar.instances().origin(scope) != Some(Origin::Configuration) {
            return Ok(());
        }
        Err(Refused::Conflict(format!(
            "the service instance {scope} stands in the configuration of the service: change it there"
        )))
    }

    /// Spec: DPS-INST-3. Those of other instances that are kept in the store, the store refuses.
    fn refuse_hosts_of_configured(&self, settings: &InstanceSettings) -> Result<(), Refused> {
        for host in &settings.service_hosts {
            let Some(owner) = self.registrar.instances().of_host(host.as_str()) else { continue };
            if self.registrar.instances().origin(&owner.id_scope) == Some(Origin::Configuration) {
                return Err(WriteError::ServiceHostTaken(host.clone(), owner.id_scope.clone()).into());
            }
        }
        Ok(())
    }
}

/// On what condition an instance, or something of it, is changed. Spec: DPS-INST-4.
pub(super) enum ChangeCondition {
    /// That of a PUT of the instance itself.
    Whole(IfMatch),
    /// It is there, with the etag that `If-Match` names if it names one.
    There(IfMatch),
}

impl ChangeCondition {
    fn on(self, scope: &IdScope, current: Option<&ETag>) -> Result<Condition, Refused> {
        match (self, current) {
            (Self::There(_), None) => Err(no_such(scope)),
            (Self::Whole(IfMatch::Absent), Some(_)) => Err(exists(scope)),
            (Self::Whole(IfMatch::Tag(_)), None) => Err(Refused::Changed),
            (Self::Whole(_), None) => Ok(Condition::IfAbsent),
            (Self::Whole(given) | Self::There(given), Some(etag)) if given.fits(etag) => {
                Ok(Condition::IfMatches(etag.clone()))
            }
            (Self::Whole(_) | Self::There(_), Some(_)) => Err(Refused::Changed),
        }
    }
}

pub(super) fn no_such(scope: &IdScope) -> Refused {
    Refused::NoSuch(format!("there is no service instance {scope}"))
}

fn exists(scope: &IdScope) -> Refused {
    Refused::Conflict(format!(
        "there is a service instance {scope} already: send its etag in If-Match to replace its settings"
    ))
}
