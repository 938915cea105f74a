//! Devices at hubs outside: made there, moved there with what they have, and gone from where they were.
//! Spec: DPS-REG-40 to DPS-REG-47 (docs/spec/registration.md).
//!
//! Each step can be cut off, and begun anew by another worker at any time. What keeps a device at one hub with its twin: a hub is
//! changed on the version that was read there, and that is read before the store is asked whether the claim is still the newest;
//! `placing.rs` has the order of an operation, `at_registry.rs` that of the calls at one hub, `clean_up.rs` that of a removal.

mod at_registry;
mod clean_up;
mod hold;
mod luggage;
mod patience;
mod placing;

use std::time::Duration;

use dps_proto::ids::HubName;
use jiff::{SignedDuration, Timestamp};

use crate::instance::ServiceInstance;
use crate::moment::Moment;
use crate::ports::peer;

pub use clean_up::CleanedUp;
pub use placing::{Placed, Trouble};

/// Longest that one call of a registry takes; none begins that could outlast its claim. Spec: DPS-REG-40, DPS-HUB-10.
pub const CALL_MAX: Duration = Duration::from_secs(10);

/// For how long a claim is nobody else's: a read, what is left over deleted, and a device made, each with time to spare.
/// Spec: DPS-REG-40.
pub const LEASE: Duration = Duration::from_secs(60);

/// How long after it was given up a call may still be carried out: the token that it carries is good for an hour, and clocks
/// differ. Spec: DPS-REG-44.
pub const STRAYS_FOR: SignedDuration = SignedDuration::from_mins(65);

/// Whom an operation or a clean-up asks that would ask this hub, alone or beside another one. Spec: DPS-REG-40.
pub fn peers_that_ask(instance: &ServiceInstance, hub: &HubName) -> Vec<Box<str>> {
    let scope = &instance.id_scope;
    let others = instance.linked_hubs.iter().map(|linked| &linked.name).filter(|other| *other != hub);
    let with = others.flat_map(|other| [peer(scope, hub, Some(other)), peer(scope, other, Some(hub))]);
    [peer(scope, hub, None)].into_iter().chain(with).collect()
}

/// What time it is, asked again for each step: calls take their time.
pub type Clock<'c> = &'c (dyn Fn() -> Moment + Send + Sync);

/// Whether a call may begin. Spec: DPS-REG-40.
fn has_time(clock: Clock<'_>, lease_until: Timestamp) -> bool {
    let left = lease_until.duration_since(clock().now);
    Duration::try_from(left).is_ok_and(|left| left >= CALL_MAX)
}

/// `now` and a while.
fn later(now: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| now.checked_add(by).ok()).unwrap_or(now)
}
