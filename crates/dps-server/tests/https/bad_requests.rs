//! Requests that cannot be carried out: each has the error that is documented for it, and changes nothing.

use bytes::Bytes;
use hyper::{Method, Request};
use serde_json::{Value, json};

use crate::HOST;
use crate::client::{Client, Token, key};

/// What a row asks, beside its name: everything that is not said is as a good client has it.
struct Bad {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    code: i64,
}

/// One kind of entry.
struct Kind {
    path: &'static str,
    id: &'static str,
    missing: i64,
}

const INDIVIDUAL: Kind = Kind { path: "/enrollments", id: "registrationId", missing: 404_201 };
const GROUP: Kind = Kind { path: "/enrollmentGroups", id: "enrollmentGroupId", missing: 404_204 };

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// A member, by its path, and what it may not be.
fn bad_members(kind: &Kind) -> Vec<(&'static str, Value)> {
    let with = |members: Value| json!({"type": "symmetricKey", "symmetricKey": members});
    let x509 = |members: Value| json!({"type": "x509", "x509": members});
    let tpm = |members: Value| json!({"type": "tpm", "tpm": members});
    let mut rows = vec![
        (kind.id, json!(7)),
        (kind.id, json!("someone-else")),
        (kind.id, json!("a b")),
        (kind.id, json!("")),
        ("/attestation", json!(null)),
        ("/attestation", json!("symmetricKey")),
        ("/attestation", json!([])),
        ("/attestation", json!({})),
        ("/attestation", json!({"type": null})),
        ("/attestation", json!({"type": 7})),
        ("/attestation", json!({"type": "magic"})),
        ("/attestation", json!({"type": "none"})),
        ("/attestation", json!({"type": "symmetricKey", "tpm": {"endorsementKey": "AAAA"}})),
        ("/attestation", json!({"type": "x509", "x509": {}, "symmetricKey": {}})),
        ("/attestation", with(json!("x"))),
        ("/attestation", with(json!([]))),
        ("/attestation", with(json!({"primaryKey": 7}))),
        ("/attestation", with(json!({"primaryKey": "not Base64!"}))),
        ("/attestation", with(json!({"primaryKey": "AAAA"}))),
        ("/attestation", with(json!({"primaryKey": KEY, "secondaryKey": "AAAA"}))),
        ("/attestation", with(json!({"primaryKey": "A".repeat(88)}))),
        ("/attestation", json!({"type": "x509"})),
        ("/attestation", x509(json!(null))),
        ("/attestation", x509(json!({}))),
        ("/attestation", x509(json!({"signingCertificates": {}}))),
        ("/attestation", x509(json!({"signingCertificates": {"primary": {}}}))),
        ("/attestation", x509(json!({"signingCertificates": {"primary": {"certificate": ""}}}))),
        ("/attestation", x509(json!({"signingCertificates": {"primary": {"certificate": 7}}}))),
        ("/attestation", x509(json!({"signingCertificates": {"primary": {"certificate": "AAAA"}}}))),
        ("/attestation", x509(json!({"signingCertificates": {"primary": {"info": {}}}}))),
        ("/attestation", x509(json!({"signingCertificates": {"secondary": {"certificate": "AAAA"}}}))),
        ("/attestation", x509(json!({"caReferences": {}}))),
        ("/attestation", x509(json!({"caReferences": {"primary": 7}}))),
        ("/attestation", x509(json!({"caReferences": {"primary": "nowhere"}}))),
        ("/attestation", x509(json!({"caReferences": {"primary": "a"}, "signingCertificates": {}}))),
        ("/attestation", tpm(json!({}))),
        ("/attestation", tpm(json!({"endorsementKey": ""}))),
        ("/attestation", tpm(json!({"endorsementKey": "not Base64!"}))),
        ("/attestation", tpm(json!({"endorsementKey": "AAAA"}))),
        ("/capabilities", json!(true)),
        ("/capabilities", json!({"iotEdge": "true"})),
        ("/capabilities", json!({"iotEdge": 1})),
        ("/initialTwin", json!("{}")),
        ("/initialTwin", json!([])),
        ("/provisioningStatus", json!("Enabled")),
        ("/provisioningStatus", json!("")),
        ("/provisioningStatus", json!(true)),
        ("/reprovisionPolicy", json!("never")),
        ("/reprovisionPolicy", json!({"updateHubAssignment": "true"})),
        ("/reprovisionPolicy", json!({"migrateDeviceData": 0})),
        ("/allocationPolicy", json!("random")),
        ("/allocationPolicy", json!(["hashed"])),
        ("/iotHubs", json!("hub.localhost")),
        ("/iotHubs", json!([7])),
        ("/iotHubs", json!([null])),
        ("/iotHubs", json!(["a b"])),
        ("/iotHubs", json!(["nowhere.example"])),
        ("/iotHubs", json!(["hub.localhost", "nowhere.example"])),
        ("/iotHubHostName", json!("nowhere.example")),
        ("/iotHubHostName", json!(7)),
    ];
    match kind.id {
        "registrationId" => rows.extend([
            ("/deviceId", json!(7)),
            ("/deviceId", json!("a b")),
            ("/deviceId", json!("d".repeat(129))),
            ("/attestation", x509(json!({"clientCertificates": {"primary": {"certificate": "AAAA"}}}))),
            ("/attestation", x509(json!({"clientCertificates": {}, "signingCertificates": {}}))),
        ]),
        _ => rows.extend([
            ("/registrationIdPrefix", json!(7)),
            ("/registrationIdPrefix", json!("a b")),
            ("/registrationIdPrefix", json!("p".repeat(129))),
            ("/attestation", x509(json!({"clientCertificates": {"primary": {"certificate": "AAAA"}}}))),
        ]),
    }
    rows
}

