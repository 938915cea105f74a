//! What SQLite alone must do: survive being closed, keep secrets secret, refuse what is not its own.

mod backups;
mod failing_disk;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dps_core::access::{Right, SharedAccessPolicy};
use dps_core::audit::{AUDIT_RECORDS_MAX, Author, Principal};
use dps_core::instance_settings::{HubSettings, InstanceSettings};
use dps_core::ports::{Condition, HubWrite, Store, StoreError};
use dps_core::registration::State;
use dps_proto::ids::InstanceSecret;
use rusqlite::Connection;

use super::*;
use crate::SealingKey;
use crate::contract::fixtures::*;

fn open_with(path: &Path, key: u8) -> SqliteStore {
    SqliteStore::open(path, SqliteOptions::default(), Sealer::new(&SealingKey::from_bytes([key; 32])))
        .unwrap()
}

fn open(path: &Path) -> SqliteStore {
    open_with(path, 1)
}

/// One row of each kind.
async fn fill(store: &SqliteStore) {
    store.open_instance(&scope(), InstanceSecret::new([0xA1; 32])).await.unwrap();
    put(store, enrollment("Device-1", 0xA2)).await;
    put_group(store, group("Line", 0xA3)).await;
    put_group(store, prefixed_group("Press", "p", 0xA4)).await;
    let mut write = with_devices(first(record("Device-1", 1)), vec![hub_device("Device-1", 0xA5)]);
    write.hub_writes.push(HubWrite::CleanUp(Box::new(clean_up("Device-1", "Old.Example", 1))));
    committed(store.commit(write).await);
    committed(store.commit(first(on_the_way("Device-2", 2))).await);
}

/// The record of a device that goes to a hub outside.
fn on_the_way(id: &str, number: u32) -> Registration {
    let placing = Box::new(placing(id, "0ne000000a1/hub.localhost", number));
    Registration { state: State::Assigning { placing, last: None }, ..record(id, number) }
}

/// An instance with a hub outside, whose connection string has the key `[0xA6; 32]`.
async fn link_hub_outside(store: &SqliteStore) -> StoredInstance {
    let owner =
        SharedAccessPolicy { name: "owner".parse().unwrap(), keys: keys(0xA7), rights: Right::ALL.to_vec() };
    let key = keys(0xA6).primary.expose_base64();
    let connection_string =
        format!("HostName=hub.example;SharedAccessKeyName=registry;SharedAccessKey={}", *key);
    let mut settings = InstanceSettings::new(scope(), owner);
    settings.linked_hubs = vec![HubSettings::azure(hub("hub.example"), connection_string.parse().unwrap())];
    let instance = StoredInstance {
        settings,
        secret: InstanceSecret::new([0xA1; 32]),
        etag: etag("i1"),
        created_at: time(1),
        updated_at: time(1),
    };
    store.put_service_instance(instance.clone(), Condition::Always.into()).await.unwrap();
    instance
}

fn claim_order(now: u32) -> ClaimOrder {
    ClaimOrder {
        now: time(now),
        lease_until: time(now + 60),
        limit: 9,
        per_peer_max: 9,
        in_flight: BTreeMap::new(),
        after_peer: None,
    }
}

#[track_caller]
fn unreadable<T: std::fmt::Debug>(read: Result<T, StoreError>, expected: &str) {
    let Err(StoreError::Unreadable(why)) = read else { panic!("{read:?}") };
    assert!(why.contains(expected), "{why}");
}

