//! A device as a hub's registry has it. Spec: DPS-HUB-12 to DPS-HUB-14.

use std::fmt;

use dps_core::ports::{HubAuthentication, HubDeviceStatus};
use dps_proto::ids::DeviceId;
use dps_proto::key::KeyPair;
use serde_json::{Map, Value, json};

use super::etag::HubETag;
use super::refusal::HubError;
use super::twin::TwinContent;

/// What of a device only the hub writes.
const WRITTEN_BY_THE_HUB: [&str; 7] = [
    "generationId",
    "etag",
    "connectionState",
    "connectionStateUpdatedTime",
    "statusUpdatedTime",
    "lastActivityTime",
    "cloudToDeviceMessageCount",
];

/// A device to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewIdentity<'d> {
    /// Its id.
    pub device_id: &'d DeviceId,
    /// What it authenticates with.
    pub authentication: &'d HubAuthentication,
    /// Whether it may connect.
    pub status: HubDeviceStatus,
    /// Whether it is an IoT Edge device.
    pub iot_edge: bool,
    /// Its twin, where it is not to be empty.
    pub twin: Option<&'d TwinContent>,
}

/// A device as it was read. Its `Debug` shows no key.
#[derive(Clone)]
pub struct Identity {
    device_id: DeviceId,
    etag: HubETag,
    iot_edge: bool,
    is_enabled: bool,
    authentication: Option<HubAuthentication>,
    /// All else that may be written.
    others: Map<String, Value>,
}

impl NewIdentity<'_> {
    /// The body of a bulk request for it. Spec: DPS-HUB-12.
    pub(super) fn json(&self) -> Value {
        let mut device = json!({
            "id": self.device_id.as_str(),
            "importMode": "create",
            "status": self.status.as_str(),
            "authentication": authentication_json(self.authentication),
            "capabilities": {"iotEdge": self.iot_edge},
        });
        if let (Some(twin), Value::Object(device)) = (self.twin, &mut device) {
            device.extend(twin.created());
        }
        Value::Array(vec![device])
    }
}

impl Identity {
    /// Takes what a hub answered.
    pub(super) fn read(device_id: &DeviceId, mut answered: Map<String, Value>) -> Result<Self, HubError> {
        if answered.shift_remove("deviceId").as_ref().and_then(Value::as_str) != Some(device_id.as_str()) {
            return Err(HubError::Malformed("it is not of the device that was asked for".to_owned()));
        }
        let etag = HubETag::of(answered.get("etag"))?;
        WRITTEN_BY_THE_HUB.iter().for_each(|member| drop(answered.shift_remove(*member)));
        Ok(Self::of_members(device_id, etag, answered))
    }

    /// Its id.
    pub fn device_id(&self) -> &DeviceId {
        &self.device_id
    }

    /// The version that was read.
    pub fn etag(&self) -> &HubETag {
        &self.etag
    }

    /// Whether it is an IoT Edge device.
    pub fn is_iot_edge(&self) -> bool {
        self.iot_edge
    }

    /// Whether the hub lets it connect.
    pub fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    /// Whether it authenticates with exactly this already, so that nothing has to be changed.
    pub fn authenticates_with(&self, wanted: &HubAuthentication) -> bool {
        match (&self.authentication, wanted) {
            (Some(HubAuthentication::Keys(found)), HubAuthentication::Keys(wanted)) => {
                found.primary.expose() == wanted.primary.expose()
                    && found.secondary.expose() == wanted.secondary.expose()
            }
            (
                Some(HubAuthentication::SelfSigned { primary, secondary }),
                HubAuthentication::SelfSigned { primary: wanted_primary, secondary: wanted_secondary },
            ) => (primary, secondary) == (wanted_primary, wanted_secondary),
            _ => false,
        }
    }

    /// All of it but its authentication, to be kept as text.
    pub fn written(&self) -> Box<str> {
        Value::Object(self.others.clone()).to_string().into()
    }

    /// A device of which [`Identity::written`] was kept.
    ///
    /// # Errors
    /// [`HubError::Malformed`] where the text is none of those.
    pub fn of_written(device_id: &DeviceId, etag: &str, written: &str) -> Result<Self, HubError> {
        let others = serde_json::from_str(written)
            .map_err(|_| HubError::Malformed("what was kept of the device is no object".to_owned()))?;
        Ok(Self::of_members(device_id, HubETag::of(Some(&etag.into()))?, others))
    }

