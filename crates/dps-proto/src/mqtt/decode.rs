//! From bytes to packets. Spec: DPS-MQTT-1, DPS-MQTT-26, DPS-MQTT-28.
//!
//! A packet is judged as early as its bytes allow: type and flags on the first byte, sizes on the announced lengths,
//! the rest once it is whole. Nothing is reserved for a length that was only announced.

use std::num::NonZeroU16;

use bytes::{Buf, Bytes, BytesMut};
use zeroize::Zeroize;

use super::packet::{
    ConnAck, Connect, ConnectCode, Credentials, Delivery, Kind, Packet, Peer, Publish, Qos, SubAck,
    Subscribe, SubscribeCode, Subscription, Unsubscribe, Will,
};
use super::{Field, Limit, Malformed, Password};
use crate::topic::TOPIC_BYTES_MAX;

/// Largest remaining length of a CONNECT. Spec: DPS-MQTT-26.
pub const CONNECT_BYTES_MAX: usize = 8 * 1_024;
/// Largest remaining length of a SUBSCRIBE or UNSUBSCRIBE. Spec: DPS-MQTT-26.
pub const SUBSCRIBE_BYTES_MAX: usize = 4 * 1_024;
/// Largest payload of a PUBLISH. Spec: DPS-MQTT-26.
pub const PAYLOAD_BYTES_MAX: usize = 96 * 1_024;
/// Longest topic that a service may send: a `$rid` may fill the topic it came in, and what an answer puts around it is
/// longer.
pub const ANSWER_TOPIC_BYTES_MAX: usize = TOPIC_BYTES_MAX + 64;
/// Largest remaining length of any PUBLISH: two lengths of two bytes, topic and payload. Spec: DPS-MQTT-26.
pub const PUBLISH_BYTES_MAX: usize = 4 + ANSWER_TOPIC_BYTES_MAX + PAYLOAD_BYTES_MAX;

/// Takes one packet that `from` sent off the front of `buffer`; `None` when more bytes are needed.
///
/// After an error the connection is lost: where the next packet would begin is not known. The bytes of a CONNECT are
/// wiped from the buffer, for they hold a secret. Spec: DPS-MQTT-26, DPS-MQTT-28.
pub fn decode(buffer: &mut BytesMut, from: Peer) -> Result<Option<Packet>, Malformed> {
    let Some(header) = Header::read(buffer, from)? else {
        return Ok(None);
    };
    if header.kind == Kind::Publish {
        header.judge_publish_lengths(&buffer[header.length..], from)?;
    }
    let whole = header.length + header.remaining;
    if buffer.len() < whole {
        return Ok(None);
    }
    if header.kind == Kind::Publish {
        // The payload stays where it is; every other packet is copied out, which leaves the buffer unshared.
        let body = buffer.split_to(whole).freeze().slice(header.length..);
        return publish(header.flags, &body).map(Some);
    }
    let packet = body_of(header.kind, &buffer[header.length..whole]);
    if header.kind == Kind::Connect {
        buffer[..whole].zeroize();
    }
    buffer.advance(whole);
    packet.map(Some)
}

/// How many bytes the packet has that `bytes` begin with; `None` where that cannot be told yet, or never.
pub fn packet_length(bytes: &[u8]) -> Option<usize> {
    let (remaining, bytes) = remaining_length(bytes.get(1..)?).ok()??;
    Some(1 + bytes + remaining)
}

/// Type, flags and remaining length: two to five bytes.
#[derive(Clone, Copy)]
struct Header {
    kind: Kind,
    flags: u8,
    length: usize,
    remaining: usize,
}

impl Header {
    fn read(buffer: &[u8], from: Peer) -> Result<Option<Self>, Malformed> {
        let Some((&first, rest)) = buffer.split_first() else {
            return Ok(None);
        };
        let kind = Kind::of(first).ok_or(Malformed::ReservedType(first >> 4))?;
        judge_direction(kind, from)?;
        let flags = first & 0x0F;
        judge_flags(kind, flags)?;
        let Some((remaining, bytes)) = remaining_length(rest)? else {
            return Ok(None);
        };
        judge_remaining_length(kind, from, remaining)?;
        Ok(Some(Self { kind, flags, length: 1 + bytes, remaining }))
    }

