//! How a device comes to live where it goes. Spec: DPS-REG-11, DPS-REG-15, DPS-REG-17, DPS-REG-18, DPS-REG-23, DPS-REG-30.

use dps_proto::ids::RegistrationId;

use crate::attestation::Entry;
use crate::destination::{self, Destination};
use crate::enrollment::TwinDocument;
use crate::instance::ServiceInstance;
use crate::ports::{HubAuthentication, HubDevice, HubWrite, Placement};
use crate::registration::{Assignment, Failure, HubCredential, State, Substatus};

/// A device that an enabled entry admits.
pub(crate) struct Arrival<'a> {
    pub(crate) instance: &'a ServiceInstance,
    /// In its first spelling.
    pub(crate) registration_id: &'a RegistrationId,
    pub(crate) entry: &'a Entry,
    pub(crate) authentication: HubAuthentication,
    pub(crate) credential: HubCredential,
    /// Where it lives.
    pub(crate) current: Option<&'a Assignment>,
    /// For a device that begins anew, in place of the entry's. Spec: DPS-REG-30.
    pub(crate) initial_twin: Option<TwinDocument>,
}

impl Arrival<'_> {
    /// The state of its record once it is there, or on the way, and what has to be written along.
    pub(crate) fn at(self, destination: Destination<'_>) -> (State, Vec<HubWrite>) {
        let Self { instance, registration_id, entry, authentication, credential, current, initial_twin } =
            self;
        let settings = entry.settings();
        let new_device_id = || entry.device_id(registration_id);
        let begins_with = initial_twin.or_else(|| settings.initial_twin.clone());
        let (linked, device_id, iot_edge, twin, takes_along) = match destination {
            Destination::Nowhere => {
                let state = State::Failed { failure: Failure::NoUsableHub, last: current.cloned() };
                return (state, Vec::new());
            }
            Destination::First(linked) => (linked, new_device_id(), settings.iot_edge, begins_with, false),
            Destination::Same(linked) => {
                // A device keeps the id it is known by at its hub, whatever the entry says now.
                let device_id = current.map_or_else(new_device_id, |stays| stays.device_id.clone());
                (linked, device_id, settings.iot_edge, settings.initial_twin.clone(), false)
            }
            Destination::Other(linked, None) => {
                (linked, new_device_id(), settings.iot_edge, begins_with, false)
            }
            Destination::Other(linked, Some(left)) => {
                (linked, new_device_id(), left.device.iot_edge, left.device.initial_twin.clone(), true)
            }
        };
        let placement = linked.hub.place(HubDevice {
            id_scope: instance.id_scope.clone(),
            hub: linked.name.clone(),
            device_id: device_id.clone(),
            registration_id: registration_id.clone(),
            authentication,
            iot_edge,
            initial_twin: twin,
        });
        let assignment = Assignment { hub: linked.name.clone(), device_id, credential };
        let leaves = current.filter(|assignment| assignment.hub != linked.name);
        match placement {
            Placement::Writes(arriving) => {
                let substatus = match (current, leaves) {
                    (None, _) => Substatus::InitialAssignment,
                    (Some(_), None) => Substatus::ReprovisionedToInitialAssignment,
                    // A hub that keeps nothing here takes nothing along either.
                    (Some(_), Some(_)) if takes_along && !arriving.is_empty() => {
                        Substatus::DeviceDataMigrated
                    }
                    (Some(_), Some(_)) => Substatus::DeviceDataReset,
                };
                let writes = match leaves {
                    Some(leaves) => destination::moved(&instance.id_scope, leaves, &assignment, arriving),
                    None => arriving,
                };
                (State::Assigned { assignment, substatus }, writes)
            }
            Placement::Outside => {
                (State::Assigning { target: assignment, last: current.cloned() }, Vec::new())
            }
            Placement::Refused(failure) => (State::Failed { failure, last: current.cloned() }, Vec::new()),
        }
    }
}
