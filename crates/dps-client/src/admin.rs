//! The admin listener, asked over loopback.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, IF_MATCH};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Most bytes of an answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Where the admin listener is, and what opens it.
#[derive(Clone)]
pub struct AdminEndpoint {
    /// Loopback address and port.
    pub address: SocketAddr,
    /// Content of the token file.
    pub token: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nothing listens there.
    #[error("cannot reach the admin listener at {0}: {1}")]
    Unreachable(SocketAddr, std::io::Error),
    /// No answer in time.
    #[error("no answer from the admin listener at {at} within {} s", ANSWER_WITHIN.as_secs(), at = .0)]
    TimedOut(SocketAddr),
    /// What came is no HTTP.
    #[error(
        "{0} does not answer as an admin listener does ({1}): is it the admin address, and not that of another port?"
    )]
    Http(SocketAddr, hyper::Error),
    /// The answer is too large, or broke off.
    #[error("the answer of the admin listener at {0} cannot be read: {1}")]
    Body(SocketAddr, Box<dyn std::error::Error + Send + Sync>),
    /// The path or the token cannot be sent.
    #[error("the request cannot be sent: {0}")]
    Request(#[from] hyper::http::Error),
    /// The answer is a refusal.
    #[error("the admin listener answered {status}: {message}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// What it said.
        message: String,
    },
}

impl AdminEndpoint {
    /// GETs a path, with its query if it has one.
    pub async fn get(&self, path_and_query: &str) -> Result<Value, AdminError> {
        self.ask(Method::GET, path_and_query, Bytes::new(), None).await
    }

    /// POSTs JSON to a path.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, AdminError> {
        self.ask(Method::POST, path, body.to_string().into(), None).await
    }

    /// PUTs JSON to a path.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Value, AdminError> {
        self.ask(Method::PUT, path, body.to_string().into(), None).await
    }

    /// PUTs JSON to a path where something with this etag is; `*` is whatever is there.
    pub async fn put_over(&self, path: &str, body: &Value, etag: &str) -> Result<Value, AdminError> {
        self.ask(Method::PUT, path, body.to_string().into(), Some(etag)).await
    }

    /// DELETEs what is at a path.
    pub async fn delete(&self, path: &str) -> Result<(), AdminError> {
        self.ask(Method::DELETE, path, Bytes::new(), None).await.map(drop)
    }

    /// DELETEs what is at a path if it has this etag.
    pub async fn delete_if(&self, path: &str, etag: &str) -> Result<(), AdminError> {
        self.ask(Method::DELETE, path, Bytes::new(), Some(etag)).await.map(drop)
    }

    async fn ask(
        &self,
        method: Method,
        path_and_query: &str,
        body: Bytes,
        if_match: Option<&str>,
    ) -> Result<Value, AdminError> {
        timeout(ANSWER_WITHIN, self.exchange(method, path_and_query, body, if_match))
            .await
            .map_err(|_| AdminError::TimedOut(self.address))?
    }

    async fn exchange(
        &self,
        method: Method,
        path_and_query: &str,
        body: Bytes,
        if_match: Option<&str>,
    ) -> Result<Value, AdminError> {
        let stream = TcpStream::connect(self.address)
            .await
            .map_err(|why| AdminError::Unreachable(self.address, why))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|why| AdminError::Http(self.address, why))?;
        // It ends with the sender; what it would report, the answer reports too.
        let connection = tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path_and_query)
            .header(HOST, self.address.to_string())
            .header(AUTHORIZATION, format!("Bearer {}", self.token.trim()))
            .header(CONTENT_TYPE, "application/json");
        if let Some(etag) = if_match {
            request = request.header(IF_MATCH, etag);
        }
        let request = request.body(Full::new(body))?;
        let answer = sender.send_request(request).await.map_err(|why| AdminError::Http(self.address, why))?;
        let status = answer.status();
        let unreadable = |why| AdminError::Body(self.address, why);
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(unreadable)?;
        connection.abort();
        let bytes = body.to_bytes();
        if status.is_success() && bytes.is_empty() {
            return Ok(Value::Null);
        }
        let json: Value = serde_json::from_slice(&bytes).map_err(|why| unreadable(why.into()))?;
        if status.is_success() {
            return Ok(json);
        }
        let message = json["message"].as_str().unwrap_or_default().to_owned();
        Err(AdminError::Refused { status, message })
    }
}
