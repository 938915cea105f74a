//! `[log]`: how the log is written. Spec: DPS-SERVE-9.

use super::document::Table;
use super::key::{Key, Section, Standard};
use crate::logging::{Format, Level};

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) format: Format,
    pub(crate) level: Level,
}

pub(super) fn section() -> Section {
    Section {
        path: "log",
        repeated: false,
        about: "The log, which goes to standard error.",
        keys: vec![
            Key::new(
                "format",
                r#""text" or "json""#,
                Standard::Value(r#""text""#.to_owned()),
                "Lines for people, or one JSON object a line for programs.",
            ),
            Key::new(
                "level",
                r#""error", "warn", "info", "debug" or "trace""#,
                Standard::Value(r#""info""#.to_owned()),
                "The least severe lines that are written. The environment variable HARBORMASTER_LOG, a filter such as \
                 `debug,dps_server=trace`, goes before it.",
            ),
        ],
    }
}

impl Log {
    pub(super) fn read(table: &Table<'_>) -> Self {
        let format = table.word("format", &Format::WORDS).map(|format| format.value);
        let level = table.word("level", &Level::WORDS).map(|level| level.value);
        Self { format: format.unwrap_or_default(), level: level.unwrap_or_default() }
    }
}
