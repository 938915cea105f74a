//! The client of the service API against real bytes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by failing")]

#[path = "support/scripted_service.rs"]
mod scripted_service;

use std::time::Duration;

use dps_client::service::{
    Deadlines, EntryName, IfMatch, Listing, Refusal, Resource, ServiceClient, ServiceError,
};
use dps_client::tls;
use dps_proto::key::SymmetricKey;
use dps_proto::sas::SasToken;
use jiff::Timestamp;
use scripted_service::{Answer, KEY, ScriptedService};
use serde_json::json;

fn client(service: &ScriptedService) -> ServiceClient {
    client_of(&service.connection_string(), service)
}

fn client_of(connection_string: &str, service: &ScriptedService) -> ServiceClient {
    let tls = tls::trusting(&service.ca_file()).unwrap();
    ServiceClient::new(connection_string.parse().unwrap(), tls, Deadlines::default())
}

fn device(id: &str) -> EntryName {
    EntryName::Individual(id.parse().unwrap())
}

fn lines(service: &ScriptedService) -> Vec<String> {
    service.requests().into_iter().map(|request| request.line).collect()
}

/// DPS-CLI-2
#[tokio::test]
async fn a_request_names_the_api_version_and_carries_a_token_of_the_policy() {
    let service = ScriptedService::answering([Answer::json("{}")]);
    client(&service).get(&device("a:b").into()).await.unwrap();
    let request = &service.requests()[0];
    assert_eq!(request.line, "GET /enrollments/a%3Ab?api-version=2021-10-01");
    assert_eq!(request.header("host"), Some(&*format!("localhost:{}", service.port)));
    let token = SasToken::parse(request.header("authorization").unwrap().as_bytes()).unwrap();
    assert!(token.is_signed_by(&KEY.parse::<SymmetricKey>().unwrap()));
    assert_eq!(token.resource(), format!("localhost%3A{}", service.port));
    assert_eq!(token.policy(), Some("owner"));
    let lifetime = token.expiry().as_second() - Timestamp::now().as_second();
    assert!((1..=600).contains(&lifetime), "{lifetime}");
}