/// DPS-STORE-2
#[tokio::test]
async fn everything_that_was_written_is_there_after_opening_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    fill(&store).await;
    store.close();

    let store = open(&path);
    assert_eq!(store.id_scopes().await.unwrap(), [scope()]);
    let secret = store.open_instance(&scope(), InstanceSecret::new([9; 32])).await.unwrap();
    assert_eq!(secret.expose(), &[0xA1; 32]);
    let found = store.look_up(&scope(), &device("device-1")).await.unwrap();
    assert_eq!(
        shown_enrollment(&found.individual_enrollment.unwrap()),
        shown_enrollment(&enrollment("Device-1", 0xA2))
    );
    assert_eq!(found.registration, Some(record("Device-1", 1)));
    assert_eq!(shown_group(&found.registration_group.unwrap()), shown_group(&group("Line", 0xA3)));
    let found = store.candidate_groups(&scope(), &device("press")).await.unwrap();
    assert_eq!(shown_group(&found.open[0]), shown_group(&group("Line", 0xA3)));
    assert_eq!(shown_group(&found.prefixed[0]), shown_group(&prefixed_group("Press", "p", 0xA4)));
    let found =
        store.hub_device(&scope(), &hub("hub.localhost"), &device_id("Device-1")).await.unwrap().unwrap();
    let expected = StoredHubDevice { device: hub_device("Device-1", 0xA5), ..found.clone() };
    assert_eq!(shown_device(&found), shown_device(&expected));
    assert_eq!(store.clean_ups(&scope(), None, 9).await.unwrap(), [clean_up("Device-1", "Old.Example", 1)]);
    let found = store.look_up(&scope(), &device("device-2")).await.unwrap();
    assert_eq!(found.registration, Some(on_the_way("Device-2", 2)));
}

/// DPS-STORE-2, DPS-STORE-13: whoever had claimed it is gone, and the next one learns that it was claimed.
#[tokio::test]
async fn claims_outlive_the_process_that_made_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    fill(&store).await;
    let frozen = store.claim_waiting(WaitingFor::Hub, claim_order(9)).await.unwrap().operations.remove(0);
    let frozen_clean_up = store.claim_clean_ups(claim_order(9)).await.unwrap().operations.remove(0);
    // A copy of the files while the store is open is what a crash of the process leaves.
    let crashed = tempfile::tempdir().unwrap();
    for name in ["store.db", "store.db-wal"] {
        fs::copy(directory.path().join(name), crashed.path().join(name)).unwrap();
    }
    let survivor = open(&crashed.path().join("store.db"));
    let early = survivor.claim_waiting(WaitingFor::Hub, claim_order(68)).await.unwrap();
    assert!(early.operations.is_empty() && early.next_due == Some(time(69)), "{early:?}");
    let claimed =
        survivor.claim_waiting(WaitingFor::Hub, claim_order(70)).await.unwrap().operations.remove(0);
    assert_eq!((claimed.tries, claimed.guid), (2, frozen.guid));
    let record = survivor.look_up(&scope(), &device("Device-2")).await.unwrap().registration.unwrap();
    let State::Assigning { placing, .. } = record.state else { panic!("{record:?}") };
    assert_eq!(placing.unanswered_at, Some(time(70)));
    assert!(survivor.clean_up_stands(&frozen_clean_up).await.unwrap());
    let claimed = survivor.claim_clean_ups(claim_order(70)).await.unwrap().operations.remove(0);
    assert_eq!((claimed.tries, claimed.guid), (2, frozen_clean_up.guid));
    assert!(!survivor.clean_up_stands(&frozen_clean_up).await.unwrap());
}

/// DPS-STORE-2: a copy of the files while the store is open is what a crash of the process leaves.
#[tokio::test]
async fn what_was_answered_is_in_the_files_before_the_store_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    fill(&store).await;
    let crashed = tempfile::tempdir().unwrap();
    for name in ["store.db", "store.db-wal"] {
        fs::copy(directory.path().join(name), crashed.path().join(name)).unwrap();
    }
    let survivor = open(&crashed.path().join("store.db"));
    let found = survivor.look_up(&scope(), &device("device-1")).await.unwrap();
    assert_eq!(found.registration, Some(record("Device-1", 1)));
    assert!(found.individual_enrollment.is_some() && found.registration_group.is_some());
}

/// DPS-STORE-2
#[test]
fn the_writing_connection_syncs_at_each_commit_unless_told_otherwise() {
    let directory = tempfile::tempdir().unwrap();
    // As SQLite numbers them.
    for (synchronous, expected) in [(Synchronous::Full, 2), (Synchronous::Off, 0)] {
        let options = SqliteOptions { synchronous, ..SqliteOptions::default() };
        let connections = open::open(&directory.path().join("store.db"), &options).unwrap();
        for connection in [&connections.writer, &connections.checkpointer] {
            let told: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
            assert_eq!(told, expected);
        }
        let mode: String =
            connections.writer.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
    }
    assert_eq!(SqliteOptions::default().synchronous, Synchronous::Full);
}

