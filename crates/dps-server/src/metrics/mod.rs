//! Numbers for whoever runs the service. Spec: DPS-METRICS-1 to DPS-METRICS-8 (docs/spec/metrics.md).
//!
//! No label names a device: a fleet must not become a million time series. docs/metrics.md describes every number.

mod labels;
mod registered;

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use dps_core::ports::WriteObserver;
use dps_core::register::Registered;
use dps_core::registration::{Assignment, State, Substatus};
use dps_proto::ids::{HubName, IdScope};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};

pub use self::labels::{
    Asked, Attestation, BrokerAnswer, BrokerAsked, Closed, Handshake, HubOutcome, HubWork, Limit,
    ProxyHeader, WebhookAnswer,
};

use self::labels::{
    AllocationLabels, AssignmentLabels, AttestationLabels, BrokerLabels, CertificateLabels, ClosedLabels,
    HandshakeLabels, HubCallLabels, HubLabels, HubWorkLabels, LimitLabels, ProxyHeaderLabels,
    RegistrationLabels, RequestLabels, ServiceRequestLabels, WebhookLabels,
};
use crate::fault::Transport;
use crate::tls::Expiry;

const PREFIX: &str = "harbormaster";

/// All numbers of one process. Owned, not global, so that tests have their own.
pub struct Metrics {
    registry: Registry,
    described: Vec<Description>,
    attestation_attempts: Family<AttestationLabels, Counter>,
    registrations: Family<RegistrationLabels, Counter>,
    assignments: Family<AssignmentLabels, Counter>,
    proxy_headers: Family<ProxyHeaderLabels, Counter>,
    handshakes: Family<HandshakeLabels, Counter>,
    closed: Family<ClosedLabels, Counter>,
    limits_hit: Family<LimitLabels, Counter>,
    connections: Gauge,
    request_seconds: Family<RequestLabels, Histogram>,
    service_requests: Family<ServiceRequestLabels, Counter>,
    broker_questions: Family<BrokerLabels, Counter>,
    commit_seconds: Histogram,
    writes_waiting: Gauge,
    searches_waiting: Gauge,
    certificate_expiry: Family<CertificateLabels, Gauge<f64, AtomicU64>>,
    webhook_seconds: Family<WebhookLabels, Histogram>,
    webhook_calls: Gauge,
    webhook_allocations: Family<AllocationLabels, Counter>,
    hub_seconds: Family<HubWorkLabels, Histogram>,
    hub_calls: Family<HubCallLabels, Gauge>,
    hub_unhealthy: Family<HubLabels, Gauge>,
}

/// What a hub outside is asked for that is under way.
pub struct HubCall<'m> {
    metrics: &'m Metrics,
    work: HubWork,
}

impl HubCall<'_> {
    /// It has come to this.
    pub fn ended(self, outcome: HubOutcome, took: Duration) {
        let labels = HubWorkLabels { work: self.work, outcome };
        self.metrics.hub_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }
}

impl Drop for HubCall<'_> {
    fn drop(&mut self) {
        self.metrics.hub_calls.get_or_create(&HubCallLabels { work: self.work }).dec();
    }
}

/// A call of a webhook that is under way.
pub struct WebhookCall<'m>(&'m Metrics);

impl WebhookCall<'_> {
    /// It answered, or did not.
    pub fn ended(self, outcome: WebhookAnswer, took: Duration) {
        self.0.webhook_seconds.get_or_create(&WebhookLabels { outcome }).observe(took.as_secs_f64());
    }
}

impl Drop for WebhookCall<'_> {
    fn drop(&mut self) {
        self.0.webhook_calls.dec();
    }
}

/// What a number is called and means, whether or not anything was counted yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// As in the OpenMetrics text; a histogram's without `_bucket`, `_count` and `_sum`.
    pub name: String,
    /// For people.
    pub help: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix(PREFIX),
            described: Vec::new(),
            attestation_attempts: Family::default(),
            registrations: Family::default(),
            assignments: Family::default(),
            proxy_headers: Family::default(),
            handshakes: Family::default(),
            closed: Family::default(),
            limits_hit: Family::default(),
            connections: Gauge::default(),
            request_seconds: Family::new_with_constructor(seconds),
            service_requests: Family::default(),
            broker_questions: Family::default(),
            commit_seconds: seconds(),
            writes_waiting: Gauge::default(),
            searches_waiting: Gauge::default(),
            certificate_expiry: Family::default(),
            webhook_seconds: Family::new_with_constructor(seconds),
            webhook_calls: Gauge::default(),
            webhook_allocations: Family::default(),
            hub_seconds: Family::new_with_constructor(seconds),
            hub_calls: Family::default(),
            hub_unhealthy: Family::default(),
        };
        metrics.describe();
        metrics.begin_at_zero();
        metrics
    }
}

