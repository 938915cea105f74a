//! What a broker may use up. Spec: DPS-BROKER-3.

use std::num::NonZeroU32;
use std::time::Duration;

use dps_server::limits::Limits;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::desk::{Answer, Desk, USER, answer, form, key, post, token};

fn question(password: &str) -> String {
    form(&[
        ("username", "hub.example/press-7"),
        ("password", password),
        ("vhost", "/"),
        ("client_id", "press-7"),
    ])
}

/// DPS-BROKER-3
#[tokio::test]
async fn who_asks_too_often_is_told_so_and_may_ask_again_soon() {
    let limits = Limits { broker_questions_per_second: NonZeroU32::new(20), ..Limits::default() };
    let desk = Desk::with(limits, false, None).await;
    let mut stream = TcpStream::connect(desk.address).await.unwrap();
    let body = question(&token("press-7", &key(1), 600));
    let mut last = Answer(200, "allow".to_owned());
    for _ in 0..200 {
        last = post(&mut stream, USER, &body).await;
        if last.0 != 200 {
            break;
        }
    }
    assert_eq!(last.0, 429);
    assert!(desk.counted(r#"harbormaster_limits_hit_total{limit="BrokerQuestions"} 1"#));
    let until = Instant::now() + Duration::from_secs(10);
    while post(&mut stream, USER, &body).await.0 == 429 {
        assert!(Instant::now() < until);
        sleep(Duration::from_millis(20)).await;
    }
}

/// DPS-BROKER-3: and the device itself is let in all the same.
#[tokio::test]
async fn refusals_beyond_the_limit_are_judged_and_counted_and_no_longer_explained() {
    let limits = Limits { failed_attestations_per_minute: NonZeroU32::new(5), ..Limits::default() };
    let desk = Desk::with(limits, false, None).await;
    let mut stream = TcpStream::connect(desk.address).await.unwrap();
    for _ in 0..12 {
        let bad = question(&token("press-7", &key(9), 600));
        assert_eq!(post(&mut stream, USER, &bad).await, Answer(200, "deny".to_owned()));
    }
    assert_eq!(desk.explanations(), 5);
    assert!(desk.counted(r#"harbormaster_broker_questions_total{asked="User",outcome="Refused"} 12"#));
    assert!(desk.counted(r#"harbormaster_limits_hit_total{limit="BrokerRefusals"} 7"#));
    let good = question(&token("press-7", &key(1), 600));
    assert_eq!(post(&mut stream, USER, &good).await, Answer(200, "allow".to_owned()));
}

/// DPS-BROKER-3
#[tokio::test]
async fn a_body_that_is_too_large_or_comes_too_slowly_is_refused() {
    let limits = Limits { request_within: Duration::from_millis(300), ..Limits::default() };
    let desk = Desk::with(limits, false, None).await;
    let mut stream = TcpStream::connect(desk.address).await.unwrap();
    assert_eq!(post(&mut stream, USER, &"x".repeat(32 * 1_024 + 1)).await.0, 413);

    let mut stream = TcpStream::connect(desk.address).await.unwrap();
    let head = "POST /broker/v1/user HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-www-form-urlencoded\r\n\
                content-length: 90\r\n\r\nusername=";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(answer(&mut stream).await.0, 408);
    let mut stream = TcpStream::connect(desk.address).await.unwrap();
    let head = format!("POST {USER} HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(20 * 1_024));
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(answer(&mut stream).await.0, 431);
}

/// DPS-BROKER-3
#[tokio::test]
async fn so_many_connections_are_served_and_the_next_one_waits_for_a_place() {
    let desk = Desk::new().await;
    let body = question(&token("press-7", &key(1), 600));
    let mut open = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(desk.address).await.unwrap();
        assert_eq!(post(&mut stream, USER, &body).await.0, 200);
        open.push(stream);
    }
    let mut next = TcpStream::connect(desk.address).await.unwrap();
    let early = timeout(Duration::from_millis(200), post(&mut next, USER, &body)).await;
    assert!(early.is_err(), "no place is free");
    open.pop();
    assert_eq!(answer(&mut next).await.0, 200);
}

/// DPS-BROKER-3: connections between two questions do not hold up a stop.
#[tokio::test]
async fn a_stop_ends_idle_connections_at_once() {
    let desk = Desk::new().await;
    let mut stream = TcpStream::connect(desk.address).await.unwrap();
    assert_eq!(post(&mut stream, USER, &question("x")).await.0, 200);
    desk.stop.send_replace(true);
    timeout(Duration::from_secs(5), desk.serving).await.unwrap().unwrap();
}
