//! As much MQTT as the model clients need, written apart from the service's own codec so that something else judges it.

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// A packet as a client or a scripted server sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Connect,
    ConnAck {
        session_present: bool,
        code: u8,
    },
    /// The asked QoS.
    Subscribe(u8),
    SubAck(Vec<u8>),
    PubAck(u16),
    Publish {
        topic: String,
        qos: u8,
        id: u16,
        retain: bool,
        duplicate: bool,
        payload: String,
    },
    Other(u8),
}

pub(crate) fn packet(first: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = content.len();
    loop {
        let digit = (length % 128) as u8;
        length /= 128;
        bytes.push(if length > 0 { digit | 0x80 } else { digit });
        if length == 0 {
            break;
        }
    }
    bytes.extend_from_slice(content);
    bytes
}

pub(crate) fn text(value: &str) -> Vec<u8> {
    let mut bytes = (value.len() as u16).to_be_bytes().to_vec();
    bytes.extend_from_slice(value.as_bytes());
    bytes
}

pub(crate) fn connect(
    client_id: &str,
    user: &str,
    password: &str,
    clean: bool,
    keep_alive_s: u16,
) -> Vec<u8> {
    let mut content = text("MQTT");
    content.extend([4, if clean { 0xC2 } else { 0xC0 }]);
    content.extend(keep_alive_s.to_be_bytes());
    for part in [client_id, user, password] {
        content.extend(text(part));
    }
    packet(0x10, &content)
}

pub(crate) fn subscribe(qos: u8) -> Vec<u8> {
    let mut content = vec![0, 1];
    content.extend(text("$dps/registrations/res/#"));
    content.push(qos);
    packet(0x82, &content)
}

pub(crate) fn publish(topic: &str, qos: u8, id: u16, body: &str) -> Vec<u8> {
    let mut content = text(topic);
    if qos > 0 {
        content.extend(id.to_be_bytes());
    }
    content.extend_from_slice(body.as_bytes());
    packet(0x30 | qos << 1, &content)
}

/// The next packet; `None` at the end of the stream.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Seen> {
    let first = stream.read_u8().await.ok()?;
    let (mut length, mut shift) = (0usize, 0);
    loop {
        let digit = stream.read_u8().await.ok()?;
        length |= usize::from(digit & 0x7F) << shift;
        shift += 7;
        if digit & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(match first >> 4 {
        1 => Seen::Connect,
        2 => Seen::ConnAck { session_present: body[0] & 1 == 1, code: body[1] },
        8 => Seen::Subscribe(body[body.len() - 1]),
        9 => Seen::SubAck(body[2..].to_vec()),
        4 => Seen::PubAck(u16::from_be_bytes([body[0], body[1]])),
        3 => {
            let (qos, at) = ((first >> 1) & 3, 2 + usize::from(u16::from_be_bytes([body[0], body[1]])));
            let topic = String::from_utf8(body[2..at].to_vec()).unwrap();
            let id = if qos > 0 { u16::from_be_bytes([body[at], body[at + 1]]) } else { 0 };
            let payload = String::from_utf8(body[at + if qos > 0 { 2 } else { 0 }..].to_vec()).unwrap();
            Seen::Publish { topic, qos, id, retain: first & 1 == 1, duplicate: first & 8 == 8, payload }
        }
        _ => Seen::Other(first),
    })
}
