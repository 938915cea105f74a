//! Custom allocation: asks the webhooks of entries for hubs. Spec: DPS-REG-28 to DPS-REG-33.
//!
//! [`AllocationWorker`] claims what waits in the store, `question` says it in the webhook's words, and the registrar decides what
//! comes of the answer.

mod question;
mod worker;

use tokio::sync::Notify;

pub use question::question;
pub use worker::{AllocationWorker, CALLS_MAX, CALLS_PER_HOST_MAX, LEASE};

/// Tells the worker of this node that something new waits.
#[derive(Debug, Default)]
pub struct AllocationsDue(Notify);

impl AllocationsDue {
    /// Something waits, and is durable.
    pub(crate) fn wake(&self) {
        self.0.notify_one();
    }

    async fn woken(&self) {
        self.0.notified().await;
    }
}
