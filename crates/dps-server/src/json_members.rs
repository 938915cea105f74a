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

pub(crate) fn bad(path: &str, why: impl Into<String>) -> BadMember {
    BadMember { path: path.to_owned(), why: excerpt(why.into(), WHY_CHARACTERS_MAX) }
}

/// Longest name of an unknown member in an error, in characters.
const UNKNOWN_CHARACTERS_MAX: usize = 64;

/// The members of one object, and where it stands.
pub(crate) struct Members<'v> {
    pub(crate) object: &'v Map<String, Value>,
    pub(crate) path: String,
}

impl<'v> Members<'v> {
    /// A null member counts as absent, as clients send it so.
    pub(crate) fn present(&self, name: &str) -> Option<&'v Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// That there are no members but these.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), BadMember> {
        match self.object.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => {
                let name = excerpt(name.clone(), UNKNOWN_CHARACTERS_MAX);
                Err(self.wrong(&name, format!("there is no such member; there are {}", known.join(", "))))
            }
        }
    }

    pub(crate) fn object(&self, name: &str) -> Result<Option<Members<'v>>, BadMember> {
        match self.present(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(Members { object, path: self.path_of(name) })),
            Some(_) => Err(self.wrong(name, "must be an object")),
        }
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&'v str>, BadMember> {
        match self.present(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "must be a string")),
        }
    }

    pub(crate) fn required_text(&self, name: &str) -> Result<&'v str, BadMember> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }

    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, BadMember> {
        match self.present(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(name, "must be true or false")),
        }
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, BadMember> {
        match self.present(name) {
            None => Ok(None),
            Some(value) => {
                value.as_u64().map(Some).ok_or_else(|| self.wrong(name, "must be a whole number, 0 or more"))
            }
        }
    }

    pub(crate) fn parsed<T>(&self, name: &str) -> Result<Option<T>, BadMember>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        let parse = |text: &str| text.parse().map_err(|why| self.wrong(name, format!("{text:?}: {why}")));
        self.text(name)?.map(parse).transpose()
    }

    pub(crate) fn required<T>(&self, name: &str) -> Result<T, BadMember>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        self.parsed(name)?.ok_or_else(|| self.missing(name))
    }

    /// Like [`Members::required`], without the text in the error.
    pub(crate) fn required_secret(&self, name: &str) -> Result<SymmetricKey, BadMember> {
        self.secret(name)?.ok_or_else(|| self.missing(name))
    }

    /// Like [`Members::parsed`], without the text in the error.
    pub(crate) fn secret<T>(&self, name: &str) -> Result<Option<T>, BadMember>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        let parse = |text: &str| text.parse().map_err(|why: T::Err| self.wrong(name, why.to_string()));
        self.text(name)?.map(parse).transpose()
    }

    pub(crate) fn list<T>(&self, name: &str) -> Result<Vec<T>, BadMember>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        let items = self.array(name)?.unwrap_or_default();
        let parse = |(at, item): (usize, &Value)| {
            let name = format!("{name}[{at}]");
            let text = item.as_str().ok_or_else(|| self.wrong(&name, "must be a string"))?;
            text.parse().map_err(|why| self.wrong(&name, format!("{text:?}: {why}")))
        };
        items.iter().enumerate().map(parse).collect()
    }

    /// An array of objects, each with its own path.
    pub(crate) fn objects(&self, name: &str) -> Result<Option<Vec<Members<'v>>>, BadMember> {
        let read = |(at, item): (usize, &'v Value)| {
            let name = format!("{name}[{at}]");
            match item {
                Value::Object(object) => Ok(Members { object, path: self.path_of(&name) }),
                _ => Err(self.wrong(&name, "must be an object")),
            }
        };
        self.array(name)?.map(|items| items.iter().enumerate().map(read).collect()).transpose()
    }

    pub(crate) fn array(&self, name: &str) -> Result<Option<&'v [Value]>, BadMember> {
        match self.present(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(self.wrong(name, "must be an array")),
        }
    }

    pub(crate) fn to_json(&self) -> String {
        Value::Object(self.object.clone()).to_string()
    }

    pub(crate) fn missing(&self, name: &str) -> BadMember {
        self.wrong(name, "is missing")
    }

    pub(crate) fn wrong(&self, name: &str, why: impl Into<String>) -> BadMember {
        bad(&self.path_of(name), why)
    }

    pub(crate) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}
