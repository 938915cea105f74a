//! The columns that individual enrollments and groups have in common.

use dps_core::enrollment::{EntrySettings, OtherMembers, ReprovisionPolicy, TwinDocument};
use dps_core::ports::StoreError;
use dps_proto::ids::{ETag, HubName};
use jiff::Timestamp;

use super::columns::{Columns, Word as _, nanoseconds};
use super::fault::Fault;

/// Settings as they are written.
pub(super) struct SettingsColumns<'entry> {
    pub(super) etag: &'entry str,
    pub(super) created_at: i64,
    pub(super) updated_at: i64,
    pub(super) provisioning_status: &'static str,
    pub(super) allocation_policy: Option<&'static str>,
    pub(super) hubs: String,
    pub(super) initial_twin: Option<&'entry str>,
    pub(super) iot_edge: bool,
    pub(super) update_hub_assignment: Option<bool>,
    pub(super) migrate_device_data: Option<bool>,
    pub(super) other_members: Option<&'entry str>,
}

impl<'entry> SettingsColumns<'entry> {
    pub(super) fn of(settings: &'entry EntrySettings) -> Result<Self, StoreError> {
        let hubs: Vec<&str> = settings.hubs.iter().map(HubName::as_str).collect();
        Ok(Self {
            etag: settings.etag.as_str(),
            created_at: nanoseconds(settings.created_at)?,
            updated_at: nanoseconds(settings.updated_at)?,
            provisioning_status: settings.provisioning_status.word(),
            allocation_policy: settings.allocation_policy.map(|policy| policy.word()),
            hubs: serde_json::Value::from(hubs).to_string(),
            initial_twin: settings.initial_twin.as_ref().map(|twin| &*twin.0),
            iot_edge: settings.iot_edge,
            update_hub_assignment: settings.reprovision_policy.map(|policy| policy.update_hub_assignment),
            migrate_device_data: settings.reprovision_policy.map(|policy| policy.migrate_device_data),
            other_members: settings.other_members.as_ref().map(|members| &*members.0),
        })
    }
}

/// Reads `etag`, `created_at` and `updated_at`, which stand first in a row.
pub(super) fn read_version(columns: &mut Columns<'_>) -> Result<(ETag, Timestamp, Timestamp), Fault> {
    Ok((columns.parsed()?, columns.time()?, columns.time()?))
}

/// Reads `provisioning_status` to `other_members`, which stand last in a row.
pub(super) fn read(
    columns: &mut Columns<'_>,
    (etag, created_at, updated_at): (ETag, Timestamp, Timestamp),
) -> Result<EntrySettings, Fault> {
    let provisioning_status = columns.word()?;
    let allocation_policy = columns.optional_word()?;
    let hubs = read_hubs(columns)?;
    let initial_twin = columns.value::<Option<Box<str>>>()?.map(TwinDocument);
    let iot_edge = columns.value()?;
    let (update_hub_assignment, migrate_device_data) = (columns.value()?, columns.value()?);
    let reprovision_policy = match (update_hub_assignment, migrate_device_data) {
        (Some(update_hub_assignment), Some(migrate_device_data)) => {
            Some(ReprovisionPolicy { update_hub_assignment, migrate_device_data })
        }
        (None, None) => None,
        _ => return Err(columns.unreadable("half a reprovision policy")),
    };
    let other_members = columns.value::<Option<Box<str>>>()?.map(OtherMembers);
    Ok(EntrySettings {
        provisioning_status,
        allocation_policy,
        hubs,
        initial_twin,
        iot_edge,
        reprovision_policy,
        other_members,
        etag,
        created_at,
        updated_at,
    })
}

fn read_hubs(columns: &mut Columns<'_>) -> Result<Vec<HubName>, Fault> {
    let text: String = columns.value()?;
    let names: Vec<String> = serde_json::from_str(&text).map_err(|error| columns.unreadable(error))?;
    names.iter().map(|name| name.parse().map_err(|error| columns.unreadable(error))).collect()
}
