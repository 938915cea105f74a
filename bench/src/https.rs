//! The HTTPS device API as devices ask it; and one of them: a register and a poll, on one connection or each on its own.

use anyhow::{Context as _, bail};
use dps_proto::device_path::{DevicePath, DeviceResource};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant};
use tokio_rustls::client::TlsStream;

use crate::device::Completed;
use crate::fleet::Credentials;
use crate::target::Target;

/// What came of a request that was not refused.
pub(crate) struct Answer {
    /// How long the device is to wait before it asks again.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told<'t> {
    operation_id: &'t str,
    status: &'t str,
}

/// As [`crate::device::Device::register`]. `keeps`: on one connection.
pub(crate) async fn register(
    target: &Target,
    credentials: Credentials,
    keeps: bool,
) -> anyhow::Result<Completed> {
    let opened = Instant::now();
    let connect = || Box::pin(target.connect(credentials.identity.clone()));
    let mut stream = connect().await.context("TCP or TLS")?;
    let answer = ask(&mut stream, &credentials, DeviceResource::Register, "{}").await?.body;
    let told: Told<'_> = serde_json::from_str(&answer)?;
    if told.status != "assigning" {
        bail!("{answer}");
    }
    if !keeps {
        end(stream).await;
        stream = connect().await.context("TCP or TLS")?;
    }
    let operation = DeviceResource::Operation(told.operation_id.into());
    let answer = ask(&mut stream, &credentials, operation, "").await?.body;
    let latency = opened.elapsed();
    if serde_json::from_str::<Told<'_>>(&answer)?.status != "assigned" {
        bail!("{answer}");
    }
    end(stream).await;
    Ok(Completed { latency, deferred: Duration::ZERO })
}

/// One request and its answer; the connection is kept.
pub(crate) async fn ask(
    stream: &mut TlsStream<TcpStream>,
    credentials: &Credentials,
    resource: DeviceResource,
    body: &str,
) -> anyhow::Result<Answer> {
    let login = &credentials.login;
    let method = if resource == DeviceResource::Register { "PUT" } else { "GET" };
    let path = DevicePath {
        id_scope: login.id_scope.clone(),
        registration_id: login.registration_id.clone(),
        resource,
    };
    let token = login.password.as_ref().map(|token| String::from_utf8_lossy(token.expose()));
    let proof = token.map(|token| format!("Authorization: {token}\r\n")).unwrap_or_default();
    let request = format!(
        "{method} {path}?api-version=2021-06-01 HTTP/1.1\r\nHost: localhost\r\n{proof}Content-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::with_capacity(1_024);
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            bail!("the server closed the connection");
        }
        let text = std::str::from_utf8(&answer)?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
        let length: usize = header("content-length: ").context("content-length")?.parse()?;
        if body.len() >= length {
            let retry_after = header("retry-after: ").map(str::parse).transpose()?.map(Duration::from_secs);
            return Ok(Answer { retry_after, body: body.to_owned() });
        }
    }
}

/// Until the server has closed too: what it still does belongs to this registration.
async fn end(mut stream: TlsStream<TcpStream>) {
    if stream.shutdown().await.is_ok() {
        let _ = stream.read_buf(&mut Vec::new()).await;
    }
}
