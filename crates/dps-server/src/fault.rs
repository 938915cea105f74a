//! Refusals, as devices read them: the one place where a refusal becomes an error code, for every transport.
//! Spec: DPS-BODY-9, DPS-BODY-10, DPS-MQTT-20.

use std::borrow::Cow;

use bytes::Bytes;
use dps_core::ports::StoreError;
use dps_core::refusal::{Refusal, Unproven};
use dps_core::registration::Failure;
use dps_core::x509::ChainFault;
use dps_proto::api_version::BadApiVersion;
use dps_proto::body::{BadRegisterBody, ErrorBody, to_bytes};
use dps_proto::code::{ErrorCode, TrackingId};
use dps_proto::date;
use jiff::Timestamp;

use crate::https::fault::HttpFault;
use crate::throttle::Throttled;

/// What a transport sends back for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP-like status.
    pub status: u16,
    /// On 202, 429 and 5xx only.
    pub retry_after_s: Option<u32>,
    /// JSON.
    pub body: Bytes,
}

/// How a request came in: some texts name the transports that would work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// MQTT over TLS.
    Mqtt,
    /// MQTT over WebSocket.
    MqttWebSocket,
    /// HTTPS.
    Https,
}

impl Transport {
    /// Every one there is.
    pub const ALL: [Self; 3] = [Self::Mqtt, Self::MqttWebSocket, Self::Https];

    /// The word for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
            Self::MqttWebSocket => "mqtt-ws",
            Self::Https => "https",
        }
    }
}

