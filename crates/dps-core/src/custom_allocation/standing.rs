//! How an operation stands that waits for a webhook. Spec: DPS-REG-31, DPS-REG-32.

use std::sync::Arc;

use super::CustomAllocation;
use crate::allocation;
use crate::attestation::{Entry, authentication};
use crate::destination;
use crate::enrollment::{AllocationPolicy, ProvisioningStatus, ReprovisionPolicy};
use crate::instance::{LinkedHub, ServiceInstance};
use crate::ports::{ClaimedOperation, HubAuthentication, StoreError};
use crate::register::{Registrar, entry_of};
use crate::registration::{Assignment, Failure, Registration, State, Waiting};

/// How a claimed operation stands.
pub(super) enum Standing {
    /// It is no longer the one that was claimed.
    Superseded,
    /// Nobody serves its instance here.
    Unserved,
    /// Its hub is to be chosen.
    Open(Box<Open>),
    /// Its entry is not what it was: it ends so, whatever a webhook says.
    Ended { record: Box<Registration>, entry: Option<Entry>, state: State },
}

/// An operation whose hub is to be chosen.
pub(super) struct Open {
    pub(super) instance: Arc<ServiceInstance>,
    pub(super) record: Registration,
    pub(super) waiting: Waiting,
    /// Where the device lives.
    pub(super) last: Option<Assignment>,
    /// Enabled.
    pub(super) entry: Entry,
    pub(super) authentication: HubAuthentication,
    pub(super) policy: ReprovisionPolicy,
}

impl Open {
    /// Whether a webhook is to choose, as when the device registered.
    pub(super) fn is_custom(&self) -> bool {
        self.entry.settings().allocation_policy == Some(AllocationPolicy::Custom)
    }

    /// The hubs that a webhook may choose from.
    pub(super) fn candidates(&self) -> Vec<&LinkedHub> {
        let hub = self.last.as_ref().map(|last| &last.hub);
        allocation::candidates(&self.instance, self.entry.settings(), self.policy, hub)
    }

    /// Whom to ask, if there is anything to ask.
    pub(super) fn webhook(&self) -> Option<&CustomAllocation> {
        let webhook = self.entry.settings().custom_allocation.as_ref();
        webhook.filter(|_| self.is_custom() && !self.candidates().is_empty())
    }
}

impl Registrar {
    pub(super) async fn standing(&self, claimed: &ClaimedOperation) -> Result<Standing, StoreError> {
        let ClaimedOperation { id_scope, registration_id, guid, etag, tries, .. } = claimed;
        let look_up = self.store.look_up(id_scope, registration_id).await?;
        let Some(record) = look_up.registration.clone() else { return Ok(Standing::Superseded) };
        let State::Choosing { waiting, last } = record.state.clone() else { return Ok(Standing::Superseded) };
        if record.operation.guid != *guid || record.etag != *etag || waiting.tries != *tries {
            return Ok(Standing::Superseded);
        }
        let Some(instance) = self.instances().of_scope(id_scope) else { return Ok(Standing::Unserved) };
        let gone = |last| State::Failed { failure: Failure::EnrollmentGone, last };
        let Some(entry) = entry_of(&look_up, &record.entry) else {
            return Ok(Standing::Ended { record: Box::new(record), entry: None, state: gone(last) });
        };
        if entry.settings().provisioning_status == ProvisioningStatus::Disabled {
            return Ok(Standing::Ended {
                record: Box::new(record),
                entry: Some(entry),
                state: State::Disabled { last },
            });
        }
        let id = &record.registration_id;
        let Some(authentication) = authentication(&instance, &entry, id, &waiting.credential) else {
            return Ok(Standing::Ended { record: Box::new(record), entry: Some(entry), state: gone(last) });
        };
        let policy = destination::policy_of(&entry, waiting.predates_reprovisioning);
        let waiting = *waiting;
        Ok(Standing::Open(Box::new(Open { instance, record, waiting, last, entry, authentication, policy })))
    }
}
