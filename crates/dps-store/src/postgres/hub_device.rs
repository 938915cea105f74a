//! Rows of `hub_device`. Spec: DPS-REG-17.

use std::sync::LazyLock;

use async_trait::async_trait;
use deadpool_postgres::{GenericClient, Transaction};
use dps_core::audit::{Author, HubDeviceName, Subject};
use dps_core::enrollment::TwinDocument;
use dps_core::ports::{
    HubAuthentication, HubDevice, HubDeviceStatus, HubWrite, StoreError, StoredHubDevice, WriteError,
};
use dps_proto::ids::{DeviceId, HubName, IdScope};

use super::audit::Change;
use super::columns::Columns;
use super::fault::Fault;
use super::signers;
use super::table::{Table, Value};
use super::transaction::{Work, execute, query};
use crate::sealed_keys::{open_keys, seal_keys};
use crate::sealing::Sealer;
use crate::words::Word as _;

const TABLE: Table = Table {
    name: "hub_device",
    key: 3,
    made_with: 3,
    columns: &[
        ("id_scope", "text"),
        ("hub", "text"),
        ("device_id", "text"),
        ("hub_spelling", "text"),
        ("created_at", "bigint"),
        ("twin", "text"),
        ("registration_id", "text"),
        ("sealed_keys", "bytea"),
        ("primary_thumbprint", "bytea"),
        ("secondary_thumbprint", "bytea"),
        ("iot_edge", "boolean"),
        ("status", "text"),
        ("updated_at", "bigint"),
    ],
};

/// Makes devices that are not there.
pub(super) static INSERT_ALL: LazyLock<String> = LazyLock::new(|| TABLE.insert_all());
/// Writes devices over.
pub(super) static REPLACE_ALL: LazyLock<String> = LazyLock::new(|| TABLE.replace_all());

/// The row of a device, as it is written at `at`, in nanoseconds; `sealed_keys` is what [`seal`] gave for it.
pub(super) fn values<'d>(
    device: &'d HubDevice,
    sealed_keys: &'d [u8],
    status: HubDeviceStatus,
    at: i64,
) -> Vec<Value<'d>> {
    let thumbprints = match &device.authentication {
        HubAuthentication::Keys(_) => None,
        HubAuthentication::SelfSigned { primary, secondary } => Some((primary, secondary)),
    };
    vec![
        device.id_scope.folded().into(),
        device.hub.folded().into(),
        device.device_id.as_str().into(),
        device.hub.as_str().into(),
        at.into(),
        device.initial_twin.as_ref().map(|twin| &*twin.0).into(),
        device.registration_id.as_str().into(),
        sealed_keys.into(),
        thumbprints.map(|(primary, _)| primary.as_bytes()).into(),
        thumbprints.map(|(_, secondary)| secondary.as_bytes()).into(),
        device.iot_edge.into(),
        status.word().into(),
        at.into(),
    ]
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT hub_spelling, device_id, registration_id, sealed_keys, primary_thumbprint, secondary_thumbprint,
                    iot_edge, twin, status, created_at, updated_at
             FROM hub_device ",
            $rest
        )
    };
}

pub(super) const FIND: &str = select!("WHERE id_scope = $1 AND hub = $2 AND device_id = $3");

pub(super) async fn find(
    on: &impl GenericClient,
    sealer: &Sealer,
    scope: &IdScope,
    hub: &HubName,
    device_id: &DeviceId,
) -> Result<Option<StoredHubDevice>, Fault> {
    let rows = query(on, FIND, &[&scope.folded(), &hub.folded(), &device_id.as_str()]).await?;
    rows.first().map(|row| read(&mut Columns::of(row), sealer, scope)).transpose()
}

pub(super) const LIST: &str =
    select!("WHERE id_scope = $1 AND hub = $2 AND device_id > $3 ORDER BY device_id LIMIT $4");

/// Up to `limit` devices whose ids come after `after`, in the order of their ids.
pub(super) async fn list(
    on: &impl GenericClient,
    sealer: &Sealer,
    (scope, hub): (&IdScope, &HubName),
    after: Option<&DeviceId>,
    limit: u32,
) -> Result<Vec<StoredHubDevice>, Fault> {
    // No device id is empty, so all come after the empty text.
    let (after, limit) = (after.map_or("", DeviceId::as_str), i64::from(limit));
    let rows = query(on, LIST, &[&scope.folded(), &hub.folded(), &after, &limit]).await?;
    rows.iter().map(|row| read(&mut Columns::of(row), sealer, scope)).collect()
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

fn read(columns: &mut Columns<'_>, sealer: &Sealer, scope: &IdScope) -> Result<StoredHubDevice, Fault> {
    let (hub, device_id) = (columns.parsed()?, columns.parsed()?);
    let registration_id = columns.parsed()?;
    let sealed: &[u8] = columns.value()?;
    let (primary, secondary) = (signers::thumbprint(columns)?, signers::thumbprint(columns)?);
    let authentication = match (primary, secondary) {
        (Some(primary), Some(secondary)) => HubAuthentication::SelfSigned { primary, secondary },
        _ => HubAuthentication::Keys(open_keys(sealer, &row_key(scope, &hub, &device_id), sealed)?),
    };
    Ok(StoredHubDevice {
        device: HubDevice {
            id_scope: scope.clone(),
            hub,
            device_id,
            registration_id,
            authentication,
            iot_edge: columns.value()?,
            initial_twin: columns.value::<Option<&str>>()?.map(|twin| TwinDocument(twin.into())),
        },
        status: columns.word()?,
        created_at: columns.time()?,
        updated_at: columns.time()?,
    })
}

/// Enables or disables a device. Spec: DPS-BROKER-12.
pub(super) struct SetStatus<'w> {
    pub(super) scope: &'w IdScope,
    pub(super) hub: &'w HubName,
    pub(super) device_id: &'w DeviceId,
    pub(super) status: HubDeviceStatus,
    pub(super) by: Option<&'w Author>,
}

#[async_trait]
impl Work for SetStatus<'_> {
    type Outcome = Result<(), WriteError>;

    async fn run(&self, transaction: &Transaction<'_>) -> Result<Self::Outcome, Fault> {
        let Self { scope, hub, device_id, status, by } = self;
        let update = "UPDATE hub_device SET status = $4 WHERE id_scope = $1 AND hub = $2 AND device_id = $3";
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&scope.folded(), &hub.folded(), &device_id.as_str(), &status.word()];
        if execute(transaction, update, &params).await? == 0 {
            return Ok(Err(WriteError::Missing));
        }
        let subject = Subject::HubDevice(HubDeviceName::new(hub, device_id));
        Change { scope, subject, etag: None }.write(transaction, *by, (*status).into()).await?;
        Ok(Ok(()))
    }
}

fn row_key(scope: &IdScope, hub: &HubName, device_id: &DeviceId) -> String {
    format!("hub-device/{}/{}/{device_id}", scope.folded(), hub.folded())
}
