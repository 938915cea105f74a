//! Who is let in, and what is told to whoever is not.

use dps_proto::percent;
use dps_server::explain::Wanted;
use dps_server::limits::Limits;
use hyper::{Method, Request};

use crate::client::{Client, Token, key};
use crate::{HOST, SCOPE};

async fn with_token(client: &Client, method: Method, path: &str, token: &str) -> (u16, i64) {
    let request = Request::builder()
        .method(method)
        .uri(format!("{path}?api-version=2021-10-01"))
        .header("host", HOST)
        .header("authorization", token)
        .body("".into())
        .unwrap();
    client.send(request).await.refused()
}

/// What a token gets that is let in: there is no such entry.
const LET_IN: (u16, i64) = (404, 404_201);
const TURNED_AWAY: (u16, i64) = (401, 401_002);

/// DPS-ACCESS-3, DPS-ACCESS-4, DPS-ACCESS-5, DPS-ACCESS-6
#[tokio::test]
async fn a_token_opens_the_api_in_every_spelling_of_official_clients_and_no_other() {
    let client = Client::new();
    let token = Token::default();
    let good = [
        Token { resource: "dps.example%3A18443".into(), ..token.clone() },
        Token { resource: "DPS.example".into(), ..token.clone() },
        Token { resource: "dps.example%2fenrollments".into(), ..token.clone() },
        Token { resource: "dps.example/Enrollments/A/".into(), ..token.clone() },
        Token { resource: "127.0.0.1".into(), ..token.clone() },
        Token { key: key(101), ..token.clone() },
        Token { policy: "ProvisioningServiceOwner", ..token.clone() },
        Token { lives: 1_000_000_000_000, ..token.clone() },
        Token { lives: -299, ..token.clone() },
    ];
    for token in good {
        let text = token.text();
        assert_eq!(
            with_token(&client, Method::GET, "/enrollments/a", &text).await,
            LET_IN,
            "{}",
            token.resource
        );
    }
    let bad = [
        Token { resource: "other.example".into(), ..token.clone() },
        Token { resource: "dps.example%2FenrollmentGroups".into(), ..token.clone() },
        Token { resource: "dps.example/enroll".into(), ..token.clone() },
        Token { resource: "dps.example/enrollments/a/b".into(), ..token.clone() },
        Token { resource: "".into(), ..token.clone() },
        Token { key: key(2), ..token.clone() },
        Token { key: key(3), ..token.clone() },
        Token { policy: "nobody", ..token.clone() },
        Token { policy: "", ..token.clone() },
        Token { lives: -302, ..token.clone() },
    ];
    for token in bad {
        let text = token.text();
        let (resource, policy) = (&token.resource, token.policy);
        let got = with_token(&client, Method::GET, "/enrollments/a", &text).await;
        assert_eq!(got, TURNED_AWAY, "{resource} {policy} {}", token.lives);
    }
    for text in
        ["Bearer eyJ", "SharedAccessSignature", "SharedAccessSignature sr=dps.example&sig=x", "Basic YTpi"]
    {
        assert_eq!(with_token(&client, Method::GET, "/enrollments/a", text).await, TURNED_AWAY, "{text}");
    }
    let without = Request::get("/enrollments/a?api-version=2021-10-01").header("host", HOST);
    assert_eq!(client.send(without.body("".into()).unwrap()).await.refused(), TURNED_AWAY);
}

/// DPS-ACCESS-5: an id with a colon, encoded or not on either side.
#[tokio::test]
async fn a_token_for_a_path_opens_it_however_either_is_encoded() {
    let client = Client::new();
    for resource in
        ["dps.example/enrollments/e:1", "dps.example%2Fenrollments%2Fe%3A1", "dps.example/enrollments/e%3a1"]
    {
        let token = Token { resource: resource.into(), ..Token::default() }.text();
        for path in ["/enrollments/e:1", "/enrollments/e%3A1", "/enrollments/E%3a1"] {
            assert_eq!(with_token(&client, Method::GET, path, &token).await, LET_IN, "{resource} {path}");
        }
        for path in ["/enrollments/e:2", "/enrollmentGroups/e%3A1"] {
            assert_eq!(
                with_token(&client, Method::GET, path, &token).await,
                TURNED_AWAY,
                "{resource} {path}"
            );
        }
    }
}

