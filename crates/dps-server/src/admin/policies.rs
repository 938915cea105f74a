//! The shared access policies of an instance, one by one, and their keys. Spec: DPS-INST-4 to DPS-INST-7.

use std::mem;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use dps_core::access::SharedAccessPolicy;
use dps_core::instance_settings::InstanceSettings;
use dps_proto::ids::PolicyName;

use super::Admin;
use super::instance_body::{self, RenewedKey};
use super::instance_change::{ChangeCondition, Changed};
use super::instance_json::{describe_policy, with_keys};
use super::linked_hubs::{settings, there};
use super::refused::Refused;
use crate::if_match::IfMatch;
use crate::new_key::new_key;

pub(super) fn router() -> Router<Arc<Admin>> {
    let all = "/admin/v1/id-scopes/{id_scope}/shared-access-policies";
    let one = format!("{all}/{{policy}}");
    Router::new()
        .route(all, get(list))
        .route(&one, get(show).put(put).delete(delete))
        .route(&format!("{one}/list-keys"), post(list_keys))
        .route(&format!("{one}/renew-key"), post(renew_key))
}

async fn list(State(admin): State<Arc<Admin>>, Path(scope): Path<String>) -> Result<Response, Refused> {
    let policies = settings(&admin, &scope)?.shared_access_policies;
    Ok(Json(policies.iter().map(describe_policy).collect::<Vec<_>>()).into_response())
}

async fn show(
    State(admin): State<Arc<Admin>>,
    Path((scope, policy)): Path<(String, String)>,
) -> Result<Response, Refused> {
    let settings = settings(&admin, &scope)?;
    Ok(Json(describe_policy(find(&settings, &name_of(&policy)?)?)).into_response())
}

/// Spec: DPS-INST-6.
async fn list_keys(
    State(admin): State<Arc<Admin>>,
    Path((scope, policy)): Path<(String, String)>,
) -> Result<Response, Refused> {
    let settings = settings(&admin, &scope)?;
    let policy = find(&settings, &name_of(&policy)?)?;
    tracing::info!(id_scope = %settings.id_scope, policy = %policy.name, "keys of a shared access policy told");
    Ok(Json(with_keys(policy)).into_response())
}

async fn put(
    State(admin): State<Arc<Admin>>,
    Path((scope, policy)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let scope = admin.scope_of(&scope)?;
    let name: PolicyName =
        policy.parse().map_err(|why| Refused::Bad(format!("the name of the policy: {why}")))?;
    let wanted = instance_body::policy(&body, name.clone())?;
    let if_match = IfMatch::of(&headers);
    let is_new = if_match == IfMatch::Absent;
    let written = name.clone();
    let Changed { before, now } = admin
        .change_instance(scope, ChangeCondition::There(if_match), move |current| {
            let mut settings = there(current)?;
            let policy = wanted.policy(Some(&settings))?;
            match settings.shared_access_policies.iter_mut().find(|known| known.name == written) {
                Some(known) if is_new => {
                    return Err(Refused::Conflict(format!(
                        "there is a shared access policy {} already: send If-Match to change it",
                        known.name
                    )));
                }
                Some(known) => *known = SharedAccessPolicy { name: known.name.clone(), ..policy },
                None => settings.shared_access_policies.push(policy),
            }
            Ok(settings)
        })
        .await?;
    tracing::info!(id_scope = %now.settings.id_scope, policy = %name, "shared access policy written");
    let policy = find(&now.settings, &name)?;
    // Spec: DPS-INST-6.
    let was_made = before.is_none_or(|before| before.policy(&name).is_none());
    Ok(Json(if was_made { with_keys(policy) } else { describe_policy(policy) }).into_response())
}

async fn delete(
    State(admin): State<Arc<Admin>>,
    Path((scope, policy)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let (scope, name) = (admin.scope_of(&scope)?, name_of(&policy)?);
    let deleted = name.clone();
    admin
        .change_instance(scope.clone(), ChangeCondition::There(IfMatch::of(&headers)), move |current| {
            let mut settings = there(current)?;
            find(&settings, &deleted)?;
            settings.shared_access_policies.retain(|policy| policy.name != deleted);
            Ok(settings)
        })
        .await?;
    tracing::info!(id_scope = %scope, policy = %name, "shared access policy deleted");
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Spec: DPS-INST-7.
async fn renew_key(
    State(admin): State<Arc<Admin>>,
    Path((scope, policy)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let (scope, name) = (admin.scope_of(&scope)?, name_of(&policy)?);
    let key = instance_body::renewal(&body)?;
    let renewed = name.clone();
    let changed = admin
        .change_instance(scope, ChangeCondition::There(IfMatch::of(&headers)), move |current| {
            let mut settings = there(current)?;
            let policies = &mut settings.shared_access_policies;
            let policy = policies.iter_mut().find(|policy| policy.name == renewed);
            let keys = &mut policy.ok_or_else(|| no_policy(renewed.as_str()))?.keys;
            match key {
                RenewedKey::Primary => keys.primary = new_key()?,
                RenewedKey::Secondary => keys.secondary = new_key()?,
                RenewedKey::Swap => mem::swap(&mut keys.primary, &mut keys.secondary),
            }
            Ok(settings)
        })
        .await?
        .now;
    tracing::info!(id_scope = %changed.settings.id_scope, policy = %name, "key of a shared access policy renewed");
    Ok(Json(with_keys(find(&changed.settings, &name)?)).into_response())
}

fn find<'s>(settings: &'s InstanceSettings, name: &PolicyName) -> Result<&'s SharedAccessPolicy, Refused> {
    settings.policy(name).ok_or_else(|| no_policy(name.as_str()))
}

fn name_of(policy: &str) -> Result<PolicyName, Refused> {
    policy.parse().map_err(|_| no_policy(policy))
}

/// What was asked for is not repeated: it might be a key.
fn no_policy(_: &str) -> Refused {
    Refused::NoSuch("the service instance has no shared access policy of that name".to_owned())
}