/// The statuses that an attempt to register leads to.
const STATUSES: [&str; 5] = ["assigning", "assigned", "failed", "disabled", "refused"];

/// The statuses that an operation which waited for a webhook leads to.
const WEBHOOK_STATUSES: [&str; 4] = ["assigning", "assigned", "failed", "disabled"];

/// From half a millisecond to sixteen seconds: a commit, up to the limit of a request.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_5, 2.0, 16))
}

impl Metrics {
    /// Every number there is. Spec: DPS-METRICS-7.
    pub fn described(&self) -> &[Description] {
        &self.described
    }

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
        let status = state.word();
        self.registrations.get_or_create(&RegistrationLabels { status, transport }).inc();
        if let State::Assigned { assignment, substatus } = state {
            self.assigned(assignment, *substatus, transport);
        }
    }

    /// A register was refused before its record was touched.
    pub fn registration_refused(&self, transport: Transport) {
        let labels = RegistrationLabels { status: "refused", transport: transport.as_str() };
        self.registrations.get_or_create(&labels).inc();
    }

    /// An allocation webhook is being called, until what this gives is dropped.
    pub fn webhook_called(&self) -> WebhookCall<'_> {
        self.webhook_calls.inc();
        WebhookCall(self)
    }

    /// An operation that waited for a webhook has ended, or waits for a hub now.
    pub fn allocated(&self, state: &State) {
        self.webhook_allocations.get_or_create(&AllocationLabels { status: state.word() }).inc();
    }

    /// A device has come to a hub outside; by which transport it registered is not kept. Spec: DPS-METRICS-8.
    pub fn placed(&self, assignment: &Assignment, substatus: Substatus) {
        self.assigned(assignment, substatus, "worker");
    }

    fn assigned(&self, assignment: &Assignment, substatus: Substatus, transport: &'static str) {
        let hub = assignment.hub.folded().to_owned();
        let substatus = match substatus {
            Substatus::InitialAssignment => "initialAssignment",
            Substatus::ReprovisionedToInitialAssignment => "reprovisionedToInitialAssignment",
            Substatus::DeviceDataMigrated => "deviceDataMigrated",
            Substatus::DeviceDataReset => "deviceDataReset",
        };
        self.assignments.get_or_create(&AssignmentLabels { hub, substatus, transport }).inc();
    }

    /// A hub outside is being asked, until what this gives is dropped. Spec: DPS-METRICS-8.
    pub fn hub_asked(&self, work: HubWork) -> HubCall<'_> {
        self.hub_calls.get_or_create(&HubCallLabels { work }).inc();
        HubCall { metrics: self, work }
    }

    /// A hub outside as this node sees it. Spec: DPS-METRICS-8.
    pub fn hub_health(&self, scope: &IdScope, hub: &HubName, is_healthy: bool) {
        let labels = HubLabels { id_scope: scope.folded().to_owned(), hub: hub.folded().to_owned() };
        self.hub_unhealthy.get_or_create(&labels).set(i64::from(!is_healthy));
    }

    /// It is no longer linked.
    pub fn hub_gone(&self, scope: &IdScope, hub: &HubName) {
        let labels = HubLabels { id_scope: scope.folded().to_owned(), hub: hub.folded().to_owned() };
        self.hub_unhealthy.remove(&labels);
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

    /// A broker was answered.
    pub fn broker_answered(&self, asked: BrokerAsked, outcome: BrokerAnswer) {
        self.broker_questions.get_or_create(&BrokerLabels { asked, outcome }).inc();
    }

    /// A balancer's connection began. Spec: DPS-LIMIT-15.
    pub fn proxy_header(&self, outcome: ProxyHeader) {
        self.proxy_headers.get_or_create(&ProxyHeaderLabels { outcome }).inc();
    }

    /// A TLS handshake ended.
    pub fn handshake(&self, outcome: Handshake) {
        self.handshakes.get_or_create(&HandshakeLabels { outcome }).inc();
    }

    /// A peer ran into a limit.
    pub fn limit_hit(&self, limit: Limit) {
        self.limits_hit.get_or_create(&LimitLabels { limit }).inc();
    }

    /// A connection of a device or of a client ended.
    pub fn closed(&self, outcome: Closed) {
        self.closed.get_or_create(&ClosedLabels { outcome }).inc();
    }

    /// These certificates are served from now on. Spec: DPS-METRICS-6.
    pub fn certificates(&self, expiry: Option<Expiry>) {
        let Some(expiry) = expiry else { return self.certificate_expiry.clear() };
        let set = |certificate, expires: jiff::Timestamp| {
            let gauge = self.certificate_expiry.get_or_create(&CertificateLabels { certificate });
            gauge.set(expires.as_second() as f64);
        };
        set("preferred", expiry.preferred);
        match expiry.rsa {
            Some(expires) => set("rsa", expires),
            None => {
                self.certificate_expiry.remove(&CertificateLabels { certificate: "rsa" });
            }
        }
    }

    /// A search for enrollment groups waits for as long as the returned value lives. Spec: DPS-METRICS-5.
    pub fn search_waits(&self) -> InGauge {
        InGauge::enter(&self.searches_waiting)
    }

    /// A connection is open for as long as the returned value lives.
    pub fn connection(&self) -> InGauge {
        InGauge::enter(&self.connections)
    }
}

