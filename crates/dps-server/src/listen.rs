//! Accepting connections: TCP, TLS, then one task for each. Spec: DPS-DEV-5, DPS-DEV-8, DPS-LIMIT-1, DPS-LIMIT-2.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::admission::{Admitted, NotAdmitted};
use crate::advice;
use crate::client_certificates::CertificatesRefused;
use crate::explain::{Explanation, Step};
use crate::fault::Transport;
use crate::flight_limit::FlightLimit;
use crate::front_end::{FrontEnd, Peer};
use crate::handshake::HandshakeFault;
use crate::https;
use crate::limits::Charge;
use crate::metrics::{Handshake, Limit};
use crate::mqtt::connection;
use crate::service_api::ServiceApi;

/// How long to wait after the operating system refused to accept, usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

/// The number of a connection that was just accepted.
pub(crate) fn next_connection() -> u64 {
    CONNECTIONS.fetch_add(1, Ordering::Relaxed)
}

/// Serves MQTT over TLS until `stopping` becomes true, then lets requests in flight finish. Spec: DPS-DEV-5.
pub async fn mqtt(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    front_end: Arc<FrontEnd>,
    stopping: watch::Receiver<bool>,
) {
    accept("mqtt", listener, tls, front_end, stopping, |connected| async move {
        let Connected { tls, peer, admitted, front_end, stopping } = connected;
        // Boxed: the largest stage of a connection, and the longest.
        Box::pin(connection::serve(tls, Transport::Mqtt, peer, admitted, &front_end, stopping)).await;
    })
    .await;
}

/// Serves MQTT over WebSocket, the HTTPS device API and the service API, as [`mqtt`] serves devices. Spec: DPS-SERVICE-1, DPS-HTTPS-1,
/// DPS-WS-1.
pub async fn https(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    front_end: Arc<FrontEnd>,
    service_api: Arc<ServiceApi>,
    stopping: watch::Receiver<bool>,
) {
    accept("https", listener, tls, front_end, stopping, move |connected| {
        let service_api = Arc::clone(&service_api);
        async move {
            let Connected { tls, peer, admitted, front_end, stopping } = connected;
            Box::pin(https::serve(tls, peer, admitted, &front_end, service_api, stopping)).await;
        }
    })
    .await;
}

/// A connection whose TLS stands.
struct Connected {
    /// Boxed, so that the tasks it is handed through keep no room for it.
    tls: Box<TlsStream<FlightLimit<TcpStream>>>,
    peer: Peer,
    admitted: Admitted,
    front_end: Arc<FrontEnd>,
    stopping: watch::Receiver<bool>,
}

