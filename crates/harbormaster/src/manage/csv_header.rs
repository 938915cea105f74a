//! The first line of a CSV file, and what it makes of the others. Spec: DPS-CLI-26.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::csv_columns::{self, Column, Form, OTHERS};
use super::csv_record::Record;
use super::entry::Kind;
use super::table::printable;
use crate::likeness;

/// Most characters that are looked at of the name of a column that is not known.
const NAME_CHARACTERS_MAX: usize = 80;

/// Which column stands where.
pub(super) struct Header(Vec<Column>);

impl Header {
    /// Reads the names of the columns, in any order.
    pub(super) fn read(kind: Kind, record: &Record) -> Result<Self, String> {
        let known = csv_columns::of(kind);
        let mut found: Vec<Column> = Vec::new();
        for (at, cell) in record.cells().enumerate() {
            let name = String::from_utf8_lossy(cell);
            let Some(column) = known.iter().find(|column| column.path == name) else {
                return Err(format!("column {}{}", at + 1, unknown(&name, &known)));
            };
            if found.iter().any(|other| other.path == column.path) {
                return Err(format!("column {}: {name} has a column already", at + 1));
            }
            found.push(*column);
        }
        match kind.id_member() {
            id if found.iter().any(|column| column.path == id) => Ok(Self(found)),
            id => Err(format!("no column is named {id}")),
        }
    }

    /// The entry of a row, or none where all cells are empty.
    pub(super) fn entry(&self, row: &Record) -> Result<Option<Map<String, Value>>, String> {
        if row.cells().all(<[u8]>::is_empty) {
            return Ok(None);
        }
        let (cells, columns) = (row.cells().len(), self.0.len());
        if cells != columns {
            return Err(format!("it has {cells} cells, and the first line names {columns} columns"));
        }
        let mut entry = Map::new();
        let mut others = Map::new();
        for (column, cell) in self.0.iter().zip(row.cells()).filter(|(_, cell)| !cell.is_empty()) {
            let path = column.path;
            let text = std::str::from_utf8(cell).map_err(|_| format!("{path}: it is not UTF-8"))?;
            match column.form {
                Form::Name => put(&mut entry, path, Value::String(csv_columns::formula(text).to_owned())),
                Form::Text => put(&mut entry, path, Value::String(text.to_owned())),
                Form::Json => put(&mut entry, path, json(path, &as_json_has_it(text))?),
                Form::Others => match json(path, text)? {
                    Value::Object(members) => others = members,
                    _ => return Err(format!("{path}: it must be a JSON object")),
                },
            }
        }
        merge(&mut entry, others, "")?;
        Ok(Some(entry))
    }
}

/// What is wrong with a column whose name is not known.
fn unknown(name: &str, known: &[Column]) -> String {
    if name.is_empty() {
        return " has no name".to_owned();
    }
    let names: Vec<_> = known.iter().map(|column| column.path).collect();
    let shown: String = printable(name).chars().take(NAME_CHARACTERS_MAX).collect();
    let name_begins = name.char_indices().nth(NAME_CHARACTERS_MAX).map_or(name, |(end, _)| &name[..end]);
    let advice = if name.contains(';') || name.contains('\t') {
        "between cells stands a comma; save the file so".to_owned()
    } else {
        match likeness::nearest(name_begins, &names) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => format!("known are {}", names.join(", ")),
        }
    };
    format!(", {shown}: no such column is known; {advice}")
}

fn json(path: &str, text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|why| format!("{path}: no JSON: {why}"))
}

/// Spreadsheets write TRUE and FALSE.
fn as_json_has_it(text: &str) -> Cow<'_, str> {
    match ["true", "false"].into_iter().find(|word| word.eq_ignore_ascii_case(text)) {
        Some(word) => word.into(),
        None => text.into(),
    }
}

/// Sets a member that no column before it has set, nor one within it.
fn put(object: &mut Map<String, Value>, path: &str, member: Value) {
    match path.split_once('.') {
        None => {
            object.insert(path.to_owned(), member);
        }
        Some((name, rest)) => {
            let within = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(within) = within {
                put(within, rest, member);
            }
        }
    }
}

