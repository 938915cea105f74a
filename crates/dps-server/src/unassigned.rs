//! Devices that proved themselves and have no hub all the same. Spec: DPS-EXPLAIN-10.

use dps_core::registration::{Failure, Registration, State};

use crate::fault;

/// Why a register that was carried out ended without a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unassigned {
    /// The status that the device is told.
    pub outcome: &'static str,
    /// What the device is told beside it: an error code, or the status once more where there is none.
    pub told: String,
    /// What was wrong.
    pub reason: String,
    /// What would have worked.
    pub advice: &'static str,
}

impl Unassigned {
    /// `None` for a device that has a hub, or will have one.
    pub fn of(registration: &Registration) -> Option<Self> {
        match &registration.state {
            State::Assigned { .. } | State::Choosing { .. } | State::Assigning { .. } => None,
            State::Disabled { .. } => Some(Self {
                outcome: "disabled",
                told: "disabled".to_owned(),
                reason: format!("the credential proves the device, and {} is disabled", registration.entry),
                advice: "enable the enrollment",
            }),
            State::Failed { failure, .. } => Some(Self {
                outcome: "failed",
                told: fault::of_failure(failure).0.to_string(),
                reason: failure.to_string(),
                advice: advice(failure),
            }),
        }
    }
}

fn advice(failure: &Failure) -> &'static str {
    match failure {
        Failure::DeviceIdRefused => {
            "give the device an id without '.', '+', '*' and '#': deviceId of its individual enrollment, or another registration \
             id"
        }
        Failure::NoUsableHub => "link a hub that the enrollment allows and whose allocation weight is not 0",
        Failure::EnrollmentGone => "make the enrollment again, with the attestation that the device has",
        Failure::WebhookChoseNone => "let the webhook answer 200 with one of linkedHubs in iotHubHostName",
        Failure::WebhookUnauthorized => {
            "write the function key that the webhook wants into webhookUrl, as ?code=KEY"
        }
        Failure::WebhookStatus(_) => {
            "look into the log of the webhook: it is to answer 200, and 429 or above where it should be asked again"
        }
        Failure::WebhookSilent => {
            "let the webhook answer within 10 s, over HTTPS with a certificate that is trusted here; the log has each try"
        }
        Failure::WebhookChoseAnother => {
            "let the webhook choose one of linkedHubs in its request, or link the hub and let the enrollment name it"
        }
        Failure::WebhookUnreadable => {
            "let the webhook answer a JSON object of at most 128 KiB, with iotHubHostName"
        }
        Failure::WebhookNotCalled => {
            "see the log for the address of the webhook; [outbound] in the configuration says which are allowed"
        }
        Failure::HubRefused { .. } => {
            "see the log for what the hub said: its connection string needs the rights RegistryWrite and ServiceConnect, and room for \
             one device more"
        }
        Failure::HubUnavailable => {
            "see the log for why the hub could not be reached; passOverUnhealthyHubs lets new devices go to others"
        }
        Failure::HubThrottled => "give the hub more units, or let fewer devices register at a time",
        Failure::SourceUnavailable => {
            "let the hub that the device leaves answer, or set whenSourceUnavailable to reset: the device begins anew then"
        }
        Failure::HubNotAllowed => {
            "let [outbound] in the configuration of this server allow the host of the hub"
        }
        Failure::DeviceIdUnaddressable => "give the device another id than '.' and '..'",
    }
}
