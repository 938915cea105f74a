//! One entry, from its making to its end.

use std::sync::Arc;

use dps_core::Moment;
use dps_core::attestation::{Credential, DeviceClaim};
use dps_core::ports::{SearchTurn, Store as _};
use dps_proto::ids::InstanceSecret;
use dps_proto::key::SymmetricKey;
use dps_proto::sas::{SasToken, sign_device_token};
use dps_server::explain::Wanted;
use dps_server::limits::Limits;
use dps_store::{Sealer, SealingKey, SqliteOptions, SqliteStore};
use hyper::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::SCOPE;
use crate::client::Client;

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const OTHER_KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

fn enrollment(id: &str) -> Value {
    json!({"registrationId": id, "attestation": {"type": "symmetricKey"}})
}

/// DPS-SERVICE-4, DPS-SERVICE-7, DPS-SERVICE-13: of both kinds.
#[tokio::test]
async fn an_entry_is_made_read_replaced_and_deleted() {
    let client = Client::new();
    for (path, member, missing) in [
        ("/enrollments/a-1", "registrationId", 404_201),
        ("/enrollmentGroups/a-1", "enrollmentGroupId", 404_204),
    ] {
        let body = json!({member: "a-1", "attestation": {"type": "symmetricKey"}});
        assert_eq!(client.get(path).await.refused(), (404, missing));
        assert_eq!(client.delete(path, None).await.refused(), (404, missing));
        assert_eq!(client.post(&format!("{path}/attestationmechanism"), "").await.refused(), (404, missing));
        let made = client.put(path, None, &body).await;
        assert_eq!((made.status, &made.body[member]), (200, &json!("a-1")));
        assert_eq!(made.header("content-type"), Some("application/json; charset=utf-8"));
        assert_eq!(client.put(path, None, &body).await.refused(), (409, 409_201));
        let replaced = client.put(path, Some("*"), &body).await;
        assert_eq!(replaced.status, 200);
        assert_ne!(replaced.body["etag"], made.body["etag"]);
        assert_eq!(replaced.body["createdDateTimeUtc"], made.body["createdDateTimeUtc"]);
        assert!(
            replaced.body["lastUpdatedDateTimeUtc"].as_str() > made.body["lastUpdatedDateTimeUtc"].as_str()
        );
        let gone = client.delete(path, None).await;
        assert_eq!((gone.status, gone.body), (204, Value::Null));
        assert_eq!(client.get(path).await.refused(), (404, missing));
    }
}

/// DPS-SERVICE-7, DPS-SERVICE-8
#[tokio::test]
async fn a_write_happens_on_the_version_that_it_names_and_on_no_other() {
    let client = Client::new();
    let (path, body) = ("/enrollments/a", enrollment("a"));
    assert_eq!(client.put(path, Some("IjAw"), &body).await.refused(), (412, 412_001), "there is none");
    assert_eq!(client.put(path, Some("\"*\""), &body).await.status, 200, "a star makes it");
    let read = async || client.get(path).await.body["etag"].as_str().unwrap().to_owned();
    let stale = read().await;
    for quoted in [false, true] {
        let etag = read().await;
        let tag = if quoted { format!("\"{etag}\"") } else { etag };
        assert_eq!(client.put(path, Some(&tag), &body).await.status, 200, "{tag}");
    }
    let mut with_etag = body.clone();
    with_etag["etag"] = json!(stale);
    assert_eq!(client.put(path, Some(&stale), &body).await.refused(), (412, 412_001));
    assert_eq!(client.put(path, Some("*"), &with_etag).await.status, 200, "the body's etag is no condition");
    assert_eq!(client.delete(path, Some(&stale)).await.refused(), (412, 412_001));
    assert_eq!(client.delete(path, Some(&read().await)).await.status, 204);
    assert_eq!(client.delete(path, Some(&stale)).await.refused(), (404, 404_201));
}

