//! SQLite and PostgreSQL against memory: whatever is done to both, in whatever order, both answer the same. Spec: DPS-STORE-9.

use dps_core::enrollment::EntryRef;
use dps_core::ports::{
    Claimed, ClaimedOperation, CleanUp, CleanUpOutcome, Condition, HubDevice, HubWrite, Postponement,
    RegistrationWrite, Store, WaitingFor,
};
use dps_core::registration::{HubCredential, Registration, State};
use dps_proto::ids::IdScope;
use proptest::prelude::*;

use super::fixtures::*;
use super::waiting::order;
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
    Commit { record: Record, replaces: Option<u32>, entry: Option<(bool, usize, u32)>, at_hub: AtHub },
    DeleteRegistration { scope: bool, id: usize, condition: usize },
    ClaimWaiting { whom: WaitingFor, now: u32 },
    Postpone { record: Record, tries: u32, until: u32, unanswered_at: Option<u32> },
    Stray(CleanUpOf),
    ClaimCleanUps { now: u32 },
    SettleCleanUp { of: CleanUpOf, tries: u32, again_at: Option<u32> },
}

/// A record, as it is written or as its claim names it.
#[derive(Debug, Clone)]
struct Record {
    scope: bool,
    id: usize,
    number: u32,
    waits_for: Option<WaitingFor>,
}

/// What is to be gone, and whether it may be confirmed later.
#[derive(Debug, Clone)]
struct CleanUpOf {
    scope: bool,
    id: usize,
    number: u32,
    confirm_at: Option<u32>,
}

/// What goes along with a record beside its device.
#[derive(Debug, Clone, Copy)]
enum AtHub {
    Nothing,
    Disable,
    CleanUp,
    Keep,
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
    let whom = prop_oneof![Just(WaitingFor::Webhook), Just(WaitingFor::Hub)];
    let record = (any::<bool>(), id.clone(), number.clone(), prop::option::weighted(0.6, whom.clone()))
        .prop_map(|(scope, id, number, waits_for)| Record { scope, id, number, waits_for });
    let at_hub = prop_oneof![
        Just(AtHub::Nothing),
        Just(AtHub::Disable),
        Just(AtHub::CleanUp),
        Just(AtHub::CleanUp),
        Just(AtHub::Keep)
    ];
    let commit = (record.clone(), prop::option::of(number.clone()), entry, at_hub)
        .prop_map(|(record, replaces, entry, at_hub)| Step::Commit { record, replaces, entry, at_hub });
    let (now, tries) = (0..12_u32, 0..3_u32);
    let claim_waiting = (whom, now.clone()).prop_map(|(whom, now)| Step::ClaimWaiting { whom, now });
    let postpone = (record, tries.clone(), now.clone(), prop::option::of(now.clone())).prop_map(
        |(record, tries, until, unanswered_at)| Step::Postpone { record, tries, until, unanswered_at },
    );
    let clean_up = (any::<bool>(), id, number, prop::option::of(now.clone()))
        .prop_map(|(scope, id, number, confirm_at)| CleanUpOf { scope, id, number, confirm_at });
    let claim_clean_ups = now.clone().prop_map(|now| Step::ClaimCleanUps { now });
    let settle = (clean_up.clone(), tries, prop::option::of(now))
        .prop_map(|(of, tries, again_at)| Step::SettleCleanUp { of, tries, again_at });
    let delete_registration =
        scoped.prop_map(|(scope, id, _, condition)| Step::DeleteRegistration { scope, id, condition });
    let step = prop_oneof![
        2 => put_enrollment,
        1 => delete_enrollment,
        3 => put_group,
        1 => delete_group,
        6 => commit,
        1 => delete_registration,
        3 => claim_waiting,
        2 => postpone,
        1 => clean_up.prop_map(Step::Stray),
        2 => claim_clean_ups,
        2 => settle,
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
        runtime.block_on(answer_alike(&*memory.store, &*sqlite.store, steps));
    }
}

proptest! {
    // Each case has a schema of its own, which takes longer to make than a file.
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// DPS-STORE-9, DPS-STORE-14
    #[test]
    fn postgres_on_several_nodes_and_memory_answer_any_steps_alike(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let (memory, postgres) = (super::memory(), super::postgres_nodes().await);
            answer_alike(&*memory.store, &*postgres.store, steps).await;
        });
    }
}

