//! Two thousand connections that are silent or slow, in each way there is, while devices are provisioned as if there were
//! none: DPS-LIMIT-2, DPS-LIMIT-3, DPS-MQTT-27, DPS-MQTT-30.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this program is a test in whole")]

mod fleet;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use dps_proto::login::UserName;
use dps_proto::mqtt::{Connect, Credentials, Packet, Password, encode};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use fleet::{Fleet, Serving};

const SLOW: usize = 2_000;

/// The limits under test, in place of 15, 30 and 60 s; long enough for all to be open before the first is cut.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(12);
const CONNECT_WITHIN: Duration = Duration::from_secs(13);
const ATTEST_WITHIN: Duration = Duration::from_secs(14);

/// How much later than its limit a connection may be cut on a loaded machine.
const LATE: Duration = Duration::from_secs(20);

/// Handshakes that the clients begin at one time: they share the machine with the service.
const TOGETHER: usize = 32;

/// What one slow connection may cost the service in resident memory: twice the 15 KiB that were measured, which are the
/// state of TLS with its buffers, the connection's task, and 1 KiB for its next packet. A hello may take 16 KiB more while it
/// is read. Growth beyond this comes from something that a stranger can make grow.
const BYTES_EACH: u64 = 32 * 1024;

/// What the service may grow by at work however many connections there are: threads' arenas, SQLite's pages, explanations.
const BYTES_ANYWAY: u64 = 32 * 1024 * 1024;

/// Ways to be slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Silent,
    HalfHello,
    HelloByteByByte,
    SilentAfterTls,
    HalfConnect,
    ConnectByteByByte,
    SilentAfterConnect,
    SilentOnHttps,
    HalfHead,
}

impl Way {
    const ALL: [Self; 9] = [
        // Those that cost most to open come first.
        Self::SilentOnHttps,
        Self::HalfHead,
        Self::SilentAfterConnect,
        Self::SilentAfterTls,
        Self::HalfConnect,
        Self::ConnectByteByByte,
        Self::HelloByteByByte,
        Self::HalfHello,
        Self::Silent,
    ];

    /// Its deadline, and the limit that it then counts as.
    fn limit(self) -> (&'static str, Duration) {
        match self {
            Self::Silent | Self::HalfHello | Self::HelloByteByByte => ("HandshakeTime", HANDSHAKE_WITHIN),
            Self::SilentAfterTls | Self::HalfConnect | Self::ConnectByteByByte => {
                ("ConnectTime", CONNECT_WITHIN)
            }
            Self::SilentAfterConnect | Self::SilentOnHttps | Self::HalfHead => ("AttestTime", ATTEST_WITHIN),
        }
    }

    fn is_on_https(self) -> bool {
        matches!(self, Self::SilentOnHttps | Self::HalfHead)
    }
}

/// What all slow clients share.
struct Clients {
    mqtt_port: u16,
    https_port: u16,
    tls: Arc<ClientConfig>,
    /// Of good form; nobody asks for its proof.
    connect: Vec<u8>,
    shaking: Semaphore,
}

