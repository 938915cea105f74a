//! The WHERE of a list of entries. Spec: DPS-STORE-11, DPS-SERVICE-23.
//!
//! Words stand in the text, not as parameters: SQLite takes an index of some rows only where the text has the condition of
//! that index.

use dps_core::entry_filter::{AttestationKind, EntryFilter, IdFilter, TimeRange};
use rusqlite::types::Value;

use crate::words::Word as _;

/// Comes after every id: those are ASCII.
const LAST: char = char::MAX;

/// What follows the columns and the table of a SELECT, with the values of its `?`s in their order.
pub(super) struct EntryClause {
    pub(super) sql: String,
    pub(super) params: Vec<Value>,
}

impl EntryClause {
    /// The first `limit` rows that `filter` takes and whose folded `id` comes after `after`.
    pub(super) fn of(id: &str, scope: &str, filter: &EntryFilter, after: Option<&str>, limit: u32) -> Self {
        let mut clause = Self { sql: "WHERE id_scope = ?".to_owned(), params: vec![text(scope)] };
        clause.ids(id, filter.id.as_ref(), after);
        if let Some(status) = filter.provisioning_status {
            clause.and(&format!("provisioning_status = '{}'", status.word()), []);
        }
        match filter.attestation {
            None => {}
            Some(AttestationKind::SymmetricKey) => clause.and("attestation = 'symmetric_key'", []),
            Some(AttestationKind::Tpm) => clause.and("attestation = 'tpm'", []),
            Some(AttestationKind::X509) => clause
                .and("attestation IN ('client_certificates', 'signing_certificates', 'ca_references')", []),
        }
        if let Some(wanted) = filter.allocation_policy {
            let word = wanted.policy.word();
            let or_none = if wanted.is_default { " OR allocation_policy IS NULL" } else { "" };
            clause.and(&format!("(allocation_policy = '{word}'{or_none})"), []);
        }
        if let Some(hub) = &filter.hub {
            clause.and("hubs <> '[]'", []);
            let names = "EXISTS (SELECT 1 FROM json_each(hubs) WHERE value = ? COLLATE NOCASE)";
            clause.and(names, [text(hub.as_str())]);
        }
        clause.times("created_at", filter.created_at);
        clause.times("updated_at", filter.updated_at);
        clause.sql.push_str(&format!(" ORDER BY {id} LIMIT ?"));
        clause.params.push(Value::Integer(limit.into()));
        clause
    }

    /// One lower bound, the higher of two, so that it is the one that the index is entered at.
    fn ids(&mut self, id: &str, wanted: Option<&IdFilter>, after: Option<&str>) {
        let (first, last) = match wanted {
            None => (None, None),
            Some(IdFilter::Is(is)) => (Some(&**is), Some((is.to_string(), "<="))),
            Some(IdFilter::BeginsWith(prefix)) => (Some(&**prefix), Some((format!("{prefix}{LAST}"), "<"))),
        };
        match (first, after) {
            (Some(first), Some(after)) if after >= first => self.and(&format!("{id} > ?"), [text(after)]),
            (Some(first), _) => self.and(&format!("{id} >= ?"), [text(first)]),
            (None, Some(after)) => self.and(&format!("{id} > ?"), [text(after)]),
            (None, None) => {}
        }
        if let Some((last, operator)) = last {
            self.and(&format!("{id} {operator} ?"), [Value::Text(last)]);
        }
    }

    fn times(&mut self, column: &str, TimeRange { from, to }: TimeRange) {
        for (bound, operator) in [(from, ">="), (to, "<=")] {
            if let Some(at) = bound {
                // What no row can have is as far as a bound goes.
                let nanoseconds = at.as_nanosecond().clamp(i64::MIN.into(), i64::MAX.into()) as i64;
                self.and(&format!("{column} {operator} ?"), [Value::Integer(nanoseconds)]);
            }
        }
    }

    fn and<const N: usize>(&mut self, condition: &str, params: [Value; N]) {
        self.sql.push_str(" AND ");
        self.sql.push_str(condition);
        self.params.extend(params);
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}