/// DPS-SERVICE-9, DPS-SERVICE-10
#[tokio::test]
async fn keys_are_made_once_kept_and_shown_only_where_they_are_asked_for() {
    let client = Client::new();
    let path = "/enrollments/a";
    let keys = async || {
        let answer = client.post(&format!("{path}/attestationmechanism"), "{}").await;
        assert_eq!((answer.status, &answer.body["type"]), (200, &json!("symmetricKey")));
        answer.body["symmetricKey"].clone()
    };
    let mut body = enrollment("a");
    for empty in [Value::Null, json!({}), json!({"primaryKey": "", "secondaryKey": null})] {
        body["attestation"]["symmetricKey"] = empty;
        let made = client.put(path, Some("*"), &body).await;
        let made = &made.body["attestation"]["symmetricKey"];
        assert_eq!(*made, keys().await);
        assert_eq!(made["primaryKey"].as_str().unwrap().len(), 88, "64 bytes");
        assert_ne!(made["primaryKey"], made["secondaryKey"]);
        client.delete(path, None).await;
    }
    body["attestation"]["symmetricKey"] = json!({"primaryKey": KEY, "secondaryKey": OTHER_KEY});
    assert_eq!(client.put(path, None, &body).await.body["attestation"], body["attestation"]);
    // What was read is written back, as clients do to change something else.
    let mut read = client.get(path).await.body;
    assert_eq!(read["attestation"], json!({"type": "symmetricKey"}));
    read["capabilities"]["iotEdge"] = json!(true);
    assert_eq!(client.put(path, read["etag"].as_str(), &read).await.body["capabilities"]["iotEdge"], true);
    assert_eq!(keys().await, body["attestation"]["symmetricKey"]);
    // One key is exchanged, the other kept.
    body["attestation"]["symmetricKey"] = json!({"primaryKey": OTHER_KEY});
    client.put(path, Some("*"), &body).await;
    assert_eq!(keys().await, json!({"primaryKey": OTHER_KEY, "secondaryKey": OTHER_KEY}));
    let listed = client.post("/enrollments/query", "").await.body.to_string();
    assert!(listed.contains("symmetricKey") && !listed.contains(OTHER_KEY));
}

/// DPS-SERVICE-11
#[tokio::test]
async fn an_id_keeps_its_first_spelling_and_the_body_cannot_name_another() {
    let client = Client::new();
    client.put("/enrollments/Sensor%3A7", None, &enrollment("sensor:7")).await;
    assert_eq!(client.get("/enrollments/SENSOR:7").await.body["registrationId"], "sensor:7");
    let mut body = enrollment("SENSOR:7");
    assert_eq!(
        client.put("/enrollments/SENSOR:7", Some("*"), &body).await.body["registrationId"],
        "sensor:7"
    );
    body.as_object_mut().unwrap().remove("registrationId");
    assert_eq!(client.put("/enrollments/B", None, &body).await.body["registrationId"], "B");
    let other = client.put("/enrollments/c", None, &enrollment("d")).await;
    assert_eq!(other.refused(), (400, 400_004));
    assert_eq!(other.body["message"], "registrationId: is not \"c\", the id of the path");
}

