//! The database is two servers, and the one that takes writes is lost for good.

use std::mem;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::A_WHILE;
use crate::cluster::Cluster;
use crate::database::Database;
use crate::deployment::Deployment;
use crate::load::Load;

/// DPS-STORE-25, DPS-NODE-4, DPS-STORE-2: what any device was told is on the standby, and nodes find that by themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_fails_over_to_a_synchronous_standby() {
    let primary = Database::start();
    let standby = primary.start_standby();
    let hosts = [&primary, &standby].map(|server| server.directory.display().to_string());
    let url = format!("host={} user=postgres dbname=postgres", hosts.join(","));
    let mut cluster = Cluster::of(Deployment { url, ..Deployment::of(primary) }).await;
    let load = Load::begin(&cluster);
    sleep(A_WHILE).await;
    cluster.database.kill();
    let began = Instant::now();
    for node in 0..3 {
        let answer = cluster.ready(node).await;
        assert_eq!(answer.status, 503, "a standby takes no writes: {answer:?}");
    }
    standby.promote();
    let _lost = mem::replace(&mut cluster.database, standby);
    let promoted = Instant::now();
    for node in 0..3 {
        while cluster.ready(node).await.status != 200 {
            assert!(promoted.elapsed() < Duration::from_secs(90), "node {node} does not go on by itself");
            sleep(Duration::from_millis(100)).await;
        }
    }
    say!(
        "a standby took over {:?} after the primary was lost; all nodes were ready {:?} later",
        promoted.duration_since(began),
        promoted.elapsed()
    );
    sleep(A_WHILE).await;
    let setbacks = load.end("the database failed over", &cluster).await;
    assert!(setbacks > 0, "no device noticed");
}
