//! What hubs want written along with a record. Spec: DPS-STORE-5.

use dps_core::ports::{HubDevice, HubDeviceStatus, HubWrite};
use rusqlite::Connection;

use super::fault::Fault;
use super::{clean_up, hub_device};

/// Writes it in this order; `at` in nanoseconds. `sealed_keys` is what [`hub_device::seal`] gave for each. Spec: DPS-REG-23,
/// DPS-REG-43, DPS-BROKER-12.
pub(super) fn all(
    connection: &Connection,
    writes: &[HubWrite],
    sealed_keys: &[Vec<u8>],
    at: i64,
) -> Result<(), Fault> {
    let mut removed_disabled = false;
    for (write, sealed_keys) in writes.iter().zip(sealed_keys) {
        match write {
            HubWrite::PutDevice(device) => hub_device::put(connection, device, sealed_keys, at)?,
            HubWrite::RemoveDevice { id_scope, hub, device_id } => {
                let removed = hub_device::remove(connection, id_scope, hub, device_id)?;
                removed_disabled |= removed == Some(HubDeviceStatus::Disabled);
            }
            HubWrite::DisableDevice { id_scope, hub, device_id } => {
                let disabled = HubDeviceStatus::Disabled;
                hub_device::set_status(connection, id_scope, hub, device_id, disabled)?;
            }
            HubWrite::CleanUp(clean_up) => clean_up::put(connection, clean_up)?,
            HubWrite::Keep { id_scope, hub, device_id } => {
                clean_up::keep(connection, id_scope, hub, device_id)?;
            }
        }
    }
    if removed_disabled {
        for write in writes {
            let HubWrite::PutDevice(device) = write else { continue };
            let HubDevice { id_scope, hub, device_id, .. } = &**device;
            hub_device::set_status(connection, id_scope, hub, device_id, HubDeviceStatus::Disabled)?;
        }
    }
    Ok(())
}
