//! Many at once.

use std::sync::Arc;

use dps_core::enrollment::{EntryRef, EntrySettings};
use dps_core::ports::{Commit, Condition, RegistrationWrite, Store};
use tokio::task::JoinSet;

use super::fixtures::*;

super::on_every_store!(
    every_commit_of_many_clients_is_answered_and_there,
    one_of_many_first_records_is_written,
    no_update_of_many_is_lost,
    no_update_of_an_entry_is_lost,
    outdated_writes_do_not_disturb_those_beside_them,
    nothing_is_committed_on_a_group_after_its_change_was_answered,
    a_look_up_never_shows_a_record_newer_than_its_group,
);

/// DPS-STORE-3
async fn every_commit_of_many_clients_is_answered_and_there(store: Arc<dyn Store>) {
    let mut clients = JoinSet::new();
    for client in 0..64 {
        let store = Arc::clone(&store);
        clients.spawn(async move {
            for number in 0..50 {
                let id = format!("d-{client}-{number}");
                committed(store.commit(with_devices(first(record(&id, 1)), vec![hub_device(&id, 1)])).await);
            }
        });
    }
    clients.join_all().await;
    for client in 0..64 {
        for number in 0..50 {
            let id = format!("d-{client}-{number}");
            let found = store.look_up(&scope(), &device(&id)).await.unwrap();
            assert_eq!(found.registration, Some(record(&id, 1)));
        }
    }
    let devices = store.hub_devices(&scope(), &hub("hub.localhost"), None, 10_000).await.unwrap();
    assert_eq!(devices.len(), 64 * 50);
}

/// DPS-STORE-4
async fn one_of_many_first_records_is_written(store: Arc<dyn Store>) {
    let mut clients = JoinSet::new();
    for client in 0..32 {
        let store = Arc::clone(&store);
        clients.spawn(async move { (client, store.commit(first(record("d", client))).await.unwrap()) });
    }
    let outcomes = clients.join_all().await;
    let done: Vec<_> = outcomes.iter().filter(|(_, commit)| *commit == Commit::Done).collect();
    let [(client, _)] = done[..] else { panic!("{done:?}") };
    let found = store.look_up(&scope(), &device("d")).await.unwrap().registration.unwrap();
    assert_eq!(found.etag, etag(&format!("r{client}")));
}

/// DPS-STORE-4
async fn no_update_of_many_is_lost(store: Arc<dyn Store>) {
    committed(store.commit(first(record("d", 0))).await);
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let store = Arc::clone(&store);
        clients.spawn(async move {
            let mut done = 0;
            while done < 20 {
                let found = store.look_up(&scope(), &device("d")).await.unwrap().registration.unwrap();
                // Each update counts one up from what it saw.
                let number = found.operation.guid.as_u128() as u32;
                if store.commit(over(number, record("d", number + 1))).await.unwrap() == Commit::Done {
                    done += 1;
                }
            }
        });
    }
    clients.join_all().await;
    let found = store.look_up(&scope(), &device("d")).await.unwrap().registration.unwrap();
    assert_eq!(found.operation.guid.as_u128(), 8 * 20);
}

/// DPS-STORE-10, DPS-SERVICE-7: writers that read an entry and write it back on its etag, as clients of the service API do.
async fn no_update_of_an_entry_is_lost(store: Arc<dyn Store>) {
    put(&*store, enrollment("d", 0)).await;
    put_group(&*store, group("line", 0)).await;
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let store = Arc::clone(&store);
        clients.spawn(async move {
            let (mut individuals, mut groups) = (0, 0);
            while individuals < 20 || groups < 20 {
                let found =
                    store.look_up(&scope(), &device("d")).await.unwrap().individual_enrollment.unwrap();
                let number = number_of(&found.settings);
                let on = Condition::IfMatches(found.settings.etag.clone());
                let written =
                    store.put_individual_enrollment(&scope(), enrollment("d", number + 1), on.into()).await;
                individuals += u32::from(written.is_ok());

                let found = store.enrollment_group(&scope(), &group_id("line")).await.unwrap().unwrap();
                let number = number_of(&found.settings);
                let on = Condition::IfMatches(found.settings.etag.clone());
                let written =
                    store.put_enrollment_group(&scope(), group("line", number + 1), on.into()).await;
                groups += u32::from(written.is_ok());
            }
            (individuals, groups)
        });
    }
    let done = clients.join_all().await;
    let found = store.look_up(&scope(), &device("d")).await.unwrap().individual_enrollment.unwrap();
    assert_eq!(number_of(&found.settings), done.iter().map(|(individuals, _)| individuals).sum::<u32>());
    let found = store.enrollment_group(&scope(), &group_id("line")).await.unwrap().unwrap();
    assert_eq!(number_of(&found.settings), done.iter().map(|(_, groups)| groups).sum::<u32>());
}

