//! What goes out to an Azure IoT Hub, byte by byte, and what is made of answers that no hub should give.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by failing")]

#[path = "support/scripted_peer.rs"]
mod scripted_peer;

use dps_core::ports::{HubAuthentication, HubDeviceStatus};
use dps_hub::azure::{ANSWER_BYTES_MAX, AzureHub, HubError, NewIdentity, TwinContent};
use dps_hub::outbound::{AllowedTargets, Outbound, OutboundError, Trust, TrustedRoots};
use dps_proto::key::{KeyPair, SymmetricKey};
use dps_proto::sas::SasToken;
use scripted_peer::{ScriptedPeer, Then, answer, answer_with};
use serde_json::{Value, json};

const KEY: &str = "aHViLWtleS1vZi10aGUtc2NyaXB0ZWQtcGVlci0wMTI=";

fn hub(peer: &ScriptedPeer) -> AzureHub {
    let roots = TrustedRoots::read(&Trust::Only(peer.ca_file())).unwrap();
    let outbound = Outbound::new(AllowedTargets::parse(["localhost"]).unwrap(), roots).unwrap();
    let host = format!("localhost:{}", peer.address.port());
    let text = format!("HostName={host};SharedAccessKeyName=iothubowner;SharedAccessKey={KEY}");
    AzureHub::new(text.parse().unwrap(), outbound).unwrap()
}

fn keys() -> HubAuthentication {
    let key = |byte| SymmetricKey::from_bytes(vec![byte; 32]).unwrap();
    HubAuthentication::Keys(KeyPair { primary: key(1), secondary: key(2) })
}

/// The head of a request in lower case, and its body.
fn parts(request: &str) -> (String, Value) {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), serde_json::from_str(body).unwrap_or_default())
}

