//! What a webhook answers with 200. Spec: DPS-HUB-22.

use std::fmt;

use dps_core::enrollment::TwinDocument;
use dps_proto::ids::HubName;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::azure::TwinContent;

/// Where a device is to go, and what it and its hub are to be told. Its `Debug` leaves out what they are told.
#[derive(Clone)]
pub struct Allocation {
    /// The hub; it may be one that is not linked.
    pub hub: HubName,
    /// The twin of the device, where it is new at the hub.
    pub initial_twin: Option<TwinDocument>,
    /// What the device is told in `payload`: an object, byte for byte.
    pub payload: Option<Box<RawValue>>,
    /// What of the answer is of no use; for the log.
    pub left_out: Vec<LeftOut>,
}

/// A member that is there and is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeftOut {
    /// `initialTwin` is not of the form of one.
    #[error("initialTwin is no object with tags and properties.desired")]
    InitialTwin,
    /// `payload` is something else than an object.
    #[error("payload is no object")]
    Payload,
}

impl fmt::Debug for Allocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Allocation")
            .field("hub", &self.hub)
            .field("left_out", &self.left_out)
            .finish_non_exhaustive()
    }
}

/// How `iotHubHostName` names no hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotNamed {
    /// It is not there.
    #[error("there is no iotHubHostName")]
    Absent,
    /// It is null.
    #[error("iotHubHostName is null")]
    Null,
    /// It is an empty text.
    #[error("iotHubHostName is empty")]
    Empty,
}

/// What the body of an answer comes to.
#[derive(Debug)]
pub(super) enum Read {
    Named(Allocation),
    NotNamed(NotNamed),
    Unreadable(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    /// `None` is absent, `Some(Null)` is null.
    #[serde(default, deserialize_with = "present")]
    iot_hub_host_name: Option<Value>,
    initial_twin: Option<Box<RawValue>>,
    payload: Option<Box<RawValue>>,
}

fn present<'d, D: serde::Deserializer<'d>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Reads the body of an answer with 200.
pub(super) fn read(body: &[u8]) -> Read {
    let Body { iot_hub_host_name, initial_twin, payload } = match serde_json::from_slice(body) {
        Ok(body) => body,
        // By place alone: what a webhook says is for the device.
        Err(why) => {
            return Read::Unreadable(format!(
                "no JSON object at line {} column {}",
                why.line(),
                why.column()
            ));
        }
    };
    let hub = match iot_hub_host_name {
        None => return Read::NotNamed(NotNamed::Absent),
        Some(Value::Null) => return Read::NotNamed(NotNamed::Null),
        Some(Value::String(name)) if name.is_empty() => return Read::NotNamed(NotNamed::Empty),
        Some(Value::String(name)) => name.parse().ok(),
        Some(_) => None,
    };
    let Some(hub) = hub else { return Read::Unreadable("iotHubHostName is no host name".to_owned()) };
    let mut left_out = Vec::new();
    let initial_twin = initial_twin.and_then(|twin| match TwinContent::parse(twin.get()) {
        Ok(_) => Some(TwinDocument(twin.get().into())),
        Err(_) => {
            left_out.push(LeftOut::InitialTwin);
            None
        }
    });
    let payload = payload.filter(|payload| {
        let is_object = payload.get().starts_with('{');
        if !is_object {
            left_out.push(LeftOut::Payload);
        }
        is_object
    });
    Read::Named(Allocation { hub, initial_twin, payload, left_out })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(body: &str) -> Allocation {
        match read(body.as_bytes()) {
            Read::Named(allocation) => allocation,
            other => panic!("{body}: {other:?}"),
        }
    }

    /// DPS-HUB-22
    #[test]
    fn a_hub_that_is_absent_null_or_empty_is_not_named() {
        for (body, expected) in [
            ("{}", NotNamed::Absent),
            (r#"{"payload":{"a":1}}"#, NotNamed::Absent),
            (r#"{"iotHubHostName":null}"#, NotNamed::Null),
            (r#"{"iotHubHostName":""}"#, NotNamed::Empty),
        ] {
            assert!(matches!(read(body.as_bytes()), Read::NotNamed(found) if found == expected), "{body}");
        }
    }

    /// DPS-HUB-22
    #[test]
    fn twin_and_payload_are_taken_byte_for_byte_where_they_are_objects() {
        let full = named(
            r#" { "iotHubHostName" : "Hub-1.example" , "initialTwin":{"tags":{"a":1.10},"properties":{"desired":{}}},
                "payload" : { "b" : [ null ] }, "more": 7 } "#,
        );
        assert_eq!(full.hub.as_str(), "Hub-1.example");
        assert_eq!(&*full.initial_twin.unwrap().0, r#"{"tags":{"a":1.10},"properties":{"desired":{}}}"#);
        assert_eq!(full.payload.unwrap().get(), r#"{ "b" : [ null ] }"#);
        assert!(full.left_out.is_empty());
        let bare = named(r#"{"iotHubHostName":"a","initialTwin":null,"payload":null}"#);
        assert!(bare.initial_twin.is_none() && bare.payload.is_none() && bare.left_out.is_empty());
        for useless in ["7", "\"x\"", "[{}]", "true"] {
            let body = format!(r#"{{"iotHubHostName":"a","initialTwin":{useless},"payload":{useless}}}"#);
            let found = named(&body);
            assert!(found.initial_twin.is_none() && found.payload.is_none(), "{body}");
            assert_eq!(found.left_out, [LeftOut::InitialTwin, LeftOut::Payload], "{body}");
        }
        assert_eq!(
            named(r#"{"iotHubHostName":"a","initialTwin":{"tags":7}}"#).left_out,
            [LeftOut::InitialTwin]
        );
    }

    /// DPS-HUB-22
    #[test]
    fn what_is_no_json_object_or_names_no_host_is_unreadable() {
        let deep = format!(r#"{{"payload":{}"#, "[".repeat(100_000));
        for body in [
            "",
            "null",
            "[]",
            "\"hub.example\"",
            "hub.example",
            "\u{feff}{}",
            r#"{"iotHubHostName":"a""#,
            r#"{"iotHubHostName":"a"} x"#,
            r#"{"iotHubHostName":"a","iotHubHostName":"b"}"#,
            r#"{"iotHubHostName":7}"#,
            r#"{"iotHubHostName":["a"]}"#,
            r#"{"iotHubHostName":"a b"}"#,
            r#"{"iotHubHostName":"https://hub.example"}"#,
            &deep,
        ] {
            assert!(matches!(read(body.as_bytes()), Read::Unreadable(_)), "{}", &body[..body.len().min(80)]);
        }
    }
}
