//! A store that is copied elsewhere: judged before anything is, then read row by row. Spec: DPS-STORE-41, DPS-STORE-42, DPS-STORE-44.

use std::path::{Path, PathBuf};

use dps_core::ports::StoreError;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::contents::{Contents, Sealed, Unsound, check_key, examine};
use super::fault::Fault;
use super::schema;
use crate::sealing::Sealer;
use crate::transfer::{Batch, Cell, Column, CopiedTable, Kind, Secret, TABLES};

/// A store in SQLite that nobody writes to: that of a data directory whose lock the caller holds, or a backup.
pub struct SqliteSource {
    /// In a transaction that has read already: all that is read is of one moment.
    connection: Connection,
    sealer: Sealer,
    contents: Contents,
    /// Of each of [`TABLES`].
    rows: Vec<u64>,
}

/// Why a store cannot be copied. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is nothing to copy.
    #[error("there is no store at {}", .0.display())]
    NoStore(PathBuf),
    /// It cannot be relied on.
    #[error("what is to be copied is not sound: {0}")]
    Unsound(#[from] Unsound),
    /// An older program has made it, and bringing it to the newest version would change it.
    #[error("{} has version {found}, and this program copies version {newest}", path.display())]
    Older {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: usize,
        /// The version that can be copied.
        newest: usize,
    },
    /// It has something that would be left behind.
    #[error("{} has {what}, which this program does not know and would leave behind", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The table or the column.
        what: String,
    },
    /// The sealing key that was given does not open its secrets.
    #[error("the secrets of what is to be copied cannot be opened: {0}")]
    Sealed(#[from] Sealed),
    /// It could not be read to its end.
    #[error("{0}")]
    Unread(StoreError),
}

impl SqliteSource {
    /// Reads the file at `path` whole and judges it: every page is sound, its version is the newest, all that it has is known, and
    /// `sealer` opens its secrets. Nothing in it is changed, now or later.
    pub fn open(path: &Path, sealer: Sealer) -> Result<Self, SourceError> {
        if !path.is_file() {
            return Err(SourceError::NoStore(path.to_owned()));
        }
        let (connection, contents) = examine(path)?;
        match (contents.version, schema::newest()) {
            (0, _) => return Err(SourceError::NoStore(path.to_owned())),
            (found, newest) if found < newest => {
                return Err(SourceError::Older { path: path.to_owned(), found, newest });
            }
            _ => {}
        }
        check_key(&connection, &sealer)?;
        let (unknown, rows) = connection
            .execute_batch("BEGIN")
            .and_then(|()| Ok((unknown(&connection)?, count(&connection)?)))
            .map_err(|why| SourceError::Unread(Fault::from(why).told(&connection)))?;
        match unknown {
            Some(what) => Err(SourceError::Unknown { path: path.to_owned(), what }),
            None => Ok(Self { connection, sealer, contents, rows }),
        }
    }

    /// What it holds.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// How many rows there are in all tables together.
    pub fn rows(&self) -> u64 {
        self.rows.iter().sum()
    }

    /// How many rows there are in each of [`TABLES`].
    pub(crate) fn rows_by_table(&self) -> impl Iterator<Item = (&'static CopiedTable, u64)> {
        TABLES.iter().zip(self.rows.iter().copied())
    }

    /// Gives all rows of a table, batch by batch, until `take` says that no more are wanted. Each secret is opened; where `target` has
    /// another key, it is sealed anew by that one.
    pub(crate) fn read(
        &self,
        table: &CopiedTable,
        target: &Sealer,
        take: &mut dyn FnMut(Batch) -> bool,
    ) -> Result<(), StoreError> {
        let all = self.read_all(table, target, take);
        all.map_err(|fault| fault.told(&self.connection))
    }

    fn read_all(
        &self,
        table: &CopiedTable,
        target: &Sealer,
        take: &mut dyn FnMut(Batch) -> bool,
    ) -> Result<(), Fault> {
        let mut statement = self.connection.prepare(&select(table))?;
        let mut rows = statement.query([])?;
        let mut batch = Batch::default();
        while let Some(row) = rows.next()? {
            batch.push(self.cells(table, row, target)?);
            if batch.is_full() && !take(std::mem::take(&mut batch)) {
                return Ok(());
            }
        }
        if !batch.is_empty() {
            take(batch);
        }
        Ok(())
    }

    fn cells(&self, table: &CopiedTable, row: &Row<'_>, target: &Sealer) -> Result<Vec<Cell>, Fault> {
        let mut cells = Vec::with_capacity(table.columns.len());
        for (number, column) in table.columns.iter().enumerate() {
            let cell = match (cell(row.get_ref(number)?, column.kind), column.kind) {
                (Ok(Cell::Bytes(sealed)), Kind::Secret(secret)) => {
                    let key = cells.iter().take(table.key).filter_map(|cell| match cell {
                        Cell::Text(text) => Some(text.as_str()),
                        _ => None,
                    });
                    Cell::Bytes(self.resealed(&table.row_key(key, secret), secret, sealed, target)?)
                }
                (Ok(cell), _) => cell,
                (Err(why), _) => {
                    let (table, column) = (table.name, column.source);
                    return Err(Fault::unreadable(format!("column {column} of the table {table}: {why}")));
                }
            };
            cells.push(cell);
        }
        Ok(cells)
    }

