//! What would happen to a device, said without one. Spec: DPS-EXPLAIN-6, DPS-EXPLAIN-7, DPS-EXPLAIN-13.

use std::sync::Arc;
use std::time::Duration;

use dps_core::attestation::{Credential, DeviceClaim};
use dps_core::ports::SearchTurn;
use dps_core::refusal::Refusal;
use dps_core::register::{Noted, Registered, Registrar};
use dps_core::registration::{Assignment, State, Substatus};
use dps_core::x509::{BadChain, Certificate, NoCertificate, PresentedChain};
use dps_proto::ids::{BadId, IdScope, RegistrationId};
use dps_proto::sas::SasToken;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::advice;
use crate::chain_explanation::{ChainExplanation, step};
use crate::fault::{self, RequestFault, Transport};
use crate::front_end::FrontEnd;
use crate::moments::Moments;
use crate::unassigned::Unassigned;

/// Judges claims as a register would be judged now.
pub struct DryRun {
    registrar: Arc<Registrar>,
    moments: Arc<dyn Moments>,
    within: Duration,
}

/// Why there is nothing to judge. Never holds what came: a token may be in it.
#[derive(Debug, thiserror::Error)]
pub enum BadDryRun {
    /// The body has another shape.
    #[error(
        "the body is not {{\"registrationId\": ..., \"sasToken\": ..., \"certificates\": [...], \"idScope\": ...}} in JSON, of which \
         only the first is needed; see line {line} column {column}"
    )]
    Body {
        /// Where reading stopped.
        line: usize,
        /// Where in that line.
        column: usize,
    },
    /// Spec: DPS-ID-1.
    #[error("registrationId: {0}")]
    RegistrationId(#[source] BadId),
    /// Spec: DPS-ID-3.
    #[error("idScope: {0}")]
    IdScope(#[source] BadId),
    /// Spec: DPS-X509-26.
    #[error("certificates[{at}]: {why}")]
    Certificate {
        /// Counted from 0.
        at: usize,
        /// What is wrong.
        #[source]
        why: NoCertificate,
    },
    /// Spec: DPS-X509-2.
    #[error("certificates: {0}")]
    Chain(#[source] BadChain),
    /// There is more than one service instance, or none.
    #[error("idScope: name it, for there is not just one service instance here")]
    NoIdScope,
}

/// No `Debug`: it holds a token.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Asked {
    registration_id: String,
    id_scope: Option<String>,
    sas_token: Option<String>,
    /// The device's own first; PEM, or Base64 of DER.
    certificates: Option<Vec<String>>,
}

impl DryRun {
    /// Judged by the same registrar and the same clock as real requests.
    pub fn of(front_end: &FrontEnd) -> Self {
        Self {
            registrar: Arc::clone(&front_end.registrar),
            moments: Arc::clone(&front_end.moments),
            within: front_end.limits.request_within,
        }
    }

    /// Judges what the JSON `body` claims. The answer's members are only ever added to.
    pub async fn judge(&self, body: &[u8]) -> Result<Value, BadDryRun> {
        let claim = self.claim(body)?;
        let moment = self.moments.moment();
        let judged = match timeout(self.within, self.registrar.would_register(&claim, moment)).await {
            Ok(Ok(registered)) => describe(&registered),
            Ok(Err(refusal)) => describe_fault(&refusal.into(), &claim.credential),
            Err(_) => describe_fault(&RequestFault::TimedOut, &claim.credential),
        };
        tracing::info!(
            id_scope = %claim.id_scope,
            registration_id = %claim.registration_id,
            outcome = judged["outcome"].as_str(),
            error_code = judged["told"].as_str(),
            reason = judged["reason"].as_str(),
            "register tried without a device"
        );
        let mut answer =
            json!({"idScope": claim.id_scope.as_str(), "registrationId": claim.registration_id.as_str()});
        if let (Some(answer), Value::Object(judged)) = (answer.as_object_mut(), judged) {
            answer.extend(judged);
        }
        Ok(answer)
    }

    fn claim(&self, body: &[u8]) -> Result<DeviceClaim, BadDryRun> {
        let asked: Asked = serde_json::from_slice(body)
            .map_err(|why| BadDryRun::Body { line: why.line(), column: why.column() })?;
        let registration_id: RegistrationId =
            asked.registration_id.parse().map_err(BadDryRun::RegistrationId)?;
        let id_scope: IdScope = match asked.id_scope {
            Some(text) => text.parse().map_err(BadDryRun::IdScope)?,
            None => self.registrar.instances().only_id_scope().ok_or(BadDryRun::NoIdScope)?,
        };
        let password = asked.sas_token.map(|token| SasToken::parse(token.as_bytes()));
        let certificates = asked.certificates.map(|texts| chain(&texts)).transpose()?;
        let certificates = certificates.map(|chain| Ok(Arc::new(chain)));
        let credential = Credential { password, certificates, ..Credential::default() };
        Ok(DeviceClaim {
            id_scope,
            registration_id,
            credential,
            search_turn: SearchTurn::InOrder,
            predates_reprovisioning: false,
            address: None,
        })
    }
}

fn chain(texts: &[String]) -> Result<PresentedChain, BadDryRun> {
    let read = |(at, text): (usize, &String)| text.parse().map_err(|why| BadDryRun::Certificate { at, why });
    let certificates: Vec<Certificate> = texts.iter().enumerate().map(read).collect::<Result<_, _>>()?;
    PresentedChain::read(certificates.iter().map(Certificate::der)).map_err(BadDryRun::Chain)
}

fn describe(registered: &Registered) -> Value {
    let nothing = Noted::default();
    let (registration, noted) = match registered {
        Registered::Accepted { registration, noted, .. } => (registration, noted),
        Registered::Disabled { registration } => (registration, &nothing),
    };
    let claimed_from = noted.claimed_from.as_ref();
    let path: Vec<_> = noted.path.iter().map(step).collect();
    let entry = registration.entry.to_string();
    let admitted = |status: &str, assignment: &Assignment, keeps: bool| {
        json!({
            "outcome": "admitted",
            "entry": entry,
            "status": status,
            "assignedHub": assignment.hub.as_str(),
            "deviceId": assignment.device_id.as_str(),
            "keepsAssignment": keeps,
            "claimedFrom": claimed_from.map(|group| group.as_str()),
            "path": path,
        })
    };
    match &registration.state {
        State::Assigned { assignment, substatus } => {
            admitted("assigned", assignment, *substatus == Substatus::ReprovisionedToInitialAssignment)
        }
        State::Assigning { placing, last } => {
            let target = &placing.target;
            admitted("assigning", target, last.as_ref().is_some_and(|last| last.hub == target.hub))
        }
        State::Choosing { last, .. } => {
            // Its webhook is not asked for a try: it may keep count of devices.
            let mut described = json!({
                "outcome": "admitted",
                "entry": entry,
                "status": "assigning",
                "claimedFrom": claimed_from.map(|group| group.as_str()),
                "path": path,
                "asksWebhook": true,
            });
            if let Some(last) = last {
                described["currentHub"] = last.hub.as_str().into();
            }
            described
        }
        State::Disabled { .. } | State::Failed { .. } => {
            let without = Unassigned::of(registration);
            json!({
                "outcome": without.as_ref().map(|without| without.outcome),
                "entry": entry,
                "told": without.as_ref().map(|without| &without.told),
                "reason": without.as_ref().map(|without| &without.reason),
                "advice": without.as_ref().map(|without| without.advice),
            })
        }
    }
}

/// Spec: DPS-EXPLAIN-12, DPS-EXPLAIN-13.
fn describe_fault(fault: &RequestFault, credential: &Credential) -> Value {
    let chain = match fault {
        RequestFault::Refused(Refusal::Unproven(unproven)) => ChainExplanation::of(unproven, credential),
        _ => None,
    };
    json!({
        "outcome": "refused",
        "told": fault::of_request(fault, Transport::Mqtt).0.to_string(),
        "reason": fault.to_string(),
        "advice": advice::on_request(fault, Transport::Mqtt),
        "chain": chain.map(|chain| chain.to_json()),
    })
}
