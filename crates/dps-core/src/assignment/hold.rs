//! What a claimed operation comes to at this moment. Spec: DPS-REG-31, DPS-REG-40.

use std::sync::Arc;

use dps_proto::ids::HubName;

use crate::attestation::{Entry, authentication};
use crate::enrollment::ProvisioningStatus;
use crate::instance::{LinkedHub, ServiceInstance};
use crate::ports::{ClaimedOperation, HubAuthentication, StoreError};
use crate::register::{Registrar, entry_of};
use crate::registration::{Assignment, Failure, Placing, Registration, State};

/// What a claim holds.
pub(super) enum Hold {
    /// Nothing: the operation is no longer the one that was claimed.
    Superseded,
    /// Nothing that could be done: nobody serves its instance here.
    Unserved,
    /// Its device is to be placed.
    Open(Box<Open>),
    /// Its entry is not what it was: it ends in this state, whatever a hub says.
    Ended(Box<Over>, State),
}

/// An operation that a claim holds.
pub(super) struct Over {
    pub(super) instance: Arc<ServiceInstance>,
    pub(super) record: Registration,
    pub(super) placing: Placing,
    /// Where the device lives.
    pub(super) last: Option<Assignment>,
    pub(super) entry: Option<Entry>,
}

/// One whose device is to be placed: its entry is enabled.
pub(super) struct Open {
    pub(super) over: Over,
    pub(super) authentication: HubAuthentication,
}

impl Over {
    /// The hub that the device leaves, linked or not.
    pub(super) fn leaves(&self) -> Option<&Assignment> {
        self.last.as_ref().filter(|last| last.hub != self.placing.target.hub)
    }
}

impl Open {
    /// Where the device is to live.
    pub(super) fn target(&self) -> Option<&LinkedHub> {
        self.over.instance.linked_hub(&self.over.placing.target.hub)
    }
}

impl ServiceInstance {
    /// Whether others run that hub, and it can be asked.
    pub(crate) fn is_outside(&self, hub: &HubName) -> bool {
        self.linked_hub(hub).is_some_and(|linked| linked.hub.registry().is_some())
    }
}

impl Registrar {
    /// The entry counts as it is now.
    pub(super) async fn hold(&self, claimed: &ClaimedOperation) -> Result<Hold, StoreError> {
        let ClaimedOperation { id_scope, registration_id, guid, etag, tries, .. } = claimed;
        let look_up = self.store.look_up(id_scope, registration_id).await?;
        let Some(record) = look_up.registration.clone() else { return Ok(Hold::Superseded) };
        let State::Assigning { placing, last } = record.state.clone() else { return Ok(Hold::Superseded) };
        if record.operation.guid != *guid || record.etag != *etag || placing.tries != *tries {
            return Ok(Hold::Superseded);
        }
        let Some(instance) = self.instances().of_scope(id_scope) else { return Ok(Hold::Unserved) };
        let entry = entry_of(&look_up, &record.entry);
        let placing = *placing;
        let id = &record.registration_id;
        let authentication =
            entry.as_ref().and_then(|entry| authentication(&instance, entry, id, &placing.target.credential));
        let status = entry.as_ref().map(|entry| entry.settings().provisioning_status);
        let over = Over { instance, record, placing, last: last.clone(), entry };
        Ok(match (status, authentication) {
            (Some(ProvisioningStatus::Disabled), _) => Hold::Ended(Box::new(over), State::Disabled { last }),
            (Some(ProvisioningStatus::Enabled), Some(authentication)) => {
                Hold::Open(Box::new(Open { over, authentication }))
            }
            (Some(ProvisioningStatus::Enabled), None) | (None, _) => {
                let state = State::Failed { failure: Failure::EnrollmentGone, last };
                Hold::Ended(Box::new(over), state)
            }
        })
    }

    /// Whether the claim is the newest and its operation open: asked after what is at a hub was read, and before it is changed.
    /// Spec: DPS-REG-44.
    pub(super) async fn still_holds(&self, claimed: &ClaimedOperation) -> Result<bool, StoreError> {
        Ok(matches!(self.hold(claimed).await?, Hold::Open(_)))
    }
}
