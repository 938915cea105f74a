//! How a device comes to live where it goes. Spec: DPS-REG-11, DPS-REG-15, DPS-REG-17, DPS-REG-18, DPS-REG-23, DPS-REG-30, DPS-REG-40.

use dps_proto::ids::RegistrationId;
use jiff::Timestamp;

use crate::attestation::Entry;
use crate::destination::{self, Destination, Luggage};
use crate::enrollment::TwinDocument;
use crate::instance::ServiceInstance;
use crate::moment::Moment;
use crate::ports::{HubAuthentication, HubDevice, HubWrite, Placement, peer};
use crate::registration::{Assignment, Failure, HubCredential, Placing, State, Substatus};

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
    /// Of its record. Spec: DPS-REG-44.
    pub(crate) strays_until: Option<Timestamp>,
    pub(crate) moment: Moment,
}

impl Arrival<'_> {
    /// The state of its record once it is there, or on the way, and what has to be written along.
    pub(crate) fn at(self, destination: Destination<'_>) -> (State, Vec<HubWrite>) {
        let settings = self.entry.settings();
        let new_device_id = || self.entry.device_id(self.registration_id);
        let anew = || self.initial_twin.clone().or_else(|| settings.initial_twin.clone());
        let (linked, device_id, iot_edge, twin, luggage) = match destination {
            Destination::Nowhere => {
                let last = self.current.cloned();
                return (State::Failed { failure: Failure::NoUsableHub, last }, Vec::new());
            }
            Destination::First(linked) => {
                (linked, new_device_id(), settings.iot_edge, anew(), Luggage::Nothing)
            }
            Destination::Same(linked) => {
                // A device keeps the id it is known by at its hub, whatever the entry says now.
                let device_id = self.current.map_or_else(new_device_id, |stays| stays.device_id.clone());
                (linked, device_id, settings.iot_edge, settings.initial_twin.clone(), Luggage::Nothing)
            }
            Destination::Other(linked, luggage) => {
                (linked, new_device_id(), settings.iot_edge, anew(), luggage)
            }
        };
        let target = Assignment { hub: linked.name.clone(), device_id, credential: self.credential.clone() };
        let kept = match &luggage {
            Luggage::Kept(kept) => Some((kept.device.iot_edge, kept.device.initial_twin.clone())),
            Luggage::Nothing | Luggage::Outside => None,
        };
        let (placed_edge, placed_twin) = kept.unwrap_or_else(|| (iot_edge, twin.clone()));
        let placement = linked.hub.place(HubDevice {
            id_scope: self.instance.id_scope.clone(),
            hub: target.hub.clone(),
            device_id: target.device_id.clone(),
            registration_id: self.registration_id.clone(),
            authentication: self.authentication.clone(),
            iot_edge: placed_edge,
            initial_twin: placed_twin,
        });
        match placement {
            Placement::Refused(failure) => {
                (State::Failed { failure, last: self.current.cloned() }, Vec::new())
            }
            // A hub that keeps nothing here takes nothing along either.
            Placement::Writes(arriving) if arriving.is_empty() || !matches!(luggage, Luggage::Outside) => {
                let takes_along = !arriving.is_empty() && matches!(luggage, Luggage::Kept(_));
                self.there(target, takes_along, arriving)
            }
            Placement::Writes(_) | Placement::Outside => {
                (self.on_the_way(target, &luggage, (iot_edge, twin)), Vec::new())
            }
        }
    }

    /// With the commit of the record.
    fn there(
        &self,
        assignment: Assignment,
        takes_along: bool,
        arriving: Vec<HubWrite>,
    ) -> (State, Vec<HubWrite>) {
        let leaves = self.current.filter(|current| current.hub != assignment.hub);
        let substatus = match (self.current, leaves) {
            (None, _) => Substatus::InitialAssignment,
            (Some(_), None) => Substatus::ReprovisionedToInitialAssignment,
            (Some(_), Some(_)) if takes_along => Substatus::DeviceDataMigrated,
            (Some(_), Some(_)) => Substatus::DeviceDataReset,
        };
        let writes = match leaves {
            Some(leaves) => {
                let Self { instance, registration_id, strays_until, moment, .. } = self;
                let gone = destination::gone(instance, registration_id, leaves, *strays_until, *moment);
                destination::moved(&instance.id_scope, &assignment, arriving, gone)
            }
            None => arriving,
        };
        (State::Assigned { assignment, substatus }, writes)
    }

    /// When a worker has asked the hubs. Spec: DPS-REG-40.
    fn on_the_way(
        &self,
        target: Assignment,
        luggage: &Luggage,
        (iot_edge, initial_twin): (bool, Option<TwinDocument>),
    ) -> State {
        let id_scope = &self.instance.id_scope;
        let asked_first = match luggage {
            Luggage::Outside => self.current.map(|current| &current.hub),
            Luggage::Kept(_) | Luggage::Nothing => None,
        };
        let placing = Placing {
            takes_along: !matches!(luggage, Luggage::Nothing),
            iot_edge,
            initial_twin,
            peer: peer(id_scope, &target.hub, asked_first),
            since: self.moment.now,
            unanswered_at: None,
            tries: 0,
            due_at: self.moment.now,
            target,
        };
        State::Assigning { placing: Box::new(placing), last: self.current.cloned() }
    }
}
