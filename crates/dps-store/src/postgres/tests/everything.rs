//! All that a store holds: as its port tells it, and as it lies in its tables.

use std::path::Path;

use dps_core::audit::AuditFilter;
use dps_core::entry_filter::EntryFilter;
use dps_core::ports::{ChainWanted, Store, WaitingFor};
use dps_proto::ids::{IdScope, InstanceSecret};
use rusqlite::types::ValueRef;
use tokio_postgres::Client;

use super::filled::{Certificates, claim_order};
use crate::contract::fixtures::*;
use crate::contract::instance_settings::told;
use crate::contract::registrations::every_state;

/// Everything that the port tells, secrets included, a line for each thing. What waits is claimed at last, and told as it is then.
pub(super) async fn by_port(store: &dyn Store, certificates: &Certificates) -> Vec<String> {
    let mut all = Vec::new();
    for instance in store.service_instances().await.unwrap() {
        all.push(format!("instance {}", told(&instance)));
    }
    for scope in store.id_scopes().await.unwrap() {
        let secret = store.open_instance(&scope, InstanceSecret::new([0xEE; 32])).await.unwrap();
        all.push(format!("secret {scope:?} {:?}", secret.expose()));
        of_scope(store, &scope, certificates, &mut all).await;
    }
    let order = claim_order(10_000);
    for whom in [WaitingFor::Hub, WaitingFor::Webhook] {
        all.push(format!(
            "claimed {:?}",
            sorted(store.claim_waiting(whom, order.clone()).await.unwrap().operations)
        ));
    }
    all.push(format!("claimed {:?}", sorted(store.claim_clean_ups(order).await.unwrap().operations)));
    records(store, &scope(), &mut all).await;
    all
}

/// Which of two that are due at the same time comes first is nobody's promise.
fn sorted<T: std::fmt::Debug>(all: Vec<T>) -> Vec<String> {
    let mut sorted: Vec<_> = all.iter().map(|one| format!("{one:?}")).collect();
    sorted.sort();
    sorted
}

async fn of_scope(store: &dyn Store, scope: &IdScope, certificates: &Certificates, all: &mut Vec<String>) {
    let every = EntryFilter::default();
    for enrollment in store.individual_enrollments(scope, &every, None, 1_000).await.unwrap() {
        all.push(format!("enrollment {}", shown_enrollment(&enrollment)));
    }
    for group in store.enrollment_groups(scope, &every, None, 1_000).await.unwrap() {
        all.push(format!("group {}", shown_group(&group)));
    }
    for ca in &*store.ca_certificates(scope).await.unwrap() {
        all.push(format!("CA certificate {ca:?}"));
    }
    let candidates = store.candidate_groups(scope, &device("d-9")).await.unwrap();
    for group in candidates.prefixed.iter().chain(&*candidates.open) {
        all.push(format!("candidate {}", shown_group(group)));
    }
    let Certificates { device, line, plant } = certificates;
    let sent = vec![(line.subject(), plant.subject())];
    let wanted = ChainWanted { leaf: device.thumbprint(), issuer: line.subject(), sent };
    let found = store.chain_entries(scope, &wanted).await.unwrap();
    let groups: Vec<_> = found.groups.iter().map(|group| &group.id).collect();
    let holders: Vec<_> = found.individual_enrollments.iter().map(|of| &of.registration_id).collect();
    all.push(format!("chain {holders:?} {groups:?}"));
    records(store, scope, all).await;
    for name in ["hub.localhost", "old.example"] {
        for device in store.hub_devices(scope, &hub(name), None, 1_000).await.unwrap() {
            all.push(format!("device {}", shown_device(&device)));
        }
    }
    for clean_up in store.clean_ups(scope, None, 1_000).await.unwrap() {
        all.push(format!("clean-up {clean_up:?}"));
    }
    // Of a hub that was spelled in two ways, either may be told.
    let loads = format!("loads {:?}", store.hub_loads(scope).await.unwrap());
    all.push(format!("{:?}", sorted(loads.to_lowercase().split("hubload").collect())));
    for record in store.audit_records(scope, &AuditFilter::default(), 1_000).await.unwrap() {
        all.push(format!("audit {record:?}"));
    }
}

async fn records(store: &dyn Store, scope: &IdScope, all: &mut Vec<String>) {
    let numbered = (1..=every_state().len()).map(|number| format!("d-{number}"));
    for id in numbered.chain(["d-x".to_owned(), "with-devices".to_owned()]) {
        all.push(format!("record {:?}", store.look_up(scope, &device(&id)).await.unwrap().registration));
    }
    for record in store.registrations_of_group(scope, &group_id("line"), None, 1_000).await.unwrap() {
        all.push(format!("of a group: {}", record.registration_id));
    }
}

/// Each row of a table in SQLite, its values as text, by the columns of that name; sorted.
pub(super) fn rows_of_sqlite(path: &Path, table: &str, columns: &[String]) -> Vec<String> {
    let connection = rusqlite::Connection::open(path).unwrap();
    let columns: Vec<_> = columns.iter().map(|column| in_sqlite(column)).collect();
    let mut statement = connection.prepare(&format!("SELECT {} FROM {table}", columns.join(", "))).unwrap();
    let mut rows = statement.query([]).unwrap();
    let mut all = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        let value = |number| match row.get_ref(number).unwrap() {
            ValueRef::Null => "NULL".to_owned(),
            ValueRef::Integer(number) => number.to_string(),
            ValueRef::Text(text) => format!("{:?}", std::str::from_utf8(text).unwrap()),
            ValueRef::Blob(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            ValueRef::Real(_) => panic!("no column is a fraction"),
        };
        all.push((0..columns.len()).map(value).collect::<Vec<_>>().join(" "));
    }
    all.sort();
    all
}

/// The name of a column in SQLite, or what it comes to in PostgreSQL.
fn in_sqlite(column: &str) -> &str {
    match column {
        "waiting_peer" => "waiting_host",
        "waiting_is_leased" => "iif(waiting_due_at IS NULL, NULL, waiting_is_leased)",
        same => same,
    }
}

/// The same in PostgreSQL.
pub(super) async fn rows_of_postgres(shell: &Client, table: &str) -> (Vec<String>, Vec<String>) {
    let select = "SELECT column_name::text, data_type::text FROM information_schema.columns
                  WHERE table_schema = current_schema() AND table_name = $1 ORDER BY ordinal_position";
    let columns: Vec<(String, String)> =
        shell.query(select, &[&table]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect();
    let value = |(name, data_type): &(String, String)| match data_type.as_str() {
        "boolean" => format!("{name}::integer::text"),
        "bytea" => format!("encode({name}, 'hex')"),
        "uuid" => format!("replace({name}::text, '-', '')"),
        "ARRAY" => format!("to_json(to_json({name})::text)::text"),
        "text" => format!("to_json({name})::text"),
        _ => format!("{name}::text"),
    };
    let values: Vec<_> = columns.iter().map(value).collect();
    let rows = shell.query(&format!("SELECT {} FROM {table}", values.join(", ")), &[]).await.unwrap();
    let text = |row: &tokio_postgres::Row, number| {
        row.get::<_, Option<String>>(number).unwrap_or_else(|| "NULL".to_owned())
    };
    let mut all: Vec<String> = rows
        .iter()
        .map(|row| (0..values.len()).map(|number| text(row, number)).collect::<Vec<_>>().join(" "))
        .collect();
    all.sort();
    (columns.into_iter().map(|(name, _)| name).collect(), all)
}
