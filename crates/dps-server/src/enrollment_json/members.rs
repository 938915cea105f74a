//! Members of JSON objects, each read with its path, so that an error names it.

use dps_proto::key::SymmetricKey;
use serde_json::{Map, Value};

use crate::excerpt::excerpt;

/// A member that is missing or wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {why}")]
pub struct BadMember {
    /// Such as `attestation.symmetricKey.primaryKey`.
    pub path: String,
    /// What is wrong with it.
    pub why: String,
}

/// Longest cause of a bad member, in characters; it may show the value. Spec: DPS-EXPLAIN-11.
const WHY_CHARACTERS_MAX: usize = 256;

pub(super) fn bad(path: &str, why: impl Into<String>) -> BadMember {
    BadMember { path: path.to_owned(), why: excerpt(why.into(), WHY_CHARACTERS_MAX) }
}

/// The members of one object, and where it stands.
pub(super) struct Members<'v> {
    pub(super) object: &'v Map<String, Value>,
    pub(super) path: String,
}

impl<'v> Members<'v> {
    /// A null member counts as absent, as clients send it so.
    pub(super) fn present(&self, name: &str) -> Option<&'v Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn object(&self, name: &str) -> Result<Option<Members<'v>>, BadMember> {
        match self.present(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(Members { object, path: self.path_of(name) })),
            Some(_) => Err(self.wrong(name, "must be an object")),
        }
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'v str>, BadMember> {
        match self.present(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "must be a string")),
        }
    }

    pub(super) fn required_text(&self, name: &str) -> Result<&'v str, BadMember> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, BadMember> {
        match self.present(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(name, "must be true or false")),
        }
    }

    pub(super) fn parsed<T>(&self, name: &str) -> Result<Option<T>, BadMember>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        let parse = |text: &str| text.parse().map_err(|why| self.wrong(name, format!("{text:?}: {why}")));
        self.text(name)?.map(parse).transpose()
    }

    pub(super) fn required<T>(&self, name: &str) -> Result<T, BadMember>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        self.parsed(name)?.ok_or_else(|| self.missing(name))
    }

    /// Like [`Members::required`], without the text in the error.
    pub(super) fn required_secret(&self, name: &str) -> Result<SymmetricKey, BadMember> {
        self.required_text(name)?
            .parse()
            .map_err(|why: dps_proto::key::BadKey| self.wrong(name, why.to_string()))
    }

    pub(super) fn list<T>(&self, name: &str) -> Result<Vec<T>, BadMember>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        let items = match self.present(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(self.wrong(name, "must be an array")),
        };
        let parse = |(at, item): (usize, &Value)| {
            let name = format!("{name}[{at}]");
            let text = item.as_str().ok_or_else(|| self.wrong(&name, "must be a string"))?;
            text.parse().map_err(|why| self.wrong(&name, format!("{text:?}: {why}")))
        };
        items.iter().enumerate().map(parse).collect()
    }

    pub(super) fn to_json(&self) -> String {
        Value::Object(self.object.clone()).to_string()
    }

    pub(super) fn missing(&self, name: &str) -> BadMember {
        self.wrong(name, "is missing")
    }

    pub(super) fn wrong(&self, name: &str, why: impl Into<String>) -> BadMember {
        bad(&self.path_of(name), why)
    }

    pub(super) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}