fn bad(method: Method, path: impl Into<String>, code: i64) -> Bad {
    Bad { method, path: path.into(), headers: Vec::new(), body: Bytes::new(), code }
}

impl Bad {
    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    fn json(self, body: &Value) -> Self {
        self.body(body.to_string())
    }
}

fn entry(kind: &Kind, id: &str) -> Value {
    json!({kind.id: id, "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY}}})
}

/// Rows of one kind; `kept` is there, and `none` is not.
fn rows_of(kind: &Kind, stale: &str) -> Vec<Bad> {
    let one = |id: &str| format!("{}/{id}", kind.path);
    let (kept, none) = (one("kept"), one("none"));
    let put = |code| bad(Method::PUT, &kept, code).header("if-match", "*");
    let good = entry(kind, "kept");
    let mut rows = Vec::new();
    // DPS-SERVICE-18, DPS-SERVICE-11: of what is there, and of what would be new.
    for (member, value) in bad_members(kind) {
        let name = member.trim_start_matches('/');
        let mut body = good.clone();
        body[name] = value.clone();
        rows.push(put(400_004).json(&body));
        if name != kind.id {
            let mut body = entry(kind, "none");
            body[name] = value;
            rows.push(bad(Method::PUT, &none, 400_004).json(&body));
        }
    }
    let text = good.to_string();
    rows.extend([
        // DPS-SERVICE-18
        put(400_000),
        put(400_000).body("{"),
        put(400_000).body(text[1..].to_owned()),
        put(400_000).body(format!("{text}x")),
        put(400_000).body(&b"{\"a\": \"\xff\"}"[..]),
        put(400_004).body("[]"),
        put(400_004).body("7"),
        put(400_004).body("{}"),
        put(415_000).json(&good).header("content-type", "text/plain"),
        put(415_000).json(&good).header("content-type", "application/xml"),
        put(413_000).body(format!("{text}{}", " ".repeat(256 * 1024))),
        // DPS-SERVICE-7, DPS-SERVICE-13
        bad(Method::PUT, &kept, 409_201).json(&good),
        bad(Method::PUT, &kept, 412_001).json(&good).header("if-match", stale),
        bad(Method::PUT, &kept, 412_001).json(&good).header("if-match", "garbage"),
        bad(Method::PUT, &none, 412_001).json(&entry(kind, "none")).header("if-match", stale),
        bad(Method::DELETE, &kept, 412_001).header("if-match", stale),
        bad(Method::DELETE, &none, kind.missing),
        bad(Method::DELETE, &none, kind.missing).header("if-match", "*"),
        bad(Method::GET, &none, kind.missing),
        bad(Method::POST, one("none/attestationmechanism"), kind.missing),
        // DPS-SERVICE-3
        bad(Method::GET, one("a%20b"), 400_004),
        bad(Method::GET, one(&"a".repeat(129)), 400_004),
        bad(Method::GET, one("%ff"), 400_004),
        bad(Method::GET, one("a%2"), 400_004),
        bad(Method::PUT, one("a%20b"), 400_004).json(&good),
        bad(Method::DELETE, one("a%20b"), 400_004),
        bad(Method::GET, one("kept/other"), 404_000),
        bad(Method::POST, one("kept/attestationmechanism/more"), 404_000),
        bad(Method::GET, kind.path, 405_000),
        bad(Method::PUT, kind.path, 405_000).json(&good),
        bad(Method::DELETE, kind.path, 405_000),
        bad(Method::POST, &kept, 405_000).json(&good),
        bad(Method::PATCH, &kept, 405_000).json(&good),
        bad(Method::GET, one("kept/attestationmechanism"), 405_000),
        // DPS-SERVICE-14, DPS-SERVICE-25
        bad(Method::POST, one("query"), 400_004).header("x-ms-max-item-count", "many"),
        bad(Method::POST, one("query"), 400_004).header("x-ms-continuation", "*"),
        bad(Method::POST, one("query"), 400_004).header("x-ms-continuation", "Lw"),
        bad(Method::POST, one("query"), 400_004).json(&json!({"query": 7})),
        bad(Method::POST, one("query"), 400_004).json(&json!({"query": "SELECT * WHERE"})),
        bad(Method::POST, one("query"), 400_004).json(&json!({"query": "DELETE FROM x WHERE a = 'b'"})),
        bad(Method::POST, one("query"), 400_004)
            .json(&json!({"query": "SELECT * WHERE registrationID LIKE '%a'"})),
        bad(Method::POST, one("query"), 400_004).body("[]"),
        bad(Method::POST, one("query"), 400_000).body("SELECT *"),
    ]);
    // DPS-SERVICE-22
    let member = format!("{}s", kind.path.trim_start_matches('/').trim_end_matches('s'));
    let bulk = |mode: &str, items: Value| json!({"mode": mode, &member: items});
    let many: Vec<_> = (0..11).map(|number| entry(kind, &format!("new-{number}"))).collect();
    for body in [
        bulk("upsert", json!([good])),
        bulk("", json!([good])),
        bulk("delete", json!([])),
        bulk("delete", json!({})),
        bulk("delete", json!(null)),
        bulk("create", json!(many)),
        bulk("delete", json!([good, {}])),
        bulk("delete", json!([good, 7])),
        bulk("delete", json!([good, {kind.id: "a b"}])),
        json!({"mode": "delete"}),
        json!({&member: [good]}),
        json!([good]),
    ] {
        rows.push(bad(Method::POST, kind.path, 400_004).json(&body));
    }
    rows.push(bad(Method::POST, kind.path, 400_000).body("{"));
    // DPS-SERVICE-2
    for path in [format!("{kept}?"), format!("{kept}?api-version="), format!("{kept}?api-version=1.0")] {
        rows.push(bad(Method::DELETE, path, 400_000));
    }
    // DPS-ACCESS-3 to DPS-ACCESS-7
    let owner = Token::default;
    for (token, code) in [
        ("".to_owned(), 401_002),
        ("Bearer eyJhbGciOiJub25lIn0.e30.".to_owned(), 401_002),
        ("SharedAccessSignature sr=a&sig=b&se=c".to_owned(), 401_002),
        (Token { key: key(9), ..owner() }.text(), 401_002),
        (Token { lives: -600, ..owner() }.text(), 401_002),
        (Token { policy: "nobody", ..owner() }.text(), 401_002),
        (Token { resource: "other.example".to_owned(), ..owner() }.text(), 401_002),
        (Token { policy: "reader", key: key(2), ..owner() }.text(), 403_000),
    ] {
        rows.push(bad(Method::DELETE, &kept, code).header("authorization", &token));
        rows.push(put(code).json(&good).header("authorization", &token));
        let mode = json!({"mode": "delete", &member: [good]});
        rows.push(bad(Method::POST, kind.path, code).json(&mode).header("authorization", token));
    }
    rows.push(bad(Method::DELETE, &kept, 404_000).header("host", "nobody.example"));
    rows
}

fn rows_of_records() -> Vec<Bad> {
    vec![
        bad(Method::GET, "/registrations/none", 404_202),
        bad(Method::DELETE, "/registrations/none", 404_202),
        bad(Method::GET, "/registrations/a%20b", 400_004),
        bad(Method::DELETE, "/registrations/a%20b", 400_004),
        bad(Method::PUT, "/registrations/none", 405_000).body("{}"),
        bad(Method::POST, "/registrations/none", 405_000).body("{}"),
        bad(Method::GET, "/registrations", 405_000),
        bad(Method::GET, "/registrations/none/query", 405_000),
        bad(Method::POST, "/registrations/none/other", 404_000),
        bad(Method::POST, "/registrations/a%20b/query", 400_004),
        bad(Method::POST, "/registrations/kept/query", 400_004)
            .json(&json!({"query": "SELECT * WHERE a = 'b'"})),
        bad(Method::POST, "/registrations/kept/query", 400_004).header("x-ms-max-item-count", "1.5"),
        bad(Method::POST, "/registrations/kept/query", 400_000).body("{"),
        bad(Method::GET, "/", 404_000),
        bad(Method::GET, "/certificates/a", 404_000),
        bad(Method::POST, "/enrollment/query", 404_000),
    ]
}

async fn send(client: &Client, row: &Bad) -> crate::client::Answer {
    let uri = match row.path.split_once('?') {
        None => format!("{}?api-version=2021-10-01", row.path),
        Some(_) => row.path.clone(),
    };
    let said = |name: &str| row.headers.iter().any(|(said, _)| *said == name);
    let mut request = Request::builder().method(&row.method).uri(uri);
    for (name, value) in [("host", HOST.to_owned()), ("authorization", Token::default().text())] {
        if !said(name) {
            request = request.header(name, value);
        }
    }
    for (name, value) in row.headers.iter().filter(|(_, value)| !value.is_empty()) {
        request = request.header(*name, value);
    }
    client.send(request.body(row.body.clone()).unwrap()).await
}

/// Everything that the service API shows.
async fn all(client: &Client) -> Vec<Value> {
    let mut shown = Vec::new();
    for path in ["/enrollments/query", "/enrollmentGroups/query", "/registrations/kept/query"] {
        shown.push(client.post(path, "").await.body);
    }
    for path in ["/enrollments/kept", "/enrollmentGroups/kept"] {
        shown.push(client.post(&format!("{path}/attestationmechanism"), "").await.body);
    }
    shown
}

/// DPS-SERVICE-2, DPS-SERVICE-3, DPS-SERVICE-5, DPS-SERVICE-7, DPS-SERVICE-11, DPS-SERVICE-13, DPS-SERVICE-18, DPS-SERVICE-22, DPS-SERVICE-25,
/// DPS-ACCESS-3
#[tokio::test]
async fn each_bad_request_has_its_error_and_changes_nothing() {
    let client = Client::new();
    let mut stale = String::new();
    for kind in [INDIVIDUAL, GROUP] {
        let path = format!("{}/kept", kind.path);
        let made = client.put(&path, None, &entry(&kind, "kept")).await;
        stale = made.body["etag"].as_str().unwrap().to_owned();
        assert_eq!(client.put(&path, Some("*"), &entry(&kind, "kept")).await.status, 200);
    }
    let before = all(&client).await;
    let rows: Vec<_> = [rows_of(&INDIVIDUAL, &stale), rows_of(&GROUP, &stale), rows_of_records()]
        .into_iter()
        .flatten()
        .collect();
    let mut wrong = Vec::new();
    for row in &rows {
        let answer = send(&client, row).await;
        let body = String::from_utf8_lossy(&row.body[..row.body.len().min(300)]);
        let asked = format!("{} {} {:?} {body}", row.method, row.path, row.headers);
        match answer.body["errorCode"].as_i64() {
            Some(code) if code == row.code => {
                answer.refused();
            }
            told => wrong.push(format!("{asked}: {told:?} in place of {}", row.code)),
        }
        assert_eq!(all(&client).await, before, "{asked}");
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    assert!(rows.len() >= 150, "{}", rows.len());
}
