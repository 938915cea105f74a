//! A server whose bytes a test decides: real TLS over loopback.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by failing")]
#![allow(dead_code, reason = "each test uses a part of it")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What a peer does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Then {
    /// Sends these bytes and waits for the next request.
    Answers(Vec<u8>),
    /// Sends these bytes, then nothing, and leaves the connection open.
    Stalls(Vec<u8>),
    /// Sends these bytes and ends the connection.
    Cuts(Vec<u8>),
    /// Sends these bytes past the encryption.
    Breaks(Vec<u8>),
    /// Sends the first bytes, then the second again and again for as long as someone reads.
    Floods(Vec<u8>, Vec<u8>),
}

/// An answer with that status and body.
pub(crate) fn answer(status: u16, body: &str) -> Then {
    answer_with(status, "", body)
}

/// The same with header fields, each ending in CRLF.
pub(crate) fn answer_with(status: u16, fields: &str, body: &str) -> Then {
    let length = body.len();
    Then::Answers(
        format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {length}\r\n{fields}\r\n{body}").into_bytes(),
    )
}

/// It listens until it is dropped.
pub(crate) struct ScriptedPeer {
    pub(crate) address: SocketAddr,
    directory: tempfile::TempDir,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    requests: Vec<String>,
}

impl ScriptedPeer {
    /// At 127.0.0.1, with a certificate for `localhost`, `hook.example` and that address.
    pub(crate) async fn start(then: impl Fn(usize) -> Then + Send + Sync + 'static) -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into(), then).await.unwrap()
    }

    pub(crate) async fn at(
        address: SocketAddr,
        then: impl Fn(usize) -> Then + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let directory = tempfile::tempdir()?;
        let tls = TlsAcceptor::from(certified(directory.path().join("ca.pem"), address.ip()));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (log, then) = (Arc::clone(&seen), Arc::new(then));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                log.lock().unwrap().connections += 1;
                tokio::spawn(serve(tls.clone(), stream, Arc::clone(&log), Arc::clone(&then)));
            }
        });
        Ok(Self { address, directory, seen, task })
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    /// Each request as it came, head and body.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().requests.clone()
    }
}

impl Drop for ScriptedPeer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    tls: TlsAcceptor,
    stream: TcpStream,
    seen: Arc<Mutex<Seen>>,
    then: Arc<impl Fn(usize) -> Then>,
) -> Option<()> {
    let mut stream = tls.accept(stream).await.ok()?;
    let mut bytes = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = end_of_request(&bytes) {
                break end;
            }
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        };
        let request: Vec<u8> = bytes.drain(..end).collect();
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.requests.push(String::from_utf8(request).unwrap());
            seen.requests.len() - 1
        };
        let then = then(number);
        if let Then::Breaks(said) = &then {
            stream.get_mut().0.write_all(said).await.ok()?;
            return std::future::pending().await;
        }
        let (Then::Answers(said)
        | Then::Stalls(said)
        | Then::Cuts(said)
        | Then::Breaks(said)
        | Then::Floods(said, _)) = &then;
        stream.write_all(said).await.ok()?;
        stream.flush().await.ok()?;
        match then {
            Then::Answers(_) | Then::Breaks(_) => {}
            Then::Cuts(_) => return stream.shutdown().await.ok(),
            Then::Stalls(_) => std::future::pending().await,
            Then::Floods(_, piece) => loop {
                stream.write_all(&piece).await.ok()?;
            },
        }
    }
}

fn end_of_request(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).unwrap().to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    let end = head + length.map_or(0, |length| length.parse::<usize>().unwrap());
    (bytes.len() >= end).then_some(end)
}

/// A certificate of its own authority, whose certificate goes into `ca_file`.
fn certified(ca_file: PathBuf, address: IpAddr) -> Arc<ServerConfig> {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority.distinguished_name.push(rcgen::DnType::CommonName, "scripted");
    std::fs::write(ca_file, authority.self_signed(&authority_key).unwrap().pem()).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let names = ["localhost".to_owned(), "hook.example".to_owned(), address.to_string()];
    let leaf = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap().der().clone();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_no_client_auth().with_single_cert(vec![leaf], key).unwrap())
}
