//! From packets to bytes. Spec: DPS-MQTT-21, DPS-MQTT-25.

use bytes::{BufMut, BytesMut};

use super::packet::{
    ConnAck, Connect, Delivery, Packet, Publish, Qos, SubAck, Subscribe, SubscribeCode, Unsubscribe,
};

/// A text longer than 65,535 bytes, or a packet longer than the protocol's 268,435,455: neither has a spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the packet is larger than MQTT can say")]
pub struct TooLarge;

/// Largest remaining length that four bytes can tell (MQTT-2.2.3).
const REMAINING_LENGTH_MAX: usize = 268_435_455;

/// Puts `packet` at the end of `buffer`. On an error the buffer is as it was.
pub fn encode(packet: &Packet, buffer: &mut BytesMut) -> Result<(), TooLarge> {
    let remaining = remaining_length(packet)?;
    buffer.reserve(5 + remaining);
    buffer.put_u8((packet.kind() as u8) << 4 | flags(packet));
    put_remaining_length(remaining, buffer);
    match packet {
        Packet::Connect(connect) => put_connect(connect, buffer),
        Packet::ConnectOfOtherLevel { level } => {
            put_sized(protocol_name(*level), buffer);
            buffer.put_u8(*level);
        }
        Packet::ConnAck(ConnAck { session_present, code }) => {
            buffer.put_u8(u8::from(*session_present));
            buffer.put_u8(*code as u8);
        }
        Packet::Publish(Publish { topic, delivery, payload, .. }) => {
            put_sized(topic.as_bytes(), buffer);
            match delivery {
                Delivery::AtMostOnce => {}
                Delivery::AtLeastOnce { packet_id, .. } | Delivery::ExactlyOnce { packet_id, .. } => {
                    buffer.put_u16(packet_id.get());
                }
            }
            buffer.put_slice(payload);
        }
        Packet::PubAck { packet_id } => buffer.put_u16(*packet_id),
        Packet::Subscribe(Subscribe { packet_id, subscriptions }) => {
            buffer.put_u16(packet_id.get());
            for subscription in subscriptions {
                put_sized(subscription.filter.as_bytes(), buffer);
                buffer.put_u8(subscription.qos as u8);
            }
        }
        Packet::SubAck(SubAck { packet_id, codes }) => {
            buffer.put_u16(packet_id.get());
            for code in codes {
                buffer.put_u8(match code {
                    SubscribeCode::Granted(qos) => *qos as u8,
                    SubscribeCode::Refused => 0x80,
                });
            }
        }
        Packet::Unsubscribe(Unsubscribe { packet_id, filters }) => {
            buffer.put_u16(packet_id.get());
            for filter in filters {
                put_sized(filter.as_bytes(), buffer);
            }
        }
        Packet::UnsubAck { packet_id } => buffer.put_u16(packet_id.get()),
        Packet::PingReq | Packet::PingResp | Packet::Disconnect => {}
    }
    Ok(())
}

/// The bytes after the header, counted the way they are put above.
fn remaining_length(packet: &Packet) -> Result<usize, TooLarge> {
    let remaining = match packet {
        Packet::Connect(connect) => connect_length(connect)?,
        Packet::ConnectOfOtherLevel { level } => sized(protocol_name(*level))? + 1,
        Packet::ConnAck(_) | Packet::PubAck { .. } | Packet::UnsubAck { .. } => 2,
        Packet::Publish(Publish { topic, delivery, payload, .. }) => {
            let packet_id = if matches!(delivery, Delivery::AtMostOnce) { 0 } else { 2 };
            sized(topic.as_bytes())? + packet_id + payload.len()
        }
        Packet::Subscribe(Subscribe { subscriptions, .. }) => {
            subscriptions.iter().try_fold(2, |sum, line| Ok(sum + sized(line.filter.as_bytes())? + 1))?
        }
        Packet::SubAck(SubAck { codes, .. }) => 2 + codes.len(),
        Packet::Unsubscribe(Unsubscribe { filters, .. }) => {
            filters.iter().try_fold(2, |sum, filter| Ok(sum + sized(filter.as_bytes())?))?
        }
        Packet::PingReq | Packet::PingResp | Packet::Disconnect => 0,
    };
    if remaining > REMAINING_LENGTH_MAX { Err(TooLarge) } else { Ok(remaining) }
}

