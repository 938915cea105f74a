//! The webhook that chooses a hub (custom allocation). Spec: DPS-HUB-20 to DPS-HUB-23 (docs/spec/hubs.md).

mod allocation;
mod hook;
mod outcome;

use std::time::Duration;

use bytes::Bytes;

pub use allocation::{Allocation, LeftOut, NotNamed};
pub use outcome::{Outcome, Retryable};

use crate::outbound::{HeaderMap, HeaderValue, HttpsUrl, Method, Outbound, Request};

/// Deadline of one call. Spec: DPS-HUB-20.
pub const CALL_WITHIN: Duration = Duration::from_secs(10);

/// Most bytes of what a webhook is told. Spec: DPS-HUB-20.
pub const REQUEST_BYTES_MAX: usize = 512 * 1024;

/// Most bytes of what it answers. Spec: DPS-HUB-20.
pub const ANSWER_BYTES_MAX: usize = 128 * 1024;

/// Calls webhooks. Cheap to clone.
#[derive(Clone)]
pub struct Webhook {
    outbound: Outbound,
    within: Duration,
}

impl Webhook {
    /// Calls them by this way out.
    pub fn new(outbound: Outbound) -> Self {
        Self { outbound, within: CALL_WITHIN }
    }

    /// The same with another deadline for each call.
    pub fn within(self, within: Duration) -> Self {
        Self { within, ..self }
    }

    /// Tells the webhook at `url` this JSON, once; what came of it. Whether the hub that it names is a linked one is not asked here.
    pub async fn call(&self, url: &HttpsUrl, json: Bytes) -> Outcome {
        if json.len() > REQUEST_BYTES_MAX {
            return Outcome::RequestTooLarge;
        }
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        let request = Request {
            method: Method::POST,
            url,
            headers,
            body: json,
            within: self.within,
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        Outcome::of(self.outbound.exchange(request).await)
    }
}
