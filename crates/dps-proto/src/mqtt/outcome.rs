//! How a registration ended for the device. Spec: DPS-MQTT-1 to DPS-MQTT-4, DPS-MQTT-11, DPS-MQTT-28.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::Malformed;
use super::device::TRIES_MAX;
use super::packet::{ConnectCode, Kind};

/// What the service said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceOutcome {
    /// A final answer, good or bad.
    Final {
        /// HTTP-like status, below 429.
        status: u16,
        /// As received.
        body: Bytes,
    },
}

/// Why there is no final answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceFailure {
    /// CONNACK has another code than 0.
    #[error("the service refused the connection: {0:?} (CONNACK {code})", code = *.0 as u8)]
    ConnectRefused(ConnectCode),
    /// SUBACK has 0x80.
    #[error("the service refused the subscription")]
    SubscriptionRefused,
    /// No answer came in time.
    #[error("no answer within {} s while {step}", .within.as_secs())]
    TimedOut {
        /// What was waited for.
        step: DeviceStep,
        /// The limit.
        within: Duration,
    },
    /// The service closed the connection.
    #[error("the service closed the connection while {0}")]
    ConnectionEnded(DeviceStep),
    /// The service sent no packet that a service may send.
    #[error("malformed packet: {0}")]
    Malformed(#[from] Malformed),
    /// The service sent a packet that has no place here.
    #[error("{kind} came while {step}")]
    Unexpected {
        /// What came.
        kind: Kind,
        /// What was waited for.
        step: DeviceStep,
    },
    /// A message on a topic that is none of an answer.
    #[error("a message came on the topic {0:?}")]
    NotAnAnswer(Box<str>),
    /// The device is to poll, but was never told an operation id.
    #[error("the service is assigning but gave no operationId")]
    NoOperationId,
    /// The service was too busy or broken every time.
    #[error("the service answered {status} to each of {TRIES_MAX} tries")]
    GaveUp {
        /// HTTP-like status of the last try, 429 or above.
        status: u16,
        /// The body of the last try.
        body: Bytes,
    },
    /// What was to be sent does not fit into a packet.
    #[error("a packet is larger than MQTT can say")]
    TooLarge,
}

/// What the device is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceStep {
    /// CONNACK is to come.
    Connecting,
    /// SUBACK is to come.
    Subscribing,
    /// The answer to the register message is to come.
    Registering,
    /// The answer to a poll is to come.
    Polling,
    /// It is too early to ask again.
    Waiting,
    /// Nothing is to come.
    Done,
}

impl fmt::Display for DeviceStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "connecting",
            Self::Subscribing => "subscribing",
            Self::Registering => "registering",
            Self::Polling => "polling",
            Self::Waiting => "waiting to ask again",
            Self::Done => "done",
        })
    }
}
