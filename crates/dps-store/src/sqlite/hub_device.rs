//! Rows of `hub_device`. Spec: DPS-REG-17.

use dps_core::enrollment::TwinDocument;
use dps_core::ports::{HubAuthentication, HubDevice, HubDeviceStatus, HubWrite, StoreError, StoredHubDevice};
use dps_proto::ids::{DeviceId, HubName, IdScope};
use rusqlite::{Connection, Params, params};

use super::columns::Columns;
use super::fault::Fault;
use super::signers;
use crate::sealed_keys::{open_keys, seal_keys};
use crate::sealing::Sealer;
use crate::words::Word as _;

/// Takes a device away, if it is there; gives what its status was.
pub(super) fn remove(
    connection: &Connection,
    scope: &IdScope,
    hub: &HubName,
    device_id: &DeviceId,
) -> Result<Option<HubDeviceStatus>, Fault> {
    let delete =
        "DELETE FROM hub_device WHERE id_scope = ?1 AND hub = ?2 AND device_id = ?3 RETURNING status";
    let mut statement = connection.prepare_cached(delete)?;
    let mut rows = statement.query(params![scope.folded(), hub.folded(), device_id.as_str()])?;
    rows.next()?.map(|row| Columns::of(row).word()).transpose()
}

/// Whether there is such a device.
pub(super) fn set_status(
    connection: &Connection,
    scope: &IdScope,
    hub: &HubName,
    device_id: &DeviceId,
    status: HubDeviceStatus,
) -> Result<bool, Fault> {
    let update = "UPDATE hub_device SET status = ?4 WHERE id_scope = ?1 AND hub = ?2 AND device_id = ?3";
    let params = params![scope.folded(), hub.folded(), device_id.as_str(), status.word()];
    Ok(connection.prepare_cached(update)?.execute(params)? > 0)
}

/// Makes a device, or gives it another authentication; `at` in nanoseconds, `sealed_keys` of [`seal`]. Spec: DPS-BROKER-12.
pub(super) fn put(
    connection: &Connection,
    device: &HubDevice,
    sealed_keys: &[u8],
    at: i64,
) -> Result<(), Fault> {
    let thumbprints = match &device.authentication {
        HubAuthentication::Keys(_) => None,
        HubAuthentication::SelfSigned { primary, secondary } => Some((primary, secondary)),
    };
    connection
        .prepare_cached(
            "INSERT INTO hub_device (
                 id_scope, hub, device_id, hub_spelling, registration_id, sealed_keys, iot_edge, twin,
                 created_at, updated_at, primary_thumbprint, secondary_thumbprint)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, ?10, ?11)
             ON CONFLICT (id_scope, hub, device_id) DO UPDATE SET
                 registration_id = excluded.registration_id, sealed_keys = excluded.sealed_keys,
                 iot_edge = excluded.iot_edge, updated_at = excluded.updated_at,
                 primary_thumbprint = excluded.primary_thumbprint,
                 secondary_thumbprint = excluded.secondary_thumbprint",
        )?
        .execute(params![
            device.id_scope.folded(),
            device.hub.folded(),
            device.device_id.as_str(),
            device.hub.as_str(),
            device.registration_id.as_str(),
            sealed_keys,
            device.iot_edge,
            device.initial_twin.as_ref().map(|twin| &*twin.0),
            at,
            thumbprints.map(|(primary, _)| primary.as_bytes()),
            thumbprints.map(|(_, secondary)| secondary.as_bytes()),
        ])?;
    Ok(())
}

pub(super) fn find(
    connection: &Connection,
    sealer: &Sealer,
    scope: &IdScope,
    hub: &HubName,
    device_id: &DeviceId,
) -> Result<Option<StoredHubDevice>, Fault> {
    let query =
        "SELECT hub_spelling, device_id, registration_id, sealed_keys, primary_thumbprint, secondary_thumbprint,
                        iot_edge, twin, status, created_at, updated_at
                 FROM hub_device WHERE id_scope = ?1 AND hub = ?2 AND device_id = ?3";
    let params = params![scope.folded(), hub.folded(), device_id.as_str()];
    Ok(query_all(connection, sealer, scope, query, params)?.pop())
}

/// Up to `limit` devices whose ids come after `after`, in the order of their ids.
pub(super) fn list(
    connection: &Connection,
    sealer: &Sealer,
    scope: &IdScope,
    hub: &HubName,
    after: Option<&DeviceId>,
    limit: u32,
) -> Result<Vec<StoredHubDevice>, Fault> {
    let query = "SELECT hub_spelling, device_id, registration_id, sealed_keys, primary_thumbprint, secondary_thumbprint,
                        iot_edge, twin, status, created_at, updated_at
                 FROM hub_device WHERE id_scope = ?1 AND hub = ?2 AND device_id > ?3 ORDER BY device_id LIMIT ?4";
    // No device id is empty, so all come after the empty text.
    let after = after.map_or("", DeviceId::as_str);
    query_all(connection, sealer, scope, query, params![scope.folded(), hub.folded(), after, limit])
}

/// The sealed keys of a hub's write; empty for a device that has none.
pub(super) fn seal(sealer: &Sealer, write: &HubWrite) -> Result<Vec<u8>, StoreError> {
    let HubWrite::PutDevice(device) = write else { return Ok(Vec::new()) };
    match &device.authentication {
        HubAuthentication::Keys(keys) => {
            seal_keys(sealer, &row_key(&device.id_scope, &device.hub, &device.device_id), keys)
        }
        HubAuthentication::SelfSigned { .. } => Ok(Vec::new()),
    }
}

fn query_all(
    connection: &Connection,
    sealer: &Sealer,
    scope: &IdScope,
    query: &str,
    params: impl Params,
) -> Result<Vec<StoredHubDevice>, Fault> {
    let mut statement = connection.prepare_cached(query)?;
    let mut rows = statement.query(params)?;
    let mut devices = Vec::new();
    while let Some(row) = rows.next()? {
        devices.push(read(&mut Columns::of(row), sealer, scope)?);
    }
    Ok(devices)
}

fn read(columns: &mut Columns<'_>, sealer: &Sealer, scope: &IdScope) -> Result<StoredHubDevice, Fault> {
    let (hub, device_id) = (columns.parsed()?, columns.parsed()?);
    let registration_id = columns.parsed()?;
    let sealed: Vec<u8> = columns.value()?;
    let (primary, secondary) = (signers::thumbprint(columns)?, signers::thumbprint(columns)?);
    let authentication = match (primary, secondary) {
        (Some(primary), Some(secondary)) => HubAuthentication::SelfSigned { primary, secondary },
        _ => HubAuthentication::Keys(open_keys(sealer, &row_key(scope, &hub, &device_id), &sealed)?),
    };
    Ok(StoredHubDevice {
        device: HubDevice {
            id_scope: scope.clone(),
            hub,
            device_id,
            registration_id,
            authentication,
            iot_edge: columns.value()?,
            initial_twin: columns.value::<Option<Box<str>>>()?.map(TwinDocument),
        },
        status: columns.word()?,
        created_at: columns.time()?,
        updated_at: columns.time()?,
    })
}

fn row_key(scope: &IdScope, hub: &HubName, device_id: &DeviceId) -> String {
    format!("hub-device/{}/{}/{device_id}", scope.folded(), hub.folded())
}
