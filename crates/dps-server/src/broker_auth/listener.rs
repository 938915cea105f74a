//! Accepting and bounding connections of brokers. Spec: DPS-BROKER-1, DPS-BROKER-3.
//!
//! A broker keeps a few connections and asks over them for as long as it runs. They are not closed between two questions before
//! the broker itself would: RabbitMQ takes a connection that was closed under its question for a no.

use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::front_end::Peer;
use crate::listen;
use crate::tls::{ServerCertificates, TlsError, provider};
use crate::write_deadline::WriteDeadline;

/// Connections at one time; more wait in the kernel's queue.
const CONNECTIONS_MAX: u32 = 64;

/// Time from one question to the end of the headers of the next. Erlang's HTTP client gives an idle connection up after 120 s.
const HEADERS_WITHIN: Duration = Duration::from_secs(300);

/// Time for a broker to take an answer.
const WRITE_WITHIN: Duration = Duration::from_secs(20);

/// Largest headers, in bytes.
const HEADERS_BYTES_MAX: usize = 16 * 1_024;

/// How long to wait after the operating system refused to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who may have signed the certificate of a broker.
#[derive(Debug, Clone)]
pub struct ClientCa(Arc<RootCertStore>);

/// A text that holds no CA certificates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadClientCa {
    /// None at all.
    #[error("there is no CA certificate in it")]
    Nothing,
    /// Something that is none.
    #[error("a certificate in it cannot be used")]
    Unusable,
}

impl ClientCa {
    /// The certificates of a PEM text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_pem(pem: &[u8]) -> Result<Self, BadClientCa> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.map_err(|_| BadClientCa::Unusable)?).map_err(|_| BadClientCa::Unusable)?;
        }
        if roots.is_empty() { Err(BadClientCa::Nothing) } else { Ok(Self(Arc::new(roots))) }
    }
}

/// The settings of a listener that brokers reach from elsewhere: each shows a certificate that `client_ca` has signed.
/// Spec: DPS-BROKER-1.
///
/// # Errors
/// Where rustls refuses them.
pub fn server_config(
    certificates: Arc<ServerCertificates>,
    client_ca: &ClientCa,
) -> Result<Arc<ServerConfig>, TlsError> {
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&client_ca.0), provider())
        .build()
        .map_err(|why| rustls::Error::General(format!("the client CA: {why}")))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(certificates);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Serves until `stopping` becomes true, then gives questions in flight `drain_within`.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    mut stopping: watch::Receiver<bool>,
    handshake_within: Duration,
    drain_within: Duration,
) {
    let tls = tls.map(TlsAcceptor::from);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX as usize));
    loop {
        let accepted = async {
            // Never closed, so there is always a place in the end.
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let peer = Peer { connection: listen::next_connection(), address };
                let (tls, router, stopping) = (tls.clone(), router.clone(), stopping.clone());
                tokio::spawn(async move {
                    connected(stream, peer, tls, router, stopping, handshake_within).await;
                    drop(place);
                });
            }
            Err(why) => {
                tracing::error!(reason = %why, "cannot accept a broker's connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    // What has not ended by then ends with the process.
    let _ = timeout(drain_within, places.acquire_many(CONNECTIONS_MAX)).await;
}

async fn connected(
    stream: TcpStream,
    peer: Peer,
    tls: Option<TlsAcceptor>,
    router: Router,
    stopping: watch::Receiver<bool>,
    handshake_within: Duration,
) {
    // A question is one small write, and so is its answer.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return questions(stream, peer, router, stopping).await };
    let refused: &dyn std::fmt::Display = match timeout(handshake_within, tls.accept(stream)).await {
        Ok(Ok(stream)) => return questions(stream, peer, router, stopping).await,
        Ok(Err(why)) => &why.to_string(),
        Err(_) => &"it took too long",
    };
    tracing::warn!(connection = peer.connection, peer = %peer.address, reason = %refused, "TLS handshake of a broker failed");
}

async fn questions<S>(stream: S, peer: Peer, router: Router, mut stopping: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = TokioIo::new(WriteDeadline::new(stream, WRITE_WITHIN));
    let service = TowerToHyperService::new(router.layer(Extension(peer)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(HEADERS_BYTES_MAX)
        .serve_connection(stream, service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = stopping.wait_for(|stop| *stop) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(why) = ended {
        tracing::debug!(connection = peer.connection, peer = %peer.address, reason = %why, "a broker's connection ended badly");
    }
}
