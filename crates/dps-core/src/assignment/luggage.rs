//! What a device takes along from the hub that it leaves. Spec: DPS-REG-42.

use super::at_registry::Stopped;
use super::hold::Open;
use super::{Clock, has_time};
use crate::enrollment::TwinDocument;
use crate::ports::{ClaimedOperation, HubDeviceStatus, RegistryError};
use crate::register::Registrar;

/// What a device has at its hub, or begins with.
pub(super) struct Luggage {
    pub(super) iot_edge: bool,
    pub(super) twin: Option<TwinDocument>,
    pub(super) status: HubDeviceStatus,
    /// Whether it is that of another hub.
    pub(super) is_taken_along: bool,
}

impl Luggage {
    /// That of a device that begins anew.
    pub(super) fn new(open: &Open) -> Self {
        Self {
            iot_edge: open.over.placing.iot_edge,
            twin: open.over.placing.initial_twin.clone(),
            status: HubDeviceStatus::Enabled,
            is_taken_along: false,
        }
    }
}

impl Registrar {
    /// Reads what the device takes along; where it is not at the hub that it leaves, or leaves none, it begins anew.
    pub(super) async fn luggage(
        &self,
        claimed: &ClaimedOperation,
        open: &Open,
        clock: Clock<'_>,
    ) -> Result<Luggage, Stopped> {
        let Some(leaves) = open.over.leaves().filter(|_| open.over.placing.takes_along) else {
            return Ok(Luggage::new(open));
        };
        let linked = open.over.instance.linked_hub(&leaves.hub);
        let Some(registry) = linked.and_then(|linked| linked.hub.registry()) else {
            let scope = &open.over.instance.id_scope;
            let kept = self.store.hub_device(scope, &leaves.hub, &leaves.device_id).await?;
            return Ok(kept.map_or_else(
                || Luggage::new(open),
                |kept| Luggage {
                    iot_edge: kept.device.iot_edge,
                    twin: kept.device.initial_twin,
                    status: kept.status,
                    is_taken_along: true,
                },
            ));
        };
        let begin = || if has_time(clock, claimed.lease_until) { Ok(()) } else { Err(Stopped::Late) };
        let by = |why| Stopped::By(leaves.hub.clone(), why);
        begin()?;
        let identity = match registry.identity(&leaves.device_id).await {
            Ok(identity) => identity,
            Err(RegistryError::Absent) => return Ok(Luggage::new(open)),
            Err(why) => return Err(by(why)),
        };
        begin()?;
        match registry.twin(&leaves.device_id).await {
            Ok(twin) => Ok(Luggage {
                iot_edge: identity.iot_edge,
                twin: Some(twin),
                status: identity.status,
                is_taken_along: true,
            }),
            Err(RegistryError::Absent) => Ok(Luggage::new(open)),
            Err(why) => Err(by(why)),
        }
    }
}
