//! The values that labels take. None of them can name a device, an address or a group. Spec: DPS-METRICS-1.

use dps_core::ports::AllocationOutcome;
use dps_proto::proxy_header::Origin;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};

use crate::admission::NotAdmitted;
use crate::proxy_protocol::HeaderFault;
use crate::throttle::Throttled;

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

impl Attestation {
    pub(super) const ALL: [Self; 3] = [Self::Proven, Self::Refused, Self::Undecided];
}

/// What an allocation webhook answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum WebhookAnswer {
    /// A hub.
    Named,
    /// Success, and no hub.
    NotNamed,
    /// Another status, for good.
    Refused,
    /// Nothing, or a status that may pass.
    Retryable,
    /// Success, and an answer that says nothing.
    Unreadable,
    /// It was not sent anything.
    NotSent,
}

impl From<&AllocationOutcome> for WebhookAnswer {
    fn from(outcome: &AllocationOutcome) -> Self {
        match outcome {
            AllocationOutcome::Named(_) => Self::Named,
            AllocationOutcome::NotNamed => Self::NotNamed,
            AllocationOutcome::Unauthorized | AllocationOutcome::Refused { .. } => Self::Refused,
            AllocationOutcome::Retryable { .. } => Self::Retryable,
            AllocationOutcome::Unreadable => Self::Unreadable,
            AllocationOutcome::NotSent => Self::NotSent,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct WebhookLabels {
    pub(super) outcome: WebhookAnswer,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct AllocationLabels {
    pub(super) status: &'static str,
}

/// What hubs outside are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum HubWork {
    /// To have a device.
    Placement,
    /// To have a device no longer.
    CleanUp,
    /// Whether they answer.
    Probe,
}

impl HubWork {
    pub(super) const ALL: [Self; 3] = [Self::Placement, Self::CleanUp, Self::Probe];
}

/// What came of one try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum HubOutcome {
    /// It is done.
    Done,
    /// It is not, and not tried again.
    Failed,
    /// It is tried again.
    Postponed,
    /// Another has done it, or the store could not answer.
    Undecided,
}

impl HubOutcome {
    pub(super) const ALL: [Self; 4] = [Self::Done, Self::Failed, Self::Postponed, Self::Undecided];
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct HubWorkLabels {
    pub(super) work: HubWork,
    pub(super) outcome: HubOutcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct HubCallLabels {
    pub(super) work: HubWork,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct HubLabels {
    pub(super) id_scope: String,
    pub(super) hub: String,
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

impl Handshake {
    pub(super) const ALL: [Self; 3] = [Self::Done, Self::Failed, Self::TimedOut];
}

/// What the header of a balancer said. Spec: DPS-LIMIT-15, DPS-LIMIT-16, DPS-LIMIT-18.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum ProxyHeader {
    /// The client's address.
    Client,
    /// That the connection is the balancer's own.
    Local,
    /// Nothing about the client.
    Unspecified,
    /// Something else came in its place.
    Refused,
    /// The connection ended within it.
    BrokenOff,
    /// It took too long.
    TimedOut,
    /// The connection ended before its first byte.
    Nothing,
}

impl ProxyHeader {
    pub(super) const ALL: [Self; 7] = [
        Self::Client,
        Self::Local,
        Self::Unspecified,
        Self::Refused,
        Self::BrokenOff,
        Self::TimedOut,
        Self::Nothing,
    ];
}

impl From<Origin> for ProxyHeader {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Client(_) => Self::Client,
            Origin::Balancer => Self::Local,
            Origin::Unspecified => Self::Unspecified,
        }
    }
}

impl From<HeaderFault> for ProxyHeader {
    fn from(fault: HeaderFault) -> Self {
        match fault {
            HeaderFault::Bad(_) => Self::Refused,
            HeaderFault::BrokenOff | HeaderFault::Lost(_) => Self::BrokenOff,
            HeaderFault::TimedOut { .. } => Self::TimedOut,
            HeaderFault::Nothing => Self::Nothing,
        }
    }
}

/// How a connection of a device or of a client of the service API ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Closed {
    /// The device, or the client, went, with or without a word.
    ByDevice,
    /// CONNECT was refused, or the one request of a client that had never been let in.
    Refused,
    /// The rules of MQTT, of HTTP or of the service were broken.
    Broken,
    /// A time or a size ran out.
    Limit,
    /// A newer connection of the same device took its place.
    TakenOver,
    /// The service stops.
    Shutdown,
    /// The service failed.
    Failure,
}

impl Closed {
    pub(super) const ALL: [Self; 7] = [
        Self::ByDevice,
        Self::Refused,
        Self::Broken,
        Self::Limit,
        Self::TakenOver,
        Self::Shutdown,
        Self::Failure,
    ];
}

/// A limit that a peer ran into. Spec: DPS-METRICS-3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Limit {
    /// Time to finish the TLS handshake, and the header of a balancer before it.
    HandshakeTime,
    /// Bytes of the TLS handshake.
    HandshakeBytes,
    /// Time to send CONNECT.
    ConnectTime,
    /// Time to be attested, or to send the head of a first HTTP request.
    AttestTime,
    /// Time without a packet, or between two HTTP requests.
    IdleTime,
    /// Time to take what is sent.
    WriteTime,
    /// Time to decide a request.
    RequestTime,
    /// Bytes buffered for connections not yet attested.
    UnattestedBytes,
    /// Size or form of a packet, or size of the head of an HTTP request.
    Packet,
    /// Size of the body of an HTTP request.
    Body,
    /// Time to send the body of an HTTP request.
    BodyTime,
    /// Searches for groups.
    GroupSearch,
    /// Connections of all listeners.
    Connections,
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
    /// Questions of a broker. Spec: DPS-BROKER-3.
    BrokerQuestions,
    /// Refusals of a broker's questions: those beyond are not logged one by one. Spec: DPS-BROKER-3.
    BrokerRefusals,
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
    /// A status look-up.
    LookUp,
}

/// What a broker asked about a device. Spec: DPS-BROKER-14.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum BrokerAsked {
    /// Whether it may connect.
    User,
    /// Whether it may use a virtual host.
    VirtualHost,
    /// Whether it may use a queue or an exchange.
    Resource,
    /// Whether it may use a topic.
    Topic,
}

