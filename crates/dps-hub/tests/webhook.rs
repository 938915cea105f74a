//! The allocation webhook against real bytes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by failing")]

#[path = "support/scripted_peer.rs"]
mod scripted_peer;

use std::net::Ipv4Addr;
use std::time::Duration;

use dps_hub::outbound::{AllowedTargets, HttpsUrl, Outbound, OutboundError, Trust, TrustedRoots};
use dps_hub::webhook::{ANSWER_BYTES_MAX, NotNamed, Outcome, REQUEST_BYTES_MAX, Retryable, Webhook};
use scripted_peer::{ScriptedPeer, Then, answer, answer_with};
use tokio::net::TcpListener;

const NAMED: &str = r#"{"iotHubHostName":"hub-2.example","payload":{"a":1}}"#;

fn webhook(peer: &ScriptedPeer, entries: &[&str]) -> Webhook {
    let roots = TrustedRoots::read(&Trust::Only(peer.ca_file())).unwrap();
    Webhook::new(Outbound::new(AllowedTargets::parse(entries).unwrap(), roots).unwrap())
}

fn url(peer: &ScriptedPeer) -> HttpsUrl {
    format!("https://localhost:{}/api/allocate?code=f%2FnctionK3y==", peer.address.port()).parse().unwrap()
}

async fn called(then: Then) -> Outcome {
    let peer = ScriptedPeer::start(move |_| then.clone()).await;
    webhook(&peer, &["localhost"]).call(&url(&peer), "{}".into()).await
}

/// DPS-HUB-20
#[tokio::test]
async fn a_call_is_a_post_of_the_json_to_the_url_as_it_was_set() {
    let peer = ScriptedPeer::start(|_| answer(200, NAMED)).await;
    let body = r#"{"deviceRuntimeContext":{"registrationId":"d"},"linkedHubs":["hub-2.example"]}"#;
    let outcome = webhook(&peer, &["localhost"]).call(&url(&peer), body.into()).await;
    let Outcome::Named(allocation) = outcome else { panic!("{outcome:?}") };
    assert_eq!(allocation.hub.as_str(), "hub-2.example");
    let [request] = &*peer.requests() else { panic!("one request") };
    assert!(request.starts_with("POST /api/allocate?code=f%2FnctionK3y== HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("\r\ncontent-type: application/json\r\n"), "{request}");
    assert!(request.ends_with(&format!("\r\n\r\n{body}")), "{request}");
}

/// DPS-HUB-21: each row of Azure's table.
#[tokio::test]
async fn each_answer_has_its_outcome() {
    assert!(matches!(called(answer(200, NAMED)).await, Outcome::Named(_)));
    assert!(matches!(called(answer(200, "{}")).await, Outcome::NotNamed(NotNamed::Absent)));
    assert!(matches!(called(answer(401, NAMED)).await, Outcome::Unauthorized));
    for refused in [201, 202, 204, 302, 307, 400, 403, 404, 428] {
        let then =
            answer_with(refused, "location: https://localhost/\r\n", if refused == 204 { "" } else { NAMED });
        let outcome = called(then).await;
        assert!(
            matches!(outcome, Outcome::Refused { status } if status == refused),
            "{refused}: {outcome:?}"
        );
    }
    for retryable in [429, 500, 503, 599] {
        let outcome = called(answer(retryable, NAMED)).await;
        let Outcome::Retryable(Retryable::Status(status)) = outcome else {
            panic!("{retryable}: {outcome:?}")
        };
        assert_eq!(status, retryable);
    }
    for unreadable in ["", "<html>", r#"{"iotHubHostName":7}"#] {
        assert!(matches!(called(answer(200, unreadable)).await, Outcome::Unreadable(_)), "{unreadable}");
    }
}

/// DPS-HUB-20, DPS-HUB-21: whatever keeps an answer from coming is tried again; what is too large will be again.
#[tokio::test]
async fn no_answer_is_retryable_and_one_that_is_too_large_is_not() {
    for cut in ["", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", "not http\r\n"] {
        let outcome = called(Then::Cuts(cut.into())).await;
        assert!(
            matches!(outcome, Outcome::Retryable(Retryable::NoAnswer(OutboundError::Broken { .. }))),
            "{outcome:?}"
        );
    }
    let stalls = ScriptedPeer::start(|_| Then::Stalls(Vec::new())).await;
    let impatient = webhook(&stalls, &["localhost"]).within(Duration::from_millis(200));
    let outcome = impatient.call(&url(&stalls), "{}".into()).await;
    assert!(
        matches!(outcome, Outcome::Retryable(Retryable::NoAnswer(OutboundError::TimedOut { .. }))),
        "{outcome:?}"
    );
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let nobody = format!("https://{}/", free.local_addr().unwrap()).parse().unwrap();
    drop(free);
    let outcome = webhook(&stalls, &["127.0.0.1"]).call(&nobody, "{}".into()).await;
    assert!(
        matches!(outcome, Outcome::Retryable(Retryable::NoAnswer(OutboundError::Unreachable { .. }))),
        "{outcome:?}"
    );
    let large = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", ANSWER_BYTES_MAX + 1);
    assert!(matches!(called(Then::Stalls(large.into())).await, Outcome::Unreadable(_)));
}

/// DPS-HUB-2, DPS-HUB-20, DPS-HUB-21
#[tokio::test]
async fn nothing_is_sent_where_nothing_may_be_or_where_it_is_too_much() {
    let peer = ScriptedPeer::start(|_| answer(200, NAMED)).await;
    let outcome = webhook(&peer, &[]).call(&url(&peer), "{}".into()).await;
    assert!(matches!(&outcome, Outcome::Blocked(refused) if refused.address.is_loopback()), "{outcome:?}");
    let most = vec![b' '; REQUEST_BYTES_MAX];
    let webhook = webhook(&peer, &["localhost"]);
    assert!(matches!(webhook.call(&url(&peer), most.clone().into()).await, Outcome::Named(_)));
    let outcome = webhook.call(&url(&peer), [most, vec![b' ']].concat().into()).await;
    assert!(matches!(outcome, Outcome::RequestTooLarge), "{outcome:?}");
    assert_eq!(peer.requests().len(), 1);
}

/// DPS-HUB-8: no outcome shows the key of a function.
#[tokio::test]
async fn the_query_of_the_url_stands_in_no_outcome() {
    let peer = ScriptedPeer::start(|_| answer(200, NAMED)).await;
    let untrusted = ScriptedPeer::start(|_| answer(200, NAMED)).await;
    let calls = [
        called(answer(503, "")).await,
        called(answer(400, "")).await,
        called(Then::Cuts(Vec::new())).await,
        webhook(&peer, &[]).call(&url(&peer), "{}".into()).await,
        webhook(&peer, &["localhost"]).call(&url(&untrusted), "{}".into()).await,
    ];
    for outcome in calls {
        let shown = format!("{outcome} {outcome:?} {:?} {}", url(&peer), url(&peer));
        assert!(!shown.contains("nctionK3y") && !shown.contains("code="), "{shown}");
    }
}
