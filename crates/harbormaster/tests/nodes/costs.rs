//! What docs/scale.md goes by. The bounds are those of a change that should be thought about, and not of noise.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::cluster::{Cluster, Cpu};
use crate::load::{self, AT_ONCE, Load};

/// More than any line comes to.
const MANY: [usize; AT_ONCE] = [2_000; AT_ONCE];

/// Long enough for a few thousand devices on a machine that has nothing else to do.
const A_WHILE: Duration = Duration::from_secs(9);

/// What the database and the nodes have used so far.
struct Used {
    at: Instant,
    wal_bytes: f64,
    cpu: Cpu,
}

impl Used {
    fn now(cluster: &Cluster) -> Self {
        let wal = cluster.database.sql("SELECT pg_current_wal_insert_lsn() - '0/0'");
        Self { at: Instant::now(), wal_bytes: wal.parse().unwrap(), cpu: cluster.cpu_s() }
    }

    /// Prints what each of so many registrations has used since; gives the bytes of WAL.
    fn print_since(&self, cluster: &Cluster, what: &str, registrations: usize) -> f64 {
        let now = Self::now(cluster);
        let each = |before: f64, after: f64| (after - before) / registrations as f64;
        let wal_bytes = each(self.wal_bytes, now.wal_bytes);
        say!(
            "{what}: each of {registrations} registrations in {:?}: {wal_bytes:.0} bytes of WAL, {:.2} ms CPU in nodes, {:.2} ms in the database",
            now.at - self.at,
            1_000.0 * each(self.cpu.nodes, now.cpu.nodes),
            1_000.0 * each(self.cpu.database, now.cpu.database),
        );
        wal_bytes
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_registration_costs() {
    let cluster = Cluster::start().await;
    // The pages are in the log whole, and what is planned once is planned.
    let warm = Load::begin(&cluster);
    sleep(A_WHILE / 3).await;
    warm.end("beforehand", &cluster).await;

    let before = Used::now(&cluster);
    let doors = [cluster.balancer()];
    let counts = load::register(&cluster, &doors, "more", MANY, Instant::now() + A_WHILE).await;
    let registrations: usize = counts.iter().sum();
    let wal_bytes = before.print_since(&cluster, "new devices", registrations);
    assert!((500.0..8_000.0).contains(&wal_bytes), "{wal_bytes}");

    let before = Used::now(&cluster);
    let far = Instant::now() + Duration::from_secs(3_600);
    assert_eq!(load::register(&cluster, &doors, "more", counts, far).await, counts);
    let wal_bytes = before.print_since(&cluster, "the same devices again", registrations);
    assert!((300.0..8_000.0).contains(&wal_bytes), "{wal_bytes}");
}

/// Informational: nodes, database and devices share the cores of this machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_many_register_at_one_two_and_three_nodes() {
    let cluster = Cluster::start().await;
    let nodes: Vec<SocketAddr> = (0..3).map(|node| cluster.mqtt_of(node)).collect();
    for count in 1..=nodes.len() {
        let before = Used::now(&cluster);
        let until = Instant::now() + A_WHILE / 3;
        let counts = load::register(&cluster, &nodes[..count], &format!("at-{count}"), MANY, until).await;
        let registrations: usize = counts.iter().sum();
        before.print_since(&cluster, &format!("new devices at {count} of the nodes"), registrations);
        let per_second = registrations as f64 / before.at.elapsed().as_secs_f64();
        say!("{count} of the nodes: {per_second:.0} registrations/s");
        assert!(counts.iter().all(|count| *count > 0), "every node serves devices");
    }
}
