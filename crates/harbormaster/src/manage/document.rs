//! An entry as JSON whose members survive byte for byte unless they are set. Spec: DPS-CLI-9.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// Members that only the service writes.
const READ_ONLY: [&str; 4] = ["createdDateTimeUtc", "lastUpdatedDateTimeUtc", "registrationState", "etag"];

/// One entry. It may hold keys, so it has no `Debug`.
#[derive(Default)]
pub(super) struct EntryDocument {
    members: BTreeMap<String, Box<RawValue>>,
}

impl EntryDocument {
    /// Reads a JSON object.
    pub(super) fn parse(json: &RawValue) -> Result<Self, serde_json::Error> {
        Ok(Self { members: serde_json::from_str(json.get())? })
    }

    /// A member; null counts as absent.
    pub(super) fn get(&self, name: &str) -> Option<Value> {
        let member: Value = serde_json::from_str(self.members.get(name)?.get()).ok()?;
        Some(member).filter(|value| !value.is_null())
    }

    /// A member that is text.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        Some(self.get(name)?.as_str()?.to_owned())
    }

    /// Sets a member.
    pub(super) fn set(&mut self, name: &str, value: &Value) -> Result<(), serde_json::Error> {
        self.set_raw(name, to_raw_value(value)?);
        Ok(())
    }

    /// Sets a member, byte for byte.
    pub(super) fn set_raw(&mut self, name: &str, value: Box<RawValue>) {
        self.members.insert(name.to_owned(), value);
    }

    /// Takes out what the service sets by itself.
    pub(super) fn writable(mut self) -> Self {
        self.members.retain(|name, _| !READ_ONLY.contains(&name.as_str()));
        self
    }

    /// The JSON text.
    pub(super) fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&self.members)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// DPS-CLI-9
    #[test]
    fn members_that_are_not_set_keep_their_bytes() {
        let text = r#"{"customFutureField":{"n":1.10,"big":123456789012345678901234567890},"deviceId":"a","etag":"x"}"#;
        let mut document = EntryDocument::parse(serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!(document.text("etag").as_deref(), Some("x"));
        document.set("deviceId", &json!("b")).unwrap();
        assert_eq!(
            document.writable().to_json().unwrap(),
            r#"{"customFutureField":{"n":1.10,"big":123456789012345678901234567890},"deviceId":"b"}"#
        );
    }
}
