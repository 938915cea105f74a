//! What to do about a registration that came to nothing. Spec: DPS-CLI-15.

use dps_client::device::{Outcome, RegisterError};
use dps_proto::ids::{IdScope, RegistrationId};
use dps_proto::mqtt::{ConnectCode, DeviceFailure};

/// Where there is no final answer.
/// `listener` is the one that the device speaks to, MQTT or HTTPS.
pub(super) fn on_error(
    why: &RegisterError,
    listener: &str,
    id_scope: &IdScope,
    id: &RegistrationId,
) -> String {
    let text = match why {
        RegisterError::Connect { .. } | RegisterError::TimedOut { .. } => {
            return format!(
                "is the service running, and are --host and --port those of its {listener} listener?"
            );
        }
        RegisterError::Http { .. } | RegisterError::Upgrade { .. } => {
            "what answers there is no provisioning service over HTTPS: is --port that of its HTTPS listener?"
        }
        RegisterError::ServerName(_) => "give --host a host name or an address",
        RegisterError::Tls { .. } | RegisterError::Certificate { .. } => {
            "is --ca-file the CA of this service, and --host a name that its certificate carries?"
        }
        RegisterError::Exchange(DeviceFailure::ConnectRefused(ConnectCode::NotAuthorized)) => {
            return format!(
                "the ID scope {id_scope} is not one of this service; `harbormaster explain --registration-id {id}` says more"
            );
        }
        RegisterError::Lost(_)
        | RegisterError::Exchange(
            DeviceFailure::ConnectRefused(_)
            | DeviceFailure::SubscriptionRefused
            | DeviceFailure::ConnectionEnded(_),
        ) => {
            return format!(
                "register again, the service may have stopped meanwhile; if it refused the device, `harbormaster explain \
                 --registration-id {id}` says why"
            );
        }
        RegisterError::Exchange(
            DeviceFailure::Malformed(_) | DeviceFailure::Unexpected { .. } | DeviceFailure::NotAnAnswer(_),
        ) => "what answers there is no provisioning service over MQTT: is --port that of its MQTT listener?",
        RegisterError::Exchange(DeviceFailure::TimedOut { .. } | DeviceFailure::GaveUp { .. }) => {
            "register again later; the service's log says what keeps it"
        }
        RegisterError::Exchange(DeviceFailure::NoOperationId) => "report it to whoever runs the service",
        RegisterError::Exchange(DeviceFailure::TooLarge) => "make --payload smaller",
    };
    text.to_owned()
}

/// Where the final answer is not `assigned`.
pub(super) fn on_outcome(outcome: &Outcome, id: &RegistrationId) -> String {
    match (&outcome.tracking_id, outcome.status.as_deref()) {
        (Some(tracking_id), _) => format!("`harbormaster explain {tracking_id}` says why"),
        (None, Some("disabled")) => {
            "enable its enrollment or its enrollment group, and register again".to_owned()
        }
        (None, _) => format!("`harbormaster explain --registration-id {id}` may say why"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> RegistrationId {
        "press-7".parse().unwrap()
    }

    #[track_caller]
    fn advised(failure: DeviceFailure, expected: &str) {
        let advice = on_error(&failure.into(), "MQTT", &"0ne00000001".parse().unwrap(), &id());
        assert!(advice.contains(expected), "{advice}");
    }

    /// DPS-CLI-15
    #[test]
    fn a_device_that_gets_nowhere_is_told_what_to_do() {
        advised(
            DeviceFailure::ConnectRefused(ConnectCode::NotAuthorized),
            "the ID scope 0ne00000001 is not one of",
        );
        advised(DeviceFailure::ConnectRefused(ConnectCode::BadLogin), "explain --registration-id press-7");
        advised(DeviceFailure::ConnectionEnded(dps_proto::mqtt::DeviceStep::Polling), "register again");
        advised(DeviceFailure::NotAnAnswer("a".into()), "is --port that of its MQTT listener?");
        let refused = Outcome { tracking_id: Some("a-tracking-id".to_owned()), ..Outcome::default() };
        assert_eq!(on_outcome(&refused, &id()), "`harbormaster explain a-tracking-id` says why");
        let disabled = Outcome { status: Some("disabled".to_owned()), ..Outcome::default() };
        assert!(on_outcome(&disabled, &id()).starts_with("enable its enrollment"));
    }
}
