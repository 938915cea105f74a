//! Service instances of a configuration beside those of the store. Spec: DPS-INST-1, DPS-INST-3.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by failing")]

mod fleet;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use dps_proto::key::SymmetricKey;
use fleet::{Fleet, Serving};
use serde_json::{Value, json};

/// Status and JSON of an admin path. Each request has `If-Match: *`, so that no condition stands in its way.
fn ask(serving: &Serving, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let token = fs::read_to_string(serving.ready["admin"]["tokenFile"].as_str().unwrap()).unwrap();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut stream = TcpStream::connect(serving.admin()).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} /admin/v1/id-scopes{path} HTTP/1.1\r\nHost: admin\r\nAuthorization: Bearer {token}\r\nIf-Match: *\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

fn shown(serving: &Serving) -> Value {
    let (status, shown) = ask(serving, "GET", "", &Value::Null);
    assert_eq!(status, 200, "{shown}");
    shown
}

/// DPS-INST-1: it is shown with everything, and changed where it stands.
#[tokio::test]
async fn an_instance_of_the_configuration_is_shown_and_refuses_every_change() {
    let fleet = Fleet::new();
    let serving = fleet.serve(&fleet.configuration());
    let before = shown(&serving);
    let [first, second] = &before.as_array().unwrap()[..] else { panic!("{before}") };
    assert_eq!((&first["idScope"], &second["idScope"]), (&json!("0neAAAA0001"), &json!("0neBBBB0002")));
    assert_eq!(first["managedBy"], "configuration");
    assert_eq!(first["serviceHosts"], json!(["dps-0.test"]));
    assert_eq!(
        first["linkedHubs"],
        json!([{
            "name": "hub-0.test", "kind": "local", "allocationWeight": 1, "applyAllocationPolicy": true, "networks": [],
            "draining": false,
        }])
    );
    assert_eq!(first["sharedAccessPolicies"][0]["name"], "provisioningserviceowner");
    assert!(first.get("etag").is_none() && !before.to_string().contains(fleet::OWNER_KEY), "{before}");
    let policy = "/0neAAAA0001/shared-access-policies/provisioningserviceowner";
    let (status, keys) = ask(&serving, "POST", &format!("{policy}/list-keys"), &Value::Null);
    assert_eq!((status, &keys["primaryKey"]), (200, &json!(fleet::OWNER_KEY)));

    let hub = json!({"kind": "local"});
    for (method, path, body) in [
        ("PUT", "/0neAAAA0001".to_owned(), json!({})),
        ("PUT", "/0NEAAAA0001".to_owned(), json!({})),
        ("DELETE", "/0neAAAA0001".to_owned(), Value::Null),
        ("PUT", "/0neAAAA0001/hubs/hub-0.test".to_owned(), hub.clone()),
        ("PUT", "/0neAAAA0001/hubs/more.test".to_owned(), hub),
        ("DELETE", "/0neAAAA0001/hubs/hub-0.test".to_owned(), Value::Null),
        ("PUT", policy.to_owned(), json!({"rights": []})),
        ("PUT", "/0neAAAA0001/shared-access-policies/more".to_owned(), json!({"rights": []})),
        ("DELETE", policy.to_owned(), Value::Null),
        ("POST", format!("{policy}/renew-key"), json!({"key": "primary"})),
        ("POST", format!("{policy}/renew-key"), json!({"key": "swap"})),
    ] {
        let (status, refused) = ask(&serving, method, &path, &body);
        let message = refused["message"].as_str().unwrap_or_default();
        assert_eq!(status, 409, "{method} {path}: {refused}");
        let is_named = message.to_ascii_lowercase().contains("0neaaaa0001 stands in the configuration");
        assert!(is_named, "{method} {path}: {refused}");
    }
    // Spec: DPS-INST-3.
    for (method, path) in [("PUT", "/0neMade1"), ("POST", "")] {
        let (status, refused) = ask(&serving, method, path, &json!({"serviceHosts": ["DPS-0.test"]}));
        let message = refused["message"].as_str().unwrap_or_default();
        assert_eq!(status, 409, "{refused}");
        assert!(message.contains("dps-0.test belongs to the service instance 0neAAAA0001"), "{refused}");
    }
    assert_eq!(shown(&serving), before);
    fleet.register(&serving, 0, "press-7").await.unwrap();
    assert!(serving.stop().success());
}

/// DPS-INST-1: one of the store beside them is found again; when the configuration takes its ID scope and host, it has them.
#[tokio::test]
async fn what_both_have_is_the_configurations() {
    let fleet = Fleet::new();
    let serving = fleet.serve(&fleet.configuration());
    serving.wait_for_line("the configuration has the service instance 0neAAAA0001");
    let wanted =
        json!({"serviceHosts": ["made.test"], "linkedHubs": [{"name": "made.test", "kind": "static"}]});
    let (status, made) = ask(&serving, "PUT", "/0neMade1", &wanted);
    assert_eq!((status, &made["managedBy"]), (200, &json!("store")));
    let keys = "/0neMade1/shared-access-policies/provisioningserviceowner/list-keys";
    let key = ask(&serving, "POST", keys, &Value::Null).1["primaryKey"].as_str().unwrap().to_owned();
    let key: SymmetricKey = key.parse().unwrap();
    assert_eq!(fleet.get_group(&serving, "made.test", &key).await, 404, "the token is good");
    assert!(serving.stop().success());

    let serving = fleet.serve(&fleet.configuration());
    assert_eq!(serving.ready["idScopes"], json!(["0neAAAA0001", "0neBBBB0002", "0neMade1"]));
    assert_eq!(shown(&serving)[2], made);
    assert_eq!(fleet.get_group(&serving, "made.test", &key).await, 404);
    assert!(serving.stop().success());

    let taken = fleet.configuration().replace("dps-1.test", "made.test");
    let serving = fleet.serve(&taken);
    serving.wait_for_line("the service host made.test is that of an instance in the configuration");
    assert_eq!(fleet.get_group(&serving, "made.test", &key).await, 401);
    assert_eq!(fleet.get_group(&serving, "made.test", &fleet::OWNER_KEY.parse().unwrap()).await, 200);
    assert!(serving.stop().success());

    let serving = fleet.serve(&taken.replace("0neBBBB0002", "0neMADE1"));
    serving.wait_for_line("the configuration has the service instance 0neMade1");
    let of_made = shown(&serving)[2].clone();
    assert_eq!((&of_made["managedBy"], &of_made["idScope"]), (&json!("configuration"), &json!("0neMADE1")));
    assert!(serving.stop().success());
    // Nothing of that was written.
    let serving = fleet.serve(&fleet.configuration());
    assert_eq!(shown(&serving)[2], made);
    assert!(serving.stop().success());
}
