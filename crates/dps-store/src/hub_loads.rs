//! Counting what is at hubs. Spec: DPS-REG-47.

use std::collections::BTreeMap;

use dps_core::ports::HubLoad;
use dps_proto::ids::HubName;

/// What was counted so far.
#[derive(Default)]
pub(crate) struct HubLoads(BTreeMap<HubName, HubLoad>);

impl HubLoads {
    /// The counts of a hub, in whatever spelling.
    pub(crate) fn of(&mut self, hub: &HubName) -> &mut HubLoad {
        let none = || HubLoad { hub: hub.clone(), devices: 0, assigning: 0, clean_ups: 0 };
        self.0.entry(hub.clone()).or_insert_with(none)
    }

    /// In the order of the folded names.
    pub(crate) fn into_list(self) -> Vec<HubLoad> {
        self.0.into_values().collect()
    }
}
