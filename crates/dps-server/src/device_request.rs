//! One request of a device, whatever transport it came by: carried out, counted, logged, explained, and answered.
//!
//! No rule lives here: the registrar decides, `render` and `fault` say it in the device's words.

use bytes::Bytes;
use dps_core::attestation::DeviceClaim;
use dps_core::ports::SearchTurn;
use dps_core::refusal::{Refusal, TpmChallenge};
use dps_core::register::Registered;
use dps_core::registration::{JsonText, Registration, State};
use dps_core::tpm::TpmEvidence;
use dps_proto::api_version::{ApiVersion, BadApiVersion};
use dps_proto::body::RegisterBody;
use dps_proto::code::TrackingId;
use dps_proto::mqtt::Request;
use jiff::Timestamp;
use serde_json::value::RawValue;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

use crate::advice;
use crate::chain_explanation::ChainExplanation;
use crate::explain::{Explanation, Step};
use crate::fault::{self, Answer, RequestFault, Transport};
use crate::front_end::{FrontEnd, Peer};
use crate::metrics::{Asked, Attestation, Limit};
use crate::render;
use crate::throttle::Throttled;
use crate::unassigned::Unassigned;

/// The api-version from which on a device without a reprovision policy moves to where it belongs. Spec: DPS-REG-22.
const REPROVISIONING_SINCE: &str = "2018-09-01";

/// How long an address that guesses waits for each refusal: about the time between two tries of a device. Spec: DPS-LIMIT-8.
const GUESS_PAUSE: Duration = Duration::from_millis(250);

/// Where a device's requests come from.
#[derive(Clone, Copy)]
pub(crate) struct Origin<'f> {
    pub(crate) front_end: &'f FrontEnd,
    pub(crate) peer: Peer,
    pub(crate) transport: Transport,
}

/// What a device asks.
pub(crate) enum Ask {
    /// To be registered.
    Register { body: Bytes },
    /// How an operation stands.
    Poll { operation_id: Box<str> },
    /// What its record says.
    LookUp { body: Bytes },
}

/// What a device is told.
pub(crate) struct Decided {
    pub(crate) answer: Answer,
    pub(crate) proof: Proof,
    /// Under which a refusal can be found.
    pub(crate) tracking_id: Option<TrackingId>,
}

/// What a request showed of whoever sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Who it is, and that it may ask.
    Given,
    /// Not yet: it was asked for proof (DPS-TPM-1), or could not be judged at the moment.
    Pending,
    /// Nothing.
    None,
}

impl From<Request> for Ask {
    fn from(request: Request) -> Self {
        match request {
            Request::Register { payload } => Self::Register { body: payload },
            Request::Poll { operation_id } => Self::Poll { operation_id },
        }
    }
}

impl Ask {
    fn asked(&self) -> Asked {
        match self {
            Self::Register { .. } => Asked::Register,
            Self::Poll { .. } => Asked::Poll,
            Self::LookUp { .. } => Asked::LookUp,
        }
    }
}

