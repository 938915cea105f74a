//! Operations that wait for a webhook, claimed under a lease. Spec: DPS-REG-32, DPS-REG-33.

use std::collections::BTreeMap;

use dps_proto::ids::{ETag, IdScope, RegistrationId};
use jiff::Timestamp;
use uuid::Uuid;

/// Which waiting operations to claim. Spec: DPS-REG-32, DPS-REG-33.
#[derive(Debug, Clone)]
pub struct ClaimOrder {
    /// Those that are due by then.
    pub now: Timestamp,
    /// When they are due again unless they end or are postponed before.
    pub lease_until: Timestamp,
    /// At most so many.
    pub limit: u32,
    /// At most so many of one webhook host, those of `in_flight` included.
    pub per_host_max: u32,
    /// How many of each host are being called.
    pub in_flight: BTreeMap<Box<str>, u32>,
    /// Of hosts that come after this one alone: [`Claimed::hosts_after`] of the claim before.
    pub after_host: Option<Box<str>>,
}

impl ClaimOrder {
    /// How many of this host may be claimed.
    pub fn room_for(&self, host: &str) -> u32 {
        self.per_host_max.saturating_sub(self.in_flight.get(host).copied().unwrap_or(0))
    }
}

/// What was claimed.
#[derive(Debug, Clone, Default)]
pub struct Claimed {
    /// Those that were due, the longest first.
    pub operations: Vec<ClaimedOperation>,
    /// When the next one is due that is not due yet, of the hosts that were looked at.
    pub next_due: Option<Timestamp>,
    /// The last host that was looked at, where there are more: a store looks at [`Claimed::HOSTS_MAX`] or more at a time.
    pub hosts_after: Option<Box<str>>,
}

impl Claimed {
    /// Most webhook hosts that a store steps through in one write: each costs a few steps in an index.
    pub const HOSTS_MAX: usize = 256;
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
    /// Whom it asks.
    pub webhook_host: Box<str>,
}
