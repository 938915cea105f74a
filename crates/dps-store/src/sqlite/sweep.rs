//! What deleted instances leave behind, deleted in steps that keep no other write waiting for long. Spec: DPS-INST-8.

use dps_core::ports::Sweep;
use dps_proto::ids::IdScope;
use rusqlite::{Connection, OptionalExtension as _};

use super::fault::Fault;

/// Deletes at most `?2` rows of the ID scope `?1`. The audit is not among them; neither are the counts of writes, by which
/// readers know what they remember.
const DELETIONS: [&str; 7] = [
    "DELETE FROM registration WHERE rowid IN (SELECT rowid FROM registration WHERE id_scope = ?1 LIMIT ?2)",
    "DELETE FROM clean_up WHERE rowid IN (SELECT rowid FROM clean_up WHERE id_scope = ?1 LIMIT ?2)",
    "DELETE FROM hub_device WHERE rowid IN (SELECT rowid FROM hub_device WHERE id_scope = ?1 LIMIT ?2)",
    "DELETE FROM individual_enrollment WHERE rowid IN
         (SELECT rowid FROM individual_enrollment WHERE id_scope = ?1 LIMIT ?2)",
    "DELETE FROM enrollment_group_anchor WHERE rowid IN
         (SELECT rowid FROM enrollment_group_anchor WHERE id_scope = ?1 LIMIT ?2)",
    "DELETE FROM enrollment_group WHERE rowid IN (SELECT rowid FROM enrollment_group WHERE id_scope = ?1 LIMIT ?2)",
    "DELETE FROM ca_certificate WHERE rowid IN (SELECT rowid FROM ca_certificate WHERE id_scope = ?1 LIMIT ?2)",
];

const COUNTS: [&str; 2] = [
    "UPDATE enrollment_group_version SET version = version + 1 WHERE id_scope = ?1",
    "UPDATE ca_certificate_version SET version = version + 1 WHERE id_scope = ?1",
];

/// One step.
pub(super) fn step(connection: &Connection, of: Option<&IdScope>, limit: u32) -> Result<Sweep, Fault> {
    let select =
        "SELECT id_scope FROM instance WHERE is_deleted = 1 AND id_scope = coalesce(?1, id_scope) LIMIT 1";
    let of = of.map(IdScope::folded);
    let scope: Option<String> =
        connection.prepare_cached(select)?.query_row([of], |row| row.get(0)).optional()?;
    let Some(scope) = scope else { return Ok(Sweep::Clean) };
    let mut is_empty = true;
    for delete in DELETIONS {
        is_empty &= connection.prepare_cached(delete)?.execute((&scope, limit))? < limit as usize;
    }
    for count in COUNTS {
        connection.prepare_cached(count)?.execute([&scope])?;
    }
    if is_empty {
        connection.prepare_cached("DELETE FROM instance WHERE id_scope = ?1")?.execute([&scope])?;
    }
    Ok(Sweep::More)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::schema;

    /// DPS-INST-8: a table that is added later must not be forgotten.
    #[test]
    fn every_table_of_an_instance_is_swept_or_kept_on_purpose() {
        let kept = ["audit", "enrollment_group_version", "ca_certificate_version"];
        // Deleted with the settings, and at last.
        let deleted_otherwise = ["instance", "linked_hub", "shared_access_policy"];
        let mut connection = Connection::open_in_memory().unwrap();
        schema::migrate(&mut connection).unwrap();
        let mut statement =
            connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").unwrap();
        let tables: Vec<String> =
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        for table in tables.iter().map(String::as_str) {
            let is_swept =
                DELETIONS.iter().any(|delete| delete.starts_with(&format!("DELETE FROM {table} ")));
            assert!(is_swept || kept.contains(&table) || deleted_otherwise.contains(&table), "{table}");
        }
    }
}
