//! What three nodes are run with: the files of dist/nodes, with other addresses.

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};

use crate::database::Database;
use crate::fleet::OWNER_KEY;

/// What opens the admin listeners.
pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// A port that an ordinary user may have.
pub(crate) const HTTPS_PORT: u16 = 8_443;

/// What is not the same for all tests.
pub(crate) struct Deployment {
    pub(crate) database: Database,
    /// How nodes reach it.
    pub(crate) url: String,
    /// Credentials beside those that every node has: name and content.
    pub(crate) credentials: Vec<(&'static str, String)>,
    /// What stands in a node's configuration, and what is to stand there.
    pub(crate) changes: Vec<(&'static str, String)>,
}

impl Deployment {
    /// Nodes that reach the database by its socket.
    pub(crate) fn of(database: Database) -> Self {
        let url = format!("host={} user=postgres dbname=postgres", database.directory.display());
        Self { database, url, credentials: Vec::new(), changes: Vec::new() }
    }

    /// Writes the configurations of the balancer and of the nodes, and all credentials.
    pub(crate) fn write(&self, directory: &Path, network: Ipv4Addr, server_key: String) {
        let credentials = [
            ("admin-token", TOKEN.to_owned()),
            ("database-url", self.url.clone()),
            ("owner-key", OWNER_KEY.to_owned()),
            ("sealing", "c2VhbGluZyBrZXkgb2YgdGhlIHRlc3RzIG9mIG5vZGU=".to_owned()),
            ("server-key", server_key),
        ];
        for (name, content) in credentials.iter().chain(&self.credentials) {
            fs::write(directory.join(name), content).unwrap();
            fs::set_permissions(directory.join(name), Permissions::from_mode(0o600)).unwrap();
        }
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
        let mut node = fs::read_to_string(dist.join("harbormaster.toml")).unwrap();
        // What the certificate of the tests is for.
        let changes = [
            ("\"dps.example\"", "\"localhost\"".to_owned()),
            ("connections = 16\n", "connections = 4\n".to_owned()),
        ];
        for (there, wanted) in changes.iter().chain(&self.changes) {
            assert!(node.contains(there), "{there:?} is not in {node}");
            node = node.replace(there, wanted);
        }
        for number in 0..3 {
            let text = own(&node.replace("10.0.0.11:", &format!("10.0.0.1{}:", number + 1)));
            fs::write(directory.join(format!("node-{number}.toml")), text).unwrap();
        }
    }
}

/// A part of the loopback that no other test uses at the same time: its host numbers are those of the files in dist/nodes.
pub(crate) fn network_of_its_own() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 + high % 128, low, 4 * NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn address(network: Ipv4Addr, host: u8, port: u16) -> SocketAddr {
    let [a, b, c, d] = network.octets();
    SocketAddr::from(([a, b, c, d + host], port))
}
