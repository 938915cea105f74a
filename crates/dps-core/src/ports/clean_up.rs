//! Devices that are to be gone from a hub outside. Spec: DPS-REG-43, DPS-REG-44.

use dps_proto::ids::{DeviceId, HubName, IdScope, RegistrationId};
use jiff::Timestamp;
use uuid::Uuid;

use crate::moment::Moment;

/// A device that is to be gone from a hub outside. There is at most one for each device id at a hub of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CleanUp {
    /// The service instance.
    pub id_scope: IdScope,
    /// The hub.
    pub hub: HubName,
    /// The device's id there.
    pub device_id: DeviceId,
    /// Tells it from an earlier one of the same device.
    pub guid: Uuid,
    /// The record that the device had.
    pub registration_id: RegistrationId,
    /// When it was ordered.
    pub ordered_at: Timestamp,
    /// Looked at once more then, after the device is gone: until then a call that was given up may still make it.
    pub confirm_at: Option<Timestamp>,
    /// How often it was claimed: the number of its latest lease.
    pub tries: u32,
    /// When it may be claimed, next or again.
    pub due_at: Timestamp,
    /// Why it is not done, in words for whoever runs the service; `None` before the first try.
    pub problem: Option<Box<str>>,
}

impl CleanUp {
    /// One that may be claimed at once.
    pub(crate) fn new(
        (id_scope, hub, device_id): (IdScope, HubName, DeviceId),
        registration_id: RegistrationId,
        confirm_at: Option<Timestamp>,
        moment: Moment,
    ) -> Self {
        Self {
            id_scope,
            hub,
            device_id,
            guid: moment.guid(),
            registration_id,
            ordered_at: moment.now,
            confirm_at,
            tries: 0,
            due_at: moment.now,
            problem: None,
        }
    }

    /// Whom it asks, as in [`super::ClaimedOperation::peer`]. Spec: DPS-REG-40.
    pub fn peer(&self) -> Box<str> {
        peer(&self.id_scope, &self.hub, None)
    }
}

/// Whom an operation asks that needs `hub`, and first another one that may keep it waiting. Spec: DPS-REG-40.
pub(crate) fn peer(id_scope: &IdScope, hub: &HubName, first: Option<&HubName>) -> Box<str> {
    match first {
        None => format!("{}/{}", id_scope.folded(), hub.folded()),
        Some(first) => format!("{}/{}<{}", id_scope.folded(), hub.folded(), first.folded()),
    }
    .into()
}

/// What becomes of a claimed [`CleanUp`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CleanUpOutcome {
    /// The device is gone for good: nothing is kept.
    Done,
    /// It is tried again.
    Again {
        /// Not before then.
        until: Timestamp,
        /// Why.
        problem: Box<str>,
    },
}

/// What is at a hub, and what is on its way there. Spec: DPS-REG-47.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubLoad {
    /// The hub, linked or not.
    pub hub: HubName,
    /// Devices that live there, whatever became of their latest operation.
    pub devices: u64,
    /// Operations that are to bring a device there.
    pub assigning: u64,
    /// Devices that are to be gone from there.
    pub clean_ups: u64,
}