/// DPS-LIMIT-2, DPS-LIMIT-3, DPS-MQTT-27, DPS-MQTT-30
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_connections_are_cut_at_their_deadlines_and_devices_do_not_notice_them() {
    require_descriptors(SLOW as u64 + 500);
    let fleet = Arc::new(Fleet::new());
    let limits = format!(
        "connections = 4000\nunattested_connections = 3000\nhandshake_within_s = {}\nconnect_within_s = {}\n\
         attest_within_s = {}\n",
        HANDSHAKE_WITHIN.as_secs(),
        CONNECT_WITHIN.as_secs(),
        ATTEST_WITHIN.as_secs()
    );
    let configuration = fleet.configuration();
    let (before, after) = configuration.split_once("[limits]\n").unwrap();
    let (_, instances) = after.split_once("[[instance]]").unwrap();
    let configuration =
        format!("{before}[limits]\n{limits}[log]\nlevel = \"error\"\n[[instance]]{instances}");
    let serving = Arc::new(fleet.serve(&configuration));
    // What a register costs once is no part of what slow connections cost.
    assert_eq!(fleet.register(&serving, 0, "warm-up").await.unwrap().status, 200);
    let resident_before = resident_bytes(&serving);

    let all_cut = Arc::new(AtomicBool::new(false));
    let devices = provision(&fleet, &serving, &all_cut);
    let resident = tokio::spawn(watch_resident(Arc::clone(&serving), Arc::clone(&all_cut)));

    let clients = Arc::new(Clients {
        mqtt_port: serving.mqtt_port(),
        https_port: serving.https_port(),
        tls: dps_client::tls::trusting(&fleet.path("data/ca.pem")).unwrap(),
        connect: connect_packet(&fleet),
        shaking: Semaphore::new(TOGETHER),
    });
    let mut slow = JoinSet::new();
    for number in 0..SLOW {
        let way = Way::ALL[number * Way::ALL.len() / SLOW];
        let clients = Arc::clone(&clients);
        slow.spawn(async move { (way, clients.be_slow(number, way).await) });
    }
    let mut wanted: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut last_opened, mut first_cut) = (None, None);
    while let Some(ended) = slow.join_next().await {
        let (way, Cut { since, at }) = ended.unwrap();
        let (limit, within) = way.limit();
        let lasted = at - since;
        let early = Duration::from_secs(1);
        assert!(lasted + early > within && lasted < within + LATE, "{way:?} was cut after {lasted:?}");
        *wanted.entry(limit).or_default() += 1;
        last_opened = last_opened.max(Some(since));
        first_cut = Some(first_cut.map_or(at, |first: Instant| first.min(at)));
    }
    assert!(last_opened < first_cut, "this machine is too slow to have all of them open at one time");

    all_cut.store(true, Ordering::Relaxed);
    let counted = counted_limits(&serving).await;
    for (limit, count) in wanted {
        assert_eq!(counted.get(limit), Some(&count), "{limit} of {counted:?}");
    }
    let registrations = devices.join_all().await;
    assert!(registrations.iter().all(|count| *count > 0), "{registrations:?}");
    let grown = resident.await.unwrap().saturating_sub(resident_before);
    let most = BYTES_ANYWAY + SLOW as u64 * BYTES_EACH;
    assert!(grown <= most, "the service grew by {grown} bytes, {most} are allowed");
    let serving = Arc::into_inner(serving).unwrap();
    assert!(serving.stop().success());
}

/// A connection's life, from the beginning of the stage at which it is slow.
struct Cut {
    since: Instant,
    at: Instant,
}

impl Clients {
    /// Until the service cuts the connection.
    async fn be_slow(&self, number: usize, way: Way) -> Cut {
        let permit = self.shaking.acquire().await.unwrap();
        let port = if way.is_on_https() { self.https_port } else { self.mqtt_port };
        let tcp = connect_from(number, port).await;
        let hello = self.hello();
        let (mut tcp, sent_at_once, byte_by_byte) = match way {
            Way::Silent => (tcp, &[][..], &[][..]),
            Way::HalfHello => (tcp, &hello[..hello.len() / 2], &[][..]),
            Way::HelloByteByByte => (tcp, &[][..], &hello[..]),
            _ => {
                let connector = TlsConnector::from(Arc::clone(&self.tls));
                let name = ServerName::try_from("localhost").unwrap();
                let mut tls = connector.connect(name, tcp).await.unwrap();
                let half = &self.connect[..self.connect.len() / 2];
                let (at_once, byte_by_byte) = match way {
                    Way::HalfConnect => (half, &[][..]),
                    Way::ConnectByteByByte => (&[][..], &self.connect[..]),
                    Way::SilentAfterConnect => (&self.connect[..], &[][..]),
                    Way::HalfHead => (&b"GET /enrollments/x HTTP/1.1\r\nhost: "[..], &[][..]),
                    _ => (&[][..], &[][..]),
                };
                let since = Instant::now();
                tls.write_all(at_once).await.unwrap();
                tls.flush().await.unwrap();
                if way == Way::SilentAfterConnect {
                    let mut connack = [0; 4];
                    tls.read_exact(&mut connack).await.unwrap();
                    assert_eq!(connack, [0x20, 2, 0, 0]);
                }
                drop(permit);
                return until_cut(tls, byte_by_byte, since).await;
            }
        };
        let since = Instant::now();
        tcp.write_all(sent_at_once).await.unwrap();
        drop(permit);
        until_cut(tcp, byte_by_byte, since).await
    }

