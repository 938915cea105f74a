//! What the admin listener answers: for the person who runs the service, on loopback, behind a token of its own.
//! Spec: DPS-DEV-10, DPS-AUDIT-4, DPS-EXPLAIN-2, DPS-EXPLAIN-6, DPS-METRICS-1.

mod audit;
mod certificates;
mod clean_ups;
mod followed;
mod hub_devices;
mod instance_body;
mod instance_change;
mod instance_json;
mod instances;
mod linked_hubs;
mod policies;
mod refused;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use dps_core::audit::{Author, Principal};
use dps_core::instance::ServiceInstance;
use dps_core::ports::{Condition, HubFactory, Store, StoreError, WriteOrder};
use dps_core::register::Registrar;
use dps_proto::date;
use dps_proto::ids::IdScope;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use crate::admin_listener;
use crate::dry_run::DryRun;
use crate::explain::{Explanation, Explanations, Wanted};
use crate::front_end::FrontEnd;
use crate::metrics::Metrics;
use crate::moments::Moments;

pub use instance_json::{describe_settings, settings_with_keys};
pub use instances::sweep_at_start;
use refused::Refused;

/// Most devices in one answer.
const PAGE: u32 = 1_000;

/// What this listener answers, for programs. Spec: DPS-DEV-14.
const OPENAPI: &str = include_str!("admin/openapi.json");

/// Longest text of a refusal of the library's own.
const PROBLEM_BYTES_MAX: usize = 4_096;

/// Largest body of a request, in bytes: a token, two ids and a chain. Spec: DPS-DEV-11.
const BODY_BYTES_MAX: usize = 64 * 1_024;

/// Time for the store to show that it reads and writes. Spec: DPS-METRICS-4.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// When to ask again, in seconds, where the store does not answer. Spec: DPS-NODE-6.
const RETRY_AFTER_S: &str = "3";

/// What the admin listener shows.
pub struct Admin {
    store: Arc<dyn Store>,
    registrar: Arc<Registrar>,
    explanations: Arc<Explanations>,
    metrics: Arc<Metrics>,
    dry_run: DryRun,
    moments: Arc<dyn Moments>,
    hubs: Arc<dyn HubFactory>,
    /// Held from the reading of an instance's settings until what came of them is served.
    changing: Mutex<()>,
    drain_within: Duration,
    token: Box<str>,
}

impl Admin {
    /// Shows what is in `store`, and what a front end counted and refused, to whoever has `token`; the hubs that are linked
    /// there are made by `hubs`.
    pub fn new(
        store: Arc<dyn Store>,
        front_end: &FrontEnd,
        hubs: Arc<dyn HubFactory>,
        token: impl Into<Box<str>>,
    ) -> Arc<Self> {
        let (explanations, metrics) = (Arc::clone(&front_end.explanations), Arc::clone(&front_end.metrics));
        Arc::new(Self {
            store,
            registrar: Arc::clone(&front_end.registrar),
            explanations,
            metrics,
            dry_run: DryRun::of(front_end),
            moments: Arc::clone(&front_end.moments),
            hubs,
            changing: Mutex::default(),
            drain_within: front_end.limits.drain_within,
            token: token.into(),
        })
    }

    /// A write that the admin token asked for. Spec: DPS-AUDIT-1.
    fn order(&self, condition: Condition) -> WriteOrder {
        WriteOrder::by(self.author(), condition)
    }

    fn author(&self) -> Author {
        let at = self.moments.moment().now;
        Author { principal: Principal::Admin, address: None, tracking_id: None, at }
    }

    /// The instance of that ID scope. Who writes something of it, holds it until it is written: it is not deleted meanwhile.
    /// Spec: DPS-INST-8.
    fn instance_of(&self, scope: &str) -> Result<Arc<ServiceInstance>, Refused> {
        instance_of(&self.registrar, scope).map_err(Refused::NoSuch)
    }

    /// The ID scope of that text, of an instance that is there.
    fn scope_of(&self, scope: &str) -> Result<IdScope, Refused> {
        self.instance_of(scope).map(|instance| instance.id_scope.clone())
    }

    /// Serves until `stopping` becomes true, then lets requests in flight finish. Spec: DPS-DEV-11.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stopping: watch::Receiver<bool>) {
        let drain_within = self.drain_within;
        admin_listener::serve(listener, self.router(), stopping, drain_within).await;
    }

    fn router(self: Arc<Self>) -> Router {
        let guarded = Router::new()
            .route("/admin/v1/explanations", get(explanations))
            .route("/admin/v1/explanations/dry-run", post(dry_run))
            .merge(audit::router())
            .merge(certificates::router())
            .merge(clean_ups::router())
            .merge(hub_devices::router())
            .merge(instances::router())
            .merge(linked_hubs::router())
            .merge(policies::router())
            .route_layer(middleware::from_fn_with_state(Arc::clone(&self), require_token));
        Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .route("/admin/v1/openapi.json", get(openapi))
            .merge(guarded)
            .fallback(|| async { problem(StatusCode::NOT_FOUND, "no such path") })
            .method_not_allowed_fallback(|| async {
                problem(StatusCode::METHOD_NOT_ALLOWED, "the path does not take this method")
            })
            .layer(middleware::map_response(as_problem))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(self)
    }
}

/// Spec: DPS-DEV-14.
async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