/// DPS-SERVICE-16, DPS-SERVICE-12
#[tokio::test]
async fn members_that_mean_nothing_here_survive_and_those_of_the_service_are_ignored() {
    let client = Client::new();
    let mut body = enrollment("a");
    body["customFutureField"] = json!({"deep": [1, null]});
    body["optionalDeviceInformation"] = json!({});
    body["createdDateTimeUtc"] = json!("1999-01-01T00:00:00Z");
    body["registrationState"] = json!({"status": "assigned"});
    client.put("/enrollments/a", None, &body).await;
    // To the digit, past what a machine's numbers hold.
    let exact = r#"{"attestation":{"type":"symmetricKey"},"n":[1.50,12345678901234567890123]}"#;
    client.ask(Method::PUT, "/enrollments/exact", &[], exact).await;
    let read = client.get("/enrollments/exact").await.body.to_string();
    assert!(read.contains(r#""n":[1.50,12345678901234567890123]"#), "{read}");
    let read = client.get("/enrollments/a").await.body;
    assert_eq!(read["customFutureField"], body["customFutureField"]);
    assert_eq!(read["optionalDeviceInformation"], json!({}));
    assert_ne!(read["createdDateTimeUtc"], body["createdDateTimeUtc"]);
    assert!(read.get("registrationState").is_none());
    assert_eq!(read["allocationPolicy"], "hashed");
    assert_eq!(read["provisioningStatus"], "enabled");
}

/// DPS-SERVICE-18
#[tokio::test]
async fn what_cannot_stand_is_refused_by_the_name_of_its_member() {
    let client = Client::new();
    let mut body = enrollment("a");
    body["iotHubs"] = json!(["hub.localhost", "stranger.example"]);
    let answer = client.put("/enrollments/a", None, &body).await;
    assert_eq!(answer.refused(), (400, 400_004));
    assert_eq!(answer.body["message"], "iotHubs[1]: stranger.example is not linked to this service instance");
    let bad = [
        (json!({"registrationId": "a", "attestation": {}}), 400_004),
        (json!([1]), 400_004),
        (json!("x"), 400_004),
        (json!({"enrollmentGroupId": "a", "attestation": {"type": "symmetricKey"}}), 400_004),
    ];
    for (body, code) in bad {
        assert_eq!(client.put("/enrollments/a", None, &body).await.refused(), (400, code), "{body}");
    }
    let put = async |headers: &[(&str, &str)], body: String| {
        client.ask(Method::PUT, "/enrollments/a", headers, body).await.refused()
    };
    assert_eq!(put(&[], "{".into()).await, (400, 400_000));
    assert_eq!(put(&[], String::new()).await, (400, 400_000));
    assert_eq!(put(&[("content-type", "text/plain")], "{}".into()).await, (415, 415_000));
    assert_eq!(
        put(&[("content-type", "application/json")], " ".repeat(256 * 1024 + 1)).await,
        (413, 413_000)
    );
    assert_eq!(client.put("/enrollments/a%20b", None, &body).await.refused(), (400, 400_004));
    assert_eq!(client.put("/enrollments/", None, &body).await.refused(), (405, 405_000));
}

/// DPS-SERVICE-13, DPS-SERVICE-17: a device of its own registers.
#[tokio::test]
async fn the_record_of_a_device_is_read_alone_and_with_its_enrollment() {
    let client = Client::new();
    let mut body = enrollment("Dev-1");
    body["attestation"]["symmetricKey"] = json!({"primaryKey": KEY});
    client.put("/enrollments/Dev-1", None, &body).await;
    let (scope, id) = (SCOPE.parse().unwrap(), "dev-1".parse().unwrap());
    let key: SymmetricKey = KEY.parse().unwrap();
    let token = sign_device_token(&scope, &id, &key, Timestamp::now() + jiff::SignedDuration::from_mins(9));
    let credential =
        Credential { password: Some(SasToken::parse(token.as_bytes())), ..Credential::default() };
    let claim = DeviceClaim {
        id_scope: scope,
        registration_id: id,
        credential,
        search_turn: SearchTurn::InOrder,
        predates_reprovisioning: false,
        address: None,
    };
    let moment = Moment { now: Timestamp::now(), random: [5; 32] };
    client.registrar.register(&claim, None, moment).await.unwrap();

    let record = client.get("/registrations/DEV-1").await.body;
    assert_eq!(record["status"], "assigned");
    assert_eq!(record["substatus"], "initialAssignment");
    assert_eq!(record["registrationId"], "dev-1");
    assert!(record["assignedHub"].as_str().unwrap().ends_with(".localhost"));
    assert_eq!(client.get("/enrollments/dev-1").await.body["registrationState"], record);
    let listed = client.post("/enrollments/query", r#"{"query": "*"}"#).await.body;
    assert!(listed[0].get("registrationState").is_none());

    assert_eq!(client.delete("/registrations/dev-1", Some("x")).await.refused(), (412, 412_001));
    assert_eq!(client.delete("/registrations/dev-1", record["etag"].as_str()).await.status, 204);
    assert_eq!(client.get("/registrations/dev-1").await.refused(), (404, 404_202));
    assert_eq!(client.delete("/registrations/dev-1", None).await.refused(), (404, 404_202));
}

/// DPS-SERVICE-20, DPS-SERVICE-21: of both kinds, in every mode, and what fails stops nothing else.
#[tokio::test]
async fn entries_are_written_and_deleted_many_at_a_time_and_each_for_itself() {
    for (path, list, member, missing) in [
        ("/enrollments", "enrollments", "registrationId", 404_201),
        ("/enrollmentGroups/", "enrollmentGroups", "enrollmentGroupId", 404_204),
    ] {
        let client = Client::new();
        let entry = |id: &str| json!({member: id, "attestation": {"type": "symmetricKey"}});
        let disabled = |id: &str| json!({member: id, "attestation": {"type": "symmetricKey"}, "provisioningStatus": "disabled"});
        let one = |id: &str| format!("{}/{id}", path.trim_end_matches('/'));
        let bulk = async |mode: &str, items: Vec<Value>| {
            let answer = client.post(path, &json!({list: items, "mode": mode}).to_string()).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            let errors = answer.body["errors"].as_array().unwrap();
            assert_eq!(answer.body["isSuccessful"], errors.is_empty());
            assert!(errors.iter().all(|error| error["errorStatus"].is_string()));
            let told = |error: &Value| {
                (error[member].as_str().unwrap().to_owned(), error["errorCode"].as_u64().unwrap())
            };
            errors.iter().map(told).collect::<Vec<_>>()
        };
        assert_eq!(bulk("create", vec![entry("a"), entry("b"), entry("c")]).await, []);
        let again =
            vec![entry("d"), entry("A"), json!({member: "e", "attestation": {"type": "magic"}}), entry("f")];
        let expected = [("A".to_owned(), 409_201), ("e".to_owned(), 400_004)];
        assert_eq!(bulk("CREATE", again).await, expected);
        assert_eq!(client.get(&one("d")).await.status, 200);
        assert_eq!(client.get(&one("f")).await.status, 200);

        let expected = [("x".to_owned(), missing)];
        assert_eq!(bulk("update", vec![disabled("a"), disabled("x"), disabled("b")]).await, expected);
        let read = async |id: &str| client.get(&one(id)).await.body;
        assert_eq!(
            (&read("a").await["provisioningStatus"], &read("b").await["provisioningStatus"]),
            (&json!("disabled"), &json!("disabled"))
        );
        assert_eq!(client.get(&one("x")).await.status, 404);

        let with = |id: &str, etag: &Value| {
            let mut entry = entry(id);
            entry["etag"] = etag.clone();
            entry
        };
        let (current, stale) = (read("a").await["etag"].clone(), json!("IjAw"));
        let items = vec![with("a", &current), with("b", &stale), entry("c"), with("x", &stale)];
        let expected = [("b".to_owned(), 412_001), ("c".to_owned(), 400_004), ("x".to_owned(), 412_001)];
        assert_eq!(bulk("updateIfMatchEtag", items).await, expected);
        assert_eq!(read("a").await["provisioningStatus"], "enabled");

        let items = vec![entry("a"), with("b", &stale), entry("x"), entry("c")];
        let expected = [("b".to_owned(), 412_001), ("x".to_owned(), missing)];
        assert_eq!(bulk("delete", items).await, expected);
        assert_eq!((client.get(&one("a")).await.status, client.get(&one("b")).await.status), (404, 200));
    }
}

/// DPS-SERVICE-21: those with one id, however it is spelled, one after the other.
#[tokio::test]
async fn entries_of_a_bulk_request_with_one_id_are_done_in_their_order() {
    let client = Client::new();
    let device = |id: &str, device: &str| {
        let mut entry = enrollment(id);
        entry["deviceId"] = json!(device);
        entry
    };
    let bulk = async |mode: &str, items: &[Value]| {
        let answer =
            client.post("/enrollments", &json!({"enrollments": items, "mode": mode}).to_string()).await;
        let errors = answer.body["errors"].as_array().unwrap().clone();
        errors.iter().map(|error| error["registrationId"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let items = [device("a", "1"), device("b", "2"), device("A", "3"), device("c", "4"), device("B", "5")];
    assert_eq!(bulk("create", &items).await, ["A", "B"]);
    let device_id = async |id: &str| client.get(&format!("/enrollments/{id}")).await.body["deviceId"].clone();
    assert_eq!((device_id("a").await, device_id("b").await), (json!("1"), json!("2")));
    assert_eq!(bulk("update", &items).await, Vec::<String>::new());
    assert_eq!((device_id("a").await, device_id("b").await), (json!("3"), json!("5")));
    assert_eq!(bulk("delete", &[enrollment("a"), enrollment("A"), enrollment("c")]).await, ["A"]);
}

/// DPS-SERVICE-21, DPS-STORE-3: a file is imported ten entries at a time, and an fdatasync costs more than all else.
#[tokio::test]
async fn entries_of_a_bulk_request_share_commits() {
    let directory = tempfile::tempdir().unwrap();
    let sealer = Sealer::new(&SealingKey::try_from(&[7; 32][..]).unwrap());
    let store =
        Arc::new(SqliteStore::open(&directory.path().join("db"), SqliteOptions::default(), sealer).unwrap());
    store.open_instance(&SCOPE.parse().unwrap(), InstanceSecret::new([7; 32])).await.unwrap();
    let client = Client::on(store.clone(), Limits::default());
    let before = store.write_statistics();
    for request in 0..20 {
        let items: Vec<_> = (0..10).map(|number| enrollment(&format!("d-{request}-{number}"))).collect();
        let answer =
            client.post("/enrollments", &json!({"enrollments": items, "mode": "create"}).to_string()).await;
        assert_eq!(answer.body["isSuccessful"], true, "{}", answer.body);
    }
    let after = store.write_statistics();
    assert_eq!(after.writes - before.writes, 200);
    // Two for each request, where nothing else keeps the machine busy.
    assert!(after.commits - before.commits < 100, "{after:?}");
}

/// DPS-SERVICE-19, DPS-SERVICE-21: each refusal for itself, as alone, and under the tracking id of the answer.
#[tokio::test]
async fn what_a_bulk_request_was_refused_is_explained_entry_by_entry() {
    let client = Client::new();
    client.put("/enrollments/b", None, &enrollment("b")).await;
    let items = ["a", "b", "c"].map(enrollment);
    let answer =
        client.post("/enrollments", &json!({"mode": "create", "enrollments": items}).to_string()).await;
    assert_eq!(answer.status, 200);
    let wanted =
        Wanted { tracking_id: answer.header("x-ms-request-id").map(str::to_owned), ..Wanted::default() };
    let kept = client.front_end.explanations.find(&wanted, 9);
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(kept[0].registration_id.as_ref().map(ToString::to_string).as_deref(), Some("b"));
    assert_eq!(kept[0].told, "409201");
    assert!(kept[0].reason.contains("enrollment b") && kept[0].advice.is_some(), "{kept:?}");
    let mut large = enrollment("d");
    large["initialTwin"] = json!({"tags": {"text": "x".repeat(256 * 1024)}});
    let body = json!({"mode": "create", "enrollments": [large, enrollment("e")]});
    let answer = client.post("/enrollments", &body.to_string()).await;
    let errors = &answer.body["errors"];
    assert_eq!((&errors[0]["registrationId"], &errors[0]["errorCode"]), (&json!("d"), &json!(413_000)));
    assert_eq!(client.get("/enrollments/e").await.status, 200);
    let long = json!({"mode": "x".repeat(10_000), "enrollments": items}).to_string();
    let refused = client.post("/enrollments", &long).await;
    assert!(refused.body["message"].as_str().unwrap().len() < 300, "{}", refused.body);
}

/// DPS-SERVICE-22
#[tokio::test]
async fn a_bulk_request_that_cannot_be_told_apart_changes_nothing() {
    let client = Client::new();
    let entries =
        |count: usize| (0..count).map(|number| enrollment(&format!("d-{number}"))).collect::<Vec<_>>();
    let mut nameless = entries(2);
    nameless[1].as_object_mut().unwrap().remove("registrationId");
    let mut misnamed = entries(2);
    misnamed[1]["registrationId"] = json!("a b");
    let rows = [
        (json!({"enrollments": entries(0), "mode": "create"}), "enrollments"),
        (json!({"enrollments": entries(11), "mode": "create"}), "enrollments"),
        (json!({"enrollments": entries(1), "mode": "upsert"}), "mode"),
        (json!({"enrollments": entries(1)}), "mode"),
        (json!({"enrollmentGroups": entries(1), "mode": "create"}), "enrollments"),
        (json!({"enrollments": nameless, "mode": "create"}), "enrollments[1].registrationId"),
        (json!({"enrollments": misnamed, "mode": "create"}), "enrollments[1].registrationId"),
        (json!([]), "mode"),
    ];
    for (body, member) in rows {
        let answer = client.post("/enrollments", &body.to_string()).await;
        assert_eq!(answer.refused(), (400, 400_004), "{body}");
        assert!(answer.body["message"].as_str().unwrap().starts_with(member), "{}", answer.body);
    }
    assert_eq!(client.post("/enrollments/query", "").await.body, json!([]));
}
