//! The user name by which a device logs in to its hub. Spec: DPS-BROKER-4.

use std::str::FromStr;

use crate::ids::{BadId, DeviceId, HubName};

/// Longest user name that is read, in bytes. Those of the official clients stay below 500.
pub const USER_NAME_BYTES_MAX: usize = 2_048;

/// Who says to be connecting.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HubUserName {
    /// `{hub}/{deviceId}`, or `{hub}/{deviceId}/?api-version=...` as the device SDKs of Azure send it.
    OfHub {
        /// The hub that the device was told.
        hub: HubName,
        /// The device id that it was told.
        device_id: DeviceId,
    },
    /// One word: a broker took it from a certificate.
    Bare(DeviceId),
}

/// Why a text is not the user name of a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHubUserName {
    /// Longer than [`USER_NAME_BYTES_MAX`].
    #[error("the user name is longer than {USER_NAME_BYTES_MAX} bytes")]
    TooLong,
    /// What begins it is not a host name.
    #[error("the user name does not begin with the name of a hub: {0}")]
    Hub(BadId),
    /// What follows the hub, or stands alone, is not a device id.
    #[error("the user name holds no device id: {0}")]
    DeviceId(BadId),
    /// Something follows the device id that is no list of parameters: a module, for one.
    #[error("the user name goes on after the device id, and not with ?api-version=...")]
    Rest,
}

impl HubUserName {
    /// The device.
    pub fn device_id(&self) -> &DeviceId {
        match self {
            Self::OfHub { device_id, .. } | Self::Bare(device_id) => device_id,
        }
    }
}

impl FromStr for HubUserName {
    type Err = BadHubUserName;
    fn from_str(text: &str) -> Result<Self, BadHubUserName> {
        if text.len() > USER_NAME_BYTES_MAX {
            return Err(BadHubUserName::TooLong);
        }
        let Some((hub, rest)) = text.split_once('/') else {
            return text.parse().map(Self::Bare).map_err(BadHubUserName::DeviceId);
        };
        let hub = hub.parse().map_err(BadHubUserName::Hub)?;
        let (device_id, parameters) = rest.split_once('/').unwrap_or((rest, ""));
        let device_id = device_id.parse().map_err(BadHubUserName::DeviceId)?;
        // What the parameters say, no broker needs; that they are some tells a device from one of its modules.
        if parameters.is_empty() || parameters.starts_with('?') || parameters.starts_with("api-version=") {
            Ok(Self::OfHub { hub, device_id })
        } else {
            Err(BadHubUserName::Rest)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_hub(hub: &str, device_id: &str) -> Result<HubUserName, BadHubUserName> {
        Ok(HubUserName::OfHub { hub: hub.parse().unwrap(), device_id: device_id.parse().unwrap() })
    }

    /// DPS-BROKER-4: as the official clients write it, and as people do.
    #[test]
    fn the_user_names_of_device_sdks_are_read() {
        for text in [
            "hub.localhost/Press-7",
            "HUB.localhost/Press-7",
            "hub.localhost/Press-7/",
            "hub.localhost/Press-7/?api-version=2019-10-01&DeviceClientType=azure-iot-device%2F2.14.0%20%28python%29",
            "hub.localhost/Press-7/?api-version=2021-04-12&DeviceClientType=a/b/c",
            "hub.localhost/Press-7/api-version=2016-11-14",
        ] {
            assert_eq!(text.parse(), of_hub("hub.localhost", "Press-7"), "{text}");
        }
        assert_ne!(
            "hub.localhost/press-7".parse(),
            of_hub("hub.localhost", "Press-7"),
            "case tells ids apart"
        );
        assert_eq!("press-7".parse(), Ok(HubUserName::Bare("press-7".parse().unwrap())));
    }

    /// DPS-BROKER-4
    #[test]
    fn any_other_text_is_refused() {
        let refused = |text: &str| text.parse::<HubUserName>().unwrap_err();
        assert!(matches!(refused(""), BadHubUserName::DeviceId(BadId::Length(0))));
        assert!(matches!(refused("hub.localhost/"), BadHubUserName::DeviceId(BadId::Length(0))));
        assert!(matches!(refused("/press-7"), BadHubUserName::Hub(_)));
        assert!(matches!(refused("hub_1/press-7"), BadHubUserName::Hub(_)));
        assert!(matches!(refused("hub.localhost/a b"), BadHubUserName::DeviceId(BadId::Character(' '))));
        assert!(matches!(refused("CN=press-7 "), BadHubUserName::DeviceId(_)));
        assert_eq!(refused("hub.localhost/press-7/module/?api-version=2019-10-01"), BadHubUserName::Rest);
        assert_eq!(refused("hub.localhost/press-7/other"), BadHubUserName::Rest);
        assert_eq!(refused(&format!("h/{}", "d".repeat(USER_NAME_BYTES_MAX))), BadHubUserName::TooLong);
    }
}
