//! One device's connection, over TLS or a WebSocket: the only loop that touches an MQTT socket. Spec: DPS-MQTT-5, DPS-MQTT-21, DPS-MQTT-29.
//!
//! No rule lives here: the session says what to send and what is asked, the registrar decides, `render` and `fault` say it
//! in the device's words.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use dps_core::attestation::{Credential, DeviceClaim};
use dps_core::ports::SearchTurn;
use dps_core::x509::PresentedChain;
use dps_proto::api_version::{ApiVersion, BadApiVersion};
use dps_proto::mqtt::{Answer, CloseReason, ConnectVerdict, Login, Output, Request, Session};
use dps_proto::sas::SasToken;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::admission::Admitted;
use crate::client_certificates::DeviceStream;
use crate::device_request::{Origin, Proof};
use crate::explain::Explanation;
use crate::fault::{self, Transport};
use crate::front_end::{FrontEnd, Peer};
use crate::limits::Charge;
use crate::mqtt::end::End;

/// Room made for each read. Requests are smaller, so one read usually takes one whole.
const READ_BYTES: usize = 1_024;

/// What each connection may buffer whatever others do: CONNECT and an ordinary register fit. Spec: DPS-LIMIT-10.
const OWN_BYTES: usize = 4 * 1_024;

/// Serves one device until either side ends the connection, or `stopping` becomes true.
pub async fn serve<S>(
    mut stream: S,
    transport: Transport,
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
        transport,
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
                Err(why) => break End::of_error(&why),
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
    transport: Transport,
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
                        Ok(Err(why)) => return Some(End::of_error(&why)),
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
                    if let Some(answer) = Box::pin(self.decide(request, started)).await {
                        if self.attested {
                            stream.attested();
                        }
                        self.forget_certificates(&answer);
                        self.session.answer(answer, started.elapsed());
                    }
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
        let credential = Credential { password, ..Credential::default() };
        let claim = DeviceClaim {
            id_scope: user.id_scope,
            registration_id: user.registration_id,
            credential,
            search_turn: SearchTurn::InOrder,
            predates_reprovisioning: false,
            address: Some(self.peer.address.ip()),
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

    /// `None` never happens: a request comes after CONNECT, which made the device known.
    async fn decide(&mut self, request: Request, started: Instant) -> Option<Answer> {
        let origin = Origin { front_end: self.front_end, peer: self.peer, transport: self.transport };
        let Device { claim, api_version } = self.device.as_mut()?;
        let decided = origin.decide(claim, api_version, request.into()).await;
        if decided.proof == Proof::Given {
            self.attest(started);
        }
        let fault::Answer { status, retry_after_s, body } = decided.answer;
        Some(Answer { status, retry_after_s, body })
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

    /// Spec: DPS-MQTT-23.
    fn warn_unanswered(&self, rid: &str, status: u16) {
        let claim = self.device.as_ref().map(|device| &device.claim);
        tracing::warn!(
            connection = self.peer.connection,
            peer = %self.peer.address,
            id_scope = claim.map(|claim| claim.id_scope.as_str()),
            registration_id = claim.map(|claim| claim.registration_id.as_str()),
            transport = self.transport.as_str(),
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
        let transport = self.transport.as_str();
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
        let origin = Origin { front_end: self.front_end, peer: self.peer, transport: self.transport };
        let explanation = origin.explanation(device, end.step(), end.to_string());
        origin.explain(Explanation { told: end.told(), advice: end.advice(), ..explanation });
    }
}
