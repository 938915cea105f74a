//! The twin of a device.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::device::date;
use crate::refusal::Refusal;

/// What IoT Hub takes: 8 KB of tags, 32 KB of properties of each kind, ten levels.
const TAGS_BYTES_MAX: usize = 8 * 1024;
const PROPERTIES_BYTES_MAX: usize = 32 * 1024;
const LEVELS_MAX: usize = 10;

/// Tags and properties.
#[derive(Debug, Clone)]
pub(crate) struct Twin {
    /// Counts every change.
    version: u64,
    tags: Map<String, Value>,
    desired: Properties,
    reported: Properties,
}

#[derive(Debug, Clone)]
struct Properties {
    values: Map<String, Value>,
    version: u64,
    changed_at: Timestamp,
}

/// What a request wants in a twin.
#[derive(Debug, Clone, Default)]
pub(crate) struct TwinChange {
    tags: Option<Map<String, Value>>,
    desired: Option<Map<String, Value>>,
    reported: Option<Map<String, Value>>,
}

impl TwinChange {
    /// Takes `tags` and `properties` out of a body.
    pub(crate) fn take(body: &mut Map<String, Value>) -> Result<Self, Refusal> {
        let mut properties = object(body.shift_remove("properties"), "properties")?.unwrap_or_default();
        let change = Self {
            tags: object(body.shift_remove("tags"), "tags")?,
            desired: of_users(object(properties.shift_remove("desired"), "properties.desired")?),
            reported: of_users(object(properties.shift_remove("reported"), "properties.reported")?),
        };
        if let Some((member, _)) = properties.iter().next() {
            return Err(Refusal::argument_invalid(format!("Unknown member properties.{member}.")));
        }
        for (name, values) in
            [("tags", &change.tags), ("desired", &change.desired), ("reported", &change.reported)]
        {
            values.iter().try_for_each(|values| names(name, values, 1))?;
        }
        Ok(change)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tags.is_none() && self.desired.is_none() && self.reported.is_none()
    }
}

impl Twin {
    /// That of a new device.
    pub(crate) fn new(change: TwinChange, now: Timestamp) -> Result<Self, Refusal> {
        let properties = |values: Option<Map<String, Value>>| {
            let version = 1 + u64::from(values.is_some());
            Properties { values: without_nulls(values.unwrap_or_default()), version, changed_at: now }
        };
        let tags = without_nulls(change.tags.unwrap_or_default());
        let twin = Self {
            version: 1,
            tags,
            desired: properties(change.desired),
            reported: properties(change.reported),
        };
        twin.sized()
    }

    pub(crate) fn etag(&self) -> String {
        STANDARD.encode(self.version.to_be_bytes())
    }

    /// The twin with tags and desired properties replaced.
    pub(crate) fn replaced(&self, change: TwinChange, now: Timestamp) -> Result<Self, Refusal> {
        let mut twin = self.clone();
        twin.version += 1;
        twin.tags = without_nulls(change.tags.unwrap_or_default());
        twin.desired.change(without_nulls(change.desired.unwrap_or_default()), now);
        twin.sized()
    }

    /// The twin with tags and desired properties merged in: null removes.
    pub(crate) fn merged(&self, change: TwinChange, now: Timestamp) -> Result<Self, Refusal> {
        let mut twin = self.clone();
        twin.version += 1;
        merge(&mut twin.tags, change.tags.unwrap_or_default());
        if let Some(desired) = change.desired {
            let mut values = twin.desired.values.clone();
            merge(&mut values, desired);
            twin.desired.change(values, now);
        }
        twin.sized()
    }

    /// The twin with what its device reports merged in.
    pub(crate) fn reported(&self, reported: Map<String, Value>, now: Timestamp) -> Result<Self, Refusal> {
        let mut twin = self.clone();
        let mut values = twin.reported.values.clone();
        merge(&mut values, reported);
        twin.reported.change(values, now);
        twin.sized()
    }

    fn sized(self) -> Result<Self, Refusal> {
        let bytes = |values: &Map<String, Value>| Value::Object(values.clone()).to_string().len();
        let is_small = bytes(&self.tags) <= TAGS_BYTES_MAX
            && [&self.desired, &self.reported].iter().all(|it| bytes(&it.values) <= PROPERTIES_BYTES_MAX);
        if is_small { Ok(self) } else { Err(Refusal::argument_invalid("The twin is too large.")) }
    }

    pub(crate) fn tags(&self) -> &Map<String, Value> {
        &self.tags
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn properties(&self) -> Value {
        json!({"desired": self.desired.json(), "reported": self.reported.json()})
    }
}

impl Properties {
    fn change(&mut self, values: Map<String, Value>, now: Timestamp) {
        *self = Self { values, version: self.version + 1, changed_at: now };
    }

    fn json(&self) -> Value {
        let mut json = self.values.clone();
        json.insert("$metadata".to_owned(), self.metadata(&self.values));
        json.insert("$version".to_owned(), self.version.into());
        Value::Object(json)
    }

    fn metadata(&self, values: &Map<String, Value>) -> Value {
        let mut json = Map::new();
        json.insert("$lastUpdated".to_owned(), date(self.changed_at).into());
        for (name, value) in values {
            let of_value = value
                .as_object()
                .map_or_else(|| json!({"$lastUpdated": date(self.changed_at)}), |it| self.metadata(it));
            json.insert(name.clone(), of_value);
        }
        Value::Object(json)
    }
}

fn object(member: Option<Value>, name: &str) -> Result<Option<Map<String, Value>>, Refusal> {
    match member {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(_) => Err(Refusal::argument_invalid(format!("{name} is no object."))),
    }
}

/// What clients send back that they read.
fn of_users(values: Option<Map<String, Value>>) -> Option<Map<String, Value>> {
    let mut values = values?;
    for member in ["$metadata", "$version"] {
        values.shift_remove(member);
    }
    Some(values)
}

/// Names have neither control characters nor `.`, `$` and space; nesting has an end.
fn names(path: &str, values: &Map<String, Value>, level: usize) -> Result<(), Refusal> {
    for (name, value) in values {
        let path = format!("{path}.{name}");
        if level > LEVELS_MAX
            || name.is_empty()
            || name.contains(|c: char| c.is_control() || ".$ ".contains(c))
        {
            return Err(Refusal::argument_invalid(format!(
                "{path}: a twin takes no such name, or no such depth."
            )));
        }
        if let Value::Object(values) = value {
            names(&path, values, level + 1)?;
        }
    }
    Ok(())
}

fn merge(into: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (name, value) in patch {
        match (into.get_mut(&name), value) {
            (_, Value::Null) => drop(into.shift_remove(&name)),
            (Some(Value::Object(before)), Value::Object(patch)) => merge(before, patch),
            (_, Value::Object(patch)) => drop(into.insert(name, Value::Object(without_nulls(patch)))),
            (_, value) => drop(into.insert(name, value)),
        }
    }
}

fn without_nulls(values: Map<String, Value>) -> Map<String, Value> {
    let mut kept = Map::new();
    merge(&mut kept, values.into_iter().filter(|(_, value)| !value.is_null()).collect());
    kept
}
