//! Every size, count and wait that a peer can influence. Spec: DPS-MQTT-26, DPS-MQTT-27, DPS-MQTT-30.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Limits of one listener.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at one time; more wait in the kernel's queue.
    pub connections: usize,
    /// Time to finish the TLS handshake.
    pub handshake_within: Duration,
    /// Time for one request to be decided; then the device is told to ask again.
    pub request_within: Duration,
    /// Time for a device to take what it is sent.
    pub write_within: Duration,
    /// Time for connections to end when the service stops.
    pub drain_within: Duration,
    /// Bytes that all connections not yet attested may have buffered together. Spec: DPS-MQTT-30.
    pub unattested_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            handshake_within: Duration::from_secs(15),
            request_within: Duration::from_secs(20),
            write_within: Duration::from_secs(20),
            drain_within: Duration::from_secs(10),
            unattested_bytes: 64 * 1024 * 1024,
        }
    }
}

/// A number of bytes that many connections share. Spec: DPS-MQTT-30.
#[derive(Debug)]
pub struct ByteBudget {
    left: AtomicUsize,
}

/// The budget is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes that connections not yet attested may buffer are used up")]
pub struct BudgetSpent;

impl ByteBudget {
    /// A budget of `bytes`.
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(bytes) })
    }

    fn take(&self, bytes: usize) -> Result<(), BudgetSpent> {
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes))
            .map(|_| ())
            .map_err(|_| BudgetSpent)
    }

    fn give_back(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// One connection's part of a [`ByteBudget`]; given back when it is dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<ByteBudget>,
    bytes: usize,
}

impl Charge {
    /// Nothing yet.
    pub fn new(budget: Arc<ByteBudget>) -> Self {
        Self { budget, bytes: 0 }
    }

    /// Makes it `bytes`, more or less than before.
    pub fn resize(&mut self, bytes: usize) -> Result<(), BudgetSpent> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.budget.take(more)?,
            None => self.budget.give_back(self.bytes - bytes),
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-MQTT-30
    #[test]
    fn a_budget_is_shared_and_given_back() {
        let budget = ByteBudget::new(100);
        let (mut first, mut second) = (Charge::new(Arc::clone(&budget)), Charge::new(Arc::clone(&budget)));
        assert_eq!(first.resize(60), Ok(()));
        assert_eq!(second.resize(60), Err(BudgetSpent));
        assert_eq!(first.resize(40), Ok(()));
        assert_eq!(second.resize(60), Ok(()));
        drop(first);
        assert_eq!(second.resize(100), Ok(()));
    }
}
