//! What people read: lists in columns, one thing as lines. Spec: DPS-CLI-12.

use serde_json::Value;
use serde_json::value::RawValue;

use super::settings::reprovision_word;

/// A column of a list.
#[derive(Clone, Copy)]
pub(crate) struct Column {
    heading: &'static str,
    cell: fn(&Value) -> String,
}

const STATUS: Column = Column { heading: "STATUS", cell: |entry| text(&entry["provisioningStatus"]) };
const ATTESTATION: Column =
    Column { heading: "ATTESTATION", cell: |entry| text(&entry["attestation"]["type"]) };
const ALLOCATION: Column = Column { heading: "ALLOCATION", cell: |entry| text(&entry["allocationPolicy"]) };
const HUBS: Column = Column { heading: "HUBS", cell: |entry| text(&entry["iotHubs"]) };

/// Columns of individual enrollments.
pub(crate) const INDIVIDUALS: [Column; 6] = [
    Column { heading: "REGISTRATION ID", cell: |entry| text(&entry["registrationId"]) },
    STATUS,
    ATTESTATION,
    Column { heading: "DEVICE ID", cell: |entry| text(&entry["deviceId"]) },
    ALLOCATION,
    HUBS,
];

/// Columns of enrollment groups.
pub(crate) const GROUPS: [Column; 6] = [
    Column { heading: "ENROLLMENT GROUP", cell: |entry| text(&entry["enrollmentGroupId"]) },
    STATUS,
    ATTESTATION,
    Column { heading: "PREFIX", cell: |entry| text(&entry["registrationIdPrefix"]) },
    ALLOCATION,
    HUBS,
];

/// Columns of registration records.
pub(crate) const REGISTRATIONS: [Column; 5] = [
    Column { heading: "REGISTRATION ID", cell: |record| text(&record["registrationId"]) },
    Column { heading: "STATUS", cell: |record| text(&record["status"]) },
    Column { heading: "HUB", cell: |record| text(&record["assignedHub"]) },
    Column { heading: "DEVICE ID", cell: |record| text(&record["deviceId"]) },
    Column { heading: "LAST UPDATED", cell: |record| text(&record["lastUpdatedDateTimeUtc"]) },
];

/// Columns of service instances.
pub(crate) const INSTANCES: [Column; 5] = [
    Column { heading: "ID SCOPE", cell: |instance| text(&instance["idScope"]) },
    Column { heading: "MANAGED BY", cell: |instance| text(&instance["managedBy"]) },
    Column { heading: "ALLOCATION", cell: |instance| text(&instance["defaultAllocationPolicy"]) },
    Column { heading: "HUBS", cell: |instance| names(&instance["linkedHubs"]) },
    Column { heading: "SERVICE HOSTS", cell: |instance| text(&instance["serviceHosts"]) },
];

/// Columns of linked hubs.
pub(crate) const LINKED_HUBS: [Column; 9] = [
    Column { heading: "HUB", cell: |hub| text(&hub["name"]) },
    Column { heading: "KIND", cell: |hub| text(&hub["kind"]) },
    Column { heading: "WEIGHT", cell: |hub| text(&hub["allocationWeight"]) },
    Column {
        heading: "FOR ALL",
        cell: |hub| if hub["applyAllocationPolicy"] == false { "no" } else { "yes" }.to_owned(),
    },
    Column {
        heading: "HEALTH",
        cell: |hub| {
            let state = text(&hub["health"]["state"]);
            // Nobody asks the others.
            let state = if state == "notWatched" { "-".to_owned() } else { state };
            if hub["draining"] == true { format!("{state}, draining") } else { state }
        },
    },
    Column { heading: "DEVICES", cell: |hub| text(&hub["load"]["devices"]) },
    Column { heading: "ASSIGNING", cell: |hub| text(&hub["load"]["assigning"]) },
    Column { heading: "CLEAN-UPS", cell: |hub| text(&hub["load"]["cleanUps"]) },
    Column { heading: "NETWORKS", cell: |hub| text(&hub["networks"]) },
];

