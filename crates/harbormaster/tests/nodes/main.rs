//! Three nodes on one database behind HAProxy, as dist/nodes describes them, while something fails. Spec: DPS-NODE-1 to DPS-NODE-6, DPS-NODE-20.
//!
//! Each test injects one fault while devices register without a pause, and then counts: see [`load`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

/// Prints how many devices were checked, also where the test passes: what `println!` prints the harness keeps to itself then.
macro_rules! say {
    ($($what:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($what)*);
    }};
}

mod asked;
mod cluster;
mod costs;
mod cutter;
mod database;
mod deployment;
mod device;
mod failover;
#[path = "../fleet/mod.rs"]
mod fleet;
mod frozen;
mod load;
mod newer_tables;
mod service_api;

use std::io::ErrorKind;
use std::process::Stdio;
use std::time::{Duration, Instant};

use cluster::{Cluster, ID_SCOPE};
use device::{Link, provision};
use futures_util::future::join_all;
use load::Load;
use serde_json::json;
use tokio::time::sleep;

/// Long enough for some devices of each kind: assigned before a fault, on their way, and new after it.
const A_WHILE: Duration = Duration::from_secs(3);

/// DPS-NODE-1, DPS-STORE-2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_killed_and_comes_back() {
    let mut cluster = Cluster::start().await;
    let load = Load::begin(&cluster);
    for node in [1, 2] {
        sleep(A_WHILE).await;
        cluster.kill_node(node);
        sleep(A_WHILE).await;
        cluster.start_node(node);
    }
    load.end("a node was killed, then another", &cluster).await;
}

/// DPS-NODE-4, DPS-STORE-2, DPS-STORE-18
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_is_killed_and_comes_back() {
    let cluster = Cluster::start().await;
    let load = Load::begin(&cluster);
    sleep(A_WHILE).await;
    cluster.database.kill();
    let began = Instant::now();
    // Each of them says so, and answers devices all the same.
    for node in 0..3 {
        let answer = cluster.ready(node).await;
        assert!(answer.status == 503 && answer.text.contains("PostgreSQL"), "{answer:?}");
        let who = cluster.device("nobody");
        let mut link = Link::connect(cluster.mqtt_of(node), &cluster.tls, &who).await.unwrap();
        let told = link.register().await.unwrap();
        assert_eq!((told.status, told.body["errorCode"].as_u64()), (503, Some(503_000)), "{told:?}");
        assert!(told.retry_after_s.is_some());
        let answer = cluster.register_by_https(node, &who).await;
        assert_eq!((answer.status, answer.body["errorCode"].as_u64()), (503, Some(503_000)), "{answer:?}");
        assert!(answer.retry_after_s.is_some());
    }
    say!("without a database: all nodes had answered after {:?}", began.elapsed());
    cluster.database.start_again();
    for node in 0..3 {
        while cluster.ready(node).await.status != 200 {
            assert!(began.elapsed() < Duration::from_secs(90), "node {node} does not go on by itself");
            sleep(Duration::from_millis(100)).await;
        }
    }
    sleep(A_WHILE).await;
    let setbacks = load.end("the database was killed", &cluster).await;
    assert!(setbacks > 0, "no device noticed");
}

/// DPS-NODE-1, DPS-NODE-5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_freezes_in_the_middle_of_everything() {
    let cluster = Cluster::start().await;
    let load = Load::begin(&cluster);
    sleep(A_WHILE).await;
    cluster.signal(0, "-STOP");
    // Longer than the database lets a transaction lie idle, and than the balancer needs to notice.
    sleep(Duration::from_secs(15)).await;
    let began = Instant::now();
    let late = cluster.device("while-one-is-frozen");
    provision(cluster.balancer(), &cluster.tls, &late, Duration::from_secs(60)).await;
    say!("while a node was frozen: another served a new device within {:?}", began.elapsed());
    cluster.signal(0, "-CONT");
    sleep(A_WHILE).await;
    load.end("a node was frozen", &cluster).await;
}