/// Why a request is not answered with what it asked for.
#[derive(Debug, thiserror::Error)]
pub enum RequestFault {
    /// Spec: DPS-MQTT-19.
    #[error(transparent)]
    ApiVersion(#[from] BadApiVersion),
    /// Spec: DPS-MQTT-17.
    #[error(transparent)]
    Body(#[from] BadRegisterBody),
    /// The registrar refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A limit was hit. Spec: DPS-LIMIT-4 to DPS-LIMIT-7.
    #[error("{throttled}{}", because(unproven))]
    Throttled {
        /// Which.
        throttled: Throttled,
        /// What was wrong with the credential, where it was judged.
        unproven: Option<String>,
    },
    /// It took longer than a device should wait.
    #[error("the request was not decided in time")]
    TimedOut,
    /// What is wrong with it is a matter of HTTP.
    #[error(transparent)]
    Http(#[from] HttpFault),
}

impl From<Throttled> for RequestFault {
    fn from(throttled: Throttled) -> Self {
        Self::Throttled { throttled, unproven: None }
    }
}

fn because(unproven: &Option<String>) -> String {
    unproven.as_ref().map(|why| format!(" ({why})")).unwrap_or_default()
}

/// The answer to a refused request. The cause stays here: log it under the same tracking id. Spec: DPS-BODY-10.
pub fn answer(
    fault: &RequestFault,
    transport: Transport,
    tracking_id: TrackingId,
    now: Timestamp,
    retry_after_s: u32,
) -> Answer {
    let (code, message) = of_request(fault, transport);
    let body = ErrorBody {
        error_code: code.value(),
        tracking_id: tracking_id.to_string(),
        message,
        timestamp_utc: date::format(now),
    };
    let status = code.status();
    // On any other status some clients would take it for an invitation to register again.
    let retry_after_s = (status == 429 || status >= 500).then_some(retry_after_s);
    Answer { status, retry_after_s, body: to_bytes(&body) }
}

/// The code and the text of a refused request.
pub fn of_request(fault: &RequestFault, transport: Transport) -> (ErrorCode, &'static str) {
    match fault {
        RequestFault::ApiVersion(_) => (ErrorCode::BAD_REQUEST, "The api-version is missing or malformed."),
        RequestFault::Body(BadRegisterBody::Json(_) | BadRegisterBody::Tpm) => {
            (ErrorCode::BAD_REQUEST, "The request body is not a registration in JSON.")
        }
        RequestFault::Body(BadRegisterBody::OtherRegistrationId(_)) => {
            (ErrorCode::INVALID_ARGUMENT, "Invalid RegistrationId")
        }
        RequestFault::Refused(refusal) => of_refusal(refusal, transport),
        RequestFault::Throttled { .. } => (ErrorCode::THROTTLED, THROTTLED),
        RequestFault::TimedOut => (ErrorCode::UNAVAILABLE, UNAVAILABLE),
        RequestFault::Http(fault) => fault.told(),
    }
}

/// The code and the text that stand in the record of a failed operation. Spec: DPS-BODY-5.
pub fn of_failure(failure: &Failure) -> (ErrorCode, Cow<'_, str>) {
    let (code, text) = match failure {
        Failure::NoUsableHub => (ErrorCode::HUB_NOT_FOUND, "IoTHub not found."),
        Failure::DeviceIdRefused => (ErrorCode::INVALID_ARGUMENT, "The hub does not take this device id."),
        Failure::EnrollmentGone => (ErrorCode::ENROLLMENT_NOT_FOUND, ENROLLMENT_NOT_FOUND),
        // Spec: DPS-REG-28.
        Failure::WebhookChoseNone => (
            ErrorCode::CUSTOM_ALLOCATION_HUB_NOT_SPECIFIED,
            "Custom allocation failed: no IoT hub was specified.",
        ),
        Failure::WebhookUnauthorized => (
            ErrorCode::CUSTOM_ALLOCATION_UNAUTHORIZED,
            "Custom allocation failed: unauthorized access to the webhook.",
        ),
        Failure::WebhookStatus(status) => {
            let text = format!("Custom allocation failed with status code: {status}");
            return (ErrorCode::CUSTOM_ALLOCATION_FAILED, text.into());
        }
        Failure::WebhookSilent => {
            (ErrorCode::CUSTOM_ALLOCATION_FAILED, "Custom allocation failed: the webhook did not answer.")
        }
        Failure::WebhookChoseAnother => (
            ErrorCode::CUSTOM_ALLOCATION_FAILED,
            "Custom allocation failed: the specified IoT hub is none of the linked hubs.",
        ),
        Failure::WebhookUnreadable => (
            ErrorCode::CUSTOM_ALLOCATION_FAILED,
            "Custom allocation failed: the answer of the webhook cannot be read.",
        ),
        Failure::WebhookNotCalled => {
            (ErrorCode::CUSTOM_ALLOCATION_FAILED, "Custom allocation failed: the webhook may not be called.")
        }
        // Spec: DPS-REG-45. As Azure tells it: the body of the hub's answer, whatever it is.
        Failure::HubRefused { said } => (ErrorCode::UNAUTHORIZED, &**said),
        Failure::HubUnavailable => (ErrorCode::UNAVAILABLE, "The IoT hub did not answer."),
        Failure::HubThrottled => (ErrorCode::THROTTLED, "Operations are being throttled by the IoT hub."),
        Failure::SourceUnavailable => (
            ErrorCode::UNAVAILABLE,
            "The IoT hub that the device leaves did not answer, and its data is to be migrated.",
        ),
        Failure::HubNotAllowed => (ErrorCode::HUB_NOT_FOUND, "IoTHub not found."),
        Failure::DeviceIdUnaddressable => {
            (ErrorCode::INVALID_ARGUMENT, "The hub does not take this device id.")
        }
    };
    (code, text.into())
}

const ENROLLMENT_NOT_FOUND: &str = "Enrollment not found";
const UNAUTHORIZED: &str = "Unauthorized";
const THROTTLED: &str = "Operations are being throttled for this tenant.";
const UNAVAILABLE: &str = "The service is not available. Try again later.";

fn of_refusal(refusal: &Refusal, transport: Transport) -> (ErrorCode, &'static str) {
    match refusal {
        Refusal::UnknownIdScope(_) | Refusal::ClaimedAcrossGroups { .. } | Refusal::TpmChallenge(_) => {
            (ErrorCode::UNAUTHORIZED, UNAUTHORIZED)
        }
        Refusal::TpmNotEnrolled => (ErrorCode::ENROLLMENT_NOT_FOUND, ENROLLMENT_NOT_FOUND),
        Refusal::Unproven(unproven) => (ErrorCode::UNAUTHORIZED, of_unproven(unproven)),
        Refusal::TpmWanted => match transport {
            // Azure refuses TPM over MQTT too, without saying so. Spec: DPS-REG-7.
            Transport::Mqtt | Transport::MqttWebSocket => {
                (ErrorCode::UNAUTHORIZED, "TPM attestation is not supported over MQTT; use HTTPS or AMQP.")
            }
            Transport::Https => (ErrorCode::UNAUTHORIZED, UNAUTHORIZED),
        },
        Refusal::NoSuchOperation(_) => (ErrorCode::OPERATION_NOT_FOUND, "Operation not found."),
        Refusal::NoRecord => (ErrorCode::REGISTRATION_NOT_FOUND, "Registration not found."),
        Refusal::Busy => (ErrorCode::THROTTLED, THROTTLED),
        // Spec: DPS-NODE-4.
        Refusal::Contended(_) | Refusal::Store(StoreError::Unavailable(_)) => {
            (ErrorCode::UNAVAILABLE, UNAVAILABLE)
        }
        Refusal::Store(StoreError::Unreadable(_)) => (ErrorCode::INTERNAL, "Internal server error."),
    }
}

/// Spec: DPS-X509-31.
fn of_unproven(unproven: &Unproven) -> &'static str {
    match unproven {
        Unproven::Chain(broken) => match broken.fault {
            ChainFault::NoIssuer { .. } | ChainFault::NotEnrolled => "CA certificate not found",
            _ => "Invalid certificate.",
        },
        Unproven::UnverifiedCa { .. } => "CA certificate not found",
        Unproven::BadChain(_) | Unproven::OtherCertificate(_) => "Invalid certificate.",
        Unproven::NoCredential
        | Unproven::Malformed(_)
        | Unproven::OtherResource { .. }
        | Unproven::Expired { .. }
        | Unproven::WrongKey(_)
        | Unproven::NoEntry(_)
        | Unproven::GroupKeyUsedDirectly(_)
        | Unproven::CertificateWanted(_)
        | Unproven::TokenWanted(_)
        | Unproven::EnrolledForAnother(_)
        | Unproven::TpmKeysWanted(_)
        | Unproven::TpmKeys(_)
        | Unproven::OtherTpm { .. }
        | Unproven::NotTheChallenge => UNAUTHORIZED,
    }
}

#[cfg(test)]
mod tests {
    use dps_core::refusal::NoSuchOperation;
    use dps_core::x509::{BadChain, BrokenChain, Place, Which};

    use super::*;

    fn refused(refusal: Refusal) -> RequestFault {
        RequestFault::Refused(refusal)
    }

    fn chain(fault: ChainFault) -> RequestFault {
        let which = Which { place: Place::Presented(0), subject: "CN=d".into() };
        let broken = BrokenChain { received: Vec::new(), path: Vec::new(), which, fault };
        refused(Unproven::Chain(Box::new(broken)).into())
    }

    /// DPS-BODY-9, DPS-BODY-10, DPS-ID-5, DPS-REG-4, DPS-REG-7, DPS-X509-31
    #[test]
    fn every_refusal_keeps_the_code_that_devices_already_know() {
        let id: dps_proto::ids::EnrollmentGroupId = "g".parse().unwrap();
        let entry = dps_core::enrollment::EntryRef::Group(id.clone());
        let rows = [
            (RequestFault::ApiVersion(BadApiVersion), 400_000, "The api-version is missing or malformed."),
            (
                BadRegisterBody::Json("x".into()).into(),
                400_000,
                "The request body is not a registration in JSON.",
            ),
            (BadRegisterBody::OtherRegistrationId("x".into()).into(), 400_004, "Invalid RegistrationId"),
            (refused(Refusal::UnknownIdScope("0ne0".parse().unwrap())), 401_002, "Unauthorized"),
            (refused(Unproven::NoCredential.into()), 401_002, "Unauthorized"),
            (refused(Unproven::WrongKey(entry.clone()).into()), 401_002, "Unauthorized"),
            (refused(Unproven::CertificateWanted(entry).into()), 401_002, "Unauthorized"),
            (refused(Unproven::GroupKeyUsedDirectly(id.clone()).into()), 401_002, "Unauthorized"),
            (chain(ChainFault::NotEnrolled), 401_002, "CA certificate not found"),
            (chain(ChainFault::NoIssuer { issuer: "CN=CA".into() }), 401_002, "CA certificate not found"),
            (chain(ChainFault::CaLeaf), 401_002, "Invalid certificate."),
            (refused(Unproven::BadChain(BadChain::Empty).into()), 401_002, "Invalid certificate."),
            (refused(Refusal::ClaimedAcrossGroups { from: id.clone(), to: id }), 401_002, "Unauthorized"),
            (
                refused(Refusal::TpmWanted),
                401_002,
                "TPM attestation is not supported over MQTT; use HTTPS or AMQP.",
            ),
            (refused(NoSuchOperation::NoRecord.into()), 404_203, "Operation not found."),
            (refused(Refusal::Busy), 429_001, "Operations are being throttled for this tenant."),
            (refused(StoreError::Unreadable("x".into()).into()), 500_000, "Internal server error."),
            (refused(StoreError::Unavailable("x".into()).into()), 503_000, UNAVAILABLE),
            (refused(Refusal::Contended(1)), 503_000, UNAVAILABLE),
            (Throttled::InFlight.into(), 429_001, THROTTLED),
            (RequestFault::TimedOut, 503_000, UNAVAILABLE),
        ];
        for (fault, code, message) in rows {
            let (got, text) = of_request(&fault, Transport::Mqtt);
            assert_eq!((got.value(), text), (code, message), "{fault}");
        }
    }

    /// DPS-BODY-5, DPS-REG-15, DPS-REG-28, DPS-REG-45
    #[test]
    fn every_failure_keeps_its_code() {
        for (failure, code, text) in [
            (Failure::NoUsableHub, 401_001, "IoTHub not found."),
            (Failure::EnrollmentGone, 404_201, "Enrollment not found"),
            (Failure::DeviceIdRefused, 400_004, "The hub does not take this device id."),
            (Failure::WebhookChoseNone, 400_208, "Custom allocation failed: no IoT hub was specified."),
            (
                Failure::WebhookUnauthorized,
                400_209,
                "Custom allocation failed: unauthorized access to the webhook.",
            ),
            (Failure::WebhookStatus(400), 400_207, "Custom allocation failed with status code: 400"),
            (Failure::WebhookSilent, 400_207, "Custom allocation failed: the webhook did not answer."),
            (
                Failure::WebhookChoseAnother,
                400_207,
                "Custom allocation failed: the specified IoT hub is none of the linked hubs.",
            ),
            (
                Failure::WebhookUnreadable,
                400_207,
                "Custom allocation failed: the answer of the webhook cannot be read.",
            ),
            (Failure::WebhookNotCalled, 400_207, "Custom allocation failed: the webhook may not be called."),
            (Failure::HubRefused { said: "No.".into() }, 401_002, "No."),
            (Failure::HubUnavailable, 503_000, "The IoT hub did not answer."),
            (Failure::HubThrottled, 429_001, "Operations are being throttled by the IoT hub."),
            (
                Failure::SourceUnavailable,
                503_000,
                "The IoT hub that the device leaves did not answer, and its data is to be migrated.",
            ),
            (Failure::HubNotAllowed, 401_001, "IoTHub not found."),
            (Failure::DeviceIdUnaddressable, 400_004, "The hub does not take this device id."),
        ] {
            let (told, message) = of_failure(&failure);
            assert_eq!((told.value(), &*message), (code, text), "{failure}");
        }
    }

    /// DPS-BODY-1, DPS-BODY-9, DPS-MQTT-20
    #[test]
    fn a_refusal_has_the_members_that_clients_read_and_retry_after_where_they_may_retry() {
        let tracking_id = TrackingId::from_random([0xAA; 16]);
        let now = Timestamp::new(1_586_496_262, 471_852_600).unwrap();
        let told = |fault| answer(&fault, Transport::Mqtt, tracking_id, now, 3);
        let unauthorized = told(refused(Unproven::NoCredential.into()));
        assert_eq!((unauthorized.status, unauthorized.retry_after_s), (401, None));
        assert_eq!(
            String::from_utf8_lossy(&unauthorized.body),
            r#"{"errorCode":401002,"trackingId":"aaaaaaaa-aaaa-4aaa-aaaa-aaaaaaaaaaaa","message":"Unauthorized","timestampUtc":"2020-04-10T05:24:22.4718526Z"}"#
        );
        assert_eq!(told(refused(Refusal::Busy)).retry_after_s, Some(3));
        assert_eq!(told(RequestFault::TimedOut).retry_after_s, Some(3));
        assert_eq!(told(refused(NoSuchOperation::NoRecord.into())).retry_after_s, None);
    }
}
