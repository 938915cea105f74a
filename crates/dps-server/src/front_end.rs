//! What all listeners and connections of a node share.

use std::net::SocketAddr;
use std::sync::Arc;

use dps_core::register::Registrar;
use dps_core::registration::{Registration, State, Substatus};

use crate::admission::Admission;

use crate::challenged::Challenged;
use crate::claims::Due;
use crate::expiry_warnings::ExpiryWarnings;
use crate::explain::Explanations;
use crate::limits::{ByteBudget, Limits};
use crate::metrics::Metrics;
use crate::moments::Moments;
use crate::mqtt::Takeovers;
use crate::proxy_protocol::Balancers;
use crate::throttle::Throttles;

/// One for each node, whatever it listens on.
pub struct FrontEnd {
    /// Decides.
    pub registrar: Arc<Registrar>,
    /// Time and randomness.
    pub moments: Arc<dyn Moments>,
    /// Sizes, counts and waits.
    pub limits: Limits,
    /// Who may connect. Spec: DPS-LIMIT-1, DPS-LIMIT-2.
    pub admission: Arc<Admission>,
    /// Who names the clients of the connections that it passes on. Spec: DPS-LIMIT-14.
    pub balancers: Balancers,
    /// Who asks too often. Spec: DPS-LIMIT-4 to DPS-LIMIT-7.
    pub throttles: Throttles,
    /// Which connection each device is on.
    pub takeovers: Takeovers,
    /// Bytes for connections not yet attested.
    pub unattested_bytes: Arc<ByteBudget>,
    /// Why devices were refused.
    pub explanations: Arc<Explanations>,
    /// Which TPMs were challenged lately.
    pub challenged: Challenged,
    /// Which signing certificates were warned of.
    pub expiry_warnings: ExpiryWarnings,
    /// Wakes whoever asks the webhooks.
    pub allocations: Due,
    /// Wakes whoever asks the hubs outside for devices.
    pub placements: Due,
    /// Wakes whoever has devices gone from them.
    pub clean_ups: Due,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl FrontEnd {
    /// A front end that keeps to `limits`, behind no balancer.
    pub fn new(registrar: Arc<Registrar>, moments: Arc<dyn Moments>, limits: Limits) -> Self {
        Self {
            registrar,
            moments,
            admission: Admission::new(&limits),
            balancers: Balancers::default(),
            throttles: Throttles::new(&limits),
            takeovers: Takeovers::default(),
            unattested_bytes: ByteBudget::new(limits.unattested_bytes),
            explanations: Arc::default(),
            challenged: Challenged::default(),
            expiry_warnings: ExpiryWarnings::default(),
            allocations: Due::default(),
            placements: Due::default(),
            clean_ups: Due::default(),
            metrics: Arc::default(),
            limits,
        }
    }

    /// Wakes the workers that a record waits for which was just written.
    pub(crate) fn wake_for(&self, record: &Registration) {
        match &record.state {
            State::Choosing { .. } => self.allocations.wake(),
            State::Assigning { .. } => self.placements.wake(),
            // It may have left a hub outside.
            State::Assigned {
                substatus: Substatus::DeviceDataMigrated | Substatus::DeviceDataReset, ..
            } => {
                self.clean_ups.wake();
            }
            State::Assigned { .. } | State::Failed { .. } | State::Disabled { .. } => {}
        }
    }
}

/// Whose connection it is, for the log.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Counts up from the start of the process.
    pub connection: u64,
    /// Where it comes from: behind a balancer, the client. Spec: DPS-LIMIT-14.
    pub address: SocketAddr,
}
