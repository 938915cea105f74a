//! The worker that brings devices to hubs outside. Spec: DPS-REG-40 to DPS-REG-45.

use std::sync::Arc;

use dps_core::assignment::{LEASE, Placed, Trouble};
use dps_core::ports::{ClaimOrder, Claimed, ClaimedOperation, StoreError, WaitingFor};
use dps_core::registration::{Registration, State, Substatus};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use super::held_back::held_back;
use crate::claims::{self, Bounds, Due, HeldBack, Place, Work};
use crate::explain::{Explanation, Step};
use crate::front_end::FrontEnd;
use crate::metrics::{HubOutcome, HubWork};
use crate::unassigned::Unassigned;

/// Brings devices to hubs outside; one for each node.
pub struct PlacementWorker {
    front_end: Arc<FrontEnd>,
}

impl Work for PlacementWorker {
    type Item = ClaimedOperation;

    fn bounds(&self) -> Bounds {
        let limits = &self.front_end.limits;
        let (calls_max, per_peer_max) = (limits.hub_work, limits.hub_work_per_hub);
        Bounds { calls_max, per_peer_max, ahead_per_peer_max: per_peer_max / 2, lease: LEASE }
    }

    fn now(&self) -> Timestamp {
        self.front_end.moments.moment().now
    }

    fn due(&self) -> &Due {
        &self.front_end.placements
    }

    fn held_back(&self) -> HeldBack {
        held_back(self.front_end.registrar.instances(), self.bounds().per_peer_max)
    }

    async fn claim(&self, order: ClaimOrder) -> Result<Claimed, StoreError> {
        self.front_end.registrar.claim_waiting(WaitingFor::Hub, order).await
    }

    fn peer(item: &ClaimedOperation) -> Box<str> {
        item.peer.clone()
    }

    async fn carry_out(&self, mut claimed: ClaimedOperation, place: Place) {
        let FrontEnd { registrar, moments, metrics, .. } = &*self.front_end;
        // A store knows an ID scope by its letters; people know it as it is written.
        if let Some(instance) = registrar.instances().of_scope(&claimed.id_scope) {
            claimed.id_scope = instance.id_scope.clone();
        }
        let began = Instant::now();
        let call = metrics.hub_asked(HubWork::Placement);
        let placed = registrar.place(&claimed, &|| moments.moment(), &|| place.leave()).await;
        let outcome = match &placed {
            Ok(Placed::Recorded { registration, .. }) => match registration.state {
                State::Assigned { .. } => HubOutcome::Done,
                _ => HubOutcome::Failed,
            },
            Ok(Placed::Postponed { .. }) => HubOutcome::Postponed,
            Ok(Placed::Superseded | Placed::Unserved) | Err(_) => HubOutcome::Undecided,
        };
        call.ended(outcome, began.elapsed());
        match placed {
            Ok(placed) => self.tell(&claimed, placed),
            Err(why) => tracing::warn!(
                id_scope = claimed.id_scope.as_str(),
                registration_id = claimed.registration_id.as_str(),
                tries = claimed.tries,
                reason = %why,
                "device could not be brought to its hub"
            ),
        }
    }
}

/// Whether it is where it was, or was nowhere.
fn has_left_nothing(record: &Registration) -> bool {
    use Substatus::{InitialAssignment, ReprovisionedToInitialAssignment};
    matches!(
        record.state,
        State::Assigned { substatus: InitialAssignment | ReprovisionedToInitialAssignment, .. }
    )
}

impl PlacementWorker {
    /// One that asks the hubs of the instances that are served.
    pub fn new(front_end: Arc<FrontEnd>) -> Arc<Self> {
        Arc::new(Self { front_end })
    }

    /// Works until it is to stop, then lets the tries that are under way end: each has a deadline.
    pub async fn run(self: Arc<Self>, stopping: watch::Receiver<bool>) {
        claims::run(self, stopping).await;
    }

    /// Counts, logs and explains what came of it.
    fn tell(&self, claimed: &ClaimedOperation, placed: Placed) {
        let ClaimedOperation { id_scope, registration_id, tries, .. } = claimed;
        match placed {
            Placed::Recorded { registration, trouble } => {
                // What it left, or what may have been made and is not wanted; a claim is a write, so not for every device.
                if !has_left_nothing(&registration) {
                    self.front_end.clean_ups.wake();
                }
                self.tell_ended(claimed, &registration, trouble);
            }
            Placed::Postponed { until, trouble: Some(Trouble { hub, reason }) } => tracing::warn!(
                id_scope = id_scope.as_str(),
                registration_id = registration_id.as_str(),
                hub = hub.as_str(),
                tries,
                until = %until,
                reason = &*reason,
                "hub to be asked again"
            ),
            Placed::Postponed { until, trouble: None } => tracing::debug!(
                id_scope = id_scope.as_str(),
                registration_id = registration_id.as_str(),
                tries,
                until = %until,
                "device to be brought to its hub later"
            ),
            Placed::Superseded | Placed::Unserved => {
                self.front_end.clean_ups.wake();
                tracing::debug!(
                    id_scope = id_scope.as_str(),
                    registration_id = registration_id.as_str(),
                    tries,
                    "device no longer brought to its hub"
                );
            }
        }
    }

    fn tell_ended(&self, claimed: &ClaimedOperation, record: &Registration, trouble: Option<Trouble>) {
        let Registration { id_scope, registration_id, entry, .. } = record;
        let (tries, outcome) = (claimed.tries, record.state.word());
        let (hub, did) = trouble.map(|Trouble { hub, reason }| (hub, reason)).unzip();
        let Some(unassigned) = Unassigned::of(record) else {
            if let State::Assigned { assignment, substatus } = &record.state {
                self.front_end.metrics.placed(assignment, *substatus);
                tracing::info!(
                    id_scope = id_scope.as_str(),
                    registration_id = registration_id.as_str(),
                    %entry,
                    tries,
                    hub = assignment.hub.as_str(),
                    device_id = assignment.device_id.as_str(),
                    substatus = ?substatus,
                    without_data_of = hub.as_ref().map(|hub| hub.as_str()),
                    reason = did.as_deref(),
                    outcome,
                    "device placed"
                );
            }
            return;
        };
        let Unassigned { told: code, reason, advice, .. } = unassigned;
        // What the hub did says more than what is kept of it.
        let reason =
            did.filter(|_| outcome == "failed").map_or(reason.clone(), |did| format!("{reason} ({did})"));
        let tracking_id = self.front_end.moments.tracking_id();
        tracing::warn!(
            %tracking_id,
            error_code = code,
            id_scope = id_scope.as_str(),
            registration_id = registration_id.as_str(),
            %entry,
            tries,
            hub = hub.as_ref().map(|hub| hub.as_str()),
            outcome,
            reason,
            "device not placed"
        );
        let explanation = Explanation {
            at: self.front_end.moments.moment().now,
            tracking_id: Some(tracking_id),
            connection: None,
            peer: None,
            transport: None,
            id_scope: Some(id_scope.clone()),
            registration_id: Some(registration_id.clone()),
            step: Step::Allocation,
            told: code,
            reason,
            advice: Some(advice.to_owned()),
            chain: None,
        };
        let known = self.front_end.registrar.knows(id_scope);
        self.front_end.explanations.keep(explanation, known);
    }
}
