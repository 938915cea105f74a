//! `harbormaster serve` behind a balancer, which the test is. Spec: DPS-LIMIT-14, DPS-SERVE-20.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by failing")]

mod fleet;

use std::net::SocketAddrV4;

use dps_client::device::FinalAnswer;
use dps_proto::key::SymmetricKey;
use dps_proto::sas::sign_device_token;
use fleet::{Fleet, Serving, harbormaster};
use jiff::{SignedDuration, Timestamp};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What precedes the client's address.
const HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";

/// A header as HAProxy sends it with `send-proxy-v2`.
fn header(client: &str) -> Vec<u8> {
    let client: SocketAddrV4 = client.parse().unwrap();
    let ports = [client.port().to_be_bytes(), 8_883_u16.to_be_bytes()].concat();
    [HEADER, &client.ip().octets(), &[10, 0, 0, 5], &ports].concat()
}

/// Passes connections on to a port of the service, each as that of one client.
struct Balancer {
    port: u16,
    passing: JoinHandle<()>,
}

impl Balancer {
    async fn of(client: &'static str, service: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let passing = tokio::spawn(async move {
            loop {
                let (mut device, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut service = TcpStream::connect(("127.0.0.1", service)).await.unwrap();
                    service.write_all(&header(client)).await.unwrap();
                    // However it ends, both ends see it.
                    let _ = copy_bidirectional(&mut device, &mut service).await;
                });
            }
        });
        Self { port, passing }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.passing.abort();
    }
}

fn serve(fleet: &Fleet, limits: &str) -> Serving {
    let configuration = fleet.configuration();
    let configuration = configuration
        .replacen("[listen]\n", "[listen]\nproxy_protocol_from = [\"127.0.0.1\"]\n", 1)
        .replacen("connections = 500\n", &format!("connections = 500\n{limits}"), 1)
        // Where the client is decides where it goes.
        .replacen(
            "[[instance.hub]]\n",
            "default_allocation_policy = \"geoLatency\"\n[[instance.hub]]\nnetworks = [\"192.0.2.0/24\"]\n",
            1,
        )
        .replacen(
            "[[instance.shared_access_policy]]",
            "[[instance.hub]]\nname = \"far.test\"\nkind = \"local\"\nnetworks = [\"198.51.100.0/24\"]\n[[instance.shared_access_policy]]",
            1,
        );
    fleet.serve(&configuration)
}

fn hub(answer: &FinalAnswer) -> String {
    let outcome = answer.outcome().unwrap();
    outcome.registration_state.unwrap_or_else(|| panic!("{answer:?}")).assigned_hub.unwrap()
}

/// DPS-LIMIT-14, DPS-LIMIT-1, DPS-REG-24
#[tokio::test]
async fn clients_behind_one_balancer_are_limited_logged_and_allocated_each_by_its_own_address() {
    let fleet = Fleet::new();
    let serving = serve(&fleet, "connections_per_address = 1\n");
    // One client has a connection open, which is all that it may have.
    let (near, far) = ("192.0.2.7:50000", "198.51.100.7:50000");
    let mut open = TcpStream::connect(("127.0.0.1", serving.mqtt_port())).await.unwrap();
    open.write_all(&header(far)).await.unwrap();
    open.write_all(b"\x16\x03\x01").await.unwrap();

    let near = Balancer::of(near, serving.mqtt_port()).await;
    let answer = fleet.register_at(near.port, 0, "press-7").await.unwrap();
    assert_eq!(hub(&answer), "hub-0.test");
    let line = serving.wait_for_line("device registered");
    assert!(line.contains("peer=192.0.2.7:50000"), "{line}");

    let far = Balancer::of(far, serving.mqtt_port()).await;
    fleet.register_at(far.port, 0, "press-8").await.unwrap_err();
    let line = serving.wait_for_line("connection turned away");
    assert!(
        line.contains("peer=198.51.100.7:50000") && line.contains("limits.connections_per_address"),
        "{line}"
    );
    drop(open);
    serving.wait_for_line("TLS handshake failed");
    // The place is free again as soon as the line is written, or a moment later.
    let answer = loop {
        match fleet.register_at(far.port, 0, "press-8").await {
            Ok(answer) => break answer,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(hub(&answer), "far.test");
    // Without a header, and by a limit of another.
    fleet.register(&serving, 0, "press-7").await.unwrap_err();
    let line = serving.wait_for_line("PROXY protocol failed");
    assert!(line.contains("transport=mqtt") && line.contains("TLS begins in its place"), "{line}");
    assert!(serving.stop().success());
}

/// DPS-LIMIT-7, DPS-LIMIT-14
#[tokio::test]
async fn who_fails_behind_a_balancer_is_throttled_and_explained_and_nobody_else() {
    let fleet = Fleet::new();
    let serving = serve(&fleet, "failed_attestations_per_minute = 1\n");
    let balancer = async |client| Balancer::of(client, serving.https_port()).await;
    let (guesses, other) = (balancer("203.0.113.9:1000").await, balancer("203.0.113.10:1000").await);
    let scope = &fleet.instances[0].id_scope;
    let stranger = SymmetricKey::from_bytes(vec![7; 32]).unwrap();
    let id = "press-7".parse().unwrap();
    let token = sign_device_token(scope, &id, &stranger, Timestamp::now() + SignedDuration::from_hours(1));
    let request = format!(
        "PUT /{scope}/registrations/press-7/register?api-version=2021-06-01 HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\n\
         Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    let mut statuses = Vec::new();
    while !statuses.contains(&429) && statuses.len() < 20 {
        statuses.push(fleet.ask(guesses.port, &request).await);
    }
    assert!(statuses[0] == 401 && statuses.contains(&429), "{statuses:?}");
    assert_eq!(fleet.ask(other.port, &request).await, 401);

    let explained = harbormaster()
        .args(["explain", "--registration-id", "press-7", "--output", "json", "--admin"])
        .arg(serving.admin().to_string())
        .arg("--admin-token-file")
        .arg(serving.ready["admin"]["tokenFile"].as_str().unwrap())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&explained.stdout);
    assert!(told.contains("203.0.113.10:1000") && told.contains("203.0.113.9:1000"), "{explained:?}");
    assert!(serving.stop().success());
}

/// DPS-LIMIT-16, DPS-LIMIT-18: what is served on port 443 too.
#[tokio::test]
async fn the_service_api_is_behind_the_balancer_and_its_checks_are_not_warned_of() {
    let fleet = Fleet::new();
    let serving = serve(&fleet, "");
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for bytes in [&b""[..], local] {
        for port in [serving.mqtt_port(), serving.https_port()] {
            let mut check = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            check.write_all(bytes).await.unwrap();
            check.shutdown().await.unwrap();
            assert_eq!(check.read(&mut [0; 64]).await.unwrap_or(0), 0);
        }
    }
    let balancer = Balancer::of("203.0.113.9:1000", serving.https_port()).await;
    let stranger = SymmetricKey::from_bytes(vec![7; 32]).unwrap();
    assert_eq!(fleet.get_group_at(balancer.port, "dps-0.test", &stranger).await, 401);
    let owner = fleet::OWNER_KEY.parse().unwrap();
    assert_eq!(fleet.get_group_at(balancer.port, "dps-0.test", &owner).await, 200);
    let log = serving.stop_for_log();
    let warnings: Vec<_> =
        log.iter().filter(|line| line.contains("WARN") && line.contains("peer=")).collect();
    let [refused] = &warnings[..] else { panic!("{log:#?}") };
    assert!(
        refused.contains("service request refused") && refused.contains("peer=203.0.113.9:1000"),
        "{refused}"
    );
}
