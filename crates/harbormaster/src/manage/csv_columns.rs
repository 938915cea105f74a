//! Entries as rows of a table: a column for each member that people set, and one for all that is left.
//! Spec: DPS-CLI-26 to DPS-CLI-28.

use serde_json::{Map, Value};

use super::entry::Kind;

/// Holds, as one JSON object, whatever of an entry has no column of its own. It is the last, so that a row that was cut off does not
/// pass for a whole one.
pub(super) const OTHERS: &str = "otherMembers";

/// A column, named by the path of its member.
#[derive(Clone, Copy)]
pub(super) struct Column {
    pub(super) path: &'static str,
    pub(super) form: Form,
}

/// How a member stands in its cell.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A text that somebody chose, with an apostrophe before it where a spreadsheet would take it for a formula. Spec: DPS-CLI-28.
    Name,
    /// Base64, PEM, a date or a word of the API, as it is.
    Text,
    /// Whatever else, as JSON.
    Json,
    /// [`OTHERS`].
    Others,
}

impl Form {
    /// Whether a cell of this form can say it.
    fn can_hold(self, member: &Value) -> bool {
        match self {
            Self::Name | Self::Text => member.as_str().is_some_and(|text| !text.is_empty()),
            Self::Json => true,
            Self::Others => false,
        }
    }
}

const fn column(path: &'static str, form: Form) -> Column {
    Column { path, form }
}

const INDIVIDUAL: [Column; 2] = [column("registrationId", Form::Name), column("deviceId", Form::Name)];

const GROUP: [Column; 2] =
    [column("enrollmentGroupId", Form::Name), column("registrationIdPrefix", Form::Name)];

const BOTH: [Column; 4] = [
    column("provisioningStatus", Form::Text),
    column("attestation.type", Form::Text),
    column("attestation.symmetricKey.primaryKey", Form::Text),
    column("attestation.symmetricKey.secondaryKey", Form::Text),
];

const CREDENTIALS_OF_INDIVIDUALS: [Column; 3] = [
    column("attestation.tpm.endorsementKey", Form::Text),
    column("attestation.x509.clientCertificates.primary.certificate", Form::Text),
    column("attestation.x509.clientCertificates.secondary.certificate", Form::Text),
];

const REST: [Column; 18] = [
    column("attestation.x509.signingCertificates.primary.certificate", Form::Text),
    column("attestation.x509.signingCertificates.secondary.certificate", Form::Text),
    column("attestation.x509.caReferences.primary", Form::Name),
    column("attestation.x509.caReferences.secondary", Form::Name),
    column("allocationPolicy", Form::Text),
    column("iotHubs", Form::Json),
    column("customAllocationDefinition.webhookUrl", Form::Name),
    column("customAllocationDefinition.apiVersion", Form::Name),
    column("reprovisionPolicy.updateHubAssignment", Form::Json),
    column("reprovisionPolicy.migrateDeviceData", Form::Json),
    column("capabilities.iotEdge", Form::Json),
    column("initialTwin.tags", Form::Json),
    column("initialTwin.properties.desired", Form::Json),
    column("optionalDeviceInformation", Form::Json),
    column("etag", Form::Text),
    column("createdDateTimeUtc", Form::Text),
    column("lastUpdatedDateTimeUtc", Form::Text),
    column(OTHERS, Form::Others),
];

/// The columns of a kind, in the order in which they are written.
pub(super) fn of(kind: Kind) -> Vec<Column> {
    let (own, credentials) = match kind {
        Kind::Individual => (INDIVIDUAL, &CREDENTIALS_OF_INDIVIDUALS[..]),
        Kind::Group => (GROUP, &[][..]),
    };
    [&own[..], &BOTH, credentials, &REST].concat()
}

/// The cells of an entry, one for each column.
pub(super) fn cells(columns: &[Column], mut entry: Map<String, Value>) -> Vec<String> {
    let mut cells: Vec<_> = columns
        .iter()
        .map(|column| match take(&mut entry, column.path, column.form) {
            None => String::new(),
            Some(Value::String(text)) if column.form == Form::Name => no_formula(text),
            Some(Value::String(text)) if column.form == Form::Text => text,
            Some(member) => member.to_string(),
        })
        .collect();
    if let Some(others) = columns.iter().position(|column| column.form == Form::Others)
        && !entry.is_empty()
    {
        cells[others] = Value::Object(entry).to_string();
    }
    cells
}

/// Takes a member out, where a cell can hold it, and each object that it leaves empty.
fn take(object: &mut Map<String, Value>, path: &str, form: Form) -> Option<Value> {
    match path.split_once('.') {
        None => {
            object.get(path).filter(|member| form.can_hold(member))?;
            object.shift_remove(path)
        }
        Some((name, rest)) => {
            let within = object.get_mut(name)?.as_object_mut()?;
            let taken = take(within, rest, form)?;
            if within.is_empty() {
                object.shift_remove(name);
            }
            Some(taken)
        }
    }
}