/// Columns of devices that are to be gone from hubs outside.
pub(crate) const CLEAN_UPS: [Column; 7] = [
    Column { heading: "HUB", cell: |clean_up| text(&clean_up["hub"]) },
    Column { heading: "DEVICE", cell: |clean_up| text(&clean_up["deviceId"]) },
    Column { heading: "REGISTRATION", cell: |clean_up| text(&clean_up["registrationId"]) },
    Column { heading: "ORDERED", cell: |clean_up| text(&clean_up["orderedAt"]) },
    Column { heading: "TRIES", cell: |clean_up| text(&clean_up["tries"]) },
    Column { heading: "DUE", cell: |clean_up| text(&clean_up["dueAt"]) },
    Column { heading: "PROBLEM", cell: |clean_up| text(&clean_up["problem"]) },
];

/// Columns of devices of local hubs.
pub(crate) const HUB_DEVICES: [Column; 4] = [
    Column { heading: "DEVICE", cell: |device| text(&device["deviceId"]) },
    Column { heading: "STATUS", cell: |device| text(&device["status"]) },
    Column { heading: "AUTHENTICATION", cell: |device| text(&device["authentication"]["type"]) },
    Column { heading: "REGISTRATION", cell: |device| text(&device["registrationId"]) },
];

/// Columns of shared access policies.
pub(crate) const POLICIES: [Column; 2] = [
    Column { heading: "POLICY", cell: |policy| text(&policy["name"]) },
    Column { heading: "RIGHTS", cell: |policy| text(&policy["rights"]) },
];

/// A list that is printed page by page: columns may widen, and never narrow.
pub(crate) struct Table {
    columns: &'static [Column],
    widths: Vec<usize>,
}

impl Table {
    /// A list without rows yet.
    pub(crate) fn new(columns: &'static [Column]) -> Self {
        Self { columns, widths: Vec::new() }
    }

    /// All lines of a list that is there as a whole.
    pub(crate) fn whole(columns: &'static [Column], list: &Value) -> Result<String, serde_json::Error> {
        let items = list.as_array().into_iter().flatten().map(serde_json::value::to_raw_value);
        Self::new(columns).page(&items.collect::<Result<Vec<_>, _>>()?)
    }

    /// The lines of a page; before those of the first stand the headings.
    pub(crate) fn page(&mut self, items: &[Box<RawValue>]) -> Result<String, serde_json::Error> {
        let mut rows = Vec::with_capacity(items.len() + 1);
        if self.widths.is_empty() {
            self.widths = vec![0; self.columns.len()];
            rows.push(self.columns.iter().map(|column| column.heading.to_owned()).collect::<Vec<_>>());
        }
        for item in items {
            let item: Value = serde_json::from_str(item.get())?;
            rows.push(self.columns.iter().map(|column| (column.cell)(&item)).collect());
        }
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut lines = String::new();
        for row in rows {
            let cells = row.iter().zip(&self.widths).map(|(cell, width)| format!("{cell:<width$}"));
            lines.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            lines.push('\n');
        }
        Ok(lines)
    }
}

/// Whether keys may be read off the screen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    Shown,
    Hidden,
}

/// An entry of either kind, a line for each thing that is known of it.
pub(crate) fn entry(entry: &Value, keys: Keys) -> String {
    let attestation = &entry["attestation"];
    let symmetric = match keys {
        Keys::Shown => &attestation["symmetricKey"],
        Keys::Hidden => &Value::Null,
    };
    let x509 = &attestation["x509"];
    let certificate = |which: &str| {
        let holders = [&x509["clientCertificates"], &x509["signingCertificates"]];
        let found = holders.into_iter().map(|holder| &holder[which]["info"]).find(|info| info.is_object());
        found.map(certificate_line).unwrap_or_else(|| text(&x509["caReferences"][which]))
    };
    let record = &entry["registrationState"];
    lines(&[
        ("registration id", text(&entry["registrationId"])),
        ("enrollment group", text(&entry["enrollmentGroupId"])),
        ("prefix", text(&entry["registrationIdPrefix"])),
        ("device id", text(&entry["deviceId"])),
        ("status", text(&entry["provisioningStatus"])),
        ("attestation", text(&attestation["type"])),
        ("primary key", text(&symmetric["primaryKey"])),
        ("secondary key", text(&symmetric["secondaryKey"])),
        ("endorsement key", text(&attestation["tpm"]["endorsementKey"])),
        ("certificate", certificate("primary")),
        ("second certificate", certificate("secondary")),
        ("allocation policy", text(&entry["allocationPolicy"])),
        ("hubs", text(&entry["iotHubs"])),
        ("reprovision", reprovision_word(&entry["reprovisionPolicy"]).unwrap_or_default().to_owned()),
        ("edge", if entry["capabilities"]["iotEdge"] == true { "yes".to_owned() } else { String::new() }),
        ("initial twin", text(&entry["initialTwin"])),
        ("registration", text(&record["status"])),
        ("assigned hub", text(&record["assignedHub"])),
        ("created", text(&entry["createdDateTimeUtc"])),
        ("last updated", text(&entry["lastUpdatedDateTimeUtc"])),
        ("etag", text(&entry["etag"])),
    ])
}

