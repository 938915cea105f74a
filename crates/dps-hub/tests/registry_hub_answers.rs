//! An Azure IoT Hub behind the ports: what is made of bytes that its registry for tests does not send.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by failing")]

#[path = "support/scripted_peer.rs"]
mod scripted_peer;

use dps_core::ports::{DeviceRegistry as _, Hub as _, HubAuthentication, HubHealth, RegistryError};
use dps_hub::azure::{ANSWER_BYTES_MAX, RegistryHub};
use dps_hub::outbound::{AllowedTargets, Outbound, Trust, TrustedRoots};
use dps_proto::ids::DeviceId;
use dps_proto::key::{KeyPair, SymmetricKey};
use scripted_peer::{ScriptedPeer, Then, answer, answer_with};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const KEY: &str = "aHViLWtleS1vZi10aGUtc2NyaXB0ZWQtcGVlci0wMTI=";

/// Asks `authority`, may ask `localhost` alone, and trusts the peer.
fn hub(peer: &ScriptedPeer, authority: &str) -> RegistryHub {
    let roots = TrustedRoots::read(&Trust::Only(peer.ca_file())).unwrap();
    let outbound = Outbound::new(AllowedTargets::parse(["localhost", "*.invalid"]).unwrap(), roots).unwrap();
    let text = format!("HostName={authority};SharedAccessKeyName=iothubowner;SharedAccessKey={KEY}");
    RegistryHub::new(text.parse().unwrap(), outbound)
}

fn at(peer: &ScriptedPeer) -> String {
    format!("localhost:{}", peer.address.port())
}

fn id() -> DeviceId {
    "d".parse().unwrap()
}

/// What a hub makes of that answer to a read, and whether three such answers make it unhealthy.
async fn told(then: Then) -> (RegistryError, bool) {
    let peer = ScriptedPeer::start(move |_| then.clone()).await;
    let hub = hub(&peer, &at(&peer));
    let why = hub.identity(&id()).await.unwrap_err();
    for _ in 0..2 {
        assert_eq!(hub.identity(&id()).await.unwrap_err(), why);
    }
    (why, hub.health() != HubHealth::Healthy)
}

