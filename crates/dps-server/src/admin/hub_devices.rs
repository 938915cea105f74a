//! The devices of local hubs: what is kept of each, and whether it may connect. Spec: DPS-DEV-10, DPS-BROKER-12.

use std::sync::Arc;

use aws_lc_rs::digest;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use dps_core::instance::ServiceInstance;
use dps_core::ports::{HubAuthentication, HubDeviceStatus, StoredHubDevice, WriteError};
use dps_proto::date;
use dps_proto::ids::{DeviceId, HubName};
use dps_proto::key::SymmetricKey;
use serde::Deserialize;
use serde_json::{Value, json};

use super::refused::Refused;
use super::{Admin, PAGE, listed};

pub(super) fn router() -> Router<Arc<Admin>> {
    let all = "/admin/v1/id-scopes/{id_scope}/hubs/{hub}/devices";
    Router::new()
        .route(all, get(list))
        .route(&format!("{all}/{{device_id}}"), get(show))
        .route(&format!("{all}/{{device_id}}/status"), put(set_status))
}

/// What a device's status is to be.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StatusBody {
    status: String,
}

async fn list(
    State(admin): State<Arc<Admin>>,
    Path((scope, hub)): Path<(String, String)>,
) -> Result<Response, Refused> {
    let (instance, hub) = hub_of(&admin, &scope, &hub)?;
    let devices = admin.store.hub_devices(&instance.id_scope, &hub, None, PAGE).await?;
    Ok(Json(devices.iter().map(describe).collect::<Vec<_>>()).into_response())
}

async fn show(
    State(admin): State<Arc<Admin>>,
    Path((scope, hub, device_id)): Path<(String, String, String)>,
) -> Result<Response, Refused> {
    let (instance, hub) = hub_of(&admin, &scope, &hub)?;
    let device_id = device_id.parse().map_err(|_| no_such_device())?;
    one(&admin, &instance, &hub, &device_id).await
}

/// Spec: DPS-BROKER-12.
async fn set_status(
    State(admin): State<Arc<Admin>>,
    Path((scope, hub, device_id)): Path<(String, String, String)>,
    body: Bytes,
) -> Result<Response, Refused> {
    let (instance, hub) = hub_of(&admin, &scope, &hub)?;
    let device_id: DeviceId = device_id.parse().map_err(|_| no_such_device())?;
    let form = || Refused::Bad(r#"send {"status":"enabled"} or {"status":"disabled"}"#.to_owned());
    let StatusBody { status } = serde_json::from_slice(&body).map_err(|_| form())?;
    let status = HubDeviceStatus::ALL.into_iter().find(|known| known.as_str() == status).ok_or_else(form)?;
    let scope = &instance.id_scope;
    let by = Some(Box::new(admin.author()));
    match admin.store.set_hub_device_status(scope, &hub, &device_id, status, by).await {
        Err(WriteError::Missing) => return Err(no_such_device()),
        written => written?,
    }
    tracing::info!(id_scope = %scope, hub = %hub, device_id = %device_id, status = status.as_str(), "device of a hub written");
    one(&admin, &instance, &hub, &device_id).await
}

async fn one(
    admin: &Admin,
    instance: &ServiceInstance,
    hub: &HubName,
    device_id: &DeviceId,
) -> Result<Response, Refused> {
    let found = admin.store.hub_device(&instance.id_scope, hub, device_id).await?;
    Ok(Json(describe(&found.ok_or_else(no_such_device)?)).into_response())
}

fn no_such_device() -> Refused {
    Refused::NoSuch("the hub has no such device".to_owned())
}

/// The instance, held while something of it is written, and its hub of these names; else which there are.
fn hub_of(admin: &Admin, scope: &str, hub: &str) -> Result<(Arc<ServiceInstance>, HubName), Refused> {
    let instance = admin.instance_of(scope)?;
    let linked = hub.parse().ok().and_then(|hub| instance.linked_hub(&hub)).map(|linked| linked.name.clone());
    let linked = linked.ok_or_else(|| {
        let known = instance.linked_hubs.iter().map(|linked| linked.name.as_str());
        Refused::NoSuch(format!("the service instance has no hub of that name; there are {}", listed(known)))
    })?;
    Ok((instance, linked))
}

/// A device of a local hub, its keys as fingerprints.
fn describe(stored: &StoredHubDevice) -> Value {
    let device = &stored.device;
    let twin = device.initial_twin.as_ref().and_then(|twin| serde_json::from_str::<Value>(&twin.0).ok());
    json!({
        "deviceId": device.device_id.as_str(),
        "registrationId": device.registration_id.as_str(),
        "authentication": describe_authentication(&device.authentication),
        "status": stored.status.as_str(),
        "capabilities": {"iotEdge": device.iot_edge},
        "twin": twin.unwrap_or_else(|| json!({})),
        "createdDateTimeUtc": date::format(stored.created_at),
        "lastUpdatedDateTimeUtc": date::format(stored.updated_at),
    })
}

/// Spec: DPS-X509-22.
fn describe_authentication(authentication: &HubAuthentication) -> Value {
    match authentication {
        HubAuthentication::Keys(keys) => json!({
            "type": "sas",
            "primaryKeySha256": fingerprint(&keys.primary),
            "secondaryKeySha256": fingerprint(&keys.secondary),
        }),
        HubAuthentication::SelfSigned { primary, secondary } => json!({
            "type": "selfSigned",
            "x509Thumbprint": {
                "primaryThumbprint": primary.to_string(),
                "secondaryThumbprint": secondary.to_string(),
            },
        }),
    }
}

/// Enough to compare two keys, and nothing to sign with.
pub(super) fn fingerprint(key: &SymmetricKey) -> String {
    let hash = digest::digest(&digest::SHA256, key.expose());
    hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