    fn of_members(device_id: &DeviceId, etag: HubETag, mut members: Map<String, Value>) -> Self {
        Self {
            device_id: device_id.clone(),
            etag,
            iot_edge: members.get("capabilities").is_some_and(|it| it["iotEdge"] == true),
            is_enabled: members.get("status").is_none_or(|status| status == "enabled"),
            authentication: members.shift_remove("authentication").as_ref().and_then(authentication_of),
            others: members,
        }
    }

    /// The device with another authentication and all else as it was read. Spec: DPS-HUB-14.
    pub(super) fn json_with(&self, authentication: &HubAuthentication) -> Value {
        let mut device = self.others.clone();
        device.insert("deviceId".to_owned(), self.device_id.as_str().into());
        device.insert("authentication".to_owned(), authentication_json(authentication));
        Value::Object(device)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("device_id", &self.device_id)
            .field("etag", &self.etag)
            .finish_non_exhaustive()
    }
}

impl HubETag {
    /// The member `etag` of an answer.
    pub(super) fn of(member: Option<&Value>) -> Result<Self, HubError> {
        let text = member.and_then(Value::as_str).unwrap_or_default();
        text.parse().map_err(|_| HubError::Malformed("it has no etag".to_owned()))
    }
}

fn authentication_json(authentication: &HubAuthentication) -> Value {
    match authentication {
        HubAuthentication::Keys(KeyPair { primary, secondary }) => json!({
            "type": "sas",
            "symmetricKey": {"primaryKey": &**primary.expose_base64(), "secondaryKey": &**secondary.expose_base64()},
        }),
        HubAuthentication::SelfSigned { primary, secondary } => {
            let mut thumbprints = json!({"primaryThumbprint": primary.to_string()});
            if secondary != primary {
                thumbprints["secondaryThumbprint"] = secondary.to_string().into();
            }
            json!({"type": "selfSigned", "x509Thumbprint": thumbprints})
        }
    }
}

