//! One client's HTTPS connection. Spec: DPS-SERVICE-1, DPS-LIMIT-3.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::admission::Admitted;
use crate::front_end::{FrontEnd, Peer};
use crate::service_api::ServiceApi;
use crate::write_deadline::WriteDeadline;

/// Bytes of a request's head, and of what is buffered of a body. Spec: DPS-LIMIT-10.
const BUFFER_BYTES: usize = 8 * 1024;

/// Header lines of a request.
const HEADERS_MAX: usize = 64;

/// Serves one client until either side ends the connection, or `stopping` becomes true and the request in flight is done.
pub async fn serve<S>(
    stream: S,
    peer: Peer,
    admitted: Admitted,
    front_end: &FrontEnd,
    service_api: Arc<ServiceApi>,
    mut stopping: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let _open = front_end.metrics.connection();
    // Whether a request of it was allowed yet.
    let proven = Mutex::new((admitted, false));
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        let (service_api, proven) = (Arc::clone(&service_api), &proven);
        async move {
            let (head, body) = request.into_parts();
            let answered = Box::pin(service_api.answer(&head, body, peer)).await;
            let mut response = answered.response;
            let mut proven = proven.lock().unwrap_or_else(PoisonError::into_inner);
            if answered.is_authorized {
                proven.0.attested();
                proven.1 = true;
            } else if !proven.1 {
                // Or it could stay for ever without proving anything.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let stream = WriteDeadline::new(stream, front_end.limits.write_within);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Also how long a connection may stay open between two requests.
        .header_read_timeout(front_end.limits.session.attest_within)
        .max_buf_size(BUFFER_BYTES)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
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
        end(peer, &why.to_string());
    }
}

fn end(peer: Peer, reason: &str) {
    tracing::debug!(
        connection = peer.connection, peer = %peer.address, transport = "https", reason, "connection ended"
    );
}