async fn accept<F>(
    transport: &'static str,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    front_end: Arc<FrontEnd>,
    mut stopping: watch::Receiver<bool>,
    serve: impl Fn(Connected) -> F + Clone + Send + 'static,
) where
    F: Future<Output = ()> + Send,
{
    let acceptor = TlsAcceptor::from(tls);
    loop {
        let accepted = async {
            if front_end.admission.is_full() {
                front_end.metrics.limit_hit(Limit::Connections);
                tracing::warn!(
                    transport,
                    "as many connections as limits.connections allows are open: the next one waits"
                );
            }
            let place = front_end.admission.place().await?;
            Some((place, listener.accept().await))
        };
        let accepted = tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => break,
            accepted = accepted => accepted,
        };
        let (place, stream, address) = match accepted {
            Some((place, Ok((stream, address)))) => (place, stream, address),
            Some((_, Err(why))) => {
                tracing::error!(reason = %why, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
            None => break,
        };
        let peer = Peer { connection: next_connection(), address };
        match front_end.admission.admit(place, address.ip()) {
            Ok(admitted) => {
                let (acceptor, front_end) = (acceptor.clone(), Arc::clone(&front_end));
                let (stopping, serve) = (stopping.clone(), serve.clone());
                tokio::spawn(async move {
                    // Boxed, so that a connection does not keep the room of its handshake for life.
                    let shaken =
                        Box::pin(shake(stream, transport, peer, acceptor, &front_end, stopping.clone()));
                    if let Some(tls) = shaken.await {
                        serve(Connected { tls, peer, admitted, front_end, stopping }).await;
                    }
                });
            }
            Err(refused) => turn_away(&front_end, transport, peer, refused),
        }
    }
    drop(listener);
    let open = front_end.admission.drained(front_end.limits.drain_within).await;
    if open > 0 {
        tracing::warn!(open, "connections were still open when the time to drain ran out");
    }
}

/// The TLS handshake, within its time.
async fn shake(
    stream: TcpStream,
    transport: &'static str,
    peer: Peer,
    acceptor: TlsAcceptor,
    front_end: &FrontEnd,
    mut stopping: watch::Receiver<bool>,
) -> Option<Box<TlsStream<FlightLimit<TcpStream>>>> {
    if let Err(why) = stream.set_nodelay(true) {
        tracing::debug!(
            connection = peer.connection, peer = %peer.address, transport, reason = %why, "connection ended"
        );
        return None;
    }
    let stream = FlightLimit::new(stream, Charge::new(Arc::clone(&front_end.unattested_bytes)));
    let shaken = tokio::select! {
        shaken = timeout(front_end.limits.handshake_within, acceptor.accept(stream)) => shaken,
        _ = stopping.wait_for(|stop| *stop) => return None,
    };
    let (outcome, fault) = match shaken {
        Ok(Ok(mut tls)) => {
            front_end.metrics.handshake(Handshake::Done);
            tls.get_mut().0.lift();
            return Some(Box::new(tls));
        }
        Ok(Err(why)) => (Handshake::Failed, HandshakeFault::from(&why)),
        Err(_) => {
            front_end.metrics.limit_hit(Limit::HandshakeTime);
            (Handshake::TimedOut, HandshakeFault::TimedOut { within: front_end.limits.handshake_within })
        }
    };
    front_end.metrics.handshake(outcome);
    match &fault {
        HandshakeFault::TooLong
        | HandshakeFault::Certificates(CertificatesRefused::TooMany(_) | CertificatesRefused::TooLong(_)) => {
            front_end.metrics.limit_hit(Limit::HandshakeBytes);
        }
        HandshakeFault::NoRoom => front_end.metrics.limit_hit(Limit::UnattestedBytes),
        _ => {}
    }
    tracing::warn!(
        connection = peer.connection,
        peer = %peer.address,
        transport,
        reason = %fault,
        "TLS handshake failed"
    );
    explain(front_end, transport, peer, fault.to_string(), advice::on_handshake(&fault));
    None
}

/// Closes a connection that has no place. Spec: DPS-LIMIT-1, DPS-LIMIT-2.
fn turn_away(front_end: &FrontEnd, transport: &'static str, peer: Peer, refused: NotAdmitted) {
    /// The second in which the last such line was logged: a flood must not become a flood of lines.
    static LOGGED_AT: AtomicI64 = AtomicI64::new(0);
    front_end.metrics.limit_hit(refused.into());
    let now = front_end.moments.moment().now.as_second();
    if LOGGED_AT.swap(now, Ordering::Relaxed) != now {
        tracing::warn!(
            connection = peer.connection,
            peer = %peer.address,
            transport,
            reason = %refused,
            "connection turned away"
        );
    }
    explain(front_end, transport, peer, refused.to_string(), advice::on_turned_away(refused));
}

/// Spec: DPS-EXPLAIN-4.
fn explain(front_end: &FrontEnd, transport: &'static str, peer: Peer, reason: String, advice: &str) {
    let explanation = Explanation {
        at: front_end.moments.moment().now,
        tracking_id: None,
        connection: Some(peer.connection),
        peer: Some(peer.address),
        transport: Some(transport),
        id_scope: None,
        registration_id: None,
        step: Step::TlsHandshake,
        told: String::new(),
        reason,
        advice: Some(advice.to_owned()),
        chain: None,
    };
    front_end.explanations.keep(explanation, false);
}
