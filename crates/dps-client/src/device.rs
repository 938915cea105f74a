//! What a registration begins with and comes to, whatever carries it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dps_proto::mqtt::{DeviceFailure, Packet};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::tls;

/// How long the connection and the TLS handshake may take together.
pub(crate) const CONNECT_WITHIN: Duration = Duration::from_secs(20);

/// Where the service is.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Name or address to connect to.
    pub host: String,
    /// TCP port: 8883 for MQTT, 443 for the others, unless the service says otherwise.
    pub port: u16,
    /// The name that the certificate must carry.
    pub server_name: String,
    /// Trust.
    pub tls: Arc<ClientConfig>,
}

/// The final answer of the service.
#[derive(Debug, Clone)]
pub struct FinalAnswer {
    /// HTTP-like status.
    pub status: u16,
    /// JSON, as received.
    pub body: Bytes,
}

/// What a final answer says, as far as a device reads it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// `assigned`, `failed` or `disabled`; absent in a refusal.
    pub status: Option<String>,
    /// Where the device lives.
    pub registration_state: Option<OutcomeState>,
    /// Of a refusal.
    pub error_code: Option<u32>,
    /// Of a refusal.
    pub message: Option<String>,
    /// Under which the service logged the cause.
    pub tracking_id: Option<String>,
}

/// The members of `registrationState` that a device reads.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutcomeState {
    /// Host name of the hub.
    pub assigned_hub: Option<String>,
    /// Id at the hub.
    pub device_id: Option<String>,
    /// What the registration did.
    pub substatus: Option<String>,
    /// Of a failed operation.
    pub error_code: Option<u32>,
    /// Of a failed operation.
    pub error_message: Option<String>,
}

impl FinalAnswer {
    /// Reads the body.
    ///
    /// # Errors
    /// Where it is not the JSON of an answer.
    pub fn outcome(&self) -> Result<Outcome, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

/// One step of the exchange, for whoever wants to see it.
#[derive(Debug)]
pub enum Step<'p> {
    /// TCP and TLS stand.
    Connected {
        /// Such as `TLSv1_3 TLS13_AES_128_GCM_SHA256`.
        tls: String,
    },
    /// The connection is a WebSocket from here on.
    Upgraded,
    /// A packet that was sent.
    Sent(&'p Packet),
    /// A packet that came.
    Received(&'p Packet),
    /// An HTTP request that was sent; its proof is not shown.
    Asked {
        /// Such as `PUT`.
        method: &'p str,
        /// With the query.
        path: &'p str,
        /// JSON; empty where there is none.
        body: &'p [u8],
    },
    /// The answer to it.
    Answered {
        /// HTTP status.
        status: u16,
        /// Seconds to wait, where the service says so.
        retry_after_s: Option<u32>,
        /// As received.
        body: &'p [u8],
    },
}

/// Why there is no final answer.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// No TCP connection.
    #[error("cannot connect to {host}:{port}: {why}")]
    Connect {
        /// Where to.
        host: String,
        /// Where to.
        port: u16,
        /// What the system said.
        why: std::io::Error,
    },
    /// The name is no DNS name and no address.
    #[error("{0:?} is no name that a certificate can carry")]
    ServerName(String),
    /// The server's certificate is not accepted.
    #[error("the certificate of {host}:{port} is not accepted: {why}")]
    Certificate {
        /// Where to.
        host: String,
        /// Where to.
        port: u16,
        /// What is wrong with it.
        why: String,
    },
    /// TLS failed for another reason.
    #[error("TLS with {host}:{port} failed: {why}")]
    Tls {
        /// Where to.
        host: String,
        /// Where to.
        port: u16,
        /// What was wrong.
        why: std::io::Error,
    },
    /// Nothing came of it in time.
    #[error("no connection to {host}:{port} within {} s", CONNECT_WITHIN.as_secs())]
    TimedOut {
        /// Where to.
        host: String,
        /// Where to.
        port: u16,
    },
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Lost(#[from] std::io::Error),
    /// The exchange ended without a final answer.
    #[error(transparent)]
    Exchange(#[from] DeviceFailure),
    /// The service does not speak HTTP, or not as it should.
    #[error("{host}:{port} does not answer as HTTP does: {why}")]
    Http {
        /// Where to.
        host: String,
        /// Where to.
        port: u16,
        /// What was wrong.
        why: String,
    },
    /// The service does not make it a WebSocket.
    #[error("the service refused the WebSocket with status {status}: {body}")]
    Upgrade {
        /// HTTP status.
        status: u16,
        /// The beginning of what it said.
        body: String,
    },
}

impl Endpoint {
    /// TCP and TLS, within a time.
    pub(crate) async fn connect(&self) -> Result<TlsStream<TcpStream>, RegisterError> {
        let late = |_| RegisterError::TimedOut { host: self.host.clone(), port: self.port };
        timeout(CONNECT_WITHIN, self.connected()).await.map_err(late)?
    }

    async fn connected(&self) -> Result<TlsStream<TcpStream>, RegisterError> {
        let Self { host, port, server_name, tls: trust } = self;
        let name = ServerName::try_from(server_name.clone())
            .map_err(|_| RegisterError::ServerName(server_name.clone()))?;
        let (at, port) = (host.clone(), *port);
        let stream = TcpStream::connect((host.as_str(), port))
            .await
            .map_err(|why| RegisterError::Connect { host: at.clone(), port, why })?;
        stream.set_nodelay(true)?;
        TlsConnector::from(Arc::clone(trust)).connect(name, stream).await.map_err(|why| {
            match tls::certificate_error(&why).map(tls::certificate_fault) {
                Some(why) => RegisterError::Certificate { host: at, port, why },
                None => RegisterError::Tls { host: at, port, why },
            }
        })
    }

    /// Host and port as a URL has them.
    pub(crate) fn authority(&self) -> String {
        let Self { server_name, port, .. } = self;
        match server_name.parse() {
            Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
            _ => format!("{server_name}:{port}"),
        }
    }

    /// That what answers there is no service.
    pub(crate) fn no_http(&self, why: impl ToString) -> RegisterError {
        RegisterError::Http { host: self.host.clone(), port: self.port, why: why.to_string() }
    }
}

impl Step<'_> {
    pub(crate) fn connected(stream: &TlsStream<TcpStream>) -> Self {
        let (_, tls) = stream.get_ref();
        let suite = tls.negotiated_cipher_suite().map(|suite| suite.suite());
        let tls = format!("{:?} {:?}", tls.protocol_version(), suite).replace("Some(", "").replace(')', "");
        Self::Connected { tls }
    }
}
