//! What carries a device's packets: TLS, or a WebSocket on it.

use std::io;

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// What the driver sets aside for each WebSocket; the library would take 128 KiB.
const READ_BUFFER_BYTES: usize = 2 * 1024;

/// A connection of one device.
pub(crate) enum Link {
    Tls(Box<TlsStream<TcpStream>>),
    WebSocket(Box<WebSocketStream<TlsStream<TcpStream>>>),
}

impl Link {
    pub(crate) async fn web_socket(stream: TlsStream<TcpStream>) -> anyhow::Result<Self> {
        let request = ClientRequestBuilder::new("wss://localhost/$iothub/websocket".parse()?);
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES).write_buffer_size(0);
        let opened = client_async_with_config(request.with_sub_protocol("mqtt"), stream, Some(config));
        let (socket, _) = Box::pin(opened).await.context("WebSocket")?;
        Ok(Self::WebSocket(Box::new(socket)))
    }

    pub(crate) async fn send(&mut self, bytes: Bytes) -> anyhow::Result<()> {
        match self {
            Self::Tls(stream) => {
                stream.write_all(&bytes).await?;
                stream.flush().await?;
            }
            Self::WebSocket(socket) => socket.send(Message::Binary(bytes)).await?,
        }
        Ok(())
    }

    /// Adds what comes next; 0 at the end.
    pub(crate) async fn receive(&mut self, received: &mut BytesMut) -> anyhow::Result<usize> {
        let socket = match self {
            Self::Tls(stream) => return Ok(stream.read_buf(received).await?),
            Self::WebSocket(socket) => socket,
        };
        loop {
            match socket.next().await.transpose()? {
                Some(Message::Binary(bytes)) if !bytes.is_empty() => {
                    received.extend_from_slice(&bytes);
                    return Ok(bytes.len());
                }
                Some(_) => {}
                None => return Ok(0),
            }
        }
    }

    /// Ends it from this side.
    pub(crate) async fn shutdown(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Tls(stream) => stream.shutdown().await?,
            Self::WebSocket(socket) => socket.close().await?,
        }
        Ok(())
    }

    /// Whether the server has kept the connection open and silent.
    pub(crate) fn is_idle(&self) -> bool {
        let (stream, _) = match self {
            Self::Tls(stream) => stream.get_ref(),
            Self::WebSocket(socket) => socket.get_ref().get_ref(),
        };
        matches!(stream.try_read(&mut [0]), Err(why) if why.kind() == io::ErrorKind::WouldBlock)
    }
}
