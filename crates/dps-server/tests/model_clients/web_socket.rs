//! As much WebSocket as the model clients have, strict where the strictest of them is: paho-java dies of a ping and of a continuation,
//! of a header without a space behind the colon and of an empty one; Node, .NET and Java want their subprotocol back.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex, split};

/// How a client asks for its WebSocket.
#[derive(Clone, Copy)]
pub(crate) struct Asks {
    pub(crate) target: &'static str,
    pub(crate) protocol: &'static str,
}

const MASK: [u8; 4] = [0x5a, 0xa5, 0x0f, 0xf0];

/// A stream of bytes over a WebSocket on `stream`; it ends where the client would not bear what the server sends.
pub(crate) async fn open(mut stream: DuplexStream, asks: Asks) -> DuplexStream {
    let Asks { target, protocol } = asks;
    let key = STANDARD.encode([7; 16]);
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: dps.example:443\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    check_head(std::str::from_utf8(&head).unwrap(), protocol);
    let (mine, theirs) = duplex(64 * 1024);
    let ((mut reader, writer), (from_client, mut to_client)) = (split(stream), split(theirs));
    tokio::spawn(async move {
        // Dropping it tells the client that the connection is gone.
        while let Some(payload) = binary_message(&mut reader).await {
            if to_client.write_all(&payload).await.is_err() {
                break;
            }
        }
        let _ = to_client.shutdown().await;
    });
    tokio::spawn(send_frames(from_client, writer));
    mine
}

fn check_head(head: &str, protocol: &str) {
    let mut lines = head.trim_end().split("\r\n");
    assert_eq!(lines.next(), Some("HTTP/1.1 101 Switching Protocols"));
    let headers: Vec<(String, &str)> = lines
        .map(|line| line.split_once(": ").unwrap_or_else(|| panic!("{line:?}")))
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    assert!(headers.iter().all(|(_, value)| !value.is_empty()), "{head}");
    let value = |name: &str| headers.iter().find(|(found, _)| found == name).map(|(_, value)| *value);
    assert!(value("upgrade").unwrap().eq_ignore_ascii_case("websocket"), "{head}");
    assert!(value("connection").unwrap().eq_ignore_ascii_case("upgrade"), "{head}");
    assert_eq!(value("sec-websocket-protocol"), Some(protocol));
    assert!(value("sec-websocket-accept").is_some() && value("sec-websocket-extensions").is_none(), "{head}");
}

/// The next message; `None` at the end, or where this client would not go on.
async fn binary_message(reader: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let (first, second) = (reader.read_u8().await.ok()?, reader.read_u8().await.ok()?);
    // Whole, binary, not masked.
    if first != 0x82 || second >= 0x80 {
        return None;
    }
    let length = match second {
        126 => usize::from(reader.read_u16().await.ok()?),
        short => usize::from(short),
    };
    let mut payload = vec![0; length];
    reader.read_exact(&mut payload).await.ok()?;
    Some(payload)
}

/// Whatever the client writes at once becomes a frame.
async fn send_frames(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut bytes = [0; 4_096];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        let mut frame = vec![0x82];
        match length {
            0..126 => frame.push(0x80 | length as u8),
            _ => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
        }
        frame.extend_from_slice(&MASK);
        frame.extend(bytes[..length].iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        if to.write_all(&frame).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
