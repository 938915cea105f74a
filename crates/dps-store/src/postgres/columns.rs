//! How single values lie in columns.

use std::fmt::Display;
use std::str::FromStr;

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::fault::Fault;
use crate::words::Word;

/// Reads the columns of a row one after the other, in the order of its SELECT.
pub(super) struct Columns<'row> {
    row: &'row Row,
    next: usize,
}

impl<'row> Columns<'row> {
    pub(super) fn of(row: &'row Row) -> Self {
        Self { row, next: 0 }
    }

    /// Whether the next column is NULL; it stays the next one.
    pub(super) fn is_null(&self) -> Result<bool, Fault> {
        let value: Option<Ignored> =
            self.row.try_get(self.next).map_err(|error| self.unreadable_at(self.next, error))?;
        Ok(value.is_none())
    }

    /// Passes over as many columns as there are in `columns`.
    pub(super) fn skip(&mut self, count: usize) {
        self.next += count;
    }

    /// The next column as it is.
    pub(super) fn value<T: FromSql<'row>>(&mut self) -> Result<T, Fault> {
        let value = self.row.try_get(self.next).map_err(|error| self.unreadable_at(self.next, error))?;
        self.next += 1;
        Ok(value)
    }

    /// The next column, a text that is parsed.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&mut self) -> Result<T, Fault> {
        let text: &str = self.value()?;
        text.parse().map_err(|error| self.unreadable(error))
    }

    /// The next column, a text that is parsed, or NULL.
    pub(super) fn optional<T: FromStr<Err: Display>>(&mut self) -> Result<Option<T>, Fault> {
        let text: Option<&str> = self.value()?;
        text.map(|text| text.parse().map_err(|error| self.unreadable(error))).transpose()
    }

    /// The next column, texts that are parsed.
    pub(super) fn all_parsed<T: FromStr<Err: Display>>(&mut self) -> Result<Vec<T>, Fault> {
        let texts: Vec<&str> = self.value()?;
        texts.into_iter().map(|text| text.parse().map_err(|error| self.unreadable(error))).collect()
    }

    /// The next column, one of a few words.
    pub(super) fn word<T: Word>(&mut self) -> Result<T, Fault> {
        self.optional_word()?.ok_or_else(|| self.unreadable("it is NULL"))
    }

    /// The next column, one of a few words or NULL.
    pub(super) fn optional_word<T: Word>(&mut self) -> Result<Option<T>, Fault> {
        let Some(text) = self.value::<Option<&str>>()? else { return Ok(None) };
        let known = T::ALL.iter().find(|word| word.word() == text);
        known.copied().map(Some).ok_or_else(|| self.unreadable(format!("{text:?} is no word for it")))
    }

    /// The next column, a number of fewer bits than it has room for.
    pub(super) fn number<T: TryFrom<i64, Error: Display>>(&mut self) -> Result<T, Fault> {
        let number: i64 = self.value()?;
        T::try_from(number).map_err(|error| self.unreadable(error))
    }

    /// The same, or NULL.
    pub(super) fn optional_number<T: TryFrom<i64, Error: Display>>(&mut self) -> Result<Option<T>, Fault> {
        let number: Option<i64> = self.value()?;
        number.map(|number| T::try_from(number).map_err(|error| self.unreadable(error))).transpose()
    }

    /// The next column, a time.
    pub(super) fn time(&mut self) -> Result<Timestamp, Fault> {
        self.optional_time()?.ok_or_else(|| self.unreadable("it is NULL"))
    }

    /// The next column, a time or NULL.
    pub(super) fn optional_time(&mut self) -> Result<Option<Timestamp>, Fault> {
        let nanoseconds: Option<i64> = self.value()?;
        let time = nanoseconds.map(|nanoseconds| Timestamp::from_nanosecond(nanoseconds.into()));
        time.transpose().map_err(|error| self.unreadable(error))
    }

    /// A fault of the column that was read last.
    pub(super) fn unreadable(&self, why: impl Display) -> Fault {
        self.unreadable_at(self.next.saturating_sub(1), why)
    }

    fn unreadable_at(&self, column: usize, why: impl Display) -> Fault {
        let name = self.row.columns().get(column).map_or("?", |column| column.name());
        Fault::unreadable(format!("column {name}: {why}"))
    }
}

/// A value of any type, of which only matters that it is there.
struct Ignored;

impl FromSql<'_> for Ignored {
    fn from_sql(
        _: &tokio_postgres::types::Type,
        _: &[u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self)
    }

    fn accepts(_: &tokio_postgres::types::Type) -> bool {
        true
    }
}