    /// `after` is what is there after the header, the beginning of a next packet included.
    fn judge_publish_lengths(&self, after: &[u8], from: Peer) -> Result<(), Malformed> {
        let rest = self.remaining.checked_sub(2).ok_or(Malformed::EndsInside(Field::Topic))?;
        let Some(announced) = after.first_chunk::<2>() else {
            return Ok(());
        };
        let topic = usize::from(u16::from_be_bytes(*announced));
        let (limit, bytes_max) = match from {
            Peer::Client => (Limit::Topic, TOPIC_BYTES_MAX),
            Peer::Server => (Limit::AnswerTopic, ANSWER_TOPIC_BYTES_MAX),
        };
        if topic > bytes_max {
            return Err(Malformed::Oversize { limit, bytes: topic });
        }
        let packet_id = if self.flags & 0b0110 == 0 { 0 } else { 2 };
        let payload = rest
            .checked_sub(topic)
            .ok_or(Malformed::EndsInside(Field::Topic))?
            .checked_sub(packet_id)
            .ok_or(Malformed::EndsInside(Field::PacketId))?;
        within(Limit::Payload, payload, PAYLOAD_BYTES_MAX)
    }
}

fn judge_direction(kind: Kind, from: Peer) -> Result<(), Malformed> {
    let sender = match kind {
        Kind::PubRec | Kind::PubRel | Kind::PubComp => return Err(Malformed::Qos2Handshake(kind)),
        Kind::Publish | Kind::PubAck => return Ok(()),
        Kind::Connect | Kind::Subscribe | Kind::Unsubscribe | Kind::PingReq | Kind::Disconnect => {
            Peer::Client
        }
        Kind::ConnAck | Kind::SubAck | Kind::UnsubAck | Kind::PingResp => Peer::Server,
    };
    if sender == from { Ok(()) } else { Err(Malformed::WrongSide(kind)) }
}

fn judge_flags(kind: Kind, flags: u8) -> Result<(), Malformed> {
    match kind {
        Kind::Publish if flags & 0b0110 == 0b0110 => Err(Malformed::PublishQos3),
        Kind::Publish if flags & 0b1110 == 0b1000 => Err(Malformed::DupWithoutQos),
        Kind::Publish => Ok(()),
        Kind::Subscribe | Kind::Unsubscribe if flags == 0b0010 => Ok(()),
        Kind::Subscribe | Kind::Unsubscribe => Err(Malformed::HeaderFlags { kind, flags }),
        _ if flags == 0 => Ok(()),
        _ => Err(Malformed::HeaderFlags { kind, flags }),
    }
}

/// The value and how many bytes tell it. Seven bits a byte, the lowest first (MQTT-2.2.3).
fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((value, at + 1)));
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(Malformed::RemainingLength) }
}

fn judge_remaining_length(kind: Kind, from: Peer, remaining: usize) -> Result<(), Malformed> {
    let fixed =
        |bytes| if remaining == bytes { Ok(()) } else { Err(Malformed::FixedLength { kind, remaining }) };
    match kind {
        Kind::Connect => within(Limit::Connect, remaining, CONNECT_BYTES_MAX),
        // Of a device, topics are shorter still.
        Kind::Publish if from == Peer::Client => {
            within(Limit::Publish, remaining, 4 + TOPIC_BYTES_MAX + PAYLOAD_BYTES_MAX)
        }
        Kind::Publish => within(Limit::Publish, remaining, PUBLISH_BYTES_MAX),
        Kind::Subscribe => within(Limit::Subscribe, remaining, SUBSCRIBE_BYTES_MAX),
        Kind::SubAck => within(Limit::SubAck, remaining, SUBSCRIBE_BYTES_MAX),
        Kind::Unsubscribe => within(Limit::Unsubscribe, remaining, SUBSCRIBE_BYTES_MAX),
        Kind::ConnAck | Kind::PubAck | Kind::PubRec | Kind::PubRel | Kind::PubComp | Kind::UnsubAck => {
            fixed(2)
        }
        Kind::PingReq | Kind::PingResp | Kind::Disconnect => fixed(0),
    }
}

fn within(limit: Limit, bytes: usize, bytes_max: usize) -> Result<(), Malformed> {
    if bytes <= bytes_max { Ok(()) } else { Err(Malformed::Oversize { limit, bytes }) }
}

