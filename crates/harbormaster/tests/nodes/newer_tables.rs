//! Tables that a later version has brought further, beneath nodes of this one.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::load::Load;

/// What a migration may do: more columns and indexes, for all that devices come by. It waits for a lock as long as migrations do.
const NEXT: &str = "BEGIN;
    SET LOCAL lock_timeout TO '1s';
    ALTER TABLE registration ADD COLUMN of_the_next text, ADD COLUMN with_a_default integer NOT NULL DEFAULT 7;
    ALTER TABLE hub_device ADD COLUMN of_the_next text;
    ALTER TABLE individual_enrollment ADD COLUMN of_the_next text;
    ALTER TABLE enrollment_group ADD COLUMN of_the_next text;
    ALTER TABLE instance ADD COLUMN of_the_next text;
    ALTER TABLE linked_hub ADD COLUMN of_the_next text;
    CREATE INDEX of_the_next ON registration (of_the_next);
    CREATE TABLE only_of_the_next (a integer PRIMARY KEY);
    UPDATE store SET version = version + 1;
    COMMIT";

/// DPS-NODE-20, DPS-STORE-16
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_serve_tables_that_the_next_version_has_brought_further() {
    let mut cluster = Cluster::start().await;
    let load = Load::begin(&cluster);
    sleep(Duration::from_secs(2)).await;
    // As the program does it that makes the migration.
    let began = Instant::now();
    while !cluster.database.psql(NEXT).status().unwrap().success() {
        assert!(began.elapsed() < Duration::from_secs(90), "nodes never let go of the tables");
        sleep(Duration::from_secs(1)).await;
    }
    sleep(Duration::from_secs(2)).await;
    cluster.kill_node(1);
    cluster.start_node(1);
    sleep(Duration::from_secs(2)).await;
    load.end("tables were brought to a newer version", &cluster).await;
    let (code, told) = cluster.migrate("", &["--check"]);
    assert!(code == 0 && told.contains("of a later Harbormaster"), "{code} {told}");

    // Where this version would do something wrong, it does not begin.
    cluster.database.sql("UPDATE store SET works_from = version");
    let (code, told) = cluster.migrate("", &["--check"]);
    assert!(code == 69 && told.contains("use a newer program"), "{code} {told}");
}
