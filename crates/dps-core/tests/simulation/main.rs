//! Deterministic simulation: seeded schedules of registers, polls, operators, hubs and crashes against the registrar, one turn
//! of one task at a time. Spec: DPS-REG-10 to DPS-REG-14, DPS-ID-5, DPS-STORE-2 to DPS-STORE-5.
//!
//! `HARBORMASTER_SIMULATION_SEED=n` replays one seed and prints every step; `HARBORMASTER_SIMULATION_SEEDS=n` runs that many.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "this program is a test in whole"
)]

mod asked;
#[path = "../common/mod.rs"]
mod common;
mod fleet;
mod hubs_outside;
mod nodes;
mod operator;
mod promises;
mod webhooks;
mod world;

use std::panic::AssertUnwindSafe;

use common::image::Faults;
use world::{Shown, World};

/// Seeds of an ordinary run.
const SEEDS: u64 = 2_000;

/// Seeds in which a fault of the store must be noticed, and every outcome be seen.
const SEEDS_FOR_FAULTS: u64 = 300;

/// Steps that are shown of a schedule that went wrong.
const STEPS_SHOWN: usize = 40;

/// DPS-REG-10, DPS-REG-11, DPS-REG-12, DPS-REG-13, DPS-REG-14, DPS-REG-22, DPS-REG-23, DPS-REG-31, DPS-REG-32, DPS-ID-5, DPS-STORE-2, DPS-STORE-4, DPS-STORE-5
#[test]
fn every_schedule_keeps_what_devices_were_told() {
    if let Some(seed) = number_from("HARBORMASTER_SIMULATION_SEED") {
        let (_, wrong) = run(seed, Faults::default(), Shown::AsItHappens);
        assert_eq!(wrong, None, "seed {seed}");
        return;
    }
    for seed in 0..number_from("HARBORMASTER_SIMULATION_SEEDS").unwrap_or(SEEDS) {
        let (trace, wrong) = run(seed, Faults::default(), Shown::Afterwards);
        if let Some(wrong) = wrong {
            println!("{}", trace[trace.len().saturating_sub(STEPS_SHOWN)..].join("\n"));
            panic!(
                "seed {seed}: {wrong}\nreplay: HARBORMASTER_SIMULATION_SEED={seed} cargo test -p dps-core \
                 --test simulation every_schedule -- --nocapture"
            );
        }
    }
}

/// So that a seed that went wrong can be replayed.
#[test]
fn the_same_seed_gives_the_same_steps() {
    for seed in [3, 17, 42] {
        let first = run(seed, Faults::default(), Shown::Afterwards).0;
        assert!(first.len() > 100, "seed {seed} did next to nothing");
        assert_eq!(first, run(seed, Faults::default(), Shown::Afterwards).0);
        assert_ne!(first, run(seed + 1, Faults::default(), Shown::Afterwards).0);
    }
}

/// So that no promise is kept for want of trying.
#[test]
fn the_schedules_come_to_every_outcome_that_the_promises_speak_of() {
    let mut missing = vec![
        ": Assigning { placing: Placing { target: Assignment { hub: \"outside.example\"",
        ": Assigned { assignment: Assignment { hub: \"north.example\"",
        ": Assigned { assignment: Assignment { hub: \"south.example\"",
        ": Assigned { assignment: Assignment { hub: \"outside.example\"",
        "substatus: DeviceDataMigrated",
        "substatus: DeviceDataReset",
        ": Disabled { last: None",
        ": Disabled { last: Some",
        ": Failed { failure: HubRefused { said: \"no\" }, last: None",
        ": Failed { failure: HubRefused { said: \"no\" }, last: Some",
        ": Failed { failure: EnrollmentGone, last: None",
        ": Failed { failure: EnrollmentGone, last: Some",
        "Choosing { waiting: Waiting",
        "Settled(Ok(Recorded",
        "Settled(Ok(Postponed",
        "Settled(Ok(Superseded",
        "failure: WebhookChoseNone, last: None",
        "failure: WebhookChoseAnother",
        "tries: 3",
        "claimed_from: Some",
        "Placed(Ok(Recorded",
        "Placed(Ok(Postponed",
        "Placed(Ok(Superseded",
        "failure: HubUnavailable, last: ",
        "failure: SourceUnavailable, last: Some",
        "CleanedUp(Ok(Gone",
        "CleanedUp(Ok(ToConfirm",
        "CleanedUp(Ok(Postponed",
        "CleanedUp(Ok(Superseded",
        "carries out a call that nobody waits for",
        "unanswered_at: Some",
        "strays_until: Some",
        "NoSuchOperation(NotThisDevices)",
        "NoSuchOperation(NoRecord)",
        "Unproven(Expired",
        "Unproven(WrongKey",
        "Unproven(NoEntry",
        "3 writes become durable",
        "node 2 ends",
        "the store ends",
        "the connection was lost",
        "the store went down",
    ];
    for seed in 0..SEEDS_FOR_FAULTS {
        for line in run(seed, Faults::default(), Shown::Afterwards).0 {
            missing.retain(|outcome| !line.contains(outcome));
        }
    }
    assert!(missing.is_empty(), "never seen: {missing:#?}");
}

/// DPS-STORE-2
#[test]
fn a_store_that_answers_before_it_is_durable_is_noticed() {
    let faults = Faults { lying_sync: true, ..Faults::default() };
    check_noticed(faults, &[promises::OPERATION_LOST, promises::HOME_FORGOTTEN]);
}

/// DPS-STORE-4, DPS-REG-13
#[test]
fn a_store_that_ignores_a_changed_entry_is_noticed() {
    let faults = Faults { ignores_entry: true, ..Faults::default() };
    check_noticed(faults, &[promises::ENTRY_DID_NOT_ADMIT]);
}

/// DPS-STORE-4
#[test]
fn a_store_that_ignores_a_changed_record_is_noticed() {
    let faults = Faults { ignores_record: true, ..Faults::default() };
    check_noticed(faults, &[promises::RECORD_FORGOT]);
}

/// DPS-REG-32
#[test]
fn a_store_that_ignores_a_newer_claim_is_noticed() {
    let faults = Faults { ignores_claim: true, ..Faults::default() };
    check_noticed(faults, &[promises::OUTDATED_CLAIM]);
}

/// Each of these promises must be found broken by some seed.
#[track_caller]
fn check_noticed(faults: Faults, promises: &[&str]) {
    let broken: Vec<String> =
        (0..SEEDS_FOR_FAULTS).filter_map(|seed| run(seed, faults, Shown::Afterwards).1).collect();
    for promise in promises {
        assert!(broken.iter().any(|wrong| wrong.contains(promise)), "{faults:?}: nobody noticed: {promise}");
    }
}

/// Runs one seed; its trace, and what went wrong.
fn run(seed: u64, faults: Faults, shown: Shown) -> (Vec<String>, Option<String>) {
    let mut world = World::new(seed, faults, shown);
    // A panic of the registrar is a finding like another: it is told with its seed.
    let verdict = std::panic::catch_unwind(AssertUnwindSafe(|| world.run()));
    let wrong = match verdict {
        Ok(verdict) => verdict.err(),
        Err(_) => Some("it panicked".to_owned()),
    };
    (world.trace, wrong)
}

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}
