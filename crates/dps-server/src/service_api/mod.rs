//! The service API: enrollments, groups and records over HTTPS, as Azure's own tools speak it.
//! Spec: DPS-SERVICE-1 to DPS-SERVICE-25 (docs/spec/service.md), DPS-ACCESS-2.
//!
//! A request passes [`ServiceApi::answer`]: host, path, api-version, token, and only then its body.

mod bulk;
mod entries;
mod fault;
mod lists;
mod query;
mod route;
mod words;

use std::sync::Arc;

use bytes::Bytes;
use dps_core::access;
use dps_core::audit::{Author, Principal};
use dps_core::enrollment::EntryRef;
use dps_core::instance::ServiceInstance;
use dps_core::ports::{Store, WriteOrder};
use dps_proto::body::{ErrorBody, to_bytes};
use dps_proto::code::TrackingId;
use dps_proto::date;
use dps_proto::ids::{PolicyName, RegistrationId};
use http_body_util::Full;
use hyper::body::Body;
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::device_request::Proof;
use crate::explain::{Explanation, Step};
use crate::front_end::{FrontEnd, Peer};
use crate::https::Answered;
use crate::https::body::{Incoming, RequestBody};
use crate::https::head::{api_version, host};
use crate::if_match::IfMatch;
use crate::render;
use bulk::Bulk;
use entries::{Entries, delete_condition, delete_fault};
pub use fault::ServiceFault;
use lists::{CONTINUATION, ITEM_TYPE, Listed, MAX_ITEM_COUNT, PageRequest};
pub use query::BadQuery;
use query::Query;
pub use route::NoRoute;
use route::{EntryAction, RecordAction, Route};

/// Most bytes of a request's body. Spec: DPS-SERVICE-18.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// Most bytes of the body of a bulk request.
const BULK_BYTES_MAX: usize = 1024 * 1024;

/// The word for logs.
pub(crate) const TRANSPORT: &str = "https";

/// Serves every instance of a node.
pub struct ServiceApi {
    store: Arc<dyn Store>,
    front_end: Arc<FrontEnd>,
}

/// What a request that succeeded is answered with.
enum Done {
    Json(Value),
    Page(lists::Page),
    Deleted,
}

/// How far a request came, for the log and the explanation.
#[derive(Default)]
struct Progress {
    instance: Option<Arc<ServiceInstance>>,
    route: Option<Route>,
    policy: Option<PolicyName>,
    /// What it is about, where the route does not say enough.
    subject: Option<String>,
    /// Entries of a bulk request that were refused.
    failed: Vec<(EntryRef, ServiceFault)>,
}

impl ServiceApi {
    /// Manages what is in `store`, of the instances that the front end's registrar serves.
    pub fn new(store: Arc<dyn Store>, front_end: Arc<FrontEnd>) -> Arc<Self> {
        Arc::new(Self { store, front_end })
    }

    /// Answers one request. Spec: DPS-SERVICE-4 to DPS-SERVICE-6, DPS-SERVICE-19.
    pub async fn answer<B>(&self, head: &Parts, body: B, peer: Peer) -> Answered
    where
        B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin,
    {
        let mut progress = Progress::default();
        let tracking_id = self.front_end.moments.tracking_id();
        let within = self.front_end.limits.request_within;
        let mut body = RequestBody::new(&head.headers, body, within);
        // The body has the same time, and says more where it is late.
        let done = timeout_at(
            Instant::now() + within,
            self.ask(head, &mut body, (peer, tracking_id), &mut progress),
        )
        .await;
        let done = done.unwrap_or(Err(ServiceFault::TimedOut));
        let is_overloaded = matches!(done, Err(ServiceFault::Throttled(_) | ServiceFault::TimedOut));
        let mut response = match done {
            Ok(done) => {
                self.log_done(&progress, peer, tracking_id);
                for (entry, fault) in &progress.failed {
                    self.keep_refusal(fault, &progress, Some(entry), head, peer, tracking_id);
                }
                success(done)
            }
            Err(fault) => {
                self.keep_refusal(&fault, &progress, None, head, peer, tracking_id);
                self.refusal(&fault, tracking_id)
            }
        };
        response.headers_mut().insert("x-ms-request-id", header_value(&tracking_id.to_string()));
        body.finish(response.headers_mut()).await;
        let route = progress.route.as_ref().map_or("none", Route::as_str);
        self.front_end.metrics.service_request(route, response.status().as_u16());
        let proof = match &progress.policy {
            Some(_) => Proof::Given,
            None if is_overloaded => Proof::Pending,
            None => Proof::None,
        };
        Answered { response, proof }
    }

