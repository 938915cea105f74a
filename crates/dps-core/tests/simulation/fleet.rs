//! The devices of the simulation, and what each of them was told.

use dps_core::attestation::DeviceClaim;
use dps_proto::ids::{DeviceId, HubName, OperationId, RegistrationId};
use jiff::Timestamp;

use crate::common::entries::{keys, signed};

/// A group whose devices go to a local hub.
pub(crate) const LOCAL_GROUP: &str = "alpha";
/// A group whose devices go to a hub outside.
pub(crate) const OUTSIDE_GROUP: &str = "beta";

pub(crate) struct Device {
    pub(crate) name: &'static str,
    /// Its group; it may have an individual enrollment as well.
    pub(crate) group: &'static str,
    /// Every operation id that it was told in this life of its record.
    pub(crate) told: Vec<OperationId>,
    /// Where it was told that it lives.
    pub(crate) lives_at: Option<(HubName, DeviceId)>,
    /// Changes when an operator deletes the record, at the beginning and at the end: what was asked before proves nothing.
    pub(crate) life: u32,
    /// Deletions of its record that are under way: what it is told meanwhile may not hold.
    pub(crate) deletions: u32,
}

pub(crate) fn fleet() -> Vec<Device> {
    let device =
        |name, group| Device { name, group, told: Vec::new(), lives_at: None, life: 0, deletions: 0 };
    vec![
        device("dev-0", LOCAL_GROUP),
        device("dev-1", LOCAL_GROUP),
        device("Out-2", OUTSIDE_GROUP),
        device("out-3", OUTSIDE_GROUP),
    ]
}

impl Device {
    pub(crate) fn id(&self) -> RegistrationId {
        self.name.parse().unwrap()
    }

    /// With a token of its group, or of its individual enrollment.
    pub(crate) fn claim(&self, as_individual: bool, expires_at: Timestamp) -> DeviceClaim {
        let key = if as_individual {
            keys(self.name).primary
        } else {
            keys(self.group).secondary.derive(self.name)
        };
        signed(self.name, &key, expires_at)
    }

    /// Whether what was asked in that life still holds.
    pub(crate) fn is_in(&self, life: u32) -> bool {
        self.life == life && self.deletions == 0
    }

    /// A new life: the record is being deleted, or is gone.
    pub(crate) fn begin_anew(&mut self) {
        self.life += 1;
        self.told.clear();
        self.lives_at = None;
    }
}
