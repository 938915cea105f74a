//! Bringing a device to a hub outside. Spec: DPS-REG-41, DPS-REG-42, DPS-REG-44.

use dps_proto::ids::HubName;

use super::{Clock, has_time};
use crate::ports::{
    ClaimedOperation, DeviceRegistry, HubDevice, HubDeviceStatus, RegistryDevice, RegistryError, StoreError,
};
use crate::register::Registrar;

/// How often a device is looked at anew that others change meanwhile.
const ROUNDS_MAX: u32 = 4;

/// Why a device comes to a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coming {
    /// It has no hub yet.
    First,
    /// It is there already.
    Stays,
    /// It leaves another one: what is there of old counts no more.
    Moves,
}

/// Why it is not there.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The claim is not the newest, or its entry has changed: look again.
    Outdated,
    /// The claim is about to end.
    Late,
    /// This hub did not do what it was asked.
    By(HubName, RegistryError),
    /// Others changed the device again and again.
    Contended,
    /// The store could not answer.
    Store(StoreError),
}

impl From<StoreError> for Stopped {
    fn from(why: StoreError) -> Self {
        Self::Store(why)
    }
}

/// What is to be brought where.
pub(super) struct Bringing<'b> {
    pub(super) claimed: &'b ClaimedOperation,
    pub(super) registry: &'b dyn DeviceRegistry,
    pub(super) device: &'b HubDevice,
    pub(super) status: HubDeviceStatus,
    pub(super) coming: Coming,
}

impl Registrar {
    /// Makes the device, or gives the one that is there its authentication; whether it was made.
    pub(super) async fn bring(&self, bringing: &Bringing<'_>, clock: Clock<'_>) -> Result<bool, Stopped> {
        let Bringing { claimed, registry, device, status, coming } = bringing;
        let by = |why| Stopped::By(device.hub.clone(), why);
        let begin = || if has_time(clock, claimed.lease_until) { Ok(()) } else { Err(Stopped::Late) };
        // A device that stays is there, as a rule: one call less.
        let mut creates = *coming != Coming::Stays;
        for _ in 0..ROUNDS_MAX {
            begin()?;
            if creates {
                match registry.create(device, *status).await {
                    Ok(()) => return Ok(true),
                    Err(RegistryError::Exists) => creates = false,
                    Err(why) => return Err(by(why)),
                }
                begin()?;
            }
            let found = match registry.identity(&device.device_id).await {
                Ok(found) => found,
                Err(RegistryError::Absent) => {
                    creates = true;
                    continue;
                }
                Err(why) => return Err(by(why)),
            };
            if !self.still_holds(claimed).await? {
                return Err(Stopped::Outdated);
            }
            begin()?;
            match change(bringing, &found).await {
                Ok(()) if *coming == Coming::Moves => creates = true,
                Ok(()) => return Ok(false),
                Err(RegistryError::Absent) => creates = true,
                Err(RegistryError::Changed) => {}
                Err(why) => return Err(by(why)),
            }
        }
        Err(Stopped::Contended)
    }
}

/// Always a write, even of the authentication that is there: whoever read the device before has an old version in hand.
async fn change(bringing: &Bringing<'_>, found: &RegistryDevice) -> Result<(), RegistryError> {
    let Bringing { registry, device, coming, .. } = bringing;
    match coming {
        Coming::Moves => registry.delete(found).await,
        Coming::First | Coming::Stays => registry.set_authentication(found, &device.authentication).await,
    }
}