/// DPS-HUB-14, DPS-HUB-19
#[tokio::test]
async fn a_device_is_written_back_with_members_that_are_not_known_and_numbers_as_they_are_spelt() {
    let read = r#"{"deviceId":"d","etag":"MTIz","generationId":"1","status":"disabled","statusReason":"stolen","capabilities":{"iotEdge":true,"more":[null]},"surprise":{"a":1.10,"b":123456789012345678901234567890},"authentication":{"type":"none","policy":7}}"#;
    let peer = ScriptedPeer::start(move |_| answer(200, read)).await;
    let hub = hub(&peer, &at(&peer));
    let device = hub.identity(&id()).await.unwrap();
    let key = SymmetricKey::from_bytes(vec![1; 32]).unwrap();
    let keys = HubAuthentication::Keys(KeyPair { primary: key.clone(), secondary: key });
    hub.set_authentication(&device, &keys).await.unwrap();
    let sent = peer.requests()[1].clone();
    let (head, body) = sent.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("PUT /devices/d?"), "{head}");
    assert!(head.to_ascii_lowercase().contains("if-match: \"mtiz\"\r\n"), "{head}");
    assert!(body.contains(r#""surprise":{"a":1.10,"b":123456789012345678901234567890}"#), "{body}");
    let mut body: Value = serde_json::from_str(body).unwrap();
    let written = body["authentication"].take();
    assert_eq!((&written["type"], written.get("policy")), (&json!("sas"), None));
    assert_eq!(body["capabilities"], json!({"iotEdge": true, "more": [null]}));
    let others = [("deviceId", json!("d")), ("status", json!("disabled")), ("statusReason", json!("stolen"))];
    assert!(others.iter().all(|(member, value)| body[*member] == *value), "{body}");
    assert!(body.get("etag").is_none() && body.get("generationId").is_none(), "{body}");
}

/// DPS-HUB-16, DPS-HUB-17, DPS-HUB-19
#[tokio::test]
async fn a_refusal_is_told_in_the_hub_s_words_or_else_in_ours() {
    let unknown = r#"{"Message":"ErrorCode:SomethingNew;never heard of"}"#;
    let rows = [
        (answer(400, unknown), unknown, false),
        (answer_with(403, "iothub-errorcode: SomethingNew\r\n", "no"), "no", false),
        (answer(403, ""), "the hub refuses the request: 403000 Forbidden", true),
        (answer(403, " \r\n"), "the hub refuses the request: 403000 Forbidden", true),
        (answer(404, "<html>not here</html>"), "<html>not here</html>", true),
        (
            answer_with(301, "location: https://localhost/\r\n", ""),
            "the hub refuses the request: 301000 Moved Permanently",
            true,
        ),
        (answer(401, ""), "the hub does not accept its connection string: 401000 Unauthorized", true),
    ];
    for (then, expected, ails) in rows {
        let (why, is_unhealthy) = told(then).await;
        let RegistryError::Refused { said, reason } = &why else { panic!("{why:?}") };
        assert_eq!((&**said, is_unhealthy), (expected, ails));
        assert!(!reason.is_empty() && !reason.contains("html"), "{reason}");
    }
}

/// DPS-HUB-19: what was sent may have been done, unless the hub says that it was not.
#[tokio::test]
async fn an_answer_that_is_none_leaves_open_what_was_done() {
    let large = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", ANSWER_BYTES_MAX + 1);
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"deviceId\"";
    let open = [
        answer(200, "<html>hello</html>"),
        answer(200, r#"{"deviceId":"other","etag":"MTIz"}"#),
        answer(204, ""),
        answer(502, ""),
        answer(504, r#"{"Message":"ErrorCode:GatewayTimeout;"}"#),
        answer(500, r#"{"Message":"ErrorCode:GenericTimeout;"}"#),
        Then::Cuts(Vec::new()),
        Then::Cuts(half.into()),
        Then::Cuts(large.into()),
        Then::Breaks(b"no TLS at all".to_vec()),
    ];
    for then in open {
        let (why, is_unhealthy) = told(then.clone()).await;
        assert!(matches!(why, RegistryError::Unanswered { .. }) && is_unhealthy, "{then:?}: {why:?}");
    }
    for status in [408, 500, 503] {
        let (why, is_unhealthy) = told(answer(status, "")).await;
        assert!(matches!(why, RegistryError::Unavailable { .. }) && is_unhealthy, "{status}: {why:?}");
    }
}

/// DPS-HUB-2, DPS-HUB-19
#[tokio::test]
async fn where_no_connection_came_about_nothing_was_done() {
    let peer = ScriptedPeer::start(|_| answer(200, "")).await;
    let other = ScriptedPeer::start(|_| answer(200, "")).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let rows = [
        (format!("localhost:{closed}"), "cannot connect"),
        ("nowhere.invalid".to_owned(), "cannot be resolved"),
        (at(&other), "TLS with"),
    ];
    for (authority, expected) in rows {
        let hub = hub(&peer, &authority);
        for call in 1..=3 {
            let why = hub.identity(&id()).await.unwrap_err();
            let RegistryError::Unavailable { reason } = &why else { panic!("{authority}: {why:?}") };
            assert!(reason.contains(expected), "{reason}");
            let HubHealth::Unhealthy { reason: told, .. } = hub.health() else {
                assert!(call < 3, "{authority}");
                continue;
            };
            assert_eq!((told, call), (reason.clone(), 3));
        }
    }
    let hub = hub(&peer, &format!("127.0.0.1:{}", peer.address.port()));
    for _ in 0..3 {
        let why = hub.twin(&id()).await.unwrap_err();
        assert!(
            matches!(&why, RegistryError::NotAllowed { reason } if reason.contains("127.0.0.1")),
            "{why:?}"
        );
    }
    assert!(matches!(hub.health(), HubHealth::Unhealthy { .. }));
    assert_eq!((peer.connections(), other.requests().len()), (0, 0));
}
