//! Device topics under `$dps/registrations/`. Spec: DPS-MQTT-11, DPS-MQTT-14 to DPS-MQTT-16, DPS-MQTT-20.
//!
//! Pure text in, pure text out. Who the device is was settled at CONNECT; a topic proves nothing.

use crate::percent;

/// The one filter a device may subscribe to. Spec: DPS-MQTT-11.
pub const ANSWER_FILTER: &str = "$dps/registrations/res/#";

/// Longest topic, in bytes. Spec: DPS-MQTT-26.
pub const TOPIC_BYTES_MAX: usize = 1_024;

const REGISTER: &str = "$dps/registrations/PUT/iotdps-register/?";
const POLL: &str = "$dps/registrations/GET/iotdps-get-operationstatus/?";
const ANSWER: &str = "$dps/registrations/res/";

/// What a device asks by publishing. Spec: DPS-MQTT-14.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Register this device.
    Register {
        /// The request id, to be echoed byte for byte.
        rid: Box<str>,
    },
    /// Tell the state of an operation.
    Poll {
        /// The request id, to be echoed byte for byte.
        rid: Box<str>,
        /// The operation id as received, decoded once; empty where the parameter is missing.
        operation_id: Box<str>,
    },
}

/// Why a topic asks nothing. Spec: DPS-MQTT-15, DPS-MQTT-16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTopic {
    /// Neither the register nor the poll topic.
    #[error("the topic is neither the register nor the poll topic")]
    Unknown,
    /// No `$rid` parameter: there is no topic to answer on.
    #[error("the topic has no $rid")]
    NoRequestId,
}

impl Ask {
    /// Reads the topic of a publish.
    pub fn parse(topic: &str) -> Result<Self, BadTopic> {
        if let Some(parameters) = topic.strip_prefix(REGISTER) {
            return Ok(Self::Register { rid: rid(parameters)? });
        }
        let parameters = topic.strip_prefix(POLL).ok_or(BadTopic::Unknown)?;
        let operation_id = parameter(parameters, "operationId").unwrap_or_default();
        // Text that does not decode is kept: it will be no operation id either way.
        let operation_id = percent::decode(operation_id).unwrap_or_else(|| operation_id.to_owned());
        Ok(Self::Poll { rid: rid(parameters)?, operation_id: operation_id.into() })
    }

    /// The topic of this request: the inverse of [`Ask::parse`].
    pub fn topic(&self) -> String {
        match self {
            Self::Register { rid } => format!("{REGISTER}$rid={rid}"),
            Self::Poll { rid, operation_id } => format!("{POLL}$rid={rid}&operationId={operation_id}"),
        }
    }

    /// The request id.
    pub fn rid(&self) -> &str {
        match self {
            Self::Register { rid } | Self::Poll { rid, .. } => rid,
        }
    }
}

fn rid(parameters: &str) -> Result<Box<str>, BadTopic> {
    parameter(parameters, "$rid").map(Into::into).ok_or(BadTopic::NoRequestId)
}

fn parameter<'t>(parameters: &'t str, name: &str) -> Option<&'t str> {
    parameters.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

/// The topic of an answer. Spec: DPS-MQTT-20.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerTopic {
    /// HTTP-like status.
    pub status: u16,
    /// The request id as the device wrote it.
    pub rid: Box<str>,
    /// Seconds to wait before asking again; on 202, 429 and 5xx only.
    pub retry_after_s: Option<u32>,
}

impl AnswerTopic {
    /// The text: `$rid` first, because three official clients read it nowhere else.
    pub fn compose(&self) -> String {
        let Self { status, rid, retry_after_s } = self;
        match retry_after_s {
            Some(seconds) => format!("{ANSWER}{status}/?$rid={rid}&retry-after={seconds}"),
            None => format!("{ANSWER}{status}/?$rid={rid}"),
        }
    }

    /// Reads the topic of an answer, for the device side. `None` where it is not one.
    pub fn parse(topic: &str) -> Option<Self> {
        let (status, parameters) = topic.strip_prefix(ANSWER)?.split_once("/?")?;
        let retry_after_s = match parameter(parameters, "retry-after") {
            Some(text) => Some(text.parse().ok()?),
            None => None,
        };
        Some(Self { status: status.parse().ok()?, rid: parameter(parameters, "$rid")?.into(), retry_after_s })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(rid: &str) -> Result<Ask, BadTopic> {
        Ok(Ask::Register { rid: rid.into() })
    }

    fn poll(rid: &str, operation_id: &str) -> Result<Ask, BadTopic> {
        Ok(Ask::Poll { rid: rid.into(), operation_id: operation_id.into() })
    }

    /// DPS-MQTT-14, DPS-MQTT-15
    #[test]
    fn requests_are_read_with_their_parameters_in_any_order() {
        let rows = [
            ("$dps/registrations/PUT/iotdps-register/?$rid=1", register("1")),
            ("$dps/registrations/PUT/iotdps-register/?x=y&$rid=a%2Fb+c", register("a%2Fb+c")),
            ("$dps/registrations/PUT/iotdps-register/?$rid=", register("")),
            ("$dps/registrations/PUT/iotdps-register/?$rid=a=b", register("a=b")),
            (
                "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=2&operationId=5.a.b",
                poll("2", "5.a.b"),
            ),
            (
                "$dps/registrations/GET/iotdps-get-operationstatus/?operationId=5%2Ea%2eb&$rid=2",
                poll("2", "5.a.b"),
            ),
            ("$dps/registrations/GET/iotdps-get-operationstatus/?$rid=2", poll("2", "")),
        ];
        for (topic, expected) in rows {
            assert_eq!(Ask::parse(topic), expected, "{topic}");
        }
    }

    /// DPS-MQTT-15, DPS-MQTT-16
    #[test]
    fn other_topics_are_refused_with_the_reason() {
        let rows = [
            ("$dps/registrations/PUT/iotdps-register/?rid=1", BadTopic::NoRequestId),
            ("$dps/registrations/PUT/iotdps-register/?", BadTopic::NoRequestId),
            ("$dps/registrations/GET/iotdps-get-operationstatus/?operationId=1", BadTopic::NoRequestId),
            ("$dps/registrations/PUT/iotdps-register/", BadTopic::Unknown),
            ("$dps/registrations/put/iotdps-register/?$rid=1", BadTopic::Unknown),
            ("$dps/registrations/POST/iotdps-register/?$rid=1", BadTopic::Unknown),
            ("devices/d/messages/events/", BadTopic::Unknown),
            ("$dps/registrations/res/200/?$rid=1", BadTopic::Unknown),
        ];
        for (topic, expected) in rows {
            assert_eq!(Ask::parse(topic), Err(expected), "{topic}");
        }
    }

    /// DPS-MQTT-20
    #[test]
    fn an_answer_puts_rid_first_and_retry_after_second() {
        let answer = AnswerTopic { status: 202, rid: "7".into(), retry_after_s: Some(3) };
        assert_eq!(answer.compose(), "$dps/registrations/res/202/?$rid=7&retry-after=3");
        let last = AnswerTopic { status: 200, rid: "7".into(), retry_after_s: None };
        assert_eq!(last.compose(), "$dps/registrations/res/200/?$rid=7");
        for topic in [answer, last] {
            assert_eq!(AnswerTopic::parse(&topic.compose()), Some(topic));
        }
    }
}
