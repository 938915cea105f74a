//! Columns that tell why an operation failed, as stores of tables keep them. Spec: DPS-REG-15, DPS-REG-28, DPS-REG-45.

use dps_core::registration::Failure;

/// Those that a word says all about.
const PLAIN: [Failure; 14] = [
    Failure::NoUsableHub,
    Failure::EnrollmentGone,
    Failure::WebhookChoseNone,
    Failure::WebhookUnauthorized,
    Failure::WebhookSilent,
    Failure::WebhookChoseAnother,
    Failure::WebhookUnreadable,
    Failure::WebhookNotCalled,
    Failure::DeviceIdRefused,
    Failure::HubUnavailable,
    Failure::HubThrottled,
    Failure::SourceUnavailable,
    Failure::HubNotAllowed,
    Failure::DeviceIdUnaddressable,
];

const WEBHOOK_STATUS: &str = "webhook_status";
const HUB_REFUSED: &str = "hub_refused";

/// All NULL where nothing failed.
#[derive(Default)]
pub(crate) struct FailureColumns<'record> {
    pub(crate) word: Option<&'static str>,
    pub(crate) status: Option<u16>,
    pub(crate) said: Option<&'record str>,
}

impl<'record> FailureColumns<'record> {
    pub(crate) fn of(failure: &'record Failure) -> Self {
        let (status, said) = match failure {
            Failure::WebhookStatus(status) => (Some(*status), None),
            Failure::HubRefused { said } => (None, Some(&**said)),
            _ => (None, None),
        };
        Self { word: Some(word(failure)), status, said }
    }
}

/// The failure that the three columns of [`FailureColumns`] tell, where they tell one.
pub(crate) fn failure(
    text: Option<&str>,
    status: Option<u16>,
    said: Option<Box<str>>,
) -> Result<Option<Failure>, String> {
    Ok(match (text, status, said) {
        (None, ..) => None,
        (Some(WEBHOOK_STATUS), Some(status), _) => Some(Failure::WebhookStatus(status)),
        (Some(HUB_REFUSED), _, Some(said)) => Some(Failure::HubRefused { said }),
        (Some(text), ..) => {
            let known = PLAIN.iter().find(|plain| word(plain) == text);
            let unknown = || format!("{text:?} is no failure that it could belong to");
            Some(known.cloned().ok_or_else(unknown)?)
        }
    })
}

fn word(failure: &Failure) -> &'static str {
    match failure {
        Failure::NoUsableHub => "no_usable_hub",
        Failure::EnrollmentGone => "enrollment_gone",
        Failure::WebhookChoseNone => "webhook_chose_none",
        Failure::WebhookUnauthorized => "webhook_unauthorized",
        Failure::WebhookStatus(_) => WEBHOOK_STATUS,
        Failure::WebhookSilent => "webhook_silent",
        Failure::WebhookChoseAnother => "webhook_chose_another",
        Failure::WebhookUnreadable => "webhook_unreadable",
        Failure::WebhookNotCalled => "webhook_not_called",
        Failure::DeviceIdRefused => "device_id_refused",
        Failure::HubRefused { .. } => HUB_REFUSED,
        Failure::HubUnavailable => "hub_unavailable",
        Failure::HubThrottled => "hub_throttled",
        Failure::SourceUnavailable => "source_unavailable",
        Failure::HubNotAllowed => "hub_not_allowed",
        Failure::DeviceIdUnaddressable => "device_id_unaddressable",
    }
}
