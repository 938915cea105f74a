//! One client's HTTPS connection. Spec: DPS-SERVICE-1, DPS-LIMIT-3.

pub mod end;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::admission::Admitted;
use crate::explain::{Explanation, Step};
use crate::front_end::{FrontEnd, Peer};
use crate::service_api::{ServiceApi, TRANSPORT};
use crate::write_deadline::WriteDeadline;
use end::End;

/// Bytes of a request's head, and of what is buffered of a body. Spec: DPS-LIMIT-10.
const BUFFER_BYTES: usize = 8 * 1024;

/// Header lines of a request.
const HEADERS_MAX: usize = 64;

/// How long a client may take to read what was answered before the service was to stop.
const LAST_ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// How far a client has come.
struct Standing {
    admitted: Admitted,
    /// A request of it was allowed.
    is_let_in: bool,
    /// Its last request was refused, and no other had been allowed.
    is_turned_away: bool,
    /// Requests that have no answer yet.
    in_flight: usize,
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
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let _open = front_end.metrics.connection();
    let end = until_ended(stream, peer, admitted, front_end, service_api, stopping).await;
    note(front_end, peer, &end);
}

async fn until_ended<S>(
    stream: S,
    peer: Peer,
    admitted: Admitted,
    front_end: &FrontEnd,
    service_api: Arc<ServiceApi>,
    mut stopping: watch::Receiver<bool>,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let standing = Mutex::new(Standing { admitted, is_let_in: false, is_turned_away: false, in_flight: 0 });
    let standing = || standing.lock().unwrap_or_else(PoisonError::into_inner);
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        let service_api = Arc::clone(&service_api);
        standing().in_flight += 1;
        async move {
            let (head, body) = request.into_parts();
            let answered = Box::pin(service_api.answer(&head, body, peer)).await;
            let mut response = answered.response;
            let mut standing = standing();
            standing.in_flight -= 1;
            if answered.is_authorized {
                standing.admitted.attested();
                standing.is_let_in = true;
            } else if !standing.is_let_in {
                // Or it could stay for ever without proving anything.
                standing.is_turned_away = true;
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let stream = WriteDeadline::new(stream, front_end.limits.write_within);
    // Also how long a connection may stay open between two requests.
    let head_within = front_end.limits.session.attest_within;
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_within)
        .max_buf_size(BUFFER_BYTES)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = stopping.wait_for(|stop| *stop) => None,
    };
    let is_in_flight = standing().in_flight > 0;
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            if is_in_flight {
                connection.await
            } else {
                // Half a head is no request to wait for.
                timeout(LAST_ANSWER_WITHIN, connection).await.unwrap_or(Ok(()))
            }
        }
    };
    match ended {
        Ok(()) if standing().is_turned_away => End::NotLetIn,
        Ok(()) if *stopping.borrow() => End::Shutdown,
        Ok(()) => End::ByClient,
        Err(why) if why.is_timeout() && !standing().is_let_in => End::HeadTimeout { within: head_within },
        Err(why) if why.is_timeout() => End::Idle { after: head_within },
        Err(why) if why.is_parse_too_large() => End::HeadTooLarge { bytes: BUFFER_BYTES, lines: HEADERS_MAX },
        Err(why) => End::of_error(&why),
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
        connection,
        peer: address,
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
