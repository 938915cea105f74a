//! The workers that ask webhooks: they claim, freeze past their leases, and settle what they hold, perhaps again.
//! Spec: DPS-REG-28 to DPS-REG-32.

use std::collections::BTreeMap;

use dps_core::custom_allocation::{Asking, Settled};
use dps_core::ports::{AllocationOutcome, ClaimOrder, ClaimedOperation, NamedHub, WaitingFor};
use dps_core::registration::JsonText;

use crate::asked::Done;
use crate::world::{HUBS, World};

/// Claims that workers hold at most; the oldest is forgotten.
const CLAIMS_MAX: usize = 8;

/// What a webhook answers in this world.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// Such a one of the hubs that it was offered.
    Offered(usize),
    /// One of all hubs, offered or not.
    Any(usize),
    None,
    Busy,
}

impl World {
    /// A worker asks for what is due by its own clock, which is `ahead` of the one here: that one mostly steps back. Its leases are
    /// by the clock here, so that others find them over.
    pub(crate) fn claim(&mut self, ahead: i64) {
        while self.claims.len() > CLAIMS_MAX {
            self.claims.remove(0);
        }
        let order = self.order(ahead);
        let registrar = self.registrar();
        let task = self.spawn(async move {
            let webhook = WaitingFor::Webhook;
            Done::Claimed(webhook, registrar.claim_waiting(webhook, order).await)
        });
        self.note(&format!("{task:?} claims what waits"));
    }

    pub(crate) fn order(&self, ahead: i64) -> ClaimOrder {
        ClaimOrder {
            now: self.clock.after(ahead),
            lease_until: self.clock.after(30),
            limit: 3,
            per_peer_max: 2,
            in_flight: BTreeMap::new(),
            after_peer: None,
        }
    }

    /// A webhook answers a worker, which may have slept past its lease or settled the same already.
    pub(crate) fn settle(&mut self) {
        if self.claims.is_empty() {
            return;
        }
        let at = self.prng.below(self.claims.len());
        let repeats = self.prng.percent(30);
        let claim = if repeats { self.claims[at].clone() } else { self.claims.remove(at) };
        let answer = match self.prng.below(10) {
            0..=3 => Answer::Offered(self.prng.below(HUBS.len())),
            4..=5 => Answer::Any(self.prng.below(HUBS.len())),
            6..=7 => Answer::None,
            _ => Answer::Busy,
        };
        self.start_settling(claim, answer);
    }

    fn start_settling(&mut self, claim: ClaimedOperation, answer: Answer) {
        let (registrar, asked_at, answered_at) = (self.registrar(), self.moment(), self.moment());
        let what =
            format!("a webhook answers for {} under {}: {answer:?}", claim.registration_id, claim.tries);
        let task = self.spawn(async move {
            let offered = match registrar.allocation_request(&claim, asked_at).await {
                Ok(Asking::Webhook(request)) => request.candidates,
                Ok(Asking::Settled(settled)) => return Done::Settled(Ok(settled)),
                Ok(Asking::Unserved) => return Done::Settled(Ok(Settled::Unserved)),
                Err(why) => return Done::Settled(Err(why)),
            };
            let named = |hub| {
                let payload = Some(JsonText("{}".into()));
                AllocationOutcome::Named(Box::new(NamedHub { hub, initial_twin: None, payload }))
            };
            let outcome = match answer {
                Answer::Offered(at) => named(offered[at % offered.len()].clone()),
                Answer::Any(at) => named(HUBS[at].parse().unwrap()),
                Answer::None => AllocationOutcome::NotNamed,
                Answer::Busy => AllocationOutcome::Retryable { status: Some(503) },
            };
            Done::Settled(registrar.settle_allocation(&claim, outcome, answered_at).await)
        });
        self.note(&format!("{task:?}: {what}"));
    }

    /// Every operation that waits is claimed, late enough for any lease, and gets a hub that is offered.
    pub(crate) fn webhooks_choose(&mut self) -> Result<(), String> {
        self.claims.clear();
        self.clock.step(10_000_000);
        for _ in 0..self.devices.len() {
            self.claim(0);
            self.come_to_rest()?;
            for claim in std::mem::take(&mut self.claims) {
                self.start_settling(claim, Answer::Offered(0));
            }
            self.come_to_rest()?;
        }
        Ok(())
    }
}
