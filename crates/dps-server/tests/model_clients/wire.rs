//! As much MQTT as the model clients need, written apart from the service's own codec so that something else judges it.

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf, split};

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
    /// The packet id and the one code.
    SubAck(u16, u8),
    PubAck(u16),
    Publish {
        topic: String,
        qos: u8,
        id: u16,
        retain: bool,
        duplicate: bool,
        payload: String,
    },
    PingResp,
    Disconnect,
    /// Nothing that may be sent.
    Malformed,
}

/// One end of a connection.
pub(crate) struct Link<S> {
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    buffer: BytesMut,
}

impl<S: AsyncRead + AsyncWrite> Link<S> {
    pub(crate) fn new(stream: S) -> Self {
        let (reader, writer) = split(stream);
        Self { reader, writer, buffer: BytesMut::new() }
    }

    /// Reads meanwhile: the other side may be sending too, and neither waits for the other.
    pub(crate) async fn send(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        while !bytes.is_empty() {
            tokio::select! {
                written = self.writer.write(bytes) => {
                    bytes = &bytes[written.map_err(|_| "the connection was closed")?..];
                }
                read = self.reader.read_buf(&mut self.buffer) => {
                    read.ok().filter(|bytes| *bytes > 0).ok_or("the connection was closed")?;
                }
            }
        }
        Ok(())
    }

    /// The next packet; `None` at the end of the stream. Nothing is lost when the wait is broken off.
    pub(crate) async fn next(&mut self) -> Option<Seen> {
        loop {
            if let Some(seen) = take(&mut self.buffer) {
                return Some(seen);
            }
            if self.reader.read_buf(&mut self.buffer).await.ok()? == 0 {
                return None;
            }
        }
    }
}

/// The first packet, if it is there whole.
fn take(buffer: &mut BytesMut) -> Option<Seen> {
    let (mut length, mut at) = (0usize, 1);
    loop {
        let digit = *buffer.get(at)?;
        length |= usize::from(digit & 0x7F) << (7 * (at - 1));
        at += 1;
        if digit & 0x80 == 0 {
            // The shortest form only, and no fifth digit.
            if digit == 0 && at > 2 {
                return Some(Seen::Malformed);
            }
            break;
        }
        if at == 5 {
            return Some(Seen::Malformed);
        }
    }
    if buffer.len() < at + length {
        return None;
    }
    let packet = buffer.split_to(at + length);
    Some(parse(packet[0], &packet[at..]).unwrap_or(Seen::Malformed))
}

fn parse(first: u8, body: &[u8]) -> Option<Seen> {
    let number = |at: usize| Some(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]));
    Some(match (first, body) {
        (0x10, _) => Seen::Connect,
        (0x20, [flags @ (0 | 1), code]) => Seen::ConnAck { session_present: *flags == 1, code: *code },
        (0x82, [.., qos]) => Seen::Subscribe(*qos),
        (0x90, [_, _, code @ (0 | 1 | 0x80)]) => Seen::SubAck(number(0)?, *code),
        (0x40, [_, _]) => Seen::PubAck(number(0)?),
        (0xD0, []) => Seen::PingResp,
        (0xE0, []) => Seen::Disconnect,
        _ if first >> 4 == 3 && (first >> 1) & 3 < 2 => {
            let (qos, end) = ((first >> 1) & 3, 2 + usize::from(number(0)?));
            let id = if qos > 0 { number(end).filter(|id| *id > 0)? } else { 0 };
            let topic = String::from_utf8(body.get(2..end)?.to_vec()).ok()?;
            let payload = body.get(end + if qos > 0 { 2 } else { 0 }..)?;
            let payload = String::from_utf8(payload.to_vec()).ok()?;
            Seen::Publish { topic, qos, id, retain: first & 1 == 1, duplicate: first & 8 == 8, payload }
        }
        _ => return None,
    })
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

fn text(value: &str) -> Vec<u8> {
    let mut bytes = (value.len() as u16).to_be_bytes().to_vec();
    bytes.extend_from_slice(value.as_bytes());
    bytes
}

pub(crate) fn connect(
    client_id: &str,
    user: &str,
    password: Option<&str>,
    clean: bool,
    keep_alive_s: u16,
) -> Vec<u8> {
    let mut content = text("MQTT");
    let flags = 0x80 | if clean { 0x02 } else { 0 } | if password.is_some() { 0x40 } else { 0 };
    content.extend([4, flags]);
    content.extend(keep_alive_s.to_be_bytes());
    for part in [client_id, user].into_iter().chain(password) {
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
