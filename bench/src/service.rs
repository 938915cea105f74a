//! A connection to the service API that is kept from one request to the next.

use anyhow::{Context as _, bail};
use clap::Args;
use dps_proto::connection_string::ServiceConnectionString;
use dps_proto::sas::sign_service_token;
use jiff::{SignedDuration, Timestamp};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::target::{self, Target};

const API_VERSION: &str = "2021-10-01";

/// How long a token of the drivers is good.
const TOKEN_LIFETIME: SignedDuration = SignedDuration::from_hours(6);

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: target::Options,
    /// What opens the service API.
    #[arg(long)]
    connection_string: ServiceConnectionString,
}

/// Opens connections.
#[derive(Clone)]
pub(crate) struct Service {
    target: Target,
    /// Lines of each request's head.
    identity: String,
}

/// One of them.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    identity: String,
    received: Vec<u8>,
}

/// An answer with status 200.
pub(crate) struct Answer {
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Service {
    /// Signs one token for all connections: what a driver computes is not measured.
    pub(crate) fn new(options: &Options) -> anyhow::Result<Self> {
        let given = &options.connection_string;
        let (host, expiry) = (given.authority(), Timestamp::now() + TOKEN_LIFETIME);
        let token = sign_service_token(host, given.policy(), given.key(), expiry);
        let identity = format!("Host: {host}\r\nAuthorization: {token}\r\n");
        Ok(Self { target: Target::new(&options.target)?, identity })
    }

    /// TCP and TLS.
    pub(crate) async fn connect(&self) -> anyhow::Result<Connection> {
        let stream = Box::pin(self.target.connect(None)).await.context("TCP or TLS")?;
        Ok(Connection { stream, identity: self.identity.clone(), received: Vec::with_capacity(64 * 1024) })
    }
}

impl Connection {
    /// One request, such as `GET /enrollments/a`; `headers` are more lines of its head.
    pub(crate) async fn ask(&mut self, request: &str, headers: &str, body: &str) -> anyhow::Result<Answer> {
        let text = format!(
            "{request}?api-version={API_VERSION} HTTP/1.1\r\n{}Content-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            self.identity,
            body.len()
        );
        self.stream.write_all(text.as_bytes()).await?;
        self.stream.flush().await?;
        self.received.clear();
        let head_end = loop {
            if let Some(at) = self.received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at;
            }
            self.receive().await?;
        };
        let head = String::from_utf8(self.received[..head_end].to_vec())?;
        let mut answer = Answer { head, body: Vec::new() };
        let end =
            head_end + 4 + answer.header("content-length").context("content-length")?.parse::<usize>()?;
        while self.received.len() < end {
            self.receive().await?;
        }
        answer.body = self.received[head_end + 4..end].to_vec();
        if !answer.head.starts_with("HTTP/1.1 200 ") {
            bail!("{request}: {}\n{}", answer.head, String::from_utf8_lossy(&answer.body));
        }
        Ok(answer)
    }

    async fn receive(&mut self) -> anyhow::Result<()> {
        if self.stream.read_buf(&mut self.received).await? == 0 {
            bail!("the server closed the connection");
        }
        Ok(())
    }
}

impl Answer {
    /// The value of a header, its name in lower case as the service writes it.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines();
        lines.filter_map(|line| line.split_once(": ")).find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}
