//! One device's connection: the only loop that touches an MQTT socket. Spec: DPS-MQTT-5, DPS-MQTT-21, DPS-MQTT-29.
//!
//! No rule lives here: the session says what to send and what is asked, the registrar decides, `render` and `fault` say it
//! in the device's words.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use dps_core::attestation::{Credential, DeviceClaim};
use dps_core::ports::SearchTurn;
use dps_core::refusal::Refusal;
use dps_core::register::Registered;
use dps_core::registration::{Registration, State};
use dps_core::x509::PresentedChain;
use dps_proto::api_version::{ApiVersion, BadApiVersion};
use dps_proto::body::RegisterBody;
use dps_proto::mqtt::{Answer, CloseReason, ConnectVerdict, Login, Output, Request, Session};
use dps_proto::sas::SasToken;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::admission::Admitted;
use crate::advice;
use crate::chain_explanation::ChainExplanation;
use crate::client_certificates::DeviceStream;
use crate::explain::{Explanation, Step};
use crate::fault::{self, RequestFault, Transport};
use crate::front_end::{FrontEnd, Peer};
use crate::limits::Charge;
use crate::metrics::{Asked, Attestation, Limit, Metrics};
use crate::mqtt::end::End;
use crate::render;
use crate::unassigned::Unassigned;

/// Room made for each read. Requests are smaller, so one read usually takes one whole.
const READ_BYTES: usize = 1_024;

/// What each connection may buffer whatever others do: CONNECT and an ordinary register fit. Spec: DPS-LIMIT-10.
const OWN_BYTES: usize = 4 * 1_024;

/// How long an address that guesses waits for each refusal: about the time between two tries of a device. Spec: DPS-LIMIT-8.
const GUESS_PAUSE: Duration = Duration::from_millis(250);

/// Serves one device until either side ends the connection, or `stopping` becomes true.
pub async fn serve<S>(
    mut stream: S,
    peer: Peer,
    admitted: Admitted,
    front_end: &FrontEnd,
    mut stopping: watch::Receiver<bool>,
) where
    S: DeviceStream,
{
    let started = Instant::now();
    let _open = front_end.metrics.connection();
    let mut connection = Connection {
        front_end,
        peer,
        admitted,
        session: Session::new(Duration::ZERO, front_end.limits.session),
        device: None,
        attested: false,
        give_way: Arc::new(Notify::new()),
    };
    let certificate_bytes: usize = stream.certificates().iter().map(|certificate| certificate.len()).sum();
    let mut buffer = BytesMut::new();
    let mut charge = Charge::new(Arc::clone(&front_end.unattested_bytes));

    let end = loop {
        if let Some(end) = connection.carry_out(&mut stream, &mut buffer, started).await {
            break end;
        }
        if buffer.is_empty() {
            // What a large request needed is not kept while the device waits.
            buffer = BytesMut::new();
        }
        buffer.reserve(READ_BYTES);
        // Spec: DPS-MQTT-30, DPS-LIMIT-10, DPS-X509-2.
        let own = if connection.attested { usize::MAX } else { OWN_BYTES };
        if charge.resize((buffer.capacity() + certificate_bytes).saturating_sub(own)).is_err() {
            connection.session.close(CloseReason::BufferBudget);
            continue;
        }
        let deadline = started + connection.session.deadline().unwrap_or_default();
        tokio::select! {
            read = stream.read_buf(&mut buffer) => match read {
                Ok(0) => connection.session.close(CloseReason::ConnectionEnded),
                Ok(_) => connection.session.receive(&mut buffer, started.elapsed()),
                Err(why) => break End::Lost(why.kind()),
            },
            () = sleep_until(deadline) => connection.session.handle_timeout(started.elapsed()),
            () = connection.give_way.notified() => connection.session.close(CloseReason::TakenOver),
            // An error means that the sender is gone, which is a stop too.
            _ = stopping.wait_for(|stop| *stop) => connection.session.close(CloseReason::Shutdown),
        }
    };
    connection.ended(&end);
    // A peer that does not take the end of the connection has lost it anyway.
    let _ = timeout(front_end.limits.write_within, stream.shutdown()).await;
}

struct Connection<'f> {
    front_end: &'f FrontEnd,
    peer: Peer,
    admitted: Admitted,
    session: Session,
    device: Option<Device>,
    attested: bool,
    give_way: Arc<Notify>,
}

/// What CONNECT said.
struct Device {
    claim: DeviceClaim,
    api_version: Result<ApiVersion, BadApiVersion>,
}

