//! Hubs that are not to be asked now, or not much. Spec: DPS-REG-45, DPS-REG-46.

use dps_core::assignment::peers_that_ask;
use dps_core::instances::Instances;
use dps_core::ports::HubHealth;

use crate::claims::HeldBack;

/// Peers whose hub is paused, which are not asked until the first pause ends, and those whose hub is unhealthy, which are asked one at
/// a time; `per_peer_max` is how many may be asked of others.
pub(super) fn held_back(instances: &Instances, per_peer_max: u32) -> HeldBack {
    let mut held_back = HeldBack::default();
    for (_, instance) in instances.all() {
        for linked in instance.linked_hubs.iter().filter(|linked| linked.hub.registry().is_some()) {
            let paused_for = linked.hub.paused_for();
            let room = match (paused_for, linked.hub.health()) {
                (Some(_), _) => 0,
                (None, HubHealth::Unhealthy { .. }) => 1,
                (None, HubHealth::Healthy) => continue,
            };
            held_back.until = held_back.until.into_iter().chain(paused_for).min();
            for peer in peers_that_ask(&instance, &linked.name) {
                let counted = held_back.places.entry(peer).or_default();
                *counted = (*counted).max(per_peer_max.saturating_sub(room));
            }
        }
    }
    held_back
}
