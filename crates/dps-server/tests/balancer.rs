//! The ports of devices behind a balancer, over real sockets. Spec: DPS-LIMIT-14 to DPS-LIMIT-18.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this program is a test in whole")]

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dps_core::instances::{Instances, Origin};
use dps_core::ports::{PoolBusy, SearchPool, SearchTurn, Store};
use dps_core::register::Registrar;
use dps_proto::proxy_header::SIGNATURE;
use dps_server::explain::{Explanation, Step, Wanted};
use dps_server::front_end::FrontEnd;
use dps_server::limits::Limits;
use dps_server::listen;
use dps_server::moments::SystemMoments;
use dps_server::proxy_protocol::Balancers;
use dps_server::service_api::ServiceApi;
use dps_server::tls::{CertificateFiles, ServerCertificates, provider, server_config};
use dps_store::MemoryStore;
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longer than anything takes on a loaded machine.
const WITHIN: Duration = Duration::from_secs(60);

/// Where the test connects from.
const LOOPBACK: &str = "127.0.0.0/8";

struct Pool;

#[async_trait]
impl SearchPool for Pool {
    async fn run(&self, _: SearchTurn, _: u32, job: Box<dyn FnOnce() + Send>) -> Result<(), PoolBusy> {
        job();
        Ok(())
    }
}

/// A service without instances that listens on both ports of devices.
struct Service {
    front_end: Arc<FrontEnd>,
    mqtt: SocketAddr,
    https: SocketAddr,
    client: Arc<ClientConfig>,
    _stop: watch::Sender<bool>,
}

impl Service {
    async fn behind(balancers: &str, limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (chain, key_file) = (folder.path().join("server.pem"), folder.path().join("server.key"));
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        fs::write(&chain, server.pem()).unwrap();
        fs::write(&key_file, key.serialize_pem()).unwrap();
        let files = CertificateFiles { chain: &chain, key: &key_file };
        let tls = server_config(ServerCertificates::load(&[files]).unwrap()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(server.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();

        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let instances = Instances::of(Origin::Configuration, []);
        let registrar = Arc::new(Registrar::new(Arc::clone(&store), Arc::new(Pool), instances));
        let front_end = FrontEnd::new(registrar, Arc::new(SystemMoments), limits);
        let balancers = Balancers::new([balancers.parse().unwrap()]);
        let front_end = Arc::new(FrontEnd { balancers, ..front_end });
        let api = ServiceApi::new(store, Arc::clone(&front_end));
        let (stop, stopping) = watch::channel(false);
        let (mqtt, https) = (listener().await, listener().await);
        let addresses = (mqtt.local_addr().unwrap(), https.local_addr().unwrap());
        tokio::spawn(listen::mqtt(mqtt, Arc::clone(&tls), Arc::clone(&front_end), stopping.clone()));
        tokio::spawn(listen::https(https, tls, Arc::clone(&front_end), api, stopping));
        Self { front_end, mqtt: addresses.0, https: addresses.1, client: Arc::new(client), _stop: stop }
    }

    async fn new() -> Self {
        Self::behind(LOOPBACK, Limits::default()).await
    }

    /// A connection of the balancer that begins with these bytes.
    async fn begin(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.mqtt).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    async fn shake(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::clone(&self.client)).connect(name, stream).await
    }

    fn explained(&self) -> Vec<Arc<Explanation>> {
        self.front_end.explanations.find(&Wanted::default(), usize::MAX)
    }

    /// The one refusal there is, once there is one.
    async fn refusal(&self) -> Arc<Explanation> {
        let waits = async {
            while self.explained().is_empty() {
                yield_now().await;
            }
        };
        timeout(WITHIN, waits).await.unwrap();
        let [refusal] = &self.explained()[..] else { panic!("{:?}", self.explained()) };
        Arc::clone(refusal)
    }

    fn counts(&self, line: &str) -> bool {
        let line = format!("harbormaster_{line}");
        self.front_end.metrics.render().lines().any(|found| found == line)
    }

    async fn wait_for(&self, line: &str) {
        let waits = async {
            while !self.counts(line) {
                yield_now().await;
            }
        };
        timeout(WITHIN, waits)
            .await
            .unwrap_or_else(|_| panic!("{line} in {}", self.front_end.metrics.render()));
    }

    /// Waits until as many connections are open.
    async fn wait_until_open(&self, number: usize) {
        let waits = async {
            while self.front_end.admission.drained(Duration::ZERO).await != number {
                yield_now().await;
            }
        };
        timeout(WITHIN, waits).await.unwrap();
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[0x20 | command, family], &length, rest].concat()
}

/// What a balancer sends for the client at this address.
fn names(client: &str) -> Vec<u8> {
    let client: SocketAddr = client.parse().unwrap();
    let ports = [client.port().to_be_bytes(), 8_883_u16.to_be_bytes()].concat();
    match client {
        SocketAddr::V4(client) => {
            header(1, 0x11, &[&client.ip().octets()[..], &[10, 0, 0, 5], &ports].concat())
        }
        SocketAddr::V6(client) => header(1, 0x21, &[&client.ip().octets()[..], &[0xFD; 16], &ports].concat()),
    }
}

fn local() -> Vec<u8> {
    header(0, 0, &[])
}

/// What is read until the service closes the connection, which it may do by a reset.
async fn closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    let _ = timeout(WITHIN, stream.read_to_end(&mut said)).await.unwrap();
    said
}

