//! Accepting and bounding connections to the admin listener. Spec: DPS-DEV-11.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

/// Connections at one time; more wait in the kernel's queue.
const CONNECTIONS_MAX: u32 = 64;

/// Time for the headers of a request.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);

/// Time for a connection as a whole: its one request, the answer, and the reading of the answer.
const CONNECTION_WITHIN: Duration = Duration::from_secs(30);

/// Largest headers, in bytes.
const HEADERS_BYTES_MAX: usize = 16 * 1_024;

/// How long to wait after the operating system refused to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stopping` becomes true, then gives open connections `drain_within`.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    mut stopping: watch::Receiver<bool>,
    drain_within: Duration,
) {
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
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    serve_one(stream, router).await;
                    drop(place);
                });
            }
            Err(why) => {
                tracing::error!(reason = %why, "cannot accept an admin connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    // What has not ended by then ends with the process.
    let _ = timeout(drain_within, places.acquire_many(CONNECTIONS_MAX)).await;
}

async fn serve_one(stream: TcpStream, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(HEADERS_BYTES_MAX)
        // A connection that may go on for ever has no deadline of its own.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match timeout(CONNECTION_WITHIN, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => tracing::debug!(reason = %why, "an admin connection ended badly"),
        Err(_) => {
            let within_s = CONNECTION_WITHIN.as_secs();
            tracing::debug!(within_s, "an admin connection was cut off");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::body::Bytes;
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::Instant;

    use super::*;

    async fn listening() -> (SocketAddr, watch::Sender<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router =
            Router::new().route("/", get(|| async { "ok" })).route("/", post(|body: Bytes| async { body }));
        let (stop, stopping) = watch::channel(false);
        tokio::spawn(serve(listener, router, stopping, Duration::from_secs(1)));
        (address, stop)
    }

    /// What comes back until the listener closes, and after how long it does.
    async fn sent(address: SocketAddr, text: &str) -> (String, Duration) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let began = Instant::now();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A reset is an end too.
        let _ = stream.read_to_end(&mut answer).await;
        (String::from_utf8(answer).unwrap(), began.elapsed())
    }

    /// DPS-DEV-11
    #[tokio::test(start_paused = true)]
    async fn who_is_silent_or_slow_is_cut_off() {
        let (address, _stop) = listening().await;
        for (text, within) in [
            ("", HEADERS_WITHIN),
            ("GET / HTTP/1.1\r\nhost: a\r\n", HEADERS_WITHIN),
            ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf", CONNECTION_WITHIN),
        ] {
            let (_, took) = sent(address, text).await;
            assert!(took >= within && took < within + Duration::from_secs(1), "{text:?}: {took:?}");
        }
        let (answer, took) = sent(address, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"), "{answer}");
        assert!(took < HEADERS_WITHIN, "one request on each connection");
    }

    /// DPS-DEV-11
    #[tokio::test]
    async fn so_many_connections_are_served_and_the_next_one_waits_for_a_place() {
        let (address, _stop) = listening().await;
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let mut next = TcpStream::connect(address).await.unwrap();
        next.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        let early = timeout(Duration::from_millis(200), next.read_exact(&mut answer)).await;
        assert!(early.is_err(), "no place is free");
        silent.pop();
        timeout(Duration::from_secs(5), next.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    }
}
