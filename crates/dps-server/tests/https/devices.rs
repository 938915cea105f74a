//! The HTTPS device API, as bytes on one connection. Time is virtual.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dps_core::tpm::{TpmEvidence, nonce_key};
use dps_proto::ids::InstanceSecret;
use dps_proto::key::SymmetricKey;
use dps_proto::sas::sign_device_token;
use dps_server::explain::Wanted;
use dps_server::limits::Limits;
use hyper::Method;
use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::client::{Client, key};
use crate::connection::Connection;
use crate::{HOST, SCOPE};

/// What a device reads.
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Value,
}

impl Told {
    fn read(answer: &str) -> Self {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
        let headers: HashMap<_, _> = lines
            .map(|line| line.split_once(": ").unwrap_or_else(|| panic!("{line:?}")))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        // DPS-HTTPS-7: on every answer, whatever its status.
        assert_eq!(headers["content-type"], "application/json; charset=utf-8", "{answer}");
        assert_eq!(headers["content-length"], body.len().to_string(), "{answer}");
        let body: Value = serde_json::from_str(body).unwrap_or_else(|why| panic!("{why}: {answer}"));
        if let Some(tracking_id) = body.get("trackingId") {
            assert_eq!(*tracking_id, headers["x-ms-request-id"]);
        }
        Self { status, headers, body }
    }
}

/// A group for devices with tokens.
pub(crate) async fn service() -> Client {
    service_with(Limits::default()).await
}

