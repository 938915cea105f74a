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

use crate::destination;
use crate::instance::ServiceInstance;
use crate::moment::Moment;
use crate::ports::{RegistrationWrite, peer};
use crate::registration::{Assignment, Placing, Registration};

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

/// Ends an operation, whose record this was, by something else than a worker: what one may have made that was cut off is to be gone.
/// Spec: DPS-REG-44.
pub(crate) fn give_up(
    instance: &ServiceInstance,
    before: &Registration,
    (placing, last): (&Placing, Option<&Assignment>),
    write: &mut RegistrationWrite,
    moment: Moment,
) {
    // A worker that claims it now decides first.
    write.under_claim = Some(placing.tries);
    if placing.tries > 0 {
        write.registration.strays_until = moment.now.checked_add(STRAYS_FOR).ok().max(before.strays_until);
    }
    let strays_until = write.registration.strays_until.filter(|until| *until > moment.now);
    // Where it lives nowhere, what is there may be older than this service.
    let moves = last.is_some_and(|last| last.hub != placing.target.hub);
    if strays_until.is_some() && moves && instance.is_outside(&placing.target.hub) {
        let (id, target) = (&before.registration_id, &placing.target);
        write.hub_writes.push(destination::gone(instance, id, target, strays_until, moment));
    }
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