/// Puts what has no column beside what has.
fn merge(into: &mut Map<String, Value>, others: Map<String, Value>, within: &str) -> Result<(), String> {
    for (name, member) in others {
        match (into.get_mut(&name), member) {
            (None, member) => {
                into.insert(name, member);
            }
            (Some(Value::Object(into)), Value::Object(members)) => {
                merge(into, members, &format!("{within}{name}."))?;
            }
            (Some(_), _) => {
                return Err(format!("{OTHERS}: {within}{name} stands in a column of its own, too"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::csv_record::{self, RecordReader};
    use super::*;

    /// The entries of a file, and why a row is none.
    fn read(kind: Kind, text: &[u8]) -> Result<Vec<Result<Option<Value>, String>>, String> {
        let mut records = RecordReader::new(text).unwrap();
        let mut next = || records.next().unwrap().map(|(_, record)| record.unwrap());
        let header = Header::read(kind, &next().unwrap())?;
        Ok(std::iter::from_fn(next).map(|row| Ok(header.entry(&row)?.map(Value::Object))).collect())
    }

    fn written(kind: Kind, entry: &Map<String, Value>) -> Vec<u8> {
        let columns = csv_columns::of(kind);
        let mut text = Vec::new();
        csv_record::write(&mut text, columns.iter().map(|column| column.path)).unwrap();
        let cells = csv_columns::cells(&columns, entry.clone());
        csv_record::write(&mut text, cells.iter().map(String::as_str)).unwrap();
        text
    }

    /// DPS-CLI-26: by people and their spreadsheets.
    #[test]
    fn columns_stand_in_any_order_and_cells_as_spreadsheets_save_them() {
        let text = "capabilities.iotEdge,otherMembers,registrationId,iotHubs,attestation.type\n\
                    TRUE,\"{\"\"attestation\"\":{\"\"x\"\":1}}\",a,\"[\"\"h\"\"]\",tpm\n,,,,\n\nFalse,,b,,\n,,b\nyes,,c,,\n\
                    ,[],d,,\n,\"{\"\"attestation\"\":{\"\"type\"\":1}}\",e,,x509\n";
        let entries = read(Kind::Individual, text.as_bytes()).unwrap();
        let [first, none, blank, second, short, no_flag, no_object, twice] = &entries[..] else {
            panic!("{entries:?}")
        };
        let expected = json!({
            "capabilities": {"iotEdge": true}, "registrationId": "a", "iotHubs": ["h"],
            "attestation": {"type": "tpm", "x": 1},
        });
        assert_eq!((first, none, blank), (&Ok(Some(expected)), &Ok(None), &Ok(None)));
        assert_eq!(second, &Ok(Some(json!({"capabilities": {"iotEdge": false}, "registrationId": "b"}))));
        let why = |row: &Result<Option<Value>, String>| row.clone().unwrap_err();
        assert_eq!(why(short), "it has 3 cells, and the first line names 5 columns");
        assert!(why(no_flag).starts_with("capabilities.iotEdge: no JSON"), "{no_flag:?}");
        assert_eq!(why(no_object), "otherMembers: it must be a JSON object");
        assert_eq!(why(twice), "otherMembers: attestation.type stands in a column of its own, too");
        let latin = read(Kind::Group, b"enrollmentGroupId\n\xe9\n").unwrap();
        assert_eq!(latin, [Err("enrollmentGroupId: it is not UTF-8".to_owned())]);
    }

    /// DPS-CLI-26
    #[test]
    fn a_first_line_that_cannot_be_used_is_refused_with_advice() {
        for (text, why) in [
            (
                "registrationid,deviceId",
                "column 1, registrationid: no such column is known; did you mean registrationId?",
            ),
            (
                "registrationId,attestation.symmetricKey.primarykey",
                "did you mean attestation.symmetricKey.primaryKey?",
            ),
            (
                "registrationId,x",
                "column 2, x: no such column is known; known are registrationId, deviceId, ",
            ),
            ("registrationId,deviceId,deviceId", "column 3: deviceId has a column already"),
            ("registrationId,,deviceId", "column 2 has no name"),
            ("deviceId", "no column is named registrationId"),
            ("registrationId;deviceId", "between cells stands a comma"),
            ("", "column 1 has no name"),
        ] {
            let refused = read(Kind::Individual, format!("{text}\n").as_bytes()).unwrap_err();
            assert!(refused.contains(why), "{text}: {refused}");
        }
        assert!(read(Kind::Group, b"enrollmentGroupId,deviceId\n").is_err(), "groups have none");
        let endless = read(Kind::Group, format!("\u{1b}{}\n", "x".repeat(100_000)).as_bytes()).unwrap_err();
        assert!(endless.len() < 2_000 && !endless.contains('\u{1b}'));
    }

    /// Objects with the names that columns have, and others, and whatever within.
    fn any_member() -> impl Strategy<Value = Value> {
        let names = paths()
            .into_iter()
            .flat_map(|path| path.split('.'))
            .chain(["x", "", "a.b", "é"])
            .collect::<Vec<_>>();
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            Just(serde_json::from_str("123456789012345678901234567890.10").unwrap()),
            "['=a,\"\r\n{}é]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 6, move |within| {
            let object = vec((prop::sample::select(names.clone()), within.clone()), 0..6)
                .prop_map(|members| members.into_iter().collect::<Value>());
            prop_oneof![4 => object, 1 => vec(within, 0..3).prop_map(Value::from)]
        })
    }

    fn paths() -> Vec<&'static str> {
        let kinds = [Kind::Individual, Kind::Group].into_iter();
        kinds.flat_map(csv_columns::of).map(|column| column.path).collect()
    }

    /// Entries with members where columns look for them, of any kind.
    fn any_entry() -> impl Strategy<Value = Map<String, Value>> {
        let at_columns = vec((prop::sample::select(paths()), any_member()), 0..8);
        (any_member(), at_columns).prop_map(|(entry, at_columns)| {
            let mut members = match entry {
                Value::Object(members) => members,
                other => Map::from_iter([("x".to_owned(), other)]),
            };
            for (path, member) in at_columns {
                put(&mut members, path, member);
            }
            members
        })
    }

    proptest! {
        /// DPS-CLI-27
        #[test]
        fn an_entry_comes_back_as_it_was_written(entry in any_entry()) {
            for kind in [Kind::Individual, Kind::Group] {
                let expected = if entry.is_empty() { None } else { Some(Value::Object(entry.clone())) };
                prop_assert_eq!(read(kind, &written(kind, &entry)).unwrap(), [Ok(expected)]);
            }
        }
    }
}
