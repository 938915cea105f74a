//! The WHERE of a list of entries. Spec: DPS-STORE-11, DPS-SERVICE-23.
//!
//! Words stand in the text, not as parameters: PostgreSQL takes an index of some rows only where it sees that the condition of that
//! index holds. There are many such texts, so that they are not kept as prepared statements.

use dps_core::entry_filter::{AttestationKind, EntryFilter, IdFilter, TimeRange};
use tokio_postgres::types::{ToSql, Type};

use super::table::Value;
use crate::words::Word as _;

/// Comes after every id: those are ASCII.
const LAST: char = char::MAX;

/// What follows the columns and the table of a SELECT, with the values of its parameters.
pub(super) struct EntryClause<'c> {
    pub(super) sql: String,
    params: Vec<Value<'c>>,
}

impl<'c> EntryClause<'c> {
    /// The first `limit` rows that `filter` takes and whose folded `id` comes after `after`.
    pub(super) fn of(
        id: &str,
        scope: &'c str,
        filter: &'c EntryFilter,
        after: Option<&'c str>,
        limit: u32,
    ) -> Self {
        let mut clause = Self { sql: "WHERE id_scope = $1".to_owned(), params: vec![scope.into()] };
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
            clause.and("hubs <> '{}'", []);
            let names = "EXISTS (SELECT 1 FROM unnest(hubs) AS hub WHERE lower(hub) = lower(?))";
            clause.and(names, [hub.as_str().into()]);
        }
        clause.times("created_at", filter.created_at);
        clause.times("updated_at", filter.updated_at);
        clause.params.push(limit.into());
        clause.sql.push_str(&format!(" ORDER BY {id} LIMIT ${}", clause.params.len()));
        clause
    }

    /// The values, each with its type.
    pub(super) fn params(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        let typed = |value| match value {
            &Value::Integer(_) => (value as &(dyn ToSql + Sync), Type::INT8),
            _ => (value as _, Type::TEXT),
        };
        self.params.iter().map(typed).collect()
    }

    /// One lower bound, the higher of two, so that it is the one that the index is entered at.
    fn ids(&mut self, id: &str, wanted: Option<&'c IdFilter>, after: Option<&'c str>) {
        let (first, last) = match wanted {
            None => (None, None),
            Some(IdFilter::Is(is)) => (Some(&**is), Some((is.to_string(), "<="))),
            Some(IdFilter::BeginsWith(prefix)) => (Some(&**prefix), Some((format!("{prefix}{LAST}"), "<"))),
        };
        match (first, after) {
            (Some(first), Some(after)) if after >= first => self.and(&format!("{id} > ?"), [after.into()]),
            (Some(first), _) => self.and(&format!("{id} >= ?"), [first.into()]),
            (None, Some(after)) => self.and(&format!("{id} > ?"), [after.into()]),
            (None, None) => {}
        }
        if let Some((last, operator)) = last {
            self.and(&format!("{id} {operator} ?"), [Value::Text(last.into())]);
        }
    }

    fn times(&mut self, column: &str, TimeRange { from, to }: TimeRange) {
        for (bound, operator) in [(from, ">="), (to, "<=")] {
            if let Some(at) = bound {
                // What no row can have is as far as a bound goes.
                let nanoseconds = at.as_nanosecond().clamp(i64::MIN.into(), i64::MAX.into()) as i64;
                self.and(&format!("{column} {operator} ?"), [nanoseconds.into()]);
            }
        }
    }

    /// Each `?` in `condition` stands for one of `params`.
    fn and<const N: usize>(&mut self, condition: &str, params: [Value<'c>; N]) {
        self.sql.push_str(" AND ");
        let mut parts = condition.split('?');
        self.sql.push_str(parts.next().unwrap_or_default());
        for (part, value) in parts.zip(params) {
            self.params.push(value);
            self.sql.push_str(&format!("${}{part}", self.params.len()));
        }
    }
}
