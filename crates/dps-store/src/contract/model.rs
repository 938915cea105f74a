//! SQLite against memory: whatever is done to both, in whatever order, both answer the same. Spec: DPS-STORE-9.

use dps_core::enrollment::EntryRef;
use dps_core::ports::{Condition, RegistrationWrite, Store};
use dps_core::registration::Registration;
use dps_proto::ids::IdScope;
use proptest::prelude::*;

use super::fixtures::*;
use crate::{SqliteOptions, Synchronous};

/// Ids that fold to three, in scopes that fold to two: small enough that steps meet.
const IDS: [&str; 5] = ["Line", "line", "line-1", "LINE-1", "other"];
const PREFIXES: [Option<&str>; 4] = [None, Some("l"), Some("Line"), Some("o")];

#[derive(Debug, Clone)]
enum Step {
    PutEnrollment { scope: bool, id: usize, number: u32, condition: usize },
    DeleteEnrollment { scope: bool, id: usize, condition: usize },
    PutGroup { scope: bool, id: usize, prefix: usize, number: u32, condition: usize },
    DeleteGroup { scope: bool, id: usize, condition: usize },
    Commit { scope: bool, id: usize, number: u32, replaces: Option<u32>, entry: Option<(bool, usize, u32)> },
    DeleteRegistration { scope: bool, id: usize, condition: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (id, number, condition) = (0..IDS.len(), 0..4_u32, 0..5_usize);
    let scoped = (any::<bool>(), id.clone(), number.clone(), condition.clone());
    let entry = prop::option::of((any::<bool>(), id.clone(), number.clone()));
    let put_enrollment = scoped.clone().prop_map(|(scope, id, number, condition)| Step::PutEnrollment {
        scope,
        id,
        number,
        condition,
    });
    let delete_enrollment =
        scoped.clone().prop_map(|(scope, id, _, condition)| Step::DeleteEnrollment { scope, id, condition });
    let put_group =
        (scoped.clone(), 0..PREFIXES.len()).prop_map(|((scope, id, number, condition), prefix)| {
            Step::PutGroup { scope, id, prefix, number, condition }
        });
    let delete_group =
        scoped.clone().prop_map(|(scope, id, _, condition)| Step::DeleteGroup { scope, id, condition });
    let commit = (any::<bool>(), id, number.clone(), prop::option::of(number), entry)
        .prop_map(|(scope, id, number, replaces, entry)| Step::Commit { scope, id, number, replaces, entry });
    let delete_registration =
        scoped.prop_map(|(scope, id, _, condition)| Step::DeleteRegistration { scope, id, condition });
    let step = prop_oneof![
        2 => put_enrollment,
        1 => delete_enrollment,
        3 => put_group,
        1 => delete_group,
        4 => commit,
        1 => delete_registration,
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// DPS-STORE-9
    #[test]
    fn sqlite_and_memory_answer_any_steps_alike(steps in steps()) {
        let options = SqliteOptions { synchronous: Synchronous::Off, ..SqliteOptions::default() };
        let (memory, sqlite) = (super::memory(), super::sqlite(options));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for (number, step) in steps.into_iter().enumerate() {
                let expected = run(&*memory.store, step.clone()).await;
                assert_eq!(run(&*sqlite.store, step.clone()).await, expected, "step {number}: {step:?}");
                assert_eq!(all(&*sqlite.store).await, all(&*memory.store).await, "after step {number}: {step:?}");
            }
        });
    }
}

fn scope_of(other: bool) -> IdScope {
    if other { other_scope() } else { scope() }
}

fn condition_of(number: usize, kind: &str) -> Condition {
    match number {
        0 => Condition::Always,
        1 => Condition::IfAbsent,
        number => Condition::IfMatches(etag(&format!("{kind}{number}"))),
    }
}

async fn run(store: &dyn Store, step: Step) -> String {
    match step {
        Step::PutEnrollment { scope, id, number, condition } => {
            let enrollment = enrollment(IDS[id], number);
            let condition = condition_of(condition, "e");
            outcome(&store.put_individual_enrollment(&scope_of(scope), enrollment, condition.into()).await)
                .to_owned()
        }
        Step::DeleteEnrollment { scope, id, condition } => {
            let condition = condition_of(condition, "e");
            outcome(
                &store
                    .delete_individual_enrollment(&scope_of(scope), &device(IDS[id]), condition.into())
                    .await,
            )
            .to_owned()
        }
        Step::PutGroup { scope, id, prefix, number, condition } => {
            let mut group = group(IDS[id], number);
            group.registration_id_prefix = PREFIXES[prefix].map(|prefix| prefix.parse().unwrap());
            let condition = condition_of(condition, "e");
            outcome(&store.put_enrollment_group(&scope_of(scope), group, condition.into()).await).to_owned()
        }
        Step::DeleteGroup { scope, id, condition } => {
            let condition = condition_of(condition, "e");
            outcome(
                &store.delete_enrollment_group(&scope_of(scope), &group_id(IDS[id]), condition.into()).await,
            )
            .to_owned()
        }
        Step::Commit { scope, id, number, replaces, entry } => {
            let entry = entry.map(|(of_group, id, number)| {
                let name = match of_group {
                    true => EntryRef::Group(group_id(IDS[id])),
                    false => EntryRef::Individual(device(IDS[id])),
                };
                (name, etag(&format!("e{number}")))
            });
            let mut registration = Registration { id_scope: scope_of(scope), ..record(IDS[id], number) };
            if let Some((name, _)) = &entry {
                registration.entry = name.clone();
            }
            let hub_device =
                dps_core::ports::HubDevice { id_scope: scope_of(scope), ..hub_device(IDS[id], number) };
            let write = RegistrationWrite {
                replaces: replaces.map(|number| etag(&format!("r{number}"))),
                decided_on: entry,
                ..with_devices(first(registration), vec![hub_device])
            };
            format!("{:?}", store.commit(write).await.unwrap())
        }
        Step::DeleteRegistration { scope, id, condition } => {
            let condition = condition_of(condition, "r");
            outcome(&store.delete_registration(&scope_of(scope), &device(IDS[id]), condition.into()).await)
                .to_owned()
        }
    }
}

/// Everything that can be read of a store.
async fn all(store: &dyn Store) -> Vec<String> {
    let mut seen = Vec::new();
    for scope in [scope(), other_scope()] {
        for id in IDS {
            let found = store.look_up(&scope, &device(id)).await.unwrap();
            seen.push(format!("{:?}", found.registration));
            seen.extend(found.individual_enrollment.iter().map(|enrollment| shown_enrollment(enrollment)));
            seen.extend(found.registration_group.iter().map(|group| shown_group(group)));
            let found = store.candidate_groups(&scope, &device(id)).await.unwrap();
            seen.push(format!("{id}: {} groups without prefix", found.open.len()));
            seen.extend(found.prefixed.iter().chain(&*found.open).map(|group| shown_group(group)));
        }
        let devices = store.hub_devices(&scope, &hub("hub.localhost"), None, 100).await.unwrap();
        seen.extend(devices.iter().map(shown_device));
    }
    seen
}
