//! Where a device that registers goes, and what it takes along. Spec: DPS-REG-22, DPS-REG-23, DPS-REG-42, DPS-REG-43.

use std::net::IpAddr;

use dps_proto::ids::{IdScope, RegistrationId};
use jiff::Timestamp;

use crate::allocation;
use crate::attestation::Entry;
use crate::enrollment::ReprovisionPolicy;
use crate::instance::{LinkedHub, ServiceInstance};
use crate::moment::Moment;
use crate::ports::{CleanUp, HubWrite, Store, StoreError, StoredHubDevice};
use crate::registration::{Assignment, Registration};

/// Where a device goes.
pub(crate) enum Destination<'i> {
    /// No linked hub may take it.
    Nowhere,
    /// It has no hub yet.
    First(&'i LinkedHub),
    /// It stays where it is.
    Same(&'i LinkedHub),
    /// It moves.
    Other(&'i LinkedHub, Luggage),
}

/// What a device takes along that moves.
pub(crate) enum Luggage {
    /// Nothing: its policy says so, or there is nothing.
    Nothing,
    /// What it has at its hub, which is kept here.
    Kept(Box<StoredHubDevice>),
    /// What it has at its hub, which has to be asked. Spec: DPS-REG-42.
    Outside,
}

impl<'i> Destination<'i> {
    /// That of a device which `entry` admits; `before` is its record.
    pub(crate) async fn find(
        store: &dyn Store,
        instance: &'i ServiceInstance,
        id: (&RegistrationId, Option<IpAddr>),
        before: Option<&Registration>,
        entry: &Entry,
        policy: ReprovisionPolicy,
    ) -> Result<Self, StoreError> {
        let current = before.and_then(Registration::assignment);
        let current_hub = current.map(|assignment| &assignment.hub);
        match allocation::decide(instance, entry.settings(), policy, current_hub, id) {
            Some(linked) => Self::to(store, instance, linked, current, policy).await,
            None => Ok(Self::Nowhere),
        }
    }

    /// That of a device for which a hub was chosen, and which lives at `current`.
    pub(crate) async fn to(
        store: &dyn Store,
        instance: &ServiceInstance,
        linked: &'i LinkedHub,
        current: Option<&Assignment>,
        policy: ReprovisionPolicy,
    ) -> Result<Self, StoreError> {
        Ok(match current {
            None => Self::First(linked),
            Some(assignment) if assignment.hub == linked.name => Self::Same(linked),
            Some(Assignment { hub, device_id, .. }) => {
                let takes_along = policy.update_hub_assignment && policy.migrate_device_data;
                let luggage = match (takes_along, instance.is_outside(hub)) {
                    (false, _) => Luggage::Nothing,
                    (true, true) => Luggage::Outside,
                    (true, false) => {
                        let kept = store.hub_device(&instance.id_scope, hub, device_id).await?;
                        kept.map_or(Luggage::Nothing, |kept| Luggage::Kept(Box::new(kept)))
                    }
                };
                Self::Other(linked, luggage)
            }
        })
    }
}

/// The reprovision policy that counts. Spec: DPS-REG-22.
pub(crate) fn policy_of(entry: &Entry, predates_reprovisioning: bool) -> ReprovisionPolicy {
    entry.settings().reprovision_policy.unwrap_or(match predates_reprovisioning {
        true => ReprovisionPolicy::NEVER,
        false => ReprovisionPolicy::MIGRATE,
    })
}

/// The writes of a device that goes to another hub: what it may have left there long ago counts no more, and at the hub that it
/// leaves it is `gone`. Spec: DPS-REG-23.
pub(crate) fn moved(
    id_scope: &IdScope,
    to: &Assignment,
    arriving: Vec<HubWrite>,
    gone: HubWrite,
) -> Vec<HubWrite> {
    [vec![remove(id_scope, to)], arriving, vec![gone]].concat()
}

/// Has a device gone from a hub: at once where it is kept here, else by a worker. Spec: DPS-REG-23, DPS-REG-43.
pub(crate) fn gone(
    instance: &ServiceInstance,
    registration_id: &RegistrationId,
    at: &Assignment,
    strays_until: Option<Timestamp>,
    moment: Moment,
) -> HubWrite {
    match instance.is_outside(&at.hub) {
        true => {
            let device = (instance.id_scope.clone(), at.hub.clone(), at.device_id.clone());
            let confirm_at = strays_until.filter(|until| *until > moment.now);
            HubWrite::CleanUp(Box::new(CleanUp::new(device, registration_id.clone(), confirm_at, moment)))
        }
        false => remove(&instance.id_scope, at),
    }
}

fn remove(id_scope: &IdScope, at: &Assignment) -> HubWrite {
    HubWrite::RemoveDevice {
        id_scope: id_scope.clone(),
        hub: at.hub.clone(),
        device_id: at.device_id.clone(),
    }
}
