//! What can be wrong with a device's HTTP request, before anyone looks at the device. Spec: DPS-HTTPS-8, DPS-WS-3.

use dps_proto::code::ErrorCode;
use dps_proto::device_path::BadDevicePath;

use super::body::BodyFault;
use crate::advice;
use crate::metrics::Limit;

/// Why a request is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpFault {
    /// An id of the path is none.
    #[error(transparent)]
    Path(#[from] BadDevicePath),
    /// The path is there and does not take this method.
    #[error("{path} takes {allowed}, not {method}")]
    Method {
        /// As it came.
        method: String,
        /// Which of the paths, in words of the documentation.
        path: &'static str,
        /// What it takes.
        allowed: &'static str,
    },
    /// The body cannot be used.
    #[error(transparent)]
    Body(#[from] BodyFault),
    /// The WebSocket is for something else. Spec: DPS-WS-3.
    #[error("the WebSocket offers the subprotocols {0:?}, and not mqtt")]
    Subprotocol(String),
    /// It is no request for a WebSocket, although it offers subprotocols. Spec: DPS-WS-3.
    #[error("the request for a WebSocket {0}")]
    Upgrade(&'static str),
}

impl HttpFault {
    /// What the device is told.
    pub fn told(&self) -> (ErrorCode, &'static str) {
        match self {
            Self::Path(BadDevicePath::RegistrationId(_)) => {
                (ErrorCode::INVALID_ARGUMENT, "Invalid RegistrationId")
            }
            Self::Path(BadDevicePath::IdScope(_)) => (ErrorCode::INVALID_ARGUMENT, "Invalid IdScope"),
            Self::Path(BadDevicePath::Encoding) => (ErrorCode::INVALID_ARGUMENT, "Invalid path"),
            Self::Method { .. } => (ErrorCode::METHOD_NOT_ALLOWED, "Method not allowed."),
            Self::Body(BodyFault::MediaType(_)) => {
                (ErrorCode::MEDIA_TYPE, "The body must be application/json.")
            }
            Self::Body(BodyFault::TooLarge(_)) => (ErrorCode::TOO_LARGE, "The body is too large."),
            Self::Body(BodyFault::Broken(_)) => (ErrorCode::BAD_REQUEST, "The request body did not arrive."),
            Self::Body(BodyFault::Late(_)) => {
                (ErrorCode::BAD_REQUEST, "The request body did not arrive in time.")
            }
            Self::Body(BodyFault::NoRoom) => {
                (ErrorCode::THROTTLED, "Operations are being throttled for this tenant.")
            }
            Self::Subprotocol(_) => (ErrorCode::BAD_REQUEST, "The WebSocket subprotocol must be mqtt."),
            Self::Upgrade(_) => (ErrorCode::BAD_REQUEST, "The request is no WebSocket handshake."),
        }
    }

    /// The limit that the device ran into, if it did. Spec: DPS-METRICS-3.
    pub fn limit(&self) -> Option<Limit> {
        match self {
            Self::Body(BodyFault::TooLarge(_)) => Some(Limit::Body),
            Self::Body(BodyFault::Late(_)) => Some(Limit::BodyTime),
            Self::Body(BodyFault::NoRoom) => Some(Limit::UnattestedBytes),
            _ => None,
        }
    }

    /// What would have worked. Spec: DPS-EXPLAIN-3, DPS-EXPLAIN-8.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Path(BadDevicePath::Encoding) => {
                "percent-encode each segment of the path once, its bytes in UTF-8, each as % and two hex digits"
            }
            Self::Path(BadDevicePath::IdScope(_)) => {
                "ask for /{idScope}/registrations/{registrationId}/register: the ID scope comes first"
            }
            Self::Path(BadDevicePath::RegistrationId(_)) => {
                "correct the registration id: at most 128 letters, digits, '-', '.', '_' and ':'"
            }
            Self::Method { .. } => {
                "use PUT for .../register, GET for .../operations/{operationId}, POST for the record itself"
            }
            Self::Body(BodyFault::MediaType(_)) => "send Content-Type: application/json",
            Self::Body(BodyFault::TooLarge(_)) => "send a shorter payload",
            Self::Body(BodyFault::Broken(_)) => {
                "send as many bytes as Content-Length says, or chunks to their end, before the connection is closed"
            }
            Self::Body(BodyFault::Late(_)) => {
                "send the whole body at once, behind the head; a device on a slow network may need limits.request_within_s raised"
            }
            Self::Body(BodyFault::NoRoom) => advice::COME_BACK_WITH_LESS,
            Self::Subprotocol(_) => "offer the subprotocol mqtt: Sec-WebSocket-Protocol: mqtt",
            Self::Upgrade(_) => {
                "send GET with Upgrade: websocket, Connection: Upgrade, Sec-WebSocket-Version: 13 and a Sec-WebSocket-Key"
            }
        }
    }
}
