//! MQTT 3.1.1 control packets as values. Spec: DPS-MQTT-1, DPS-MQTT-6, DPS-MQTT-7, DPS-MQTT-12, DPS-MQTT-22.
//!
//! Much of what the protocol forbids has no spelling here: a packet id of 0 where one is needed, a repeated QoS 0
//! message, a password without a user name. The rest is refused by [`super::decode()`].

use std::fmt;
use std::num::NonZeroU16;

use bytes::Bytes;

use super::Password;

/// One control packet of either direction.
///
/// The QoS 2 handshake (PUBREC, PUBREL, PUBCOMP) is missing on purpose: it is refused by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// The device's first packet.
    Connect(Connect),
    /// A CONNECT of a protocol level that is not served; nothing after the level was read. Spec: DPS-MQTT-1.
    ConnectOfOtherLevel {
        /// The level; 3 for MQTT 3.1, 5 for MQTT 5.
        level: u8,
    },
    /// The answer to CONNECT.
    ConnAck(ConnAck),
    /// A message, in either direction.
    Publish(Publish),
    /// The receipt of a QoS 1 message.
    PubAck {
        /// That of the message; devices send 0 too, for messages without one. Spec: DPS-MQTT-22.
        packet_id: u16,
    },
    /// Asks for messages.
    Subscribe(Subscribe),
    /// The answer to SUBSCRIBE.
    SubAck(SubAck),
    /// Asks for no more messages.
    Unsubscribe(Unsubscribe),
    /// The answer to UNSUBSCRIBE.
    UnsubAck {
        /// That of the UNSUBSCRIBE.
        packet_id: NonZeroU16,
    },
    /// Asks for a sign of life.
    PingReq,
    /// The sign of life.
    PingResp,
    /// The device's last packet.
    Disconnect,
}

impl Packet {
    /// Its control packet type.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Connect(_) | Self::ConnectOfOtherLevel { .. } => Kind::Connect,
            Self::ConnAck(_) => Kind::ConnAck,
            Self::Publish(_) => Kind::Publish,
            Self::PubAck { .. } => Kind::PubAck,
            Self::Subscribe(_) => Kind::Subscribe,
            Self::SubAck(_) => Kind::SubAck,
            Self::Unsubscribe(_) => Kind::Unsubscribe,
            Self::UnsubAck { .. } => Kind::UnsubAck,
            Self::PingReq => Kind::PingReq,
            Self::PingResp => Kind::PingResp,
            Self::Disconnect => Kind::Disconnect,
        }
    }
}

/// Which side of the connection sent something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The device.
    Client,
    /// The service.
    Server,
}

/// The control packet types (MQTT-2.2.1), as the first four bits of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are the protocol's own")]
pub enum Kind {
    Connect = 1,
    ConnAck = 2,
    Publish = 3,
    PubAck = 4,
    PubRec = 5,
    PubRel = 6,
    PubComp = 7,
    Subscribe = 8,
    SubAck = 9,
    Unsubscribe = 10,
    UnsubAck = 11,
    PingReq = 12,
    PingResp = 13,
    Disconnect = 14,
}

impl Kind {
    const ALL: [(Self, &'static str); 14] = [
        (Self::Connect, "CONNECT"),
        (Self::ConnAck, "CONNACK"),
        (Self::Publish, "PUBLISH"),
        (Self::PubAck, "PUBACK"),
        (Self::PubRec, "PUBREC"),
        (Self::PubRel, "PUBREL"),
        (Self::PubComp, "PUBCOMP"),
        (Self::Subscribe, "SUBSCRIBE"),
        (Self::SubAck, "SUBACK"),
        (Self::Unsubscribe, "UNSUBSCRIBE"),
        (Self::UnsubAck, "UNSUBACK"),
        (Self::PingReq, "PINGREQ"),
        (Self::PingResp, "PINGRESP"),
        (Self::Disconnect, "DISCONNECT"),
    ];

    /// The type that a packet's first byte names; `None` for the reserved types 0 and 15.
    pub fn of(first_byte: u8) -> Option<Self> {
        let index = usize::from(first_byte >> 4).checked_sub(1)?;
        Self::ALL.get(index).map(|(kind, _)| *kind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL[*self as usize - 1].1)
    }
}

/// Quality of service: how hard the sender tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    /// 0: sent once.
    AtMostOnce,
    /// 1: sent until a PUBACK comes.
    AtLeastOnce,
    /// 2: not served. Spec: DPS-MQTT-12, DPS-MQTT-16.
    ExactlyOnce,
}

impl Qos {
    /// The QoS that two bits name; `None` for 3.
    pub fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// What a device says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// Whether the device wants nothing restored; nothing ever is. Spec: DPS-MQTT-6.
    pub clean_session: bool,
    /// Seconds after which the device promises a packet; 0 promises nothing. Spec: DPS-MQTT-8.
    pub keep_alive_s: u16,
    /// The name of the connection; may be empty here.
    pub client_id: Box<str>,
    /// A message in case the device is lost; read and ignored. Spec: DPS-MQTT-7.
    pub will: Option<Will>,
    /// Who the device says it is, and how it proves that.
    pub credentials: Option<Credentials>,
}

