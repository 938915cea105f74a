//! The columns that individual enrollments and groups have in common.

use dps_core::custom_allocation::CustomAllocation;
use dps_core::enrollment::{EntrySettings, OtherMembers, ReprovisionPolicy, TwinDocument};
use dps_core::ports::StoreError;
use dps_proto::ids::ETag;
use jiff::Timestamp;

use super::columns::Columns;
use super::fault::Fault;
use super::table::Value;
use crate::sealing::Sealer;
use crate::times::nanoseconds;
use crate::words::Word as _;

/// `provisioning_status` to `webhook_api_version`, which stand together in a row, as they are written.
pub(super) fn values<'entry>(
    settings: &'entry EntrySettings,
    sealed: &'entry SealedEntry,
) -> Vec<Value<'entry>> {
    let reprovision = settings.reprovision_policy;
    let custom = settings.custom_allocation.as_ref();
    vec![
        settings.provisioning_status.word().into(),
        settings.allocation_policy.map(|policy| policy.word()).into(),
        Value::Texts(settings.hubs.iter().map(|hub| hub.as_str().into()).collect()),
        settings.initial_twin.as_ref().map(|twin| &*twin.0).into(),
        settings.iot_edge.into(),
        reprovision.map(|policy| policy.update_hub_assignment).into(),
        reprovision.map(|policy| policy.migrate_device_data).into(),
        settings.other_members.as_ref().map(|members| &*members.0).into(),
        sealed.webhook_url.as_deref().into(),
        custom.map(|custom| &*custom.api_version).into(),
    ]
}

/// `created_at`, `etag` and `updated_at`, which stand together too.
pub(super) fn version(settings: &EntrySettings) -> Result<[Value<'_>; 3], StoreError> {
    let (created_at, updated_at) = (nanoseconds(settings.created_at)?, nanoseconds(settings.updated_at)?);
    Ok([created_at.into(), settings.etag.as_str().into(), updated_at.into()])
}

/// Reads what [`version`] writes.
pub(super) fn read_version(columns: &mut Columns<'_>) -> Result<(Timestamp, ETag, Timestamp), Fault> {
    Ok((columns.time()?, columns.parsed()?, columns.time()?))
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
    let (sealed, api_version): (Option<&[u8]>, Option<&str>) = (columns.value()?, columns.value()?);
    let (Some(sealed), Some(api_version)) = (sealed, api_version) else { return Ok(None) };
    let opened = sealer.open(&webhook_key(row_key), sealed)?;
    let webhook_url = std::str::from_utf8(&opened).ok().and_then(|url| url.parse().ok());
    let webhook_url = webhook_url
        .ok_or_else(|| Fault::unreadable(format!("the secret of {row_key} is no URL of a webhook")))?;
    Ok(Some(CustomAllocation { webhook_url, api_version: api_version.into() }))
}

fn webhook_key(row_key: &str) -> String {
    format!("{row_key}/webhook")
}

/// Reads what [`values`] writes.
pub(super) fn read(
    columns: &mut Columns<'_>,
    (sealer, row_key): (&Sealer, &str),
    (created_at, etag, updated_at): (Timestamp, ETag, Timestamp),
) -> Result<EntrySettings, Fault> {
    let provisioning_status = columns.word()?;
    let allocation_policy = columns.optional_word()?;
    let hubs = columns.all_parsed()?;
    let initial_twin = columns.value::<Option<&str>>()?.map(|text| TwinDocument(text.into()));
    let iot_edge = columns.value()?;
    let (update_hub_assignment, migrate_device_data) = (columns.value()?, columns.value()?);
    let reprovision_policy = match (update_hub_assignment, migrate_device_data) {
        (Some(update_hub_assignment), Some(migrate_device_data)) => {
            Some(ReprovisionPolicy { update_hub_assignment, migrate_device_data })
        }
        (None, None) => None,
        _ => return Err(columns.unreadable("half a reprovision policy")),
    };
    let other_members = columns.value::<Option<&str>>()?.map(|text| OtherMembers(text.into()));
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
