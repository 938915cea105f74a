//! Columns of an operation that waits for a webhook or for a hub outside. Spec: DPS-REG-27, DPS-REG-32, DPS-REG-40.

use std::sync::Arc;

use dps_core::enrollment::TwinDocument;
use dps_core::registration::{Assignment, HubCredential, JsonText, Placing, State, Waiting};
use dps_core::x509::Certificate;
use jiff::Timestamp;

use super::columns::Columns;
use super::fault::Fault;
use crate::times::nanoseconds;

const WEBHOOK: &str = "webhook";
const HUB: &str = "hub";

/// All NULL where nobody is waited for. The credential of what waits for a webhook, and the target of what waits for a hub, stand
/// in the columns of the target.
#[derive(Default)]
pub(super) struct WaitingColumns<'record> {
    pub(super) kind: Option<&'static str>,
    pub(super) host: Option<&'record str>,
    pub(super) tries: Option<u32>,
    pub(super) due_at: Option<i64>,
    pub(super) payload: Option<&'record str>,
    pub(super) certificate: Option<&'record [u8]>,
    pub(super) predates: Option<bool>,
    pub(super) takes_along: Option<bool>,
    pub(super) iot_edge: Option<bool>,
    pub(super) initial_twin: Option<&'record str>,
    pub(super) since: Option<i64>,
    pub(super) unanswered_at: Option<i64>,
}

impl<'record> WaitingColumns<'record> {
    pub(super) fn of(state: &'record State) -> Result<Self, Fault> {
        Ok(match state {
            State::Choosing { waiting, .. } => Self {
                kind: Some(WEBHOOK),
                host: Some(&waiting.webhook_host),
                tries: Some(waiting.tries),
                due_at: Some(nanoseconds(waiting.due_at)?),
                payload: waiting.payload.as_ref().map(|payload| &*payload.0),
                certificate: waiting.certificate.as_ref().map(|certificate| certificate.der()),
                predates: Some(waiting.predates_reprovisioning),
                ..Self::default()
            },
            State::Assigning { placing, .. } => Self {
                kind: Some(HUB),
                host: Some(&placing.peer),
                tries: Some(placing.tries),
                due_at: Some(nanoseconds(placing.due_at)?),
                takes_along: Some(placing.takes_along),
                iot_edge: Some(placing.iot_edge),
                initial_twin: placing.initial_twin.as_ref().map(|twin| &*twin.0),
                since: Some(nanoseconds(placing.since)?),
                unanswered_at: placing.unanswered_at.map(nanoseconds).transpose()?,
                ..Self::default()
            },
            State::Assigned { .. } | State::Failed { .. } | State::Disabled { .. } => Self::default(),
        })
    }
}

/// What waits.
pub(super) enum Waits {
    ForWebhook(Box<Waiting>),
    ForHub(Box<Placing>),
}

/// Reads the columns of [`WaitingColumns`]; `target` and `credential` are those of the target. `None` where nobody is waited for,
/// or something is missing.
pub(super) fn read(
    columns: &mut Columns<'_>,
    target: Option<&Assignment>,
    credential: HubCredential,
) -> Result<Option<Waits>, Fault> {
    let kind: Option<String> = columns.value()?;
    let (host, tries): (Option<Box<str>>, Option<u32>) = (columns.value()?, columns.value()?);
    let due_at = columns.optional_time()?;
    let for_webhook = read_for_webhook(columns)?;
    let for_hub = read_for_hub(columns)?;
    let (Some(peer), Some(tries), Some(due_at)) = (host, tries, due_at) else { return Ok(None) };
    Ok(match (kind.as_deref(), target) {
        (Some(WEBHOOK), None) => for_webhook.map(|ForWebhook { payload, certificate, predates }| {
            Waits::ForWebhook(Box::new(Waiting {
                credential,
                certificate,
                payload,
                predates_reprovisioning: predates,
                webhook_host: peer,
                tries,
                due_at,
            }))
        }),
        (Some(HUB), Some(target)) => for_hub.map(|for_hub| {
            let ForHub { takes_along, iot_edge, initial_twin, since, unanswered_at } = for_hub;
            Waits::ForHub(Box::new(Placing {
                target: target.clone(),
                takes_along,
                iot_edge,
                initial_twin,
                peer,
                since,
                unanswered_at,
                tries,
                due_at,
            }))
        }),
        _ => None,
    })
}

struct ForWebhook {
    payload: Option<JsonText>,
    certificate: Option<Arc<Certificate>>,
    predates: bool,
}

fn read_for_webhook(columns: &mut Columns<'_>) -> Result<Option<ForWebhook>, Fault> {
    let payload = columns.value::<Option<Box<str>>>()?.map(JsonText);
    let der: Option<Vec<u8>> = columns.value()?;
    let certificate = match der.map(|der| Certificate::from_der(&der)).transpose() {
        Ok(certificate) => certificate.map(Arc::new),
        Err(why) => return Err(columns.unreadable(why)),
    };
    let predates: Option<bool> = columns.value()?;
    Ok(predates.map(|predates| ForWebhook { payload, certificate, predates }))
}

struct ForHub {
    takes_along: bool,
    iot_edge: bool,
    initial_twin: Option<TwinDocument>,
    since: Timestamp,
    unanswered_at: Option<Timestamp>,
}

fn read_for_hub(columns: &mut Columns<'_>) -> Result<Option<ForHub>, Fault> {
    let (takes_along, iot_edge): (Option<bool>, Option<bool>) = (columns.value()?, columns.value()?);
    let initial_twin = columns.value::<Option<Box<str>>>()?.map(TwinDocument);
    let (since, unanswered_at) = (columns.optional_time()?, columns.optional_time()?);
    let (Some(takes_along), Some(iot_edge), Some(since)) = (takes_along, iot_edge, since) else {
        return Ok(None);
    };
    Ok(Some(ForHub { takes_along, iot_edge, initial_twin, since, unanswered_at }))
}