/// DPS-HUB-10, DPS-HUB-11, DPS-HUB-12, DPS-HUB-14, DPS-HUB-15: one row per call.
#[tokio::test]
async fn each_call_is_one_request_with_a_token_and_the_version_that_was_read() {
    let identity = json!({"deviceId": "a/b#%", "etag": "MTIz", "status": "enabled"});
    let id = "a:b#%?'".parse().unwrap();
    let identity = identity.to_string().replace("a/b#%", "a:b#%?'");
    let twin =
        json!({"deviceId": "a:b#%?'", "etag": "AAAB", "tags": {}, "properties": {"desired": {}}}).to_string();
    let created = json!({"isSuccessful": true, "errors": []}).to_string();
    let peer = ScriptedPeer::start(move |number| match number {
        0 => answer(200, &created),
        1 | 2 => answer(200, &identity),
        3..6 => answer(200, &twin),
        _ => answer(204, ""),
    })
    .await;
    let hub = hub(&peer);
    let authentication = keys();
    let content = TwinContent::parse(r#"{"tags":{"a":1}}"#).unwrap();
    let new = NewIdentity {
        device_id: &id,
        authentication: &authentication,
        status: HubDeviceStatus::Enabled,
        iot_edge: false,
        twin: Some(&content),
    };
    hub.create(new).await.unwrap();
    let read = hub.identity(&id).await.unwrap();
    hub.set_authentication(&read, &authentication).await.unwrap();
    let twin = hub.twin(&id).await.unwrap();
    hub.replace_twin(&id, &twin.etag, &content).await.unwrap();
    hub.merge_twin(&id, &twin.etag, &content).await.unwrap();
    hub.delete(&id, read.etag()).await.unwrap();
    let expected = [
        ("post /devices", None),
        ("get /devices/a%3ab%23%25%3f%27", None),
        ("put /devices/a%3ab%23%25%3f%27", Some("\"mtiz\"")),
        ("get /twins/a%3ab%23%25%3f%27", None),
        ("put /twins/a%3ab%23%25%3f%27", Some("\"aaab\"")),
        ("patch /twins/a%3ab%23%25%3f%27", Some("\"aaab\"")),
        ("delete /devices/a%3ab%23%25%3f%27", Some("\"mtiz\"")),
    ];
    let requests = peer.requests();
    assert_eq!((requests.len(), peer.connections()), (expected.len(), 1));
    let mut tokens = Vec::new();
    for (request, (line, if_match)) in requests.iter().zip(expected) {
        let (head, body) = parts(request);
        assert!(head.starts_with(&format!("{line}?api-version=2021-04-12 http/1.1\r\n")), "{head}");
        assert_eq!(head.lines().find_map(|line| line.strip_prefix("if-match: ")), if_match, "{head}");
        assert_eq!(head.contains("content-type: application/json"), !body.is_null(), "{head}");
        tokens.extend(request.lines().find_map(|line| line.strip_prefix("authorization: ")));
    }
    tokens.dedup();
    let [token] = *tokens else { panic!("{} tokens", tokens.len()) };
    let token = SasToken::parse(token.as_bytes()).unwrap();
    assert!(token.is_signed_by(&KEY.parse().unwrap()));
    assert_eq!(token.resource(), format!("localhost%3A{}", peer.address.port()));
    let (_, created) = parts(&requests[0]);
    assert_eq!((&created[0]["importMode"], &created[0]["tags"]), (&json!("create"), &json!({"a": 1})));
}

/// DPS-HUB-11
#[tokio::test]
async fn an_id_that_is_a_step_in_a_path_is_never_sent() {
    let peer = ScriptedPeer::start(|_| answer(204, "")).await;
    let hub = hub(&peer);
    for id in [".", ".."] {
        let id = id.parse().unwrap();
        let authentication = keys();
        let new = NewIdentity {
            device_id: &id,
            authentication: &authentication,
            status: HubDeviceStatus::Enabled,
            iot_edge: false,
            twin: None,
        };
        let refused = [
            hub.create(new).await,
            hub.identity(&id).await.map(|_| ()),
            hub.twin(&id).await.map(|_| ()),
            hub.delete(&id, &"MTIz".parse().unwrap()).await,
        ];
        assert!(refused.iter().all(|it| matches!(it, Err(HubError::Unaddressable))), "{refused:?}");
    }
    assert_eq!(peer.connections(), 0);
}

/// DPS-HUB-16, DPS-HUB-18
#[tokio::test]
async fn what_no_hub_would_answer_is_malformed_and_shows_nothing_of_it() {
    let answers = [
        (200, r#"{"deviceId":"d","etag":"MTIz","authentication":"c2VjcmV0""#),
        (200, r#"["c2VjcmV0"]"#),
        (200, r#"{"deviceId":"e","etag":"MTIz"}"#),
        (200, "<html>c2VjcmV0</html>"),
        (204, ""),
    ];
    let peer = ScriptedPeer::start(move |number| answer(answers[number].0, answers[number].1)).await;
    let hub = hub(&peer);
    for _ in answers {
        let why = hub.identity(&"d".parse().unwrap()).await.unwrap_err();
        assert!(matches!(why, HubError::Malformed(_)), "{why:?}");
        let shown = format!("{why} {why:?} {hub:?}");
        assert!(!shown.contains("c2VjcmV0") && !shown.contains(&KEY[..8]), "{shown}");
    }
    let redirected = ScriptedPeer::start(|_| answer_with(301, "location: https://localhost/\r\n", "")).await;
    let why = self::hub(&redirected).identity(&"d".parse().unwrap()).await.unwrap_err();
    assert!(matches!(why, HubError::Rejected(_)), "{why:?}");
    let large = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", ANSWER_BYTES_MAX + 1);
    let large = ScriptedPeer::start(move |_| Then::Stalls(large.clone().into())).await;
    let why = self::hub(&large).identity(&"d".parse().unwrap()).await.unwrap_err();
    assert!(matches!(why, HubError::NoAnswer(OutboundError::AnswerTooLarge { .. })), "{why:?}");
}
