//! What the head of a request says.

use dps_proto::api_version::{ApiVersion, BadApiVersion};
use hyper::header;
use hyper::http::request::Parts;

/// The host that the client called, with its port.
pub(crate) fn host(head: &Parts) -> &str {
    let header = || head.headers.get(header::HOST).and_then(|value| value.to_str().ok());
    head.uri.authority().map(|authority| authority.as_str()).or_else(header).unwrap_or_default()
}

/// Spec: DPS-SERVICE-2, DPS-HTTPS-2.
pub(crate) fn api_version(head: &Parts) -> Result<ApiVersion, BadApiVersion> {
    let mut parts = head.uri.query().unwrap_or_default().split('&').filter_map(|part| part.split_once('='));
    let (_, version) =
        parts.find(|(name, _)| name.eq_ignore_ascii_case("api-version")).ok_or(BadApiVersion)?;
    version.parse()
}