/// User name and password of a CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Any text.
    pub user_name: Box<str>,
    /// Missing where the device shows a certificate.
    pub password: Option<Password>,
}

/// The message that a broker would publish for a lost client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// A topic name.
    pub topic: Box<str>,
    /// Any bytes.
    pub message: Bytes,
    /// How hard to try.
    pub qos: Qos,
    /// Whether to keep it.
    pub retain: bool,
}

/// The answer to CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnAck {
    /// Whether an earlier session goes on; this service says never. Spec: DPS-MQTT-6.
    pub session_present: bool,
    /// Whether the device is let in.
    pub code: ConnectCode,
}

/// The return codes of CONNACK (MQTT-3.2.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ConnectCode {
    /// 0.
    Accepted = 0,
    /// 1: the protocol level is not served.
    UnservedLevel = 1,
    /// 2: the client id is not the registration id.
    ClientIdRejected = 2,
    /// 3: not now.
    ServerUnavailable = 3,
    /// 4: the user name or password is malformed.
    BadLogin = 4,
    /// 5: no such ID scope.
    NotAuthorized = 5,
}

impl ConnectCode {
    /// The code of a byte; `None` for the reserved ones above 5.
    pub fn from_byte(byte: u8) -> Option<Self> {
        use ConnectCode::*;
        [Accepted, UnservedLevel, ClientIdRejected, ServerUnavailable, BadLogin, NotAuthorized]
            .get(usize::from(byte))
            .copied()
    }
}

/// A message. Its `Debug` tells the size of the payload only.
#[derive(Clone, PartialEq, Eq)]
pub struct Publish {
    /// A topic name: not empty, no wildcards.
    pub topic: Box<str>,
    /// Its QoS with what belongs to it.
    pub delivery: Delivery,
    /// Ignored. Spec: DPS-MQTT-7.
    pub retain: bool,
    /// Any bytes.
    pub payload: Bytes,
}

impl fmt::Debug for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, delivery, retain, payload } = self;
        write!(f, "Publish {{ topic: {topic:?}, delivery: {delivery:?}, retain: {retain}, payload: ")?;
        write!(f, "{} bytes }}", payload.len())
    }
}

/// The QoS of a message; only above 0 does it have an id and may be a repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1: the receiver answers PUBACK with this id.
    AtLeastOnce {
        /// Chosen by the sender.
        packet_id: NonZeroU16,
        /// Whether it may have been sent before.
        dup: bool,
    },
    /// QoS 2: read so that it can be refused by name. Spec: DPS-MQTT-16.
    ExactlyOnce {
        /// Chosen by the sender.
        packet_id: NonZeroU16,
        /// Whether it may have been sent before.
        dup: bool,
    },
}

/// Asks for the messages of some topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Chosen by the device.
    pub packet_id: NonZeroU16,
    /// At least one.
    pub subscriptions: Vec<Subscription>,
}

/// One line of a SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// A topic filter: not empty; whether its wildcards stand right is not judged. Spec: DPS-MQTT-11.
    pub filter: Box<str>,
    /// The highest QoS that the device wants.
    pub qos: Qos,
}

/// The answer to SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubAck {
    /// That of the SUBSCRIBE.
    pub packet_id: NonZeroU16,
    /// One for each subscription, in their order; at least one.
    pub codes: Vec<SubscribeCode>,
}

/// What became of one subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscribeCode {
    /// 0 to 2: messages come with at most this QoS. Spec: DPS-MQTT-12.
    Granted(Qos),
    /// 0x80: no messages come. Spec: DPS-MQTT-11.
    Refused,
}

/// Asks for no more messages of some topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Chosen by the device.
    pub packet_id: NonZeroU16,
    /// At least one, none of them empty.
    pub filters: Vec<Box<str>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-MQTT-28
    #[test]
    fn every_first_byte_names_its_type_or_none() {
        for first_byte in 0..=255u8 {
            match Kind::of(first_byte) {
                Some(kind) => assert_eq!(kind as u8, first_byte >> 4),
                None => assert!(matches!(first_byte >> 4, 0 | 15), "{first_byte:#x}"),
            }
        }
        assert_eq!(
            (Kind::Connect.to_string(), Kind::Disconnect.to_string()),
            ("CONNECT".into(), "DISCONNECT".into())
        );
    }

    /// DPS-MQTT-5
    #[test]
    fn what_a_log_shows_of_a_packet_holds_neither_password_nor_payload() {
        let connect = Connect {
            clean_session: true,
            keep_alive_s: 0,
            client_id: "dev".into(),
            will: None,
            credentials: Some(Credentials {
                user_name: "0ne1/registrations/dev/".into(),
                password: Some(Password::new(*b"secret")),
            }),
        };
        let publish = Publish {
            topic: "t".into(),
            delivery: Delivery::AtMostOnce,
            retain: false,
            payload: Bytes::from_static(b"secret"),
        };
        for packet in [Packet::Connect(connect), Packet::Publish(publish)] {
            let text = format!("{packet:?}");
            assert!(!text.contains("secret") && !text.contains("115, 101"), "{text}");
        }
    }
}
