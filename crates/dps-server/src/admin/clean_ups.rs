//! Devices that are to be gone from hubs outside, by hub and device. Spec: DPS-INST-15.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use dps_core::ports::CleanUp;
use dps_proto::date;
use dps_proto::ids::{DeviceId, HubName};
use serde::Deserialize;
use serde_json::{Value, json};

use super::refused::Refused;
use super::{Admin, PAGE};

/// Clean-ups in one answer where the request does not say.
const LIMIT_DEFAULT: u32 = 100;

/// Where to go on; without that, from the beginning.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CleanUpQuery {
    /// Hub and device id of a clean-up that was told.
    after_hub: Option<String>,
    after_device_id: Option<String>,
    limit: Option<u32>,
}

pub(super) fn router() -> Router<Arc<Admin>> {
    Router::new().route("/admin/v1/id-scopes/{id_scope}/clean-ups", get(list))
}

async fn list(
    State(admin): State<Arc<Admin>>,
    Path(scope): Path<String>,
    Query(query): Query<CleanUpQuery>,
) -> Result<Response, Refused> {
    let scope = admin.scope_of(&scope)?;
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT).min(PAGE);
    let after = query.after()?;
    let after = after.as_ref().map(|(hub, device_id)| (hub, device_id));
    let found = admin.store.clean_ups(&scope, after, limit).await?;
    Ok(Json(found.iter().map(describe).collect::<Vec<_>>()).into_response())
}

impl CleanUpQuery {
    fn after(&self) -> Result<Option<(HubName, DeviceId)>, Refused> {
        match (&self.after_hub, &self.after_device_id) {
            (None, None) => Ok(None),
            (Some(hub), Some(device_id)) => {
                let bad = |name: &str, why: &dyn std::fmt::Display| Refused::Bad(format!("{name}: {why}"));
                let hub = hub.parse().map_err(|why| bad("afterHub", &why))?;
                let device_id = device_id.parse().map_err(|why| bad("afterDeviceId", &why))?;
                Ok(Some((hub, device_id)))
            }
            (Some(_), None) | (None, Some(_)) => {
                Err(Refused::Bad("afterHub and afterDeviceId: give both or neither".to_owned()))
            }
        }
    }
}

/// Members are only ever added.
fn describe(clean_up: &CleanUp) -> Value {
    json!({
        "hub": clean_up.hub.as_str(),
        "deviceId": clean_up.device_id.as_str(),
        "registrationId": clean_up.registration_id.as_str(),
        "orderedAt": date::format(clean_up.ordered_at),
        "tries": clean_up.tries,
        "dueAt": date::format(clean_up.due_at),
        "confirmAt": clean_up.confirm_at.map(date::format),
        "problem": clean_up.problem.as_deref(),
    })
}
