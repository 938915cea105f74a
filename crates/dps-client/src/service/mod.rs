//! A client of the service API: enrollments, enrollment groups and registration records.
//! Spec: DPS-CLI-2, DPS-CLI-5, DPS-CLI-11 (docs/spec/cli.md).

mod bulk;
mod error;
mod pages;
mod resource;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dps_proto::connection_string::ServiceConnectionString;
use dps_proto::sas::sign_service_token;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, IF_MATCH, USER_AGENT,
};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::value::RawValue;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub use bulk::{BULK_ENTRIES_MAX, BulkFailure, BulkMode};
pub use error::{Refusal, ServiceError};
pub use pages::Pages;
pub use resource::{EntryName, Listing, Resource};

/// The api-version that requests name: the last stable one. Spec: DPS-CLI-2.
pub const API_VERSION: &str = "2021-10-01";

/// How long the token of one request is valid. Spec: DPS-CLI-2.
const TOKEN_LIFETIME: SignedDuration = SignedDuration::from_mins(10);

/// Most bytes of an answer. A page of 1,000 entries with certificates and twins stays below. Spec: DPS-CLI-5.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How long a client waits. Spec: DPS-CLI-5.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// For name look-up, TCP and TLS together.
    pub connect: Duration,
    /// For one whole answer, from the first byte of the request on.
    pub answer: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), answer: Duration::from_secs(60) }
    }
}

/// Under which condition a write is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMatch {
    /// Whatever is there.
    Any,
    /// What is there is still what was read.
    ETag(String),
}

/// Speaks for one shared access policy. Keeps its connection from one request to the next; follows no redirects.
#[derive(Debug)]
pub struct ServiceClient {
    connection_string: ServiceConnectionString,
    /// Where to connect, if not to what the host's name resolves to.
    address: Option<SocketAddr>,
    tls: Arc<ClientConfig>,
    deadlines: Deadlines,
    connection: Option<SendRequest<Full<Bytes>>>,
}

struct Answer {
    headers: HeaderMap,
    body: Bytes,
}

impl ServiceClient {
    /// A client that has not connected yet.
    pub fn new(
        connection_string: ServiceConnectionString,
        tls: Arc<ClientConfig>,
        deadlines: Deadlines,
    ) -> Self {
        Self { connection_string, address: None, tls, deadlines, connection: None }
    }

    /// The same client, which connects to that address. Certificate, requests and tokens are for the host of the connection string
    /// all the same.
    pub fn connecting_to(self, address: SocketAddr) -> Self {
        Self { address: Some(address), ..self }
    }

    /// Reads an entry, its keys left out, or a record.
    pub async fn get(&mut self, resource: &Resource) -> Result<Box<RawValue>, ServiceError> {
        let answer = self.ask(Method::GET, &resource.path(), HeaderMap::new(), None).await?;
        self.json(&answer.body)
    }

    /// Creates an entry (without a condition) or changes one (with one); the entry as it is then, with its keys.
    pub async fn put(
        &mut self,
        entry: &EntryName,
        body: String,
        if_match: Option<&IfMatch>,
    ) -> Result<Box<RawValue>, ServiceError> {
        let answer = self.ask(Method::PUT, &entry.path(), condition(if_match)?, Some(body)).await?;
        self.json(&answer.body)
    }

    /// Deletes an entry or a record.
    pub async fn delete(
        &mut self,
        resource: &Resource,
        if_match: Option<&IfMatch>,
    ) -> Result<(), ServiceError> {
        self.ask(Method::DELETE, &resource.path(), condition(if_match)?, None).await.map(drop)
    }

    /// An entry's attestation, with its keys.
    pub async fn attestation_mechanism(&mut self, entry: &EntryName) -> Result<Box<RawValue>, ServiceError> {
        let path = format!("{}/attestationmechanism", entry.path());
        let answer = self.ask(Method::POST, &path, HeaderMap::new(), None).await?;
        self.json(&answer.body)
    }

