//! The way out against real bytes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by failing")]

#[path = "support/scripted_peer.rs"]
mod scripted_peer;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use dps_hub::outbound::{
    ADDRESSES_MAX, AllowedTargets, Answer, HeaderMap, HttpsUrl, Method, Names, Outbound, OutboundError,
    Request, Trust, TrustedRoots,
};
use scripted_peer::{ScriptedPeer, Then, answer, answer_with};
use tokio::net::TcpListener;

/// Long enough for whatever ends by itself.
const LONG: Duration = Duration::from_secs(30);

/// Names whose next answer is the next of a list; when it is used up, there is none.
#[derive(Default)]
struct ScriptedNames {
    answers: Mutex<VecDeque<Vec<IpAddr>>>,
    asked: Mutex<Vec<String>>,
}

impl ScriptedNames {
    fn new<const N: usize>(answers: impl IntoIterator<Item = [&'static str; N]>) -> Arc<Self> {
        let addresses = |texts: [&str; N]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Arc::new(Self {
            answers: Mutex::new(answers.into_iter().map(addresses).collect()),
            ..Self::default()
        })
    }
}

#[async_trait]
impl Names for ScriptedNames {
    async fn look_up(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        self.asked.lock().unwrap().push(host.to_owned());
        self.answers.lock().unwrap().pop_front().ok_or_else(|| io::Error::other("no such name"))
    }
}

fn roots(peer: &ScriptedPeer) -> TrustedRoots {
    TrustedRoots::read(&Trust::Only(peer.ca_file())).unwrap()
}

/// Allows what `entries` say and trusts the peer.
fn outbound(peer: &ScriptedPeer, entries: &[&str]) -> Outbound {
    Outbound::new(AllowedTargets::parse(entries).unwrap(), roots(peer)).unwrap()
}

fn named(peer: &ScriptedPeer, entries: &[&str], names: Arc<ScriptedNames>) -> Outbound {
    Outbound::with_names(AllowedTargets::parse(entries).unwrap(), roots(peer), names).unwrap()
}

async fn get(outbound: &Outbound, url: &str) -> Result<Answer, OutboundError> {
    get_within(outbound, url, LONG, 1_000).await
}

async fn get_within(
    outbound: &Outbound,
    url: &str,
    within: Duration,
    answer_bytes_max: usize,
) -> Result<Answer, OutboundError> {
    let url: HttpsUrl = url.parse().unwrap();
    let (method, headers, body) = (Method::POST, HeaderMap::new(), "{}".into());
    outbound.exchange(Request { method, url: &url, headers, body, within, answer_bytes_max }).await
}

#[track_caller]
fn failure(answered: Result<Answer, OutboundError>) -> OutboundError {
    let Err(why) = answered else { panic!("an answer came") };
    why
}

/// DPS-HUB-5, DPS-HUB-6
#[tokio::test]
async fn requests_share_a_connection_and_go_out_as_they_were_given() {
    let peer = ScriptedPeer::start(|number| answer_with(201, "x-number: 7\r\n", &number.to_string())).await;
    let outbound = outbound(&peer, &["localhost"]);
    let port = peer.address.port();
    for number in 0..3 {
        let answer =
            get(&outbound, &format!("https://localhost:{port}/api/x%20y?code=k3y#frag")).await.unwrap();
        assert_eq!((answer.status.as_u16(), &*answer.body), (201, number.to_string().as_bytes()));
        assert_eq!(answer.headers["x-number"], "7");
    }
    assert_eq!(peer.connections(), 1);
    let head = peer.requests()[0].to_ascii_lowercase();
    assert!(head.starts_with("post /api/x%20y?code=k3y http/1.1\r\n"), "{head}");
    for field in [format!("host: localhost:{port}\r\n"), "user-agent: harbormaster/".to_owned()] {
        assert!(head.contains(&field), "{head}");
    }
    assert!(head.ends_with("\r\n\r\n{}"), "{head}");
}

/// DPS-HUB-2, DPS-HUB-3: a refusal says which address, and nothing is connected to.
#[tokio::test]
async fn an_address_that_is_not_allowed_is_refused_however_it_is_spelt() {
    let peer = ScriptedPeer::start(|_| answer(200, "")).await;
    let outbound = outbound(&peer, &[]);
    let port = peer.address.port();
    for host in ["127.0.0.1", "localhost", "localhost.", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"] {
        let why = failure(get(&outbound, &format!("https://{host}:{port}/?code=k3y")).await);
        let OutboundError::Refused(refused) = &why else { panic!("{host}: {why:?}") };
        assert!(refused.address.to_canonical().is_loopback(), "{host}: {refused}");
        assert!(why.to_string().contains("(loopback), which is not among"), "{why}");
        assert!(!format!("{why} {why:?}").contains("k3y"), "{why}");
    }
    let why = failure(get(&outbound, "https://169.254.169.254/latest/meta-data").await);
    assert!(why.to_string().ends_with("(link-local), which is never a target"), "{why}");
    assert_eq!(peer.connections(), 0);
}

/// DPS-HUB-4: whoever answers for the name has no second say.
#[tokio::test]
async fn a_name_that_changes_its_address_leads_nowhere_else() {
    let peer =
        ScriptedPeer::start(|_| Then::Cuts(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec())).await;
    let port = peer.address.port();
    let inside = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), port));
    let inside = ScriptedPeer::at(inside, |_| answer(200, "secret")).await.unwrap();
    let names = ScriptedNames::new([["127.0.0.1"], ["127.0.0.2"], ["127.0.0.1"]]);
    let outbound = named(&peer, &["127.0.0.1"], Arc::clone(&names));
    let url = format!("https://hook.example:{port}/");
    // The first answer was judged and is connected to; the second is refused, not the first once more.
    assert!(get(&outbound, &url).await.is_ok());
    assert_eq!(*names.asked.lock().unwrap(), ["hook.example"]);
    let why = failure(get(&outbound, &url).await);
    assert!(
        matches!(&why, OutboundError::Refused(refused) if refused.address == inside.address.ip()),
        "{why}"
    );
    assert!(get(&outbound, &url).await.is_ok());
    assert_eq!((names.asked.lock().unwrap().len(), peer.connections(), inside.connections()), (3, 2, 0));
}

