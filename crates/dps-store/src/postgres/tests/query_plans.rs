//! How PostgreSQL finds what it is asked for: through which index. Spec: DPS-STORE-20.

use dps_core::enrollment::{AllocationPolicy, ProvisioningStatus};
use dps_core::entry_filter::{AttestationKind, EntryFilter, IdFilter, PolicyFilter};

use crate::PostgresStore;
use crate::contract::fixtures::*;
use crate::postgres::entry_clause::EntryClause;
use crate::postgres::*;

async fn opened() -> PostgresStore {
    server::open(&server::shared().options()).await
}

/// The plan of a statement on a connection of the store, made for any parameters, as it is kept.
async fn plan(store: &PostgresStore, statement: &str) -> String {
    let session = store.connections.get().await.unwrap();
    let client = session.client().unwrap();
    let prepared = client.prepare(statement).await.unwrap();
    let nulls = vec!["NULL"; prepared.params().len()].join(", ");
    let arguments = if nulls.is_empty() { String::new() } else { format!("({nulls})") };
    client.batch_execute(&format!("PREPARE looked_at AS {statement}")).await.unwrap();
    let rows = client.query(&format!("EXPLAIN (COSTS off) EXECUTE looked_at{arguments}"), &[]).await.unwrap();
    client.batch_execute("DEALLOCATE looked_at").await.unwrap();
    rows.iter().map(|row| row.get::<_, &str>(0)).collect::<Vec<_>>().join("\n")
}

/// DPS-STORE-20: on an empty database, where scanning would cost nothing.
#[tokio::test]
async fn no_statement_of_a_register_scans_a_table() {
    let store = opened().await;
    for (statement, indexes) in [
        (look_up::LOOK_UP, &["individual_enrollment_pkey", "registration_pkey", "enrollment_group_pkey"][..]),
        (enrollment_group::WITH_PREFIX_OF, &["enrollment_group_prefix"]),
        (enrollment_group::OPEN, &["enrollment_group_open"]),
        (enrollment_group::OF_ANCHORS, &["enrollment_group_anchor_pkey", "enrollment_group_pkey"]),
        (individual_enrollment::OF_THUMBPRINT[0], &["individual_enrollment_primary_thumbprint"]),
        (individual_enrollment::OF_THUMBPRINT[1], &["individual_enrollment_secondary_thumbprint"]),
        (ca_certificate::ALL, &["ca_certificate_pkey"]),
        (batch::LOCK_ENROLLMENTS, &["individual_enrollment_pkey"]),
        (batch::LOCK_GROUPS, &["enrollment_group_pkey"]),
        (batch::LOCK_RECORDS, &["registration_pkey"]),
        (hub_writes::LOCK, &["hub_device_pkey"]),
        (hub_writes::REMOVE_ALL, &["hub_device_pkey"]),
        (hub_writes::DISABLE_ALL, &["hub_device_pkey"]),
        (clean_up::DELETE_ALL, &["clean_up_pkey"]),
        (clean_up::STANDS, &["clean_up_pkey", "registration_pkey"]),
        (instance::NOT_THERE, &["instance_pkey"]),
    ] {
        let plan = plan(&store, statement).await;
        assert!(!plan.contains("Seq Scan"), "{statement}\n{plan}");
        for index in indexes {
            assert!(plan.contains(index), "{statement}\n{plan}");
        }
    }
}

/// DPS-REG-33, DPS-REG-40, DPS-REG-43: one step for each peer, and none over what waits for one that has no room.
#[tokio::test]
async fn what_waits_is_found_through_an_index_of_that_alone() {
    let store = opened().await;
    let registrations =
        [waiting::FOR_WEBHOOKS, waiting::FOR_HUBS].into_iter().flat_map(|rows| rows.queries());
    let registrations = registrations.map(|query| ("registration_waiting", query));
    let clean_ups = clean_up::ROWS.queries().map(|query| ("clean_up_waiting", query));
    for (index, query) in registrations.chain(clean_ups) {
        let plan = plan(&store, query).await;
        assert!(plan.contains(index) && !plan.contains("Seq Scan"), "{query}\n{plan}");
        // The numbered peers are put in order; what waits never is.
        assert_eq!(plan.contains("Sort"), query.contains("RECURSIVE"), "{query}\n{plan}");
    }
    for (index, statement) in [("registration_pkey", waiting::LEASE), ("clean_up_pkey", clean_up::LEASE)] {
        let plan = plan(&store, statement).await;
        assert!(plan.contains(index) && !plan.contains("Seq Scan"), "{statement}\n{plan}");
    }
}

/// DPS-SERVICE-23: without sorting, and past the entries that a list does not hold.
#[tokio::test]
async fn lists_of_some_entries_step_through_an_index_of_those() {
    let store = opened().await;
    let all = EntryFilter::default();
    let static_policy = PolicyFilter { policy: AllocationPolicy::Static, is_default: false };
    let disabled = Some(ProvisioningStatus::Disabled);
    let rows = [
        (all.clone(), "pkey"),
        (EntryFilter { id: Some(IdFilter::BeginsWith("a".into())), ..all.clone() }, "pkey"),
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
                let clause = EntryClause::of(id, "0ne1", filter, after, 100);
                let query = match table {
                    "enrollment_group" => enrollment_group::select(&clause),
                    _ => individual_enrollment::select(&clause),
                };
                let plan = plan(&store, &query).await;
                assert!(plan.contains(&format!("Index Scan using {table}_{index} ")), "{query}\n{plan}");
                assert!(!plan.contains("Sort"), "{query}\n{plan}");
            }
        }
    }
}

/// DPS-STORE-11, DPS-REG-47
#[tokio::test]
async fn lists_are_read_in_the_order_of_an_index_and_counts_within_their_instance() {
    let store = opened().await;
    for (statement, index) in [
        (registration::OF_GROUP, "registration_group"),
        (hub_device::LIST, "hub_device_pkey"),
        (clean_up::LIST, "clean_up_pkey"),
    ] {
        let plan = plan(&store, statement).await;
        assert!(plan.contains(index) && !plan.contains("Sort"), "{statement}\n{plan}");
    }
    for statement in [
        hub_load::COUNT_RECORDS,
        hub_load::COUNT_CLEAN_UPS,
        ca_certificate::REFERRING_GROUP,
        ca_certificate::REFERRING_ENROLLMENT,
    ] {
        let plan = plan(&store, statement).await;
        assert!(!plan.contains("Seq Scan"), "{statement}\n{plan}");
    }
    for table in sweep::SWEPT {
        let plan = plan(&store, &sweep::delete(table)).await;
        assert!(!plan.contains("Seq Scan") && plan.contains("id_scope = $1"), "{table}\n{plan}");
    }
}