/// DPS-STORE-2
#[tokio::test]
async fn closing_leaves_one_file_that_holds_everything() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    fill(&store).await;
    store.close();
    let names: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["store.db"]);
}

/// DPS-STORE-3
#[tokio::test]
async fn many_clients_share_commits() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&directory.path().join("store.db")));
    open_instances(&*store).await;
    let before = store.write_statistics();
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..64 {
        let store = Arc::clone(&store);
        clients.spawn(async move {
            for number in 0..20 {
                committed(store.commit(first(record(&format!("d-{client}-{number}"), 1))).await);
            }
        });
    }
    clients.join_all().await;
    let after = store.write_statistics();
    let (writes, commits) = (after.writes - before.writes, after.commits - before.commits);
    assert_eq!(writes, 64 * 20);
    assert!(commits < writes, "{commits} commits for {writes} writes");
}

/// DPS-STORE-6
#[tokio::test]
async fn no_secret_stands_in_the_files_in_any_form() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("store.db"));
    fill(&store).await;
    link_hub_outside(&store).await;
    let mut files = Vec::new();
    for entry in fs::read_dir(directory.path()).unwrap() {
        files.extend(fs::read(entry.unwrap().path()).unwrap());
    }
    let holds = |needle: &[u8]| files.windows(needle.len()).any(|window| window == needle);
    // The search finds what is there in the clear.
    assert!(holds(b"Device-1") && holds(b"hub.localhost"));
    for byte in [0xA1_u8, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7, 1] {
        for byte in [byte, !byte] {
            let secret = [byte; 32];
            assert!(!holds(&secret[..16]), "{byte:02x}");
            // A run of one byte looks alike in Base64 wherever it begins.
            assert!(!holds(&STANDARD.encode(&secret[..30]).as_bytes()[..20]), "{byte:02x}");
            let hex: String = secret[..16].iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(!holds(hex.as_bytes()) && !holds(hex.to_uppercase().as_bytes()), "{byte:02x}");
        }
    }
}

/// DPS-STORE-6
#[tokio::test]
async fn another_sealing_key_opens_nothing_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open_with(&path, 1);
    fill(&store).await;
    store.close();

    let store = open_with(&path, 2);
    let named = format!("sealed with key {}", SealingKey::from_bytes([1; 32]).id());
    unreadable(store.open_instance(&scope(), InstanceSecret::new([9; 32])).await, &named);
    unreadable(store.look_up(&scope(), &device("Device-1")).await, &named);
    unreadable(store.enrollment_group(&scope(), &group_id("Line")).await, &named);
    unreadable(store.candidate_groups(&scope(), &device("other")).await, &named);
    unreadable(store.hub_device(&scope(), &hub("hub.localhost"), &device_id("Device-1")).await, &named);
    unreadable(store.hub_devices(&scope(), &hub("hub.localhost"), None, 10).await, &named);
}

/// DPS-STORE-6
#[tokio::test]
async fn a_sealed_value_moved_to_another_row_is_unreadable() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    fill(&store).await;
    open_instances(&store).await;
    put_group(&store, group("Other", 9)).await;
    store
        .put_individual_enrollment(&other_scope(), enrollment("Device-1", 9), Condition::Always.into())
        .await
        .unwrap();
    store.close();
    Connection::open(&path)
        .unwrap()
        .execute_batch(
            "UPDATE enrollment_group SET sealed_keys = (
                 SELECT sealed_keys FROM enrollment_group WHERE enrollment_group_id = 'other')
             WHERE enrollment_group_id = 'line';
             UPDATE individual_enrollment SET sealed_keys = (
                 SELECT sealed_keys FROM individual_enrollment WHERE id_scope = '0ne000000a2')
             WHERE id_scope = '0ne000000a1';",
        )
        .unwrap();
    let store = open(&path);
    unreadable(
        store.enrollment_group(&scope(), &group_id("Line")).await,
        "enrollment-group/0ne000000a1/line",
    );
    unreadable(store.look_up(&scope(), &device("Device-1")).await, "moved from another row");
    assert!(store.enrollment_group(&scope(), &group_id("Other")).await.unwrap().is_some());
}