impl Connection<'_> {
    /// Does everything the session wants done; `Some` when the connection has ended.
    async fn carry_out<S: DeviceStream>(
        &mut self,
        stream: &mut S,
        buffer: &mut BytesMut,
        started: Instant,
    ) -> Option<End> {
        while let Some(output) = self.session.poll() {
            match output {
                Output::Send(bytes) => {
                    let write = async {
                        stream.write_all(&bytes).await?;
                        stream.flush().await
                    };
                    match timeout(self.front_end.limits.write_within, write).await {
                        Ok(Ok(())) => {}
                        Ok(Err(why)) => return Some(End::Lost(why.kind())),
                        Err(_) => return Some(End::WriteTimeout),
                    }
                }
                Output::Login(login) => {
                    let verdict = self.log_in(*login);
                    self.session.verdict(verdict, started.elapsed());
                    self.session.receive(buffer, started.elapsed());
                }
                Output::Request(request) => {
                    self.read_certificates(stream.certificates());
                    let answer = Box::pin(self.decide(request, started)).await;
                    self.forget_certificates(&answer);
                    self.session.answer(answer, started.elapsed());
                    self.session.receive(buffer, started.elapsed());
                }
                Output::Unanswered { rid, status } => self.warn_unanswered(&rid, status),
                Output::Close(reason) => return Some(End::Session(reason)),
            }
        }
        None
    }

    /// Spec: DPS-MQTT-4, DPS-MQTT-5.
    fn log_in(&mut self, login: Login) -> ConnectVerdict {
        let Login { user, password, .. } = login;
        let known = self.front_end.registrar.knows(&user.id_scope);
        let password = password.map(|password| SasToken::parse(password.expose()));
        let credential = Credential { password, certificates: None };
        let claim = DeviceClaim {
            id_scope: user.id_scope,
            registration_id: user.registration_id,
            credential,
            search_turn: SearchTurn::InOrder,
        };
        self.device = Some(Device { claim, api_version: user.api_version });
        if known { ConnectVerdict::Accept } else { ConnectVerdict::UnknownIdScope }
    }

    /// What the device showed in the handshake, for the requests until it has its final answer. Spec: DPS-X509-2.
    fn read_certificates(&mut self, shown: &[CertificateDer<'_>]) {
        if let Some(Device { claim, .. }) = &mut self.device
            && claim.credential.certificates.is_none()
            && !shown.is_empty()
        {
            let read = PresentedChain::read(shown.iter().map(|certificate| &**certificate));
            claim.credential.certificates = Some(read.map(Arc::new));
        }
    }

    /// A device that is told to ask again does so at once; any other may stay for long.
    fn forget_certificates(&mut self, answer: &Answer) {
        if let Some(Device { claim, .. }) = &mut self.device
            && answer.status != 202
        {
            claim.credential.certificates = None;
        }
    }

    /// Decides one request; a refusal is logged here, once, under the tracking id that the device is told.
    async fn decide(&mut self, request: Request, started: Instant) -> Answer {
        let metrics = &self.front_end.metrics;
        let (began, asked) = match &request {
            Request::Register { .. } => (Instant::now(), Asked::Register),
            Request::Poll { .. } => (Instant::now(), Asked::Poll),
        };
        let is_guessing = self.mark_guessing();
        let decided = timeout(self.front_end.limits.request_within, self.ask(request)).await;
        metrics.decided(asked, Transport::Mqtt, began.elapsed());
        let decided = decided.unwrap_or(Err(RequestFault::TimedOut));
        let answer = match decided.map_err(|fault| self.throttled(fault)) {
            Ok(answer) => {
                metrics.attested(Attestation::Proven, Transport::Mqtt);
                self.attest(started);
                answer
            }
            Err(fault) => {
                count(metrics, asked, &fault);
                let moment = self.front_end.moments.moment();
                let tracking_id = self.front_end.moments.tracking_id();
                let (code, _) = fault::of_request(&fault, Transport::Mqtt);
                let claim = self.device.as_ref().map(|device| &device.claim);
                let chain = claim.and_then(|claim| chain_of(&fault, claim));
                tracing::warn!(
                    %tracking_id,
                    error_code = %code,
                    connection = self.peer.connection,
                    peer = %self.peer.address,
                    id_scope = claim.map(|claim| claim.id_scope.as_str()),
                    registration_id = claim.map(|claim| claim.registration_id.as_str()),
                    transport = Transport::Mqtt.as_str(),
                    chain = chain.as_ref().map(|chain| chain.line()),
                    reason = %fault,
                    "request refused"
                );
                self.explain(Explanation {
                    tracking_id: Some(tracking_id),
                    told: code.to_string(),
                    advice: advice::on_request(&fault),
                    chain: chain.map(Box::new),
                    ..self.explanation(Step::Request, fault.to_string())
                });
                if is_guessing {
                    sleep(GUESS_PAUSE).await;
                }
                fault::answer(
                    &fault,
                    Transport::Mqtt,
                    tracking_id,
                    moment.now,
                    self.front_end.limits.retry_after_s,
                )
            }
        };
        let fault::Answer { status, retry_after_s, body } = answer;
        Answer { status, retry_after_s, body }
    }

    /// Spec: DPS-LIMIT-8.
    fn mark_guessing(&mut self) -> bool {
        let Some(Device { claim, .. }) = &mut self.device else { return false };
        let is_guessing = self.front_end.throttles.is_guessing(self.peer.address.ip(), &claim.id_scope);
        claim.search_turn = if is_guessing { SearchTurn::AfterOthers } else { SearchTurn::InOrder };
        is_guessing
    }

    /// Spec: DPS-LIMIT-7.
    fn throttled(&self, fault: RequestFault) -> RequestFault {
        match (&fault, &self.device) {
            (RequestFault::Refused(Refusal::Unproven(unproven)), Some(Device { claim, .. })) => {
                let address = self.peer.address.ip();
                match self.front_end.throttles.failed(address, &claim.id_scope, &claim.registration_id) {
                    Ok(()) => fault,
                    Err(throttled) => {
                        RequestFault::Throttled { throttled, unproven: Some(unproven.to_string()) }
                    }
                }
            }
            _ => fault,
        }
    }

    async fn ask(&self, request: Request) -> Result<fault::Answer, RequestFault> {
        let FrontEnd { registrar, moments, limits, throttles, .. } = self.front_end;
        let retry_after_s = limits.retry_after_s;
        let _in_flight = throttles.request()?;
        // A request comes after CONNECT, which made the device known.
        let Some(Device { claim, api_version }) = &self.device else { return Err(RequestFault::TimedOut) };
        let api_version = api_version.as_ref().map_err(|why| why.clone())?;
        match request {
            Request::Register { payload } => {
                // Custom allocation would pass the payload on; every other policy ignores it.
                RegisterBody::parse(&payload, &claim.registration_id)?;
                let may = || throttles.register(&claim.id_scope).map_err(RequestFault::from);
                let registered = registrar.register_if(claim, moments.moment(), may).await?;
                self.front_end.metrics.registered(&registered, Transport::Mqtt);
                self.log_registered(&registered);
                Ok(render::registered(&registered, api_version, retry_after_s))
            }
            Request::Poll { operation_id } => {
                let polled = registrar.poll(claim, &operation_id, moments.moment()).await?;
                throttles.poll(&claim.id_scope, &claim.registration_id)?;
                Ok(render::polled(&polled, api_version, retry_after_s))
            }
        }
    }

    /// The first success makes it the device's one connection. Spec: DPS-MQTT-29.
    fn attest(&mut self, started: Instant) {
        if let Some(device) = &self.device
            && !self.attested
        {
            self.attested = true;
            self.admitted.attested();
            self.session.attested(started.elapsed());
            let id = (device.claim.id_scope.clone(), device.claim.registration_id.clone());
            self.front_end.takeovers.take(id, self.peer.connection, &self.give_way);
        }
    }

    fn log_registered(&self, registered: &Registered) {
        let (registration, claimed_from) = match registered {
            Registered::Accepted { registration, noted, .. } => {
                self.warn_of_expiry(registration, noted.signer_expires_at);
                (registration, noted.claimed_from.as_ref())
            }
            Registered::Disabled { registration } => (registration, None),
        };
        let assignment = match &registration.state {
            State::Assigned { assignment, .. } => Some(assignment),
            State::Assigning { .. } | State::Failed { .. } | State::Disabled { .. } => None,
        };
        if let Some(Unassigned { outcome, told, reason, advice }) = Unassigned::of(registration) {
            tracing::warn!(
                connection = self.peer.connection,
                peer = %self.peer.address,
                id_scope = registration.id_scope.as_str(),
                registration_id = registration.registration_id.as_str(),
                transport = Transport::Mqtt.as_str(),
                entry = %registration.entry,
                outcome,
                reason,
                "device not assigned"
            );
            let explanation = self.explanation(Step::Request, reason);
            return self.explain(Explanation { told, advice: Some(advice.to_owned()), ..explanation });
        }
        tracing::info!(
            connection = self.peer.connection,
            peer = %self.peer.address,
            id_scope = %registration.id_scope,
            registration_id = %registration.registration_id,
            transport = Transport::Mqtt.as_str(),
            entry = %registration.entry,
            hub = assignment.map(|assignment| assignment.hub.as_str()),
            device_id = assignment.map(|assignment| assignment.device_id.as_str()),
            claimed_from = claimed_from.map(|group| group.as_str()),
            outcome = if assignment.is_some() { "assigned" } else { "assigning" },
            "device registered"
        );
    }

    /// Spec: DPS-X509-14.
    fn warn_of_expiry(&self, registration: &Registration, expires_at: Option<Timestamp>) {
        let FrontEnd { moments, expiry_warnings, .. } = self.front_end;
        let Registration { id_scope, entry, .. } = registration;
        if let Some(at) = expires_at
            && expiry_warnings.is_due(id_scope, entry, at, moments.moment().now)
        {
            tracing::warn!(
                id_scope = id_scope.as_str(), %entry, expires = %at, "signing certificate expires soon"
            );
        }
    }

    /// Spec: DPS-MQTT-23.
    fn warn_unanswered(&self, rid: &str, status: u16) {
        let claim = self.device.as_ref().map(|device| &device.claim);
        tracing::warn!(
            connection = self.peer.connection,
            peer = %self.peer.address,
            id_scope = claim.map(|claim| claim.id_scope.as_str()),
            registration_id = claim.map(|claim| claim.registration_id.as_str()),
            transport = Transport::Mqtt.as_str(),
            rid,
            status,
            reason = "the device has not subscribed to $dps/registrations/res/#",
            "no answer sent"
        );
    }

    fn ended(&self, end: &End) {
        let device = self.device.as_ref().map(|device| &device.claim);
        if let Some(claim) = device.filter(|_| self.attested) {
            let id = (claim.id_scope.clone(), claim.registration_id.clone());
            self.front_end.takeovers.release(id, self.peer.connection);
        }
        let (connection, peer) = (self.peer.connection, self.peer.address);
        let id_scope = device.map(|claim| claim.id_scope.as_str());
        let registration_id = device.map(|claim| claim.registration_id.as_str());
        let transport = Transport::Mqtt.as_str();
        self.front_end.metrics.closed(end.outcome());
        if end.is_normal() {
            tracing::debug!(
                connection, %peer, id_scope, registration_id, transport, reason = %end, "connection ended"
            );
            return;
        }
        let error_code = Some(end.told()).filter(|told| !told.is_empty());
        tracing::warn!(
            error_code, connection, %peer, id_scope, registration_id, transport, reason = %end, "connection closed"
        );
        if let Some(limit) = end.limit() {
            self.front_end.metrics.limit_hit(limit);
        }
        self.explain(Explanation {
            told: end.told(),
            advice: end.advice(),
            ..self.explanation(end.step(), end.to_string())
        });
    }

    /// Spec: DPS-EXPLAIN-4.
    fn explanation(&self, step: Step, reason: String) -> Explanation {
        let claim = self.device.as_ref().map(|device| &device.claim);
        Explanation {
            at: self.front_end.moments.moment().now,
            tracking_id: None,
            connection: self.peer.connection,
            peer: self.peer.address,
            id_scope: claim.map(|claim| claim.id_scope.clone()),
            registration_id: claim.map(|claim| claim.registration_id.clone()),
            step,
            told: String::new(),
            reason,
            advice: None,
            chain: None,
        }
    }

    fn explain(&self, explanation: Explanation) {
        let known = explanation.id_scope.as_ref().is_some_and(|scope| self.front_end.registrar.knows(scope));
        self.front_end.explanations.keep(explanation, known);
    }
}