/// Every packet but PUBLISH, from what follows its header.
fn body_of(kind: Kind, body: &[u8]) -> Result<Packet, Malformed> {
    let mut reader = Reader { kind, rest: body };
    let packet = match kind {
        Kind::Connect => connect(&mut reader)?,
        Kind::ConnAck => Packet::ConnAck(conn_ack(&mut reader)?),
        Kind::PubAck => Packet::PubAck { packet_id: reader.number(Field::PacketId)? },
        Kind::Subscribe => Packet::Subscribe(subscribe(&mut reader)?),
        Kind::SubAck => Packet::SubAck(sub_ack(&mut reader)?),
        Kind::Unsubscribe => Packet::Unsubscribe(unsubscribe(&mut reader)?),
        Kind::UnsubAck => Packet::UnsubAck { packet_id: reader.packet_id()? },
        Kind::PingReq => Packet::PingReq,
        Kind::PingResp => Packet::PingResp,
        Kind::Disconnect => Packet::Disconnect,
        // PUBLISH is read by itself, the others were refused with their header.
        Kind::Publish | Kind::PubRec | Kind::PubRel | Kind::PubComp => {
            return Err(Malformed::Qos2Handshake(kind));
        }
    };
    reader.end()?;
    Ok(packet)
}

fn publish(flags: u8, body: &Bytes) -> Result<Packet, Malformed> {
    let mut reader = Reader { kind: Kind::Publish, rest: body };
    let topic = reader.topic_name(Field::Topic)?.into();
    let dup = flags & 0b1000 != 0;
    let delivery = match flags >> 1 & 0b11 {
        0 => Delivery::AtMostOnce,
        1 => Delivery::AtLeastOnce { packet_id: reader.packet_id()?, dup },
        _ => Delivery::ExactlyOnce { packet_id: reader.packet_id()?, dup },
    };
    let payload = body.slice(body.len() - reader.rest.len()..);
    Ok(Packet::Publish(Publish { topic, delivery, retain: flags & 1 != 0, payload }))
}

fn connect(reader: &mut Reader<'_>) -> Result<Packet, Malformed> {
    let name = reader.bytes(Field::ProtocolName)?;
    match (name, reader.byte(Field::ProtocolLevel)?) {
        (b"MQTT", 4) => {}
        (b"MQTT", level) | (b"MQIsdp", level @ 3) => {
            // What follows is another protocol's.
            reader.rest = &[];
            return Ok(Packet::ConnectOfOtherLevel { level });
        }
        _ => return Err(Malformed::ProtocolName),
    }
    let flags = reader.byte(Field::ConnectFlags)?;
    let set = |bit: u8| flags & bit != 0;
    let (clean_session, has_will, will_retain) = (set(0x02), set(0x04), set(0x20));
    let (has_password, has_user_name) = (set(0x40), set(0x80));
    if set(0x01) {
        return Err(Malformed::ConnectReservedFlag);
    }
    let will_qos = Qos::from_bits(flags >> 3 & 0b11).ok_or(Malformed::WillQos3)?;
    if !has_will && (will_retain || will_qos != Qos::AtMostOnce) {
        return Err(Malformed::WillFlagsWithoutWill);
    }
    if has_password && !has_user_name {
        return Err(Malformed::PasswordWithoutUserName);
    }
    let keep_alive_s = reader.number(Field::KeepAlive)?;
    let client_id = reader.text(Field::ClientId)?.into();
    let will = if has_will {
        let topic = reader.topic_name(Field::WillTopic)?.into();
        let message = Bytes::copy_from_slice(reader.bytes(Field::WillMessage)?);
        Some(Will { topic, message, qos: will_qos, retain: will_retain })
    } else {
        None
    };
    let credentials = if has_user_name {
        let user_name = reader.text(Field::UserName)?.into();
        let password = if has_password { Some(Password::new(reader.bytes(Field::Password)?)) } else { None };
        Some(Credentials { user_name, password })
    } else {
        None
    };
    Ok(Packet::Connect(Connect { clean_session, keep_alive_s, client_id, will, credentials }))
}