/// DPS-HUB-4
#[tokio::test]
async fn one_refused_address_of_a_name_refuses_all() {
    let peer = ScriptedPeer::start(|_| answer(200, "")).await;
    let names = ScriptedNames::new([["127.0.0.1", "::ffff:169.254.169.254"], ["10.0.0.1", "127.0.0.1"]]);
    let outbound = named(&peer, &["127.0.0.1", "10.0.0.0/9", "::/0"], names);
    let url = format!("https://hook.example:{}/", peer.address.port());
    let why = failure(get(&outbound, &url).await);
    assert_eq!(
        why.to_string(),
        "hook.example is at ::ffff:169.254.169.254 (link-local), which is never a target"
    );
    let outbound = named(&peer, &["127.0.0.1"], ScriptedNames::new([["10.0.0.1", "127.0.0.1"]]));
    assert!(matches!(failure(get(&outbound, &url).await), OutboundError::Refused(_)));
    assert_eq!(peer.connections(), 0);
}

/// DPS-HUB-4, DPS-HUB-8
#[tokio::test]
async fn a_name_without_addresses_or_with_too_many_is_told() {
    let peer = ScriptedPeer::start(|_| answer(200, "")).await;
    let url = "https://hook.example/?code=k3y";
    let told = |names: Arc<ScriptedNames>| {
        let outbound = named(&peer, &["127.0.0.1"], names);
        async move { failure(get(&outbound, url).await).to_string() }
    };
    let none = told(ScriptedNames::new([] as [[&str; 1]; 0])).await;
    assert_eq!(none, "the name hook.example cannot be resolved: no such name");
    let empty = told(ScriptedNames::new([[]])).await;
    assert_eq!(empty, "the name hook.example cannot be resolved: it has no address");
    let many = told(ScriptedNames::new([["127.0.0.1"; ADDRESSES_MAX + 1]])).await;
    assert_eq!(
        many,
        format!("the name hook.example cannot be resolved: it has more than {ADDRESSES_MAX} addresses")
    );
}

