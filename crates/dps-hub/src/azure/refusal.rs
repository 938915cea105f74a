//! Why a hub did not do what it was asked. Spec: DPS-HUB-16 to DPS-HUB-18.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::outbound::{Answer, BadUrl, OutboundError, StatusCode};

/// Most bytes of a hub's body that are kept. Devices are told it. Spec: DPS-HUB-17.
pub const REFUSAL_BODY_BYTES_MAX: usize = 1_024;

/// Longest time that a hub may have us wait. Spec: DPS-HUB-16.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

/// What only a body that repeats the request holds, as diagnostic pages of proxies do.
const REPEATED_REQUEST: [&str; 2] = ["SharedAccessSignature", "SharedAccessKey"];

/// What is kept of such a body. Spec: DPS-HUB-18.
const NOT_KEPT: &str = "(not shown, as it repeats a token)";

/// Names the error in a header.
const ERROR_CODE_HEADER: &str = "iothub-errorcode";

/// Names it in a body, which may name one that is not known here.
const ERROR_CODE_WORDS: [&str; 2] = ["ErrorCode:", "errorCode"];

/// The names of Azure IoT Hub's errors that a registry answers with, and their numbers.
const ERROR_CODES: [(&str, u32); 18] = [
    ("InvalidProtocolVersion", 400_001),
    ("InvalidOperation", 400_003),
    ("ArgumentInvalid", 400_004),
    ("ArgumentNull", 400_005),
    ("IotHubFormatError", 400_006),
    ("DeviceDefinedMultipleTimes", 400_011),
    ("BulkRegistryOperationFailure", 400_013),
    ("IotHubNotFound", 401_001),
    ("IotHubUnauthorizedAccess", 401_002),
    ("IotHubUnauthorized", 401_003),
    ("IotHubQuotaExceeded", 403_002),
    ("DeviceNotFound", DEVICE_NOT_FOUND),
    ("DeviceAlreadyExists", DEVICE_ALREADY_EXISTS),
    ("PreconditionFailed", PRECONDITION_FAILED),
    ("TooManyDevices", TOO_MANY_DEVICES),
    ("GenericTimeout", GENERIC_TIMEOUT),
    ("ThrottlingException", 429_001),
    ("ThrottleBacklogLimitExceeded", 429_002),
];

/// IoT Hub's own end of waiting within: `GenericTimeout`.
const GENERIC_TIMEOUT: u32 = 500_008;

const DEVICE_NOT_FOUND: u32 = 404_001;
const DEVICE_ALREADY_EXISTS: u32 = 409_001;
const PRECONDITION_FAILED: u32 = 412_001;
const TOO_MANY_DEVICES: u32 = 413_002;

/// Why a hub did not do what it was asked. Neither `Display` nor `Debug` shows a key, a token, or what the hub said.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// There is a device of that id.
    #[error("the device exists at the hub")]
    Exists(HubRefusal),
    /// There is no device of that id.
    #[error("the device does not exist at the hub")]
    Absent(HubRefusal),
    /// It has changed since it was read.
    #[error("the device has changed at the hub since it was read")]
    PreconditionFailed(HubRefusal),
    /// The key of the policy is not the hub's, or the policy lacks a right.
    #[error("the hub does not accept its connection string: {0}")]
    Unauthorized(HubRefusal),
    /// The hub has as many devices as it may have.
    #[error("the hub takes no more devices: {0}")]
    TooManyDevices(HubRefusal),
    /// Asked too often. It may work later.
    #[error("the hub is asked too often: {0}")]
    Throttled(HubRefusal),
    /// The hub failed. It may work later.
    #[error("the hub cannot answer: {0}")]
    Unavailable(HubRefusal),
    /// The hub does not take the request, and would not take it again.
    #[error("the hub refuses the request: {0}")]
    Rejected(HubRefusal),
    /// No answer came; see [`OutboundError`] for what may have been done.
    #[error(transparent)]
    NoAnswer(OutboundError),
    /// The answer is none of a hub. What was asked for may have been done.
    #[error("the answer of the hub cannot be used: {0}")]
    Malformed(String),
    /// No request can name this device: its id is a step in a path.
    #[error("the device's id cannot stand in the path of a request")]
    Unaddressable,
    /// The host of the hub is none.
    #[error("the host of the hub: {0}")]
    Url(BadUrl),
}

/// An answer that is no success.
#[derive(Clone, PartialEq, Eq)]
pub struct HubRefusal {
    status: u16,
    error_code: Option<u32>,
    retry_after: Option<Duration>,
    names_error: bool,
    body: Box<str>,
}

impl HubError {
    /// What an answer that is no success says. Spec: DPS-HUB-16.
    pub(super) fn refusal(answer: &Answer) -> Self {
        let named = answer.headers.get(ERROR_CODE_HEADER).and_then(|name| name.to_str().ok());
        let code = named.and_then(code_of).or_else(|| code_in(&answer.body));
        Self::of(HubRefusal::read(answer, code))
    }

