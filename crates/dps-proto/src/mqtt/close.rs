//! Why a connection ended, in words for the log. Spec: DPS-MQTT-1 to DPS-MQTT-4, DPS-MQTT-8 to DPS-MQTT-10,
//! DPS-MQTT-15, DPS-MQTT-16, DPS-MQTT-27 to DPS-MQTT-30.

use std::time::Duration;

use super::packet::{ConnectCode, Kind};
use super::{ANSWER_WITHIN, Malformed};
use crate::ids::RegistrationId;
use crate::login::BadUserName;
use crate::topic::BadTopic;

/// Why a connection ended. Its text stands alone in a log and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The device said DISCONNECT. Spec: DPS-MQTT-10.
    #[error("the device disconnected")]
    Disconnected,
    /// The device closed the connection without DISCONNECT; for the caller to give.
    #[error("the device closed the connection")]
    ConnectionEnded,
    /// This node stops; for the caller to give.
    #[error("the service is shutting down")]
    Shutdown,
    /// A newer connection of the same device was attested; for the caller to give. Spec: DPS-MQTT-29.
    #[error("a newer connection of the same device took over")]
    TakenOver,
    /// The bytes of connections not yet attested have used up their budget; for the caller to give. Spec: DPS-MQTT-30.
    #[error("the buffers of connections that are not yet attested are full")]
    BufferBudget,
    /// The first packet is something else. Spec: DPS-MQTT-1.
    #[error("the first byte is {first_byte:#04x}, which begins no CONNECT")]
    NotConnectFirst {
        /// The first byte of the connection.
        first_byte: u8,
    },
    /// CONNECT was answered with a refusal.
    #[error("CONNECT was refused with {code}: {0}", code = .0.code() as u8)]
    RefusedConnect(#[from] ConnectRefusal),
    /// CONNECT came again. Spec: DPS-MQTT-9.
    #[error("a second CONNECT came")]
    SecondConnect,
    /// The bytes are no packet that a device may send. Spec: DPS-MQTT-28.
    #[error("malformed packet: {0}")]
    Malformed(#[from] Malformed),
    /// A packet for which there is no rule; the codec refuses those of devices by name before.
    #[error("{0} has no place here")]
    OutOfPlace(Kind),
    /// A publish to a topic that asks nothing. Spec: DPS-MQTT-15, DPS-MQTT-16.
    #[error("a publish to {topic:?}: {why}")]
    BadTopic {
        /// The topic as received, at most 1 KiB.
        topic: Box<str>,
        /// What is wrong with it.
        why: BadTopic,
    },
    /// A publish with QoS 2. Spec: DPS-MQTT-16.
    #[error("a publish with QoS 2, which is not served")]
    Qos2Publish,
    /// No whole CONNECT in time. Spec: DPS-MQTT-27.
    #[error("no CONNECT within {} s", .within.as_secs())]
    ConnectTimeout {
        /// The limit.
        within: Duration,
    },
    /// No attested request in time. Spec: DPS-MQTT-27.
    #[error("not attested within {} s of CONNECT", .within.as_secs())]
    NotAttestedInTime {
        /// The limit.
        within: Duration,
    },
    /// No packet for one and a half keepalives. Spec: DPS-MQTT-8.
    #[error("no packet for 1.5 times the keepalive of {keep_alive_s} s")]
    KeepAlive {
        /// The device's own promise.
        keep_alive_s: u16,
    },
    /// No packet for too long. Spec: DPS-MQTT-27.
    #[error("no packet for {} s", .after.as_secs())]
    Idle {
        /// The limit.
        after: Duration,
    },
    /// The caller did not answer in time: a fault of the service, not of the device.
    #[error("the service had no answer within {} s", ANSWER_WITHIN.as_secs())]
    AnswerOverdue,
    /// The caller's answer cannot be said in MQTT: a fault of the service, not of the device.
    #[error("the answer of the service is too large")]
    AnswerTooLarge,
}

impl CloseReason {
    /// Whether both sides did what they should, so that the log need not warn.
    pub fn is_normal(&self) -> bool {
        matches!(self, Self::Disconnected | Self::ConnectionEnded | Self::Shutdown | Self::TakenOver)
    }
}

/// Why CONNECT was answered with a refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectRefusal {
    /// Spec: DPS-MQTT-1.
    #[error("the protocol level is {level}, served is 4 (MQTT 3.1.1)")]
    Level {
        /// The level of the CONNECT.
        level: u8,
    },
    /// Spec: DPS-MQTT-2.
    #[error(transparent)]
    UserName(#[from] BadUserName),
    /// Spec: DPS-MQTT-3.
    #[error("the client id {client_id:?} is not the registration id {registration_id}")]
    ClientId {
        /// The client id, its first 128 characters.
        client_id: Box<str>,
        /// The registration id of the user name.
        registration_id: Box<str>,
    },
    /// Spec: DPS-MQTT-4.
    #[error("no service instance has this ID scope")]
    UnknownIdScope,
}

impl ConnectRefusal {
    /// The return code that the device is told.
    pub fn code(&self) -> ConnectCode {
        match self {
            Self::Level { .. } => ConnectCode::UnservedLevel,
            Self::UserName(_) => ConnectCode::BadLogin,
            Self::ClientId { .. } => ConnectCode::ClientIdRejected,
            Self::UnknownIdScope => ConnectCode::NotAuthorized,
        }
    }

    pub(super) fn client_id(client_id: &str, registration_id: &RegistrationId) -> Self {
        let client_id = client_id.chars().take(128).collect::<String>().into();
        Self::ClientId { client_id, registration_id: registration_id.as_str().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(reason: CloseReason, text: &str, is_normal: bool) {
        assert_eq!((reason.to_string().as_str(), reason.is_normal()), (text, is_normal));
    }

    /// DPS-MQTT-10, DPS-MQTT-27, DPS-MQTT-29
    #[test]
    fn reasons_read_well_alone_and_tell_whether_to_warn() {
        check(CloseReason::Disconnected, "the device disconnected", true);
        check(CloseReason::TakenOver, "a newer connection of the same device took over", true);
        check(
            CloseReason::ConnectTimeout { within: Duration::from_secs(30) },
            "no CONNECT within 30 s",
            false,
        );
        check(
            CloseReason::RefusedConnect(ConnectRefusal::Level { level: 5 }),
            "CONNECT was refused with 1: the protocol level is 5, served is 4 (MQTT 3.1.1)",
            false,
        );
        check(
            CloseReason::BadTopic { topic: "a\nb".into(), why: BadTopic::NoRequestId },
            "a publish to \"a\\nb\": the topic has no $rid",
            false,
        );
        check(CloseReason::Malformed(Malformed::PublishQos3), "malformed packet: PUBLISH has QoS 3", false);
        check(CloseReason::AnswerOverdue, "the service had no answer within 300 s", false);
    }
}
