//! What is wrong with a configuration, and where. Spec: DPS-SERVE-2.

use std::fmt;
use std::ops::Range;

/// A place in the file: line and column, both from 1; a column is a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Position {
    /// No place in the file, but the file as a whole.
    pub(crate) const FILE: Self = Self { line: 0, column: 0 };
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Located<T> {
    pub(crate) value: T,
    pub(crate) at: Position,
}

/// One thing that is wrong. Shows as `FILE:LINE:COLUMN: key: why (what to do)`, without the place where it is the file as a
/// whole, and never holds the value of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) file: String,
    pub(crate) at: Position,
    /// Path of the key, such as `instance.hub.name`.
    pub(crate) key: String,
    pub(crate) why: String,
    pub(crate) advice: String,
    /// Of a warning: it keeps clients away already.
    pub(crate) grave: bool,
}

impl Fault {
    /// Writes a warning to the log.
    pub(crate) fn log(&self) {
        if self.grave {
            tracing::error!("{self}");
        } else {
            tracing::warn!("{self}");
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, at, key, why, advice, grave: _ } = self;
        match at {
            &Position::FILE => write!(f, "{file}: {key}: {why} ({advice})"),
            Position { line, column } => write!(f, "{file}:{line}:{column}: {key}: {why} ({advice})"),
        }
    }
}

/// Turns byte offsets of a text into positions.
pub(super) struct Lines<'t> {
    text: &'t str,
}

impl<'t> Lines<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        Self { text }
    }

    /// Where `span` begins.
    pub(super) fn position(&self, span: &Range<usize>) -> Position {
        let mut end = span.start.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Position { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
    }

    /// The line in which `span` begins.
    pub(super) fn line(&self, span: &Range<usize>) -> &'t str {
        self.text.lines().nth(self.position(span).line - 1).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_counts_lines_and_characters_from_one() {
        let lines = Lines::of("a = 1\n\u{e9}\u{e9} = 2\n");
        assert_eq!(lines.position(&(0..1)), Position { line: 1, column: 1 });
        assert_eq!(lines.position(&(4..5)), Position { line: 1, column: 5 });
        assert_eq!(lines.position(&(10..11)), Position { line: 2, column: 3 });
        assert_eq!(lines.position(&(7..8)), Position { line: 2, column: 1 });
        assert_eq!(lines.position(&(999..1_000)), Position { line: 3, column: 1 });
    }
}
