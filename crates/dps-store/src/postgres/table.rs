//! Tables, and rows that are written to them: one at a time, or many in one statement.

use std::borrow::Cow;
use std::error::Error;

use bytes::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

/// A value of a column.
#[derive(Debug)]
pub(super) enum Value<'v> {
    Null,
    Text(Cow<'v, str>),
    Texts(Vec<Cow<'v, str>>),
    Bytes(Cow<'v, [u8]>),
    Integer(i64),
    Boolean(bool),
    Uuid(Uuid),
}

impl ToSql for Value<'_> {
    fn to_sql(&self, column: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Text(value) => value.to_sql_checked(column, out),
            Self::Texts(value) => value.to_sql_checked(column, out),
            Self::Bytes(value) => value.to_sql_checked(column, out),
            Self::Integer(value) => value.to_sql_checked(column, out),
            Self::Boolean(value) => value.to_sql_checked(column, out),
            Self::Uuid(value) => value.to_sql_checked(column, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        // Each value is checked when it is written.
        true
    }

    to_sql_checked!();
}

impl<'v> From<&'v str> for Value<'v> {
    fn from(value: &'v str) -> Self {
        Self::Text(value.into())
    }
}

impl<'v> From<&'v [u8]> for Value<'v> {
    fn from(value: &'v [u8]) -> Self {
        Self::Bytes(value.into())
    }
}

impl<'v> From<&'v [u8; 32]> for Value<'v> {
    fn from(value: &'v [u8; 32]) -> Self {
        Self::Bytes(value.as_slice().into())
    }
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<u32> for Value<'_> {
    fn from(value: u32) -> Self {
        Self::Integer(value.into())
    }
}

impl From<u16> for Value<'_> {
    fn from(value: u16) -> Self {
        Self::Integer(value.into())
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<Uuid> for Value<'_> {
    fn from(value: Uuid) -> Self {
        Self::Uuid(value)
    }
}

impl<'v, T: Into<Value<'v>>> From<Option<T>> for Value<'v> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A table, by the columns that rows are written with, in the order of their values.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// The columns of its key, which stand first.
    pub(super) key: usize,
    /// How many after them are written once, when the row is made.
    pub(super) made_with: usize,
    /// Each with the PostgreSQL type of its values.
    pub(super) columns: &'static [(&'static str, &'static str)],
}

impl Table {
    /// Makes one row, or writes it over where it has a certain etag: `$1` and so on are its values, the last one that etag. NULL is the
    /// etag of no row.
    pub(super) fn put(&self) -> String {
        let Self { name, columns, .. } = self;
        let values = joined(", ", 1..=columns.len(), |number| format!("${number}"));
        let etag = columns.len() + 1;
        format!(
            "INSERT INTO {name} ({}) VALUES ({values}) {} WHERE {name}.etag = ${etag}",
            self.names(),
            self.on_conflict()
        )
    }

    /// Makes many rows, and leaves those alone that are there: `$1` and so on are arrays of their values, as [`Rows`] holds them.
    pub(super) fn insert_all(&self) -> String {
        format!("{} ON CONFLICT DO NOTHING", self.write_arrays())
    }

    /// Makes many rows, and writes those over that are there; as [`Table::insert_all`].
    pub(super) fn replace_all(&self) -> String {
        format!("{} {}", self.write_arrays(), self.on_conflict())
    }

    /// In the order of their keys, so that two nodes that write the same rows wait for each other one way only.
    fn write_arrays(&self) -> String {
        let Self { name, columns, .. } = self;
        let arrays =
            joined(", ", 0..columns.len(), |number| format!("${}::{}[]", number + 1, columns[number].1));
        let (names, key) = (self.names(), self.key_names());
        format!("INSERT INTO {name} ({names}) SELECT * FROM unnest({arrays}) AS row ({names}) ORDER BY {key}")
    }

    fn on_conflict(&self) -> String {
        let written = self.columns.iter().skip(self.key + self.made_with);
        let written = joined(", ", written, |(column, _)| format!("{column} = excluded.{column}"));
        format!("ON CONFLICT ({}) DO UPDATE SET {written}", self.key_names())
    }

    fn names(&self) -> String {
        joined(", ", self.columns, |(column, _)| (*column).to_owned())
    }

    fn key_names(&self) -> String {
        joined(", ", self.columns.iter().take(self.key), |(column, _)| (*column).to_owned())
    }
}

fn joined<T>(separator: &str, items: impl IntoIterator<Item = T>, text: impl FnMut(T) -> String) -> String {
    items.into_iter().map(text).collect::<Vec<_>>().join(separator)
}

/// Rows for a statement that writes many: an array of values for each column.
#[derive(Debug, Default)]
pub(super) struct Rows<'v> {
    columns: Vec<Vec<Value<'v>>>,
}

impl<'v> Rows<'v> {
    /// Adds a row; all have as many values.
    pub(super) fn push(&mut self, row: Vec<Value<'v>>) {
        self.columns.resize_with(row.len(), Vec::new);
        for (column, value) in self.columns.iter_mut().zip(row) {
            column.push(value);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.columns.first().map_or(0, Vec::len) as u64
    }

    pub(super) fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.columns.iter().map(|column| column as _).collect()
    }

    /// The parameters of one row.
    pub(super) fn params_of<'r>(row: &'r [Value<'v>]) -> Vec<&'r (dyn ToSql + Sync)> {
        row.iter().map(|value| value as _).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Table = Table {
        name: "t",
        key: 2,
        made_with: 1,
        columns: &[("a", "text"), ("b", "text"), ("c", "bigint"), ("etag", "text"), ("d", "bytea")],
    };

    #[test]
    fn a_row_is_written_over_but_for_what_it_was_made_with() {
        assert_eq!(
            TABLE.put(),
            "INSERT INTO t (a, b, c, etag, d) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (a, b) DO UPDATE SET etag = excluded.etag, d = excluded.d WHERE t.etag = $6"
        );
        let many = "INSERT INTO t (a, b, c, etag, d) \
                    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bytea[]) \
                    AS row (a, b, c, etag, d) ORDER BY a, b ON CONFLICT";
        assert_eq!(TABLE.insert_all(), format!("{many} DO NOTHING"));
        let update = "(a, b) DO UPDATE SET etag = excluded.etag, d = excluded.d";
        assert_eq!(TABLE.replace_all(), format!("{many} {update}"));
    }

    #[test]
    fn rows_are_turned_into_columns() {
        let mut rows = Rows::default();
        assert!(rows.is_empty() && rows.params().is_empty());
        rows.push(vec!["x".into(), 1_i64.into()]);
        rows.push(vec![None::<&str>.into(), true.into()]);
        assert_eq!((rows.count(), rows.params().len()), (2, 2));
        assert!(matches!(rows.columns[0][..], [Value::Text(_), Value::Null]));
    }
}
