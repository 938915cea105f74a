//! What a connection may make the service wait for, and how it ends. Time is virtual.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use dps_server::explain::Wanted;
use dps_server::front_end::{FrontEnd, Peer};
use dps_server::https;
use dps_server::limits::Limits;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::HOST;
use crate::client::{Client, Token, key};
use crate::showing::Showing;

/// A client's end of a connection, and the task that serves it.
pub(crate) struct Connection {
    pub(crate) front_end: Arc<FrontEnd>,
    pub(crate) stream: DuplexStream,
    stop: watch::Sender<bool>,
    served: JoinHandle<()>,
    opened: Instant,
}

impl Connection {
    async fn open() -> Self {
        Self::to(&Client::new(), Vec::new()).await
    }

    /// A connection of someone who has shown `certificates`.
    pub(crate) async fn to(client: &Client, certificates: Vec<CertificateDer<'static>>) -> Self {
        let front_end = Arc::clone(&client.front_end);
        let (stream, theirs) = duplex(64 * 1024);
        let (stop, stopping) = watch::channel(false);
        let place = client.front_end.admission.place().await.unwrap();
        let mut admitted = client.front_end.admission.admit(place).unwrap();
        admitted.comes_from(Ipv4Addr::LOCALHOST.into()).unwrap();
        let peer = Peer { connection: 1, address: (Ipv4Addr::LOCALHOST, 50_000).into() };
        let (api, served_by) = (client.api(), Arc::clone(&front_end));
        let served = tokio::spawn(async move {
            let theirs = Showing { stream: theirs, certificates };
            https::serve(theirs, peer, admitted, &served_by, api, stopping).await;
        });
        Self { front_end, stream, stop, served, opened: Instant::now() }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// What comes next; answers of these tests come whole.
    pub(crate) async fn answer(&mut self) -> String {
        let mut answer = vec![0; 64 * 1024];
        let length = self.stream.read(&mut answer).await.unwrap();
        answer.truncate(length);
        String::from_utf8(answer).unwrap()
    }

    /// What is said until the service ends the connection, and how long it had been open by then.
    pub(crate) async fn end(mut self) -> (String, Duration) {
        let mut said = String::new();
        self.stream.read_to_string(&mut said).await.unwrap();
        self.served.await.unwrap();
        (said, self.opened.elapsed())
    }
}

fn head(method: &str, path: &str, token: &Token, more: &str) -> String {
    let token = token.text();
    format!(
        "{method} {path}?api-version=2021-10-01 HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {token}\r\n{more}\r\n"
    )
}

fn within() -> Duration {
    Limits::default().session.attest_within
}

#[track_caller]
fn check_ended(ended: (String, Duration), said: &str, after: Duration) {
    assert_eq!(ended.0, said);
    assert!(ended.1 >= after && ended.1 < after + Duration::from_secs(1), "after {:?}", ended.1);
}

/// One connection ended so, and no limit was hit but this one. A limit on the connection itself is explained.
#[track_caller]
fn check_counted(front_end: &FrontEnd, outcome: &str, limit: Option<&str>) {
    let numbers = front_end.metrics.render();
    let closed = format!(r#"harbormaster_connections_closed_total{{outcome="{outcome}"}} 1"#);
    assert!(numbers.contains(&closed), "{numbers}");
    let hit: Vec<_> =
        numbers.lines().filter_map(|line| line.strip_prefix("harbormaster_limits_hit_total")).collect();
    let expected: Vec<_> = limit.iter().map(|limit| format!(r#"{{limit="{limit}"}} 1"#)).collect();
    assert_eq!(hit, expected);
}

#[track_caller]
fn check_explained(front_end: &FrontEnd, reason: &str) {
    let explained = front_end.explanations.find(&Wanted { connection: Some(1), ..Wanted::default() }, 9);
    assert_eq!(explained.len(), 1, "{explained:?}");
    assert!(explained[0].reason.starts_with(reason), "{explained:?}");
    assert!(explained[0].advice.is_some(), "{explained:?}");
}

/// DPS-LIMIT-3, DPS-SERVICE-1, DPS-METRICS-2, DPS-METRICS-3, DPS-EXPLAIN-4
#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_or_half_a_head_is_cut_in_time() {
    for text in ["", "GET /enrollments/a HTTP/1.1\r\nHo"] {
        let mut connection = Connection::open().await;
        connection.send(text).await;
        let front_end = Arc::clone(&connection.front_end);
        check_ended(connection.end().await, "", within());
        check_counted(&front_end, "Limit", Some("AttestTime"));
        check_explained(&front_end, "no whole head of a request within 60s");
    }
}

/// DPS-SERVICE-1, DPS-METRICS-2, DPS-METRICS-3, DPS-EXPLAIN-4
#[tokio::test(start_paused = true)]
async fn what_is_no_request_and_a_head_too_large_are_counted_and_explained() {
    let large = format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(20_000));
    for (text, limit, reason) in [
        ("no HTTP at all\r\n\r\n", None, "what came is no request: "),
        (&large, Some("Packet"), "the head of the request is larger than 8192 bytes"),
    ] {
        let mut connection = Connection::open().await;
        connection.send(text).await;
        let front_end = Arc::clone(&connection.front_end);
        connection.end().await;
        check_counted(&front_end, "Broken", limit);
        check_explained(&front_end, reason);
    }
}

/// DPS-LIMIT-3, DPS-METRICS-2, DPS-METRICS-3, DPS-EXPLAIN-4
#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_its_answers_is_cut_counted_and_explained() {
    let mut connection = Connection::open().await;
    let front_end = Arc::clone(&connection.front_end);
    let request = head("GET", "/enrollments/a", &Token::default(), "");
    let began = Instant::now();
    while connection.stream.write_all(request.as_bytes()).await.is_ok() {}
    connection.served.await.unwrap();
    assert!(began.elapsed() >= Limits::default().write_within);
    check_counted(&front_end, "Limit", Some("WriteTime"));
    let latest = front_end.explanations.find(&Wanted::default(), 1);
    assert_eq!(latest[0].reason, "the client did not take what it was sent");
}

/// DPS-LIMIT-3
#[tokio::test(start_paused = true)]
async fn a_head_that_comes_byte_by_byte_has_no_more_time_than_any_other() {
    let mut connection = Connection::open().await;
    let text = head("GET", "/enrollments/a", &Token::default(), "");
    for byte in text.split("").take(100) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if connection.stream.write_all(byte.as_bytes()).await.is_err() {
            break;
        }
    }
    let opened = connection.opened;
    connection.served.await.unwrap();
    assert!(opened.elapsed() >= within() && opened.elapsed() <= within() + Duration::from_secs(2));
}

