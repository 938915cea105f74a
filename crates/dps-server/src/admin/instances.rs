//! Service instances: listed, made, changed, deleted. Spec: DPS-INST-1 to DPS-INST-8.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use dps_core::instance::ServiceInstance;
use dps_core::instance_settings::StoredInstance;
use dps_core::instances::{Origin, Removed};
use dps_core::ports::{Condition, Store, StoreError, Sweep};
use dps_proto::date;
use dps_proto::ids::IdScope;
use serde_json::Value;
use tokio::task;
use tokio::time::{sleep, timeout};

use super::Admin;
use super::instance_body::{self, WantedInstance};
use super::instance_change::{ChangeCondition, no_such};
use super::instance_json::describe_settings;
use super::refused::Refused;
use crate::if_match::IfMatch;

/// Largest body of a request, in bytes: the largest instance, with a hundred hubs, their networks and a hundred policies, has less than half of it.
/// Spec: DPS-INST-12.
const BODY_BYTES_MAX: usize = 1_024 * 1_024;

/// How often a new ID scope is drawn where the last one was there already.
const DRAWS_MAX: u32 = 8;

/// How long an answer to a deletion waits for its end; what takes longer goes on by itself.
const DELETED_WITHIN: Duration = Duration::from_secs(15);

/// How often to look whether requests have ended that began before their instance was deleted.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Most rows of a kind that are deleted in one write: a few milliseconds, in which no other write is done.
const ROWS_A_STEP: u32 = 2_000;

/// How long to wait after the store failed.
const STORE_PAUSE: Duration = Duration::from_secs(5);

