//! What comes of a webhook's answer. Spec: DPS-REG-28 to DPS-REG-31.

use jiff::{SignedDuration, Timestamp};

use super::retry_delay;
use super::standing::{Open, Standing};
use crate::arrival::Arrival;
use crate::attestation::Entry;
use crate::destination::Destination;
use crate::moment::Moment;
use crate::ports::{
    AllocationOutcome, ClaimOrder, Claimed, ClaimedOperation, Commit, HubWrite, NamedHub, Postponement,
    RegistrationWrite, StoreError, WaitingFor,
};
use crate::refusal::Refusal;
use crate::register::{DECISIONS_MAX, Registrar};
use crate::registration::{Failure, JsonText, Registration, State};

/// What became of a claimed operation.
#[derive(Debug, Clone)]
pub enum Settled {
    /// It has ended, or a hub outside is asked now: this is the record.
    Recorded(Box<Registration>),
    /// The webhook is asked again then.
    Postponed(Timestamp),
    /// It is no longer the one that was claimed: nothing was written.
    Superseded,
    /// No instance of its ID scope is served: nothing was written.
    Unserved,
}

/// What to write.
struct Decision {
    state: State,
    payload: Option<JsonText>,
    hub_writes: Vec<HubWrite>,
}

impl From<State> for Decision {
    fn from(state: State) -> Self {
        Self { state, payload: None, hub_writes: Vec::new() }
    }
}

impl Registrar {
    /// Claims operations that wait and are due. Spec: DPS-REG-32.
    ///
    /// # Errors
    /// Where the store cannot answer.
    pub async fn claim_waiting(&self, whom: WaitingFor, order: ClaimOrder) -> Result<Claimed, StoreError> {
        self.store.claim_waiting(whom, order).await
    }

    /// Ends a claimed operation by what its webhook answered, or postpones it. The entry counts as it is now. Safe to call again; a
    /// newer operation or a newer claim is never touched.
    ///
    /// # Errors
    /// Where the store cannot answer, or the record is written by others again and again.
    pub async fn settle_allocation(
        &self,
        claimed: &ClaimedOperation,
        outcome: AllocationOutcome,
        moment: Moment,
    ) -> Result<Settled, Refusal> {
        for _ in 0..DECISIONS_MAX {
            let (record, entry, decision) = match self.standing(claimed).await? {
                Standing::Superseded => return Ok(Settled::Superseded),
                Standing::Unserved => return Ok(Settled::Unserved),
                Standing::Ended { record, entry, state } => (*record, entry, state.into()),
                Standing::Open(open) => {
                    if let Some(until) = again_at(claimed, &open, &outcome, moment.now) {
                        return Ok(
                            match self
                                .store
                                .postpone(claimed, Postponement { until, unanswered_at: None })
                                .await?
                            {
                                Commit::Done => Settled::Postponed(until),
                                Commit::Outdated => Settled::Superseded,
                            },
                        );
                    }
                    let decision = self.decision(&open, &outcome, moment).await?;
                    (open.record, Some(open.entry), decision)
                }
            };
            let Decision { state, payload, hub_writes } = decision;
            let registration = Registration {
                etag: moment.etag(),
                updated_at: record.updated_at.max(moment.now),
                payload,
                state,
                ..record.clone()
            };
            let write = RegistrationWrite {
                registration: registration.clone(),
                replaces: Some(record.etag),
                under_claim: Some(claimed.tries),
                decided_on: entry.as_ref().map(Entry::version),
                hub_writes,
            };
            match self.store.commit(write).await? {
                Commit::Done => return Ok(Settled::Recorded(Box::new(registration))),
                Commit::Outdated => {}
            }
        }
        Err(Refusal::Contended(DECISIONS_MAX))
    }

    async fn decision(
        &self,
        open: &Open,
        outcome: &AllocationOutcome,
        moment: Moment,
    ) -> Result<Decision, StoreError> {
        let Open { instance, record, waiting, last, entry, authentication, policy } = open;
        let candidates = open.candidates();
        let (destination, named) = match outcome {
            // Its entry has another policy by now: that one decides.
            _ if !open.is_custom() => {
                // Where it registered from is not known any more.
                let id = (&record.registration_id, None);
                let found =
                    Destination::find(&*self.store, instance, id, Some(record), entry, *policy).await?;
                (found, None)
            }
            _ if candidates.is_empty() => (Destination::Nowhere, None),
            AllocationOutcome::Named(named) => {
                let NamedHub { hub, .. } = &**named;
                let Some(linked) = candidates.into_iter().find(|linked| linked.name == *hub) else {
                    return Ok(failed(Failure::WebhookChoseAnother, open));
                };
                let destination =
                    Destination::to(&*self.store, instance, linked, last.as_ref(), *policy).await?;
                (destination, Some(named))
            }
            AllocationOutcome::NotNamed => return Ok(failed(Failure::WebhookChoseNone, open)),
            AllocationOutcome::Unauthorized => return Ok(failed(Failure::WebhookUnauthorized, open)),
            AllocationOutcome::Refused { status } | AllocationOutcome::Retryable { status: Some(status) } => {
                return Ok(failed(Failure::WebhookStatus(*status), open));
            }
            AllocationOutcome::Retryable { status: None } if entry.settings().custom_allocation.is_none() => {
                return Ok(failed(Failure::WebhookNotCalled, open));
            }
            AllocationOutcome::Retryable { status: None } => {
                return Ok(failed(Failure::WebhookSilent, open));
            }
            AllocationOutcome::Unreadable => return Ok(failed(Failure::WebhookUnreadable, open)),
            AllocationOutcome::NotSent => return Ok(failed(Failure::WebhookNotCalled, open)),
        };
        let arrival = Arrival {
            instance,
            registration_id: &record.registration_id,
            entry,
            authentication: authentication.clone(),
            credential: waiting.credential.clone(),
            current: last.as_ref(),
            initial_twin: named.and_then(|named| named.initial_twin.clone()),
            strays_until: record.strays_until,
            moment,
        };
        let (state, hub_writes) = arrival.at(destination);
        let payload = named.and_then(|named| named.payload.clone());
        Ok(Decision { state, payload, hub_writes })
    }
}

fn failed(failure: Failure, open: &Open) -> Decision {
    State::Failed { failure, last: open.last.clone() }.into()
}

/// When the webhook is asked again, if it is. Spec: DPS-REG-29.
fn again_at(
    claimed: &ClaimedOperation,
    open: &Open,
    outcome: &AllocationOutcome,
    now: Timestamp,
) -> Option<Timestamp> {
    let AllocationOutcome::Retryable { .. } = outcome else { return None };
    open.webhook()?;
    let delay = retry_delay(claimed.tries.saturating_sub(1))?;
    now.checked_add(SignedDuration::try_from(delay).ok()?).ok()
}
