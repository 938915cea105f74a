//! Custom allocation: asks the webhooks of entries for hubs. Spec: DPS-REG-28 to DPS-REG-33.
//!
//! [`AllocationWorker`] claims what waits in the store, `question` says it in the webhook's words, and the registrar decides what
//! comes of the answer.

mod question;
mod worker;

pub use question::question;
pub use worker::{AllocationWorker, CALLS_MAX, CALLS_PER_HOST_MAX, LEASE};
