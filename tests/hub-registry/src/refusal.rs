//! What a registry refuses, in Azure's words.

use hyper::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::access::random;

/// A refusal: status, name and number of the error, and a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: StatusCode,
    /// The name that the header `iothub-errorcode` has.
    pub name: String,
    /// The number that results of bulk requests have.
    pub code: u32,
    /// What is wrong.
    pub text: String,
}

impl Refusal {
    fn new(status: StatusCode, name: &str, code: u32, text: impl Into<String>) -> Self {
        Self { status, name: name.to_owned(), code, text: text.into() }
    }

    pub(crate) fn argument_invalid(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "ArgumentInvalid", 400_004, text)
    }

    pub(crate) fn protocol_version(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidProtocolVersion", 400_001, text)
    }

    pub(crate) fn defined_twice(id: &str) -> Self {
        let text = format!("The device '{id}' is defined more than once.");
        Self::new(StatusCode::BAD_REQUEST, "DeviceDefinedMultipleTimes", 400_011, text)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "IotHubUnauthorizedAccess", 401_002, "Unauthorized")
    }

    pub(crate) fn too_many_devices(devices_max: usize) -> Self {
        let text =
            format!("Total number of devices on IotHub exceeded the allocated quota of {devices_max}.");
        Self::new(StatusCode::FORBIDDEN, "TooManyDevices", 413_002, text)
    }

    pub(crate) fn not_found(id: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "DeviceNotFound",
            404_001,
            format!("The device '{id}' is not registered."),
        )
    }

    /// Something that this registry does not know.
    pub(crate) fn unknown(what: &str) -> Self {
        let text = format!("{what}: nothing that a provisioning service asks for.");
        Self::new(StatusCode::NOT_FOUND, "GenericNotFound", 404_000, text)
    }

    pub(crate) fn exists(id: &str) -> Self {
        let text = format!("A device with ID '{id}' is already registered.");
        Self::new(StatusCode::CONFLICT, "DeviceAlreadyExists", 409_001, text)
    }

    pub(crate) fn precondition_failed(found: &str) -> Self {
        let text = format!("Precondition failed: the current etag is \"{found}\".");
        Self::new(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", 412_001, text)
    }

    pub(crate) fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "MessageTooLarge", 413_001, "The request is too large.")
    }

    /// As the body of an answer.
    pub(crate) fn body(&self) -> Value {
        let at = Timestamp::now().strftime("%m/%d/%Y %H:%M:%S");
        let tracking: String = random::<16>().iter().map(|byte| format!("{byte:02x}")).collect();
        json!({
            "Message": format!("ErrorCode:{};{}", self.name, self.text),
            "ExceptionMessage": format!("Tracking ID:{tracking}-G:0-TimeStamp:{at}"),
        })
    }
}