/// DPS-CLI-5
#[tokio::test]
async fn requests_share_a_connection_and_every_verb_goes_to_its_path() {
    let service = ScriptedService::start(|request| match request.line.as_bytes()[0] {
        b'D' => Answer::deleted(),
        _ => Answer::json(r#"{"a":1.10,"big":123456789012345678901234567890}"#),
    });
    let mut client = client(&service);
    let group = EntryName::Group("line-7".parse().unwrap());
    let put = client.put(&group, r#"{"z":1}"#.to_owned(), None).await.unwrap();
    assert_eq!(put.get(), r#"{"a":1.10,"big":123456789012345678901234567890}"#);
    client.put(&group, "{}".to_owned(), Some(&IfMatch::ETag("IjA=".to_owned()))).await.unwrap();
    client.attestation_mechanism(&group).await.unwrap();
    client.delete(&group.into(), Some(&IfMatch::Any)).await.unwrap();
    client.delete(&Resource::Registration("a".parse().unwrap()), None).await.unwrap();
    let version = "?api-version=2021-10-01";
    assert_eq!(
        lines(&service),
        [
            format!("PUT /enrollmentGroups/line-7{version}"),
            format!("PUT /enrollmentGroups/line-7{version}"),
            format!("POST /enrollmentGroups/line-7/attestationmechanism{version}"),
            format!("DELETE /enrollmentGroups/line-7{version}"),
            format!("DELETE /registrations/a{version}"),
        ]
    );
    let requests = service.requests();
    let conditions: Vec<_> = requests.iter().map(|request| request.header("if-match")).collect();
    assert_eq!(conditions, [None, Some("IjA="), None, Some("*"), None]);
    assert_eq!(requests[0].text, r#"{"z":1}"#);
    assert_eq!(requests[2].header("content-length"), Some("0"));
}

/// DPS-CLI-11
#[tokio::test]
async fn a_list_follows_its_pages_only_as_far_as_it_is_read() {
    let service = ScriptedService::start(|request| match request.header("x-ms-continuation") {
        None => Answer::json("[1,2]").header("x-ms-continuation", "second"),
        Some("second") => Answer::json("[]").header("x-ms-continuation", "third"),
        Some("third") => Answer::json("[3]"),
        Some(other) => panic!("{other}"),
    });
    let mut client = client(&service);
    let mut pages = client.list(Listing::Individuals, None);
    let mut items = Vec::new();
    assert_eq!(pages.next().await.unwrap().unwrap().len(), 2);
    assert_eq!(service.requests().len(), 1);
    while let Some(page) = pages.next().await.unwrap() {
        items.extend(page);
    }
    assert_eq!(items.len(), 1);
    assert_eq!(lines(&service), vec!["POST /enrollments/query?api-version=2021-10-01"; 3]);
    assert_eq!(service.requests()[0].body, json!({"query": "SELECT *"}));
}

/// DPS-CLI-11
#[tokio::test]
async fn a_limit_ends_a_list_whatever_the_service_sends() {
    let service = ScriptedService::start(|_| Answer::json("[1,2,3]").header("x-ms-continuation", "more"));
    let mut client = client(&service);
    let group = "line-7".parse().unwrap();
    let mut pages = client.list(Listing::RegistrationsOf(group), Some(2));
    assert_eq!(pages.next().await.unwrap().unwrap().len(), 2);
    assert!(pages.next().await.unwrap().is_none());
    assert_eq!(lines(&service), ["POST /registrations/line-7/query?api-version=2021-10-01"]);
    assert_eq!(service.requests()[0].header("x-ms-max-item-count"), Some("2"));
}

/// DPS-CLI-11
#[tokio::test]
async fn a_service_that_repeats_a_continuation_is_not_listed_for_ever() {
    let service = ScriptedService::start(|_| Answer::json("[1]").header("x-ms-continuation", "again"));
    let mut client = client(&service);
    let mut pages = client.list(Listing::Groups, None);
    pages.next().await.unwrap();
    assert!(matches!(pages.next().await, Err(ServiceError::NotOfTheApi { .. })));
    assert_eq!(service.requests().len(), 2);
}

/// DPS-CLI-15
#[tokio::test]
async fn a_refusal_carries_status_code_message_and_tracking_id() {
    let page = Answer::json("<html>").status(502).header("x-ms-request-id", "from-the-header");
    let page = page.header("retry-after", 7);
    let service = ScriptedService::answering([Answer::refused(404_201, "Enrollment not found."), page]);
    let mut client = client(&service);
    let expected = Refusal {
        status: 404,
        error_code: Some(404_201),
        message: "Enrollment not found.".to_owned(),
        tracking_id: Some("a-tracking-id".to_owned()),
        retry_after: None,
    };
    let Err(ServiceError::Refused(refusal)) = client.get(&device("a").into()).await else { panic!() };
    assert_eq!(refusal, expected);
    assert_eq!(refusal.to_string(), "404201 Enrollment not found. (trackingId a-tracking-id)");
    let Err(ServiceError::Refused(refusal)) = client.get(&device("a").into()).await else { panic!() };
    assert_eq!(refusal.to_string(), "status 502 Bad Gateway (trackingId from-the-header)");
    assert_eq!(refusal.retry_after, Some(Duration::from_secs(7)));
}

/// DPS-CLI-5: a redirect could lead the token elsewhere.
#[tokio::test]
async fn a_redirect_is_a_refusal() {
    let service = ScriptedService::start(|_| Answer::json("").status(307).header("location", "/elsewhere"));
    let answer = client(&service).get(&device("a").into()).await;
    assert!(matches!(answer, Err(ServiceError::Refused(Refusal { status: 307, .. }))), "{answer:?}");
    assert_eq!(service.requests().len(), 1);
}

/// DPS-CLI-5
#[tokio::test]
async fn an_answer_that_is_too_large_or_no_json_is_refused() {
    let large = Answer::json("[".to_owned() + &" ".repeat(32 * 1024 * 1024) + "]");
    let service = ScriptedService::answering([Answer::json("not JSON"), large]);
    let mut client = client(&service);
    let answer = client.get(&device("a").into()).await;
    assert!(matches!(answer, Err(ServiceError::NotOfTheApi { .. })), "{answer:?}");
    let answer = client.get(&device("a").into()).await;
    assert!(matches!(answer, Err(ServiceError::Broken { .. })), "{answer:?}");
}

/// DPS-CLI-5
#[tokio::test]
async fn a_service_that_says_nothing_is_not_waited_for() {
    let silent = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let service = ScriptedService::answering([]);
    let connection_string = service.connection_string().replace(&service.port.to_string(), &port.to_string());
    let tls = tls::trusting(&service.ca_file()).unwrap();
    let deadlines = Deadlines { connect: Duration::from_millis(50), answer: Duration::from_millis(50) };
    let answer =
        ServiceClient::new(connection_string.parse().unwrap(), tls, deadlines).get(&device("a").into()).await;
    assert!(matches!(answer, Err(ServiceError::TimedOut { .. })), "{answer:?}");
}

/// DPS-CLI-4, DPS-CLI-15
#[tokio::test]
async fn a_certificate_of_another_authority_or_name_is_told_apart() {
    let (service, other) = (ScriptedService::answering([]), ScriptedService::answering([]));
    let untrusted = client_of(&service.connection_string(), &other).get(&device("a").into()).await;
    assert!(matches!(untrusted, Err(ServiceError::Untrusted { .. })), "{untrusted:?}");
    let by_address = service.connection_string().replace("localhost", "127.0.0.1");
    let named = client_of(&by_address, &service).get(&device("a").into()).await;
    assert!(matches!(named, Err(ServiceError::OtherName { .. })), "{named:?}");
    assert!(service.requests().is_empty());
}

/// DPS-CLI-13
#[tokio::test]
async fn neither_a_client_nor_its_errors_show_a_key_or_a_token() {
    let service = ScriptedService::answering([Answer::refused(401_002, "Unauthorized")]);
    let mut client = client(&service);
    let error = client.get(&device("a").into()).await.unwrap_err();
    let shown = format!("{client:?} {error} {error:?}");
    let request = &service.requests()[0];
    let signature = request.header("authorization").unwrap().split("sig=").nth(1).unwrap();
    assert!(!shown.contains(&KEY[..8]) && !shown.contains(&signature[..8]), "{shown}");
}
