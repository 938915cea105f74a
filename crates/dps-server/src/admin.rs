//! The admin listener: for the person who runs the service, on loopback, behind a token of its own. Spec: DPS-DEV-10.

use std::sync::Arc;

use aws_lc_rs::{constant_time, digest};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use dps_core::ports::{Store, StoredHubDevice};
use dps_proto::date;
use dps_proto::ids::{DeviceId, HubName, IdScope};
use dps_proto::key::SymmetricKey;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Most devices in one answer.
const PAGE: u32 = 1_000;

/// What the admin listener shows.
pub struct Admin {
    store: Arc<dyn Store>,
    token: Box<str>,
}

impl Admin {
    /// Shows what is in `store` to whoever has `token`.
    pub fn new(store: Arc<dyn Store>, token: impl Into<Box<str>>) -> Arc<Self> {
        Arc::new(Self { store, token: token.into() })
    }

    /// Serves until `stopping` becomes true.
    ///
    /// # Errors
    /// Where the listener fails.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        mut stopping: watch::Receiver<bool>,
    ) -> std::io::Result<()> {
        let stopped = async move {
            let _ = stopping.wait_for(|stop| *stop).await;
        };
        axum::serve(listener, self.router()).with_graceful_shutdown(stopped).await
    }

    fn router(self: Arc<Self>) -> Router {
        let hub = "/admin/v1/id-scopes/{id_scope}/hubs/{hub}/devices";
        let guarded = Router::new()
            .route(hub, get(devices))
            .route(&format!("{hub}/{{device_id}}"), get(device))
            .route_layer(middleware::from_fn_with_state(Arc::clone(&self), require_token));
        Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .merge(guarded)
            .fallback(|| async { problem(StatusCode::NOT_FOUND, "no such path") })
            .with_state(self)
    }
}

async fn require_token(
    State(admin): State<Arc<Admin>>,
    headers: HeaderMap,
    request: axum::extract::Request,
    next: middleware::Next,
) -> Response {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default();
    if constant_time::verify_slices_are_equal(given.as_bytes(), admin.token.as_bytes()).is_err() {
        return problem(
            StatusCode::UNAUTHORIZED,
            "send the admin token: Authorization: Bearer <content of the admin-token file>",
        );
    }
    next.run(request).await
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    match admin.store.id_scopes().await {
        Ok(_) => "ready\n".into_response(),
        Err(why) => problem(StatusCode::SERVICE_UNAVAILABLE, &why.to_string()),
    }
}

async fn devices(State(admin): State<Arc<Admin>>, Path((scope, hub)): Path<(String, String)>) -> Response {
    let Some((scope, hub)) = hub_of(&scope, &hub) else { return no_such_hub() };
    match admin.store.hub_devices(&scope, &hub, None, PAGE).await {
        Ok(devices) => Json(devices.iter().map(describe).collect::<Vec<_>>()).into_response(),
        Err(why) => problem(StatusCode::SERVICE_UNAVAILABLE, &why.to_string()),
    }
}

async fn device(
    State(admin): State<Arc<Admin>>,
    Path((scope, hub, device_id)): Path<(String, String, String)>,
) -> Response {
    let Some((scope, hub)) = hub_of(&scope, &hub) else { return no_such_hub() };
    let Ok(device_id) = device_id.parse::<DeviceId>() else {
        return problem(StatusCode::NOT_FOUND, "that is no device id");
    };
    match admin.store.hub_device(&scope, &hub, &device_id).await {
        Ok(Some(device)) => Json(describe(&device)).into_response(),
        Ok(None) => problem(StatusCode::NOT_FOUND, "the hub has no such device"),
        Err(why) => problem(StatusCode::SERVICE_UNAVAILABLE, &why.to_string()),
    }
}

fn hub_of(scope: &str, hub: &str) -> Option<(IdScope, HubName)> {
    Some((scope.parse().ok()?, hub.parse().ok()?))
}

fn no_such_hub() -> Response {
    problem(StatusCode::NOT_FOUND, "that is no ID scope or no hub name")
}

/// A device of a local hub, its keys as fingerprints.
fn describe(stored: &StoredHubDevice) -> Value {
    let device = &stored.device;
    let twin = device.initial_twin.as_ref().and_then(|twin| serde_json::from_str::<Value>(&twin.0).ok());
    json!({
        "deviceId": device.device_id.as_str(),
        "registrationId": device.registration_id.as_str(),
        "authentication": {
            "type": "sas",
            "primaryKeySha256": fingerprint(&device.keys.primary),
            "secondaryKeySha256": fingerprint(&device.keys.secondary),
        },
        "capabilities": {"iotEdge": device.iot_edge},
        "twin": twin.unwrap_or_else(|| json!({})),
        "createdDateTimeUtc": date::format(stored.created_at),
        "lastUpdatedDateTimeUtc": date::format(stored.updated_at),
    })
}

/// Enough to compare two keys, and nothing to sign with.
fn fingerprint(key: &SymmetricKey) -> String {
    let hash = digest::digest(&digest::SHA256, key.expose());
    hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn problem(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({"status": status.as_u16(), "message": why}))).into_response()
}