    /// What a code stands for, whatever the status of the answer that holds it.
    pub(super) fn of(refusal: HubRefusal) -> Self {
        let code = refusal.error_code();
        match code {
            DEVICE_ALREADY_EXISTS => Self::Exists(refusal),
            // Any other 404 is not of the device: a proxy's, or another service's.
            DEVICE_NOT_FOUND => Self::Absent(refusal),
            TOO_MANY_DEVICES => Self::TooManyDevices(refusal),
            401_000..=401_999 => Self::Unauthorized(refusal),
            412_000..=412_999 => Self::PreconditionFailed(refusal),
            429_000..=429_999 => Self::Throttled(refusal),
            408_000..=408_999 | 500_000.. => Self::Unavailable(refusal),
            _ => Self::Rejected(refusal),
        }
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Throttled(_) | Self::Unavailable(_) | Self::Malformed(_) => true,
            Self::NoAnswer(why) => !matches!(why, OutboundError::Refused(_)),
            Self::Exists(_)
            | Self::Absent(_)
            | Self::PreconditionFailed(_)
            | Self::Unauthorized(_)
            | Self::TooManyDevices(_)
            | Self::Rejected(_)
            | Self::Unaddressable
            | Self::Url(_) => false,
        }
    }

    /// What the hub answered, if it did.
    pub fn answered(&self) -> Option<&HubRefusal> {
        match self {
            Self::Exists(refusal)
            | Self::Absent(refusal)
            | Self::PreconditionFailed(refusal)
            | Self::Unauthorized(refusal)
            | Self::TooManyDevices(refusal)
            | Self::Throttled(refusal)
            | Self::Unavailable(refusal)
            | Self::Rejected(refusal) => Some(refusal),
            Self::NoAnswer(_) | Self::Malformed(_) | Self::Unaddressable | Self::Url(_) => None,
        }
    }
}

impl HubRefusal {
    pub(super) fn read(answer: &Answer, error_code: Option<u32>) -> Self {
        let seconds = answer.headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        // A little more than is kept, so that no character is cut in two within it.
        let text = String::from_utf8_lossy(&answer.body[..answer.body.len().min(REFUSAL_BODY_BYTES_MAX + 4)]);
        let kept = &text[..text.floor_char_boundary(REFUSAL_BODY_BYTES_MAX)];
        let names_error = error_code.is_some()
            || answer.headers.contains_key(ERROR_CODE_HEADER)
            || ERROR_CODE_WORDS.iter().any(|word| text.contains(word));
        Self {
            status: answer.status.as_u16(),
            error_code,
            names_error,
            retry_after: seconds.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX)),
            body: if REPEATED_REQUEST.iter().any(|piece| text.contains(piece)) { NOT_KEPT } else { kept }
                .into(),
        }
    }

    /// HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The hub's number of the error, such as 401002; where it names none, a thousand times the status.
    pub fn error_code(&self) -> u32 {
        self.error_code.unwrap_or(u32::from(self.status) * 1_000)
    }

    /// Whether it is a hub's, not that of whatever stands between, or in its place: it names an error.
    pub(super) fn is_of_a_hub(&self) -> bool {
        self.names_error
    }

    /// Whether it says that someone else was asked, or waited for, in vain: what was asked for may have been done, or yet be.
    pub(super) fn is_of_waiting(&self) -> bool {
        matches!(self.status, 502 | 504) || self.error_code() == GENERIC_TIMEOUT
    }

    /// How long the hub wants us to wait; at most [`RETRY_AFTER_MAX`].
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// What the hub said, as it came, up to [`REFUSAL_BODY_BYTES_MAX`]: what Azure tells the device. Spec: DPS-HUB-17.
    pub fn body(&self) -> &str {
        &self.body
    }
}

impl fmt::Display for HubRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error_code())?;
        match ERROR_CODES.iter().find(|(_, code)| Some(*code) == self.error_code) {
            Some((name, _)) => write!(f, " {name}"),
            None => match StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason())
            {
                Some(reason) => write!(f, " {reason}"),
                None => Ok(()),
            },
        }
    }
}

impl fmt::Debug for HubRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HubRefusal({self}, {} bytes)", self.body.len())
    }
}

/// The number of an error that is named, or numbered.
pub(super) fn code_of(name: &str) -> Option<u32> {
    let name = name.trim();
    let numbered = || name.parse().ok().filter(|code| (100_000..1_000_000).contains(code));
    ERROR_CODES
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, code)| *code)
        .or_else(numbered)
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(rename = "Message", alias = "message")]
    message: Option<String>,
    #[serde(rename = "errorCode")]
    error_code: Option<u32>,
}

