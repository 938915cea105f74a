//! Deterministic simulation: seeded schedules of registers, polls, operators and crashes against the registrar, one task at a
//! time. Spec: DPS-REG-10 to DPS-REG-14, DPS-ID-5, DPS-STORE-2 to DPS-STORE-5.
//!
//! `HARBORMASTER_SIMULATION_SEED=n` replays one seed and prints every step; `HARBORMASTER_SIMULATION_SEEDS=n` runs that many.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by failing")]

#[path = "../common/mod.rs"]
mod common;
mod fleet;
mod world;

use common::image::Faults;
use world::World;

/// Seeds of an ordinary run.
const SEEDS: u64 = 300;

/// Runs one seed; its trace, and what went wrong.
fn run(seed: u64, faults: Faults) -> (Vec<String>, Option<String>) {
    let mut world = World::new(seed, faults);
    let verdict = world.run();
    (world.trace, verdict.err())
}

/// DPS-REG-10, DPS-REG-11, DPS-REG-12, DPS-REG-13, DPS-REG-14, DPS-ID-5, DPS-STORE-2, DPS-STORE-4, DPS-STORE-5
#[test]
fn every_schedule_keeps_what_devices_were_told() {
    if let Ok(seed) = std::env::var("HARBORMASTER_SIMULATION_SEED") {
        let (trace, wrong) = run(seed.parse().unwrap(), Faults::default());
        println!("{}", trace.join("\n"));
        assert_eq!(wrong, None);
        return;
    }
    let seeds = std::env::var("HARBORMASTER_SIMULATION_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        let (trace, wrong) = run(seed, Faults::default());
        if let Some(wrong) = wrong {
            println!("{}", trace[trace.len().saturating_sub(40)..].join("\n"));
            panic!(
                "seed {seed}: {wrong}\nreplay: HARBORMASTER_SIMULATION_SEED={seed} \
                 cargo test -p dps-core --test simulation -- --nocapture"
            );
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_steps() {
    for seed in [3, 17, 42] {
        let first = run(seed, Faults::default()).0;
        assert!(first.len() > 100, "seed {seed} did next to nothing");
        assert_eq!(first, run(seed, Faults::default()).0);
    }
}

/// The invariants must notice a store that breaks the contract.
#[track_caller]
fn notices(faults: Faults) {
    let noticed = (0..SEEDS).filter_map(|seed| run(seed, faults).1).next();
    assert!(noticed.is_some(), "{faults:?} went unnoticed");
}

/// DPS-STORE-2
#[test]
fn a_store_that_answers_before_it_is_durable_is_noticed() {
    notices(Faults { lying_sync: true, ..Faults::default() });
}

/// DPS-STORE-4, DPS-REG-13
#[test]
fn a_store_that_ignores_a_changed_entry_is_noticed() {
    notices(Faults { ignores_entry: true, ..Faults::default() });
}

/// DPS-STORE-4
#[test]
fn a_store_that_ignores_a_changed_record_is_noticed() {
    notices(Faults { ignores_record: true, ..Faults::default() });
}
