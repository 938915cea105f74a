//! The worker that has devices gone from hubs outside. Spec: DPS-REG-43.

use std::sync::Arc;

use dps_core::assignment::{CleanedUp, LEASE};
use dps_core::ports::{ClaimOrder, Claimed, CleanUp, StoreError};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use super::held_back::held_back;
use crate::claims::{self, Bounds, Due, HeldBack, Place, Work};
use crate::front_end::FrontEnd;
use crate::metrics::{HubOutcome, HubWork};

/// Has devices gone from hubs outside; one for each node.
pub struct CleanUpWorker {
    front_end: Arc<FrontEnd>,
}

impl Work for CleanUpWorker {
    type Item = CleanUp;

    /// A quarter of what devices have that wait: nobody waits for this. Spec: DPS-REG-40.
    fn bounds(&self) -> Bounds {
        let limits = &self.front_end.limits;
        let (calls_max, per_peer_max) = ((limits.hub_work / 4).max(1), (limits.hub_work_per_hub / 4).max(1));
        Bounds { calls_max, per_peer_max, ahead_per_peer_max: 0, lease: LEASE }
    }

    fn now(&self) -> Timestamp {
        self.front_end.moments.moment().now
    }

    fn due(&self) -> &Due {
        &self.front_end.clean_ups
    }

    fn held_back(&self) -> HeldBack {
        held_back(self.front_end.registrar.instances(), self.bounds().per_peer_max)
    }

    async fn claim(&self, order: ClaimOrder) -> Result<Claimed<CleanUp>, StoreError> {
        self.front_end.registrar.claim_clean_ups(order).await
    }

    fn peer(item: &CleanUp) -> Box<str> {
        item.peer()
    }

    async fn carry_out(&self, mut claimed: CleanUp, _place: Place) {
        let FrontEnd { registrar, moments, metrics, .. } = &*self.front_end;
        // A store knows an ID scope by its letters; people know it as it is written.
        if let Some(instance) = registrar.instances().of_scope(&claimed.id_scope) {
            claimed.id_scope = instance.id_scope.clone();
        }
        let began = Instant::now();
        let call = metrics.hub_asked(HubWork::CleanUp);
        let cleaned_up = registrar.clean_up(&claimed, &|| moments.moment()).await;
        let outcome = match &cleaned_up {
            Ok(CleanedUp::Gone | CleanedUp::ToConfirm(_)) => HubOutcome::Done,
            Ok(CleanedUp::Postponed { .. }) => HubOutcome::Postponed,
            Ok(CleanedUp::Superseded | CleanedUp::Unserved) | Err(_) => HubOutcome::Undecided,
        };
        call.ended(outcome, began.elapsed());
        let CleanUp { id_scope, hub, device_id, registration_id, tries, .. } = &claimed;
        let (id_scope, hub, device_id) = (id_scope.as_str(), hub.as_str(), device_id.as_str());
        let registration_id = registration_id.as_str();
        match cleaned_up {
            Ok(CleanedUp::Gone | CleanedUp::ToConfirm(_)) => {
                tracing::info!(id_scope, registration_id, hub, device_id, tries, "device gone from a hub");
            }
            Ok(CleanedUp::Postponed { until, trouble }) => {
                let reason = &*trouble.reason;
                tracing::warn!(
                    id_scope, registration_id, hub, device_id, tries, until = %until, reason,
                    "device still at a hub that it has left"
                );
            }
            Ok(CleanedUp::Superseded | CleanedUp::Unserved) => {
                tracing::debug!(id_scope, registration_id, hub, device_id, tries, "device left at a hub");
            }
            Err(why) => tracing::warn!(
                id_scope, registration_id, hub, device_id, tries, reason = %why,
                "a hub could not be rid of a device"
            ),
        }
    }
}

impl CleanUpWorker {
    /// One that asks the hubs of the instances that are served.
    pub fn new(front_end: Arc<FrontEnd>) -> Arc<Self> {
        Arc::new(Self { front_end })
    }

    /// Works until it is to stop, then lets the tries that are under way end: each has a deadline.
    pub async fn run(self: Arc<Self>, stopping: watch::Receiver<bool>) {
        claims::run(self, stopping).await;
    }
}
