//! What a connection may make the service wait for, and how it ends. Time is virtual.

use std::net::Ipv4Addr;
use std::time::Duration;

use dps_server::front_end::Peer;
use dps_server::https;
use dps_server::limits::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::HOST;
use crate::client::{Client, Token, key};

/// A client's end of a connection, and the task that serves it.
struct Connection {
    stream: DuplexStream,
    stop: watch::Sender<bool>,
    served: JoinHandle<()>,
    opened: Instant,
}

impl Connection {
    async fn open() -> Self {
        let client = Client::new();
        let (stream, theirs) = duplex(64 * 1024);
        let (stop, stopping) = watch::channel(false);
        let place = client.front_end.admission.place().await.unwrap();
        let admitted = client.front_end.admission.admit(place, Ipv4Addr::LOCALHOST.into()).unwrap();
        let peer = Peer { connection: 1, address: (Ipv4Addr::LOCALHOST, 50_000).into() };
        let served = tokio::spawn(async move {
            https::serve(theirs, peer, admitted, &client.front_end, client.api(), stopping).await;
        });
        Self { stream, stop, served, opened: Instant::now() }
    }

    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// What comes next; answers of these tests come whole.
    async fn answer(&mut self) -> String {
        let mut answer = vec![0; 64 * 1024];
        let length = self.stream.read(&mut answer).await.unwrap();
        answer.truncate(length);
        String::from_utf8(answer).unwrap()
    }

    /// What is said until the service ends the connection, and how long it had been open by then.
    async fn end(mut self) -> (String, Duration) {
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

/// DPS-LIMIT-3, DPS-SERVICE-1
#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_or_half_a_head_is_cut_in_time() {
    check_ended(Connection::open().await.end().await, "", within());
    let mut half = Connection::open().await;
    half.send("GET /enrollments/a HTTP/1.1\r\nHo").await;
    check_ended(half.end().await, "", within());
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
    for _ in 0..3 {
        tokio::time::sleep(within() - Duration::from_secs(1)).await;
        connection.send(&head("GET", "/enrollments/a", &Token::default(), "")).await;
        assert!(connection.answer().await.starts_with("HTTP/1.1 404 Not Found\r\n"));
    }
    connection.opened = Instant::now();
    check_ended(connection.end().await, "", within());
}

/// DPS-SERVICE-1, DPS-ACCESS-3
#[tokio::test(start_paused = true)]
async fn a_client_that_was_never_let_in_has_one_request() {
    let mut connection = Connection::open().await;
    let stranger = Token { key: key(9), ..Token::default() };
    connection.send(&head("GET", "/enrollments/a", &stranger, "")).await;
    let (said, after) = connection.end().await;
    assert!(said.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{said}");
    assert!(said.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{said}");
    assert!(after < Duration::from_secs(1), "{after:?}");
}

/// DPS-LIMIT-3, DPS-SERVICE-1: a body that is wanted, and one that is not.
#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for_long() {
    for (method, status) in [("PUT", "503 Service Unavailable"), ("GET", "404 Not Found")] {
        let mut connection = Connection::open().await;
        connection.send(&head(method, "/enrollments/a", &Token::default(), "Content-Length: 9\r\n")).await;
        connection.send("{").await;
        let (said, after) = connection.end().await;
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
    let silent = Connection::open().await;
    silent.stop.send_replace(true);
    check_ended(silent.end().await, "", Duration::ZERO);
}
