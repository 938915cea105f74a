//! Answers, and how they break off.

use std::convert::Infallible;
use std::io;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::Value;

use crate::refusal::Refusal;

pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What is answered, before it becomes bytes.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Option<Value>,
    pub(crate) error_name: Option<String>,
    pub(crate) retry_after: Option<u32>,
}

impl Answer {
    pub(crate) fn json(status: StatusCode, body: Value) -> Self {
        Self { status, body: Some(body), error_name: None, retry_after: None }
    }

    pub(crate) fn empty() -> Self {
        Self { status: StatusCode::NO_CONTENT, body: None, error_name: None, retry_after: None }
    }

    pub(crate) fn response(self) -> Response<Body> {
        let etag =
            self.body.as_ref().and_then(|body| body["etag"].as_str()).map(|etag| format!("\"{etag}\""));
        let text = self.body.map_or_else(String::new, |body| body.to_string());
        let mut response = Response::new(whole(text));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if self.status != StatusCode::NO_CONTENT {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        }
        let mut insert = |name, value: Option<String>| {
            if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
                headers.insert(name, value);
            }
        };
        insert(ETAG, etag);
        insert(hyper::header::HeaderName::from_static("iothub-errorcode"), self.error_name);
        insert(RETRY_AFTER, self.retry_after.map(|seconds| seconds.to_string()));
        response
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let body = refusal.body();
        Self { status: refusal.status, body: Some(body), error_name: Some(refusal.name), retry_after: None }
    }
}

/// A page that no registry has.
pub(crate) fn page() -> Response<Body> {
    Response::new(whole("<html><body>It works!</body></html>".to_owned()))
}

/// Half of an answer, whose connection breaks off then.
pub(crate) async fn half(response: Response<Body>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    parts.headers.insert(CONTENT_LENGTH, bytes.len().max(2).into());
    let first = Ok(Frame::data(bytes.slice(..bytes.len() / 2)));
    let pieces = [first, Err(io::Error::other("cut on command"))];
    Response::from_parts(parts, StreamBody::new(stream::iter(pieces)).boxed_unsync())
}

fn whole(text: String) -> Body {
    Full::new(Bytes::from(text)).map_err(|never: Infallible| match never {}).boxed_unsync()
}