/// DPS-SERVICE-1, DPS-LIMIT-3
#[tokio::test(start_paused = true)]
async fn a_client_that_was_let_in_may_pause_between_requests_but_not_for_ever() {
    let mut connection = Connection::open().await;
    let idle = Limits::default().session.idle;
    for pause in [within(), idle, idle] {
        tokio::time::sleep(pause - Duration::from_secs(1)).await;
        connection.send(&head("GET", "/enrollments/a", &Token::default(), "")).await;
        assert!(connection.answer().await.starts_with("HTTP/1.1 404 Not Found\r\n"));
    }
    connection.opened = Instant::now();
    let front_end = Arc::clone(&connection.front_end);
    check_ended(connection.end().await, "", idle);
    check_counted(&front_end, "Limit", Some("IdleTime"));
}

/// DPS-LIMIT-3, DPS-HTTPS-9
#[tokio::test(start_paused = true)]
async fn a_client_that_was_let_in_has_no_more_time_for_a_head_than_any_other() {
    let mut connection = Connection::open().await;
    connection.send(&head("GET", "/enrollments/a", &Token::default(), "")).await;
    connection.answer().await;
    tokio::time::sleep(within() * 3).await;
    connection.opened = Instant::now();
    connection.send("GET /enrollments/a HTTP/1.1\r\nHo").await;
    let front_end = Arc::clone(&connection.front_end);
    check_ended(connection.end().await, "", within());
    check_counted(&front_end, "Limit", Some("AttestTime"));
}

/// DPS-SERVICE-1, DPS-ACCESS-3
#[tokio::test(start_paused = true)]
async fn a_client_that_was_never_let_in_has_one_request() {
    let mut connection = Connection::open().await;
    let stranger = Token { key: key(9), ..Token::default() };
    connection.send(&head("GET", "/enrollments/a", &stranger, "")).await;
    let front_end = Arc::clone(&connection.front_end);
    let (said, after) = connection.end().await;
    check_counted(&front_end, "Refused", None);
    assert!(said.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{said}");
    assert!(said.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{said}");
    assert!(after < Duration::from_secs(1), "{after:?}");
}

/// DPS-LIMIT-3, DPS-SERVICE-1, DPS-SERVICE-18: a body that is wanted, and one that is not.
#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for_long() {
    for (method, status, limit) in
        [("PUT", "400 Bad Request", Some("BodyTime")), ("GET", "404 Not Found", None)]
    {
        let mut connection = Connection::open().await;
        connection.send(&head(method, "/enrollments/a", &Token::default(), "Content-Length: 9\r\n")).await;
        connection.send("{").await;
        let front_end = Arc::clone(&connection.front_end);
        let (said, after) = connection.end().await;
        check_counted(&front_end, "ByDevice", limit);
        assert!(said.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{said}");
        assert!(said.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{said}");
        let limit = Limits::default().request_within;
        assert!(after >= limit && after < limit + Duration::from_secs(1), "{after:?}");
    }
}

/// DPS-SERVICE-1
#[tokio::test(start_paused = true)]
async fn a_body_that_comes_after_the_answer_was_decided_is_taken_before_it_is_told() {
    let mut connection = Connection::open().await;
    for _ in 0..2 {
        let asked = head("POST", "/enrollments/query", &Token::default(), "Content-Length: 13\r\n");
        connection.send(&asked).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        connection.send(r#"{"query":"*"}"#).await;
        let answer = connection.answer().await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n[]"), "{answer}");
    }
}

/// DPS-DEV-5
#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_when_the_service_stops() {
    let mut connection = Connection::open().await;
    connection.send(&head("GET", "/enrollments/a", &Token::default(), "")).await;
    assert!(connection.answer().await.starts_with("HTTP/1.1 404 Not Found\r\n"));
    connection.stop.send_replace(true);
    check_ended(connection.end().await, "", Duration::ZERO);
    for text in ["", "GET /enrollments/a HTTP/1.1\r\nHo"] {
        let mut connection = Connection::open().await;
        connection.send(text).await;
        let front_end = Arc::clone(&connection.front_end);
        tokio::time::sleep(Duration::from_millis(1)).await;
        connection.opened = Instant::now();
        connection.stop.send_replace(true);
        let (said, after) = connection.end().await;
        assert!(said.is_empty() && after < Duration::from_secs(2), "{said} {after:?}");
        check_counted(&front_end, "Shutdown", None);
    }
}
