//! Operations that wait for someone outside, claimed under a lease. Spec: DPS-REG-32, DPS-REG-33, DPS-REG-40.

use std::collections::BTreeMap;

use dps_proto::ids::{ETag, IdScope, RegistrationId};
use jiff::Timestamp;
use uuid::Uuid;

/// Whom operations wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitingFor {
    /// A webhook, which is to choose a hub: those in [`crate::registration::State::Choosing`].
    Webhook,
    /// A hub outside: those in [`crate::registration::State::Assigning`].
    Hub,
}

/// What to claim of what waits. Spec: DPS-REG-32, DPS-REG-33.
#[derive(Debug, Clone)]
pub struct ClaimOrder {
    /// What is due by then.
    pub now: Timestamp,
    /// When it is due again unless it ends or is postponed before.
    pub lease_until: Timestamp,
    /// At most so many.
    pub limit: u32,
    /// At most so many of one peer, those of `in_flight` included.
    pub per_peer_max: u32,
    /// How many of each peer are being asked.
    pub in_flight: BTreeMap<Box<str>, u32>,
    /// Of peers that come after this one alone: [`Claimed::peers_after`] of the claim before.
    pub after_peer: Option<Box<str>>,
}

impl ClaimOrder {
    /// How many of this peer may be claimed.
    pub fn room_for(&self, peer: &str) -> u32 {
        self.per_peer_max.saturating_sub(self.in_flight.get(peer).copied().unwrap_or(0))
    }
}

/// What was claimed.
#[derive(Debug, Clone)]
pub struct Claimed<T = ClaimedOperation> {
    /// Those that were due, the longest first.
    pub operations: Vec<T>,
    /// When the next one is due that is not due yet, of the peers that were looked at.
    pub next_due: Option<Timestamp>,
    /// The last peer that was looked at, where there are more: a store looks at [`Claimed::PEERS_MAX`] or more at a time.
    pub peers_after: Option<Box<str>>,
}

impl<T> Default for Claimed<T> {
    fn default() -> Self {
        Self { operations: Vec::new(), next_due: None, peers_after: None }
    }
}

impl Claimed {
    /// Most peers that a store steps through in one write: each costs a few steps in an index.
    pub const PEERS_MAX: usize = 256;
}

/// A waiting operation under a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedOperation {
    /// The service instance.
    pub id_scope: IdScope,
    /// The device.
    pub registration_id: RegistrationId,
    /// The operation.
    pub guid: Uuid,
    /// That of its record.
    pub etag: ETag,
    /// How often it was claimed, this time included: the number of the lease.
    pub tries: u32,
    /// Whom it asks: [`crate::registration::Waiting::webhook_host`], or [`crate::registration::Placing::peer`].
    pub peer: Box<str>,
    /// Until when it is nobody else's.
    pub lease_until: Timestamp,
}

/// When a claimed operation is due again. Spec: DPS-REG-32, DPS-REG-44.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Postponement {
    /// Not before then.
    pub until: Timestamp,
    /// When a call was given up that may be carried out all the same; kept until a later one takes its place.
    pub unanswered_at: Option<Timestamp>,
}