/// DPS-STORE-6, DPS-HUB-10
#[tokio::test]
async fn a_connection_string_opens_in_its_row_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let sealer = Sealer::new(&SealingKey::from_bytes([1; 32]));
    let other_text = sealer.seal("linked-hub/0ne000000a1/hub.example", b"HostName=hub.example").unwrap();
    let other_row = sealer.seal("linked-hub/0ne000000a1/other.example", b"any").unwrap();
    for (sealed, expected) in
        [(other_text, "hub.example is no connection string"), (other_row, "moved from another row")]
    {
        let store = open(&path);
        link_hub_outside(&store).await;
        assert!(store.service_instance(&scope()).await.unwrap().is_some());
        store.close();
        let shell = Connection::open(&path).unwrap();
        shell.execute("UPDATE linked_hub SET sealed_connection_string = ?1", [sealed]).unwrap();
        drop(shell);
        let store = open(&path);
        unreadable(store.service_instance(&scope()).await, expected);
        store.close();
        fs::remove_file(&path).unwrap();
    }
}

#[tokio::test]
async fn a_row_that_this_program_would_not_write_is_unreadable() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    fill(&store).await;
    store.close();
    for (change, expected) in [
        ("state = 'lost'", "lost"),
        ("state = 'assigned', substatus = NULL", "bear out"),
        ("substatus = 'lost'", "substatus"),
        ("state = 'assigned', substatus = 'initial', entry_kind = 'lost'", "entry_kind"),
        ("entry_kind = 'group', hub = '-'", "column hub"),
        ("hub = 'hub.localhost', operation_guid = x'00'", "Conversion"),
    ] {
        Connection::open(&path).unwrap().execute(&format!("UPDATE registration SET {change}"), []).unwrap();
        let store = open(&path);
        let found = store.look_up(&scope(), &device("Device-1")).await;
        let Err(StoreError::Unreadable(why)) = found else { panic!("{change}: {found:?}") };
        assert!(why.to_lowercase().contains(&expected.to_lowercase()), "{change}: {why}");
    }
}

/// DPS-STORE-7
#[test]
fn a_newer_database_or_another_programs_file_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    open(&path).close();
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 77).unwrap();
    let refused = |path: &Path| {
        let before = fs::read(path).unwrap();
        let sealer = Sealer::new(&SealingKey::from_bytes([1; 32]));
        let error = SqliteStore::open(path, SqliteOptions::default(), sealer).err().unwrap();
        assert_eq!(fs::read(path).unwrap(), before, "{error}");
        error
    };
    assert!(matches!(refused(&path), OpenError::Newer { found: 77, .. }));

    let theirs = directory.path().join("theirs.db");
    Connection::open(&theirs).unwrap().execute_batch("CREATE TABLE theirs (a)").unwrap();
    assert!(matches!(refused(&theirs), OpenError::NotAStore));

    let text = directory.path().join("text");
    fs::write(
        &text,
        "a text that is long enough to be taken for the header of a database, and then some more of it",
    )
    .unwrap();
    assert!(matches!(refused(&text), OpenError::Damaged));
}

