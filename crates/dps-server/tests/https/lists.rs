//! Queries, page by page.

use dps_core::Moment;
use dps_core::attestation::{Credential, DeviceClaim};
use dps_core::ports::SearchTurn;
use dps_proto::key::SymmetricKey;
use dps_proto::sas::{SasToken, sign_device_token};
use hyper::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::SCOPE;
use crate::client::Client;

/// Follows the pages; how many items each had, and all of them.
async fn pages(
    client: &Client,
    path: &str,
    item_type: &str,
    count: Option<&str>,
) -> (Vec<usize>, Vec<Value>) {
    let (mut sizes, mut items) = (Vec::new(), Vec::new());
    let mut continuation = None::<String>;
    loop {
        let count = count.map(|count| ("x-ms-max-item-count", count));
        let after = continuation.as_deref().map(|token| ("x-ms-continuation", token));
        let headers: Vec<_> = count.into_iter().chain(after).collect();
        let page = client.ask(Method::POST, path, &headers, r#"{"query": "SELECT *"}"#).await;
        assert_eq!((page.status, page.header("x-ms-item-type")), (200, Some(item_type)));
        sizes.push(page.body.as_array().unwrap().len());
        items.extend(page.body.as_array().unwrap().iter().cloned());
        match page.header("x-ms-continuation") {
            Some(token) => continuation = Some(token.to_owned()),
            None => return (sizes, items),
        }
    }
}

/// DPS-SERVICE-14
#[tokio::test]
async fn a_query_gives_everything_in_pages_of_the_asked_size() {
    let client = Client::new();
    for (path, member, item_type) in [
        ("/enrollments", "registrationId", "Enrollment"),
        ("/enrollmentGroups", "enrollmentGroupId", "EnrollmentGroup"),
    ] {
        let query = format!("{path}/query");
        assert_eq!(pages(&client, &query, item_type, None).await, (vec![0], vec![]));
        for number in 0..205 {
            // In no order, and in letters of either case.
            let letter = if number % 2 == 0 { "D" } else { "d" };
            let id = format!("{letter}-{:03}", (number * 77) % 205);
            let body = json!({member: id, "attestation": {"type": "symmetricKey"}});
            assert_eq!(client.put(&format!("{path}/{id}"), None, &body).await.status, 200);
        }
        let (sizes, items) = pages(&client, &query, item_type, None).await;
        assert_eq!(sizes, [100, 100, 5]);
        let ids: Vec<_> = items.iter().map(|item| item[member].as_str().unwrap().to_lowercase()).collect();
        assert_eq!(ids, (0..205).map(|number| format!("d-{number:03}")).collect::<Vec<_>>());
        for (count, sizes) in
            [("1000", vec![205]), ("205", vec![205]), ("41", vec![41; 5]), ("0", vec![100, 100, 5])]
        {
            assert_eq!(pages(&client, &query, item_type, Some(count)).await.0, sizes, "{count}");
        }
    }
}

/// DPS-SERVICE-14: what clients really send.
#[tokio::test]
async fn a_query_without_where_is_not_judged() {
    let client = Client::new();
    for body in [
        "",
        "{}",
        r#"{"query": ""}"#,
        r#"{"query": "{'additional_properties': {}, 'query': 'SELECT *'}"}"#,
        r#"{"query": "select * from enrollmentGroups"}"#,
    ] {
        assert_eq!(client.post("/enrollments/query", body).await.status, 200, "{body}");
    }
    for (header, value) in
        [("x-ms-max-item-count", "many"), ("x-ms-continuation", "*"), ("x-ms-continuation", "Lw")]
    {
        let answer = client.ask(Method::POST, "/enrollments/query", &[(header, value)], "").await;
        assert_eq!(answer.refused(), (400, 400_004), "{header}: {value}");
    }
}

/// DPS-SERVICE-23, DPS-SERVICE-24: page by page; writes between two pages neither repeat nor lose what stays.
#[tokio::test]
async fn a_where_lists_what_it_takes_in_stable_pages() {
    let client = Client::new();
    for (path, member) in [("/enrollments", "registrationId"), ("/enrollmentGroups", "enrollmentGroupId")] {
        let put = async |id: String, status: &str| {
            let body =
                json!({member: id, "attestation": {"type": "symmetricKey"}, "provisioningStatus": status});
            assert_eq!(client.put(&format!("{path}/{id}"), Some("*"), &body).await.status, 200);
        };
        for number in 0..40 {
            let status = if number % 4 == 0 { "disabled" } else { "enabled" };
            put(format!("{}-{number:02}", if number % 2 == 0 { "Even" } else { "odd" }), status).await;
        }
        let query = format!("{path}/query");
        let ask = async |text: &str, after: Option<&str>| {
            let body = json!({"query": text}).to_string();
            let headers: Vec<_> = [("x-ms-max-item-count", "4")]
                .into_iter()
                .chain(after.map(|token| ("x-ms-continuation", token)))
                .collect();
            client.ask(Method::POST, &query, &headers, body).await
        };
        let ids = |page: &crate::client::Answer| -> Vec<String> {
            let items = page.body.as_array().unwrap().iter();
            items.map(|item| item[member].as_str().unwrap().to_owned()).collect()
        };
        let text = format!(
            "SELECT * FROM x WHERE provisioningStatus = 'disabled' AND {member} LIKE 'even-%' \
             AND createdDateTimeUtc > '2020-01-01T00:00:00Z'"
        );
        let first = ask(&text, None).await;
        assert_eq!(ids(&first), ["Even-00", "Even-04", "Even-08", "Even-12"]);
        // The last of the page goes, one that was listed comes to be elsewhere, others come before and behind.
        client.delete(&format!("{path}/even-12"), None).await;
        put("even-04".to_owned(), "enabled").await;
        put("even-06".to_owned(), "disabled").await;
        put("even-18".to_owned(), "disabled").await;
        let second = ask(&text, first.header("x-ms-continuation")).await;
        assert_eq!(ids(&second), ["Even-16", "Even-18", "Even-20", "Even-24"]);
        let third = ask(&text, second.header("x-ms-continuation")).await;
        assert_eq!(ids(&third), ["Even-28", "Even-32", "Even-36"]);
        assert_eq!(third.header("x-ms-continuation"), None);
        let none = ask(&format!("SELECT * WHERE {member} = 'even'"), None).await;
        assert_eq!(
            (none.status, none.body.clone(), none.header("x-ms-continuation")),
            (200, json!([]), None)
        );

        let typo = ask("SELECT * WHERE provisioningStatus = 'disabeld'", None).await;
        assert_eq!(typo.refused(), (400, 400_004));
        assert!(typo.body["message"].as_str().unwrap().contains("disabeld"), "{}", typo.body);
    }
    let of_records = r#"{"query": "SELECT * WHERE registrationId = 'a'"}"#;
    let refused = client.post("/registrations/line/query", of_records).await;
    assert_eq!(refused.refused(), (400, 400_004));
    assert!(refused.body["message"].as_str().unwrap().contains("WHERE"), "{}", refused.body);
}

/// DPS-SERVICE-15
#[tokio::test]
async fn the_records_of_a_group_are_listed_and_outlive_it() {
    let client = Client::new();
    let path = "/registrations/Line-7/query";
    assert_eq!(pages(&client, path, "DeviceRegistration", None).await, (vec![0], vec![]));
    for id in ["line-7", "line-8"] {
        let body = json!({"enrollmentGroupId": id, "attestation": {"type": "symmetricKey"}});
        let made = client.put(&format!("/enrollmentGroups/{id}"), None, &body).await.body;
        let key: SymmetricKey =
            made["attestation"]["symmetricKey"]["primaryKey"].as_str().unwrap().parse().unwrap();
        for number in 0..3 {
            let device = format!("{id}-{number}");
            let (scope, device_id) = (SCOPE.parse().unwrap(), device.parse().unwrap());
            let expiry = Timestamp::now() + jiff::SignedDuration::from_mins(9);
            let token = sign_device_token(&scope, &device_id, &key.derive(&device), expiry);
            let credential =
                Credential { password: Some(SasToken::parse(token.as_bytes())), ..Credential::default() };
            let claim = DeviceClaim {
                id_scope: scope,
                registration_id: device_id,
                credential,
                search_turn: SearchTurn::InOrder,
                predates_reprovisioning: false,
                address: None,
            };
            let moment = Moment { now: Timestamp::now(), random: [number; 32] };
            client.registrar.register(&claim, None, moment).await.unwrap();
        }
    }
    let (sizes, items) = pages(&client, path, "DeviceRegistration", Some("2")).await;
    assert_eq!(sizes, [2, 1]);
    let ids: Vec<_> = items.iter().map(|item| item["registrationId"].as_str().unwrap()).collect();
    assert_eq!(ids, ["line-7-0", "line-7-1", "line-7-2"]);
    assert!(items.iter().all(|item| item["status"] == "assigned"));
    client.delete("/enrollmentGroups/line-7", None).await;
    assert_eq!(pages(&client, path, "DeviceRegistration", None).await.0, [3]);
}
