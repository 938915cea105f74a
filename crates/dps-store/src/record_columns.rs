//! Columns of a record as stores of tables write them: where the device lives or is to live, and what an operation waits for.

use dps_core::ports::StoreError;
use dps_core::registration::{Assignment, HubCredential, State};

use crate::times::nanoseconds;

/// All NULL where there is no assignment.
#[derive(Default)]
pub(crate) struct AssignmentColumns<'record> {
    pub(crate) hub: Option<&'record str>,
    pub(crate) device_id: Option<&'record str>,
    pub(crate) derived_spelling: Option<&'record str>,
    pub(crate) thumbprint: Option<&'record [u8; 32]>,
    pub(crate) storage_root_key: Option<&'record [u8]>,
}

impl<'record> AssignmentColumns<'record> {
    pub(crate) fn of(assignment: Option<&'record Assignment>) -> Self {
        let Some(assignment) = assignment else { return Self::default() };
        let (hub, device_id) = (Some(assignment.hub.as_str()), Some(assignment.device_id.as_str()));
        Self { hub, device_id, ..Self::by(&assignment.credential) }
    }

    /// The credential alone.
    pub(crate) fn by(credential: &'record HubCredential) -> Self {
        let bare = Self::default();
        match credential {
            HubCredential::EnrollmentKeys => bare,
            HubCredential::DerivedKeys { spelling } => Self { derived_spelling: Some(spelling), ..bare },
            HubCredential::Certificate { thumbprint } => {
                Self { thumbprint: Some(thumbprint.as_bytes()), ..bare }
            }
            HubCredential::Tpm { storage_root_key } => {
                Self { storage_root_key: Some(storage_root_key), ..bare }
            }
        }
    }
}

/// The kind of what waits for a webhook.
pub(crate) const WEBHOOK: &str = "webhook";
/// The kind of what waits for a hub outside.
pub(crate) const HUB: &str = "hub";

/// All NULL where nobody is waited for. The credential of what waits for a webhook, and the target of what waits for a hub, stand
/// in the columns of the target.
#[derive(Default)]
pub(crate) struct WaitingColumns<'record> {
    pub(crate) kind: Option<&'static str>,
    pub(crate) peer: Option<&'record str>,
    pub(crate) tries: Option<u32>,
    pub(crate) due_at: Option<i64>,
    pub(crate) payload: Option<&'record str>,
    pub(crate) certificate: Option<&'record [u8]>,
    pub(crate) predates: Option<bool>,
    pub(crate) takes_along: Option<bool>,
    pub(crate) iot_edge: Option<bool>,
    pub(crate) initial_twin: Option<&'record str>,
    pub(crate) since: Option<i64>,
    pub(crate) unanswered_at: Option<i64>,
}

impl<'record> WaitingColumns<'record> {
    pub(crate) fn of(state: &'record State) -> Result<Self, StoreError> {
        Ok(match state {
            State::Choosing { waiting, .. } => Self {
                kind: Some(WEBHOOK),
                peer: Some(&waiting.webhook_host),
                tries: Some(waiting.tries),
                due_at: Some(nanoseconds(waiting.due_at)?),
                payload: waiting.payload.as_ref().map(|payload| &*payload.0),
                certificate: waiting.certificate.as_ref().map(|certificate| certificate.der()),
                predates: Some(waiting.predates_reprovisioning),
                ..Self::default()
            },
            State::Assigning { placing, .. } => Self {
                kind: Some(HUB),
                peer: Some(&placing.peer),
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
