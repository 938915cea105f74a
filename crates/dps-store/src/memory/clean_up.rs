//! Devices that are to be gone from hubs outside, and what is at each hub. Spec: DPS-REG-43, DPS-REG-44, DPS-REG-47.

use dps_core::ports::{ClaimOrder, Claimed, CleanUp, CleanUpOutcome, Commit, HubLoad};
use dps_core::registration::State;
use dps_proto::ids::IdScope;

use super::claim::{Waits, chosen};
use super::content::{Content, HubDeviceKey};
use crate::condition::has_device_there;
use crate::hub_loads::HubLoads;

fn key(clean_up: &CleanUp) -> HubDeviceKey {
    (clean_up.id_scope.clone(), clean_up.hub.clone(), clean_up.device_id.clone())
}

impl Content {
    /// Takes the place of one of the same device. Where that was to be looked at once more, so is this. Spec: DPS-STORE-12.
    pub(super) fn put_clean_up(&mut self, mut clean_up: CleanUp) {
        if let Some(replaced) = self.clean_ups.get(&key(&clean_up)) {
            clean_up.confirm_at = clean_up.confirm_at.max(replaced.confirm_at);
        }
        self.clean_ups.insert(key(&clean_up), clean_up);
    }

    /// Orders one, unless the record has the device there. Spec: DPS-REG-44.
    pub(super) fn put_stray(&mut self, clean_up: CleanUp) -> Commit {
        if self.instances.check_is_there(&clean_up.id_scope).is_err() || self.is_wanted(&clean_up) {
            return Commit::Outdated;
        }
        self.put_clean_up(clean_up);
        Commit::Done
    }

    fn is_wanted(&self, clean_up: &CleanUp) -> bool {
        let record = self.registrations.get(&(clean_up.id_scope.clone(), clean_up.registration_id.clone()));
        record.is_some_and(|record| has_device_there(record, clean_up))
    }

    pub(super) fn claim_clean_ups(&mut self, order: &ClaimOrder) -> Claimed<CleanUp> {
        let waiting = self.clean_ups.iter().map(|(key, clean_up)| Waits {
            key: key.clone(),
            peer: clean_up.peer(),
            due_at: clean_up.due_at,
        });
        let (keys, next_due) = chosen(waiting, order);
        let mut operations = Vec::new();
        for key in keys {
            let Some(clean_up) = self.clean_ups.get_mut(&key) else { continue };
            clean_up.tries = clean_up.tries.saturating_add(1);
            clean_up.due_at = order.lease_until;
            operations.push(clean_up.clone());
        }
        Claimed { operations, next_due, peers_after: None }
    }

    /// Whether this claim is the newest, and the record does not have the device there.
    pub(super) fn clean_up_stands(&self, claimed: &CleanUp) -> bool {
        self.is_newest(claimed) && !self.is_wanted(claimed)
    }

    fn is_newest(&self, claimed: &CleanUp) -> bool {
        let stored = self.clean_ups.get(&key(claimed));
        stored.is_some_and(|stored| stored.guid == claimed.guid && stored.tries == claimed.tries)
    }

    pub(super) fn settle_clean_up(&mut self, claimed: &CleanUp, outcome: CleanUpOutcome) -> Commit {
        if !self.is_newest(claimed) {
            return Commit::Outdated;
        }
        match outcome {
            CleanUpOutcome::Done => {
                self.clean_ups.remove(&key(claimed));
            }
            CleanUpOutcome::Again { until, problem } => {
                if let Some(stored) = self.clean_ups.get_mut(&key(claimed)) {
                    (stored.due_at, stored.problem) = (until, Some(problem));
                }
            }
        }
        Commit::Done
    }

    pub(super) fn hub_loads(&self, scope: &IdScope) -> Vec<HubLoad> {
        let mut loads = HubLoads::default();
        for (_, record) in self.registrations.iter().filter(|((of, _), _)| of == scope) {
            if let Some(assignment) = record.assignment() {
                loads.of(&assignment.hub).devices += 1;
            }
            if let State::Assigning { placing, .. } = &record.state {
                loads.of(&placing.target.hub).assigning += 1;
            }
        }
        for (_, clean_up) in self.clean_ups.iter().filter(|((of, ..), _)| of == scope) {
            loads.of(&clean_up.hub).clean_ups += 1;
        }
        loads.into_list()
    }
}