/// What an answer says a device authenticates with, if it is anything that we would have given it.
fn authentication_of(answered: &Value) -> Option<HubAuthentication> {
    let text = |member: &Value| member.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    match answered["type"].as_str()? {
        "sas" => {
            let keys = &answered["symmetricKey"];
            let primary = text(&keys["primaryKey"])?.parse().ok()?;
            let secondary = text(&keys["secondaryKey"])?.parse().ok()?;
            Some(HubAuthentication::Keys(KeyPair { primary, secondary }))
        }
        "selfSigned" => {
            let thumbprints = &answered["x509Thumbprint"];
            let primary = text(&thumbprints["primaryThumbprint"])?.parse().ok()?;
            let secondary = match text(&thumbprints["secondaryThumbprint"]) {
                Some(text) => text.parse().ok()?,
                None => primary,
            };
            Some(HubAuthentication::SelfSigned { primary, secondary })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use dps_core::x509::Sha256Thumbprint;
    use dps_proto::key::SymmetricKey;

    use super::*;

    fn keys(first: u8) -> HubAuthentication {
        let key = |byte| SymmetricKey::from_bytes(vec![byte; 32]).unwrap();
        HubAuthentication::Keys(KeyPair { primary: key(first), secondary: key(first + 1) })
    }

    fn thumbprints(first: u8, second: u8) -> HubAuthentication {
        let of = |byte| Sha256Thumbprint::from_bytes([byte; 32]);
        HubAuthentication::SelfSigned { primary: of(first), secondary: of(second) }
    }

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(object) = value else { panic!("{value}") };
        object
    }

    fn answered(authentication: Value) -> Value {
        json!({
            "deviceId": "d", "generationId": "637", "etag": "MTIz", "connectionState": "Disconnected",
            "status": "disabled", "statusReason": "stolen", "connectionStateUpdatedTime": "0001-01-01T00:00:00Z",
            "statusUpdatedTime": "0001-01-01T00:00:00Z", "lastActivityTime": "0001-01-01T00:00:00Z",
            "cloudToDeviceMessageCount": 0, "authentication": authentication,
            "capabilities": {"iotEdge": true}, "deviceScope": "ms-azure-iot-edge://d-637", "parentScopes": [],
        })
    }

    /// DPS-HUB-12
    #[test]
    fn a_new_device_is_one_entry_of_a_bulk_request_with_its_twin() {
        let device_id = "a b".replace(' ', ":").parse().unwrap();
        let twin = TwinContent::parse(r#"{"tags":{"a":1},"properties":{"desired":{"b":1.10}}}"#).unwrap();
        let authentication = thumbprints(1, 1);
        let new = NewIdentity {
            device_id: &device_id,
            authentication: &authentication,
            status: HubDeviceStatus::Enabled,
            iot_edge: true,
            twin: Some(&twin),
        };
        let expected = format!(
            concat!(
                r#"[{{"id":"a:b","importMode":"create","status":"enabled","authentication":{{"type":"selfSigned","#,
                r#""x509Thumbprint":{{"primaryThumbprint":"{}"}}}},"capabilities":{{"iotEdge":true}},"#,
                r#""tags":{{"a":1}},"properties":{{"desired":{{"b":1.10}}}}}}]"#
            ),
            "01".repeat(32)
        );
        assert_eq!(new.json().to_string(), expected);
        let without = NewIdentity { twin: None, authentication: &keys(1), ..new }.json();
        assert_eq!(without[0].get("tags"), None);
        assert_eq!(without[0]["authentication"]["type"], "sas");
        let disabled = NewIdentity { status: HubDeviceStatus::Disabled, ..new }.json();
        assert_eq!(disabled[0]["status"], "disabled");
        let secondary = &authentication_json(&thumbprints(1, 2))["x509Thumbprint"]["secondaryThumbprint"];
        assert_eq!(secondary, &"02".repeat(32));
    }

    /// DPS-HUB-13, DPS-HUB-14
    #[test]
    fn a_change_of_authentication_keeps_all_else_that_was_read() {
        let device_id = "d".parse().unwrap();
        let read = Identity::read(&device_id, object(answered(authentication_json(&keys(1))))).unwrap();
        assert_eq!(read.etag().as_str(), "MTIz");
        assert!(read.is_iot_edge() && !read.is_enabled());
        assert!(read.authenticates_with(&keys(1)) && !read.authenticates_with(&keys(2)));
        let expected = json!({
            "status": "disabled", "statusReason": "stolen", "capabilities": {"iotEdge": true},
            "deviceScope": "ms-azure-iot-edge://d-637", "parentScopes": [], "deviceId": "d",
            "authentication": authentication_json(&thumbprints(1, 2)),
        });
        assert_eq!(read.json_with(&thumbprints(1, 2)), expected);
        let kept = Identity::of_written(&device_id, read.etag().as_str(), &read.written()).unwrap();
        assert_eq!(kept.json_with(&thumbprints(1, 2)), expected);
        assert!(kept.is_iot_edge() && !kept.is_enabled() && kept.etag() == read.etag());
        for (etag, written) in [("*", "{}"), ("MTIz", "[]"), ("MTIz", "")] {
            let why = Identity::of_written(&device_id, etag, written).unwrap_err();
            assert!(matches!(why, HubError::Malformed(_)), "{why:?}");
        }
    }

    /// DPS-HUB-13
    #[test]
    fn what_a_device_authenticates_with_is_compared_with_what_it_should() {
        let device_id = "d".parse().unwrap();
        let with = |authentication: Value, wanted: &HubAuthentication| {
            Identity::read(&device_id, object(answered(authentication))).unwrap().authenticates_with(wanted)
        };
        let lower = json!({"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": "0a".repeat(32), "secondaryThumbprint": null}});
        assert!(with(lower.clone(), &thumbprints(10, 10)));
        assert!(!with(lower.clone(), &thumbprints(10, 11)) && !with(lower, &keys(1)));
        let sha1 = json!({"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": "0a".repeat(20)}});
        for other in [sha1, json!({"type": "certificateAuthority"}), json!({"type": "none"}), json!(null)] {
            assert!(!with(other, &thumbprints(10, 10)));
        }
    }

    /// DPS-HUB-16, DPS-HUB-18
    #[test]
    fn an_answer_of_another_device_or_without_a_version_is_malformed() {
        let device_id = "d".parse().unwrap();
        let full = answered(authentication_json(&keys(1)));
        for (member, value) in
            [("deviceId", json!("D")), ("deviceId", json!(null)), ("etag", json!("*")), ("etag", json!(7))]
        {
            let mut changed = object(full.clone());
            changed.insert(member.to_owned(), value);
            let why = Identity::read(&device_id, changed).unwrap_err();
            assert!(matches!(why, HubError::Malformed(_)), "{why:?}");
        }
        let shown = format!("{:?}", Identity::read(&device_id, object(full)).unwrap());
        assert!(!shown.contains("AQEB"), "{shown}");
    }
}
