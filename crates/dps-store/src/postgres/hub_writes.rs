//! What the hubs of a batch of registrations want written. Spec: DPS-STORE-5, DPS-REG-17, DPS-REG-23, DPS-REG-43, DPS-BROKER-12.

use std::collections::{BTreeMap, HashMap};

use deadpool_postgres::Transaction;
use dps_core::ports::{HubDevice, HubDeviceStatus, HubWrite, RegistrationWrite, StoreError};

use super::columns::Columns;
use super::fault::Fault;
use super::table::Rows;
use super::transaction::{execute, query};
use super::{clean_up, hub_device};
use crate::times::nanoseconds;

/// ID scope, hub and device id.
type Key<'w> = (&'w str, &'w str, &'w str);

/// The device that a write is about.
pub(super) fn key(write: &HubWrite) -> Key<'_> {
    match write {
        HubWrite::PutDevice(device) => {
            (device.id_scope.folded(), device.hub.folded(), device.device_id.as_str())
        }
        HubWrite::CleanUp(clean_up) => {
            (clean_up.id_scope.folded(), clean_up.hub.folded(), clean_up.device_id.as_str())
        }
        HubWrite::RemoveDevice { id_scope, hub, device_id }
        | HubWrite::DisableDevice { id_scope, hub, device_id }
        | HubWrite::Keep { id_scope, hub, device_id } => {
            (id_scope.folded(), hub.folded(), device_id.as_str())
        }
    }
}

/// The devices that are there of those that a batch writes to: locked.
pub(super) struct StoredDevices(HashMap<(String, String, String), HubDeviceStatus>);

pub(super) const LOCK: &str = "SELECT d.id_scope, d.hub, d.device_id, d.status
     FROM unnest($1::text[], $2::text[], $3::text[]) AS wanted (id_scope, hub, device_id)
     JOIN hub_device d
         ON d.id_scope = wanted.id_scope AND d.hub = wanted.hub AND d.device_id = wanted.device_id
     ORDER BY d.id_scope, d.hub, d.device_id FOR UPDATE OF d";

impl StoredDevices {
    pub(super) async fn lock(transaction: &Transaction<'_>, writes: &[&HubWrite]) -> Result<Self, Fault> {
        let at_local_hubs =
            writes.iter().filter(|write| !matches!(write, HubWrite::CleanUp(_) | HubWrite::Keep { .. }));
        let mut keys: Vec<Key<'_>> = at_local_hubs.map(|write| key(write)).collect();
        keys.sort_unstable();
        keys.dedup();
        if keys.is_empty() {
            return Ok(Self(HashMap::new()));
        }
        let [scopes, hubs, device_ids] = arrays(&keys);
        let mut stored = HashMap::new();
        for row in query(transaction, LOCK, &[&scopes, &hubs, &device_ids]).await? {
            let mut columns = Columns::of(&row);
            let key = (columns.value()?, columns.value()?, columns.value()?);
            stored.insert(key, columns.word()?);
        }
        Ok(Self(stored))
    }

    fn status(&self, (scope, hub, device_id): Key<'_>) -> Option<HubDeviceStatus> {
        self.0.get(&(scope.to_owned(), hub.to_owned(), device_id.to_owned())).copied()
    }
}

fn arrays<'w>(keys: &[Key<'w>]) -> [Vec<&'w str>; 3] {
    [
        keys.iter().map(|(scope, ..)| *scope).collect(),
        keys.iter().map(|(_, hub, _)| *hub).collect(),
        keys.iter().map(|(.., device_id)| *device_id).collect(),
    ]
}

/// What becomes of one device of a local hub.
#[derive(Clone, Copy)]
struct Fate<'w> {
    /// Whether it is in the store.
    is_stored: bool,
    /// Whether what is in the store is to go, even where another takes its place.
    goes: bool,
    /// Its status in the end; `None` where there is no device.
    status: Option<HubDeviceStatus>,
    /// What it is given, with the sealed keys.
    put: Option<(&'w HubDevice, &'w [u8])>,
}

/// The rows of all statements.
#[derive(Default)]
pub(super) struct HubWrites<'w> {
    made: Rows<'w>,
    replaced: Rows<'w>,
    removed: Vec<Key<'w>>,
    disabled: Vec<Key<'w>>,
    kept: Vec<Key<'w>>,
    cleaned_up: Rows<'w>,
}

