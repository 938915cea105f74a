//! One registration over MQTT on TLS: the socket around [`dps_proto::mqtt::DeviceSession`].

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dps_proto::mqtt::{
    DeviceFailure, DeviceLogin, DeviceOptions, DeviceOutcome, DeviceOutput, DeviceSession, Packet,
};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;

use crate::tls;

/// How long the connection and the TLS handshake may take together.
const CONNECT_WITHIN: Duration = Duration::from_secs(20);

/// Where the service is.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Name or address to connect to.
    pub host: String,
    /// TCP port, 8883 unless the service says otherwise.
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
    /// A packet that was sent.
    Sent(&'p Packet),
    /// A packet that came.
    Received(&'p Packet),
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
}

/// Registers one device and polls until the final answer. `watch` sees every step.
pub async fn register(
    endpoint: &Endpoint,
    login: DeviceLogin,
    options: DeviceOptions,
    mut watch: impl FnMut(Duration, Step<'_>),
) -> Result<FinalAnswer, RegisterError> {
    let started = Instant::now();
    let (host, port) = (endpoint.host.clone(), endpoint.port);
    let connected = timeout(CONNECT_WITHIN, connect(endpoint)).await;
    let mut stream = connected.map_err(|_| RegisterError::TimedOut { host, port })??;
    let (_, tls) = stream.get_ref();
    let suite = tls.negotiated_cipher_suite().map(|suite| suite.suite());
    let tls = format!("{:?} {:?}", tls.protocol_version(), suite).replace("Some(", "").replace(')', "");
    watch(started.elapsed(), Step::Connected { tls });

    let opened = Instant::now();
    let mut session = DeviceSession::new(login, options, Duration::ZERO);
    let mut buffer = BytesMut::new();
    loop {
        while let Some(output) = session.poll() {
            match output {
                DeviceOutput::Send(bytes) => {
                    stream.write_all(&bytes).await?;
                    stream.flush().await?;
                }
                DeviceOutput::Sent(packet) => watch(started.elapsed(), Step::Sent(&packet)),
                DeviceOutput::Received(packet) => watch(started.elapsed(), Step::Received(&packet)),
                DeviceOutput::Done(done) => {
                    // The answer is here; how the connection ends no longer matters.
                    let _ = timeout(Duration::from_secs(1), stream.shutdown()).await;
                    let DeviceOutcome::Final { status, body } = done?;
                    return Ok(FinalAnswer { status, body });
                }
            }
        }
        let deadline = session.deadline().map_or(opened, |deadline| opened + deadline);
        tokio::select! {
            read = stream.read_buf(&mut buffer) => match read {
                Ok(0) => session.connection_ended(),
                Ok(_) => session.receive(&mut buffer, opened.elapsed()),
                Err(why) if why.kind() == std::io::ErrorKind::UnexpectedEof => {
                    session.connection_ended();
                }
                Err(why) => return Err(why.into()),
            },
            () = sleep_until(deadline) => session.handle_timeout(opened.elapsed()),
        }
    }
}

async fn connect(endpoint: &Endpoint) -> Result<tokio_rustls::client::TlsStream<TcpStream>, RegisterError> {
    let Endpoint { host, port, server_name, tls: trust } = endpoint;
    let name = ServerName::try_from(server_name.clone())
        .map_err(|_| RegisterError::ServerName(server_name.clone()))?;
    let (at, port) = (host.clone(), *port);
    let stream = TcpStream::connect((host.as_str(), port)).await.map_err(|why| RegisterError::Connect {
        host: at.clone(),
        port,
        why,
    })?;
    stream.set_nodelay(true)?;
    TlsConnector::from(Arc::clone(trust)).connect(name, stream).await.map_err(|why| {
        match tls::certificate_error(&why).map(tls::certificate_fault) {
            Some(why) => RegisterError::Certificate { host: at, port, why },
            None => RegisterError::Tls { host: at, port, why },
        }
    })
}