    /// The first bytes of a handshake.
    fn hello(&self) -> Vec<u8> {
        let name = ServerName::try_from("localhost").unwrap();
        let mut connection = rustls::ClientConnection::new(Arc::clone(&self.tls), name).unwrap();
        let mut hello = Vec::new();
        connection.write_tls(&mut hello).unwrap();
        hello
    }
}

/// From one of many addresses of loopback.
async fn connect_from(number: usize, port: u16) -> TcpStream {
    let (third, last) = ((number / 250) as u8, (1 + number % 250) as u8);
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 1, third, last), 0))).unwrap();
    socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await.unwrap()
}

/// Sends a byte a second and waits for the end.
async fn until_cut(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    byte_by_byte: &[u8],
    since: Instant,
) -> Cut {
    let mut bytes = byte_by_byte.iter();
    let mut received = [0; 1_024];
    loop {
        tokio::select! {
            read = stream.read(&mut received) => match read {
                // TLS says why it goes; nothing else is said to who has not proved itself.
                Ok(0) | Err(_) => return Cut { since, at: Instant::now() },
                Ok(_) => {}
            },
            () = sleep(Duration::from_secs(1)) => {
                if let Some(byte) = bytes.next() {
                    // It may have been cut just now, which the next read says.
                    let _ = stream.write_all(&[*byte]).await;
                    let _ = stream.flush().await;
                }
            }
        }
    }
}

/// Devices that register again and again, and how often each did until `done`.
fn provision(fleet: &Arc<Fleet>, serving: &Arc<Serving>, done: &Arc<AtomicBool>) -> JoinSet<usize> {
    let mut devices = JoinSet::new();
    for number in 0..8 {
        let (fleet, serving, done) = (Arc::clone(fleet), Arc::clone(serving), Arc::clone(done));
        devices.spawn(async move {
            let mut registrations = 0;
            while !done.load(Ordering::Relaxed) {
                let id = format!("device-{number}-{registrations}");
                let answer = fleet.register(&serving, number % 2, &id).await.unwrap();
                assert_eq!(answer.status, 200, "{id}");
                registrations += 1;
            }
            registrations
        });
    }
    devices
}

/// The most memory that the service held until `done`, in bytes.
async fn watch_resident(serving: Arc<Serving>, done: Arc<AtomicBool>) -> u64 {
    let mut most = 0;
    while !done.load(Ordering::Relaxed) {
        most = most.max(resident_bytes(&serving));
        sleep(Duration::from_millis(100)).await;
    }
    most
}

fn resident_bytes(serving: &Serving) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", serving.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() * 1024
}

/// How often each limit was hit, as the metrics say.
async fn counted_limits(serving: &Serving) -> BTreeMap<String, usize> {
    let mut stream = TcpStream::connect(serving.admin()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut text = String::new();
    let read: io::Result<usize> =
        timeout(Duration::from_secs(60), stream.read_to_string(&mut text)).await.unwrap();
    read.unwrap();
    let counts = text.lines().filter_map(|line| {
        let (limit, count) =
            line.strip_prefix("harbormaster_limits_hit_total{limit=\"")?.split_once("\"} ")?;
        Some((limit.to_owned(), count.parse().unwrap()))
    });
    counts.collect()
}

fn connect_packet(fleet: &Fleet) -> Vec<u8> {
    let (id, version) = ("slow".parse().unwrap(), "2021-06-01".parse().unwrap());
    let user_name = UserName::compose(&fleet.instances[0].id_scope, &id, &version, "slow").into();
    let password = Some(Password::new(b"SharedAccessSignature sr=none".to_vec()));
    let mut bytes = BytesMut::new();
    let connect = Connect {
        clean_session: true,
        keep_alive_s: 0,
        client_id: id.as_str().into(),
        will: None,
        credentials: Some(Credentials { user_name, password }),
    };
    encode(&Packet::Connect(connect), &mut bytes).unwrap();
    bytes.to_vec()
}

/// The test and the service need a file descriptor for each connection.
fn require_descriptors(needed: u64) {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let soft = line.split_whitespace().nth(3).unwrap();
    let allowed = soft.parse().unwrap_or(u64::MAX);
    assert!(
        allowed >= needed,
        "{needed} file descriptors are needed and {allowed} allowed: run `ulimit -n {needed}` first"
    );
}
