//! Numbers for whoever runs the service. Spec: DPS-METRICS-1 to DPS-METRICS-3 (docs/spec/metrics.md).
//!
//! No label names a device: a fleet must not become a million time series.

use std::time::Duration;

use dps_core::register::Registered;
use dps_core::registration::State;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::admission::NotAdmitted;
use crate::fault::Transport;
use crate::throttle::Throttled;

/// All numbers of one process. Owned, not global, so that tests have their own.
pub struct Metrics {
    registry: Registry,
    attestation_attempts: Family<AttestationLabels, Counter>,
    registrations: Family<RegistrationLabels, Counter>,
    assignments: Family<AssignmentLabels, Counter>,
    handshakes: Family<HandshakeLabels, Counter>,
    limits_hit: Family<LimitLabels, Counter>,
    connections: Gauge,
    request_seconds: Family<RequestLabels, Histogram>,
    service_requests: Family<ServiceRequestLabels, Counter>,
}

/// What became of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Attestation {
    /// It proved the device.
    Proven,
    /// It did not.
    Refused,
    /// It could not be judged: the service was busy or broken.
    Undecided,
}

/// How a TLS handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Handshake {
    /// TLS stands.
    Done,
    /// One side refused.
    Failed,
    /// It took too long.
    TimedOut,
}

/// A limit that a peer ran into. Spec: DPS-METRICS-3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Limit {
    /// Time to finish the TLS handshake.
    HandshakeTime,
    /// Time to send CONNECT.
    ConnectTime,
    /// Time to be attested.
    AttestTime,
    /// Time without a packet.
    IdleTime,
    /// Time to take what is sent.
    WriteTime,
    /// Time to decide a request.
    RequestTime,
    /// Bytes buffered for connections not yet attested.
    UnattestedBytes,
    /// Size or form of a packet.
    Packet,
    /// Searches for groups.
    GroupSearch,
    /// Connections of one address.
    AddressConnections,
    /// Connections that have not proved themselves.
    UnattestedConnections,
    /// Requests being decided at one time.
    RequestsInFlight,
    /// Registers of an instance.
    Registrations,
    /// Polls of a device.
    Polls,
    /// Credentials that proved nothing.
    FailedAttestations,
}

impl From<Throttled> for Limit {
    fn from(throttled: Throttled) -> Self {
        match throttled {
            Throttled::InFlight => Self::RequestsInFlight,
            Throttled::Registrations => Self::Registrations,
            Throttled::Polls => Self::Polls,
            Throttled::FailedAttestations => Self::FailedAttestations,
        }
    }
}