/// DPS-LIMIT-14
#[tokio::test]
async fn on_both_ports_the_client_that_the_header_names_is_the_peer() {
    for client in ["192.0.2.7:50000", "[2001:db8::7]:50001"] {
        let service = Service::new().await;
        for (port, transport) in [(service.mqtt, "mqtt"), (service.https, "https")] {
            let mut stream = TcpStream::connect(port).await.unwrap();
            stream.write_all(&names(client)).await.unwrap();
            let mut tls = service.shake(stream).await.unwrap();
            tls.write_all(b"no MQTT and no HTTP\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            let _ = timeout(WITHIN, tls.read_to_end(&mut answer)).await.unwrap();
            service
                .wait_for(&format!(
                    "proxy_headers_total{{outcome=\"Client\"}} {}",
                    if transport == "mqtt" { 1 } else { 2 }
                ))
                .await;
            let latest = Arc::clone(&service.explained()[0]);
            assert_eq!(latest.peer, Some(client.parse().unwrap()), "{latest:?}");
            assert_eq!((latest.step, latest.transport), (Step::Connection, Some(transport)), "{latest:?}");
        }
    }
}

/// DPS-LIMIT-15: in one segment with the hello of TLS, and in pieces.
#[tokio::test]
async fn nothing_is_lost_of_what_follows_a_header_however_it_comes() {
    let service = Service::new().await;
    let name = ServerName::try_from("localhost").unwrap();
    let mut hello = Vec::new();
    let mut client = ClientConnection::new(Arc::clone(&service.client), name).unwrap();
    client.write_tls(&mut hello).unwrap();
    let bytes = [names("192.0.2.7:50000"), hello].concat();
    for piece in [1, 20, bytes.len()] {
        let mut stream = TcpStream::connect(service.mqtt).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for part in bytes.chunks(piece) {
            stream.write_all(part).await.unwrap();
            // For the service to read it by itself.
            yield_now().await;
        }
        let mut record = [0; 6];
        timeout(WITHIN, stream.read_exact(&mut record)).await.unwrap().unwrap();
        assert_eq!(
            (record[0], record[5]),
            (22, 2),
            "the handshake goes on with a server's hello: {record:?}"
        );
    }
}

/// DPS-LIMIT-1, DPS-LIMIT-14, DPS-LIMIT-17
#[tokio::test]
async fn clients_behind_one_balancer_are_limited_each_by_its_own_address() {
    let service =
        Service::behind(LOOPBACK, Limits { connections_per_address: Some(1), ..Limits::default() }).await;
    let connect = async |client| service.shake(service.begin(&names(client)).await).await;
    let first = connect("192.0.2.7:50000").await.unwrap();
    let _second = connect("192.0.2.8:50000").await.unwrap();
    connect("192.0.2.7:50001").await.unwrap_err();
    let refusal = service.refusal().await;
    assert_eq!(refusal.peer, Some("192.0.2.7:50001".parse().unwrap()));
    assert!(refusal.reason.contains("limits.connections_per_address"), "{refusal:?}");
    assert!(service.counts(r#"limits_hit_total{limit="AddressConnections"} 1"#));
    drop(first);
    service.wait_until_open(1).await;
    connect("192.0.2.7:50002").await.unwrap();
    assert_eq!(service.explained().len(), 1);
}

/// DPS-LIMIT-15
#[tokio::test]
async fn what_is_no_header_that_can_be_used_is_closed_counted_and_explained() {
    let hello = [22, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3, 0, 0, 0, 0, 0, 0];
    for (bytes, reason) in [
        (
            &b"PROXY TCP4 192.0.2.7 10.0.0.5 50000 8883\r\n"[..],
            "is of version 1, a line of text, and only version 2 is read",
        ),
        (b"PROXY UNKNOWN\r\n", "is of version 1, a line of text, and only version 2 is read"),
        (&hello, "is missing: TLS begins in its place"),
        (b"GET / HTTP/1.1\r\n\r\n", "is missing: the first bytes are not its signature"),
        (b"\r\n\r\n\0\r\nQUIT\r\x21\x11\0\x0c", "is missing: the first bytes are not its signature"),
        (&header(1, 0x11, &[7; 521])[..16], "has 521 bytes after its length, more than 520"),
        (&header(1, 0x21, &[7; 35]), "has 35 bytes after its length, and addresses of its family take 36"),
        (
            &header(1, 0x31, &[7; 216]),
            "names a client of address family 3 and transport 1, and only TCP (1) over IPv4 (1) and IPv6 (2) is served",
        ),
    ] {
        let service = Service::new().await;
        let mut stream = service.begin(bytes).await;
        let own = stream.local_addr().unwrap();
        assert_eq!(closed(&mut stream).await, b"");
        let refusal = service.refusal().await;
        assert_eq!(refusal.reason, format!("the header of the PROXY protocol {reason}"));
        assert_eq!((refusal.step, refusal.peer), (Step::ProxyHeader, Some(own)));
        assert!(service.counts(r#"proxy_headers_total{outcome="Refused"} 1"#), "{reason}");
        assert!(service.counts(r#"tls_handshakes_total{outcome="Failed"} 0"#), "{reason}");
        service.wait_until_open(0).await;
    }
}

/// DPS-LIMIT-15
#[tokio::test]
async fn a_header_that_is_cut_off_is_counted_and_explained() {
    let service = Service::new().await;
    drop(service.begin(&names("192.0.2.7:50000")[..20]).await);
    let refusal = service.refusal().await;
    assert!(refusal.reason.contains("in the middle of the header"), "{refusal:?}");
    assert!(service.counts(r#"proxy_headers_total{outcome="BrokenOff"} 1"#));
}

/// DPS-LIMIT-17: time is virtual.
#[tokio::test(start_paused = true)]
async fn a_header_and_the_handshake_after_it_have_one_deadline() {
    let within = Limits::default().handshake_within;
    let header = names("192.0.2.7:50000");
    for (bytes, later, outcome, reason) in [
        (&b""[..], &b""[..], "TimedOut", "no whole header of the PROXY protocol came within 15 s"),
        (&header[..9], &header[9..20], "TimedOut", "no whole header of the PROXY protocol came within 15 s"),
        (b"PRO", b"XY", "TimedOut", "no whole header of the PROXY protocol came within 15 s"),
        (&header[..9], &header[9..], "Client", "the TLS handshake was not finished within 15 s"),
        (&local(), b"\x16\x03", "Local", "the TLS handshake was not finished within 15 s"),
    ] {
        let service = Service::new().await;
        let mut stream = service.begin(bytes).await;
        service.wait_until_open(1).await;
        let began = Instant::now();
        sleep(within / 3 * 2).await;
        stream.write_all(later).await.unwrap();
        assert_eq!(closed(&mut stream).await, b"");
        let took = began.elapsed();
        assert!(took > within / 3 * 2 && took < within + Duration::from_secs(1), "{took:?} {reason}");
        assert_eq!(service.refusal().await.reason, reason);
        assert!(service.counts(&format!("proxy_headers_total{{outcome=\"{outcome}\"}} 1")), "{reason}");
        assert!(service.counts(r#"limits_hit_total{limit="HandshakeTime"} 1"#), "{reason}");
    }
}

/// DPS-LIMIT-2, DPS-LIMIT-17
#[tokio::test]
async fn a_connection_whose_header_has_not_come_is_one_that_has_proved_nothing() {
    let limits = Limits { unattested_connections: 1, connections_per_address: Some(1), ..Limits::default() };
    let service = Service::behind(LOOPBACK, limits).await;
    let silent = service.begin(b"").await;
    service.wait_until_open(1).await;
    assert_eq!(closed(&mut service.begin(b"").await).await, b"");
    assert!(service.refusal().await.reason.contains("limits.unattested_connections"));
    drop(silent);
    service.wait_until_open(0).await;
    service.shake(service.begin(&names("192.0.2.7:50000")).await).await.unwrap();
}

/// DPS-LIMIT-16
#[tokio::test]
async fn a_connection_whose_client_is_not_named_keeps_its_own_address() {
    for header in [local(), header(0, 0x11, &[7; 12]), header(1, 0, &[]), header(1, 0, &[7; 520])] {
        let service =
            Service::behind(LOOPBACK, Limits { connections_per_address: Some(1), ..Limits::default() }).await;
        let stream = service.begin(&header).await;
        let own = stream.local_addr().unwrap();
        let mut tls = service.shake(stream).await.unwrap();
        service.shake(service.begin(&header).await).await.unwrap_err();
        let turned_away = service.refusal().await;
        assert!(turned_away.reason.contains("limits.connections_per_address"), "{turned_away:?}");
        tls.write_all(b"no MQTT\r\n\r\n").await.unwrap();
        let _ = timeout(WITHIN, tls.read_to_end(&mut Vec::new())).await.unwrap();
        service.wait_until_open(0).await;
        assert_eq!(service.explained()[0].peer, Some(own));
    }
}

/// DPS-LIMIT-18
#[tokio::test]
async fn a_check_of_the_balancer_is_counted_and_not_taken_for_a_failure() {
    let service = Service::new().await;
    for (bytes, outcome) in [(&b""[..], "Nothing"), (&local(), "Local")] {
        drop(service.begin(bytes).await);
        service.wait_for(&format!("proxy_headers_total{{outcome=\"{outcome}\"}} 1")).await;
    }
    // By a reset as well, which is what some balancers save time by.
    let stream = service.begin(&local()).await;
    stream.set_zero_linger().unwrap();
    service.wait_for(r#"proxy_headers_total{outcome="Local"} 2"#).await;
    drop(stream);
    service.wait_until_open(0).await;
    assert!(service.explained().is_empty(), "{:?}", service.explained());
    assert!(service.counts(r#"tls_handshakes_total{outcome="Failed"} 0"#));
    // A device that hangs up is no check, whether or not it is named; nor is something else than TLS.
    for (number, bytes) in
        [names("192.0.2.7:50000"), header(1, 0, &[]), [&local()[..], b"no TLS\r\n\r\n"].concat()]
            .iter()
            .enumerate()
    {
        drop(service.begin(bytes).await);
        service.wait_for(&format!("tls_handshakes_total{{outcome=\"Failed\"}} {}", number + 1)).await;
    }
    service.wait_until_open(0).await;
    assert_eq!(service.explained().len(), 3);
}

/// DPS-LIMIT-14: whoever could send a header would have any address it likes.
#[tokio::test]
async fn from_elsewhere_a_header_is_no_tls_and_none_is_needed() {
    let service =
        Service::behind("10.0.0.0/8", Limits { connections_per_address: Some(1), ..Limits::default() }).await;
    let mut stream = service.begin(&names("192.0.2.7:50000")).await;
    let own = stream.local_addr().unwrap();
    closed(&mut stream).await;
    let refusal = service.refusal().await;
    assert!(refusal.reason.starts_with("what came is no TLS: "), "{refusal:?}");
    assert_eq!((refusal.step, refusal.peer), (Step::TlsHandshake, Some(own)));
    service.wait_until_open(0).await;
    let _tls = service.shake(service.begin(b"").await).await.unwrap();
    let again = service.shake(service.begin(b"").await).await;
    assert!(again.is_err() && service.counts(r#"limits_hit_total{limit="AddressConnections"} 1"#));
    assert!(service.counts(r#"proxy_headers_total{outcome="Client"} 0"#));
}
