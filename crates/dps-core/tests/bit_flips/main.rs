//! A million certificates with one bit flipped, each in a chain that was good before. Spec: DPS-X509-11, DPS-X509-19.
//!
//! A flip inside what is signed, or in the signature, of a certificate on the path is refused, or the chain is admitted by another
//! path; a flip elsewhere may be read as the same certificate or refused, and never lets the flipped one stand on the path.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "this program is a test in whole, and the seed of a failed run is needed"
)]

mod chains;
mod flips;

use chains::{Shape, shapes};
use flips::{Judge, Tally, flip_many};

/// Flips of the honest run, over all shapes.
const FLIPS: u64 = 1_050_000;

/// Set to the seed that a failed run printed, it runs the same flips again; certificates are made anew each time, so their keys
/// differ and their structure does not.
const SEED: &str = "HARBORMASTER_BIT_FLIPS_SEED";

fn seed() -> u64 {
    let mut fresh = [0; 8];
    aws_lc_rs::rand::fill(&mut fresh).unwrap();
    let given = std::env::var(SEED).ok().map(|text| text.parse().expect("a seed is a number"));
    let seed = given.unwrap_or(u64::from_le_bytes(fresh));
    println!("{SEED}={seed}");
    seed
}

/// Runs the flips over every shape, on all cores.
fn run(flips: u64, judge: Judge) -> Tally {
    let (shapes, seed): (Vec<Shape>, u64) = (shapes(), seed());
    let each = flips / shapes.len() as u64 + 1;
    let workers = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    let mut total = Tally::default();
    std::thread::scope(|scope| {
        let shapes = &shapes;
        let running: Vec<_> = (0..workers)
            .map(|worker| {
                scope.spawn(move || {
                    let mut tally = Tally::default();
                    for (number, shape) in (0_u64..).zip(shapes) {
                        let seed = seed ^ (worker << 48) ^ (number << 32);
                        tally.add(&flip_many(shape, each / workers + 1, seed, judge));
                    }
                    tally
                })
            })
            .collect();
        for worker in running {
            total.add(&worker.join().unwrap());
        }
    });
    total
}

/// DPS-X509-11, DPS-X509-19
#[test]
fn no_flipped_certificate_stands_on_a_path() {
    let tally = run(FLIPS, flips::walked);
    println!("{tally:?}");
    assert!(tally.flips >= 1_000_000);
    assert_eq!(tally.violations, 0, "first: {:?}", tally.first);
    // The checker has seen what it is to see: refusals, other paths, and flips that did not matter.
    assert!(tally.refused > tally.flips / 2 && tally.by_another_path > 0, "{tally:?}");
}

/// DPS-X509-19: whoever takes signatures on trust is found out.
#[test]
fn the_same_check_finds_out_a_walk_that_verifies_no_signature() {
    let tally = run(20_000, flips::by_names_alone);
    assert!(tally.violations > tally.flips / 10, "{tally:?}");
}
