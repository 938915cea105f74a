//! How SQLite finds what it is asked for: through which index, and prepared how often.

use dps_core::enrollment::{AllocationPolicy, ProvisioningStatus};
use dps_core::entry_filter::{AttestationKind, EntryFilter, IdFilter, PolicyFilter};
use rusqlite::types::Value;
use rusqlite::{Connection, StatementStatus, ToSql, params_from_iter};

use super::entry_clause::EntryClause;
use super::*;
use crate::SealingKey;
use crate::contract::fixtures::*;

fn plan(connection: &Connection, query: &str, params: impl IntoIterator<Item: ToSql>) -> String {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
    let steps = statement.query_map(params_from_iter(params), |row| row.get("detail")).unwrap();
    steps.collect::<Result<Vec<String>, _>>().unwrap().join("; ")
}

/// The plan of a query whose parameters do not matter.
fn plan_of(connection: &Connection, query: &str) -> String {
    let parameters = connection.prepare(query).unwrap().parameter_count();
    plan(connection, query, vec![Value::Integer(1); parameters])
}

/// Preparing a statement costs more than running it.
#[test]
fn the_search_by_prefix_is_prepared_once_for_all_devices() {
    let directory = tempfile::tempdir().unwrap();
    let connections = open::open(&directory.path().join("store.db"), &SqliteOptions::default()).unwrap();
    let reader = &connections.readers[0];
    let sealer = Sealer::new(&SealingKey::from_bytes([1; 32]));
    for id in ["line-1.press", "line-2.mill", "x"] {
        enrollment_group::with_prefix_of(reader, &sealer, &scope(), &device(id)).unwrap();
    }
    let statement = reader.prepare_cached(enrollment_group::SELECT_WITH_PREFIX_OF).unwrap();
    assert_eq!(statement.get_status(StatementStatus::Run), 3);
    assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
}

/// DPS-SERVICE-23: without sorting, and past the entries that a list does not hold.
#[test]
fn lists_of_some_entries_step_through_an_index_of_those() {
    let directory = tempfile::tempdir().unwrap();
    let connections = open::open(&directory.path().join("store.db"), &SqliteOptions::default()).unwrap();
    let reader = &connections.readers[0];
    let all = EntryFilter::default();
    let static_policy = PolicyFilter { policy: AllocationPolicy::Static, is_default: false };
    let disabled = Some(ProvisioningStatus::Disabled);
    let rows = [
        (all.clone(), "key"),
        (EntryFilter { id: Some(IdFilter::BeginsWith("a".into())), ..all.clone() }, "key"),
        (EntryFilter { provisioning_status: disabled, ..all.clone() }, "disabled"),
        (EntryFilter { attestation: Some(AttestationKind::X509), ..all.clone() }, "x509"),
        (EntryFilter { attestation: Some(AttestationKind::Tpm), ..all.clone() }, "tpm"),
        (EntryFilter { allocation_policy: Some(static_policy), ..all.clone() }, "policy"),
        (EntryFilter { hub: Some(hub("hub.localhost")), ..all.clone() }, "hubs"),
    ];
    for (table, id) in
        [("individual_enrollment", "registration_id"), ("enrollment_group", "enrollment_group_id")]
    {
        for (filter, index) in &rows {
            if (table, *index) == ("enrollment_group", "tpm") {
                continue;
            }
            for after in [None, Some("b")] {
                let EntryClause { sql, params } = EntryClause::of(id, "0ne1", filter, after, 100);
                let query = format!("SELECT * FROM {table} {sql}");
                let plan = plan(reader, &query, params);
                let expected = format!("SEARCH {table} USING INDEX {table}_{index} (");
                assert!(plan.contains(&expected), "{query}: {plan}");
                assert!(!plan.contains("B-TREE"), "{query}: {plan}");
            }
        }
    }
}

/// DPS-REG-33, DPS-REG-40, DPS-REG-43: one step for each peer, and none over what waits for one that has no room.
#[test]
fn what_waits_is_found_through_an_index_of_that_alone() {
    let directory = tempfile::tempdir().unwrap();
    let connections = open::open(&directory.path().join("store.db"), &SqliteOptions::default()).unwrap();
    let reader = &connections.readers[0];
    let registrations =
        [waiting::FOR_WEBHOOKS, waiting::FOR_HUBS].into_iter().flat_map(|rows| rows.queries());
    let registrations = registrations.map(|query| ("registration_waiting", query));
    let clean_ups = clean_up::ROWS.queries().map(|query| ("clean_up_waiting", query));
    for (index, query) in registrations.chain(clean_ups) {
        let plan = plan_of(reader, query);
        assert!(plan.contains(index) && !plan.contains("B-TREE"), "{query}: {plan}");
        // The first peer is the first of the index, or of the part of it that is of one kind.
        let scans = plan.contains("SCAN");
        assert_eq!(scans, query == clean_up::ROWS.first_peer, "{query}: {plan}");
    }
}

/// DPS-REG-47
#[test]
fn clean_ups_are_listed_and_hubs_counted_within_their_instance() {
    let directory = tempfile::tempdir().unwrap();
    let connections = open::open(&directory.path().join("store.db"), &SqliteOptions::default()).unwrap();
    let reader = &connections.readers[0];
    let listed = plan_of(reader, clean_up::LIST);
    assert!(listed.contains("INDEX clean_up_key (id_scope=? AND (hub,device_id)>(?,?))"), "{listed}");
    assert!(!listed.contains("B-TREE"), "{listed}");
    let counted = plan_of(reader, hub_load::COUNT_CLEAN_UPS);
    assert!(counted.contains("INDEX clean_up_key (id_scope=?)") && !counted.contains("B-TREE"), "{counted}");
    let counted = plan_of(reader, hub_load::COUNT_RECORDS);
    assert_eq!(
        counted.matches("registration").count(),
        counted.matches("registration_").count() + 1,
        "{counted}"
    );
    assert!(counted.contains("SEARCH registration USING INDEX registration_"), "{counted}");
}