impl<'w> HubWrites<'w> {
    /// Adds what one registration brings along, carried out in its order. `sealed_keys` is what [`hub_device::seal`] gave for each.
    pub(super) fn add(
        &mut self,
        write: &'w RegistrationWrite,
        sealed_keys: &'w [Vec<u8>],
        stored: &StoredDevices,
    ) -> Result<(), StoreError> {
        let at = nanoseconds(write.registration.updated_at)?;
        let mut clean_ups = BTreeMap::new();
        for (key, fate) in fates(&write.hub_writes, sealed_keys, stored) {
            match fate.put {
                Some((device, sealed_keys)) => {
                    let status = fate.status.unwrap_or(HubDeviceStatus::Enabled);
                    let rows = if fate.is_stored && !fate.goes { &mut self.replaced } else { &mut self.made };
                    rows.push(hub_device::values(device, sealed_keys, status, at));
                }
                None if fate.status == Some(HubDeviceStatus::Disabled)
                    && stored.status(key) != fate.status =>
                {
                    self.disabled.push(key);
                }
                None => {}
            }
            if fate.is_stored && fate.goes {
                self.removed.push(key);
            }
        }
        for write in &write.hub_writes {
            match write {
                HubWrite::Keep { .. } => {
                    self.kept.push(key(write));
                    clean_ups.remove(&key(write));
                }
                HubWrite::CleanUp(clean_up) => {
                    clean_ups.insert(key(write), &**clean_up);
                }
                HubWrite::PutDevice(_) | HubWrite::RemoveDevice { .. } | HubWrite::DisableDevice { .. } => {}
            }
        }
        for clean_up in clean_ups.into_values() {
            self.cleaned_up.push(clean_up::values(clean_up)?);
        }
        Ok(())
    }

    /// Writes all of it.
    pub(super) async fn write(&self, transaction: &Transaction<'_>) -> Result<(), Fault> {
        let Self { made, replaced, removed, disabled, kept, cleaned_up } = self;
        for (keys, statement) in
            [(removed, REMOVE_ALL), (disabled, DISABLE_ALL), (kept, clean_up::DELETE_ALL)]
        {
            if !keys.is_empty() {
                let mut keys = keys.clone();
                keys.sort_unstable();
                let [scopes, hubs, device_ids] = arrays(&keys);
                execute(transaction, statement, &[&scopes, &hubs, &device_ids]).await?;
            }
        }
        if !made.is_empty()
            && execute(transaction, &hub_device::INSERT_ALL, &made.params()).await? < made.count()
        {
            return Err(Fault::raced("a device of a local hub"));
        }
        for (rows, statement) in [(replaced, &*hub_device::REPLACE_ALL), (cleaned_up, &*clean_up::PUT_ALL)] {
            if !rows.is_empty() {
                execute(transaction, statement, &rows.params()).await?;
            }
        }
        Ok(())
    }
}

pub(super) const REMOVE_ALL: &str = "DELETE FROM hub_device d
     USING unnest($1::text[], $2::text[], $3::text[]) AS gone (id_scope, hub, device_id)
     WHERE d.id_scope = gone.id_scope AND d.hub = gone.hub AND d.device_id = gone.device_id";

pub(super) const DISABLE_ALL: &str = "UPDATE hub_device d SET status = 'disabled'
     FROM unnest($1::text[], $2::text[], $3::text[]) AS held (id_scope, hub, device_id)
     WHERE d.id_scope = held.id_scope AND d.hub = held.hub AND d.device_id = held.device_id";

/// What becomes of each device that one registration writes to.
fn fates<'w>(
    writes: &'w [HubWrite],
    sealed_keys: &'w [Vec<u8>],
    stored: &StoredDevices,
) -> BTreeMap<Key<'w>, Fate<'w>> {
    let mut fates: BTreeMap<Key<'w>, Fate<'w>> = BTreeMap::new();
    let mut removed_disabled = false;
    for (write, sealed_keys) in writes.iter().zip(sealed_keys) {
        if matches!(write, HubWrite::CleanUp(_) | HubWrite::Keep { .. }) {
            continue;
        }
        let status = stored.status(key(write));
        let unchanged = Fate { is_stored: status.is_some(), goes: false, status, put: None };
        let fate = fates.entry(key(write)).or_insert(unchanged);
        match write {
            HubWrite::PutDevice(device) => {
                fate.status = fate.status.or(Some(HubDeviceStatus::Enabled));
                fate.put = Some((device, sealed_keys));
            }
            HubWrite::RemoveDevice { .. } => {
                removed_disabled |= fate.status == Some(HubDeviceStatus::Disabled);
                *fate = Fate { goes: true, status: None, put: None, ..*fate };
            }
            HubWrite::DisableDevice { .. } => {
                fate.status = fate.status.map(|_| HubDeviceStatus::Disabled);
            }
            HubWrite::CleanUp(_) | HubWrite::Keep { .. } => {}
        }
    }
    if removed_disabled {
        for fate in fates.values_mut().filter(|fate| fate.put.is_some()) {
            fate.status = Some(HubDeviceStatus::Disabled);
        }
    }
    fates
}
