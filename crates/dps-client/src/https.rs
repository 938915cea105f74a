//! One registration over the HTTPS device API, on one connection.

use std::time::Duration;

use bytes::Bytes;
use dps_proto::device_path::{DevicePath, DeviceResource};
use dps_proto::mqtt::{DeviceFailure, DeviceLogin, DeviceOptions, DeviceStep, RETRY_AFTER_MAX, TRIES_MAX};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::client::TlsStream;

use crate::device::{Endpoint, FinalAnswer, RegisterError, Step};

/// Most bytes of an answer.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// What of an answer says how to go on.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Standing {
    operation_id: Option<String>,
    status: Option<String>,
}

/// An answer below 429.
struct Answer {
    status: u16,
    retry_after: Duration,
    body: Bytes,
}

/// Registers one device and polls until the final answer. `watch` sees every step.
pub async fn register(
    endpoint: &Endpoint,
    login: DeviceLogin,
    options: DeviceOptions,
    mut watch: impl FnMut(Duration, Step<'_>),
) -> Result<FinalAnswer, RegisterError> {
    let started = Instant::now();
    let stream = endpoint.connect().await?;
    watch(started.elapsed(), Step::connected(&stream));
    let sender = over(endpoint, stream).await?;
    let mut watch = |step: Step<'_>| watch(started.elapsed(), step);
    let body = match &options.register_payload {
        Some(payload) => json!({"registrationId": login.registration_id.as_str(), "payload": payload}),
        None => json!({"registrationId": login.registration_id.as_str()}),
    };
    let mut device = Device { endpoint, login, options, sender };
    let mut answer = device.ask(DeviceResource::Register, body.to_string(), &mut watch).await?;
    loop {
        let Answer { status, retry_after, body } = answer;
        let standing = serde_json::from_slice::<Standing>(&body).ok();
        let is_assigning = standing.as_ref().is_some_and(|it| it.status.as_deref() == Some("assigning"));
        if !is_assigning {
            return Ok(FinalAnswer { status, body });
        }
        let operation_id = standing.and_then(|standing| standing.operation_id);
        let operation_id = operation_id.ok_or(DeviceFailure::NoOperationId)?;
        sleep(retry_after).await;
        let operation = DeviceResource::Operation(operation_id.into());
        answer = device.ask(operation, String::new(), &mut watch).await?;
    }
}

/// HTTP over `stream`.
async fn over(
    endpoint: &Endpoint,
    stream: TlsStream<TcpStream>,
) -> Result<SendRequest<Full<Bytes>>, RegisterError> {
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|why| endpoint.no_http(why))?;
    // It ends with the sender; what it would report, the answer reports too.
    tokio::spawn(connection);
    Ok(sender)
}

struct Device<'e> {
    endpoint: &'e Endpoint,
    login: DeviceLogin,
    options: DeviceOptions,
    sender: SendRequest<Full<Bytes>>,
}

impl Device<'_> {
    /// Asks until the service answers with something else than that it is busy.
    async fn ask(
        &mut self,
        resource: DeviceResource,
        body: String,
        watch: &mut impl FnMut(Step<'_>),
    ) -> Result<Answer, RegisterError> {
        let mut tries = 1;
        loop {
            let answer = self.exchange(&resource, &body, watch).await?;
            if answer.status < 429 {
                return Ok(answer);
            }
            if tries >= TRIES_MAX {
                let Answer { status, body, .. } = answer;
                return Err(DeviceFailure::GaveUp { status, body }.into());
            }
            tries += 1;
            sleep(answer.retry_after).await;
        }
    }

    async fn exchange(
        &mut self,
        resource: &DeviceResource,
        body: &str,
        watch: &mut impl FnMut(Step<'_>),
    ) -> Result<Answer, RegisterError> {
        let (method, step) = match resource {
            DeviceResource::Register => (Method::PUT, DeviceStep::Registering),
            DeviceResource::Operation(_) => (Method::GET, DeviceStep::Polling),
            DeviceResource::Registration => (Method::POST, DeviceStep::Polling),
        };
        let path = DevicePath {
            id_scope: self.login.id_scope.clone(),
            registration_id: self.login.registration_id.clone(),
            resource: resource.clone(),
        };
        let path = format!("{path}?api-version={}", self.login.api_version.as_str());
        watch(Step::Asked { method: method.as_str(), path: &path, body: body.as_bytes() });
        let request = self.request(method, &path, body)?;
        if self.sender.is_closed() {
            // A service that is busy may end the connection with its answer.
            let stream = self.endpoint.connect().await?;
            watch(Step::connected(&stream));
            self.sender = over(self.endpoint, stream).await?;
        }
        let within = self.options.answer_within;
        let answered = timeout(within, async {
            self.sender.ready().await?;
            let answer = self.sender.send_request(request).await?;
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((parts, body))
        });
        let answered = answered.await.map_err(|_| DeviceFailure::TimedOut { step, within })?;
        let (parts, body) = answered.map_err(|why| self.endpoint.no_http(why))?;
        let retry_after_s: Option<u32> =
            parts.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let status = parts.status.as_u16();
        watch(Step::Answered { status, retry_after_s, body: &body });
        let retry_after =
            retry_after_s.map_or(self.options.poll_every, |seconds| Duration::from_secs(seconds.into()));
        Ok(Answer { status, retry_after: retry_after.min(RETRY_AFTER_MAX), body })
    }

    fn request(&self, method: Method, path: &str, body: &str) -> Result<Request<Full<Bytes>>, RegisterError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.endpoint.authority())
            .header(USER_AGENT, &self.login.client_version);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json; charset=utf-8");
        }
        if let Some(password) = &self.login.password {
            let token = HeaderValue::from_bytes(password.expose());
            let mut token = token.map_err(|why| self.endpoint.no_http(why))?;
            token.set_sensitive(true);
            request = request.header(AUTHORIZATION, token);
        }
        request.body(Full::new(body.to_owned().into())).map_err(|why| self.endpoint.no_http(why))
    }
}
