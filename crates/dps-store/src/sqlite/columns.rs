//! How single values lie in columns.

use std::fmt::Display;
use std::str::FromStr;

use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::types::FromSql;

use super::fault::Fault;
use crate::words::Word;

/// Reads the columns of a row one after the other, in the order of its SELECT.
pub(super) struct Columns<'row> {
    row: &'row Row<'row>,
    next: usize,
}

impl<'row> Columns<'row> {
    pub(super) fn of(row: &'row Row<'row>) -> Self {
        Self { row, next: 0 }
    }

    /// The next column as it is.
    pub(super) fn value<T: FromSql>(&mut self) -> Result<T, Fault> {
        let value = self.row.get(self.next)?;
        self.next += 1;
        Ok(value)
    }

    /// The next column, a text that is parsed.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&mut self) -> Result<T, Fault> {
        let text: String = self.value()?;
        self.parse(&text)
    }

    /// The next column, a text that is parsed, or NULL.
    pub(super) fn optional<T: FromStr<Err: Display>>(&mut self) -> Result<Option<T>, Fault> {
        let text: Option<String> = self.value()?;
        text.map(|text| self.parse(&text)).transpose()
    }

    /// The next column, one of a few words.
    pub(super) fn word<T: Word>(&mut self) -> Result<T, Fault> {
        self.optional_word()?.ok_or_else(|| self.unreadable("it is NULL"))
    }

    /// The next column, one of a few words or NULL.
    pub(super) fn optional_word<T: Word>(&mut self) -> Result<Option<T>, Fault> {
        let Some(text) = self.value::<Option<String>>()? else { return Ok(None) };
        let known = T::ALL.iter().find(|word| word.word() == text);
        known.copied().map(Some).ok_or_else(|| self.unreadable(format!("{text:?} is no word for it")))
    }

    /// The next column, a time.
    pub(super) fn time(&mut self) -> Result<Timestamp, Fault> {
        let nanoseconds: i64 = self.value()?;
        Timestamp::from_nanosecond(nanoseconds.into()).map_err(|error| self.unreadable(error))
    }

    /// The next column, a time or NULL.
    pub(super) fn optional_time(&mut self) -> Result<Option<Timestamp>, Fault> {
        let Some(nanoseconds) = self.value::<Option<i64>>()? else { return Ok(None) };
        let time = Timestamp::from_nanosecond(nanoseconds.into());
        time.map(Some).map_err(|error| self.unreadable(error))
    }

    /// A fault of the column that was read last.
    pub(super) fn unreadable(&self, why: impl Display) -> Fault {
        let column = self.next.saturating_sub(1);
        let row = self.row.as_ref();
        Fault::unreadable(format!("column {}: {why}", row.column_name(column).unwrap_or("?")))
    }

    fn parse<T: FromStr<Err: Display>>(&self, text: &str) -> Result<T, Fault> {
        text.parse().map_err(|error| self.unreadable(error))
    }
}
