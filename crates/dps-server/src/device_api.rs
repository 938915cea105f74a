//! The HTTPS device API: one request of a device, from its head to its answer. Spec: DPS-HTTPS-1 to DPS-HTTPS-9
//! (docs/spec/https.md).

use std::sync::Arc;

use bytes::Bytes;
use dps_core::attestation::{Credential, DeviceClaim};
use dps_core::ports::SearchTurn;
use dps_core::x509::Presented;
use dps_proto::code::TrackingId;
use dps_proto::device_path::{BadDevicePath, DevicePath, DeviceResource};
use dps_proto::sas::SasToken;
use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

use crate::device_request::{Ask, Decided, Origin};
use crate::fault::Answer;
use crate::https::Answered;
use crate::https::body::{Incoming, RequestBody};
use crate::https::fault::HttpFault;
use crate::https::head::{api_version, host};
use crate::limits::Charge;

/// Most bytes of a body, as over MQTT. Spec: DPS-HTTPS-8.
pub const BODY_BYTES_MAX: usize = 96 * 1024;

/// Answers one request for a path of a device. `presented` is what the device showed in the TLS handshake.
pub(crate) async fn answer<B: Incoming>(
    origin: Origin<'_>,
    path: Result<DevicePath, BadDevicePath>,
    presented: Option<Presented>,
    head: &Parts,
    body: B,
) -> Answered {
    let mut body = RequestBody::new(&head.headers, body, origin.front_end.limits.request_within);
    let mut allowed = None;
    let decided = match path {
        Ok(path) => {
            allowed = Some(method_of(&path.resource));
            decide(origin, path, presented, head, &mut body).await
        }
        Err(why) => origin.refuse(None, None, &HttpFault::from(why).into()),
    };
    let Decided { answer, proof, tracking_id } = decided;
    let tracking_id = tracking_id.unwrap_or_else(|| origin.front_end.moments.tracking_id());
    let mut response = response(answer, tracking_id);
    if response.status() == StatusCode::ACCEPTED
        && head.method == Method::PUT
        && let Ok(location) = HeaderValue::from_str(&format!("https://{}{}", host(head), head.uri.path()))
    {
        response.headers_mut().insert(header::LOCATION, location);
    }
    if response.status() == StatusCode::METHOD_NOT_ALLOWED
        && let Some(allowed) = allowed
    {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    }
    body.finish(response.headers_mut()).await;
    Answered { response, proof }
}

/// Spec: DPS-HTTPS-3.
async fn decide<B: Incoming>(
    origin: Origin<'_>,
    path: DevicePath,
    presented: Option<Presented>,
    head: &Parts,
    body: &mut RequestBody<B>,
) -> Decided {
    let DevicePath { id_scope, registration_id, resource } = path;
    let password = head.headers.get(header::AUTHORIZATION).map(|value| SasToken::parse(value.as_bytes()));
    let credential = Credential { password, certificates: presented, ..Credential::default() };
    let search_turn = SearchTurn::InOrder;
    let mut claim = DeviceClaim {
        id_scope,
        registration_id,
        credential,
        search_turn,
        predates_reprovisioning: false,
        address: None,
    };
    // Given back when the request is decided.
    let mut charge = Charge::new(Arc::clone(&origin.front_end.unattested_bytes));
    match asked(resource, head, body, &mut charge).await {
        Ok(ask) => origin.decide(&mut claim, &api_version(head), ask).await,
        Err(fault) => origin.refuse(Some(&claim), None, &fault.into()),
    }
}

/// Spec: DPS-HTTPS-1, DPS-HTTPS-8.
async fn asked<B: Incoming>(
    resource: DeviceResource,
    head: &Parts,
    body: &mut RequestBody<B>,
    charge: &mut Charge,
) -> Result<Ask, HttpFault> {
    let path = match &resource {
        DeviceResource::Register => ".../register",
        DeviceResource::Operation(_) => ".../operations/{operationId}",
        DeviceResource::Registration => "/{idScope}/registrations/{registrationId}",
    };
    let allowed = method_of(&resource);
    if head.method.as_str() != allowed {
        let method = head.method.as_str().chars().take(32).collect();
        return Err(HttpFault::Method { method, path, allowed });
    }
    Ok(match resource {
        DeviceResource::Register => {
            Ask::Register { body: body.json(&head.headers, BODY_BYTES_MAX, Some(charge)).await? }
        }
        DeviceResource::Registration => {
            Ask::LookUp { body: body.json(&head.headers, BODY_BYTES_MAX, Some(charge)).await? }
        }
        // Some clients send a body along, which means nothing. Spec: DPS-HTTPS-5.
        DeviceResource::Operation(operation_id) => Ask::Poll { operation_id },
    })
}

/// Spec: DPS-HTTPS-1.
fn method_of(resource: &DeviceResource) -> &'static str {
    match resource {
        DeviceResource::Register => "PUT",
        DeviceResource::Operation(_) => "GET",
        DeviceResource::Registration => "POST",
    }
}

/// Spec: DPS-HTTPS-7.
pub(crate) fn response(answer: Answer, tracking_id: TrackingId) -> Response<Full<Bytes>> {
    let Answer { status, retry_after_s, body } = answer;
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    if let Some(seconds) = retry_after_s {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Ok(id) = HeaderValue::from_str(&tracking_id.to_string()) {
        headers.insert("x-ms-request-id", id);
    }
    response
}