pub(crate) async fn service_with(limits: Limits) -> Client {
    let client = Client::with_limits(limits);
    let keys = json!({"primaryKey": STANDARD.encode([5; 32]), "secondaryKey": STANDARD.encode([6; 32])});
    let group =
        json!({"enrollmentGroupId": "line", "attestation": {"type": "symmetricKey", "symmetricKey": keys}});
    let answer = client.ask(Method::PUT, "/enrollmentGroups/line", &[], group.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    client
}

pub(crate) fn device_key(id: &str) -> SymmetricKey {
    key(5).derive(id)
}

pub(crate) fn token(id: &str, key: &SymmetricKey) -> String {
    let expiry = Timestamp::now() + SignedDuration::from_hours(1);
    sign_device_token(&SCOPE.parse().unwrap(), &id.parse().unwrap(), key, expiry)
}

fn request(method: &str, path: &str, token: &str, more: &str, body: &str) -> String {
    format!(
        "{method} /{SCOPE}/registrations/{path}?api-version=2021-06-01 HTTP/1.1\r\nHost: {HOST}:443\r\nauthorization: {token}\r\n\
         {more}\r\n{body}"
    )
}

fn with_body(method: &str, path: &str, token: &str, body: &str) -> String {
    let more = format!("Content-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n", body.len());
    request(method, path, token, &more, body)
}

async fn ask(connection: &mut Connection, request: &str) -> Told {
    connection.send(request).await;
    Told::read(&connection.answer().await)
}

/// DPS-HTTPS-1, DPS-HTTPS-3 to DPS-HTTPS-7, DPS-HTTPS-9: one connection, as the C client keeps it, and a poll with a body, as the Node client sends it.
#[tokio::test(start_paused = true)]
async fn a_device_registers_and_polls_over_one_connection_with_pauses_of_minutes() {
    let service = service().await;
    let mut connection = Connection::to(&service, Vec::new()).await;
    let token = token("Dev-1", &device_key("Dev-1"));
    let register = with_body("PUT", "Dev-1/register", &token, r#"{"registrationId":"dev-1"}"#);
    let told = ask(&mut connection, &register).await;
    assert_eq!((told.status, told.headers["retry-after"].as_str()), (202, "3"));
    assert_eq!(told.headers["location"], format!("https://{HOST}:443/{SCOPE}/registrations/Dev-1/register"));
    assert_eq!(told.body["status"], "assigning");
    let operation = told.body["operationId"].as_str().unwrap().to_owned();
    for body in ["", "{}"] {
        sleep(Duration::from_secs(5 * 60)).await;
        let more = format!("Content-Length: {}\r\n", body.len());
        let poll = request("GET", &format!("Dev-1/operations/{operation}"), &token, &more, body);
        let told = ask(&mut connection, &poll).await;
        assert_eq!((told.status, told.body["status"].as_str()), (200, Some("assigned")));
        assert!(!told.headers.contains_key("retry-after") && !told.headers.contains_key("location"));
        assert_eq!(
            told.body["registrationState"]["assignedHub"].as_str().unwrap().split('.').nth(1),
            Some("localhost")
        );
        assert_eq!(told.body["operationId"], operation.as_str());
    }
    let told = ask(&mut connection, &with_body("POST", "Dev-1", &token, "{}")).await;
    assert_eq!((told.status, told.body["status"].as_str()), (200, Some("assigned")));
    assert_eq!(told.body["registrationId"], "Dev-1");
    assert!(service.front_end.metrics.render().contains(r#"transport="https""#));
}

/// DPS-HTTPS-1, DPS-HTTPS-2, DPS-HTTPS-6 to DPS-HTTPS-8, DPS-EXPLAIN-3
#[tokio::test(start_paused = true)]
async fn every_refusal_is_json_and_is_explained_under_its_transport() {
    let service = service().await;
    let good = token("dev-1", &device_key("dev-1"));
    let operation = "5.0000000000000000.b1e02da8-c3a0-4ff2-a121-7ea7a6b7f550";
    let large = format!(r#"{{"payload":"{}"}}"#, "x".repeat(97 * 1024));
    let unversioned = with_body("PUT", "dev-1/register", &good, "{}").replace("?api-version=2021-06-01", "");
    let text = with_body("PUT", "dev-1/register", &good, "{}").replace("application/json", "text/plain");
    let rows = [
        (with_body("PUT", "dev-1/register", &token("dev-1", &key(9)), "{}"), 401_002),
        (with_body("PUT", "dev-1/register", "Bearer x", "{}"), 401_002),
        (with_body("PUT", "dev-1/register", &good, "{}").replace("authorization", "x-other"), 401_002),
        (with_body("PUT", "dev-1/register", &token("dev-2", &device_key("dev-2")), "{}"), 401_002),
        (with_body("PUT", "dev-1/register", &good, "{}").replacen(SCOPE, "0ne000FFFFF", 1), 401_002),
        (with_body("PUT", "dev-1/register", &good, r#"{"registrationId":"dev-2"}"#), 400_004),
        (with_body("PUT", "dev-1/register", &good, "no JSON"), 400_000),
        (with_body("PUT", "dev%zz/register", &good, "{}"), 400_004),
        (with_body("PUT", "dev%201/register", &good, "{}"), 400_004),
        (unversioned, 400_000),
        (text, 415_000),
        (with_body("PUT", "dev-1/register", &good, &large), 413_000),
        (with_body("POST", "dev-1/register", &good, "{}"), 405_000),
        (request("GET", "dev-1/register", &good, "", ""), 405_000),
        (with_body("PUT", &format!("dev-1/operations/{operation}"), &good, "{}"), 405_000),
        (request("GET", &format!("dev-1/operations/{operation}"), &good, "", ""), 404_203),
        (request("GET", "dev-1/operations/x%2Fy", &good, "", ""), 404_203),
        (with_body("POST", "dev-1", &good, "{}"), 404_202),
        (request("GET", "dev-1", &good, "", ""), 405_000),
        (request("GET", "dev-1/elsewhere", &good, "", ""), 404_000),
    ];
    for (request, code) in rows {
        let mut connection = Connection::to(&service, Vec::new()).await;
        let told = ask(&mut connection, &request).await;
        assert_eq!(told.body["errorCode"], code, "{request}");
        assert_eq!(u64::from(told.status), code / 1_000, "{request}");
        assert!(!told.headers.contains_key("retry-after"), "{request}");
        let found = service.front_end.explanations.find(
            &Wanted { tracking_id: told.body["trackingId"].as_str().map(str::to_owned), ..Wanted::default() },
            9,
        );
        assert_eq!(found.len(), 1, "{request}");
        assert_eq!((found[0].transport, found[0].advice.is_some()), (Some("https"), true), "{request}");
        // Who has proved itself may go on, whatever came of it.
        let is_kept = matches!(code, 404_202 | 404_203);
        assert_eq!(!told.headers.contains_key("connection"), is_kept, "{request}");
        assert_eq!(told.headers.contains_key("allow"), code == 405_000, "{request}");
    }
}

/// DPS-HTTPS-4, DPS-REG-20
#[tokio::test(start_paused = true)]
async fn a_disabled_device_is_told_so_with_202_and_no_operation() {
    let service = service().await;
    let entry = json!({"registrationId": "dev-1", "provisioningStatus": "disabled", "attestation": {"type": "symmetricKey",
        "symmetricKey": {"primaryKey": STANDARD.encode([7; 32]), "secondaryKey": STANDARD.encode([8; 32])}}});
    assert_eq!(service.ask(Method::PUT, "/enrollments/dev-1", &[], entry.to_string()).await.status, 200);
    let mut connection = Connection::to(&service, Vec::new()).await;
    let told = ask(&mut connection, &with_body("PUT", "dev-1/register", &token("dev-1", &key(7)), "")).await;
    assert_eq!((told.status, told.headers.get("retry-after")), (202, None));
    assert_eq!(
        (told.body["operationId"].as_str(), told.body["status"].as_str()),
        (Some(""), Some("disabled"))
    );
    assert_eq!(told.body["registrationState"]["status"], "disabled");
}

/// DPS-HTTPS-3, DPS-X509-4: the certificate of the handshake proves each request of the connection.
#[tokio::test(start_paused = true)]
async fn a_device_with_a_certificate_needs_no_authorization() {
    let service = service().await;
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "dev-1");
    let own = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let certificate = json!({"primary": {"certificate": STANDARD.encode(own.der())}});
    let entry = json!({"registrationId": "dev-1", "attestation": {"type": "x509",
        "x509": {"clientCertificates": certificate}}});
    assert_eq!(service.ask(Method::PUT, "/enrollments/dev-1", &[], entry.to_string()).await.status, 200);
    let bare = |request: String| request.replace("authorization: \r\n", "");
    let shown: Vec<CertificateDer<'static>> = vec![own.der().clone()];
    let mut connection = Connection::to(&service, shown).await;
    let told = ask(&mut connection, &bare(with_body("PUT", "dev-1/register", "", "{}"))).await;
    assert_eq!(told.status, 202, "{}", told.body);
    let path = format!("dev-1/operations/{}", told.body["operationId"].as_str().unwrap());
    let told = ask(&mut connection, &bare(request("GET", &path, "", "", ""))).await;
    assert_eq!(told.body["registrationState"]["x509"], json!({}));
    let mut without = Connection::to(&service, Vec::new()).await;
    let told = ask(&mut without, &bare(with_body("PUT", "dev-1/register", "", "{}"))).await;
    assert_eq!((told.status, told.body["errorCode"].as_u64()), (401, Some(401_002)));
}

/// DPS-LIMIT-3, DPS-HTTPS-8: a body that stands still, one that comes byte by byte, and another device in the meantime.
#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_holds_nobody_else_up() {
    let service = service().await;
    let token = token("dev-1", &device_key("dev-1"));
    let within = Limits::default().request_within;
    let mut slow = Connection::to(&service, Vec::new()).await;
    let more = "Content-Type: application/json\r\nContent-Length: 100\r\n";
    slow.send(&request("PUT", "dev-1/register", &token, more, "{")).await;
    sleep(within / 2).await;
    slow.send(" ").await;
    let mut other = Connection::to(&service, Vec::new()).await;
    assert_eq!(ask(&mut other, &with_body("PUT", "dev-1/register", &token, "{}")).await.status, 202);
    let told = Told::read(&slow.end().await.0);
    assert_eq!((told.status, told.body["errorCode"].as_u64()), (400, Some(400_000)));
    assert_eq!(told.headers["connection"], "close");
}

/// DPS-HTTPS-1: what begins with a word of the service API is the service API's.
#[tokio::test(start_paused = true)]
async fn paths_of_devices_and_of_the_service_api_are_never_mistaken() {
    let service = service().await;
    for path in ["/enrollments/registrations/dev-1/register", "/registrations/registrations/operations/x"] {
        let mut connection = Connection::to(&service, Vec::new()).await;
        let told = ask(
            &mut connection,
            &format!("GET {path}?api-version=2021-06-01 HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
        )
        .await;
        assert_eq!(told.body["errorCode"], 404_000, "{path}");
        assert_eq!(told.headers["x-ms-error-code"], "404000", "{path}");
    }
}

/// TPM2B_PUBLIC of a storage key.
fn tpm_public() -> Vec<u8> {
    let mut public = vec![0x00, 0x01, 0x00, 0x0b, 0x00, 0x03, 0x00, 0xb2, 0x00, 0x20];
    public.extend([0x83; 32]);
    public.extend([0x00, 0x06, 0x00, 0x80, 0x00, 0x43, 0x00, 0x10, 0x08, 0x00, 0, 0, 0, 0, 0x01, 0x00]);
    public.extend([0xc5; 256]);
    [&(public.len() as u16).to_be_bytes()[..], &public].concat()
}

/// DPS-TPM-6, DPS-HTTPS-9, DPS-LIMIT-2: anyone can make a key that looks like a TPM's; to have one lets nobody in.
#[tokio::test(start_paused = true)]
async fn a_tpm_that_nobody_enrolled_keeps_no_connection() {
    let service = service().await;
    let public = tpm_public();
    let TpmEvidence::Presented(Ok(keys)) = TpmEvidence::presented(&public, &public) else { panic!() };
    let (secret, scope, id) =
        (InstanceSecret::new([7; 32]), SCOPE.parse().unwrap(), "press-1".parse().unwrap());
    let unwrapped = nonce_key(&secret, &scope, &id, &keys, Timestamp::now());
    let public = STANDARD.encode(public);
    let body = json!({"tpm": {"endorsementKey": public, "storageRootKey": public}}).to_string();
    let mut connection = Connection::to(&service, Vec::new()).await;
    let token = token("press-1", &unwrapped);
    let told = ask(&mut connection, &with_body("PUT", "press-1/register", &token, &body)).await;
    assert_eq!((told.status, told.body["status"].as_str()), (202, Some("failed")));
    assert_eq!(told.headers["connection"], "close");
}

/// DPS-LIMIT-5, DPS-HTTPS-9: a device that has proved itself is told to come back, and may on the same connection.
#[tokio::test(start_paused = true)]
async fn a_device_that_is_throttled_keeps_its_connection() {
    let limits = Limits { registrations_per_minute: NonZeroU32::new(1), ..Limits::default() };
    let service = service_with(limits).await;
    let token = token("dev-1", &device_key("dev-1"));
    let register = with_body("PUT", "dev-1/register", &token, "{}");
    while ask(&mut Connection::to(&service, Vec::new()).await, &register).await.status == 202 {}
    let mut connection = Connection::to(&service, Vec::new()).await;
    for _ in 0..2 {
        let told = ask(&mut connection, &register).await;
        assert_eq!((told.status, told.body["errorCode"].as_u64()), (429, Some(429_001)));
        assert!(!told.headers.contains_key("connection") && told.headers.contains_key("retry-after"));
        sleep(Duration::from_secs(5)).await;
    }
}

/// DPS-LIMIT-4, DPS-HTTPS-9: nobody knows who it is that asks when the service has no time; it has a few tries and no more time for them.
#[tokio::test(start_paused = true)]
async fn whoever_could_not_be_judged_may_ask_again_a_few_times() {
    let service = service_with(Limits { requests_in_flight: 1, ..Limits::default() }).await;
    let _other = service.front_end.throttles.request().unwrap();
    let token = token("dev-1", &device_key("dev-1"));
    let mut connection = Connection::to(&service, Vec::new()).await;
    for tries in 1..=5 {
        let told = ask(&mut connection, &with_body("PUT", "dev-1/register", &token, "{}")).await;
        assert_eq!(told.status, 429);
        assert_eq!(told.headers.contains_key("connection"), tries == 5, "{tries}");
    }
}

/// DPS-X509-2, DPS-MQTT-30: certificates of those who have proved nothing share the budget too.
#[tokio::test(start_paused = true)]
async fn certificates_of_strangers_share_the_budget() {
    let service = service_with(Limits { unattested_bytes: 30_000, ..Limits::default() }).await;
    let shown = || vec![CertificateDer::from(vec![0x30; 10_000])];
    let first = Connection::to(&service, shown()).await;
    sleep(Duration::from_secs(1)).await;
    let (said, after) = Connection::to(&service, shown()).await.end().await;
    assert!(said.is_empty() && after < Duration::from_secs(1), "{said} {after:?}");
    let small = Connection::to(&service, vec![CertificateDer::from(vec![0x30; 1_000])]).await;
    drop(first);
    sleep(Duration::from_secs(1)).await;
    let mut next = Connection::to(&service, shown()).await;
    let token = token("dev-1", &device_key("dev-1"));
    assert_eq!(ask(&mut next, &with_body("PUT", "dev-1/register", &token, "{}")).await.status, 202);
    // It has proved itself, and what it showed no longer counts.
    let mut another = Connection::to(&service, shown()).await;
    assert_eq!(ask(&mut another, &with_body("PUT", "dev-1/register", &token, "{}")).await.status, 202);
    drop(small);
}

/// DPS-TPM-1, DPS-HTTPS-9: clients answer a challenge on the connection that it came on; it has no more time for that.
#[tokio::test(start_paused = true)]
async fn a_challenge_keeps_the_connection_and_prolongs_nothing() {
    let service = service().await;
    let key = STANDARD.encode(tpm_public());
    let body = json!({"tpm": {"endorsementKey": key, "storageRootKey": key}}).to_string();
    let present = with_body("PUT", "press-1/register", "", &body).replace("authorization: \r\n", "");
    let mut connection = Connection::to(&service, Vec::new()).await;
    let within = Limits::default().session.attest_within;
    for _ in 0..2 {
        let told = ask(&mut connection, &present).await;
        assert_eq!((told.status, told.body["keyName"].as_str()), (401, Some("registration")));
        assert!(told.body["authenticationKey"].is_string() && told.body.get("errorCode").is_none());
        assert!(!told.headers.contains_key("connection"));
        sleep(within / 4).await;
    }
    let (said, after) = connection.end().await;
    assert!(said.is_empty() && after >= within && after < within + Duration::from_secs(1), "{after:?}");
}

/// DPS-LIMIT-10, DPS-MQTT-30: bodies of those who have proved nothing share a budget; an ordinary register needs none of it.
#[tokio::test(start_paused = true)]
async fn large_bodies_share_a_budget_and_ordinary_ones_do_not_need_it() {
    let service = service_with(Limits { unattested_bytes: 10_000, ..Limits::default() }).await;
    let token = token("dev-1", &device_key("dev-1"));
    for (bytes, status) in [(3_000, 202), (12_000, 202), (20_000, 429), (3_000, 202)] {
        let body = format!(r#"{{"payload":"{}"}}"#, "x".repeat(bytes));
        let mut connection = Connection::to(&service, Vec::new()).await;
        let told = ask(&mut connection, &with_body("PUT", "dev-1/register", &token, &body)).await;
        assert_eq!(told.status, status, "{}", told.body);
        assert!(told.headers.contains_key("retry-after"));
    }
}
