//! A connection from where it was accepted to where its TLS stands. Spec: DPS-DEV-8, DPS-LIMIT-3, DPS-LIMIT-14 to DPS-LIMIT-18.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use dps_proto::proxy_header::Origin;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::admission::{Admitted, NotAdmitted};
use crate::advice;
use crate::client_certificates::CertificatesRefused;
use crate::explain::{Explanation, Step};
use crate::flight_limit::FlightLimit;
use crate::front_end::{FrontEnd, Peer};
use crate::handshake::HandshakeFault;
use crate::limits::Charge;
use crate::metrics::{Handshake, Limit};
use crate::proxy_protocol::{HeaderFault, read_header};

/// A connection whose TLS does not stand yet.
pub(crate) struct Opening {
    /// As the log names it.
    pub(crate) transport: &'static str,
    /// Until a header has named the client, the balancer.
    pub(crate) peer: Peer,
    /// A balancer's without a place of an address.
    pub(crate) admitted: Admitted,
    pub(crate) front_end: Arc<FrontEnd>,
    pub(crate) stopping: watch::Receiver<bool>,
}

/// A connection whose TLS stands.
pub(crate) struct Connected {
    /// Boxed, so that the tasks it is handed through keep no room for it.
    pub(crate) tls: Box<TlsStream<FlightLimit<TcpStream>>>,
    pub(crate) peer: Peer,
    pub(crate) admitted: Admitted,
    pub(crate) front_end: Arc<FrontEnd>,
    pub(crate) stopping: watch::Receiver<bool>,
}

impl Opening {
    /// Reads the header, where it is a balancer's, and shakes hands; both within one time. `None` where that came to nothing, which was
    /// logged then.
    pub(crate) async fn open(
        mut self,
        mut stream: TcpStream,
        is_balancers: bool,
        acceptor: TlsAcceptor,
    ) -> Option<Connected> {
        let until = Instant::now() + self.front_end.limits.handshake_within;
        if let Err(why) = stream.set_nodelay(true) {
            self.ended(&why);
            return None;
        }
        let mut is_local = false;
        if is_balancers {
            match self.header(&mut stream, until).await? {
                Origin::Client(address) => self.peer.address = address,
                Origin::Unspecified => {}
                Origin::Balancer => is_local = true,
            }
            if let Err(refused) = self.admitted.comes_from(self.peer.address.ip()) {
                turn_away(&self.front_end, self.transport, self.peer, refused);
                return None;
            }
        }
        let tls = self.shake(stream, acceptor, until, is_local).await?;
        let Self { peer, admitted, front_end, stopping, .. } = self;
        Some(Connected { tls, peer, admitted, front_end, stopping })
    }

    /// What the balancer says. Spec: DPS-LIMIT-15, DPS-LIMIT-17, DPS-LIMIT-18.
    async fn header(&mut self, stream: &mut TcpStream, until: Instant) -> Option<Origin> {
        let read = tokio::select! {
            read = timeout_at(until, read_header(stream)) => read,
            _ = self.stopping.wait_for(|stop| *stop) => return None,
        };
        let (metrics, within) = (&self.front_end.metrics, self.front_end.limits.handshake_within);
        let fault = match read.unwrap_or(Err(HeaderFault::TimedOut { within })) {
            Ok(origin) => {
                metrics.proxy_header(origin.into());
                return Some(origin);
            }
            Err(fault) => fault,
        };
        metrics.proxy_header(fault.into());
        match fault {
            HeaderFault::Nothing => {
                self.ended(&fault);
                return None;
            }
            HeaderFault::TimedOut { .. } => metrics.limit_hit(Limit::HandshakeTime),
            HeaderFault::Bad(_) | HeaderFault::BrokenOff | HeaderFault::Lost(_) => {}
        }
        let Peer { connection, address } = self.peer;
        tracing::warn!(connection, peer = %address, transport = self.transport, reason = %fault, "PROXY protocol failed");
        let advice = advice::on_proxy_header(&fault);
        explain(&self.front_end, self.transport, self.peer, Step::ProxyHeader, fault.to_string(), advice);
        None
    }

    /// The TLS handshake. One that a balancer's own connection does not finish is of no interest. Spec: DPS-LIMIT-18.
    async fn shake(
        &mut self,
        stream: TcpStream,
        acceptor: TlsAcceptor,
        until: Instant,
        is_local: bool,
    ) -> Option<Box<TlsStream<FlightLimit<TcpStream>>>> {
        let front_end = &self.front_end;
        let stream = FlightLimit::new(stream, Charge::new(Arc::clone(&front_end.unattested_bytes)));
        let shaken = tokio::select! {
            shaken = timeout_at(until, acceptor.accept(stream)) => shaken,
            _ = self.stopping.wait_for(|stop| *stop) => return None,
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
        if is_local && matches!(fault, HandshakeFault::BrokenOff | HandshakeFault::Lost(_)) {
            self.ended(&fault);
            return None;
        }
        front_end.metrics.handshake(outcome);
        match &fault {
            HandshakeFault::TooLong
            | HandshakeFault::Certificates(
                CertificatesRefused::TooMany(_) | CertificatesRefused::TooLong(_),
            ) => {
                front_end.metrics.limit_hit(Limit::HandshakeBytes);
            }
            HandshakeFault::NoRoom => front_end.metrics.limit_hit(Limit::UnattestedBytes),
            _ => {}
        }
        let Peer { connection, address } = self.peer;
        tracing::warn!(connection, peer = %address, transport = self.transport, reason = %fault, "TLS handshake failed");
        let advice = advice::on_handshake(&fault);
        explain(front_end, self.transport, self.peer, Step::TlsHandshake, fault.to_string(), advice);
        None
    }

    /// It is over, and nobody needs to know.
    fn ended(&self, why: &dyn std::fmt::Display) {
        let Peer { connection, address } = self.peer;
        tracing::debug!(connection, peer = %address, transport = self.transport, reason = %why, "connection ended");
    }
}

/// Closes a connection that has no place. Spec: DPS-LIMIT-1, DPS-LIMIT-2.
pub(crate) fn turn_away(front_end: &FrontEnd, transport: &'static str, peer: Peer, refused: NotAdmitted) {
    /// The second in which the last such line was logged: a flood must not become a flood of lines.
    static LOGGED_AT: AtomicI64 = AtomicI64::new(0);
    front_end.metrics.limit_hit(refused.into());
    let now = front_end.moments.moment().now.as_second();
    if LOGGED_AT.swap(now, Ordering::Relaxed) != now {
        let Peer { connection, address } = peer;
        tracing::warn!(connection, peer = %address, transport, reason = %refused, "connection turned away");
    }
    let advice = advice::on_turned_away(refused);
    explain(front_end, transport, peer, Step::TlsHandshake, refused.to_string(), advice);
}

/// Spec: DPS-EXPLAIN-4.
fn explain(
    front_end: &FrontEnd,
    transport: &'static str,
    peer: Peer,
    step: Step,
    reason: String,
    advice: &str,
) {
    let explanation = Explanation {
        at: front_end.moments.moment().now,
        tracking_id: None,
        connection: Some(peer.connection),
        peer: Some(peer.address),
        transport: Some(transport),
        id_scope: None,
        registration_id: None,
        step,
        told: String::new(),
        reason,
        advice: Some(advice.to_owned()),
        chain: None,
    };
    front_end.explanations.keep(explanation, false);
}
