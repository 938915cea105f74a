//! The worker that asks webhooks: claims what is due, calls, settles. Spec: DPS-REG-29, DPS-REG-32, DPS-REG-33.

use std::sync::Arc;
use std::time::Duration;

use dps_core::custom_allocation::{Asking, Settled};
use dps_core::ports::{
    AllocationHook, ClaimOrder, Claimed, ClaimedOperation, HookAnswer, StoreError, WaitingFor,
};
use dps_core::refusal::Refusal;
use dps_core::registration::{Registration, State};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use super::question;
use crate::claims::{self, Bounds, Due, Place, Work};
use crate::explain::{Explanation, Step};
use crate::front_end::FrontEnd;
use crate::unassigned::Unassigned;

/// Most calls at one time. Spec: DPS-REG-33.
pub const CALLS_MAX: usize = 128;

/// Most calls at one time to one webhook host, so that one that does not answer leaves room for others. Spec: DPS-REG-33.
pub const CALLS_PER_HOST_MAX: u32 = 16;

/// For how long a claimed operation is nobody else's: a call with its deadline of 10 s, and the store before and after it.
/// Spec: DPS-REG-32.
pub const LEASE: Duration = Duration::from_secs(30);

/// Asks webhooks for hubs; one for each node.
pub struct AllocationWorker {
    front_end: Arc<FrontEnd>,
    hook: Arc<dyn AllocationHook>,
}

impl Work for AllocationWorker {
    type Item = ClaimedOperation;

    fn bounds(&self) -> Bounds {
        Bounds { calls_max: CALLS_MAX, per_peer_max: CALLS_PER_HOST_MAX, ahead_per_peer_max: 0, lease: LEASE }
    }

    fn now(&self) -> Timestamp {
        self.front_end.moments.moment().now
    }

    fn due(&self) -> &Due {
        &self.front_end.allocations
    }

    async fn claim(&self, order: ClaimOrder) -> Result<Claimed, StoreError> {
        self.front_end.registrar.claim_waiting(WaitingFor::Webhook, order).await
    }

    fn peer(item: &ClaimedOperation) -> Box<str> {
        item.peer.clone()
    }

    async fn carry_out(&self, mut claimed: ClaimedOperation, _place: Place) {
        // A store knows an ID scope by its letters; people know it as it is written.
        if let Some(instance) = self.front_end.registrar.instances().of_scope(&claimed.id_scope) {
            claimed.id_scope = instance.id_scope.clone();
        }
        self.ask(&claimed).await;
    }
}

impl AllocationWorker {
    /// One that asks by this hook.
    pub fn new(front_end: Arc<FrontEnd>, hook: Arc<dyn AllocationHook>) -> Arc<Self> {
        Arc::new(Self { front_end, hook })
    }

    /// Works until it is to stop, then lets the calls that are under way end: each has a deadline.
    pub async fn run(self: Arc<Self>, stopping: watch::Receiver<bool>) {
        claims::run(self, stopping).await;
    }

    /// Asks about one operation, and settles it.
    async fn ask(&self, claimed: &ClaimedOperation) {
        let FrontEnd { registrar, moments, metrics, .. } = &*self.front_end;
        let asking = match registrar.allocation_request(claimed, moments.moment()).await {
            Ok(asking) => asking,
            Err(why) => return undecided(claimed, &why),
        };
        let request = match asking {
            Asking::Settled(settled) => return self.tell(claimed, settled, None),
            Asking::Unserved => return,
            Asking::Webhook(request) => request,
        };
        let json = question(&request);
        let began = Instant::now();
        let call = metrics.webhook_called();
        let HookAnswer { outcome, told } = self.hook.ask(&request.webhook.webhook_url, json).await;
        call.ended((&outcome).into(), began.elapsed());
        match registrar.settle_allocation(claimed, outcome, moments.moment()).await {
            Ok(settled) => self.tell(claimed, settled, Some(told)),
            Err(why) => undecided(claimed, &why),
        }
    }

    /// Counts, logs and explains what came of it.
    fn tell(&self, claimed: &ClaimedOperation, settled: Settled, told: Option<String>) {
        let ClaimedOperation { id_scope, registration_id, tries, peer: webhook, .. } = claimed;
        match settled {
            Settled::Recorded(record) => {
                self.front_end.metrics.allocated(&record.state);
                self.tell_ended(claimed, &record, told);
            }
            Settled::Postponed(until) => tracing::warn!(
                id_scope = id_scope.as_str(),
                registration_id = registration_id.as_str(),
                webhook = &**webhook,
                tries,
                until = %until,
                reason = told.as_deref().unwrap_or_default(),
                "webhook to be asked again"
            ),
            Settled::Superseded | Settled::Unserved => tracing::debug!(
                id_scope = id_scope.as_str(),
                registration_id = registration_id.as_str(),
                webhook = &**webhook,
                tries,
                "webhook no longer waited for"
            ),
        }
    }

    fn tell_ended(&self, claimed: &ClaimedOperation, record: &Registration, told: Option<String>) {
        let ClaimedOperation { peer: webhook, tries, .. } = claimed;
        let Registration { id_scope, registration_id, entry, .. } = record;
        let assignment = match &record.state {
            State::Assigned { assignment, .. } => Some(assignment),
            State::Assigning { placing, .. } => Some(&placing.target),
            State::Choosing { .. } | State::Failed { .. } | State::Disabled { .. } => None,
        };
        let outcome = record.state.word();
        self.front_end.wake_for(record);
        let Some(unassigned) = Unassigned::of(record) else {
            tracing::info!(
                id_scope = id_scope.as_str(),
                registration_id = registration_id.as_str(),
                %entry,
                webhook = &**webhook,
                tries,
                hub = assignment.map(|assignment| assignment.hub.as_str()),
                device_id = assignment.map(|assignment| assignment.device_id.as_str()),
                outcome,
                "device allocated"
            );
            return;
        };
        let Unassigned { told: code, reason, advice, .. } = unassigned;
        // What the webhook did says more than what is kept of it.
        let reason =
            told.filter(|_| outcome == "failed").map_or(reason.clone(), |told| match told == reason {
                true => reason,
                false => format!("{reason} ({told})"),
            });
        let tracking_id = self.front_end.moments.tracking_id();
        tracing::warn!(
            %tracking_id,
            error_code = code,
            id_scope = id_scope.as_str(),
            registration_id = registration_id.as_str(),
            %entry,
            webhook = &**webhook,
            tries,
            outcome,
            reason,
            "device not allocated"
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

fn undecided(claimed: &ClaimedOperation, why: &Refusal) {
    tracing::warn!(
        id_scope = claimed.id_scope.as_str(),
        registration_id = claimed.registration_id.as_str(),
        webhook = &*claimed.peer,
        tries = claimed.tries,
        reason = %why,
        "device could not be allocated"
    );
}