    async fn ask<B>(
        &self,
        head: &Parts,
        body: &mut RequestBody<B>,
        (peer, tracking_id): (Peer, TrackingId),
        progress: &mut Progress,
    ) -> Result<Done, ServiceFault>
    where
        B: Incoming,
    {
        let _in_flight = self.front_end.throttles.request()?;
        let host = host(head);
        let instance = self.front_end.registrar.instances().of_host(host);
        let instance = instance.ok_or_else(|| ServiceFault::UnknownHost(host.chars().take(256).collect()))?;
        progress.instance = Some(Arc::clone(&instance));
        let instance = &*instance;

        let path = head.uri.path();
        let route = Route::parse(&head.method, path)?;
        let route = progress.route.insert(route);
        api_version(head)?;
        let token = head.headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let now = self.front_end.moments.moment().now;
        let policy = access::authorize(instance, token, path, route.right(), now)?;
        progress.policy = Some(policy.name.clone());

        let (store, moments) = (&*self.store, &*self.front_end.moments);
        let author = Author {
            principal: Principal::Policy(policy.name.as_str().into()),
            address: Some(peer.address.ip()),
            tracking_id: Some(tracking_id.guid()),
            at: now,
        };
        let entries = Entries { store, instance, moments, author };
        let if_match = IfMatch::of(&head.headers);
        let list = async |body: &mut RequestBody<B>, listed: Listed<'_>| {
            let query = Query::read(&body.json(&head.headers, BODY_BYTES_MAX, None).await?)?;
            let page = listed.page(store, instance, &query, PageRequest::of(&head.headers)?).await?;
            Ok(Done::Page(page))
        };
        match route {
            Route::Entry(name, EntryAction::Read) => entries.read(name).await.map(Done::Json),
            Route::Entry(name, EntryAction::ReadKeys) => entries.read_keys(name).await.map(Done::Json),
            Route::Entry(name, EntryAction::Write) => {
                let bytes = body.json(&head.headers, BODY_BYTES_MAX, None).await?;
                let json = serde_json::from_slice(&bytes);
                let json = json.map_err(|why| ServiceFault::NotJson(why.to_string()))?;
                entries.write(name, json, &if_match).await.map(Done::Json)
            }
            Route::Bulk(kind) => {
                let bytes = body.json(&head.headers, BULK_BYTES_MAX, None).await?;
                let json = serde_json::from_slice(&bytes);
                let json = json.map_err(|why| ServiceFault::NotJson(why.to_string()))?;
                let bulk = Bulk::read(*kind, json)?;
                progress.subject = Some(bulk.subject());
                // A request that is cut off says nothing of what it did.
                let until = Instant::now() + self.front_end.limits.request_within * 3 / 4;
                let outcome = bulk.run(&entries, until).await;
                progress.subject = outcome.subject();
                let answer = outcome.answer();
                progress.failed = outcome.failed;
                Ok(Done::Json(answer))
            }
            Route::Entry(name, EntryAction::Delete) => {
                entries.delete(name, &if_match).await.map(|()| Done::Deleted)
            }
            Route::Record(id, RecordAction::Read) => self.read_record(instance, id).await.map(Done::Json),
            Route::Record(id, RecordAction::Delete) => {
                self.delete_record(&entries, id, &if_match).await.map(|()| Done::Deleted)
            }
            Route::IndividualEnrollments => list(body, Listed::IndividualEnrollments).await,
            Route::EnrollmentGroups => list(body, Listed::EnrollmentGroups).await,
            Route::RecordsOfGroup(group) => list(body, Listed::RecordsOfGroup(group)).await,
        }
    }

    async fn read_record(
        &self,
        instance: &ServiceInstance,
        id: &RegistrationId,
    ) -> Result<Value, ServiceFault> {
        let found = self.store.look_up(&instance.id_scope, id).await?;
        found.registration.as_ref().map(render::record).ok_or(ServiceFault::NoRecord)
    }

    async fn delete_record(
        &self,
        Entries { instance, author, .. }: &Entries<'_>,
        id: &RegistrationId,
        if_match: &IfMatch,
    ) -> Result<(), ServiceFault> {
        let found = self.store.look_up(&instance.id_scope, id).await?;
        let current = found.registration.ok_or(ServiceFault::NoRecord)?;
        let order = WriteOrder::by(author.clone(), delete_condition(if_match, &current.etag)?);
        let deleted = self.store.delete_registration(&instance.id_scope, id, order).await;
        deleted.map_err(|why| delete_fault(why, ServiceFault::NoRecord))
    }

    fn refusal(&self, fault: &ServiceFault, tracking_id: TrackingId) -> Response<Full<Bytes>> {
        let (code, message) = fault.told();
        let body = ErrorBody {
            error_code: code.value(),
            tracking_id: tracking_id.to_string(),
            message: &message,
            timestamp_utc: date::format(self.front_end.moments.moment().now),
        };
        let mut response = json(to_bytes(&body));
        *response.status_mut() =
            StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert("x-ms-error-code", HeaderValue::from(code.value()));
        if code.status() == 429 || code.status() >= 500 {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(self.front_end.limits.retry_after_s));
        }
        response
    }

    fn log_done(&self, progress: &Progress, peer: Peer, tracking_id: TrackingId) {
        let Some(route) = &progress.route else { return };
        if matches!(route, Route::Bulk(_)) && progress.subject.is_none() {
            return;
        }
        let id_scope = progress.instance.as_ref().map(|instance| instance.id_scope.as_str());
        let operation = route.as_str();
        let subject = progress.subject.clone().unwrap_or_else(|| route.subject());
        let (connection, peer) = (peer.connection, peer.address);
        let policy = progress.policy.as_ref().map(PolicyName::as_str);
        let transport = TRANSPORT;
        let registration_id = route.registration_id().map(RegistrationId::as_str);
        if route.is_audited() {
            tracing::info!(
                %tracking_id, connection, %peer, id_scope, registration_id, transport, policy, operation, subject,
                "service request"
            );
        } else {
            tracing::debug!(
                %tracking_id, connection, %peer, id_scope, registration_id, transport, policy, operation, subject,
                "service request"
            );
        }
    }

    /// Spec: DPS-SERVICE-19. `entry` is the one of a bulk request that was refused.
    fn keep_refusal(
        &self,
        fault: &ServiceFault,
        progress: &Progress,
        entry: Option<&EntryRef>,
        head: &Parts,
        peer: Peer,
        tracking_id: TrackingId,
    ) {
        let (code, _) = fault.told();
        let id_scope = progress.instance.as_ref().map(|instance| instance.id_scope.clone());
        let registration_id = match entry {
            Some(EntryRef::Individual(id)) => Some(id.clone()),
            Some(EntryRef::Group(_)) => None,
            None => progress.route.as_ref().and_then(Route::registration_id).cloned(),
        };
        let subject = entry.map(EntryRef::to_string).or_else(|| progress.subject.clone());
        let path: String = head.uri.path().chars().take(256).collect();
        tracing::warn!(
            %tracking_id,
            error_code = %code,
            connection = peer.connection,
            peer = %peer.address,
            id_scope = id_scope.as_ref().map(|scope| scope.as_str()),
            registration_id = registration_id.as_ref().map(RegistrationId::as_str),
            transport = TRANSPORT,
            policy = progress.policy.as_ref().map(PolicyName::as_str),
            method = %head.method,
            path,
            subject,
            reason = %fault,
            "service request refused"
        );
        if let Some(limit) = fault.limit() {
            self.front_end.metrics.limit_hit(limit);
        }
        let explanation = Explanation {
            at: self.front_end.moments.moment().now,
            tracking_id: Some(tracking_id),
            connection: Some(peer.connection),
            peer: Some(peer.address),
            transport: Some(TRANSPORT),
            id_scope,
            registration_id,
            step: Step::ServiceRequest,
            told: code.to_string(),
            reason: match entry {
                Some(entry) => format!("{} {path}: {entry}: {fault}", head.method),
                None => format!("{} {path}: {fault}", head.method),
            },
            advice: Some(fault.advice().to_owned()),
            chain: None,
        };
        self.front_end.explanations.keep(explanation, progress.instance.is_some());
    }
}

fn success(done: Done) -> Response<Full<Bytes>> {
    match done {
        Done::Json(value) => json(value.to_string().into()),
        Done::Page(page) => {
            let mut response = json(page.body.into());
            let headers = response.headers_mut();
            headers.insert(ITEM_TYPE, HeaderValue::from_static(page.item_type));
            headers.insert(MAX_ITEM_COUNT, HeaderValue::from(page.items_max));
            // Never empty: some clients would ask for the first page for ever.
            if let Some(continuation) = page.continuation {
                headers.insert(CONTINUATION, header_value(&continuation));
            }
            response
        }
        Done::Deleted => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
    }
}

/// Spec: DPS-SERVICE-6.
fn json(body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Ids and tokens of our own, all of them ASCII.
fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("-"))
}
