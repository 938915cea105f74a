//! What carries the packets of one device.

use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::Uri;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::device::{CONNECT_WITHIN, Endpoint, RegisterError};

/// Where the official clients ask for a WebSocket.
const PATH: &str = "/$iothub/websocket";

/// Most bytes of a message of the service.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// How much of a refusal is shown, in characters.
const SHOWN_CHARACTERS_MAX: usize = 300;

/// A connection that packets go over.
pub(super) enum Link {
    Tls(Box<TlsStream<TcpStream>>),
    WebSocket(Box<WebSocketStream<TlsStream<TcpStream>>>),
}

impl Link {
    /// Asks for a WebSocket.
    pub(super) async fn web_socket(
        endpoint: &Endpoint,
        stream: TlsStream<TcpStream>,
    ) -> Result<Self, RegisterError> {
        let uri = Uri::builder().scheme("wss").authority(endpoint.authority()).path_and_query(PATH);
        let uri = uri.build().map_err(|_| RegisterError::ServerName(endpoint.server_name.clone()))?;
        let request = ClientRequestBuilder::new(uri).with_sub_protocol("mqtt");
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let upgraded = timeout(CONNECT_WITHIN, client_async_with_config(request, stream, Some(config))).await;
        let late = || RegisterError::TimedOut { host: endpoint.host.clone(), port: endpoint.port };
        match upgraded.map_err(|_| late())? {
            Ok((socket, _)) => Ok(Self::WebSocket(Box::new(socket))),
            Err(Error::Http(answer)) => {
                let body = answer.body().as_deref().unwrap_or_default();
                let body = String::from_utf8_lossy(body).chars().take(SHOWN_CHARACTERS_MAX).collect();
                Err(RegisterError::Upgrade { status: answer.status().as_u16(), body })
            }
            Err(Error::Io(why)) => Err(why.into()),
            Err(why) => Err(endpoint.no_http(why)),
        }
    }

    pub(super) async fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        match self {
            Self::Tls(stream) => {
                stream.write_all(&bytes).await?;
                stream.flush().await
            }
            Self::WebSocket(socket) => socket.send(Message::Binary(bytes)).await.map_err(io_error),
        }
    }

    /// Adds what comes next to `buffer`; 0 where the service has closed.
    pub(super) async fn receive(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        let socket = match self {
            Self::Tls(stream) => return stream.read_buf(buffer).await,
            Self::WebSocket(socket) => socket,
        };
        loop {
            match socket.next().await {
                Some(Ok(Message::Binary(bytes))) if bytes.is_empty() => {}
                Some(Ok(Message::Binary(bytes))) => {
                    buffer.extend_from_slice(&bytes);
                    return Ok(bytes.len());
                }
                Some(Ok(Message::Text(_))) => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the service sent a text message",
                    ));
                }
                Some(Ok(_)) => {}
                Some(Err(why)) => return Err(io_error(why)),
                None => return Ok(0),
            }
        }
    }

    pub(super) async fn close(&mut self) -> io::Result<()> {
        match self {
            Self::Tls(stream) => stream.shutdown().await,
            Self::WebSocket(socket) => socket.close().await.map_err(io_error),
        }
    }
}

fn io_error(why: Error) -> io::Error {
    match why {
        Error::Io(why) => why,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::UnexpectedEof.into(),
        why => io::Error::other(why),
    }
}
