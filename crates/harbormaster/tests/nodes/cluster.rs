//! Three nodes, their database, and HAProxy before them, by the files of dist/nodes.

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use dps_client::admin::AdminEndpoint;
use dps_client::service::{Deadlines, EntryName, IfMatch, ServiceClient};
use dps_proto::key::SymmetricKey;
use dps_proto::sas::sign_device_token;
use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::ServerName;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::cutter::Cutter;
use crate::database::Database;
use crate::device::{Identity, Link};
use crate::fleet::{Fleet, OWNER_KEY, Serving, harbormaster};

pub(crate) const HUB: &str = "hub.example";
pub(crate) const ID_SCOPE: &str = "0ne00C0FFEE";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const HTTPS_PORT: u16 = 8_443;

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
        Self::reached(None).await
    }

    /// With nodes that reach the database through a cutter.
    pub(crate) async fn behind_a_cutter() -> (Self, Arc<Cutter>) {
        let mut cutter = None;
        let cluster = Self::reached(Some(&mut cutter)).await;
        (cluster, cutter.unwrap())
    }

    async fn reached(cut: Option<&mut Option<Arc<Cutter>>>) -> Self {
        // Made for its certificates.
        let fleet = Fleet::new();
        let database = Database::start();
        let directory = tempfile::tempdir().unwrap();
        let url = match cut {
            None => format!("host={} user=postgres dbname=postgres", database.directory.display()),
            Some(cut) => {
                let cutter = Cutter::start(database.socket()).await;
                let port = cutter.address.port();
                *cut = Some(cutter);
                format!("host=127.0.0.1 port={port} user=postgres dbname=postgres")
            }
        };
        let secrets = [
            ("admin-token", TOKEN.to_owned()),
            ("database-url", url),
            ("owner-key", OWNER_KEY.to_owned()),
            ("sealing", "c2VhbGluZyBrZXkgb2YgdGhlIHRlc3RzIG9mIG5vZGU=".to_owned()),
            ("server-key", fs::read_to_string(fleet.path("server.key")).unwrap()),
        ];
        for (name, content) in secrets {
            fs::write(directory.path().join(name), content).unwrap();
            fs::set_permissions(directory.path().join(name), Permissions::from_mode(0o600)).unwrap();
        }
        fs::copy(fleet.path("server.pem"), directory.path().join("server.pem")).unwrap();
        fs::copy(fleet.path("data/ca.pem"), directory.path().join("database-ca.pem")).unwrap();
        let tls = dps_client::tls::trusting(&fleet.path("data/ca.pem")).unwrap();
        let network = network_of_its_own();
        write_configurations(directory.path(), network);
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
        let mut cluster =
            Self { database, nodes: [None, None, None], tls, balancer, network, directory, group_key };
        for node in 0..3 {
            cluster.start_node(node);
        }
        cluster.put_group("line", "enabled", 0).await;
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

    /// Creates the group, or changes its state, at one node; returns when that is answered.
    pub(crate) async fn put_group(&self, id: &str, provisioning_status: &str, node: u8) {
        let key = self.group_key.expose_base64();
        let keys = json!({"primaryKey": key.as_str(), "secondaryKey": key.as_str()});
        let body = json!({
            "enrollmentGroupId": id,
            "attestation": {"type": "symmetricKey", "symmetricKey": keys},
            "provisioningStatus": provisioning_status,
        });
        let connection_string = format!(
            "HostName=localhost;SharedAccessKeyName=provisioningserviceowner;SharedAccessKey={OWNER_KEY}"
        );
        let mut client = ServiceClient::new(
            connection_string.parse().unwrap(),
            Arc::clone(&self.tls),
            Deadlines::default(),
        )
        .connecting_to(address(self.network, node + 1, HTTPS_PORT));
        let group = EntryName::Group(id.parse().unwrap());
        let exists = client.put(&group, body.to_string(), None).await;
        if exists.is_err() {
            client.put(&group, body.to_string(), Some(&IfMatch::Any)).await.unwrap();
        }
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

    /// What `/readyz` of a node answers: status and body.
    pub(crate) async fn ready(&self, node: u8) -> (u16, String) {
        let mut stream = TcpStream::connect(address(self.network, node + 1, 9_883)).await.unwrap();
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
    }

    /// What the HTTPS device API of a node answers a register.
    pub(crate) async fn register_by_https(&self, node: u8, who: &Identity) -> String {
        let expiry = Timestamp::now() + SignedDuration::from_hours(1);
        let token = sign_device_token(&who.id_scope, &who.id, &who.key, expiry);
        let (id, body) = (who.id.as_str(), format!("{{\"registrationId\":\"{}\"}}", who.id.as_str()));
        let request = format!(
            "PUT /{ID_SCOPE}/registrations/{id}/register?api-version=2021-06-01 HTTP/1.1\r\nHost: localhost\r\n\
             Authorization: {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        );
        let tcp = TcpStream::connect(address(self.network, node + 1, HTTPS_PORT)).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer).await;
        // Some close without TLS's own goodbye.
        assert!(read.is_ok() || !answer.is_empty(), "{read:?}");
        answer
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

/// A part of the loopback that no other test uses at the same time: its host numbers are those of the files in dist/nodes.
fn network_of_its_own() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 + high % 128, low, 4 * NEXT.fetch_add(1, Ordering::Relaxed))
}

fn address(network: Ipv4Addr, host: u8, port: u16) -> SocketAddr {
    let [a, b, c, d] = network.octets();
    SocketAddr::from(([a, b, c, d + host], port))
}

/// The files of dist/nodes with the addresses of this test, and with a port that an ordinary user may have.
fn write_configurations(directory: &Path, network: Ipv4Addr) {
    let dist = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../dist/nodes");
    let own = |text: &str| {
        let mut text = text.replace(":443", &format!(":{HTTPS_PORT}"));
        for host in 0..4 {
            let there = address(network, host, 0).ip().to_string();
            for end in [":", "\"", "\n"] {
                text = text.replace(&format!("10.0.0.1{host}{end}"), &format!("{there}{end}"));
            }
        }
        text.replace("/etc/harbormaster", &directory.display().to_string())
    };
    let balancer = own(&fs::read_to_string(dist.join("haproxy.cfg")).unwrap());
    assert!(!balancer.contains("bind 10."), "{balancer}");
    // Each connection takes two of the files that an ordinary user may have open.
    let balancer = balancer.replace("maxconn 60000", "maxconn 400");
    fs::write(directory.join("haproxy.cfg"), balancer).unwrap();
    let node = fs::read_to_string(dist.join("harbormaster.toml")).unwrap();
    // What the certificate of the tests is for.
    let node = node.replace("\"dps.example\"", "\"localhost\"");
    let node = node.replace("connections = 16\n", "connections = 4\n");
    for number in 0..3 {
        let text = own(&node.replace("10.0.0.11:", &format!("10.0.0.1{}:", number + 1)));
        fs::write(directory.join(format!("node-{number}.toml")), text).unwrap();
    }
}
