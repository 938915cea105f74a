//! The linked hubs of an instance, one by one, and how they do. Spec: DPS-INST-1, DPS-INST-4, DPS-INST-9, DPS-INST-13, DPS-INST-14.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use dps_core::instance::LinkedHub;
use dps_core::instance_settings::{HubSettings, InstanceSettings};
use dps_core::ports::{HubHealth, HubLoad};
use dps_proto::date;
use dps_proto::ids::HubName;
use serde_json::{Value, json};

use super::Admin;
use super::instance_body;
use super::instance_change::{ChangeCondition, Current};
use super::instance_json::{describe_hub, hub_with_connection_string};
use super::refused::Refused;
use crate::if_match::IfMatch;

pub(super) fn router() -> Router<Arc<Admin>> {
    let all = "/admin/v1/id-scopes/{id_scope}/hubs";
    let one = format!("{all}/{{hub}}");
    Router::new()
        .route(all, get(list))
        .route(&one, get(show).put(put).delete(delete))
        .route(&format!("{one}/list-keys"), post(list_keys))
}

async fn list(State(admin): State<Arc<Admin>>, Path(scope): Path<String>) -> Result<Response, Refused> {
    let instance = admin.instance_of(&scope)?;
    let loads = admin.store.hub_loads(&instance.id_scope).await?;
    let hubs: Vec<_> = instance.linked_hubs.iter().map(|linked| describe_linked(linked, &loads)).collect();
    Ok(Json(hubs).into_response())
}

async fn show(
    State(admin): State<Arc<Admin>>,
    Path((scope, hub)): Path<(String, String)>,
) -> Result<Response, Refused> {
    let instance = admin.instance_of(&scope)?;
    let found = hub.parse().ok().and_then(|hub| instance.linked_hub(&hub)).ok_or_else(|| not_linked(&hub))?;
    let loads = admin.store.hub_loads(&instance.id_scope).await?;
    Ok(Json(describe_linked(found, &loads)).into_response())
}

/// Spec: DPS-INST-13.
async fn list_keys(
    State(admin): State<Arc<Admin>>,
    Path((scope, hub)): Path<(String, String)>,
) -> Result<Response, Refused> {
    let settings = settings(&admin, &scope)?;
    let found = hub.parse().ok().and_then(|hub| settings.linked_hub(&hub)).ok_or_else(|| not_linked(&hub))?;
    if found.connection_string.is_none() {
        return Err(Refused::Conflict(format!(
            "the hub {} is no Azure IoT Hub: it has no connection string",
            found.name
        )));
    }
    tracing::info!(id_scope = %settings.id_scope, hub = %found.name, "connection string of a linked hub told");
    Ok(Json(hub_with_connection_string(found)).into_response())
}

async fn put(
    State(admin): State<Arc<Admin>>,
    Path((scope, hub)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let scope = admin.scope_of(&scope)?;
    let wanted = instance_body::hub(&body, &hub)?;
    let (name, if_match) = (wanted.name().clone(), IfMatch::of(&headers));
    let is_new = if_match == IfMatch::Absent;
    let changed = admin
        .change_instance(scope, ChangeCondition::There(if_match), move |current| {
            let mut settings = there(current)?;
            let hub = wanted.settings(Some(&settings));
            match settings.linked_hubs.iter_mut().find(|linked| linked.name == hub.name) {
                Some(linked) if is_new => {
                    return Err(Refused::Conflict(format!(
                        "the hub {} is linked already: send If-Match to change it",
                        linked.name
                    )));
                }
                Some(linked) => *linked = HubSettings { name: linked.name.clone(), ..hub },
                None => settings.linked_hubs.push(hub),
            }
            Ok(settings)
        })
        .await?
        .now;
    tracing::info!(id_scope = %changed.settings.id_scope, hub = %name, "linked hub written");
    let linked = changed.settings.linked_hub(&name).ok_or_else(|| not_linked(name.as_str()))?;
    Ok(Json(describe_hub(linked)).into_response())
}

async fn delete(
    State(admin): State<Arc<Admin>>,
    Path((scope, hub)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let scope = admin.scope_of(&scope)?;
    let name: HubName = hub.parse().map_err(|_| not_linked(&hub))?;
    let unlinked = name.clone();
    admin
        .change_instance(scope.clone(), ChangeCondition::There(IfMatch::of(&headers)), move |current| {
            let mut settings = there(current)?;
            if settings.linked_hub(&unlinked).is_none() {
                return Err(not_linked(unlinked.as_str()));
            }
            settings.linked_hubs.retain(|linked| linked.name != unlinked);
            Ok(settings)
        })
        .await?;
    tracing::info!(id_scope = %scope, hub = %name, "hub unlinked");
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The settings that are served.
pub(super) fn settings(admin: &Admin, scope: &str) -> Result<InstanceSettings, Refused> {
    Ok(admin.instance_of(scope)?.settings())
}

/// The settings of an instance that is there.
pub(super) fn there(current: Current<'_>) -> Result<InstanceSettings, Refused> {
    current.cloned().ok_or(Refused::Changed)
}

fn not_linked(hub: &str) -> Refused {
    let shown: String = hub.chars().take(64).collect();
    Refused::NoSuch(format!("the service instance has no linked hub {shown:?}"))
}

/// A hub with how it does and what it has. Members are only ever added. Spec: DPS-INST-14.
fn describe_linked(linked: &LinkedHub, loads: &[HubLoad]) -> Value {
    let mut described = describe_hub(&linked.settings());
    described["health"] = describe_health(linked);
    let load = loads.iter().find(|load| load.hub == linked.name);
    let count = |of: fn(&HubLoad) -> u64| load.map_or(0, of);
    described["load"] = json!({
        "devices": count(|load| load.devices),
        "assigning": count(|load| load.assigning),
        "cleanUps": count(|load| load.clean_ups),
    });
    described
}

/// As this node sees it.
fn describe_health(linked: &LinkedHub) -> Value {
    let (state, since, reason) = match linked.hub.registry().map(|_| linked.hub.health()) {
        None => ("notWatched", None, None),
        Some(HubHealth::Healthy) => ("healthy", None, None),
        Some(HubHealth::Unhealthy { since, reason }) => ("unhealthy", Some(since), Some(reason)),
    };
    // A pause that is nearly over is one.
    let paused_for = linked.hub.paused_for().map(|pause| pause.as_millis().div_ceil(1_000));
    json!({
        "state": state,
        "since": since.map(date::format),
        "reason": reason,
        "pausedForSeconds": paused_for.and_then(|seconds| u64::try_from(seconds).ok()),
    })
}
