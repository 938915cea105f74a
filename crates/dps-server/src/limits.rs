//! Every size, count and wait that a peer can influence. Spec: DPS-MQTT-26, DPS-MQTT-27, DPS-MQTT-30.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dps_proto::mqtt::SessionLimits;

/// The limits of one node. Spec: DPS-LIMIT-1 to DPS-LIMIT-9 (docs/spec/limits.md).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at one time, of all listeners together; more wait in the kernel's queue.
    pub connections: usize,
    /// Connections at one time from one address; no limit where absent.
    pub connections_per_address: Option<usize>,
    /// Connections at one time that have not proved themselves yet. Spec: DPS-LIMIT-2.
    pub unattested_connections: usize,
    /// Time to finish the TLS handshake, and the header of a balancer before it. Spec: DPS-LIMIT-17.
    pub handshake_within: Duration,
    /// Deadlines of an MQTT session: CONNECT, first proof, idleness.
    pub session: SessionLimits,
    /// Time for one request to be decided; then the device is told to ask again.
    pub request_within: Duration,
    /// Time for a device to take what it is sent.
    pub write_within: Duration,
    /// Time for connections to end when the service stops.
    pub drain_within: Duration,
    /// Bytes that all connections not yet attested may have buffered together. Spec: DPS-MQTT-30.
    pub unattested_bytes: usize,
    /// Requests that are being decided at one time. Spec: DPS-LIMIT-4.
    pub requests_in_flight: usize,
    /// Registers a minute for each service instance; no limit where absent. Azure's is 1,000. Spec: DPS-LIMIT-5.
    pub registrations_per_minute: Option<NonZeroU32>,
    /// Polls of one device in 10 seconds; no limit where absent. Azure's is 5. Spec: DPS-LIMIT-6.
    pub polls_per_device: Option<NonZeroU32>,
    /// Failed attestations a minute of one address with one registration id; ten times as many of one address with any.
    /// No limit where absent, as in `dev`. Spec: DPS-LIMIT-7.
    pub failed_attestations_per_minute: Option<NonZeroU32>,
    /// Failed attestations a minute after which an address counts as guessing; none does where absent, as in `dev`.
    /// Spec: DPS-LIMIT-8.
    pub guesses_per_minute: Option<NonZeroU32>,
    /// Questions a second of a broker at one address; no limit where absent. Spec: DPS-BROKER-3.
    pub broker_questions_per_second: Option<NonZeroU32>,
    /// Devices that are being brought to hubs outside at one time. Spec: DPS-REG-40.
    pub hub_work: usize,
    /// Of these, for one hub. Spec: DPS-REG-40.
    pub hub_work_per_hub: u32,
    /// Seconds that a device waits before it asks again, 2 to 5: some clients ignore anything else. Spec: DPS-REG-9.
    pub retry_after_s: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_address: None,
            unattested_connections: 10_000,
            handshake_within: Duration::from_secs(15),
            session: SessionLimits::default(),
            // The Java client gives a poll 10 s.
            request_within: Duration::from_secs(8),
            write_within: Duration::from_secs(20),
            drain_within: Duration::from_secs(10),
            unattested_bytes: 64 * 1024 * 1024,
            requests_in_flight: 4_096,
            registrations_per_minute: None,
            polls_per_device: None,
            failed_attestations_per_minute: NonZeroU32::new(30),
            guesses_per_minute: NonZeroU32::new(20),
            broker_questions_per_second: NonZeroU32::new(2_000),
            hub_work: 512,
            hub_work_per_hub: 16,
            retry_after_s: 3,
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