/// DPS-ACCESS-7, DPS-ACCESS-1
#[tokio::test]
async fn a_policy_opens_what_its_rights_say() {
    let client = Client::new();
    let reader = || Token { key: key(2), policy: "reader", ..Token::default() }.text();
    assert_eq!(with_token(&client, Method::GET, "/enrollments/a", &reader()).await, LET_IN);
    assert_eq!(with_token(&client, Method::GET, "/registrations/a", &reader()).await, (404, 404_202));
    for (method, path) in [
        (Method::PUT, "/enrollments/a"),
        (Method::DELETE, "/enrollmentGroups/a"),
        (Method::POST, "/enrollments/a/attestationmechanism"),
        (Method::DELETE, "/registrations/a"),
    ] {
        assert_eq!(with_token(&client, method, path, &reader()).await, (403, 403_000), "{path}");
    }
}

/// DPS-ACCESS-2
#[tokio::test]
async fn the_host_chooses_the_instance_before_any_token_is_judged() {
    let client = Client::new();
    let ask = async |host: &str, key| {
        let token = Token { resource: host.to_owned(), key, ..Token::default() };
        let request = Request::get("/enrollments/a?api-version=2021-10-01")
            .header("host", host)
            .header("authorization", token.text());
        client.send(request.body("".into()).unwrap()).await.refused()
    };
    assert_eq!(ask("DPS.EXAMPLE:18443", key(1)).await, LET_IN);
    assert_eq!(ask("127.0.0.1:443", key(1)).await, LET_IN);
    assert_eq!(ask("other.example", key(3)).await, LET_IN);
    assert_eq!(ask("other.example", key(1)).await, TURNED_AWAY);
    assert_eq!(ask("nobody.example", key(1)).await, (404, 404_000));
    assert_eq!(ask("", key(1)).await, (404, 404_000));
}

/// DPS-SERVICE-2
#[tokio::test]
async fn a_request_names_an_api_version() {
    let client = Client::new();
    for (query, expected) in [
        ("?api-version=2018-09-01-preview", LET_IN),
        ("?a=b&api-version=2026-11-01", LET_IN),
        ("", (400, 400_000)),
        ("?api-version=latest", (400, 400_000)),
        ("?api-version", (400, 400_000)),
    ] {
        let request = Request::get(format!("/enrollments/a{query}"))
            .header("host", HOST)
            .header("authorization", Token::default().text());
        assert_eq!(client.send(request.body("".into()).unwrap()).await.refused(), expected, "{query}");
    }
}

/// DPS-SERVICE-19, DPS-EXPLAIN-5
#[tokio::test]
async fn a_refusal_is_explained_under_its_tracking_id_and_without_the_signature() {
    let client = Client::new();
    let token = Token { key: key(9), ..Token::default() }.text();
    let request = Request::get("/enrollments/dev-1?api-version=2021-10-01")
        .header("host", HOST)
        .header("authorization", &token)
        .body("".into());
    let answer = client.send(request.unwrap()).await;
    let tracking_id = answer.body["trackingId"].as_str().unwrap().to_owned();
    let wanted = Wanted { tracking_id: Some(tracking_id), ..Wanted::default() };
    let found = client.front_end.explanations.find(&wanted, 9);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].id_scope.as_ref().unwrap().as_str(), SCOPE);
    assert_eq!(found[0].registration_id.as_ref().unwrap().as_str(), "dev-1");
    assert_eq!(
        found[0].reason,
        "GET /enrollments/dev-1: the signature is not that of a key of the shared access policy \"provisioningserviceowner\""
    );
    assert!(found[0].advice.as_ref().unwrap().contains("Base64-decoded"));
    let signature = token.split("sig=").nth(1).unwrap().split('&').next().unwrap();
    assert!(!format!("{found:?}").contains(&signature[..8]));
}

/// DPS-EXPLAIN-5
#[tokio::test]
async fn a_key_in_place_of_the_policys_name_or_of_the_host_is_not_explained() {
    let client = Client::new();
    let key_text = "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=";
    for token in [
        Token { policy: key_text, ..Token::default() },
        Token { resource: percent::encode(key_text), ..Token::default() },
    ] {
        assert_eq!(with_token(&client, Method::GET, "/enrollments/a", &token.text()).await, TURNED_AWAY);
        let latest = &client.front_end.explanations.find(&Wanted::default(), 1)[0];
        assert!(latest.reason.contains("might be a key"), "{latest:?}");
        assert!(!format!("{latest:?}").contains(&key_text[..8]), "{latest:?}");
    }
}

/// DPS-LIMIT-4, DPS-LIMIT-9
#[tokio::test]
async fn a_request_too_many_is_told_to_come_back() {
    let client = Client::with_limits(Limits { requests_in_flight: 1, ..Limits::default() });
    let _other = client.front_end.throttles.request().unwrap();
    let answer = client.get("/enrollments/a").await;
    assert_eq!(answer.refused(), (429, 429_001));
    assert_eq!(answer.header("retry-after"), Some("3"));
    assert!(client.front_end.metrics.render().contains(r#"limits_hit_total{limit="RequestsInFlight"} 1"#));
}
