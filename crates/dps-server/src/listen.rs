//! Accepting connections, one task for each, which opens and serves it. Spec: DPS-DEV-5, DPS-LIMIT-1, DPS-LIMIT-2, DPS-LIMIT-14.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use crate::fault::Transport;
use crate::front_end::{FrontEnd, Peer};
use crate::https;
use crate::metrics::Limit;
use crate::mqtt::connection;
use crate::opening::{Connected, Opening, turn_away};
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
        let is_balancers = front_end.balancers.has(address.ip());
        let admitted = front_end.admission.admit(place).and_then(|mut admitted| {
            // A balancer's connection counts for the address that its header names. Spec: DPS-LIMIT-17.
            if !is_balancers {
                admitted.comes_from(address.ip())?;
            }
            Ok(admitted)
        });
        match admitted {
            Ok(admitted) => {
                let (front_end, stopping) = (Arc::clone(&front_end), stopping.clone());
                let opening = Opening { transport, peer, admitted, front_end, stopping };
                let (acceptor, serve) = (acceptor.clone(), serve.clone());
                tokio::spawn(async move {
                    // Boxed, so that a connection does not keep the room of its handshake for life.
                    if let Some(connected) = Box::pin(opening.open(stream, is_balancers, acceptor)).await {
                        serve(connected).await;
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
