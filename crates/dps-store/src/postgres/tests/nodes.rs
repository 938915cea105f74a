//! Several nodes on one database.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dps_core::enrollment::{EntryRef, ProvisioningStatus};
use dps_core::ports::{ClaimOrder, Commit, Condition, RegistrationWrite, Store, Sweep, WaitingFor};
use dps_core::registration::{HubCredential, Registration, State};
use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;

use super::shell;
use crate::PostgresStore;
use crate::contract::fixtures::*;
use crate::contract::instance_settings::instance;
use crate::postgres::{server, sweep, turnstile};

async fn nodes(count: usize) -> Vec<Arc<PostgresStore>> {
    let options = server::shared().options();
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(Arc::new(server::open(&options).await));
    }
    nodes
}

fn on_the_first_version(id: &str) -> RegistrationWrite {
    RegistrationWrite {
        decided_on: Some((EntryRef::Group(group_id("line")), etag("e1"))),
        ..first(record(id, 1))
    }
}

/// DPS-STORE-19, DPS-REG-13: three nodes write without a pause on a group that a fourth one disables. It gets through, and after it
/// was answered nobody writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_disabled_under_load_and_admits_nobody_after_that_was_answered() {
    let nodes = nodes(4).await;
    put_group(&*nodes[3], group("line", 1)).await;
    let (is_disabled, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let mut clients = JoinSet::new();
    for client in 0..96 {
        let node = Arc::clone(&nodes[client % 3]);
        let (is_disabled, done) = (Arc::clone(&is_disabled), Arc::clone(&done));
        clients.spawn(async move {
            for number in 0.. {
                let began_after = is_disabled.load(Ordering::SeqCst);
                let commit =
                    node.commit(on_the_first_version(&format!("d-{client}-{number}"))).await.unwrap();
                match commit {
                    Commit::Done => assert!(!began_after, "written after the group was disabled"),
                    Commit::Outdated => return,
                }
                done.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    while done.load(Ordering::SeqCst) < 500 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut disabled = group("line", 2);
    disabled.settings.provisioning_status = ProvisioningStatus::Disabled;
    let began = Instant::now();
    put_group(&*nodes[3], disabled).await;
    is_disabled.store(true, Ordering::SeqCst);
    let took = began.elapsed();
    clients.join_all().await;
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// DPS-INST-8, DPS-STORE-23: a node that serves a deleted instance for a moment more leaves nothing behind that nobody would delete.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_to_a_deleted_instance_is_written_by_no_node_after_that_was_answered() {
    let options = server::shared().options();
    let (first, second) = (server::open(&options).await, Arc::new(server::open(&options).await));
    first.put_service_instance(instance(&scope(), 1), Condition::Always.into()).await.unwrap();
    put_group(&first, group("line", 1)).await;
    let certificate = certificate("root");
    let done = Arc::new(AtomicU32::new(0));
    let mut clients = JoinSet::new();
    for client in 0..32 {
        let (node, done) = (Arc::clone(&second), Arc::clone(&done));
        clients.spawn(async move {
            for number in 0.. {
                // No entry is named: nothing but the instance can refuse it.
                let write = RegistrationWrite { decided_on: None, ..first_of(client, number) };
                if node.commit(write).await.unwrap() == Commit::Outdated {
                    return;
                }
                done.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    while done.load(Ordering::SeqCst) < 200 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    first.delete_service_instance(&scope(), Condition::Always.into()).await.unwrap();
    let last = done.load(Ordering::SeqCst) + 32;
    clients.join_all().await;
    assert!(done.load(Ordering::SeqCst) <= last);
    let always = Condition::Always;
    for refused in [
        second.put_enrollment_group(&scope(), group("new", 1), always.clone().into()).await,
        second.put_individual_enrollment(&scope(), enrollment("new", 1), always.clone().into()).await,
        second.put_ca_certificate(&scope(), ca("root", &certificate, 1), always.clone().into()).await,
    ] {
        assert_eq!(outcome(&refused), "being deleted");
    }
    while first.sweep_deleted_instances(None, 1_000).await.unwrap() == Sweep::More {}
    let shell = shell(&options).await;
    for table in sweep::SWEPT {
        let left = format!("SELECT count(*) FROM {table}");
        assert_eq!(shell.query_one(&left, &[]).await.unwrap().get::<_, i64>(0), 0, "{table}");
    }
}

fn first_of(client: u32, number: u32) -> RegistrationWrite {
    first(record(&format!("d-{client}-{number}"), 1))
}

/// DPS-NODE-3
#[tokio::test]
async fn each_change_of_an_instance_gives_all_nodes_another_version() {
    let nodes = nodes(2).await;
    let mut versions = BTreeSet::from([nodes[1].settings_version().await.unwrap().unwrap()]);
    let always = || Condition::Always.into();
    nodes[0].put_service_instance(instance(&scope(), 1), always()).await.unwrap();
    versions.insert(nodes[1].settings_version().await.unwrap().unwrap());
    nodes[1].put_service_instance(instance(&scope(), 2), always()).await.unwrap();
    versions.insert(nodes[1].settings_version().await.unwrap().unwrap());
    nodes[0].delete_service_instance(&scope(), always()).await.unwrap();
    versions.insert(nodes[1].settings_version().await.unwrap().unwrap());
    assert_eq!(versions.len(), 4);
    // An entry is no setting.
    nodes[0].put_enrollment_group(&other_scope(), group("line", 1), always()).await.unwrap();
    assert!(versions.contains(&nodes[1].settings_version().await.unwrap().unwrap()));
}

/// DPS-NODE-2
#[tokio::test]
async fn the_clock_of_the_store_runs() {
    let nodes = nodes(2).await;
    let first = nodes[0].clock().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let second = nodes[1].clock().await.unwrap().unwrap();
    let (passed, off) = (second.duration_since(first), first.duration_since(Timestamp::now()));
    assert!(passed >= SignedDuration::from_millis(20), "{passed:#}");
    // Both are this machine's.
    assert!(off.abs() < SignedDuration::from_secs(5), "{off:#}");
}

/// DPS-STORE-21: what a node remembers is used only while it is current.
#[tokio::test]
async fn what_one_node_changes_the_others_see_at_once() {
    let nodes = nodes(2).await;
    let certificate = certificate("root");
    for number in 1..=5 {
        put_group(&*nodes[0], group("line", number)).await;
        let found = nodes[1].candidate_groups(&scope(), &device("d")).await.unwrap();
        assert_eq!(shown_group(&found.open[0]), shown_group(&Stored::of(number)));
        put_ca(&*nodes[1], ca("root", &certificate, number)).await;
        let found = nodes[0].ca_certificates(&scope()).await.unwrap();
        assert_eq!(found[0].etag, etag(&format!("c{number}")));
    }
    nodes[1].delete_enrollment_group(&scope(), &group_id("line"), Condition::Always.into()).await.unwrap();
    assert!(nodes[0].candidate_groups(&scope(), &device("d")).await.unwrap().open.is_empty());
}

/// The group as it is after several writes.
struct Stored;

impl Stored {
    fn of(number: u32) -> dps_core::enrollment::EnrollmentGroup {
        let mut group = group("line", number);
        group.settings.created_at = time(1);
        group
    }
}

/// DPS-STORE-14, DPS-REG-32: nodes that claim at once share what is due.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_operation_is_claimed_by_one_of_several_nodes() {
    let nodes = nodes(3).await;
    for number in 0..60 {
        let waiting = waiting(HubCredential::EnrollmentKeys, &format!("hook-{}.example", number % 4), 1);
        let state = State::Choosing { waiting: Box::new(waiting), last: None };
        let record = Registration { state, ..record(&format!("d-{number}"), 1) };
        committed(nodes[0].commit(first(record)).await);
    }
    let mut workers = JoinSet::new();
    for worker in 0..6 {
        let node = Arc::clone(&nodes[worker % 3]);
        workers.spawn(async move {
            let mut claimed = Vec::new();
            for _ in 0..30 {
                let order = ClaimOrder {
                    now: time(2),
                    lease_until: time(32),
                    limit: 5,
                    per_peer_max: 100,
                    in_flight: Default::default(),
                    after_peer: None,
                };
                let part = node.claim_waiting(WaitingFor::Webhook, order).await.unwrap().operations;
                claimed.extend(part.into_iter().map(|operation| {
                    assert_eq!(operation.tries, 1);
                    operation.registration_id.as_str().to_owned()
                }));
            }
            claimed
        });
    }
    let mut claimed = workers.join_all().await.concat();
    claimed.sort();
    let all = claimed.len();
    claimed.dedup();
    assert_eq!((claimed.len(), all), (60, 60));
}

/// DPS-STORE-14, DPS-STORE-19: registrations of the same devices, their hub devices in the opposite order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_of_two_nodes_that_write_the_same_rows_do_not_stand_in_each_others_way() {
    let nodes = nodes(2).await;
    let mut clients = JoinSet::new();
    for client in 0..32 {
        let node = Arc::clone(&nodes[client % 2]);
        clients.spawn(async move {
            let mut done = 0;
            for number in 0..40 {
                let at = if client % 2 == 0 { number } else { 39 - number };
                let write = with_devices(
                    first(record(&format!("d-{at}"), client as u32)),
                    vec![hub_device(&format!("d-{at}"), 1), hub_device(&format!("d-{}", 39 - at), 2)],
                );
                done += u32::from(node.commit(write).await.unwrap() == Commit::Done);
            }
            done
        });
    }
    assert_eq!(clients.join_all().await.iter().sum::<u32>(), 40, "one of them made each record");
    let devices = nodes[0].hub_devices(&scope(), &hub("hub.localhost"), None, 100).await.unwrap();
    assert_eq!(devices.len(), 40);
}

/// DPS-STORE-19: those who share a group would else overtake for ever the one who waits to write it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_to_write_a_group_is_not_overtaken_by_registrations() {
    let nodes = nodes(2).await;
    put_group(&*nodes[0], group("line", 1)).await;
    let mut session = nodes[0].connections.get().await.unwrap();
    let under_way = session.client_mut().unwrap().transaction().await.unwrap();
    let scope = scope();
    turnstile::pass(&under_way, &BTreeSet::from([(scope.folded(), "line")])).await.unwrap();
    under_way.query("SELECT * FROM enrollment_group FOR SHARE", &[]).await.unwrap();

    let writer = Arc::clone(&nodes[0]);
    let change = tokio::spawn(async move { put_group(&*writer, group("line", 2)).await });
    let waits = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND objid::bigint = hashtextextended($1, 0) & 4294967295";
    let name = turnstile::name(scope.folded(), "line");
    while under_way.query(waits, &[&name]).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let other = Arc::clone(&nodes[1]);
    let commit = tokio::spawn(async move { other.commit(on_the_first_version("d")).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!change.is_finished() && !commit.is_finished());
    under_way.commit().await.unwrap();
    change.await.unwrap();
    outdated(commit.await.unwrap());
}

/// DPS-STORE-22: a node whose clock is ahead takes over too early what another one has leased, and the other one changes nothing then.
#[tokio::test]
async fn a_clock_that_is_ahead_takes_a_lease_over_and_loses_nothing() {
    let nodes = nodes(2).await;
    let waiting = waiting(HubCredential::EnrollmentKeys, "hook.example", 1);
    let state = State::Choosing { waiting: Box::new(waiting), last: None };
    committed(nodes[0].commit(first(Registration { state, ..record("d", 1) })).await);
    let order = |now: u32| ClaimOrder {
        now: time(now),
        lease_until: time(now + 30),
        limit: 5,
        per_peer_max: 5,
        in_flight: Default::default(),
        after_peer: None,
    };
    let claimed = nodes[0].claim_waiting(WaitingFor::Webhook, order(2)).await.unwrap().operations.remove(0);
    // By its own clock the lease has run out.
    let taken_over =
        nodes[1].claim_waiting(WaitingFor::Webhook, order(40)).await.unwrap().operations.remove(0);
    assert_eq!((claimed.tries, taken_over.tries), (1, 2));
    let ends = |tries, number| RegistrationWrite { under_claim: Some(tries), ..over(1, record("d", number)) };
    outdated(nodes[0].commit(ends(1, 2)).await);
    committed(nodes[1].commit(ends(2, 3)).await);
}
