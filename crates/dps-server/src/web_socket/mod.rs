//! A WebSocket as a stream of bytes, under the same loop as TLS. Spec: DPS-WS-4 to DPS-WS-8 (docs/spec/websocket.md).

pub(crate) mod handshake;
mod meter;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use dps_proto::mqtt::packet_length;
use futures_util::{Sink, Stream};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::client_certificates::DeviceStream;
use crate::limits::{BudgetSpent, Charge};
use crate::watched::Watched;
use meter::Meter;

/// Most bytes of a message, and so of a frame: the largest PUBLISH with its topic fits. Spec: DPS-WS-7.
const MESSAGE_BYTES_MAX: usize = 100 * 1024;

/// What each connection sets aside for reading; the library would take 128 KiB. Spec: DPS-WS-8.
const READ_BUFFER_BYTES: usize = 2 * 1024;

/// Most bytes that wait to be written: more than the largest answer.
const WRITE_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// A device's end of a WebSocket.
pub(crate) struct WebSocket<S> {
    frames: WebSocketStream<Watched<S, Meter>>,
    /// What is left of the message that came last.
    message: Bytes,
}

/// What a device may not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebSocketFault {
    /// Spec: DPS-WS-7.
    #[error("the device sent a text message; MQTT is binary")]
    Text,
    /// Spec: DPS-WS-7.
    #[error("the device sent a frame or message of more than {MESSAGE_BYTES_MAX} bytes")]
    TooLong,
    /// Spec: DPS-WS-7.
    #[error("the device broke the rules of WebSocket: {0}")]
    Protocol(String),
    /// Spec: DPS-MQTT-30.
    #[error("{BudgetSpent}")]
    NoRoom,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// What came behind the request is `read` already. What it sends until it is attested counts against `charge`.
    pub(crate) async fn new(stream: S, read: Bytes, charge: Charge) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let stream = Watched::by(Meter::new(charge), stream);
        // A copy: the bytes that were read stand in a buffer of HTTP, which would be kept for life.
        let read = read.to_vec();
        let frames = WebSocketStream::from_partially_read(stream, read, Role::Server, Some(config)).await;
        Self { frames, message: Bytes::new() }
    }

    /// Says goodbye with a reason, as far as the device listens.
    fn refuse(&mut self, context: &mut Context<'_>, fault: WebSocketFault) -> io::Error {
        let code = match fault {
            WebSocketFault::Text => CloseCode::Unsupported,
            WebSocketFault::TooLong => CloseCode::Size,
            WebSocketFault::Protocol(_) => CloseCode::Protocol,
            WebSocketFault::NoRoom => CloseCode::Again,
        };
        let close = Message::Close(Some(CloseFrame { code, reason: "".into() }));
        let mut frames = Pin::new(&mut self.frames);
        if let Poll::Ready(Ok(())) = frames.as_mut().poll_ready(context)
            && frames.as_mut().start_send(close).is_ok()
        {
            // What cannot be sent at once goes with the rest of the connection.
            let _ = frames.poll_flush(context);
        }
        io::Error::other(fault)
    }
}

impl<S: DeviceStream> DeviceStream for WebSocket<S> {
    fn certificates(&self) -> &[CertificateDer<'static>] {
        self.frames.get_ref().stream().certificates()
    }

    fn attested(&mut self) {
        self.frames.get_mut().watch().lift();
    }
}

/// What messages hold, one after the other, wherever packets begin and end in them. Spec: DPS-WS-5.
impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.message.is_empty() {
            self.message = match ready!(Pin::new(&mut self.frames).poll_next(context)) {
                Some(Ok(Message::Binary(bytes))) => bytes,
                Some(Ok(Message::Text(_))) | Some(Err(Error::Utf8(_))) => {
                    return Poll::Ready(Err(self.refuse(context, WebSocketFault::Text)));
                }
                // The library answers pings and closings. Spec: DPS-WS-6.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_))) => {
                    continue;
                }
                None | Some(Err(Error::ConnectionClosed | Error::AlreadyClosed)) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(Error::Io(why))) => {
                    let is_no_room = why.get_ref().is_some_and(|inner| inner.is::<BudgetSpent>());
                    return Poll::Ready(Err(match is_no_room {
                        true => self.refuse(context, WebSocketFault::NoRoom),
                        false => why,
                    }));
                }
                Some(Err(Error::Capacity(_))) => {
                    return Poll::Ready(Err(self.refuse(context, WebSocketFault::TooLong)));
                }
                // Gone without a closing frame, as many clients go.
                Some(Err(Error::Protocol(
                    tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
                ))) => return Poll::Ready(Ok(())),
                Some(Err(why)) => {
                    let fault = WebSocketFault::Protocol(why.to_string());
                    return Poll::Ready(Err(self.refuse(context, fault)));
                }
            };
        }
        let length = self.message.len().min(buffer.remaining());
        buffer.put_slice(&self.message[..length]);
        self.message.advance(length);
        if self.message.is_empty() {
            // It would keep the memory that it was read into.
            self.message = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

/// Writes whole packets, each as a message of its own: some clients take a message for a packet. Spec: DPS-WS-4.
impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let packet = packet_length(bytes).filter(|length| *length <= bytes.len()).unwrap_or(bytes.len());
        let mut frames = Pin::new(&mut self.frames);
        ready!(frames.as_mut().poll_ready(context)).map_err(io_error)?;
        frames.start_send(Message::Binary(Bytes::copy_from_slice(&bytes[..packet]))).map_err(io_error)?;
        Poll::Ready(Ok(packet))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.frames).poll_flush(context).map_err(io_error)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A closing frame first; whether it can still be sent changes nothing.
        let _ = ready!(Pin::new(&mut self.frames).poll_close(context));
        Pin::new(self.frames.get_mut()).poll_shutdown(context)
    }
}

fn io_error(why: Error) -> io::Error {
    match why {
        Error::Io(why) => why,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        why => io::Error::other(WebSocketFault::Protocol(why.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;
    use crate::limits::ByteBudget;

    /// DPS-WS-8: with the library's own 128 KiB, an idle connection would cost ten times as much.
    #[tokio::test]
    async fn buffers_are_small_and_messages_bounded() {
        let (_device, stream) = duplex(64);
        let socket = WebSocket::new(stream, Bytes::new(), Charge::new(ByteBudget::new(0))).await;
        let config = socket.frames.get_config();
        assert_eq!((config.read_buffer_size, config.write_buffer_size), (2_048, 0));
        assert_eq!(config.max_message_size.zip(config.max_frame_size), Some((102_400, 102_400)));
        assert!(config.max_write_buffer_size < 128 * 1024);
    }
}
