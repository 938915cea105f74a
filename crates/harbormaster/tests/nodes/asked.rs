//! Requests over HTTP to one node, as they are, and its answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dps_proto::key::SymmetricKey;
use dps_proto::percent;
use dps_proto::sas::sign_device_token;
use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::cluster::{Cluster, ID_SCOPE};
use crate::deployment::TOKEN;
use crate::device::Identity;
use crate::fleet::OWNER_KEY;

/// Longer than a node takes to say that it cannot decide.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) retry_after_s: Option<u32>,
    /// Null where there is none, or none in JSON.
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Reply {
    fn of(answer: &str) -> Self {
        let (head, text) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
        let mut headers = head.lines().skip(1).filter_map(|line| line.split_once(": "));
        let retry_after = headers.find(|(name, _)| name.eq_ignore_ascii_case("retry-after"));
        Self {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            retry_after_s: retry_after.map(|(_, seconds)| seconds.parse().unwrap()),
            body: serde_json::from_str(text).unwrap_or_default(),
            text: text.to_owned(),
        }
    }
}

impl Cluster {
    /// What the HTTPS device API of a node answers a register.
    pub(crate) async fn register_by_https(&self, node: u8, who: &Identity) -> Reply {
        let expiry = Timestamp::now() + SignedDuration::from_hours(1);
        let token = sign_device_token(&who.id_scope, &who.id, &who.key, expiry);
        let id = who.id.as_str();
        let path = format!("/{ID_SCOPE}/registrations/{id}/register?api-version=2021-06-01");
        let body = serde_json::json!({"registrationId": id});
        self.ask_by_tls(node, &request("PUT", &path, &[("Authorization", &token)], Some(&body))).await
    }

    /// What the service API of a node answers the owner.
    pub(crate) async fn ask_service_api(
        &self,
        node: u8,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Reply {
        let expiry = (Timestamp::now() + SignedDuration::from_hours(1)).as_second().to_string();
        let key: SymmetricKey = OWNER_KEY.parse().unwrap();
        let signature = STANDARD.encode(key.sign(&[b"localhost\n", expiry.as_bytes()]));
        let signature = percent::encode(&signature);
        let token = format!(
            "SharedAccessSignature sr=localhost&sig={signature}&se={expiry}&skn=provisioningserviceowner"
        );
        let path = format!("{path}?api-version=2021-10-01");
        let headers = [&[("Authorization", token.as_str())], headers].concat();
        self.ask_by_tls(node, &request(method, &path, &headers, body)).await
    }

    /// What the admin listener of a node answers its operator.
    pub(crate) async fn ask_admin(
        &self,
        node: u8,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Reply {
        let stream = TcpStream::connect(self.admin_of(node).address).await.unwrap();
        let token = format!("Bearer {TOKEN}");
        let headers = [&[("Authorization", token.as_str())], headers].concat();
        answer(stream, &request(method, &format!("/admin/v1{path}"), &headers, body)).await
    }

    /// What `/readyz` of a node answers.
    pub(crate) async fn ready(&self, node: u8) -> Reply {
        let stream = TcpStream::connect(self.admin_of(node).address).await.unwrap();
        answer(stream, &request("GET", "/readyz", &[], None)).await
    }

    /// What `/metrics` of a node shows.
    pub(crate) async fn metrics(&self, node: u8) -> String {
        let stream = TcpStream::connect(self.admin_of(node).address).await.unwrap();
        answer(stream, &request("GET", "/metrics", &[], None)).await.text
    }

    async fn ask_by_tls(&self, node: u8, request: &str) -> Reply {
        let at: SocketAddr = self.https_of(node);
        let tcp = TcpStream::connect(at).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        answer(TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await.unwrap(), request).await
    }
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let body = body.map(Value::to_string);
    if let Some(body) = &body {
        head.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
    }
    format!("{head}\r\n{}", body.unwrap_or_default())
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> Reply {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = timeout(ANSWER_WITHIN, stream.read_to_string(&mut answer)).await.unwrap();
    // Some close without TLS's own goodbye.
    assert!(read.is_ok() || !answer.is_empty(), "{read:?}");
    Reply::of(&answer)
}
