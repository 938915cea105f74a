//! Hubs that are not to be asked now, or not much. Spec: DPS-REG-45, DPS-REG-46.

use std::collections::BTreeMap;
use std::time::Duration;

use dps_core::assignment::peers_that_ask;
use dps_core::instances::Instances;
use dps_core::ports::HubHealth;

/// Makes peers count as asked, up to `per_peer_max` times, whose hub is paused; and but for one of a hub that is unhealthy. When the
/// first pause ends.
pub(super) fn hold_back(
    instances: &Instances,
    in_flight: &mut BTreeMap<Box<str>, u32>,
    per_peer_max: u32,
) -> Option<Duration> {
    let mut first_end: Option<Duration> = None;
    for (_, instance) in instances.all() {
        for linked in instance.linked_hubs.iter().filter(|linked| linked.hub.registry().is_some()) {
            let paused_for = linked.hub.paused_for();
            let room = match (paused_for, linked.hub.health()) {
                (Some(_), _) => 0,
                (None, HubHealth::Unhealthy { .. }) => 1,
                (None, HubHealth::Healthy) => continue,
            };
            first_end = first_end.into_iter().chain(paused_for).min();
            for peer in peers_that_ask(&instance, &linked.name) {
                let counted = in_flight.entry(peer).or_default();
                *counted = (*counted).max(per_peer_max.saturating_sub(room));
            }
        }
    }
    first_end
}
