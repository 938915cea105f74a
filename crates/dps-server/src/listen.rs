//! Accepting connections: TCP, TLS, then one task for each device. Spec: DPS-DEV-5, DPS-DEV-8.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::explain::{Explanation, Step};
use crate::metrics::{Handshake, Limit};
use crate::mqtt::connection;
use crate::mqtt::{FrontEnd, Peer};

/// How long to wait after the operating system refused to accept, usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

/// Serves MQTT over TLS until `stopping` becomes true, then lets requests in flight finish. Spec: DPS-DEV-5.
pub async fn mqtt(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    front_end: Arc<FrontEnd>,
    mut stopping: watch::Receiver<bool>,
) {
    let places = u32::try_from(front_end.limits.connections).unwrap_or(u32::MAX >> 4);
    let permits = Arc::new(Semaphore::new(places as usize));
    let acceptor = TlsAcceptor::from(tls);
    loop {
        let accepted = async {
            // The permit comes first: what cannot be served waits in the kernel's queue, not in memory here.
            let permit = Arc::clone(&permits).acquire_owned().await.ok()?;
            Some((permit, listener.accept().await))
        };
        let accepted = tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => break,
            accepted = accepted => accepted,
        };
        let (permit, stream, address) = match accepted {
            Some((permit, Ok((stream, address)))) => (permit, stream, address),
            Some((_, Err(why))) => {
                tracing::error!(%why, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
            None => break,
        };
        let peer = Peer { connection: CONNECTIONS.fetch_add(1, Ordering::Relaxed), address };
        let (acceptor, front_end, stopping) = (acceptor.clone(), Arc::clone(&front_end), stopping.clone());
        tokio::spawn(async move {
            serve(stream, peer, acceptor, &front_end, stopping).await;
            drop(permit);
        });
    }
    drop(listener);
    // Every place free again means that every connection has ended.
    if timeout(front_end.limits.drain_within, permits.acquire_many(places)).await.is_err() {
        let open = front_end.limits.connections - permits.available_permits();
        tracing::warn!(open, "connections were still open when the time to drain ran out");
    }
}

async fn serve(
    stream: TcpStream,
    peer: Peer,
    acceptor: TlsAcceptor,
    front_end: &FrontEnd,
    mut stopping: watch::Receiver<bool>,
) {
    if let Err(why) = stream.set_nodelay(true) {
        tracing::debug!(connection = peer.connection, %why, "the connection ended before it began");
        return;
    }
    // Boxed, so that a connection does not keep the room of its handshake for life.
    let handshake = Box::pin(timeout(front_end.limits.handshake_within, acceptor.accept(stream)));
    let shaken = tokio::select! {
        shaken = handshake => shaken,
        _ = stopping.wait_for(|stop| *stop) => return,
    };
    match shaken {
        Ok(Ok(tls)) => {
            front_end.metrics.handshake(Handshake::Done);
            connection::serve(tls, peer, front_end, stopping).await;
        }
        Ok(Err(why)) => {
            front_end.metrics.handshake(Handshake::Failed);
            tracing::warn!(
                connection = peer.connection,
                peer = %peer.address,
                reason = %why,
                hint = hint(&why),
                "TLS handshake failed"
            );
            explain(front_end, peer, why.to_string(), hint(&why));
        }
        Err(_) => {
            front_end.metrics.handshake(Handshake::TimedOut);
            front_end.metrics.limit_hit(Limit::HandshakeTime);
            let within_s = front_end.limits.handshake_within.as_secs();
            tracing::warn!(
                connection = peer.connection,
                peer = %peer.address,
                within_s,
                "TLS handshake not finished in time"
            );
            explain(front_end, peer, format!("the TLS handshake was not finished within {within_s} s"), None);
        }
    }
}

/// Spec: DPS-EXPLAIN-4.
fn explain(front_end: &FrontEnd, peer: Peer, reason: String, advice: Option<&str>) {
    let explanation = Explanation {
        at: front_end.moments.moment().now,
        tracking_id: None,
        connection: peer.connection,
        peer: peer.address,
        id_scope: None,
        registration_id: None,
        step: Step::TlsHandshake,
        told: String::new(),
        reason,
        advice: advice.map(str::to_owned),
    };
    front_end.explanations.keep(explanation, false);
}

/// What the author of the device can do about a failed handshake.
fn hint(why: &std::io::Error) -> Option<&'static str> {
    use rustls::{AlertDescription, Error};
    match why.get_ref()?.downcast_ref::<Error>()? {
        Error::InvalidMessage(_) => Some("the device did not speak TLS; this port takes MQTT over TLS only"),
        Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown,
        ) => Some(
            "the device does not trust the server's certificate: give it the CA file, and use a host name that \
             the certificate carries",
        ),
        Error::PeerIncompatible(_) => {
            Some("the device offers no TLS version, cipher suite or group that is served")
        }
        _ => None,
    }
}