/// DPS-NODE-4, DPS-STORE-18
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_connection_to_the_database_is_held() {
    let cluster = Cluster::start().await;
    let load = Load::begin(&cluster);
    sleep(A_WHILE).await;
    // Whoever looks a device up waits, until no node has a connection left.
    let hold =
        "BEGIN; LOCK TABLE individual_enrollment IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(20); ROLLBACK";
    let mut holding = cluster.database.psql(hold).stdout(Stdio::null()).spawn().unwrap();
    sleep(A_WHILE).await;
    let who = cluster.device("patient");
    let began = Instant::now();
    let answers = (0..3).map(async |node| {
        let mut link = Link::connect(cluster.mqtt_of(node), &cluster.tls, &who).await.unwrap();
        let told = link.register().await.unwrap();
        assert!(told.status == 503 && told.retry_after_s.is_some(), "{told:?}");
    });
    join_all(answers).await;
    // As long as limits.request_within_s lets it, and a device waits.
    say!("without a connection: all nodes had answered after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(holding.wait().unwrap().success());
    sleep(A_WHILE).await;
    let setbacks = load.end("all connections were held", &cluster).await;
    assert!(setbacks > 0, "no device noticed");
}

/// DPS-STORE-2, DPS-STORE-19: a node that does not know whether it has committed tells nobody that it has, and nothing is done twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_cut_after_a_commit_was_sent() {
    let (cluster, cutter) = Cluster::behind_a_cutter().await;
    let load = Load::begin(&cluster);
    sleep(A_WHILE).await;
    cutter.begin();
    sleep(3 * A_WHILE).await;
    let cut = cutter.end();
    sleep(A_WHILE).await;
    load.end(&format!("{cut} commits were cut"), &cluster).await;
    assert!(cut >= 10, "{cut}");
}

/// DPS-CLI-36
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_looked_at_and_made_while_nodes_run() {
    let cluster = Cluster::start().await;
    let (code, told) = cluster.migrate("", &["--check"]);
    assert!(code == 0 && told.contains("which is the newest"), "{told}");
    let fresh = "schema = \"fresh\"\n";
    for (arguments, expected, word) in [
        (&["--check"][..], 1, "there is no store yet"),
        (&[], 0, "schema fresh: made"),
        (&["--check"], 0, "which is the newest"),
        (&[], 0, "nothing was to be done"),
    ] {
        let (code, told) = cluster.migrate(fresh, arguments);
        assert!(code == expected && told.contains(word), "{code} {told}");
    }
    let (code, told) = cluster.migrate("schema = \"pg_mine\"\n", &["--check"]);
    assert!(code == 64 && told.contains("store.schema"), "{code} {told}");
    cluster.database.kill();
    let (code, told) = cluster.migrate("", &["--check"]);
    assert!(code == 69 && told.contains("cannot be reached"), "{code} {told}");
    cluster.database.start_again();
}

/// DPS-NODE-3, DPS-REG-13
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_takes_away_counts_on_all() {
    let cluster = Cluster::start().await;
    let who = cluster.device("press-1");
    for node in 0..3 {
        provision(cluster.mqtt_of(node), &cluster.tls, &who, Duration::from_secs(60)).await;
    }
    for (turn, state, expected) in
        [(0, "disabled", "disabled"), (1, "enabled", "assigned"), (2, "disabled", "disabled")]
    {
        cluster.put_group("line", json!({"provisioningStatus": state}), turn).await;
        // At once: the first request after the answer.
        for node in 0..3 {
            let mut link = Link::connect(cluster.mqtt_of(node), &cluster.tls, &who).await.unwrap();
            let told = link.register().await.unwrap();
            let status = told.body["registrationState"]["status"].as_str().or(told.body["status"].as_str());
            let is_admitted = told.status == 202 && status != Some("disabled");
            assert_eq!(is_admitted, expected == "assigned", "node {node} after {turn}: {told:?}");
        }
    }

    let path = "/admin/v1/id-scopes/0neDDDD0004";
    cluster.admin_of(0).put(path, &json!({})).await.unwrap();
    let mut other = cluster.device("press-2");
    other.id_scope = "0neDDDD0004".parse().unwrap();
    let began = Instant::now();
    for node in [0, 1, 2] {
        while let Err(why) = Link::connect(cluster.mqtt_of(node), &cluster.tls, &other).await {
            assert_eq!(why.kind(), ErrorKind::PermissionDenied, "an ID scope that is not known yet");
            assert!(began.elapsed() < Duration::from_secs(2), "node {node} does not serve it");
        }
    }
    say!("an instance of one node was served by all after {:?}", began.elapsed());
    cluster.admin_of(2).delete(path).await.unwrap();
    let began = Instant::now();
    while Link::connect(cluster.mqtt_of(1), &cluster.tls, &other).await.is_ok() {
        assert!(began.elapsed() < Duration::from_secs(2), "a deleted instance is served still");
    }
    assert!(Link::connect(cluster.mqtt_of(1), &cluster.tls, &who).await.is_ok(), "{ID_SCOPE} is another");
}