/// What the device presented, where its certificates were judged. Spec: DPS-EXPLAIN-12.
fn chain_of(fault: &RequestFault, claim: &DeviceClaim) -> Option<ChainExplanation> {
    match fault {
        RequestFault::Refused(Refusal::Unproven(unproven)) => {
            ChainExplanation::of(unproven, &claim.credential)
        }
        _ => None,
    }
}

/// Spec: DPS-METRICS-2, DPS-METRICS-3.
fn count(metrics: &Metrics, asked: Asked, fault: &RequestFault) {
    if asked == Asked::Register {
        metrics.registration_refused(Transport::Mqtt);
    }
    match fault {
        RequestFault::Refused(refusal) => match refusal {
            Refusal::Unproven(_) | Refusal::TpmWanted | Refusal::ClaimedAcrossGroups { .. } => {
                metrics.attested(Attestation::Refused, Transport::Mqtt);
            }
            Refusal::NoSuchOperation(_) => metrics.attested(Attestation::Proven, Transport::Mqtt),
            Refusal::Busy => {
                metrics.attested(Attestation::Undecided, Transport::Mqtt);
                metrics.limit_hit(Limit::GroupSearch);
            }
            Refusal::UnknownIdScope(_) | Refusal::Contended(_) | Refusal::Store(_) => {
                metrics.attested(Attestation::Undecided, Transport::Mqtt);
            }
        },
        RequestFault::TimedOut => {
            metrics.attested(Attestation::Undecided, Transport::Mqtt);
            metrics.limit_hit(Limit::RequestTime);
        }
        RequestFault::Throttled { throttled, unproven } => {
            if unproven.is_some() {
                metrics.attested(Attestation::Refused, Transport::Mqtt);
            }
            metrics.limit_hit((*throttled).into());
        }
        // Refused for its form, before anyone looked at the credential.
        RequestFault::ApiVersion(_) | RequestFault::Body(_) => {}
    }
}
