//! The service API and the admin API of each node while there is no database, and afterwards.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::asked::Reply;
use crate::cluster::{Cluster, HUB, ID_SCOPE};

/// A request, and what it is answered where the database is there.
struct Asked {
    is_admin: bool,
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, &'static str)>,
    body: Option<Value>,
    status: u16,
}

impl Asked {
    fn new(method: &'static str, path: String, body: Option<Value>, status: u16) -> Self {
        Self { is_admin: false, method, path, headers: Vec::new(), body, status }
    }

    fn of_admin(method: &'static str, path: String, body: Option<Value>, status: u16) -> Self {
        Self { is_admin: true, ..Self::new(method, path, body, status) }
    }

    async fn ask(&self, cluster: &Cluster, node: u8) -> Reply {
        let (method, path, body) = (self.method, &self.path, self.body.as_ref());
        match self.is_admin {
            false => cluster.ask_service_api(node, method, path, &self.headers, body).await,
            true => cluster.ask_admin(node, method, path, &self.headers, body).await,
        }
    }

    /// Whether it was told to come again. Of many entries each is told for itself, and has no header.
    fn is_to_come_again(&self, answer: &Reply) -> bool {
        match self.path.as_str() {
            BULK => answer.body["errors"][0]["errorCode"] == 503_000,
            _ => answer.status == 503 && answer.retry_after_s.is_some(),
        }
    }

    fn is_done(&self, answer: &Reply) -> bool {
        answer.status == self.status && answer.body["isSuccessful"] != false
    }
}

/// Writes many entries at once.
const BULK: &str = "/enrollments";

/// One that is there before.
fn instance_of(node: u8) -> String {
    format!("/id-scopes/0neFFFF000{node}")
}

/// Everything that reads or writes the store, in an order in which it all works; each node makes things of its own.
fn requests(node: u8) -> Vec<Asked> {
    let keys = json!({"primaryKey": "MDEyMzQ1Njc4OWFiY2RlZg==", "secondaryKey": "MDEyMzQ1Njc4OWFiY2RlZg=="});
    let attestation = json!({"type": "symmetricKey", "symmetricKey": keys});
    let (press, line) = (format!("press-{node}"), format!("line-{node}"));
    let enrollment = json!({"registrationId": press, "attestation": attestation});
    let group = json!({"enrollmentGroupId": line, "attestation": attestation});
    let bulk = json!({"mode": "create", "enrollments": [{"registrationId": format!("bulk-{node}"), "attestation": attestation}]});
    let query = json!({"query": "SELECT * FROM enrollments"});
    let any = vec![("If-Match", "*")];
    let of_instance = format!("/id-scopes/{ID_SCOPE}");
    vec![
        // Without If-Match: it works once.
        Asked::new("PUT", format!("/enrollments/{press}"), Some(enrollment), 200),
        Asked::new("PUT", format!("/enrollmentGroups/{line}"), Some(group), 200),
        Asked::new("POST", BULK.to_owned(), Some(bulk), 200),
        Asked::new("GET", format!("/enrollments/{press}"), None, 200),
        Asked::new("GET", format!("/enrollmentGroups/{line}"), None, 200),
        Asked::new("POST", format!("/enrollmentGroups/{line}/attestationmechanism"), None, 200),
        Asked::new("POST", "/enrollments/query".to_owned(), Some(query.clone()), 200),
        Asked::new("POST", format!("/registrations/{line}/query"), Some(json!({})), 200),
        Asked::new("GET", format!("/registrations/{press}"), None, 404),
        Asked { headers: any.clone(), ..Asked::new("DELETE", format!("/enrollments/{press}"), None, 204) },
        Asked {
            headers: any.clone(),
            ..Asked::new("DELETE", format!("/enrollmentGroups/{line}"), None, 204)
        },
        Asked::of_admin("GET", format!("{of_instance}/hubs/{HUB}/devices"), None, 200),
        Asked::of_admin("GET", format!("{of_instance}/hubs"), None, 200),
        Asked::of_admin("GET", format!("{of_instance}/audit"), None, 200),
        Asked::of_admin("GET", format!("{of_instance}/certificates"), None, 200),
        Asked::of_admin("GET", format!("{of_instance}/clean-ups"), None, 200),
        Asked { headers: any.clone(), ..Asked::of_admin("PUT", instance_of(node), Some(json!({})), 200) },
        Asked { headers: any, ..Asked::of_admin("DELETE", instance_of(node), None, 204) },
    ]
}

/// DPS-NODE-4, DPS-NODE-6
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_told_that_the_database_is_gone_and_nothing_is_half_done() {
    let cluster = Cluster::start().await;
    for node in 0..3 {
        let made = cluster.ask_admin(node, "PUT", &instance_of(node), &[], Some(&json!({}))).await;
        assert_eq!(made.status, 200, "{made:?}");
    }
    let kept = "SELECT (SELECT count(*) FROM individual_enrollment), (SELECT count(*) FROM enrollment_group),
                       (SELECT count(*) FROM instance), (SELECT count(*) FROM audit)";
    let before = cluster.database.sql(kept);
    cluster.database.kill();
    let mut refused = 0;
    for node in 0..3 {
        for asked in requests(node) {
            let answer = asked.ask(&cluster, node).await;
            assert!(asked.is_to_come_again(&answer), "{:?}: {answer:?}", (asked.method, &asked.path));
            refused += 1;
        }
    }
    cluster.database.start_again();
    let began = Instant::now();
    for node in 0..3 {
        while cluster.ready(node).await.status != 200 {
            assert!(began.elapsed() < Duration::from_secs(90), "node {node} does not go on by itself");
            sleep(Duration::from_millis(100)).await;
        }
    }
    assert_eq!(cluster.database.sql(kept), before);
    for node in 0..3 {
        for asked in requests(node) {
            let answer = asked.ask(&cluster, node).await;
            assert!(asked.is_done(&answer), "{:?}: {answer:?}", (asked.method, &asked.path));
        }
    }
    say!("without a database: {refused} requests of clients and operators refused, and answered afterwards");
}