/// Each write is dated one further than what it saw.
fn number_of(settings: &EntrySettings) -> u32 {
    settings.updated_at.duration_since(time(0)).as_secs() as u32
}

/// DPS-STORE-3
async fn outdated_writes_do_not_disturb_those_beside_them(store: Arc<dyn Store>) {
    let mut clients = JoinSet::new();
    for client in 0..90 {
        let store = Arc::clone(&store);
        clients.spawn(async move {
            let id = format!("d-{client}");
            match client % 3 {
                0 => outdated(store.commit(over(7, record(&id, 1))).await),
                1 => {
                    let condition = Condition::IfMatches(etag("another"));
                    let refused = store.put_enrollment_group(&scope(), group(&id, 1), condition.into()).await;
                    assert_eq!(outcome(&refused), "missing");
                }
                _ => committed(store.commit(first(record(&id, 1))).await),
            }
        });
    }
    clients.join_all().await;
    for client in 0..90 {
        let found = store.look_up(&scope(), &device(&format!("d-{client}"))).await.unwrap();
        assert_eq!(found.registration.is_some(), client % 3 == 2, "{client}");
    }
}

/// DPS-REG-13
async fn nothing_is_committed_on_a_group_after_its_change_was_answered(store: Arc<dyn Store>) {
    put_group(&*store, group("line", 1)).await;
    let on_the_first = |id: String| RegistrationWrite {
        decided_on: Some((EntryRef::Group(group_id("line")), etag("e1"))),
        ..first(record(&id, 1))
    };
    let mut before = JoinSet::new();
    for client in 0..64 {
        let (store, write) = (Arc::clone(&store), on_the_first(format!("before-{client}")));
        before.spawn(async move { store.commit(write).await.unwrap() });
    }
    put_group(&*store, group("line", 2)).await;
    for client in 0..64 {
        outdated(store.commit(on_the_first(format!("after-{client}"))).await);
    }
    // Those that were under way may have been first or last; each was told which.
    let told = before.join_all().await.into_iter().filter(|commit| *commit == Commit::Done).count();
    let mut there = 0;
    for client in 0..64 {
        let found = store.look_up(&scope(), &device(&format!("before-{client}"))).await.unwrap();
        there += usize::from(found.registration.is_some());
    }
    assert_eq!(told, there);
}

/// DPS-STORE-4
async fn a_look_up_never_shows_a_record_newer_than_its_group(store: Arc<dyn Store>) {
    put_group(&*store, group("line", 0)).await;
    committed(store.commit(first(record("d", 0))).await);
    let mut readers = JoinSet::new();
    for _ in 0..4 {
        let store = Arc::clone(&store);
        readers.spawn(async move {
            loop {
                let found = store.look_up(&scope(), &device("d")).await.unwrap();
                let record = found.registration.unwrap().operation.guid.as_u128();
                let group = found.registration_group.unwrap().settings.updated_at;
                assert!(group >= time(record as u32), "{group} is older than record {record}");
                if record == 100 {
                    return;
                }
            }
        });
    }
    for number in 1..=100 {
        put_group(&*store, group("line", number)).await;
        committed(store.commit(over(number - 1, record("d", number))).await);
    }
    readers.join_all().await;
}
