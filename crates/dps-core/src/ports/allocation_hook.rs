//! The webhooks that choose hubs. Spec: DPS-REG-28.

use async_trait::async_trait;
use dps_proto::ids::HubName;

use crate::custom_allocation::WebhookUrl;
use crate::enrollment::TwinDocument;
use crate::registration::JsonText;

/// Asks the webhooks of entries. Spec: DPS-REG-28, DPS-HUB-20.
#[async_trait]
pub trait AllocationHook: Send + Sync {
    /// Tells a webhook this JSON, once, within a bounded time.
    async fn ask(&self, url: &WebhookUrl, json: Vec<u8>) -> HookAnswer;
}

/// What came of asking a webhook.
#[derive(Debug)]
pub struct HookAnswer {
    /// What it means.
    pub outcome: AllocationOutcome,
    /// What happened, for the log: nothing of the URL's query, of the request or of the answer's content.
    pub told: String,
}

/// What a webhook answered. Spec: DPS-REG-28.
#[derive(Debug, Clone)]
pub enum AllocationOutcome {
    /// A hub.
    Named(Box<NamedHub>),
    /// Success, and no hub.
    NotNamed,
    /// 401.
    Unauthorized,
    /// Another status, which is for good.
    Refused {
        /// That status.
        status: u16,
    },
    /// Nothing, or a status that may pass.
    Retryable {
        /// That status.
        status: Option<u16>,
    },
    /// Success, and an answer that says nothing.
    Unreadable,
    /// It was not sent anything: its URL is not to be called, or there is too much to tell.
    NotSent,
}

/// What a webhook chose.
#[derive(Debug, Clone)]
pub struct NamedHub {
    /// The hub; it may be one that is not linked.
    pub hub: HubName,
    /// The twin of a device that begins anew there.
    pub initial_twin: Option<TwinDocument>,
    /// For the device: a JSON object.
    pub payload: Option<JsonText>,
}
