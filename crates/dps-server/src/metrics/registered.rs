//! Every number with its name and what it means, and those that begin at zero. Spec: DPS-METRICS-2, DPS-METRICS-7.

use super::*;

impl Metrics {
    pub(super) fn describe(&mut self) {
        self.counter(
            "attestation_attempts",
            "Requests by what became of their credential",
            self.attestation_attempts.clone(),
        );
        self.counter(
            "registrations",
            "Attempts to register by the status they led to",
            self.registrations.clone(),
        );
        self.counter("device_assignments", "Registers that ended at a hub", self.assignments.clone());
        self.counter(
            "proxy_headers",
            "Connections from balancers by what their header said",
            self.proxy_headers.clone(),
        );
        self.counter("tls_handshakes", "TLS handshakes by how they ended", self.handshakes.clone());
        self.counter("connections_closed", "Connections by how they ended", self.closed.clone());
        self.counter("limits_hit", "Peers refused or cut off by a limit", self.limits_hit.clone());
        self.plain("connections", "Open connections", self.connections.clone());
        self.seconds(
            "request",
            "Time to decide a request, the commit included",
            self.request_seconds.clone(),
        );
        self.counter(
            "service_requests",
            "Requests to the service API by operation and status",
            self.service_requests.clone(),
        );
        self.counter(
            "broker_questions",
            "Questions of a broker that is a hub, by what it was told",
            self.broker_questions.clone(),
        );
        self.seconds(
            "store_commit",
            "Time from asking for a write of the store to its end, the wait in its queue included",
            self.commit_seconds.clone(),
        );
        self.plain(
            "store_writes_waiting",
            "Writes that wait for their commit, those being committed included",
            self.writes_waiting.clone(),
        );
        self.plain(
            "group_searches_waiting",
            "Searches for enrollment groups that wait for a thread",
            self.searches_waiting.clone(),
        );
        self.seconds(
            "server_certificate_expiry_timestamp",
            "When the served certificate chain expires, in seconds since 1970",
            self.certificate_expiry.clone(),
        );
        self.seconds(
            "webhook",
            "Time that an allocation webhook took, by what it answered",
            self.webhook_seconds.clone(),
        );
        self.plain("webhook_calls", "Allocation webhooks that are being called", self.webhook_calls.clone());
        self.counter(
            "webhook_allocations",
            "Operations that waited for an allocation webhook, by the status they ended with",
            self.webhook_allocations.clone(),
        );
        self.seconds(
            "hub_work",
            "Time that one try at hubs outside took, by what was to be done and what came of it",
            self.hub_seconds.clone(),
        );
        self.plain("hub_work_in_flight", "Tries at hubs outside that are under way", self.hub_calls.clone());
        self.plain(
            "hub_unhealthy",
            "1 for a linked hub that refuses this service or cannot be reached, as this node sees it, else 0",
            self.hub_unhealthy.clone(),
        );
        let build = vec![("version", env!("CARGO_PKG_VERSION")), ("architecture", std::env::consts::ARCH)];
        self.registry.register("build", "What runs here", Info::new(build));
        self.described.push(Description { name: format!("{PREFIX}_build_info"), help: "What runs here" });
    }

    /// An alert that compares two outcomes must hold while one of them never came. Spec: DPS-METRICS-2.
    pub(super) fn begin_at_zero(&self) {
        for transport in Transport::ALL.map(Transport::as_str) {
            for outcome in Attestation::ALL {
                drop(self.attestation_attempts.get_or_create(&AttestationLabels { outcome, transport }));
            }
            for status in STATUSES {
                drop(self.registrations.get_or_create(&RegistrationLabels { status, transport }));
            }
        }
        for status in WEBHOOK_STATUSES {
            drop(self.webhook_allocations.get_or_create(&AllocationLabels { status }));
        }
        for work in HubWork::ALL {
            drop(self.hub_calls.get_or_create(&HubCallLabels { work }));
            for outcome in HubOutcome::ALL {
                drop(self.hub_seconds.get_or_create(&HubWorkLabels { work, outcome }));
            }
        }
        for outcome in ProxyHeader::ALL {
            drop(self.proxy_headers.get_or_create(&ProxyHeaderLabels { outcome }));
        }
        for outcome in Handshake::ALL {
            drop(self.handshakes.get_or_create(&HandshakeLabels { outcome }));
        }
        for (asked, outcome) in
            BrokerAsked::ALL.into_iter().flat_map(|asked| BrokerAnswer::ALL.map(|it| (asked, it)))
        {
            drop(self.broker_questions.get_or_create(&BrokerLabels { asked, outcome }));
        }
        for outcome in Closed::ALL {
            drop(self.closed.get_or_create(&ClosedLabels { outcome }));
        }
    }

    fn counter(&mut self, name: &str, help: &'static str, metric: impl Metric) {
        self.registry.register(name, help, metric);
        self.described.push(Description { name: format!("{PREFIX}_{name}_total"), help });
    }

    fn plain(&mut self, name: &str, help: &'static str, metric: impl Metric) {
        self.registry.register(name, help, metric);
        self.described.push(Description { name: format!("{PREFIX}_{name}"), help });
    }

    fn seconds(&mut self, name: &str, help: &'static str, metric: impl Metric) {
        self.registry.register_with_unit(name, help, Unit::Seconds, metric);
        self.described.push(Description { name: format!("{PREFIX}_{name}_seconds"), help });
    }
}