/// DPS-STORE-8
#[cfg(unix)]
#[tokio::test]
async fn the_database_and_its_logs_are_0600() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("store.db"));
    fill(&store).await;
    for name in ["store.db", "store.db-wal", "store.db-shm"] {
        let mode = fs::metadata(directory.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_lock_that_someone_else_holds_is_unavailable_and_passes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    let quick = open::open(&path, &SqliteOptions::default()).unwrap();
    quick.writer.busy_timeout(std::time::Duration::ZERO).unwrap();
    let impatient = Writer::start(quick.writer, Arc::default()).unwrap();
    let shell = Connection::open(&path).unwrap();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = impatient.write(|_| Ok(())).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    shell.execute_batch("ROLLBACK").unwrap();
    impatient.write(|_| Ok(())).await.unwrap();
    fill(&store).await;
}

/// DPS-AUDIT-3
#[tokio::test]
async fn the_oldest_of_too_many_audit_records_go() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    open_instances(&store).await;
    let insert = "INSERT INTO audit (number, id_scope, at, action, subject_kind, subject, spelling)
                  VALUES (?1, '0ne000000a1', 0, 'deleted', 'enrollment', 'd', 'd')";
    // The next one has a number at which the store looks.
    let next = AUDIT_RECORDS_MAX.next_multiple_of(1_024);
    let last_gone = next - AUDIT_RECORDS_MAX;
    let shell = Connection::open(&path).unwrap();
    for number in [1, last_gone, last_gone + 1, next - 1] {
        shell.execute(insert, [number as i64]).unwrap();
    }
    let author = Author {
        principal: Principal::Admin,
        address: None,
        tracking_id: None,
        at: jiff::Timestamp::UNIX_EPOCH,
    };
    let order = WriteOrder::by(author, Condition::Always);
    store.put_individual_enrollment(&scope(), enrollment("d", 1), order).await.unwrap();
    let records = store.audit_records(&scope(), &AuditFilter::default(), 9).await.unwrap();
    let numbers: Vec<_> = records.iter().map(|record| record.number).collect();
    assert_eq!(numbers, [next, next - 1, last_gone + 1]);
}

/// DPS-METRICS-4
#[tokio::test]
async fn a_store_is_writable_only_while_a_write_reaches_its_log() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    fill(&store).await;
    let log = || fs::read(directory.path().join("store.db-wal")).unwrap();
    let before = log();
    store.is_writable().await.unwrap();
    assert_ne!(log(), before, "a transaction that writes nothing proves nothing");
    assert_eq!(store.id_scopes().await.unwrap(), [scope()]);
    store.close();

    let store = open(&path);
    let died = store.writer.write(|_| -> Result<(), fault::Fault> { panic!("as a bug would") }).await;
    assert!(died.is_err());
    assert!(matches!(store.is_writable().await, Err(StoreError::Unavailable(_))));
    assert_eq!(store.id_scopes().await.unwrap(), [scope()], "reading goes on");
}

/// DPS-METRICS-4
#[tokio::test]
async fn a_store_whose_disk_takes_nothing_is_not_writable() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("store.db"));
    store.writer.write(|connection| Ok(connection.execute_batch("PRAGMA query_only = ON")?)).await.unwrap();
    assert!(matches!(store.is_writable().await, Err(StoreError::Unavailable(_))));
}

/// DPS-REG-2
#[tokio::test]
async fn open_groups_are_read_again_only_after_a_write_to_one_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("store.db"));
    fill(&store).await;
    let open_groups = async || store.candidate_groups(&scope(), &device("Device-1")).await.unwrap().open;
    let before = open_groups().await;
    put_group(&store, prefixed_group("More", "m", 1)).await;
    put_group(&store, prefixed_group("Press", "q", 2)).await;
    store.delete_enrollment_group(&scope(), &group_id("More"), Condition::Always.into()).await.unwrap();
    assert!(Arc::ptr_eq(&open_groups().await, &before));

    put_group(&store, group("Press", 3)).await;
    let with_press = open_groups().await;
    assert_eq!(with_press.len(), 2);
    put_group(&store, prefixed_group("Line", "l", 4)).await;
    assert_eq!(open_groups().await.len(), 1);
    store.delete_enrollment_group(&scope(), &group_id("Press"), Condition::Always.into()).await.unwrap();
    assert_eq!(open_groups().await.len(), 0);
}

/// DPS-INST-8: keys of a deleted instance do not stay in memory.
#[tokio::test]
async fn what_is_remembered_of_a_deleted_instance_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("db"));
    open_instances(&store).await;
    let group = group("Press", 1);
    store.put_enrollment_group(&scope(), group, Condition::Always.into()).await.unwrap();
    let remembered = Arc::downgrade(&store.candidate_groups(&scope(), &device("d")).await.unwrap().open);
    assert!(remembered.upgrade().is_some());
    assert_eq!(store.sweep_deleted_instances(Some(&scope()), 9).await.unwrap(), Sweep::Clean);
    assert!(remembered.upgrade().is_none());
}
