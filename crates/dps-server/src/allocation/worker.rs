//! The worker that asks webhooks: claims what is due, calls, settles. Spec: DPS-REG-29, DPS-REG-32, DPS-REG-33.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use dps_core::custom_allocation::{Asking, Settled};
use dps_core::ports::{AllocationHook, ClaimOrder, Claimed, ClaimedOperation, HookAnswer};
use dps_core::refusal::Refusal;
use dps_core::registration::{Registration, State};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep};

use super::question;
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

/// How long the worker sleeps at most: another node may have left something, or the clock may have been set.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// How long it leaves a store alone that could not answer.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// How far the worker has gone through the webhook hosts of what waits.
#[derive(Default)]
struct Round {
    after_peer: Option<Box<str>>,
    /// The next one that is due, of the hosts that it has gone through.
    next_due: Option<Timestamp>,
    /// Something may be claimed by now of a host that it has gone through.
    is_outdated: bool,
}

/// Asks webhooks for hubs; one for each node.
pub struct AllocationWorker {
    front_end: Arc<FrontEnd>,
    hook: Arc<dyn AllocationHook>,
}

impl AllocationWorker {
    /// One that asks by this hook.
    pub fn new(front_end: Arc<FrontEnd>, hook: Arc<dyn AllocationHook>) -> Arc<Self> {
        Arc::new(Self { front_end, hook })
    }

    /// Works until it is to stop, then lets the calls that are under way end: each has a deadline.
    pub async fn run(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        let (mut calls, mut hosts, mut round) = (JoinSet::new(), HashMap::new(), Round::default());
        while !*stopping.borrow() {
            let pause = self.begin(&mut calls, &mut hosts, &mut round).await;
            tokio::select! {
                changed = stopping.changed() => if changed.is_err() { break },
                () = self.front_end.allocations.woken() => round.is_outdated = true,
                () = sleep(pause) => {}
                Some(ended) = calls.join_next_with_id() => {
                    forget(ended, &mut hosts);
                    round.is_outdated = true;
                }
            }
        }
        while let Some(ended) = calls.join_next_with_id().await {
            forget(ended, &mut hosts);
        }
    }

    /// Begins the calls that are due, as far as there is room; how long there is nothing more to begin.
    async fn begin(
        self: &Arc<Self>,
        calls: &mut JoinSet<()>,
        hosts: &mut HashMap<Id, Box<str>>,
        round: &mut Round,
    ) -> Duration {
        let limit = CALLS_MAX.saturating_sub(calls.len());
        if limit == 0 {
            return SLEEP_MAX;
        }
        if round.after_peer.is_none() {
            *round = Round::default();
        }
        let mut in_flight = BTreeMap::new();
        for host in hosts.values() {
            *in_flight.entry(host.clone()).or_default() += 1;
        }
        let now = self.front_end.moments.moment().now;
        let lease = SignedDuration::try_from(LEASE).unwrap_or_default();
        let order = ClaimOrder {
            now,
            lease_until: now.checked_add(lease).unwrap_or(now),
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
            per_peer_max: CALLS_PER_HOST_MAX,
            in_flight,
            after_peer: round.after_peer.take(),
        };
        let Claimed { operations, next_due, peers_after } = match self
            .front_end
            .registrar
            .claim_waiting(order)
            .await
        {
            Ok(claimed) => claimed,
            Err(why) => {
                tracing::warn!(reason = %why, "the store could not be asked for devices that wait for a webhook");
                return STORE_PAUSE;
            }
        };
        for mut operation in operations {
            // A store knows an ID scope by its letters; people know it as it is written.
            if let Some(instance) = self.front_end.registrar.instances().of_scope(&operation.id_scope) {
                operation.id_scope = instance.id_scope.clone();
            }
            let (worker, host) = (Arc::clone(self), operation.webhook_host.clone());
            let call = calls.spawn(async move { worker.carry_out(&operation).await });
            hosts.insert(call.id(), host);
        }
        round.next_due = round.next_due.into_iter().chain(next_due).min();
        if peers_after.is_some() {
            round.after_peer = peers_after;
            return Duration::ZERO;
        }
        if round.is_outdated {
            return Duration::ZERO;
        }
        let until_next =
            round.next_due.take().and_then(|due| Duration::try_from(due.duration_since(now)).ok());
        until_next.map_or(SLEEP_MAX, |until| until.min(SLEEP_MAX))
    }

    /// Asks about one operation, and settles it. Where the store fails the lease runs out, and it is tried again.
    async fn carry_out(&self, claimed: &ClaimedOperation) {
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
        let ClaimedOperation { id_scope, registration_id, tries, webhook_host, .. } = claimed;
        match settled {
            Settled::Recorded(record) => {
                self.front_end.metrics.allocated(&record.state);
                self.tell_ended(claimed, &record, told);
            }
            Settled::Postponed(until) => tracing::warn!(
                id_scope = id_scope.as_str(),
                registration_id = registration_id.as_str(),
                webhook = &**webhook_host,
                tries,
                until = %until,
                reason = told.as_deref().unwrap_or_default(),
                "webhook to be asked again"
            ),
            Settled::Superseded | Settled::Unserved => tracing::debug!(
                id_scope = id_scope.as_str(),
                registration_id = registration_id.as_str(),
                webhook = &**webhook_host,
                tries,
                "webhook no longer waited for"
            ),
        }
    }

    fn tell_ended(&self, claimed: &ClaimedOperation, record: &Registration, told: Option<String>) {
        let ClaimedOperation { webhook_host, tries, .. } = claimed;
        let Registration { id_scope, registration_id, entry, .. } = record;
        let (assignment, outcome) = match &record.state {
            State::Assigned { assignment, .. } => (Some(assignment), "assigned"),
            State::Assigning { target, .. } => (Some(target), "assigning"),
            State::Choosing { .. } => (None, "assigning"),
            State::Failed { .. } => (None, "failed"),
            State::Disabled { .. } => (None, "disabled"),
        };
        let Some(unassigned) = Unassigned::of(record) else {
            tracing::info!(
                id_scope = id_scope.as_str(),
                registration_id = registration_id.as_str(),
                %entry,
                webhook = &**webhook_host,
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
            webhook = &**webhook_host,
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
        webhook = &*claimed.webhook_host,
        tries = claimed.tries,
        reason = %why,
        "device could not be allocated"
    );
}

fn forget(ended: Result<(Id, ()), JoinError>, hosts: &mut HashMap<Id, Box<str>>) {
    let id = match ended {
        Ok((id, ())) => id,
        Err(why) => {
            tracing::error!(reason = %why, "a call of a webhook was broken off");
            why.id()
        }
    };
    hosts.remove(&id);
}