/// The number in a body: `Message` is `ErrorCode:DeviceNotFound;...`, or JSON once more.
fn code_in(body: &[u8]) -> Option<u32> {
    let ErrorBody { message, error_code } = serde_json::from_slice(body).ok()?;
    if error_code.is_some() {
        return error_code;
    }
    let message = message?;
    match serde_json::from_str::<ErrorBody>(&message) {
        Ok(within) => within.error_code,
        Err(_) => code_of(message.split(';').next()?.strip_prefix("ErrorCode:")?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::HeaderMap;

    fn answered(status: u16, headers: &[(&'static str, &str)], body: &str) -> HubError {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        HubError::refusal(&Answer { status, headers: map, body: body.to_owned().into() })
    }

    fn kind(error: &HubError) -> &'static str {
        match error {
            HubError::Exists(_) => "exists",
            HubError::Absent(_) => "absent",
            HubError::PreconditionFailed(_) => "precondition failed",
            HubError::Unauthorized(_) => "unauthorized",
            HubError::TooManyDevices(_) => "too many devices",
            HubError::Throttled(_) => "throttled",
            HubError::Unavailable(_) => "unavailable",
            HubError::Rejected(_) => "rejected",
            _ => "none of a hub",
        }
    }

    /// DPS-HUB-16
    #[test]
    fn a_refusal_is_known_by_its_code_wherever_that_stands() {
        const MESSAGE: &str = r#"{"Message":"ErrorCode:DeviceAlreadyExists;A device with ID 'd' is already registered.","ExceptionMessage":"Tracking ID:x"}"#;
        const NESTED: &str = r#"{"Message":"{\"errorCode\":409001,\"trackingId\":\"x\",\"message\":\"y\"}","ExceptionMessage":""}"#;
        let rows = [
            (409, "DeviceAlreadyExists", "", "exists", 409_001),
            (409, "", MESSAGE, "exists", 409_001),
            (409, "", NESTED, "exists", 409_001),
            (409, "", r#"{"errorCode":409001,"message":"y"}"#, "exists", 409_001),
            (409, "", "", "rejected", 409_000),
            (404, "DeviceNotFound", "", "absent", 404_001),
            (404, "", "<html>not here</html>", "rejected", 404_000),
            (412, "PreconditionFailed", "", "precondition failed", 412_001),
            (412, "", "", "precondition failed", 412_000),
            (
                401,
                "",
                r#"{"Message":"ErrorCode:IotHubUnauthorizedAccess;Unauthorized"}"#,
                "unauthorized",
                401_002,
            ),
            (401, "IotHubNotFound", "", "unauthorized", 401_001),
            (403, "TooManyDevices", "", "too many devices", 413_002),
            (413, "", r#"{"Message":"ErrorCode:TooManyDevices;"}"#, "too many devices", 413_002),
            (403, "IotHubQuotaExceeded", "", "rejected", 403_002),
            (400, "ArgumentInvalid", "", "rejected", 400_004),
            (429, "ThrottlingBacklogTimeout", "", "throttled", 429_000),
            (429, "ThrottlingException", "", "throttled", 429_001),
            (500, "ServerError", "", "unavailable", 500_000),
            (408, "", "", "unavailable", 408_000),
            (307, "", "", "rejected", 307_000),
        ];
        for (status, named, body, expected, code) in rows {
            let headers = [("iothub-errorcode", named)];
            let error = answered(status, if named.is_empty() { &[] } else { &headers }, body);
            assert_eq!(kind(&error), expected, "{status} {named} {body}");
            assert_eq!(error.answered().map(HubRefusal::error_code), Some(code), "{status} {named} {body}");
            assert_eq!(error.is_retryable(), matches!(expected, "throttled" | "unavailable"), "{error}");
        }
    }

    /// DPS-HUB-16
    #[test]
    fn a_hub_has_us_wait_no_longer_than_the_limit() {
        let waits =
            |text: &str| answered(429, &[("retry-after", text)], "").answered().unwrap().retry_after();
        assert_eq!(waits("17"), Some(Duration::from_secs(17)));
        assert_eq!(waits("999999999999"), Some(RETRY_AFTER_MAX));
        assert_eq!(waits("Fri, 31 Dec 1999 23:59:59 GMT"), None);
    }

    /// DPS-HUB-17, DPS-HUB-18
    #[test]
    fn what_the_hub_said_is_kept_as_it_came_up_to_its_limit_and_shown_by_nothing_else() {
        let captured = r#"{"Message":"ErrorCode:IotHubUnauthorizedAccess;Unauthorized","ExceptionMessage":"Tracking ID:abc-G:10-TimeStamp:12/10/2020 06:42:31"}"#;
        let error = answered(401, &[], captured);
        assert_eq!(error.answered().unwrap().body(), captured);
        assert_eq!(
            error.to_string(),
            "the hub does not accept its connection string: 401002 IotHubUnauthorizedAccess"
        );
        assert!(!format!("{error:?}").contains("Tracking"), "{error:?}");
        let echo = r#"{"authorization":"SharedAccessSignature sr=hub&sig=c2VjcmV0"}"#;
        assert_eq!(answered(403, &[], echo).answered().unwrap().body(), NOT_KEPT);
        let long = answered(500, &[], &"ä".repeat(REFUSAL_BODY_BYTES_MAX));
        assert_eq!(long.answered().unwrap().body(), "ä".repeat(REFUSAL_BODY_BYTES_MAX / 2));
        let cut = answered(500, &[], &format!("x{}", "ä".repeat(REFUSAL_BODY_BYTES_MAX)));
        assert_eq!(
            cut.answered().unwrap().body(),
            format!("x{}", "ä".repeat(REFUSAL_BODY_BYTES_MAX / 2 - 1))
        );
    }
}
