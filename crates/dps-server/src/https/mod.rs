//! One client's connection to port 443: requests of devices and of clients of the service API, or a WebSocket.
//! Spec: DPS-SERVICE-1, DPS-HTTPS-1, DPS-HTTPS-9, DPS-WS-1, DPS-LIMIT-3.

pub mod body;
pub mod end;
pub mod fault;
pub(crate) mod head;
mod standing;

use std::convert::Infallible;
use std::mem;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use dps_core::x509::{Presented, PresentedChain};
use dps_proto::device_path::DevicePath;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_VERSION};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};

use crate::admission::Admitted;
use crate::client_certificates::DeviceStream;
use crate::device_api;
use crate::device_request::{Origin, Proof};
use crate::explain::{Explanation, Step};
use crate::fault::Transport;
use crate::front_end::{FrontEnd, Peer};
use crate::limits::Charge;
use crate::mqtt::connection;
use crate::service_api::{ServiceApi, TRANSPORT};
use crate::watched::Watched;
use crate::web_socket::{WebSocket, handshake};
use crate::write_deadline::WriteDeadline;
use end::End;
use standing::Standing;

/// Bytes of a request's head, and of what is buffered of a body. Spec: DPS-LIMIT-10.
const BUFFER_BYTES: usize = 8 * 1024;

/// What certificates each connection may show whatever others do.
const OWN_BYTES: usize = 4 * 1024;

/// Header lines of a request.
const HEADERS_MAX: usize = 64;

/// How long a client may take to read what was answered before the service was to stop.
const LAST_ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// The answer to one request.
pub struct Answered {
    /// For the client.
    pub response: Response<Full<Bytes>>,
    /// Whether the client proved to be one that may ask for it.
    pub proof: Proof,
}

/// What a connection came to.
enum Outcome<S> {
    Ended(End),
    /// It is a WebSocket from here on; some of it may be read already.
    WebSocket(S, Bytes, Admitted),
}

/// Serves one client until either side ends the connection, or `stopping` becomes true and the request in flight is done.
pub async fn serve<S>(
    stream: S,
    peer: Peer,
    admitted: Admitted,
    front_end: &FrontEnd,
    service_api: Arc<ServiceApi>,
    stopping: watch::Receiver<bool>,
) where
    S: DeviceStream + Send + 'static,
{
    let requests = async {
        let _open = front_end.metrics.connection();
        requests(stream, peer, admitted, front_end, service_api, stopping.clone()).await
    };
    // Boxed, so that a WebSocket does not keep the room of HTTP for life.
    match Box::pin(requests).await {
        Outcome::Ended(end) => note(front_end, peer, &end),
        Outcome::WebSocket(stream, read, admitted) => {
            let charge = Charge::new(Arc::clone(&front_end.unattested_bytes));
            let stream = WebSocket::new(stream, read, charge).await;
            let transport = Transport::MqttWebSocket;
            Box::pin(connection::serve(stream, transport, peer, admitted, front_end, stopping)).await;
        }
    }
}

async fn requests<S>(
    stream: S,
    peer: Peer,
    admitted: Admitted,
    front_end: &FrontEnd,
    service_api: Arc<ServiceApi>,
    mut stopping: watch::Receiver<bool>,
) -> Outcome<S>
where
    S: DeviceStream + Send + 'static,
{
    let shown = stream.certificates().to_vec();
    let mut certificates = Charge::new(Arc::clone(&front_end.unattested_bytes));
    // Those of TLS, and what is kept of them for the requests.
    let bytes = 2 * shown.iter().map(|certificate| certificate.len()).sum::<usize>();
    if certificates.resize(bytes.saturating_sub(OWN_BYTES)).is_err() {
        return Outcome::Ended(End::NoRoom);
    }
    let standing = Arc::new(Standing::new(admitted, certificates, &front_end.limits.session));
    let router = Router {
        front_end,
        peer,
        service_api,
        standing: &standing,
        shown: Mutex::new(shown),
        presented: OnceLock::new(),
    };
    let service = service_fn(|request| {
        let router = &router;
        async move { Ok::<_, Infallible>(router.answer(request).await) }
    });
    let stream = WriteDeadline::new(stream, front_end.limits.write_within);
    let stream = TokioIo::new(Watched::by(Arc::clone(&standing), stream));
    let connection = http1::Builder::new()
        // Heads have deadlines of their own, which hyper's one does not fit.
        .header_read_timeout(None)
        .max_buf_size(BUFFER_BYTES)
        .max_headers(HEADERS_MAX)
        .serve_connection(stream, service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = loop {
        tokio::select! {
            ended = connection.as_mut() => break Some(ended),
            () = sleep_until(standing.deadline()) => {
                if let Some(end) = standing.overdue() {
                    return Outcome::Ended(end);
                }
            }
            () = standing.head_began() => {}
            _ = stopping.wait_for(|stop| *stop) => break None,
        }
    };
    let is_in_flight = standing.is_in_flight();
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            if is_in_flight {
                connection.await
            } else {
                // Half a head is no request to wait for.
                match timeout(LAST_ANSWER_WITHIN, connection).await {
                    Ok(ended) => ended,
                    // An answer that is not taken is none to go on from.
                    Err(_) => return Outcome::Ended(End::Shutdown),
                }
            }
        }
    };
    if let (Ok(()), Some(upgrade)) = (&ended, standing.take_upgrade()) {
        return upgraded(upgrade, &standing).await;
    }
    Outcome::Ended(match ended {
        Ok(()) if standing.is_turned_away() => End::NotLetIn,
        Ok(()) if *stopping.borrow() => End::Shutdown,
        Ok(()) => End::ByClient,
        Err(why) if why.is_parse_too_large() => End::HeadTooLarge { bytes: BUFFER_BYTES, lines: HEADERS_MAX },
        Err(why) => End::of_error(&why),
    })
}

