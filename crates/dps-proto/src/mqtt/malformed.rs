//! What can be wrong with a packet, one name for each. Spec: DPS-MQTT-26, DPS-MQTT-28.

use std::fmt;

use super::{Kind, decode};
use crate::topic;

/// Why bytes are no packet that this peer may send. The connection is closed; nothing is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Type 0 or 15.
    #[error("packet type {0} is reserved")]
    ReservedType(u8),
    /// A packet that only the other side sends.
    #[error("{0} is not sent from this side")]
    WrongSide(Kind),
    /// PUBREC, PUBREL or PUBCOMP.
    #[error("{0} belongs to QoS 2, which is not served")]
    Qos2Handshake(Kind),
    /// The lower four bits of the first byte are not what the type demands.
    #[error("{kind} has the header flags {flags:#06b}")]
    HeaderFlags {
        /// The type.
        kind: Kind,
        /// The four bits.
        flags: u8,
    },
    /// PUBLISH with both QoS bits.
    #[error("PUBLISH has QoS 3")]
    PublishQos3,
    /// PUBLISH with DUP and QoS 0 (MQTT-3.3.1-2).
    #[error("PUBLISH has DUP with QoS 0")]
    DupWithoutQos,
    /// The remaining length goes on after four bytes.
    #[error("the remaining length is longer than four bytes")]
    RemainingLength,
    /// Larger than this service takes; judged on the announced length.
    #[error("{bytes} bytes are more than {limit} may have")]
    Oversize {
        /// What is limited.
        limit: Limit,
        /// The announced length.
        bytes: usize,
    },
    /// A type of fixed length that announces another.
    #[error("{kind} announces {remaining} bytes")]
    FixedLength {
        /// The type.
        kind: Kind,
        /// The announced remaining length.
        remaining: usize,
    },
    /// The packet ends before a field does.
    #[error("the packet ends inside {0}")]
    EndsInside(Field),
    /// The packet goes on after its last field.
    #[error("{kind} has {bytes} bytes too many")]
    TrailingBytes {
        /// The type.
        kind: Kind,
        /// How many follow the last field.
        bytes: usize,
    },
    /// A text that is not UTF-8; encoded surrogates are not (MQTT-1.5.3-1).
    #[error("{0} is not UTF-8")]
    NotUtf8(Field),
    /// A text that holds U+0000 (MQTT-1.5.3-2).
    #[error("{0} holds a NUL character")]
    Nul(Field),
    /// `+` or `#` in a topic name (MQTT-3.3.2-2).
    #[error("{0} holds a wildcard")]
    Wildcard(Field),
    /// A topic name or filter without a character (MQTT-4.7.3-1).
    #[error("{0} is empty")]
    Empty(Field),
    /// Packet id 0 where an answer needs one (MQTT-2.3.1-1).
    #[error("{0} has packet id 0")]
    PacketIdZero(Kind),
    /// CONNECT of a protocol other than `MQTT` (or `MQIsdp` with level 3).
    #[error("CONNECT names another protocol")]
    ProtocolName,
    /// The lowest bit of the connect flags (MQTT-3.1.2-3).
    #[error("CONNECT has its reserved flag set")]
    ConnectReservedFlag,
    /// A will with both QoS bits (MQTT-3.1.2-14).
    #[error("CONNECT has a will of QoS 3")]
    WillQos3,
    /// Will QoS or will retain without a will (MQTT-3.1.2-13, MQTT-3.1.2-15).
    #[error("CONNECT has will flags but no will")]
    WillFlagsWithoutWill,
    /// A password without a user name (MQTT-3.1.2-22).
    #[error("CONNECT has a password but no user name")]
    PasswordWithoutUserName,
    /// SUBSCRIBE or UNSUBSCRIBE with nothing in it (MQTT-3.8.3-3, MQTT-3.10.3-2), or SUBACK.
    #[error("{0} holds nothing after its packet id")]
    NoFilters(Kind),
    /// SUBSCRIBE that asks for QoS 3.
    #[error("SUBSCRIBE asks for QoS 3")]
    SubscribeQos3,
    /// Upper bits of an asked QoS (MQTT-3.8.3-4).
    #[error("SUBSCRIBE has reserved bits set beside a QoS")]
    SubscribeReservedBits,
    /// CONNACK with flags other than session-present, or with that one on a refusal (MQTT-3.2.2-4).
    #[error("CONNACK has the flags {0:#04x}")]
    ConnAckFlags(u8),
    /// A return code that CONNACK or SUBACK does not have.
    #[error("{kind} has the return code {code:#04x}")]
    ReturnCode {
        /// The type.
        kind: Kind,
        /// The byte.
        code: u8,
    },
}

/// A part of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the protocol's own")]
pub enum Field {
    ProtocolName,
    ProtocolLevel,
    ConnectFlags,
    KeepAlive,
    ClientId,
    WillTopic,
    WillMessage,
    UserName,
    Password,
    PacketId,
    Topic,
    Filter,
    SubscribeQos,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProtocolName => "the protocol name",
            Self::ProtocolLevel => "the protocol level",
            Self::ConnectFlags => "the connect flags",
            Self::KeepAlive => "the keepalive",
            Self::ClientId => "the client id",
            Self::WillTopic => "the will topic",
            Self::WillMessage => "the will message",
            Self::UserName => "the user name",
            Self::Password => "the password",
            Self::PacketId => "the packet id",
            Self::Topic => "the topic",
            Self::Filter => "a topic filter",
            Self::SubscribeQos => "an asked QoS",
        })
    }
}

/// A size that a peer may not exceed. Spec: DPS-MQTT-26.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// [`super::CONNECT_BYTES_MAX`].
    Connect,
    /// [`super::SUBSCRIBE_BYTES_MAX`].
    Subscribe,
    /// [`super::SUBSCRIBE_BYTES_MAX`].
    Unsubscribe,
    /// As large as the SUBSCRIBE that it answers.
    SubAck,
    /// [`super::PUBLISH_BYTES_MAX`]: topic and payload together, known before either of them is.
    Publish,
    /// [`topic::TOPIC_BYTES_MAX`] from a device.
    Topic,
    /// [`super::ANSWER_TOPIC_BYTES_MAX`] from the service.
    AnswerTopic,
    /// [`super::PAYLOAD_BYTES_MAX`].
    Payload,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, bytes) = match self {
            Self::Connect => ("a CONNECT", decode::CONNECT_BYTES_MAX),
            Self::Subscribe => ("a SUBSCRIBE", decode::SUBSCRIBE_BYTES_MAX),
            Self::Unsubscribe => ("an UNSUBSCRIBE", decode::SUBSCRIBE_BYTES_MAX),
            Self::SubAck => ("a SUBACK", decode::SUBSCRIBE_BYTES_MAX),
            Self::Publish => ("a PUBLISH", decode::PUBLISH_BYTES_MAX),
            Self::Topic => ("a topic", topic::TOPIC_BYTES_MAX),
            Self::AnswerTopic => ("an answer's topic", decode::ANSWER_TOPIC_BYTES_MAX),
            Self::Payload => ("a payload", decode::PAYLOAD_BYTES_MAX),
        };
        write!(f, "{what} ({bytes})")
    }
}
