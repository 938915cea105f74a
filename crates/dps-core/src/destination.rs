//! Where a device that registers goes, and what it takes along. Spec: DPS-REG-22, DPS-REG-23.

use dps_proto::ids::IdScope;

use crate::allocation;
use crate::attestation::{DeviceClaim, Entry};
use crate::enrollment::ReprovisionPolicy;
use crate::instance::{LinkedHub, ServiceInstance};
use crate::ports::{HubWrite, Store, StoreError, StoredHubDevice};
use crate::registration::{Assignment, Registration};

/// Where a device goes.
pub(crate) enum Destination<'i> {
    /// No linked hub may take it.
    Nowhere,
    /// It has no hub yet.
    First(&'i LinkedHub),
    /// It stays where it is.
    Same(&'i LinkedHub),
    /// It moves, and takes along what it has at its hub, if that is here and its policy says so.
    Other(&'i LinkedHub, Option<Box<StoredHubDevice>>),
}

impl<'i> Destination<'i> {
    /// That of a device which `entry` admits; `before` is its record.
    pub(crate) async fn find(
        store: &dyn Store,
        instance: &'i ServiceInstance,
        device: &DeviceClaim,
        before: Option<&Registration>,
        entry: &Entry,
    ) -> Result<Self, StoreError> {
        let settings = entry.settings();
        let policy = settings.reprovision_policy.unwrap_or(match device.predates_reprovisioning {
            true => ReprovisionPolicy::NEVER,
            false => ReprovisionPolicy::MIGRATE,
        });
        let current = before.and_then(Registration::assignment);
        let current_hub = current.map(|assignment| &assignment.hub);
        let id = &device.registration_id;
        let Some(linked) = allocation::decide(instance, settings, policy, current_hub, id) else {
            return Ok(Self::Nowhere);
        };
        Ok(match current {
            None => Self::First(linked),
            Some(assignment) if assignment.hub == linked.name => Self::Same(linked),
            Some(Assignment { hub, device_id, .. }) => {
                let takes_along = policy.update_hub_assignment && policy.migrate_device_data;
                let left = match takes_along {
                    true => store.hub_device(&device.id_scope, hub, device_id).await?,
                    false => None,
                };
                Self::Other(linked, left.map(Box::new))
            }
        })
    }
}

/// The writes of a device that goes from one hub to another: what it may have left at the new one long ago counts no more, and
/// at the old one nothing stays. Spec: DPS-REG-23.
pub(crate) fn moved(
    id_scope: &IdScope,
    from: &Assignment,
    to: &Assignment,
    arriving: Vec<HubWrite>,
) -> Vec<HubWrite> {
    let remove = |at: &Assignment| HubWrite::RemoveDevice {
        id_scope: id_scope.clone(),
        hub: at.hub.clone(),
        device_id: at.device_id.clone(),
    };
    [vec![remove(to)], arriving, vec![remove(from)]].concat()
}
