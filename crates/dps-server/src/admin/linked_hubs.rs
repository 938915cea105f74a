//! The linked hubs of an instance, one by one. Spec: DPS-INST-1, DPS-INST-4, DPS-INST-9.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use dps_core::instance_settings::{HubSettings, InstanceSettings};
use dps_proto::ids::HubName;

use super::Admin;
use super::instance_body;
use super::instance_change::{ChangeCondition, Current};
use super::instance_json::describe_hub;
use super::refused::Refused;
use crate::if_match::IfMatch;

pub(super) fn router() -> Router<Arc<Admin>> {
    let all = "/admin/v1/id-scopes/{id_scope}/hubs";
    Router::new().route(all, get(list)).route(&format!("{all}/{{hub}}"), get(show).put(put).delete(delete))
}

async fn list(State(admin): State<Arc<Admin>>, Path(scope): Path<String>) -> Result<Response, Refused> {
    let hubs = settings(&admin, &scope)?.linked_hubs;
    Ok(Json(hubs.iter().map(describe_hub).collect::<Vec<_>>()).into_response())
}

async fn show(
    State(admin): State<Arc<Admin>>,
    Path((scope, hub)): Path<(String, String)>,
) -> Result<Response, Refused> {
    let settings = settings(&admin, &scope)?;
    let found = hub.parse().ok().and_then(|hub| settings.linked_hub(&hub)).ok_or_else(|| not_linked(&hub))?;
    Ok(Json(describe_hub(found)).into_response())
}

async fn put(
    State(admin): State<Arc<Admin>>,
    Path((scope, hub)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let scope = admin.scope_of(&scope)?;
    let hub = instance_body::hub(&body, &hub)?;
    let (name, if_match) = (hub.name.clone(), IfMatch::of(&headers));
    let is_new = if_match == IfMatch::Absent;
    let changed = admin
        .change_instance(scope, ChangeCondition::There(if_match), move |current| {
            let mut settings = there(current)?;
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