    /// A secret as `target` opens it. It is opened even where it can stay as it is: damage is found now, while the source is at hand.
    fn resealed(
        &self,
        row_key: &str,
        secret: Secret,
        sealed: Vec<u8>,
        target: &Sealer,
    ) -> Result<Vec<u8>, StoreError> {
        if secret == Secret::OwnOrEmpty && sealed.is_empty() {
            return Ok(sealed);
        }
        let opened: Zeroizing<Vec<u8>> = self.sealer.open(row_key, &sealed)?;
        if self.sealer.id() == target.id() { Ok(sealed) } else { target.seal(row_key, &opened) }
    }
}

/// All rows of a table, in the order in which they lie.
fn select(table: &CopiedTable) -> String {
    let value = |column: &Column| match column.set_with {
        Some(other) => format!("CASE WHEN {other} IS NOT NULL THEN {} END", column.source),
        None => column.source.to_owned(),
    };
    let values: Vec<_> = table.columns.iter().map(value).collect();
    format!("SELECT {} FROM {}", values.join(", "), table.name)
}

/// A table or a column that is not copied.
fn unknown(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let select = "SELECT tables.name, columns.name FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns
                  WHERE tables.type = 'table' AND tables.name NOT GLOB 'sqlite_*'";
    let mut statement = connection.prepare(select)?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let (table, column): (String, String) = (row.get(0)?, row.get(1)?);
        match TABLES.iter().find(|known| known.name == table) {
            None => return Ok(Some(format!("the table {table}"))),
            Some(known) if known.columns.iter().all(|known| known.source != column) => {
                return Ok(Some(format!("the column {column} in the table {table}")));
            }
            Some(_) => {}
        }
    }
    Ok(None)
}

fn count(connection: &Connection) -> rusqlite::Result<Vec<u64>> {
    let rows = |table: &CopiedTable| {
        let count = format!("SELECT count(*) FROM {}", table.name);
        connection.query_row(&count, [], |row| Ok(row.get::<_, i64>(0)?.unsigned_abs()))
    };
    TABLES.iter().map(rows).collect()
}

/// Why a value is none of its column's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum BadValue {
    #[error("it is of another kind than this program writes there")]
    OtherKind,
    #[error("it has a NUL character, which PostgreSQL does not take")]
    Nul,
}

/// A value in the shape that PostgreSQL has it in.
fn cell(value: ValueRef<'_>, kind: Kind) -> Result<Cell, BadValue> {
    let text = |text: &[u8]| std::str::from_utf8(text).map(str::to_owned).map_err(|_| BadValue::OtherKind);
    match (kind, value) {
        (_, ValueRef::Null) => Ok(Cell::Null),
        (Kind::Text, ValueRef::Text(bytes)) if bytes.contains(&0) => Err(BadValue::Nul),
        (Kind::Text, ValueRef::Text(bytes)) => Ok(Cell::Text(text(bytes)?)),
        (Kind::Prose, ValueRef::Text(bytes)) => Ok(Cell::Text(text(bytes)?.replace('\0', "\u{fffd}"))),
        (Kind::Texts, ValueRef::Text(bytes)) => {
            let texts: Vec<String> = serde_json::from_slice(bytes).map_err(|_| BadValue::OtherKind)?;
            if texts.iter().any(|text| text.contains('\0')) {
                Err(BadValue::Nul)
            } else {
                Ok(Cell::Texts(texts))
            }
        }
        (Kind::Bytes | Kind::Secret(_), ValueRef::Blob(bytes)) => Ok(Cell::Bytes(bytes.to_vec())),
        (Kind::Integer, ValueRef::Integer(number)) => Ok(Cell::Integer(number)),
        (Kind::Boolean, ValueRef::Integer(number @ (0 | 1))) => Ok(Cell::Boolean(number == 1)),
        (Kind::Uuid, ValueRef::Blob(bytes)) => {
            Uuid::from_slice(bytes).map(Cell::Uuid).map_err(|_| BadValue::OtherKind)
        }
        _ => Err(BadValue::OtherKind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-STORE-40
    #[test]
    fn a_value_takes_the_shape_of_its_column_or_is_refused() {
        let json = ValueRef::Text(br#"["a","b"]"#);
        assert_eq!(cell(json, Kind::Texts), Ok(Cell::Texts(vec!["a".to_owned(), "b".to_owned()])));
        assert_eq!(cell(json, Kind::Text), Ok(Cell::Text(r#"["a","b"]"#.to_owned())));
        assert_eq!(cell(ValueRef::Integer(1), Kind::Boolean), Ok(Cell::Boolean(true)));
        assert_eq!(cell(ValueRef::Integer(1), Kind::Integer), Ok(Cell::Integer(1)));
        assert_eq!(cell(ValueRef::Blob(&[7; 16]), Kind::Uuid), Ok(Cell::Uuid(Uuid::from_bytes([7; 16]))));
        assert_eq!(cell(ValueRef::Null, Kind::Boolean), Ok(Cell::Null));
        assert_eq!(cell(ValueRef::Text(b"a\0b"), Kind::Prose), Ok(Cell::Text("a\u{fffd}b".to_owned())));
        for (value, kind, expected) in [
            (ValueRef::Integer(2), Kind::Boolean, BadValue::OtherKind),
            (ValueRef::Blob(&[7; 15]), Kind::Uuid, BadValue::OtherKind),
            (ValueRef::Text(b"\xff"), Kind::Text, BadValue::OtherKind),
            (ValueRef::Text(b"{}"), Kind::Texts, BadValue::OtherKind),
            (ValueRef::Text(b"a\0b"), Kind::Text, BadValue::Nul),
            (ValueRef::Text(br#"["\u0000"]"#), Kind::Texts, BadValue::Nul),
            (ValueRef::Real(1.0), Kind::Integer, BadValue::OtherKind),
        ] {
            assert_eq!(cell(value, kind), Err(expected), "{value:?}");
        }
    }
}
