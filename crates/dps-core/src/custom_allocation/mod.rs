//! Custom allocation: a webhook of the entry's author names the hub. Spec: DPS-REG-26 to DPS-REG-33 (docs/spec/registration.md).
//!
//! Nothing here asks anybody: `request.rs` says what a webhook is asked, `settling.rs` what comes of its answer.

mod request;
mod retry;
mod settling;
mod standing;
mod webhook_url;

pub use request::{AllocationRequest, Asking, AskingEntry, Proof};
pub use retry::{RETRIES_MAX, retry_delay};
pub use settling::Settled;
pub use webhook_url::{BadWebhookUrl, WEBHOOK_URL_BYTES_MAX, WebhookUrl};

/// Whom an entry asks for a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomAllocation {
    /// Where it is asked.
    pub webhook_url: WebhookUrl,
    /// The date that its author wrote the webhook for; what it is told is the same for all of them.
    pub api_version: Box<str>,
}