impl BrokerAsked {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::User, Self::VirtualHost, Self::Resource, Self::Topic];

    /// The word for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::VirtualHost => "vhost",
            Self::Resource => "resource",
            Self::Topic => "topic",
        }
    }
}

/// What a broker was told. Spec: DPS-BROKER-14.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum BrokerAnswer {
    /// Yes.
    Allowed,
    /// No.
    Refused,
    /// Nothing: the question could not be read, or not be decided.
    Undecided,
}

impl BrokerAnswer {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Allowed, Self::Refused, Self::Undecided];
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BrokerLabels {
    pub(super) asked: BrokerAsked,
    pub(super) outcome: BrokerAnswer,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct AttestationLabels {
    pub(super) outcome: Attestation,
    pub(super) transport: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RegistrationLabels {
    pub(super) status: &'static str,
    pub(super) transport: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct AssignmentLabels {
    pub(super) hub: String,
    pub(super) substatus: &'static str,
    pub(super) transport: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct HandshakeLabels {
    pub(super) outcome: Handshake,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ProxyHeaderLabels {
    pub(super) outcome: ProxyHeader,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ClosedLabels {
    pub(super) outcome: Closed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct LimitLabels {
    pub(super) limit: Limit,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub(super) asked: Asked,
    pub(super) transport: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ServiceRequestLabels {
    pub(super) operation: &'static str,
    pub(super) status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CertificateLabels {
    pub(super) certificate: &'static str,
}