/// DPS-HUB-5
#[tokio::test]
async fn a_redirect_is_an_answer_like_any_other() {
    let peer = ScriptedPeer::start(|_| answer_with(307, "location: https://127.0.0.1/else\r\n", "")).await;
    let outbound = outbound(&peer, &["localhost"]);
    let answer = get(&outbound, &format!("https://localhost:{}/", peer.address.port())).await.unwrap();
    assert_eq!((answer.status.as_u16(), peer.requests().len()), (307, 1));
}

/// DPS-HUB-5: in a process of its own, whose environment names a proxy that is not there.
#[tokio::test]
async fn a_proxy_of_the_environment_is_not_asked() {
    const CHILD: &str = "HARBORMASTER_TEST_OF_PROXIES";
    if std::env::var_os(CHILD).is_none() {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "a_proxy_of_the_environment_is_not_asked"]).env(CHILD, "1");
        for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            child.env(name, "http://127.0.0.1:1");
        }
        let ended = child.env_remove("NO_PROXY").env_remove("no_proxy").output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
        return;
    }
    let peer = ScriptedPeer::start(|_| answer(200, "")).await;
    let outbound = outbound(&peer, &["localhost"]);
    get(&outbound, &format!("https://localhost:{}/", peer.address.port())).await.unwrap();
    assert_eq!(peer.connections(), 1);
}

/// DPS-HUB-6: another authority, and another name.
#[tokio::test]
async fn a_certificate_that_is_not_trusted_or_of_another_name_ends_it() {
    let (peer, other) =
        (ScriptedPeer::start(|_| answer(200, "")).await, ScriptedPeer::start(|_| answer(200, "")).await);
    let port = peer.address.port();
    let untrusted =
        failure(get(&outbound(&other, &["localhost"]), &format!("https://localhost:{port}/")).await);
    assert!(matches!(untrusted, OutboundError::Tls { .. }), "{untrusted:?}");
    let names = ScriptedNames::new([["127.0.0.1"]]);
    let outbound = named(&peer, &["127.0.0.1"], names);
    let other_name = failure(get(&outbound, &format!("https://other.example:{port}/")).await);
    assert!(
        matches!(&other_name, OutboundError::Tls { why, .. } if why.contains("hook.example")),
        "{other_name:?}"
    );
    assert!(peer.requests().is_empty());
}

/// DPS-HUB-7: each phase of the exchange counts against the one deadline.
#[tokio::test]
async fn silence_at_any_point_ends_at_the_deadline() {
    let within = Duration::from_millis(300);
    let timed_out = |why: OutboundError| {
        assert!(matches!(why, OutboundError::TimedOut { within: it, .. } if it == within), "{why:?}")
    };
    // Connected, and no handshake.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let said = ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"];
    let peer = ScriptedPeer::start(move |number| Then::Stalls(said[number].into())).await;
    let outbound = outbound(&peer, &["127.0.0.1"]);
    timed_out(failure(get_within(&outbound, &format!("https://127.0.0.1:{port}/"), within, 1_000).await));
    let url = format!("https://{}/", peer.address);
    for _ in said {
        timed_out(failure(get_within(&outbound, &url, within, 1_000).await));
    }
}

/// DPS-HUB-7
#[tokio::test]
async fn an_answer_is_read_to_its_limit_and_no_further() {
    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    const CHUNK: &[u8] = b"a\r\n0123456789\r\n";
    let peer = ScriptedPeer::start(move |number| match number {
        0 => answer(200, &"x".repeat(1_000)),
        1 => answer(200, &"x".repeat(1_001)),
        2 => Then::Answers([CHUNKED, &CHUNK.repeat(100), b"0\r\n\r\n"].concat()),
        _ => Then::Floods(CHUNKED.to_vec(), CHUNK.to_vec()),
    })
    .await;
    let outbound = outbound(&peer, &["127.0.0.1"]);
    let url = format!("https://{}/", peer.address);
    for is_read in [true, false, true, false] {
        match get(&outbound, &url).await {
            Ok(answer) => assert!(is_read && answer.body.len() == 1_000, "{} bytes", answer.body.len()),
            Err(OutboundError::AnswerTooLarge { bytes_max: 1_000, .. }) => assert!(!is_read),
            Err(why) => panic!("{why:?}"),
        }
    }
}

