//! Columns of an operation that waits for a webhook or for a hub outside. Spec: DPS-REG-27, DPS-REG-32, DPS-REG-40.

use std::sync::Arc;

use dps_core::enrollment::TwinDocument;
use dps_core::registration::{Assignment, HubCredential, JsonText, Placing, Waiting};
use dps_core::x509::Certificate;
use jiff::Timestamp;

use super::columns::Columns;
use super::fault::Fault;
use crate::record_columns::{HUB, WEBHOOK};

/// What waits.
pub(super) enum Waits {
    ForWebhook(Box<Waiting>),
    ForHub(Box<Placing>),
}

/// Reads the columns of [`crate::record_columns::WaitingColumns`]; `target` and `credential` are those of the target. `None` where nobody is waited for,
/// or something is missing.
pub(super) fn read(
    columns: &mut Columns<'_>,
    target: Option<&Assignment>,
    credential: HubCredential,
) -> Result<Option<Waits>, Fault> {
    let kind: Option<&str> = columns.value()?;
    let (peer, tries): (Option<&str>, Option<u32>) = (columns.value()?, columns.optional_number()?);
    let due_at = columns.optional_time()?;
    let for_webhook = read_for_webhook(columns)?;
    let for_hub = read_for_hub(columns)?;
    let (Some(peer), Some(tries), Some(due_at)) = (peer, tries, due_at) else { return Ok(None) };
    let peer: Box<str> = peer.into();
    Ok(match (kind, target) {
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
    let payload = columns.value::<Option<&str>>()?.map(|text| JsonText(text.into()));
    let der: Option<&[u8]> = columns.value()?;
    let certificate = match der.map(Certificate::from_der).transpose() {
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
    let initial_twin = columns.value::<Option<&str>>()?.map(|text| TwinDocument(text.into()));
    let (since, unanswered_at) = (columns.optional_time()?, columns.optional_time()?);
    let (Some(takes_along), Some(iot_edge), Some(since)) = (takes_along, iot_edge, since) else {
        return Ok(None);
    };
    Ok(Some(ForHub { takes_along, iot_edge, initial_twin, since, unanswered_at }))
}
