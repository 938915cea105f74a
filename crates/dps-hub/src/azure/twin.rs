//! The twin of a device. Spec: DPS-HUB-15.

use dps_core::enrollment::TwinDocument;
use dps_proto::ids::DeviceId;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::etag::HubETag;
use super::refusal::HubError;

/// What hubs put into properties and take from nobody.
const WRITTEN_BY_THE_HUB: [&str; 2] = ["$metadata", "$version"];

/// What users and devices put into a twin. Numbers keep their spelling.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TwinContent {
    /// Tags.
    pub tags: Option<Map<String, Value>>,
    /// Desired properties.
    pub desired: Option<Map<String, Value>>,
    /// Reported properties; only a new device can be given them.
    pub reported: Option<Map<String, Value>>,
}

/// A twin as it was read.
#[derive(Debug, Clone)]
pub struct Twin {
    /// The version that was read; not that of the identity.
    pub etag: HubETag,
    /// What it holds, without what hubs add.
    pub content: TwinContent,
}

/// A text that is no twin: `tags` or `properties` is no object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a twin is {{\"tags\":{{}},\"properties\":{{\"desired\":{{}}}}}}, and nothing else than objects stands there"
)]
pub struct MalformedTwin;

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "deviceId")]
    device_id: Option<String>,
    etag: Option<Value>,
    tags: Option<Map<String, Value>>,
    properties: Option<Properties>,
}

#[derive(Deserialize)]
struct Properties {
    desired: Option<Map<String, Value>>,
    reported: Option<Map<String, Value>>,
}

impl TwinContent {
    /// Reads `{"tags":{...},"properties":{"desired":{...}}}`; other members are left out.
    ///
    /// # Errors
    /// Where one of them is no object.
    pub fn parse(text: &str) -> Result<Self, MalformedTwin> {
        serde_json::from_str(text).map(Self::of).map_err(|_| MalformedTwin)
    }

    fn of(document: Document) -> Self {
        let of_users = |properties: Option<Map<String, Value>>| {
            properties.map(|mut properties| {
                WRITTEN_BY_THE_HUB.iter().for_each(|member| drop(properties.shift_remove(*member)));
                properties
            })
        };
        let properties = document.properties.unwrap_or(Properties { desired: None, reported: None });
        Self {
            tags: document.tags,
            desired: of_users(properties.desired),
            reported: of_users(properties.reported),
        }
    }

    /// As members of a device to be made.
    pub(super) fn created(&self) -> Map<String, Value> {
        let properties = object([("desired", &self.desired), ("reported", &self.reported)]);
        object([("tags", &self.tags), ("properties", &(!properties.is_empty()).then_some(properties))])
    }

    /// As the document that a device begins with elsewhere.
    pub fn document(&self) -> TwinDocument {
        TwinDocument(Value::Object(self.created()).to_string().into())
    }

    /// As the body that replaces a twin: what is absent is emptied.
    pub(super) fn whole(&self) -> Value {
        let of = |given: &Option<Map<String, Value>>| given.clone().unwrap_or_default();
        json!({"tags": of(&self.tags), "properties": {"desired": of(&self.desired)}})
    }

    /// As the body that is merged into a twin: what is absent is left alone.
    pub(super) fn given(&self) -> Value {
        let properties = object([("desired", &self.desired)]);
        Value::Object(object([
            ("tags", &self.tags),
            ("properties", &(!properties.is_empty()).then_some(properties)),
        ]))
    }
}

/// The members that are there.
fn object<const N: usize>(members: [(&str, &Option<Map<String, Value>>); N]) -> Map<String, Value> {
    let given = members.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
    given.map(|(name, value)| (name.to_owned(), Value::Object(value))).collect()
}

impl TryFrom<&TwinDocument> for TwinContent {
    type Error = MalformedTwin;

    fn try_from(document: &TwinDocument) -> Result<Self, MalformedTwin> {
        Self::parse(&document.0)
    }
}

impl Twin {
    /// Takes what a hub answered.
    pub(super) fn read(device_id: &DeviceId, answered: Map<String, Value>) -> Result<Self, HubError> {
        let malformed = |why: &str| HubError::Malformed(why.to_owned());
        let document: Document = serde_json::from_value(Value::Object(answered))
            .map_err(|_| malformed("its tags or properties are no objects"))?;
        if document.device_id.as_deref() != Some(device_id.as_str()) {
            return Err(malformed("it is not of the device that was asked for"));
        }
        Ok(Self { etag: HubETag::of(document.etag.as_ref())?, content: TwinContent::of(document) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: &str = r#"{"deviceId":"d","etag":"AAAAAAAAAAE=","deviceEtag":"MTIz","status":"enabled","version":3,
        "tags":{"place":{"floor":1.0}},
        "properties":{"desired":{"big":123456789012345678901234567890,"$metadata":{"$lastUpdated":"x"},"$version":2},
                      "reported":{"$metadata":{},"$version":1,"on":true}}}"#;

    /// DPS-HUB-15
    #[test]
    fn a_twin_is_read_without_what_hubs_add_and_written_as_it_was_read() {
        let twin = Twin::read(&"d".parse().unwrap(), serde_json::from_str(READ).unwrap()).unwrap();
        assert_eq!(twin.etag.as_str(), "AAAAAAAAAAE=");
        let desired = r#"{"big":123456789012345678901234567890}"#;
        assert_eq!(
            Value::Object(twin.content.created()).to_string(),
            format!(
                r#"{{"tags":{{"place":{{"floor":1.0}}}},"properties":{{"desired":{desired},"reported":{{"on":true}}}}}}"#
            )
        );
        assert_eq!(TwinContent::try_from(&twin.content.document()), Ok(twin.content.clone()));
        let body = format!(r#"{{"tags":{{"place":{{"floor":1.0}}}},"properties":{{"desired":{desired}}}}}"#);
        assert_eq!(
            (twin.content.whole().to_string(), twin.content.given().to_string()),
            (body.clone(), body)
        );
    }

    /// DPS-HUB-15
    #[test]
    fn what_is_absent_is_emptied_by_a_replacement_and_left_alone_by_a_merge() {
        let tags = TwinContent::parse(r#"{"tags":{"a":null}}"#).unwrap();
        assert_eq!(tags.whole().to_string(), r#"{"tags":{"a":null},"properties":{"desired":{}}}"#);
        assert_eq!(tags.given().to_string(), r#"{"tags":{"a":null}}"#);
        let none = TwinContent::try_from(&TwinDocument("{}".into())).unwrap();
        assert_eq!((none.given(), none.created().len()), (json!({}), 0));
        for bad in ["", "[]", r#"{"tags":1}"#, r#"{"properties":[]}"#, r#"{"properties":{"desired":"x"}}"#] {
            assert_eq!(TwinContent::parse(bad), Err(MalformedTwin), "{bad}");
        }
    }

    /// DPS-HUB-16
    #[test]
    fn a_twin_of_another_device_or_of_another_form_is_malformed() {
        let device_id = "d".parse().unwrap();
        for (from, to) in [
            (r#""deviceId":"d""#, r#""deviceId":"e""#),
            (r#""etag":"AAAAAAAAAAE=","#, ""),
            (r#""tags":{"#, r#""tags":7,"x":{"#),
        ] {
            let answered = serde_json::from_str(&READ.replace(from, to)).unwrap();
            let why = Twin::read(&device_id, answered).unwrap_err();
            assert!(matches!(why, HubError::Malformed(_)), "{why:?}");
        }
    }
}