/// Takes the stream back from HTTP.
async fn upgraded<S: DeviceStream + Send + 'static>(upgrade: OnUpgrade, standing: &Standing) -> Outcome<S> {
    let Ok(upgraded) = upgrade.await else { return Outcome::Ended(End::ByClient) };
    let (Ok(parts), Some(admitted)) =
        (upgraded.downcast::<TokioIo<Watched<WriteDeadline<S>, Arc<Standing>>>>(), standing.take_admitted())
    else {
        // It is the stream that HTTP was given, once.
        return Outcome::Ended(End::ByClient);
    };
    let stream = parts.io.into_inner().into_stream().into_inner();
    Outcome::WebSocket(stream, parts.read_buf, admitted)
}

/// Leads each request of a connection to whom it is for.
struct Router<'f> {
    front_end: &'f FrontEnd,
    peer: Peer,
    service_api: Arc<ServiceApi>,
    standing: &'f Standing,
    /// What the client showed in the TLS handshake; empty once it was read.
    shown: Mutex<Vec<CertificateDer<'static>>>,
    /// That, read once for all requests.
    presented: OnceLock<Option<Presented>>,
}

impl Router<'_> {
    async fn answer(&self, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
        self.standing.head_came();
        let upgrade = hyper::upgrade::on(&mut request);
        let (head, body) = request.into_parts();
        let Answered { mut response, proof } = if handshake::is_wanted(&head) {
            match handshake::accept(&head) {
                Ok(response) => {
                    self.standing.upgrades(upgrade);
                    return response;
                }
                Err(fault) => {
                    let refused = self.origin(Transport::MqttWebSocket).refuse(None, None, &fault.into());
                    let tracking_id =
                        refused.tracking_id.unwrap_or_else(|| self.front_end.moments.tracking_id());
                    let mut response = device_api::response(refused.answer, tracking_id);
                    let headers = response.headers_mut();
                    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
                    headers.insert(CONNECTION, HeaderValue::from_static("close"));
                    Answered { response, proof: Proof::None }
                }
            }
        } else if let Some(path) = DevicePath::parse(head.uri.path()) {
            let origin = self.origin(Transport::Https);
            Box::pin(device_api::answer(origin, path, self.presented(), &head, body)).await
        } else {
            Box::pin(self.service_api.answer(&head, body, self.peer)).await
        };
        if self.standing.answered(proof) {
            // Or it could stay for ever without proving anything.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn origin(&self, transport: Transport) -> Origin<'_> {
        Origin { front_end: self.front_end, peer: self.peer, transport }
    }

    fn presented(&self) -> Option<Presented> {
        let read = || {
            // Nothing panics while it is held.
            let shown = mem::take(&mut *self.shown.lock().unwrap_or_else(PoisonError::into_inner));
            let chain = PresentedChain::read(shown.iter().map(|certificate| &**certificate));
            (!shown.is_empty()).then(|| chain.map(Arc::new))
        };
        self.presented.get_or_init(read).clone()
    }
}

/// Spec: DPS-EXPLAIN-4, DPS-METRICS-2, DPS-METRICS-3.
fn note(front_end: &FrontEnd, peer: Peer, end: &End) {
    front_end.metrics.closed(end.outcome());
    let (connection, address, transport) = (peer.connection, peer.address, TRANSPORT);
    if end.is_normal() {
        tracing::debug!(connection, peer = %address, transport, reason = %end, "connection ended");
        return;
    }
    tracing::warn!(connection, peer = %address, transport, reason = %end, "connection closed");
    if let Some(limit) = end.limit() {
        front_end.metrics.limit_hit(limit);
    }
    let explanation = Explanation {
        at: front_end.moments.moment().now,
        tracking_id: None,
        connection: Some(connection),
        peer: Some(address),
        transport: Some(transport),
        id_scope: None,
        registration_id: None,
        step: Step::Connection,
        told: String::new(),
        reason: end.to_string(),
        advice: end.advice().map(str::to_owned),
        chain: None,
    };
    front_end.explanations.keep(explanation, false);
}
