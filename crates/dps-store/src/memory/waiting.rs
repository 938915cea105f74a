//! Operations that wait for a webhook or for a hub outside. Spec: DPS-REG-32, DPS-REG-33, DPS-REG-44.

use dps_core::ports::{ClaimOrder, Claimed, ClaimedOperation, Commit, Postponement, WaitingFor};
use dps_core::registration::{Registration, State};
use jiff::Timestamp;

use super::claim::{Waits, chosen};
use super::content::Content;

/// The number of the newest claim of a record that waits.
pub(super) fn newest_claim(record: &Registration) -> Option<u32> {
    standing(record).map(|(_, _, tries, _)| tries)
}

/// For whom a record waits: the kind, the peer, how often it was claimed, and when it is due.
fn standing(record: &Registration) -> Option<(WaitingFor, &str, u32, Timestamp)> {
    match &record.state {
        State::Choosing { waiting, .. } => {
            Some((WaitingFor::Webhook, &waiting.webhook_host, waiting.tries, waiting.due_at))
        }
        State::Assigning { placing, .. } => {
            Some((WaitingFor::Hub, &placing.peer, placing.tries, placing.due_at))
        }
        State::Assigned { .. } | State::Failed { .. } | State::Disabled { .. } => None,
    }
}

impl Content {
    pub(super) fn claim_waiting(&mut self, whom: WaitingFor, order: &ClaimOrder) -> Claimed {
        let waiting = self.registrations.iter().filter_map(|(key, record)| {
            let (kind, peer, _, due_at) = standing(record)?;
            (kind == whom).then(|| Waits { key: key.clone(), peer: peer.into(), due_at })
        });
        let (keys, next_due) = chosen(waiting, order);
        let mut operations = Vec::new();
        for key in keys {
            // One that is still under a lease was left by its worker. Spec: DPS-STORE-13.
            let was_left = !self.leased.insert(key.clone());
            let Some(record) = self.registrations.get_mut(&key) else { continue };
            let (tries, peer) = match &mut record.state {
                State::Choosing { waiting, .. } => {
                    waiting.tries = waiting.tries.saturating_add(1);
                    waiting.due_at = order.lease_until;
                    (waiting.tries, waiting.webhook_host.clone())
                }
                State::Assigning { placing, .. } => {
                    placing.tries = placing.tries.saturating_add(1);
                    placing.due_at = order.lease_until;
                    if was_left {
                        placing.unanswered_at = Some(order.now);
                    }
                    (placing.tries, placing.peer.clone())
                }
                State::Assigned { .. } | State::Failed { .. } | State::Disabled { .. } => continue,
            };
            operations.push(ClaimedOperation {
                id_scope: key.0,
                registration_id: record.registration_id.clone(),
                guid: record.operation.guid,
                etag: record.etag.clone(),
                tries,
                peer,
                lease_until: order.lease_until,
            });
        }
        Claimed { operations, next_due, peers_after: None }
    }

    pub(super) fn postpone(&mut self, claimed: &ClaimedOperation, postponement: Postponement) -> Commit {
        let key = (claimed.id_scope.clone(), claimed.registration_id.clone());
        let Some(record) = self.registrations.get_mut(&key) else { return Commit::Outdated };
        let is_same = record.operation.guid == claimed.guid && record.etag == claimed.etag;
        if !is_same || newest_claim(record) != Some(claimed.tries) {
            return Commit::Outdated;
        }
        match &mut record.state {
            State::Choosing { waiting, .. } => waiting.due_at = postponement.until,
            State::Assigning { placing, .. } => {
                placing.due_at = postponement.until;
                placing.unanswered_at = placing.unanswered_at.max(postponement.unanswered_at);
            }
            State::Assigned { .. } | State::Failed { .. } | State::Disabled { .. } => {
                return Commit::Outdated;
            }
        }
        self.leased.remove(&key);
        Commit::Done
    }
}
