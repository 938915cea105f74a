//! The one way out for every URL that users set: webhooks and hubs. Spec: DPS-HUB-1 to DPS-HUB-8 (docs/spec/hubs.md).
//!
//! Whoever may write an enrollment names a URL, and this machine stands where they do not: beside a metadata service, inside a
//! network. So every address is judged before it is connected to, and nothing is followed that an answer names.

mod address_kind;
mod allowed_targets;
mod exchange;
mod failure;
mod https_url;
mod names;
mod trust;

pub use address_kind::AddressKind;
pub use allowed_targets::{AllowedTargets, BadTarget, RefusedAddress};
pub use exchange::{Answer, IDLE_CONNECTIONS_MAX, Outbound, OutboundSettingsError, Request};
pub use failure::OutboundError;
pub use https_url::{BadUrl, HttpsUrl, URL_BYTES_MAX};
pub use names::{ADDRESSES_MAX, LOOK_UPS_MAX, Names, SystemNames};
pub use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
pub use reqwest::{Method, StatusCode};
pub use trust::{Trust, TrustError, TrustedRoots};
