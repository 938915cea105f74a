//! How a device's connection ended, for whoever looks for the cause. Spec: DPS-EXPLAIN-4, DPS-METRICS-2, DPS-METRICS-3.

use dps_proto::mqtt::CloseReason;

use crate::advice;
use crate::explain::Step;
use crate::metrics::{Closed, Limit};
use crate::web_socket::WebSocketFault;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// The session ended it, or was told to.
    #[error(transparent)]
    Session(CloseReason),
    /// The network did.
    #[error("the connection was lost: {0}")]
    Lost(std::io::ErrorKind),
    /// The device did not read.
    #[error("the device did not take what it was sent")]
    WriteTimeout,
    /// The device broke the rules of WebSocket. Spec: DPS-WS-7.
    #[error(transparent)]
    WebSocket(WebSocketFault),
}

impl End {
    /// What brought about an error of the stream.
    pub(super) fn of_error(why: &std::io::Error) -> Self {
        match why.get_ref().and_then(|inner| inner.downcast_ref::<WebSocketFault>()) {
            Some(WebSocketFault::NoRoom) => Self::Session(CloseReason::BufferBudget),
            Some(fault) => Self::WebSocket(fault.clone()),
            None => Self::Lost(why.kind()),
        }
    }

    /// Whether the log need not warn.
    pub fn is_normal(&self) -> bool {
        match self {
            Self::Session(reason) => reason.is_normal(),
            // Many devices go without a DISCONNECT, and without TLS's own farewell.
            Self::Lost(_) => true,
            Self::WriteTimeout | Self::WebSocket(_) => false,
        }
    }

    /// For the numbers.
    pub fn outcome(&self) -> Closed {
        let reason = match self {
            Self::Session(reason) => reason,
            Self::Lost(_) => return Closed::ByDevice,
            Self::WriteTimeout => return Closed::Limit,
            Self::WebSocket(_) => return Closed::Broken,
        };
        match reason {
            CloseReason::Disconnected | CloseReason::ConnectionEnded => Closed::ByDevice,
            CloseReason::RefusedConnect(_) => Closed::Refused,
            CloseReason::NotConnectFirst { .. }
            | CloseReason::SecondConnect
            | CloseReason::Malformed(_)
            | CloseReason::OutOfPlace(_)
            | CloseReason::BadTopic { .. }
            | CloseReason::Qos2Publish => Closed::Broken,
            CloseReason::BufferBudget
            | CloseReason::ConnectTimeout { .. }
            | CloseReason::NotAttestedInTime { .. }
            | CloseReason::KeepAlive { .. }
            | CloseReason::Idle { .. } => Closed::Limit,
            CloseReason::TakenOver => Closed::TakenOver,
            CloseReason::Shutdown => Closed::Shutdown,
            CloseReason::AnswerOverdue | CloseReason::AnswerTooLarge => Closed::Failure,
        }
    }

    /// The limit that the device ran into, if it did.
    pub fn limit(&self) -> Option<Limit> {
        let reason = match self {
            Self::Session(reason) => reason,
            Self::Lost(_) => return None,
            Self::WriteTimeout => return Some(Limit::WriteTime),
            Self::WebSocket(fault) => return (*fault == WebSocketFault::TooLong).then_some(Limit::Packet),
        };
        match reason {
            CloseReason::ConnectTimeout { .. } => Some(Limit::ConnectTime),
            CloseReason::NotAttestedInTime { .. } => Some(Limit::AttestTime),
            CloseReason::Idle { .. } | CloseReason::KeepAlive { .. } => Some(Limit::IdleTime),
            CloseReason::BufferBudget => Some(Limit::UnattestedBytes),
            CloseReason::Malformed(_) => Some(Limit::Packet),
            CloseReason::Disconnected
            | CloseReason::ConnectionEnded
            | CloseReason::Shutdown
            | CloseReason::TakenOver
            | CloseReason::NotConnectFirst { .. }
            | CloseReason::RefusedConnect(_)
            | CloseReason::SecondConnect
            | CloseReason::OutOfPlace(_)
            | CloseReason::BadTopic { .. }
            | CloseReason::Qos2Publish
            | CloseReason::AnswerOverdue
            | CloseReason::AnswerTooLarge => None,
        }
    }

    /// The step at which the device failed.
    pub fn step(&self) -> Step {
        match self {
            Self::Session(CloseReason::RefusedConnect(_)) => Step::Connect,
            Self::Session(_) | Self::Lost(_) | Self::WriteTimeout | Self::WebSocket(_) => Step::Connection,
        }
    }

    /// What the device was told, if anything.
    pub fn told(&self) -> String {
        match self {
            Self::Session(CloseReason::RefusedConnect(refusal)) => {
                format!("CONNACK {}", refusal.code() as u8)
            }
            Self::Session(_) | Self::Lost(_) | Self::WriteTimeout | Self::WebSocket(_) => String::new(),
        }
    }

    /// What would have worked; nothing where nothing went wrong.
    pub fn advice(&self) -> Option<String> {
        match self {
            Self::Session(reason) => advice::on_close(reason),
            Self::Lost(_) => None,
            Self::WriteTimeout => Some(advice::READ_WHAT_IS_SENT.to_owned()),
            Self::WebSocket(fault) => Some(advice::on_web_socket(fault).to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// DPS-METRICS-2, DPS-METRICS-3
    #[test]
    fn an_end_is_counted_by_who_brought_it_about_and_by_the_limit_behind_it() {
        let within = Duration::from_secs(30);
        let rows = [
            (End::Session(CloseReason::Disconnected), Closed::ByDevice, None, true),
            (End::Lost(std::io::ErrorKind::ConnectionReset), Closed::ByDevice, None, true),
            (End::Session(CloseReason::TakenOver), Closed::TakenOver, None, true),
            (
                End::Session(CloseReason::ConnectTimeout { within }),
                Closed::Limit,
                Some(Limit::ConnectTime),
                false,
            ),
            (End::Session(CloseReason::BufferBudget), Closed::Limit, Some(Limit::UnattestedBytes), false),
            (End::Session(CloseReason::SecondConnect), Closed::Broken, None, false),
            (End::Session(CloseReason::AnswerOverdue), Closed::Failure, None, false),
            (End::WriteTimeout, Closed::Limit, Some(Limit::WriteTime), false),
            (End::WebSocket(WebSocketFault::Text), Closed::Broken, None, false),
            (End::WebSocket(WebSocketFault::TooLong), Closed::Broken, Some(Limit::Packet), false),
        ];
        for (end, outcome, limit, is_normal) in rows {
            assert_eq!((end.outcome(), end.limit(), end.is_normal()), (outcome, limit, is_normal), "{end}");
        }
    }
}
