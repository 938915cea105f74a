//! The columns that individual enrollments and groups have in common.

use dps_core::custom_allocation::CustomAllocation;
use dps_core::enrollment::{EntrySettings, OtherMembers, ReprovisionPolicy, TwinDocument};
use dps_core::ports::StoreError;
use dps_proto::ids::{ETag, HubName};
use jiff::Timestamp;

use super::columns::Columns;
use super::fault::Fault;
use crate::sealing::Sealer;
use crate::times::nanoseconds;
use crate::words::Word as _;

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
    pub(super) webhook_api_version: Option<&'entry str>,
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
            webhook_api_version: settings.custom_allocation.as_ref().map(|custom| &*custom.api_version),
        })
    }
}

/// Reads `etag`, `created_at` and `updated_at`, which stand first in a row.
pub(super) fn read_version(columns: &mut Columns<'_>) -> Result<(ETag, Timestamp, Timestamp), Fault> {
    Ok((columns.parsed()?, columns.time()?, columns.time()?))
}

/// The secrets of an entry as they are stored. Spec: DPS-STORE-6.
#[derive(Default)]
pub(super) struct SealedEntry {
    /// Where it has symmetric keys.
    pub(super) keys: Option<Vec<u8>>,
    /// Where it has a webhook.
    pub(super) webhook_url: Option<Vec<u8>>,
}

/// The sealed URL of an entry's webhook. Spec: DPS-REG-26.
pub(super) fn seal_webhook(
    sealer: &Sealer,
    row_key: &str,
    settings: &EntrySettings,
) -> Result<Option<Vec<u8>>, StoreError> {
    let custom = settings.custom_allocation.as_ref();
    custom
        .map(|custom| sealer.seal(&webhook_key(row_key), custom.webhook_url.expose().as_bytes()))
        .transpose()
}

fn read_webhook(
    columns: &mut Columns<'_>,
    sealer: &Sealer,
    row_key: &str,
) -> Result<Option<CustomAllocation>, Fault> {
    let sealed: Option<Vec<u8>> = columns.value()?;
    let api_version: Option<Box<str>> = columns.value()?;
    let (Some(sealed), Some(api_version)) = (sealed, api_version) else { return Ok(None) };
    let opened = sealer.open(&webhook_key(row_key), &sealed)?;
    let webhook_url = std::str::from_utf8(&opened).ok().and_then(|url| url.parse().ok());
    let webhook_url = webhook_url
        .ok_or_else(|| Fault::unreadable(format!("the secret of {row_key} is no URL of a webhook")))?;
    Ok(Some(CustomAllocation { webhook_url, api_version }))
}

fn webhook_key(row_key: &str) -> String {
    format!("{row_key}/webhook")
}

/// Reads `provisioning_status` to `webhook_api_version`, which stand together in a row.
pub(super) fn read(
    columns: &mut Columns<'_>,
    (sealer, row_key): (&Sealer, &str),
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
    let custom_allocation = read_webhook(columns, sealer, row_key)?;
    Ok(EntrySettings {
        provisioning_status,
        allocation_policy,
        custom_allocation,
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