/// What the library refuses by itself, in the shape of every other refusal. Spec: DPS-DEV-14.
async fn as_problem(response: Response) -> Response {
    let is_json = |value: &HeaderValue| value.as_bytes().starts_with(b"application/json");
    if !response.status().is_client_error()
        || response.headers().get(header::CONTENT_TYPE).is_some_and(is_json)
    {
        return response;
    }
    let status = response.status();
    let text = axum::body::to_bytes(response.into_body(), PROBLEM_BYTES_MAX).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    problem(status, if text.is_empty() { status.canonical_reason().unwrap_or("refused") } else { &text })
}

/// Spec: DPS-INST-11.
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

/// Spec: DPS-METRICS-1.
async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], admin.metrics.render()).into_response()
}

/// Spec: DPS-METRICS-4.
async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    // A read as well: the threads that read are others than the one that writes.
    health(async {
        admin.store.id_scopes().await?;
        admin.store.is_writable().await
    })
    .await
}

async fn health(works: impl Future<Output = Result<(), StoreError>>) -> Response {
    let unready = |why: &str| problem(StatusCode::SERVICE_UNAVAILABLE, why);
    match timeout(READY_WITHIN, works).await {
        Ok(Ok(())) => "ready\n".into_response(),
        Ok(Err(why)) => unready(&why.to_string()),
        Err(_) => unready(&format!("the store has not answered for {} s", READY_WITHIN.as_secs())),
    }
}

/// What to look for; without any of these, the latest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExplanationQuery {
    tracking_id: Option<String>,
    connection: Option<u64>,
    registration_id: Option<String>,
    limit: Option<u32>,
}

/// Spec: DPS-EXPLAIN-2.
async fn explanations(State(admin): State<Arc<Admin>>, Query(query): Query<ExplanationQuery>) -> Response {
    let registration_id = match query.registration_id.map(|id| id.parse()).transpose() {
        Ok(registration_id) => registration_id,
        Err(why) => return problem(StatusCode::BAD_REQUEST, &format!("registrationId: {why}")),
    };
    let wanted = Wanted { tracking_id: query.tracking_id, connection: query.connection, registration_id };
    let found = admin.explanations.find(&wanted, query.limit.unwrap_or(10).min(PAGE) as usize);
    Json(found.iter().map(|explanation| describe_explanation(explanation)).collect::<Vec<_>>())
        .into_response()
}

/// Spec: DPS-EXPLAIN-3, DPS-EXPLAIN-5.
fn describe_explanation(explanation: &Explanation) -> Value {
    json!({
        "timestampUtc": date::format(explanation.at),
        "trackingId": explanation.tracking_id.map(|id| id.to_string()),
        "connection": explanation.connection,
        "peer": explanation.peer.map(|peer| peer.to_string()),
        "transport": explanation.transport,
        "idScope": explanation.id_scope.as_ref().map(IdScope::as_str),
        "registrationId": explanation.registration_id.as_ref().map(|id| id.as_str()),
        "step": explanation.step.as_str(),
        "told": explanation.told,
        "reason": explanation.reason,
        "advice": explanation.advice,
        "chain": explanation.chain.as_ref().map(|chain| chain.to_json()),
    })
}

/// Spec: DPS-EXPLAIN-6.
async fn dry_run(State(admin): State<Arc<Admin>>, body: Bytes) -> Response {
    match admin.dry_run.judge(&body).await {
        Ok(judged) => Json(judged).into_response(),
        Err(why) => problem(StatusCode::BAD_REQUEST, &why.to_string()),
    }
}

/// The instance of this ID scope; else which there are.
fn instance_of(registrar: &Registrar, scope: &str) -> Result<Arc<ServiceInstance>, String> {
    let instances = registrar.instances();
    scope.parse().ok().and_then(|scope| instances.of_scope(&scope)).ok_or_else(|| {
        let all = instances.all();
        let known = all.iter().map(|(_, instance)| instance.id_scope.as_str());
        format!("no service instance has that ID scope; there are {}", listed(known))
    })
}

/// Some of the names, and how many more there are.
fn listed<'n>(names: impl ExactSizeIterator<Item = &'n str>) -> String {
    const SHOWN: usize = 20;
    let more = names.len().saturating_sub(SHOWN);
    let shown: Vec<_> = names.take(SHOWN).collect();
    match (shown.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => shown.join(", "),
        (false, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Spec: DPS-DEV-14, DPS-NODE-6.
fn problem(status: StatusCode, why: &str) -> Response {
    let body = Json(json!({"status": status.as_u16(), "message": why}));
    match status {
        StatusCode::SERVICE_UNAVAILABLE => {
            (status, [(header::RETRY_AFTER, RETRY_AFTER_S)], body).into_response()
        }
        _ => (status, body).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-METRICS-4
    #[tokio::test(start_paused = true)]
    async fn a_store_that_fails_or_does_not_answer_makes_the_node_unready() {
        let full = || StoreError::Unavailable("disk full".to_owned());
        assert_eq!(health(async { Ok(()) }).await.status(), StatusCode::OK);
        assert_eq!(health(async { Err(full()) }).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(health(std::future::pending()).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    /// DPS-DEV-10
    #[test]
    fn names_are_listed_up_to_a_limit() {
        let names: Vec<_> = (0..22).map(|number| format!("hub-{number}")).collect();
        let listed = |count: usize| listed(names[..count].iter().map(String::as_str));
        assert_eq!(listed(0), "none");
        assert_eq!(listed(2), "hub-0, hub-1");
        assert!(listed(20).ends_with(", hub-19"));
        assert!(listed(22).ends_with(", hub-19 and 2 more"));
    }
}