/// Spec: DPS-METRICS-5.
impl WriteObserver for Metrics {
    fn asked(&self) {
        self.writes_waiting.inc();
    }

    fn ended(&self, took: Duration) {
        self.writes_waiting.dec();
        self.commit_seconds.observe(took.as_secs_f64());
    }
}

/// Counts as one in a gauge until it is dropped.
pub struct InGauge(Gauge<i64, AtomicI64>);

impl InGauge {
    fn enter(gauge: &Gauge<i64, AtomicI64>) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InGauge {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use dps_core::registration::HubCredential;

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

    /// DPS-METRICS-2
    #[test]
    fn every_outcome_is_there_from_the_start() {
        let text = Metrics::default().render();
        for line in [
            r#"harbormaster_attestation_attempts_total{outcome="Proven",transport="mqtt"} 0"#,
            r#"harbormaster_attestation_attempts_total{outcome="Refused",transport="mqtt"} 0"#,
            r#"harbormaster_attestation_attempts_total{outcome="Undecided",transport="mqtt"} 0"#,
            r#"harbormaster_registrations_total{status="assigned",transport="mqtt"} 0"#,
            r#"harbormaster_registrations_total{status="refused",transport="mqtt"} 0"#,
            r#"harbormaster_proxy_headers_total{outcome="Refused"} 0"#,
            r#"harbormaster_tls_handshakes_total{outcome="TimedOut"} 0"#,
            r#"harbormaster_connections_closed_total{outcome="Failure"} 0"#,
            r#"harbormaster_broker_questions_total{asked="Topic",outcome="Refused"} 0"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    /// DPS-METRICS-5
    #[test]
    fn waits_for_the_store_and_for_group_searches_are_seen_while_they_last() {
        let metrics = Metrics::default();
        metrics.asked();
        metrics.asked();
        metrics.ended(Duration::from_millis(3));
        let search = metrics.search_waits();
        let text = metrics.render();
        for line in [
            "harbormaster_store_writes_waiting 1",
            "harbormaster_store_commit_seconds_count 1",
            r#"harbormaster_store_commit_seconds_bucket{le="0.002"} 0"#,
            r#"harbormaster_store_commit_seconds_bucket{le="0.004"} 1"#,
            "harbormaster_group_searches_waiting 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        drop(search);
        assert!(metrics.render().contains("harbormaster_group_searches_waiting 0"));
    }

    /// DPS-METRICS-8
    #[test]
    fn what_hubs_outside_are_asked_is_seen_while_it_lasts_and_how_they_do_while_they_are_linked() {
        let metrics = Metrics::default();
        let (scope, hub) = ("0ne00000AAA".parse().unwrap(), "A.hub".parse().unwrap());
        let assignment = Assignment {
            hub: "A.hub".parse().unwrap(),
            device_id: "d".parse().unwrap(),
            credential: HubCredential::EnrollmentKeys,
        };
        let call = metrics.hub_asked(HubWork::Placement);
        assert!(metrics.render().contains(r#"harbormaster_hub_work_in_flight{work="Placement"} 1"#));
        call.ended(HubOutcome::Done, Duration::from_millis(40));
        metrics.placed(&assignment, Substatus::DeviceDataMigrated);
        metrics.hub_health(&scope, &hub, false);
        let text = metrics.render();
        for line in [
            r#"harbormaster_hub_work_in_flight{work="Placement"} 0"#,
            r#"harbormaster_hub_work_seconds_count{work="Placement",outcome="Done"} 1"#,
            r#"harbormaster_hub_work_seconds_count{work="CleanUp",outcome="Postponed"} 0"#,
            r#"harbormaster_device_assignments_total{hub="a.hub",substatus="deviceDataMigrated",transport="worker"} 1"#,
            r#"harbormaster_hub_unhealthy{id_scope="0ne00000aaa",hub="a.hub"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        metrics.hub_health(&scope, &hub, true);
        assert!(
            metrics.render().contains(r#"harbormaster_hub_unhealthy{id_scope="0ne00000aaa",hub="a.hub"} 0"#)
        );
        metrics.hub_gone(&scope, &hub);
        assert!(!metrics.render().contains("harbormaster_hub_unhealthy{"));
    }

    /// DPS-METRICS-6
    #[test]
    fn the_expiry_of_the_served_certificates_and_the_build_are_shown() {
        let metrics = Metrics::default();
        let at = |second| jiff::Timestamp::from_second(second).unwrap();
        metrics.certificates(Some(Expiry { preferred: at(1_900_000_000), rsa: Some(at(1_800_000_000)) }));
        let name = "harbormaster_server_certificate_expiry_timestamp_seconds";
        let text = metrics.render();
        assert!(text.contains(&format!(r#"{name}{{certificate="preferred"}} 1900000000.0"#)), "{text}");
        assert!(text.contains(&format!(r#"{name}{{certificate="rsa"}} 1800000000.0"#)), "{text}");
        assert!(text.contains("harbormaster_build_info{version=\""), "{text}");
        metrics.certificates(Some(Expiry { preferred: at(2_000_000_000), rsa: None }));
        let text = metrics.render();
        assert!(text.contains("2000000000.0") && !text.contains(r#"certificate="rsa""#), "{text}");
    }

    /// DPS-METRICS-3, DPS-METRICS-7
    #[test]
    fn the_operators_page_says_what_each_limit_is() {
        let page = include_str!("../../../../docs/metrics.md");
        let source = include_str!("labels.rs").split_once("pub enum Limit {\n").unwrap().1;
        let (variants, _) = source.split_once("\n}").unwrap();
        let names: Vec<_> = variants.lines().filter_map(|line| line.trim().strip_suffix(',')).collect();
        assert!(names.contains(&format!("{:?}", Limit::UnattestedBytes).as_str()), "{names:?}");
        for name in names {
            assert!(page.contains(&format!("\n| `{name}` |")), "docs/metrics.md has no row for {name}");
        }
    }

    /// DPS-METRICS-7
    #[test]
    fn the_operators_page_lists_every_number_with_its_help_text_and_no_other() {
        let page = include_str!("../../../../docs/metrics.md");
        let mut listed: Vec<_> = page
            .lines()
            .filter(|line| line.starts_with("| `harbormaster_"))
            .map(|line| {
                let mut cells = line.split('|').map(str::trim).skip(1);
                let name = cells.next().unwrap().trim_matches('`').to_owned();
                let (help, unit) = (cells.nth(1).unwrap().to_owned(), cells.next().unwrap());
                assert_eq!(unit == "seconds", name.ends_with("_seconds"), "{line}");
                (name, help)
            })
            .collect();
        let metrics = Metrics::default();
        let mut described: Vec<_> =
            metrics.described().iter().map(|one| (one.name.clone(), one.help.to_owned())).collect();
        listed.sort();
        described.sort();
        assert_eq!(listed, described);
        let names: Vec<_> = described.iter().map(|(name, _)| name.as_str()).collect();
        for line in metrics.render().lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let name = match line.split_once(' ').unwrap() {
                (name, "counter") => format!("{name}_total"),
                (name, "info") => format!("{name}_info"),
                (name, _) => name.to_owned(),
            };
            assert!(names.contains(&name.as_str()), "{name} is described otherwise");
        }
    }
}