impl From<NotAdmitted> for Limit {
    fn from(refused: NotAdmitted) -> Self {
        match refused {
            NotAdmitted::Address(_) => Self::AddressConnections,
            NotAdmitted::Unattested => Self::UnattestedConnections,
        }
    }
}

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Asked {
    /// A register.
    Register,
    /// A poll.
    Poll,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttestationLabels {
    outcome: Attestation,
    transport: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RegistrationLabels {
    status: &'static str,
    transport: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AssignmentLabels {
    hub: String,
    transport: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceRequestLabels {
    operation: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandshakeLabels {
    outcome: Handshake,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    limit: Limit,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    asked: Asked,
    transport: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("harbormaster"),
            attestation_attempts: Family::default(),
            registrations: Family::default(),
            assignments: Family::default(),
            handshakes: Family::default(),
            limits_hit: Family::default(),
            connections: Gauge::default(),
            // From half a millisecond to sixteen seconds: a commit, up to the limit of a request.
            request_seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.000_5, 2.0, 16))
            }),
            service_requests: Family::default(),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "attestation_attempts",
            "Requests by what became of their credential",
            metrics.attestation_attempts.clone(),
        );
        registry.register(
            "registrations",
            "Registers by the status they led to",
            metrics.registrations.clone(),
        );
        registry.register("device_assignments", "Registers that ended at a hub", metrics.assignments.clone());
        registry.register("tls_handshakes", "TLS handshakes by how they ended", metrics.handshakes.clone());
        registry.register("limits_hit", "Peers refused or cut off by a limit", metrics.limits_hit.clone());
        registry.register("connections", "Open connections", metrics.connections.clone());
        registry.register_with_unit(
            "request",
            "Time to decide a request, the commit included",
            Unit::Seconds,
            metrics.request_seconds.clone(),
        );
        registry.register(
            "service_requests",
            "Requests to the service API by operation and status",
            metrics.service_requests.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// The OpenMetrics text. Spec: DPS-METRICS-1.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// A credential was judged, or could not be.
    pub fn attested(&self, outcome: Attestation, transport: Transport) {
        let labels = AttestationLabels { outcome, transport: transport.as_str() };
        self.attestation_attempts.get_or_create(&labels).inc();
    }

    /// A register was carried out.
    pub fn registered(&self, registered: &Registered, transport: Transport) {
        let transport = transport.as_str();
        let state = match registered {
            Registered::Accepted { registration, .. } | Registered::Disabled { registration } => {
                &registration.state
            }
        };
        let status = match state {
            State::Assigning { .. } => "assigning",
            State::Assigned { .. } => "assigned",
            State::Failed { .. } => "failed",
            State::Disabled { .. } => "disabled",
        };
        self.registrations.get_or_create(&RegistrationLabels { status, transport }).inc();
        if let State::Assigned { assignment, .. } = state {
            let hub = assignment.hub.folded().to_owned();
            self.assignments.get_or_create(&AssignmentLabels { hub, transport }).inc();
        }
    }

    /// A request was decided.
    pub fn decided(&self, asked: Asked, transport: Transport, took: Duration) {
        let labels = RequestLabels { asked, transport: transport.as_str() };
        self.request_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A request to the service API was answered; `operation` is one of a few words of ours.
    pub fn service_request(&self, operation: &'static str, status: u16) {
        self.service_requests.get_or_create(&ServiceRequestLabels { operation, status }).inc();
    }

    /// A TLS handshake ended.
    pub fn handshake(&self, outcome: Handshake) {
        self.handshakes.get_or_create(&HandshakeLabels { outcome }).inc();
    }

    /// A peer ran into a limit.
    pub fn limit_hit(&self, limit: Limit) {
        self.limits_hit.get_or_create(&LimitLabels { limit }).inc();
    }

    /// A connection is open for as long as the returned value lives.
    pub fn connection(&self) -> OpenConnection {
        self.connections.inc();
        OpenConnection(self.connections.clone())
    }
}

/// One open connection in the gauge.
pub struct OpenConnection(Gauge<i64, std::sync::atomic::AtomicI64>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-METRICS-1, DPS-METRICS-2, DPS-METRICS-3
    #[test]
    fn what_happened_is_counted_by_outcome_and_never_by_device() {
        let metrics = Metrics::default();
        metrics.attested(Attestation::Refused, Transport::Mqtt);
        metrics.attested(Attestation::Refused, Transport::Mqtt);
        metrics.handshake(Handshake::TimedOut);
        metrics.service_request("read-entry", 404);
        metrics.limit_hit(Limit::HandshakeTime);
        metrics.decided(Asked::Poll, Transport::Mqtt, Duration::from_millis(1));
        let open = metrics.connection();
        let text = metrics.render();
        for line in [
            r#"harbormaster_attestation_attempts_total{outcome="Refused",transport="mqtt"} 2"#,
            r#"harbormaster_tls_handshakes_total{outcome="TimedOut"} 1"#,
            r#"harbormaster_service_requests_total{operation="read-entry",status="404"} 1"#,
            r#"harbormaster_limits_hit_total{limit="HandshakeTime"} 1"#,
            r#"harbormaster_request_seconds_count{asked="Poll",transport="mqtt"} 1"#,
            "harbormaster_connections 1",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        drop(open);
        assert!(metrics.render().contains("harbormaster_connections 0"));
    }
}
