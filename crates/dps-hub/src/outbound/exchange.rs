//! One request and its answer. Spec: DPS-HUB-4 to DPS-HUB-7.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, StatusCode, redirect, retry};
use tokio::time::timeout;

use super::allowed_targets::AllowedTargets;
use super::failure::{NoAddress, OutboundError};
use super::https_url::HttpsUrl;
use super::names::{ADDRESSES_MAX, Names, SystemNames};
use super::trust::TrustedRoots;

/// Most connections to one host that are kept for the next request: there are never more than there were calls at a time. With fewer
/// than those, each round of calls would begin with as many handshakes as are missing. Spec: DPS-HUB-5.
pub const IDLE_CONNECTIONS_MAX: usize = 512;

/// How long they are kept.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// Most header fields of an answer; their bytes are bounded by hyper's buffer of about 400 KiB. Spec: DPS-HUB-7.
const HEADER_FIELDS_MAX: usize = 100;

/// Sends requests to where users want them, and nowhere else. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Outbound {
    allowed: Arc<AllowedTargets>,
    client: Client,
}

/// The TLS settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("settings of outgoing connections: {0}")]
pub struct OutboundSettingsError(String);

/// What to send.
pub struct Request<'u> {
    /// The method.
    pub method: Method,
    /// Where to.
    pub url: &'u HttpsUrl,
    /// Header fields, but for `host` and `content-length`. Those that hold secrets are marked as sensitive.
    pub headers: HeaderMap,
    /// The body, which the caller has bounded.
    pub body: Bytes,
    /// Deadline of the whole exchange: look-up, connection, TLS, request and the last byte of the answer.
    pub within: Duration,
    /// Most bytes of the answer's body.
    pub answer_bytes_max: usize,
}

/// What came back, whatever its status.
#[derive(Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Outbound {
    /// Names are looked up as the system does.
    ///
    /// # Errors
    /// Where rustls refuses the settings.
    pub fn new(allowed: AllowedTargets, roots: TrustedRoots) -> Result<Self, OutboundSettingsError> {
        Self::with_names(allowed, roots, Arc::new(SystemNames::default()))
    }

    /// The same, with another way to look names up.
    ///
    /// # Errors
    /// As [`Outbound::new`].
    pub fn with_names(
        allowed: AllowedTargets,
        roots: TrustedRoots,
        names: Arc<dyn Names>,
    ) -> Result<Self, OutboundSettingsError> {
        let allowed = Arc::new(allowed);
        let tls = roots.tls().map_err(|why| OutboundSettingsError(why.to_string()))?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .referer(false)
            .dns_resolver(JudgedNames { allowed: Arc::clone(&allowed), names })
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .pool_idle_timeout(IDLE_MAX)
            .http1_max_headers(HEADER_FIELDS_MAX)
            .user_agent(concat!("harbormaster/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|why| OutboundSettingsError(why.to_string()))?;
        Ok(Self { allowed, client })
    }

    /// Sends a request and takes the answer, a redirect too, as it comes.
    ///
    /// # Errors
    /// Where no answer came, or not all of it.
    pub async fn exchange(&self, request: Request<'_>) -> Result<Answer, OutboundError> {
        let (url, within) = (request.url, request.within);
        // The library asks no resolver about a host that is an address.
        if let Some(address) = url.address() {
            self.allowed.judge(url.host(), address)?;
        }
        let late = |_| OutboundError::TimedOut { authority: url.authority(), within };
        timeout(within, self.answer(request)).await.map_err(late)?
    }

    async fn answer(&self, request: Request<'_>) -> Result<Answer, OutboundError> {
        let Request { method, url, headers, body, answer_bytes_max, .. } = request;
        let failed = |why: reqwest::Error| OutboundError::of(url, &why);
        let too_large =
            || OutboundError::AnswerTooLarge { authority: url.authority(), bytes_max: answer_bytes_max };
        let sent = self.client.request(method, url.url().clone()).headers(headers).body(body).send();
        let mut answer = sent.await.map_err(failed)?;
        if answer.content_length().is_some_and(|length| length > answer_bytes_max as u64) {
            return Err(too_large());
        }
        let mut body = BytesMut::new();
        while let Some(piece) = answer.chunk().await.map_err(failed)? {
            if body.len() + piece.len() > answer_bytes_max {
                return Err(too_large());
            }
            body.extend_from_slice(&piece);
        }
        let headers = std::mem::take(answer.headers_mut());
        Ok(Answer { status: answer.status(), headers, body: body.freeze() })
    }
}

/// Gives the library those addresses to connect to that were judged, and no chance to ask again. Spec: DPS-HUB-4.
struct JudgedNames {
    allowed: Arc<AllowedTargets>,
    names: Arc<dyn Names>,
}

impl Resolve for JudgedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let (allowed, names) = (Arc::clone(&self.allowed), Arc::clone(&self.names));
        Box::pin(async move {
            let host = name.as_str();
            let addresses = names.look_up(host).await.map_err(|why| NoAddress(why.to_string()))?;
            if addresses.is_empty() {
                return Err(NoAddress("it has no address".to_owned()).into());
            }
            if addresses.len() > ADDRESSES_MAX {
                return Err(NoAddress(format!("it has more than {ADDRESSES_MAX} addresses")).into());
            }
            // One that is refused refuses all: which of them is connected to is not for whoever sets the name to try out.
            addresses.iter().try_for_each(|address| allowed.judge(host, *address))?;
            // The library puts the port of the URL in place of 0.
            let judged: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(judged)
        })
    }
}