fn flags(packet: &Packet) -> u8 {
    match packet {
        Packet::Publish(Publish { delivery, retain, .. }) => {
            let (qos, dup) = match delivery {
                Delivery::AtMostOnce => (Qos::AtMostOnce, false),
                Delivery::AtLeastOnce { dup, .. } => (Qos::AtLeastOnce, *dup),
                Delivery::ExactlyOnce { dup, .. } => (Qos::ExactlyOnce, *dup),
            };
            u8::from(dup) << 3 | (qos as u8) << 1 | u8::from(*retain)
        }
        // MQTT-3.8.1-1, MQTT-3.10.1-1
        Packet::Subscribe(_) | Packet::Unsubscribe(_) => 0b0010,
        _ => 0,
    }
}

fn put_remaining_length(mut remaining: usize, buffer: &mut BytesMut) {
    loop {
        let seven_bits = (remaining & 0x7F) as u8;
        remaining >>= 7;
        if remaining == 0 {
            buffer.put_u8(seven_bits);
            return;
        }
        buffer.put_u8(seven_bits | 0x80);
    }
}

fn connect_length(connect: &Connect) -> Result<usize, TooLarge> {
    let mut sum = sized(b"MQTT")? + 1 + 1 + 2 + sized(connect.client_id.as_bytes())?;
    if let Some(will) = &connect.will {
        sum += sized(will.topic.as_bytes())? + sized(&will.message)?;
    }
    if let Some(credentials) = &connect.credentials {
        sum += sized(credentials.user_name.as_bytes())?;
        if let Some(password) = &credentials.password {
            sum += sized(password.expose())?;
        }
    }
    Ok(sum)
}

fn put_connect(connect: &Connect, buffer: &mut BytesMut) {
    let Connect { clean_session, keep_alive_s, client_id, will, credentials } = connect;
    let password = credentials.as_ref().and_then(|credentials| credentials.password.as_ref());
    let will_flags =
        will.as_ref().map_or(0, |will| 0x04 | (will.qos as u8) << 3 | u8::from(will.retain) << 5);
    put_sized(b"MQTT", buffer);
    buffer.put_u8(4);
    buffer.put_u8(
        u8::from(*clean_session) << 1
            | will_flags
            | u8::from(password.is_some()) << 6
            | u8::from(credentials.is_some()) << 7,
    );
    buffer.put_u16(*keep_alive_s);
    put_sized(client_id.as_bytes(), buffer);
    if let Some(will) = will {
        put_sized(will.topic.as_bytes(), buffer);
        put_sized(&will.message, buffer);
    }
    if let Some(credentials) = credentials {
        put_sized(credentials.user_name.as_bytes(), buffer);
    }
    if let Some(password) = password {
        put_sized(password.expose(), buffer);
    }
}

/// MQTT 3.1 had another name.
fn protocol_name(level: u8) -> &'static [u8] {
    if level == 3 { b"MQIsdp" } else { b"MQTT" }
}

/// The length of a field with its own length before it.
fn sized(bytes: &[u8]) -> Result<usize, TooLarge> {
    u16::try_from(bytes.len()).map(|length| 2 + usize::from(length)).map_err(|_| TooLarge)
}

/// Only for bytes that [`sized`] has counted.
fn put_sized(bytes: &[u8], buffer: &mut BytesMut) {
    buffer.put_u16(bytes.len() as u16);
    buffer.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn what_mqtt_cannot_say_leaves_the_buffer_as_it_was() {
        let mut buffer = BytesMut::from(&b"before"[..]);
        let publish = Publish {
            topic: "t".repeat(65_536).into(),
            delivery: Delivery::AtMostOnce,
            retain: false,
            payload: Bytes::new(),
        };
        assert_eq!(encode(&Packet::Publish(publish), &mut buffer), Err(TooLarge));
        assert_eq!(&buffer[..], b"before");
    }

    /// DPS-MQTT-28: the lengths at which a byte is added (MQTT-2.2.3).
    #[test]
    fn a_remaining_length_takes_one_to_four_bytes() {
        let rows: [(usize, &[u8]); 8] = [
            (0, &[0x00]),
            (127, &[0x7F]),
            (128, &[0x80, 0x01]),
            (16_383, &[0xFF, 0x7F]),
            (16_384, &[0x80, 0x80, 0x01]),
            (2_097_151, &[0xFF, 0xFF, 0x7F]),
            (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
            (REMAINING_LENGTH_MAX, &[0xFF, 0xFF, 0xFF, 0x7F]),
        ];
        for (remaining, expected) in rows {
            let mut buffer = BytesMut::new();
            put_remaining_length(remaining, &mut buffer);
            assert_eq!(&buffer[..], expected, "{remaining}");
        }
    }
}