fn conn_ack(reader: &mut Reader<'_>) -> Result<ConnAck, Malformed> {
    // Its two bytes are there: FixedLength was judged.
    let flags = reader.byte(Field::ConnectFlags)?;
    let byte = reader.byte(Field::ConnectFlags)?;
    let code =
        ConnectCode::from_byte(byte).ok_or(Malformed::ReturnCode { kind: Kind::ConnAck, code: byte })?;
    if flags > u8::from(code == ConnectCode::Accepted) {
        return Err(Malformed::ConnAckFlags(flags));
    }
    Ok(ConnAck { session_present: flags == 1, code })
}

fn subscribe(reader: &mut Reader<'_>) -> Result<Subscribe, Malformed> {
    let packet_id = reader.packet_id()?;
    let mut subscriptions = Vec::new();
    while !reader.rest.is_empty() {
        let filter = reader.filter()?;
        let qos = reader.byte(Field::SubscribeQos)?;
        if qos & !0b11 != 0 {
            return Err(Malformed::SubscribeReservedBits);
        }
        subscriptions
            .push(Subscription { filter, qos: Qos::from_bits(qos).ok_or(Malformed::SubscribeQos3)? });
    }
    if subscriptions.is_empty() {
        return Err(Malformed::NoFilters(Kind::Subscribe));
    }
    Ok(Subscribe { packet_id, subscriptions })
}

fn sub_ack(reader: &mut Reader<'_>) -> Result<SubAck, Malformed> {
    let packet_id = reader.packet_id()?;
    let mut codes = Vec::new();
    for &byte in std::mem::take(&mut reader.rest) {
        codes.push(match byte {
            0x80 => SubscribeCode::Refused,
            _ => Qos::from_bits(byte)
                .map(SubscribeCode::Granted)
                .ok_or(Malformed::ReturnCode { kind: Kind::SubAck, code: byte })?,
        });
    }
    if codes.is_empty() {
        return Err(Malformed::NoFilters(Kind::SubAck));
    }
    Ok(SubAck { packet_id, codes })
}

fn unsubscribe(reader: &mut Reader<'_>) -> Result<Unsubscribe, Malformed> {
    let packet_id = reader.packet_id()?;
    let mut filters = Vec::new();
    while !reader.rest.is_empty() {
        filters.push(reader.filter()?);
    }
    if filters.is_empty() {
        return Err(Malformed::NoFilters(Kind::Unsubscribe));
    }
    Ok(Unsubscribe { packet_id, filters })
}

/// Takes fields off the front of a packet's body and never looks past its end.
struct Reader<'p> {
    kind: Kind,
    rest: &'p [u8],
}

impl<'p> Reader<'p> {
    fn take(&mut self, bytes: usize, field: Field) -> Result<&'p [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(Malformed::EndsInside(field))?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self, field: Field) -> Result<u8, Malformed> {
        self.take(1, field).map(|bytes| bytes[0])
    }

    fn number(&mut self, field: Field) -> Result<u16, Malformed> {
        self.take(2, field).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn packet_id(&mut self) -> Result<NonZeroU16, Malformed> {
        NonZeroU16::new(self.number(Field::PacketId)?).ok_or(Malformed::PacketIdZero(self.kind))
    }

    /// Bytes with their length before them.
    fn bytes(&mut self, field: Field) -> Result<&'p [u8], Malformed> {
        let length = self.number(field)?;
        self.take(usize::from(length), field)
    }

    fn text(&mut self, field: Field) -> Result<&'p str, Malformed> {
        let text = std::str::from_utf8(self.bytes(field)?).map_err(|_| Malformed::NotUtf8(field))?;
        if text.contains('\0') { Err(Malformed::Nul(field)) } else { Ok(text) }
    }

    fn topic_name(&mut self, field: Field) -> Result<&'p str, Malformed> {
        let text = self.text(field)?;
        match text {
            "" => Err(Malformed::Empty(field)),
            _ if text.contains(['+', '#']) => Err(Malformed::Wildcard(field)),
            _ => Ok(text),
        }
    }

    fn filter(&mut self) -> Result<Box<str>, Malformed> {
        match self.text(Field::Filter)? {
            "" => Err(Malformed::Empty(Field::Filter)),
            text => Ok(text.into()),
        }
    }

    fn end(self) -> Result<(), Malformed> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(Malformed::TrailingBytes { kind: self.kind, bytes }),
        }
    }
}