/// DPS-HUB-7
#[tokio::test]
async fn a_head_that_never_ends_or_has_too_many_fields_is_not_read() {
    let peer = ScriptedPeer::start(|number| match number {
        0 => Then::Floods(b"HTTP/1.1 200 OK\r\n".to_vec(), b"x-field: 0123456789\r\n".repeat(10)),
        1 => Then::Floods(b"HTTP/1.1 200 OK\r\nx-field: ".to_vec(), b"0123456789".repeat(100)),
        // Beside the length of the body.
        2 => answer_with(200, &"x-field: 1\r\n".repeat(100), ""),
        _ => answer_with(200, &"x-field: 1\r\n".repeat(99), ""),
    })
    .await;
    let outbound = outbound(&peer, &["127.0.0.1"]);
    for _ in 0..3 {
        let why = failure(get(&outbound, &format!("https://{}/", peer.address)).await);
        assert!(matches!(why, OutboundError::Broken { .. }), "{why:?}");
    }
    assert_eq!(get(&outbound, &format!("https://{}/", peer.address)).await.unwrap().headers.len(), 100);
}

/// DPS-HUB-8
#[tokio::test]
async fn what_cannot_be_reached_or_read_is_told_apart_and_holds_no_query() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let nobody = free.local_addr().unwrap();
    drop(free);
    let peer = ScriptedPeer::start(|number| match number {
        0 => Then::Cuts(Vec::new()),
        1 => Then::Cuts(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc".to_vec()),
        _ => Then::Cuts(b"SSH-2.0-OpenSSH\r\n".to_vec()),
    })
    .await;
    let outbound = outbound(&peer, &["127.0.0.1"]);
    let why = failure(get(&outbound, &format!("https://{nobody}/?code=k3y")).await);
    assert!(matches!(&why, OutboundError::Unreachable { why, .. } if why.contains("refused")), "{why:?}");
    for _ in 0..3 {
        let why = failure(get(&outbound, &format!("https://{}/?code=k3y", peer.address)).await);
        assert!(matches!(why, OutboundError::Broken { .. }), "{why:?}");
        assert!(!format!("{why} {why:?}").contains("k3y"), "{why:?}");
    }
}

/// DPS-HUB-8: until the handshake is done nothing was sent; afterwards it may have been.
#[tokio::test]
async fn a_connection_that_breaks_after_the_handshake_may_have_brought_the_request() {
    let peer = ScriptedPeer::start(|_| Then::Breaks(b"no TLS at all".to_vec())).await;
    let outbound = outbound(&peer, &["localhost"]);
    let why = failure(get(&outbound, &format!("https://localhost:{}/", peer.address.port())).await);
    assert!(matches!(why, OutboundError::Broken { .. }), "{why:?}");
    assert_eq!(peer.requests().len(), 1);
}

/// DPS-HUB-5
#[tokio::test]
async fn as_many_connections_are_kept_as_there_were_calls_at_a_time() {
    const CALLS: usize = 64;
    const ROUNDS_MAX: usize = 10;
    let peer = ScriptedPeer::start(|_| answer(200, "")).await;
    let outbound = outbound(&peer, &["localhost"]);
    let url = format!("https://localhost:{}/", peer.address.port());
    let mut before = 0;
    for _ in 0..ROUNDS_MAX {
        // All of them begin before the first one ends.
        let start = Arc::new(tokio::sync::Barrier::new(CALLS));
        let calls = (0..CALLS).map(|_| {
            let (outbound, url, start) = (outbound.clone(), url.clone(), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                get(&outbound, &url).await.unwrap();
            })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap();
        }
        // Connections that were begun and then not needed are kept as well, once they stand.
        tokio::time::sleep(Duration::from_millis(300)).await;
        if peer.connections() == before {
            return;
        }
        before = peer.connections();
    }
    panic!("round {ROUNDS_MAX} of {CALLS} calls made new connections, {before} in all");
}
