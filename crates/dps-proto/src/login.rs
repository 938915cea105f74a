//! The user name of CONNECT: who the device says it is. Spec: DPS-MQTT-2, DPS-MQTT-3, DPS-MQTT-19.

use crate::api_version::{ApiVersion, BadApiVersion};
use crate::ids::{BadId, IdScope, RegistrationId};

/// What a user name says. That it is true is proven later, at the register message.
#[derive(Debug, Clone)]
pub struct UserName {
    /// The service instance the device asks for.
    pub id_scope: IdScope,
    /// The device, in its own spelling.
    pub registration_id: RegistrationId,
    /// The api-version, or why there is none: that is answered per request, not at CONNECT. Spec: DPS-MQTT-19.
    pub api_version: Result<ApiVersion, BadApiVersion>,
}

/// Why a user name does not have the form `{idScope}/registrations/{registrationId}/{parameters}`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUserName {
    /// CONNECT had no user name.
    #[error("there is no user name")]
    Missing,
    /// Fewer than four parts, or the second is not `registrations`.
    #[error("the user name is not of the form idScope/registrations/registrationId/api-version=...")]
    Form,
    /// The first part is no ID scope.
    #[error("the ID scope of the user name is not one: {0}")]
    IdScope(#[source] BadId),
    /// The third part is no registration id.
    #[error("the registration id of the user name is not one: {0}")]
    RegistrationId(#[source] BadId),
}

impl UserName {
    /// Reads a user name. Spec: DPS-MQTT-2.
    pub fn parse(text: &str) -> Result<Self, BadUserName> {
        let mut parts = text.splitn(4, '/');
        let (Some(scope), Some(word), Some(id), Some(parameters)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BadUserName::Form);
        };
        if !word.eq_ignore_ascii_case("registrations") {
            return Err(BadUserName::Form);
        }
        let parameters = parameters.strip_prefix('?').unwrap_or(parameters);
        let api_version = parameters
            .split('&')
            .find_map(|part| part.strip_prefix("api-version="))
            .map_or(Err(BadApiVersion), str::parse);
        Ok(Self {
            id_scope: scope.parse().map_err(BadUserName::IdScope)?,
            registration_id: id.parse().map_err(BadUserName::RegistrationId)?,
            api_version,
        })
    }

    /// The user name that a device sends. `client_version` goes in percent-encoded.
    pub fn compose(
        scope: &IdScope,
        id: &RegistrationId,
        api_version: &ApiVersion,
        client_version: &str,
    ) -> String {
        let client_version = crate::percent::encode(client_version);
        format!(
            "{scope}/registrations/{id}/api-version={}&ClientVersion={client_version}",
            api_version.as_str()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-MQTT-2: what the official clients really send.
    #[test]
    fn the_user_names_of_real_clients_are_read() {
        let rows = [
            "0ne1/registrations/Dev:1/api-version=2019-03-31&ClientVersion=azure-iot-device-provisioning-py%2F2.14.0%283.11.7%3BLinux%29",
            "0ne1/registrations/Dev:1/api-version=2019-03-31",
            "0ne1/registrations/Dev:1/api-version=2019-03-31&ClientVersion=a/b/c",
            "0ne1/registrations/Dev:1/?api-version=2019-03-31",
            "0ne1/registrations/Dev:1/ClientVersion=1&api-version=2019-03-31",
        ];
        for row in rows {
            let name = UserName::parse(row).unwrap();
            assert_eq!((name.id_scope.as_str(), name.registration_id.as_str()), ("0ne1", "Dev:1"), "{row}");
            assert_eq!(name.api_version.unwrap().as_str(), "2019-03-31", "{row}");
        }
    }

    /// DPS-MQTT-2
    #[test]
    fn a_user_name_of_another_form_is_named() {
        let rows = [
            ("", BadUserName::Form),
            ("device-1", BadUserName::Form),
            ("0ne1/registrations/dev", BadUserName::Form),
            ("0ne1/devices/dev/api-version=2019-03-31", BadUserName::Form),
            ("/registrations/dev/", BadUserName::IdScope(BadId::Length(0))),
            (
                "0ne1/registrations/a%3Ab/api-version=2019-03-31",
                BadUserName::RegistrationId(BadId::Character('%')),
            ),
            (
                "0ne1/registrations/a+b/api-version=2019-03-31",
                BadUserName::RegistrationId(BadId::Character('+')),
            ),
        ];
        for (row, expected) in rows {
            assert_eq!(UserName::parse(row).map(|_| ()), Err(expected), "{row}");
        }
    }

    /// DPS-MQTT-19
    #[test]
    fn a_missing_or_malformed_api_version_is_kept_for_the_answer() {
        for row in [
            "0ne1/registrations/dev/",
            "0ne1/registrations/dev/api-version=",
            "0ne1/registrations/dev/api-version=now",
        ] {
            assert_eq!(UserName::parse(row).unwrap().api_version, Err(BadApiVersion), "{row}");
        }
    }

    #[test]
    fn a_composed_user_name_reads_back() {
        let (scope, id) = ("0ne1".parse().unwrap(), "dev-1".parse().unwrap());
        let text = UserName::compose(&scope, &id, &"2021-06-01".parse().unwrap(), "harbormaster/1 (x)");
        assert_eq!(
            text,
            "0ne1/registrations/dev-1/api-version=2021-06-01&ClientVersion=harbormaster%2F1%20%28x%29"
        );
        assert_eq!(UserName::parse(&text).unwrap().registration_id, id);
    }
}