/// Whether a spreadsheet would take it for a formula, but for apostrophes before it.
fn is_formula(text: &str) -> bool {
    text.trim_start_matches('\'').starts_with(['=', '+', '-', '@', '\t', '\r'])
}

/// As a cell holds it.
fn no_formula(text: String) -> String {
    if is_formula(&text) { format!("'{text}") } else { text }
}

/// A name, of what its cell holds.
pub(super) fn formula(cell: &str) -> &str {
    match cell.strip_prefix('\'') {
        Some(text) if is_formula(text) => text,
        _ => cell,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn members(entry: Value) -> Map<String, Value> {
        let Value::Object(members) = entry else { panic!("{entry} is no object") };
        members
    }

    /// The cells that are not empty, with the names of their columns.
    fn filled(kind: Kind, entry: Value) -> Vec<(&'static str, String)> {
        let columns = of(kind);
        let cells = cells(&columns, members(entry));
        let named = columns.iter().map(|column| column.path).zip(cells);
        named.filter(|(_, cell)| !cell.is_empty()).collect()
    }

    /// DPS-CLI-26, DPS-CLI-27
    #[test]
    fn each_member_stands_in_its_column_and_what_has_none_in_the_last() {
        let entry = json!({
            "registrationId": "press-7", "deviceId": "press#7", "provisioningStatus": "disabled",
            "attestation": {"type": "x509", "x509": {"clientCertificates": {"primary": {"info": {"version": 3}}}}},
            "iotHubs": ["a.example", "b.example"], "capabilities": {"iotEdge": true},
            "initialTwin": {"tags": {}, "properties": {"desired": {"n": 1}, "reported": {}}},
            "optionalDeviceInformation": {}, "iotHubHostName": "", "deviceTypeRefs": [1.10],
        });
        let others = json!({
            "attestation": {"x509": {"clientCertificates": {"primary": {"info": {"version": 3}}}}},
            "initialTwin": {"properties": {"reported": {}}}, "iotHubHostName": "", "deviceTypeRefs": [1.10],
        });
        let expected = [
            ("registrationId", "press-7"),
            ("deviceId", "press#7"),
            ("provisioningStatus", "disabled"),
            ("attestation.type", "x509"),
            ("iotHubs", r#"["a.example","b.example"]"#),
            ("capabilities.iotEdge", "true"),
            ("initialTwin.tags", "{}"),
            ("initialTwin.properties.desired", r#"{"n":1}"#),
            ("optionalDeviceInformation", "{}"),
            ("otherMembers", &others.to_string()),
        ];
        assert_eq!(filled(Kind::Individual, entry), expected.map(|(path, cell)| (path, cell.to_owned())));
        // What a cell of its column could not say: it would come back as another value, or not at all.
        let odd = json!({"enrollmentGroupId": "g", "provisioningStatus": "", "allocationPolicy": 7, "initialTwin": {}});
        let others = r#"{"provisioningStatus":"","allocationPolicy":7,"initialTwin":{}}"#;
        let expected = [("enrollmentGroupId", "g".to_owned()), ("otherMembers", others.to_owned())];
        assert_eq!(filled(Kind::Group, odd), expected);
    }

    /// DPS-CLI-28
    #[test]
    fn a_name_that_a_spreadsheet_would_run_has_an_apostrophe_before_it() {
        for (id, cell) in [
            ("=1+1", "'=1+1"),
            ("+a", "'+a"),
            ("-a", "'-a"),
            ("@a", "'@a"),
            ("'=a", "''=a"),
            ("'a", "'a"),
            ("a=b", "a=b"),
        ] {
            let entry = json!({"registrationId": "a", "deviceId": id});
            assert_eq!(filled(Kind::Individual, entry)[1], ("deviceId", cell.to_owned()));
            assert_eq!(formula(cell), id);
        }
        let keys = json!({"attestation": {"symmetricKey": {"primaryKey": "+AAA"}}});
        assert_eq!(filled(Kind::Group, keys), [("attestation.symmetricKey.primaryKey", "+AAA".to_owned())]);
    }

    /// DPS-CLI-26: a cell never stands within another.
    #[test]
    fn no_column_holds_another() {
        for kind in [Kind::Individual, Kind::Group] {
            let columns = of(kind);
            let within =
                |column: &Column, other: &Column| other.path.starts_with(&format!("{}.", column.path));
            let pairs = columns.iter().flat_map(|column| columns.iter().map(move |other| (column, other)));
            assert!(pairs.clone().all(|(column, other)| !within(column, other)));
            assert_eq!(pairs.filter(|(column, other)| column.path == other.path).count(), columns.len());
            assert_eq!(columns.last().map(|column| column.path), Some(OTHERS));
        }
    }
}