async fn answer_alike(expected: &dyn Store, store: &dyn Store, steps: Vec<Step>) {
    for (number, step) in steps.into_iter().enumerate() {
        let answer = run(expected, step.clone()).await;
        assert_eq!(run(store, step.clone()).await, answer, "step {number}: {step:?}");
        assert_eq!(all(store).await, all(expected).await, "after step {number}: {step:?}");
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

impl Record {
    fn registration(&self) -> Registration {
        let id = IDS[self.id];
        let record = Registration { id_scope: scope_of(self.scope), ..record(id, self.number) };
        let peer = format!("peer-{}", self.number % 2);
        let state = match self.waits_for {
            None => record.state,
            Some(WaitingFor::Webhook) => {
                let waiting = waiting(HubCredential::EnrollmentKeys, &peer, self.number);
                State::Choosing { waiting: Box::new(waiting), last: Some(assignment(id)) }
            }
            Some(WaitingFor::Hub) => {
                let placing = placing(id, &peer, self.number);
                State::Assigning { placing: Box::new(placing), last: None }
            }
        };
        Registration { state, ..record }
    }
}

impl CleanUpOf {
    fn clean_up(&self) -> CleanUp {
        CleanUp {
            id_scope: scope_of(self.scope),
            registration_id: device(IDS[self.id]),
            confirm_at: self.confirm_at.map(time),
            ..clean_up(IDS[self.id], "Hub.Localhost", self.number)
        }
    }
}

/// In no order, and in lower case: an ID scope that was claimed is not told in its spelling.
fn shown<T: std::fmt::Debug>(all: &[T]) -> Vec<String> {
    let mut shown: Vec<_> = all.iter().map(|one| format!("{one:?}").to_lowercase()).collect();
    shown.sort();
    shown
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
        Step::Commit { record, replaces, entry, at_hub } => {
            let entry = entry.map(|(of_group, id, number)| {
                let name = match of_group {
                    true => EntryRef::Group(group_id(IDS[id])),
                    false => EntryRef::Individual(device(IDS[id])),
                };
                (name, etag(&format!("e{number}")))
            });
            let mut registration = record.registration();
            if let Some((name, _)) = &entry {
                registration.entry = name.clone();
            }
            let Record { scope, id, number, .. } = record;
            let id_scope = scope_of(scope);
            let hub_device = HubDevice { id_scope: id_scope.clone(), ..hub_device(IDS[id], number) };
            let (hub, device_id) = (hub_device.hub.clone(), hub_device.device_id.clone());
            let mut write = RegistrationWrite {
                replaces: replaces.map(|number| etag(&format!("r{number}"))),
                decided_on: entry,
                ..with_devices(first(registration), vec![hub_device])
            };
            write.hub_writes.extend(match at_hub {
                AtHub::Nothing => None,
                AtHub::Disable => Some(HubWrite::DisableDevice { id_scope, hub, device_id }),
                AtHub::CleanUp => {
                    let of = CleanUpOf { scope, id, number, confirm_at: None };
                    Some(HubWrite::CleanUp(Box::new(of.clean_up())))
                }
                AtHub::Keep => Some(HubWrite::Keep { id_scope, hub, device_id }),
            });
            format!("{:?}", store.commit(write).await.unwrap())
        }
        Step::DeleteRegistration { scope, id, condition } => {
            let condition = condition_of(condition, "r");
            outcome(&store.delete_registration(&scope_of(scope), &device(IDS[id]), condition.into()).await)
                .to_owned()
        }
        Step::ClaimWaiting { whom, now } => {
            let Claimed { operations, next_due, .. } = store.claim_waiting(whom, order(now)).await.unwrap();
            format!("{:?} {next_due:?}", shown(&operations))
        }
        Step::Postpone { record, tries, until, unanswered_at } => {
            let Registration { id_scope, registration_id, etag, operation, .. } = record.registration();
            let claimed = ClaimedOperation {
                id_scope,
                registration_id,
                guid: operation.guid,
                etag,
                tries,
                peer: "peer".into(),
                lease_until: time(0),
            };
            let postponement = Postponement { until: time(until), unanswered_at: unanswered_at.map(time) };
            format!("{:?}", store.postpone(&claimed, postponement).await.unwrap())
        }
        Step::Stray(of) => format!("{:?}", store.clean_up_stray(of.clean_up()).await.unwrap()),
        Step::ClaimCleanUps { now } => {
            let Claimed { operations, next_due, .. } = store.claim_clean_ups(order(now)).await.unwrap();
            format!("{:?} {next_due:?}", shown(&operations))
        }
        Step::SettleCleanUp { of, tries, again_at } => {
            let claimed = CleanUp { tries, ..of.clean_up() };
            let outcome = match again_at {
                Some(at) => CleanUpOutcome::Again { until: time(at), problem: "busy".into() },
                None => CleanUpOutcome::Done,
            };
            let stands = store.clean_up_stands(&claimed).await.unwrap();
            format!("{stands} {:?}", store.settle_clean_up(&claimed, outcome).await.unwrap())
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
        seen.extend(shown(&store.clean_ups(&scope, None, 100).await.unwrap()));
        seen.extend(shown(&store.hub_loads(&scope).await.unwrap()));
    }
    seen
}
