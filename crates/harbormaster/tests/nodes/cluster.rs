//! Three nodes, their database, and HAProxy before them, by the files of dist/nodes.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use dps_client::admin::AdminEndpoint;
use dps_proto::key::SymmetricKey;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cutter::Cutter;
use crate::database::Database;
use crate::deployment::{Deployment, HTTPS_PORT, TOKEN, address, network_of_its_own};
use crate::device::{Identity, Link};
use crate::fleet::{Fleet, Serving, harbormaster};

pub(crate) const HUB: &str = "hub.example";
pub(crate) const ID_SCOPE: &str = "0ne00C0FFEE";

/// A running deployment.
pub(crate) struct Cluster {
    pub(crate) database: Database,
    pub(crate) nodes: [Option<Serving>; 3],
    pub(crate) tls: Arc<rustls::ClientConfig>,
    balancer: Child,
    network: Ipv4Addr,
    directory: TempDir,
    group_key: SymmetricKey,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::of(Deployment::of(Database::start())).await
    }

    /// With nodes that reach the database through a cutter.
    pub(crate) async fn behind_a_cutter() -> (Self, Arc<Cutter>) {
        let database = Database::start();
        let cutter = Cutter::start(database.socket()).await;
        let port = cutter.address.port();
        let url = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
        (Self::of(Deployment { url, ..Deployment::of(database) }).await, cutter)
    }

    pub(crate) async fn of(deployment: Deployment) -> Self {
        // Made for its certificates.
        let fleet = Fleet::new();
        let directory = tempfile::tempdir().unwrap();
        fs::copy(fleet.path("server.pem"), directory.path().join("server.pem")).unwrap();
        fs::copy(fleet.path("data/ca.pem"), directory.path().join("database-ca.pem")).unwrap();
        let tls = dps_client::tls::trusting(&fleet.path("data/ca.pem")).unwrap();
        let server_key = fs::read_to_string(fleet.path("server.key")).unwrap();
        let network = network_of_its_own();
        deployment.write(directory.path(), network, server_key);
        let haproxy = |mode: &str| {
            let mut command = Command::new("haproxy");
            command.args([mode, "-f"]).arg(directory.path().join("haproxy.cfg")).stdin(Stdio::null());
            command
        };
        let judged = haproxy("-c").output().expect("these tests need Debian's package haproxy");
        assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stderr));
        let log = fs::File::create(directory.path().join("haproxy.log")).unwrap();
        let balancer = haproxy("-db").stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let group_key = SymmetricKey::from_bytes(vec![0x6B; 32]).unwrap();
        let database = deployment.database;
        let mut cluster =
            Self { database, nodes: [None, None, None], tls, balancer, network, directory, group_key };
        for node in 0..3 {
            cluster.start_node(node);
        }
        cluster.put_group("line", json!({}), 0).await;
        cluster.wait_until_served().await;
        cluster
    }

    /// Starts a node that does not run; returns when it accepts.
    pub(crate) fn start_node(&mut self, node: usize) {
        let mut command = harbormaster();
        command.args(["serve", "--output", "json", "--config"]);
        command.arg(self.directory.path().join(format!("node-{node}.toml")));
        command.env("CREDENTIALS_DIRECTORY", self.directory.path());
        self.nodes[node] = Some(Serving::start(command));
    }

    /// SIGKILL: nothing can be finished.
    pub(crate) fn kill_node(&mut self, node: usize) {
        let node = self.nodes[node].take().unwrap();
        node.signal("-KILL");
        drop(node);
    }

    /// Sends a node a signal.
    pub(crate) fn signal(&self, node: usize, name: &str) {
        self.nodes[node].as_ref().unwrap().signal(name);
    }

    /// Where devices connect that do not care for nodes.
    pub(crate) fn balancer(&self) -> SocketAddr {
        address(self.network, 0, 8_883)
    }

    /// A node's own port for devices.
    pub(crate) fn mqtt_of(&self, node: u8) -> SocketAddr {
        address(self.network, node + 1, 8_883)
    }

    /// A node's own port for devices over HTTPS and for the service API.
    pub(crate) fn https_of(&self, node: u8) -> SocketAddr {
        address(self.network, node + 1, HTTPS_PORT)
    }

    /// The admin listener of a node.
    pub(crate) fn admin_of(&self, node: u8) -> AdminEndpoint {
        AdminEndpoint { address: address(self.network, node + 1, 9_883), token: TOKEN.to_owned() }
    }

    /// A device of the group.
    pub(crate) fn device(&self, id: &str) -> Identity {
        let key = self.group_key.derive(id);
        Identity { id_scope: ID_SCOPE.parse().unwrap(), id: id.parse().unwrap(), key }
    }

    /// The first and second key of a device at its hub, as the admin listener shows them.
    pub(crate) fn fingerprint(&self, id: &str) -> String {
        let hash = digest::digest(&digest::SHA256, self.group_key.derive(id).expose());
        hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Creates a group whose devices have the keys of [`Cluster::device`], or replaces it, at one node; returns when that is answered.
    pub(crate) async fn put_group(&self, id: &str, members: Value, node: u8) {
        let key = self.group_key.expose_base64();
        let keys = json!({"primaryKey": key.as_str(), "secondaryKey": key.as_str()});
        let mut body = json!({
            "enrollmentGroupId": id,
            "attestation": {"type": "symmetricKey", "symmetricKey": keys},
        });
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let path = format!("/enrollmentGroups/{id}");
        let answer = self.ask_service_api(node, "PUT", &path, &[("If-Match", "*")], Some(&body)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// `migrate` by the configuration of a node with more keys for `[store]`: exit code, and what it printed.
    pub(crate) fn migrate(&self, store_keys: &str, arguments: &[&str]) -> (i32, String) {
        let text = fs::read_to_string(self.directory.path().join("node-0.toml")).unwrap();
        let file = self.directory.path().join("migrate.toml");
        fs::write(&file, text.replace("[store]\n", &format!("[store]\n{store_keys}"))).unwrap();
        let mut command = harbormaster();
        command.arg("migrate").arg("--config").arg(file).args(arguments);
        let output = command.env("CREDENTIALS_DIRECTORY", self.directory.path()).output().unwrap();
        let told = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(told).unwrap())
    }

    /// Seconds of CPU that were used until now.
    pub(crate) fn cpu_s(&self) -> Cpu {
        let nodes = self.nodes.iter().flatten().map(|node| cpu_s_of(node.pid())).sum();
        let database = self.database.processes().into_iter().map(cpu_s_of).sum();
        Cpu { nodes, database }
    }

    /// Waits until the balancer leads to a node.
    async fn wait_until_served(&self) {
        let began = Instant::now();
        let device = self.device("first");
        while let Err(why) = Link::connect(self.balancer(), &self.tls, &device).await {
            let log = || fs::read_to_string(self.directory.path().join("haproxy.log")).unwrap();
            assert!(began.elapsed() < Duration::from_secs(20), "HAProxy leads to no node: {why}; {}", log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.nodes.iter().flatten() {
            // One that is frozen cannot be waited for otherwise.
            node.signal("-KILL");
        }
        let _ = self.balancer.kill();
        let _ = self.balancer.wait();
    }
}

/// Seconds of CPU.
pub(crate) struct Cpu {
    pub(crate) nodes: f64,
    pub(crate) database: f64,
}

/// Of a process and of those of its children that have ended.
fn cpu_s_of(process: u32) -> f64 {
    /// Linux counts in hundredths, whatever its own clock does.
    const TICKS_PER_S: f64 = 100.0;
    let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else { return 0.0 };
    // What stands before the last parenthesis is the name, which may hold anything.
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    let ticks = rest.split(' ').skip(11).take(4).map(|field| field.parse::<f64>().unwrap());
    ticks.sum::<f64>() / TICKS_PER_S
}