pub(super) fn router() -> Router<Arc<Admin>> {
    Router::new()
        .route("/admin/v1/id-scopes", get(list).post(create))
        .route("/admin/v1/id-scopes/{id_scope}", get(show).put(put).delete(delete))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

async fn list(State(admin): State<Arc<Admin>>) -> Result<Response, Refused> {
    let stored = admin.store.service_instances().await?;
    let of_scope = |scope: &IdScope| stored.iter().find(|stored| stored.settings.id_scope == *scope);
    let all = admin.registrar.instances().all();
    let described =
        all.iter().filter_map(|(origin, instance)| describe(*origin, instance, of_scope(&instance.id_scope)));
    Ok(Json(described.collect::<Vec<_>>()).into_response())
}

async fn show(State(admin): State<Arc<Admin>>, Path(scope): Path<String>) -> Result<Response, Refused> {
    let instance = admin.instance_of(&scope)?;
    let scope = &instance.id_scope;
    let origin = admin.registrar.instances().origin(scope).unwrap_or(Origin::Store);
    let stored = admin.store.service_instance(scope).await?;
    let described = describe(origin, &instance, stored.as_ref()).ok_or_else(|| no_such(scope))?;
    Ok(Json(described).into_response())
}

/// Makes an instance with an ID scope of the service's own choosing.
async fn create(State(admin): State<Arc<Admin>>, body: Bytes) -> Result<Response, Refused> {
    for _ in 0..DRAWS_MAX {
        let [a, b, c, d, ..] = admin.moments.moment().random;
        let scope = IdScope::generate([a, b, c, d]);
        if admin.registrar.instances().of_scope(&scope).is_some() {
            continue;
        }
        let wanted = instance_body::instance(&body, None)?;
        let made = write(&admin, scope, IfMatch::Absent, wanted).await?;
        return Ok((StatusCode::CREATED, Json(described(&made))).into_response());
    }
    Err(Refused::Broken("no ID scope could be drawn that is not taken".to_owned()))
}

async fn put(
    State(admin): State<Arc<Admin>>,
    Path(scope): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let scope = parsed(&scope)?;
    let wanted = instance_body::instance(&body, Some(&scope))?;
    let written = write(&admin, scope, IfMatch::of(&headers), wanted).await?;
    Ok(Json(described(&written)).into_response())
}

async fn write(
    admin: &Arc<Admin>,
    scope: IdScope,
    if_match: IfMatch,
    wanted: WantedInstance,
) -> Result<StoredInstance, Refused> {
    let id_scope = scope.clone();
    let written = admin
        .change_instance(scope, ChangeCondition::Whole(if_match), move |current| {
            wanted.settings(id_scope, current)
        })
        .await?
        .now;
    let id_scope = &written.settings.id_scope;
    tracing::info!(%id_scope, etag = written.etag.as_str(), "service instance written");
    Ok(written)
}

/// Spec: DPS-INST-8.
async fn delete(
    State(admin): State<Arc<Admin>>,
    Path(scope): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let (scope, if_match) = (admin.scope_of(&scope)?, IfMatch::of(&headers));
    // What is begun is ended, whether or not somebody waits for the answer.
    let deletion = task::spawn(async move {
        let removed = admin.delete_instance(&scope, if_match).await?;
        Ok(task::spawn(async move {
            // What a request wrote later would stay for ever. Each has a deadline.
            while removed.as_ref().is_some_and(Removed::is_in_use) {
                sleep(LOOK_EVERY).await;
            }
            sweep(&*admin.store, &scope).await;
        }))
    });
    let swept = deletion.await.unwrap_or_else(|why| Err(Refused::from(why)))?;
    match timeout(DELETED_WITHIN, swept).await {
        Ok(Ok(())) => Ok(StatusCode::NO_CONTENT.into_response()),
        // Going on, or, after a fault of the program, to be ended at the next start.
        Ok(Err(_)) | Err(_) => Ok(StatusCode::ACCEPTED.into_response()),
    }
}

impl Admin {
    /// Gives what was served until now.
    async fn delete_instance(&self, scope: &IdScope, if_match: IfMatch) -> Result<Option<Removed>, Refused> {
        let _turn = self.turn().await?;
        self.refuse_configured(scope)?;
        let current = self.store.service_instance(scope).await?.ok_or_else(|| no_such(scope))?;
        if !if_match.fits(&current.etag) {
            return Err(Refused::Changed);
        }
        let condition = Condition::IfMatches(current.etag);
        self.store.delete_service_instance(scope, self.order(condition)).await?;
        tracing::info!(id_scope = %scope, "service instance deleted");
        Ok(self.registrar.instances().remove(scope))
    }
}

/// Deletes what a deleted instance left, to the end.
async fn sweep(store: &dyn Store, scope: &IdScope) {
    loop {
        match store.sweep_deleted_instances(Some(scope), ROWS_A_STEP).await {
            Ok(Sweep::Clean) => return,
            Ok(Sweep::More) => {}
            Err(why) => {
                tracing::warn!(id_scope = %scope, reason = %why, "what a deleted service instance left could not be deleted yet");
                sleep(STORE_PAUSE).await;
            }
        }
    }
}

/// Deletes what deleted instances left when the service last ended: nobody writes to them yet. Spec: DPS-INST-8.
pub async fn sweep_at_start(store: &dyn Store) -> Result<(), StoreError> {
    while store.sweep_deleted_instances(None, ROWS_A_STEP).await? == Sweep::More {}
    Ok(())
}

fn parsed(scope: &str) -> Result<IdScope, Refused> {
    scope
        .parse()
        .map_err(|why| Refused::Bad(format!("the ID scope: {why}; it is 4 to 32 letters and digits")))
}

/// An instance of the store. Members are only ever added.
fn described(stored: &StoredInstance) -> Value {
    let mut described = describe_settings(&stored.settings);
    described["managedBy"] = "store".into();
    described["etag"] = stored.etag.as_str().into();
    described["createdDateTimeUtc"] = date::format(stored.created_at).into();
    described["lastUpdatedDateTimeUtc"] = date::format(stored.updated_at).into();
    described
}

/// An instance as it is served; one of the store is nothing once the store has it no more.
fn describe(origin: Origin, instance: &ServiceInstance, stored: Option<&StoredInstance>) -> Option<Value> {
    match origin {
        // Etag and settings of one and the same version.
        Origin::Store => stored.map(described),
        Origin::Configuration => {
            let mut described = describe_settings(&instance.settings());
            described["managedBy"] = "configuration".into();
            Some(described)
        }
    }
}
