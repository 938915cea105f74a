//! Why the service API gave no answer, or not the one that was asked for.

use std::fmt;
use std::io;
use std::time::Duration;

use hyper::{HeaderMap, StatusCode};
use rustls::CertificateError;
use serde::Deserialize;

use crate::tls;

/// Why a request of the service API did not succeed. No variant holds a key or a token.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The name cannot be resolved, or nothing accepts connections there.
    #[error("cannot connect to {authority}: {why}")]
    Unreachable {
        /// Host and port, as the connection string spells them.
        authority: String,
        /// What the system said.
        why: io::Error,
    },
    /// The host of the connection string is no DNS name and no address.
    #[error("{0:?} is no name that a certificate can carry")]
    ServerName(String),
    /// The server's certificate does not lead to a trusted one.
    #[error("the certificate of {authority} is not trusted: {why}")]
    Untrusted {
        /// Host and port.
        authority: String,
        /// What is wrong with it.
        why: String,
    },
    /// The server's certificate is for other names.
    #[error("the certificate of {authority} is not for that name: {why}")]
    OtherName {
        /// Host and port.
        authority: String,
        /// Which names it is for.
        why: CertificateError,
    },
    /// TLS failed for another reason.
    #[error("TLS with {authority} failed: {why}")]
    Tls {
        /// Host and port.
        authority: String,
        /// What rustls said.
        why: io::Error,
    },
    /// A connection, or an answer, did not come in time.
    #[error("{authority} did not answer within {} s", within.as_secs_f32())]
    TimedOut {
        /// Host and port.
        authority: String,
        /// The limit that was reached.
        within: Duration,
    },
    /// The connection broke off, or what came is no HTTP.
    #[error("the answer of {authority} cannot be read: {why}")]
    Broken {
        /// Host and port.
        authority: String,
        /// What is wrong.
        why: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The request cannot be sent, such as an etag that no header can hold.
    #[error("the request cannot be sent: {0}")]
    Request(#[from] hyper::http::Error),
    /// A success whose body is not what the API says.
    #[error("the answer of {authority} is not of the service API: {why}")]
    NotOfTheApi {
        /// Host and port.
        authority: String,
        /// What is wrong.
        why: String,
    },
    /// The service refused.
    #[error("{0}")]
    Refused(Refusal),
}

/// An answer that is no success.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// The service's code: a status times 1,000 and a detail. Absent where something other than the service answered.
    pub error_code: Option<u32>,
    /// The service's text, or the standard one of the status.
    pub message: String,
    /// Under which the service logged the cause.
    pub tracking_id: Option<String>,
    /// When to ask again, where the service says so.
    pub retry_after: Option<Duration>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ErrorBody {
    error_code: Option<u32>,
    message: Option<String>,
    tracking_id: Option<String>,
}

impl Refusal {
    /// Reads the service's error body; one that is something else, such as a proxy's page, leaves the status to speak.
    pub(super) fn read(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let body: ErrorBody = serde_json::from_slice(body).unwrap_or_default();
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            status: status.as_u16(),
            error_code: body.error_code,
            message: body
                .message
                .or_else(|| status.canonical_reason().map(str::to_owned))
                .unwrap_or_default(),
            tracking_id: body.tracking_id.or_else(|| text("x-ms-request-id").map(str::to_owned)),
            retry_after: text("retry-after").and_then(|text| text.parse().ok()).map(Duration::from_secs),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.error_code {
            Some(code) => write!(f, "{code}")?,
            None => write!(f, "status {}", self.status)?,
        }
        if !self.message.is_empty() {
            write!(f, " {}", self.message)?;
        }
        match &self.tracking_id {
            Some(id) => write!(f, " (trackingId {id})"),
            None => Ok(()),
        }
    }
}

/// What a failed handshake was about.
pub(super) fn handshake_failure(authority: &str, why: io::Error) -> ServiceError {
    let authority = authority.to_owned();
    match tls::certificate_error(&why) {
        Some(
            name @ (CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }),
        ) => ServiceError::OtherName { authority, why: name.clone() },
        Some(certificate) => ServiceError::Untrusted { authority, why: tls::certificate_fault(certificate) },
        None => ServiceError::Tls { authority, why },
    }
}