impl Origin<'_> {
    /// Carries out one request; a refusal is logged here, once, under the tracking id that the device is told.
    pub(crate) async fn decide(
        &self,
        claim: &mut DeviceClaim,
        api_version: &Result<ApiVersion, BadApiVersion>,
        ask: Ask,
    ) -> Decided {
        let FrontEnd { metrics, limits, .. } = self.front_end;
        let (began, asked) = (Instant::now(), ask.asked());
        let is_guessing = self.mark_guessing(claim);
        let decided = timeout(limits.request_within, self.ask(claim, api_version, ask)).await;
        metrics.decided(asked, self.transport, began.elapsed());
        let decided = decided.unwrap_or(Err(RequestFault::TimedOut));
        match decided.map_err(|fault| self.throttled(claim, fault)) {
            Ok(answer) => {
                metrics.attested(Attestation::Proven, self.transport);
                Decided { answer, proof: Proof::Given, tracking_id: None }
            }
            Err(RequestFault::Refused(Refusal::TpmChallenge(challenge))) => self.challenge(claim, &challenge),
            Err(fault @ RequestFault::Refused(Refusal::TpmNotEnrolled)) => {
                let refused = self.refuse(Some(claim), Some(asked), &fault);
                let now = self.front_end.moments.moment().now;
                Decided { answer: render::tpm_not_enrolled(&claim.registration_id, now), ..refused }
            }
            Err(fault) => {
                let refused = self.refuse(Some(claim), Some(asked), &fault);
                if is_guessing {
                    sleep(GUESS_PAUSE).await;
                }
                refused
            }
        }
    }

    async fn ask(
        &self,
        claim: &mut DeviceClaim,
        api_version: &Result<ApiVersion, BadApiVersion>,
        ask: Ask,
    ) -> Result<Answer, RequestFault> {
        let FrontEnd { registrar, moments, limits, throttles, metrics, .. } = self.front_end;
        let _in_flight = throttles.request()?;
        let api_version = api_version.as_ref().map_err(|why| why.clone())?;
        claim.predates_reprovisioning = !api_version.reaches(REPROVISIONING_SINCE);
        match ask {
            Ask::Register { body } => {
                let body = RegisterBody::parse(&body, &claim.registration_id)?;
                if self.transport == Transport::Https {
                    claim.credential.tpm = self.tpm_of(claim, &body)?;
                }
                let may = || throttles.register(&claim.id_scope).map_err(RequestFault::from);
                let payload = body.payload.map(|payload| JsonText(Box::<RawValue>::into(payload)));
                let registered =
                    registrar.register_if(claim, payload.as_ref(), moments.moment(), may).await?;
                if let Registered::Accepted { registration, .. } = &registered {
                    self.front_end.wake_for(registration);
                }
                metrics.registered(&registered, self.transport);
                self.log_registered(claim, &registered);
                Ok(render::registered(&registered, api_version, self.transport, limits.retry_after_s))
            }
            Ask::Poll { operation_id } => {
                self.carries_tpm(claim);
                let polled = registrar.poll(claim, &operation_id, moments.moment()).await?;
                throttles.poll(&claim.id_scope, &claim.registration_id)?;
                Ok(render::polled(&polled, api_version, limits.retry_after_s))
            }
            Ask::LookUp { body } => {
                RegisterBody::parse(&body, &claim.registration_id)?;
                self.carries_tpm(claim);
                let registration = registrar.look_up(claim, moments.moment()).await?;
                throttles.register(&claim.id_scope)?;
                Ok(render::looked_up(&registration, api_version))
            }
        }
    }

    /// Spec: DPS-TPM-1, DPS-TPM-8.
    fn tpm_of(&self, claim: &DeviceClaim, body: &RegisterBody) -> Result<TpmEvidence, RequestFault> {
        let challenged = &self.front_end.challenged;
        let now = self.front_end.moments.moment().now;
        Ok(match body.tpm()? {
            Some(keys) => TpmEvidence::presented(&keys.endorsement_key, &keys.storage_root_key),
            // Some clients present their TPM once and come back with the token alone.
            None if claim.credential.password.is_some() => {
                challenged.keys_of(claim, self.peer.address.ip(), now)
            }
            None => TpmEvidence::Absent,
        })
    }

    fn carries_tpm(&self, claim: &mut DeviceClaim) {
        if self.transport == Transport::Https {
            claim.credential.tpm = TpmEvidence::Absent;
        }
    }

    /// Spec: DPS-TPM-1.
    fn challenge(&self, claim: &DeviceClaim, challenge: &TpmChallenge) -> Decided {
        let FrontEnd { moments, challenged, .. } = self.front_end;
        if let TpmEvidence::Presented(Ok(keys)) = &claim.credential.tpm {
            let address = self.peer.address.ip();
            challenged.keep(claim, address, keys, challenge.is_enrolled, moments.moment().now);
        }
        tracing::debug!(
            connection = self.peer.connection,
            peer = %self.peer.address,
            id_scope = claim.id_scope.as_str(),
            registration_id = claim.registration_id.as_str(),
            transport = self.transport.as_str(),
            "device challenged"
        );
        Decided { answer: render::tpm_challenge(challenge), proof: Proof::Pending, tracking_id: None }
    }

    /// The answer to a refused request.
    pub(crate) fn refuse(
        &self,
        claim: Option<&DeviceClaim>,
        asked: Option<Asked>,
        fault: &RequestFault,
    ) -> Decided {
        self.count(asked, fault);
        let FrontEnd { moments, limits, .. } = self.front_end;
        let tracking_id = moments.tracking_id();
        let (code, _) = fault::of_request(fault, self.transport);
        let chain = claim.and_then(|claim| chain_of(fault, claim));
        tracing::warn!(
            %tracking_id,
            error_code = %code,
            connection = self.peer.connection,
            peer = %self.peer.address,
            id_scope = claim.map(|claim| claim.id_scope.as_str()),
            registration_id = claim.map(|claim| claim.registration_id.as_str()),
            transport = self.transport.as_str(),
            chain = chain.as_ref().map(|chain| chain.line()),
            reason = %fault,
            "request refused"
        );
        self.explain(Explanation {
            tracking_id: Some(tracking_id),
            told: code.to_string(),
            advice: advice::on_request(fault, self.transport),
            chain: chain.map(Box::new),
            ..self.explanation(claim, Step::Request, fault.to_string())
        });
        let now = moments.moment().now;
        let answer = fault::answer(fault, self.transport, tracking_id, now, limits.retry_after_s);
        let proof = match fault {
            RequestFault::Refused(
                Refusal::NoSuchOperation(_) | Refusal::NoRecord | Refusal::Contended(_),
            ) => Proof::Given,
            // Counted for devices that have proved themselves, and for no others.
            RequestFault::Throttled { throttled: Throttled::Registrations | Throttled::Polls, .. } => {
                Proof::Given
            }
            RequestFault::Throttled { throttled: Throttled::InFlight, .. }
            | RequestFault::TimedOut
            | RequestFault::Refused(Refusal::Busy | Refusal::Store(_)) => Proof::Pending,
            // A TPM of its own that nobody enrolled is proof of nothing.
            _ => Proof::None,
        };
        Decided { answer, proof, tracking_id: Some(tracking_id) }
    }

    /// Spec: DPS-EXPLAIN-4.
    pub(crate) fn explanation(&self, claim: Option<&DeviceClaim>, step: Step, reason: String) -> Explanation {
        Explanation {
            at: self.front_end.moments.moment().now,
            tracking_id: None,
            connection: Some(self.peer.connection),
            peer: Some(self.peer.address),
            transport: Some(self.transport.as_str()),
            id_scope: claim.map(|claim| claim.id_scope.clone()),
            registration_id: claim.map(|claim| claim.registration_id.clone()),
            step,
            told: String::new(),
            reason,
            advice: None,
            chain: None,
        }
    }

    pub(crate) fn explain(&self, explanation: Explanation) {
        let known = explanation.id_scope.as_ref().is_some_and(|scope| self.front_end.registrar.knows(scope));
        self.front_end.explanations.keep(explanation, known);
    }

    /// Spec: DPS-LIMIT-8.
    fn mark_guessing(&self, claim: &mut DeviceClaim) -> bool {
        let is_guessing = self.front_end.throttles.is_guessing(self.peer.address.ip(), &claim.id_scope);
        claim.search_turn = if is_guessing { SearchTurn::AfterOthers } else { SearchTurn::InOrder };
        is_guessing
    }

    /// Spec: DPS-LIMIT-7.
    fn throttled(&self, claim: &DeviceClaim, fault: RequestFault) -> RequestFault {
        let RequestFault::Refused(Refusal::Unproven(unproven)) = &fault else { return fault };
        let address = self.peer.address.ip();
        match self.front_end.throttles.failed(address, &claim.id_scope, &claim.registration_id) {
            Ok(()) => fault,
            Err(throttled) => RequestFault::Throttled { throttled, unproven: Some(unproven.to_string()) },
        }
    }

    fn log_registered(&self, claim: &DeviceClaim, registered: &Registered) {
        let (registration, claimed_from) = match registered {
            Registered::Accepted { registration, noted, .. } => {
                self.warn_of_expiry(registration, noted.signer_expires_at);
                (registration, noted.claimed_from.as_ref())
            }
            Registered::Disabled { registration } => (registration, None),
        };
        let assignment = match &registration.state {
            State::Assigned { assignment, .. } => Some(assignment),
            State::Choosing { .. }
            | State::Assigning { .. }
            | State::Failed { .. }
            | State::Disabled { .. } => None,
        };
        if let Some(Unassigned { outcome, told, reason, advice }) = Unassigned::of(registration) {
            tracing::warn!(
                connection = self.peer.connection,
                peer = %self.peer.address,
                id_scope = registration.id_scope.as_str(),
                registration_id = registration.registration_id.as_str(),
                transport = self.transport.as_str(),
                entry = %registration.entry,
                outcome,
                reason,
                "device not assigned"
            );
            let explanation = self.explanation(Some(claim), Step::Request, reason);
            return self.explain(Explanation { told, advice: Some(advice.to_owned()), ..explanation });
        }
        tracing::info!(
            connection = self.peer.connection,
            peer = %self.peer.address,
            id_scope = %registration.id_scope,
            registration_id = %registration.registration_id,
            transport = self.transport.as_str(),
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

    /// Spec: DPS-METRICS-2, DPS-METRICS-3.
    fn count(&self, asked: Option<Asked>, fault: &RequestFault) {
        let metrics = &self.front_end.metrics;
        if asked == Some(Asked::Register) {
            metrics.registration_refused(self.transport);
        }
        let attested = |outcome| metrics.attested(outcome, self.transport);
        match fault {
            RequestFault::Refused(refusal) => match refusal {
                Refusal::Unproven(_) | Refusal::TpmWanted | Refusal::ClaimedAcrossGroups { .. } => {
                    attested(Attestation::Refused);
                }
                Refusal::NoSuchOperation(_) | Refusal::NoRecord | Refusal::TpmNotEnrolled => {
                    attested(Attestation::Proven);
                }
                // A question, and not yet an answer.
                Refusal::TpmChallenge(_) => {}
                Refusal::Busy => {
                    attested(Attestation::Undecided);
                    metrics.limit_hit(Limit::GroupSearch);
                }
                Refusal::UnknownIdScope(_) | Refusal::Contended(_) | Refusal::Store(_) => {
                    attested(Attestation::Undecided);
                }
            },
            RequestFault::TimedOut => {
                attested(Attestation::Undecided);
                metrics.limit_hit(Limit::RequestTime);
            }
            RequestFault::Throttled { throttled, unproven } => {
                if unproven.is_some() {
                    attested(Attestation::Refused);
                }
                metrics.limit_hit((*throttled).into());
            }
            RequestFault::Http(fault) => {
                if let Some(limit) = fault.limit() {
                    metrics.limit_hit(limit);
                }
            }
            // Refused for its form, before anyone looked at the credential.
            RequestFault::ApiVersion(_) | RequestFault::Body(_) => {}
        }
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
