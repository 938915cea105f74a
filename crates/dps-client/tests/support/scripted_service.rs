//! A service whose answers a test decides: real TLS and real bytes over loopback, one request after another.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};

/// Bytes of the key that the connection string holds, in Base64.
pub(crate) const KEY: &str = "c2VydmljZS1rZXktb2YtdGhlLXNjcmlwdGVkLXNlcnZpY2U=";

/// A client that says nothing for so long has left.
const REQUEST_WITHIN: Duration = Duration::from_secs(30);

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Method and target, such as `GET /enrollments/a?api-version=2021-10-01`.
    pub(crate) line: String,
    headers: Vec<(String, String)>,
    /// The body; null where there was none.
    pub(crate) body: Value,
    /// The body, byte for byte.
    pub(crate) text: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What to answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Answer {
    /// 200 with JSON text, byte for byte.
    pub(crate) fn json(body: impl ToString) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.to_string() }
    }

    /// 204.
    pub(crate) fn deleted() -> Self {
        Self { status: 204, headers: Vec::new(), body: String::new() }
    }

    /// The service's error body; the status is that of the code.
    pub(crate) fn refused(code: u32, message: &str) -> Self {
        let body = json!({"errorCode": code, "message": message, "trackingId": "a-tracking-id"}).to_string();
        Self { status: u16::try_from(code / 1_000).unwrap(), headers: Vec::new(), body }
    }

    pub(crate) fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }
}

/// The connection that is being served.
#[derive(Default)]
struct Open {
    stream: Option<TcpStream>,
    stopping: bool,
}

/// It listens until it is dropped.
pub(crate) struct ScriptedService {
    pub(crate) port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    directory: tempfile::TempDir,
    open: Arc<Mutex<Open>>,
    thread: Option<JoinHandle<()>>,
}

impl ScriptedService {
    /// Answers in that order, and refuses what is asked beyond.
    pub(crate) fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        let mut answers: Vec<_> = answers.into_iter().collect();
        answers.reverse();
        Self::start(move |_| answers.pop().unwrap_or_else(|| Answer::refused(500_000, "nothing was planned")))
    }

    /// Answers each request with what `answer` says.
    pub(crate) fn start(answer: impl FnMut(&Request) -> Answer + Send + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tls = certified(directory.path());
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let open = Arc::new(Mutex::new(Open::default()));
        let (log, serving) = (Arc::clone(&requests), Arc::clone(&open));
        let thread = std::thread::spawn(move || serve(&listener, &tls, &log, &serving, answer));
        Self { port, requests, directory, open, thread: Some(thread) }
    }

    pub(crate) fn connection_string(&self) -> String {
        format!("HostName=localhost:{};SharedAccessKeyName=owner;SharedAccessKey={KEY}", self.port)
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// What came so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for ScriptedService {
    fn drop(&mut self) {
        // The thread waits for a client to speak, or to connect.
        if let Ok(mut open) = self.open.lock() {
            open.stopping = true;
            let _ = open.stream.as_ref().map(|stream| stream.shutdown(Shutdown::Both));
        }
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A certificate of its own authority, whose certificate is `ca.pem`.
fn certified(directory: &Path) -> Arc<ServerConfig> {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority.distinguished_name.push(rcgen::DnType::CommonName, "scripted");
    std::fs::write(directory.join("ca.pem"), authority.self_signed(&authority_key).unwrap().pem()).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap().der().clone();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_no_client_auth().with_single_cert(vec![leaf], key).unwrap())
}

fn serve(
    listener: &TcpListener,
    tls: &Arc<ServerConfig>,
    log: &Mutex<Vec<Request>>,
    open: &Mutex<Open>,
    mut answer: impl FnMut(&Request) -> Answer,
) {
    while let Ok((stream, _)) = listener.accept() {
        {
            let mut open = open.lock().unwrap();
            if open.stopping {
                return;
            }
            open.stream = stream.try_clone().ok();
        }
        stream.set_read_timeout(Some(REQUEST_WITHIN)).unwrap();
        let connection = ServerConnection::new(Arc::clone(tls)).unwrap();
        let mut stream = BufReader::new(StreamOwned::new(connection, stream));
        while let Some(request) = read(&mut stream) {
            log.lock().unwrap().push(request.clone());
            let Answer { status, headers, body } = answer(&request);
            let mut text = format!("HTTP/1.1 {status} Scripted\r\nContent-Length: {}\r\n", body.len());
            for (name, value) in headers {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
            text.push_str("\r\n");
            text.push_str(&body);
            if stream.get_mut().write_all(text.as_bytes()).and_then(|()| stream.get_mut().flush()).is_err() {
                break;
            }
        }
    }
}

/// The next request; none once the client left, or where no handshake came about.
fn read(stream: &mut BufReader<StreamOwned<ServerConnection, TcpStream>>) -> Option<Request> {
    let line = |stream: &mut BufReader<_>| {
        let mut line = String::new();
        let read = BufReader::read_line(stream, &mut line).ok()?;
        (read > 0).then(|| line.trim_end().to_owned())
    };
    let first = line(stream)?;
    let mut headers = Vec::new();
    loop {
        let line = line(stream)?;
        match line.split_once(':') {
            Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
            None => break,
        }
    }
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let mut body = vec![0; length.map_or(0, |(_, value)| value.parse().unwrap())];
    stream.read_exact(&mut body).ok()?;
    let text = String::from_utf8(body).unwrap();
    let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() };
    Some(Request { line: first.trim_end_matches(" HTTP/1.1").to_owned(), headers, body, text })
}