/// A registration record.
pub(crate) fn registration(record: &Value) -> String {
    lines(&[
        ("registration id", text(&record["registrationId"])),
        ("status", text(&record["status"])),
        ("substatus", text(&record["substatus"])),
        ("assigned hub", text(&record["assignedHub"])),
        ("device id", text(&record["deviceId"])),
        ("error", text(&record["errorCode"])),
        ("because", text(&record["errorMessage"])),
        ("created", text(&record["createdDateTimeUtc"])),
        ("last updated", text(&record["lastUpdatedDateTimeUtc"])),
        ("etag", text(&record["etag"])),
    ])
}

fn certificate_line(info: &Value) -> String {
    let [subject, thumbprint, until] =
        ["subjectName", "sha256Thumbprint", "notAfterUtc"].map(|name| text(&info[name]));
    format!("{subject}, SHA-256 {thumbprint}, until {until}")
}

pub(crate) fn lines(fields: &[(&str, String)]) -> String {
    let known = fields.iter().filter(|(_, text)| !text.is_empty());
    known.map(|(label, text)| format!("{label:<18} {text}\n")).collect()
}

/// A member as it is shown: nothing for one that is absent.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => printable(text),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        other => printable(&other.to_string()),
    }
}

/// The names of the items.
fn names(items: &Value) -> String {
    let names = items.as_array().into_iter().flatten().map(|item| text(&item["name"]));
    names.collect::<Vec<_>>().join(", ")
}

/// What another wrote must not command the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use serde_json::value::to_raw_value;

    use super::*;

    fn items(ids: &[&str]) -> Vec<Box<RawValue>> {
        ids.iter()
            .map(|id| to_raw_value(&json!({"registrationId": id, "status": "assigned"})).unwrap())
            .collect()
    }

    /// DPS-CLI-12
    #[test]
    fn headings_stand_once_and_columns_line_up() {
        let mut table = Table::new(&REGISTRATIONS);
        assert_eq!(
            table.page(&items(&["a", "a-longer-registration-id"])).unwrap(),
            "REGISTRATION ID           STATUS    HUB  DEVICE ID  LAST UPDATED\n\
             a                         assigned\n\
             a-longer-registration-id  assigned\n"
        );
        assert_eq!(table.page(&items(&["b"])).unwrap(), "b                         assigned\n");
    }

    /// DPS-CLI-12, DPS-CLI-13
    #[test]
    fn keys_are_hidden_unless_they_are_asked_for() {
        let attestation = json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": "first", "secondaryKey": "second"}});
        let shown = json!({"registrationId": "a", "attestation": attestation});
        assert_eq!(entry(&shown, Keys::Hidden), "registration id    a\nattestation        symmetricKey\n");
        assert!(entry(&shown, Keys::Shown).contains("primary key        first\nsecondary key      second\n"));
    }

    /// DPS-CLI-12
    #[test]
    fn what_the_service_sends_cannot_command_the_terminal() {
        let shown = registration(&json!({"registrationId": "a", "errorMessage": "\u{1b}]0;title\u{7}\nb"}));
        assert!(shown.ends_with("because            \u{fffd}]0;title\u{fffd}\u{fffd}b\n"), "{shown:?}");
    }
}