    /// A list of at most `limit` items.
    pub fn list(&mut self, listing: Listing, limit: Option<usize>) -> Pages<'_> {
        Pages::new(self, listing, limit)
    }

    async fn page(
        &mut self,
        listing: &Listing,
        continuation: Option<&str>,
        items_max: Option<usize>,
    ) -> Result<(Vec<Box<RawValue>>, Option<String>), ServiceError> {
        let mut headers = HeaderMap::new();
        if let Some(items_max) = items_max {
            headers.insert("x-ms-max-item-count", HeaderValue::from(items_max));
        }
        if let Some(continuation) = continuation {
            headers.insert("x-ms-continuation", header_value(continuation)?);
        }
        let query = r#"{"query":"SELECT *"}"#.to_owned();
        let answer = self.ask(Method::POST, &listing.path(), headers, Some(query)).await?;
        let items = serde_json::from_slice(&answer.body).map_err(|why| self.not_of_the_api(why))?;
        let continuation = match answer.headers.get("x-ms-continuation").map(HeaderValue::to_str) {
            None | Some(Ok("")) => None,
            Some(Ok(token)) => Some(token.to_owned()),
            Some(Err(why)) => return Err(self.not_of_the_api(why)),
        };
        Ok((items, continuation))
    }

    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        mut headers: HeaderMap,
        body: Option<String>,
    ) -> Result<Answer, ServiceError> {
        let authority = self.connection_string.authority();
        headers.insert(HOST, header_value(authority)?);
        headers.insert(AUTHORIZATION, self.token()?);
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("harbormaster/", env!("CARGO_PKG_VERSION"))),
        );
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        } else if method == Method::POST {
            // Servers answer 411 to a POST that does not say so.
            headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
        }
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{path}?api-version={API_VERSION}"))
            .body(Full::new(Bytes::from(body.unwrap_or_default())))?;
        *request.headers_mut() = headers;

        let mut sender = self.connected().await?;
        let within = self.deadlines.answer;
        let late = |_| ServiceError::TimedOut { authority: self.authority(), within };
        let answer = timeout(within, exchange(&mut sender, request)).await.map_err(late)?;
        let (parts, body) = answer.map_err(|why| self.broken(why))?;
        self.connection = Some(sender);
        if parts.status.is_success() {
            return Ok(Answer { headers: parts.headers, body });
        }
        Err(ServiceError::Refused(Refusal::read(parts.status, &parts.headers, &body)))
    }

    /// The connection of the last request if it still stands, else a new one.
    async fn connected(&mut self) -> Result<SendRequest<Full<Bytes>>, ServiceError> {
        let within = self.deadlines.connect;
        let late =
            |_| ServiceError::TimedOut { authority: self.connection_string.authority().to_owned(), within };
        if let Some(mut kept) = self.connection.take()
            && timeout(within, kept.ready()).await.map_err(late)?.is_ok()
        {
            return Ok(kept);
        }
        let stream = timeout(within, self.connect()).await.map_err(late)??;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|why| self.broken(why.into()))?;
        // It ends with the sender; what it would report, the answer reports too.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>, ServiceError> {
        let (host, port) = (self.connection_string.host(), self.connection_string.port());
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| ServiceError::ServerName(host.to_owned()))?;
        let tcp = match self.address {
            Some(address) => TcpStream::connect(address).await,
            None => TcpStream::connect((host, port)).await,
        };
        let tcp = tcp.map_err(|why| ServiceError::Unreachable { authority: self.authority(), why })?;
        TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, tcp)
            .await
            .map_err(|why| error::handshake_failure(self.connection_string.authority(), why))
    }

    fn token(&self) -> Result<HeaderValue, ServiceError> {
        let expiry = Timestamp::now().saturating_add(TOKEN_LIFETIME).unwrap_or(Timestamp::MAX);
        let given = &self.connection_string;
        let mut token =
            header_value(&sign_service_token(given.authority(), given.policy(), given.key(), expiry))?;
        token.set_sensitive(true);
        Ok(token)
    }

    fn json(&self, body: &Bytes) -> Result<Box<RawValue>, ServiceError> {
        serde_json::from_slice(body).map_err(|why| self.not_of_the_api(why))
    }

    fn authority(&self) -> String {
        self.connection_string.authority().to_owned()
    }

    fn broken(&self, why: Box<dyn std::error::Error + Send + Sync>) -> ServiceError {
        ServiceError::Broken { authority: self.authority(), why }
    }

    fn not_of_the_api(&self, why: impl std::fmt::Display) -> ServiceError {
        ServiceError::NotOfTheApi { authority: self.authority(), why: why.to_string() }
    }
}

async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<(hyper::http::response::Parts, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?;
    Ok((parts, body.to_bytes()))
}

fn condition(if_match: Option<&IfMatch>) -> Result<HeaderMap, ServiceError> {
    let mut headers = HeaderMap::new();
    match if_match {
        None => {}
        Some(IfMatch::Any) => drop(headers.insert(IF_MATCH, HeaderValue::from_static("*"))),
        Some(IfMatch::ETag(etag)) => drop(headers.insert(IF_MATCH, header_value(etag)?)),
    }
    Ok(headers)
}

fn header_value(text: &str) -> Result<HeaderValue, ServiceError> {
    HeaderValue::from_str(text).map_err(|why| ServiceError::Request(why.into()))
}
