//! Keys in the tables, and rows that this program would not write.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dps_core::ports::{Condition, Store, StoreError};
use dps_proto::ids::InstanceSecret;

use super::shell;
use crate::contract::fixtures::*;
use crate::postgres::{PostgresOptions, PostgresStore, server};
use crate::{Sealer, SealingKey};

/// One row of each kind that has a secret.
async fn filled() -> (PostgresOptions, PostgresStore) {
    let options = server::shared().options();
    let store = server::open_empty(&options).await;
    store.open_instance(&scope(), InstanceSecret::new([0xA1; 32])).await.unwrap();
    open_instances(&store).await;
    put(&store, enrollment("Device-1", 0xA2)).await;
    put_group(&store, group("Line", 0xA3)).await;
    put_group(&store, prefixed_group("Press", "p", 0xA4)).await;
    committed(
        store.commit(with_devices(first(record("Device-1", 1)), vec![hub_device("Device-1", 0xA5)])).await,
    );
    (options, store)
}

#[track_caller]
fn unreadable<T: std::fmt::Debug>(read: Result<T, StoreError>, expected: &str) {
    let Err(StoreError::Unreadable(why)) = read else { panic!("{read:?}") };
    assert!(why.to_lowercase().contains(&expected.to_lowercase()), "{why}");
}

/// DPS-STORE-6
#[tokio::test]
async fn no_secret_stands_in_the_tables_in_any_form() {
    let (options, _store) = filled().await;
    let shell = shell(&options).await;
    let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()";
    let mut all = String::new();
    for row in shell.query(tables, &[]).await.unwrap() {
        let rows =
            format!("SELECT coalesce(string_agg(row::text, ' '), '') FROM {} row", row.get::<_, &str>(0));
        all += shell.query_one(&rows, &[]).await.unwrap().get(0);
    }
    // The search finds what is there in the clear.
    assert!(all.contains("Device-1") && all.contains("Hub.Localhost"));
    for byte in [0xA1_u8, 0xA2, 0xA3, 0xA4, 0xA5] {
        for byte in [byte, !byte] {
            assert!(!all.contains(&format!("{byte:02x}").repeat(16)), "{byte:02x}");
            assert!(!all.contains(&STANDARD.encode([byte; 30])[..20]), "{byte:02x}");
        }
    }
}

/// DPS-STORE-6
#[tokio::test]
async fn another_sealing_key_opens_nothing_and_says_so() {
    let (options, _store) = filled().await;
    let store = PostgresStore::open(&options, Sealer::new(&SealingKey::from_bytes([2; 32]))).await.unwrap();
    let named = format!("sealed with key {}", SealingKey::from_bytes([0x5E; 32]).id());
    unreadable(store.open_instance(&scope(), InstanceSecret::new([9; 32])).await, &named);
    unreadable(store.look_up(&scope(), &device("Device-1")).await, &named);
    unreadable(store.enrollment_group(&scope(), &group_id("Line")).await, &named);
    unreadable(store.candidate_groups(&scope(), &device("other")).await, &named);
    unreadable(store.hub_device(&scope(), &hub("hub.localhost"), &device_id("Device-1")).await, &named);
}

/// DPS-STORE-6
#[tokio::test]
async fn a_sealed_value_moved_to_another_row_is_unreadable() {
    let (options, store) = filled().await;
    put_group(&store, group("Other", 9)).await;
    store
        .put_individual_enrollment(&other_scope(), enrollment("Device-1", 9), Condition::Always.into())
        .await
        .unwrap();
    let moved = "UPDATE enrollment_group SET sealed_keys = (
                     SELECT sealed_keys FROM enrollment_group WHERE enrollment_group_id = 'other')
                 WHERE enrollment_group_id = 'line';
                 UPDATE individual_enrollment SET sealed_keys = (
                     SELECT sealed_keys FROM individual_enrollment WHERE id_scope = '0ne000000a2')
                 WHERE id_scope = '0ne000000a1'";
    shell(&options).await.batch_execute(moved).await.unwrap();
    let found = store.enrollment_group(&scope(), &group_id("Line")).await;
    unreadable(found, "enrollment-group/0ne000000a1/line");
    unreadable(store.look_up(&scope(), &device("Device-1")).await, "moved from another row");
    assert!(store.enrollment_group(&scope(), &group_id("Other")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_row_that_this_program_would_not_write_is_unreadable() {
    let (options, store) = filled().await;
    let shell = shell(&options).await;
    for (change, expected) in [
        ("state = 'lost'", "lost"),
        ("state = 'assigned', substatus = NULL", "bear out"),
        ("substatus = 'lost'", "substatus"),
        ("substatus = 'initial', entry_kind = 'lost'", "entry_kind"),
        ("entry_kind = 'group', hub = '-'", "column hub"),
        ("hub = 'hub.localhost', thumbprint = '\\x00'", "column thumbprint"),
        ("thumbprint = NULL, failure = 'lost'", "failure"),
    ] {
        shell.batch_execute(&format!("UPDATE registration SET {change}")).await.unwrap();
        unreadable(store.look_up(&scope(), &device("Device-1")).await, expected);
    }
}
