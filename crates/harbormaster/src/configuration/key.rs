//! The keys of a configuration: the one table that the reader, `config show` and docs/configuration.md go by.
//! Spec: DPS-SERVE-3, DPS-SERVE-8.

use std::borrow::Cow;

use super::{broker, chain_rules, hub, instances, limits, listen, log, outbound, store, tls};

/// A table of the file.
pub(crate) struct Section {
    /// Path, such as `instance.hub`; empty for the file itself.
    pub(crate) path: &'static str,
    /// Whether it may stand several times, as `[[path]]`.
    pub(crate) repeated: bool,
    /// One sentence.
    pub(crate) about: &'static str,
    /// Its keys, tables left out.
    pub(crate) keys: Vec<Key>,
}

/// A key of a table.
pub(crate) struct Key {
    /// As it stands in the file; a quantity carries its unit.
    pub(crate) name: &'static str,
    /// What may stand there, with unit and range.
    pub(crate) form: Cow<'static, str>,
    /// What counts when it is left out.
    pub(crate) default: Standard,
    /// One or two sentences.
    pub(crate) meaning: &'static str,
}

/// What counts when a key is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standard {
    /// It may not be left out.
    Required,
    /// Nothing; the text says what that means.
    Nothing(&'static str),
    /// This value, in TOML.
    Value(String),
}

impl Key {
    pub(super) fn new(
        name: &'static str,
        form: impl Into<Cow<'static, str>>,
        default: Standard,
        meaning: &'static str,
    ) -> Self {
        Self { name, form: form.into(), default, meaning }
    }

    /// The two keys by which a secret is named: the first is read from a file, the second from the environment.
    pub(super) fn secret(
        names: [&'static str; 2],
        form: &'static str,
        default: Standard,
        meaning: &'static str,
    ) -> [Self; 2] {
        let [file, environment] = names;
        [
            Self::new(file, format!("path of a file with {form}"), default.clone(), meaning),
            Self::new(environment, format!("name of an environment variable with {form}"), default, meaning),
        ]
    }
}

impl Section {
    /// The header line.
    pub(crate) fn header(&self) -> String {
        if self.repeated { format!("[[{}]]", self.path) } else { format!("[{}]", self.path) }
    }
}

/// Every table, in the order in which they are shown.
pub(crate) fn sections() -> [Section; 11] {
    [
        listen::section(),
        broker::section(),
        tls::section(),
        store::section(),
        limits::section(),
        outbound::section(),
        log::section(),
        instances::section(),
        chain_rules::section(),
        hub::section(),
        instances::policy_section(),
    ]
}

/// The keys of the table at `path`: its own, and the tables that stand within it.
pub(super) fn known_in<'s>(sections: &'s [Section], path: &str) -> Vec<&'s str> {
    let mut known = Vec::new();
    for section in sections {
        if section.path == path {
            known.extend(section.keys.iter().map(|key| key.name));
        }
        let within = if path.is_empty() {
            Some(section.path)
        } else {
            section.path.strip_prefix(path).and_then(|rest| rest.strip_prefix('.'))
        };
        let inner = within.and_then(|rest| rest.split('.').next());
        known.extend(inner.filter(|inner| !known.contains(inner)));
    }
    known
}
