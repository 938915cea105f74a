//! `bench register`: what a complete registration costs, against the floor.

use std::path::Path;

use super::Effort;
use super::machinery::{Machinery, Server};
use super::report::{Table, against};
use super::round::{Load, Pace, Round, middle, middle_ratio};
use crate::step::{self, Failure};

/// CPU time of a registration, in those of the floor.
const CPU_RATIO_MAX: f64 = 1.5;

/// Enough that the server is never idle.
const AT_ONCE: usize = 64;

/// Registrations before the first round counts.
const WARM_UP: usize = 500;

/// Number of the device whose answers the floor repeats; no round comes so far.
pub(super) const CAPTURED: u64 = 90_000_000;

/// The fleet of the sample group.
pub(super) fn sample_fleet(server: &Server) -> String {
    format!("group:{}", server.group_key.as_deref().unwrap_or_default())
}

/// The devices that are measured, and what they prove themselves with.
pub(super) fn fleets(server: &Server, data_dir: &Path) -> [(&'static str, String); 2] {
    let certificates = format!("certificates:{}", data_dir.display());
    [("symmetric key", sample_fleet(server)), ("X.509 certificate", certificates)]
}

/// Prints a table for each kind of device and each TLS version.
pub(super) fn run(machinery: &Machinery, effort: Effort) -> Result<(), Failure> {
    let data_dir = machinery.data_dir("register");
    let harbormaster = machinery.harbormaster(&data_dir)?;
    let count = effort.of(10_000, 3_000);
    let fleets = fleets(&harbormaster, &data_dir);
    let mut first = 0;
    for (which, tls) in [(0, "1.2"), (0, "1.3"), (1, "1.2"), (1, "1.3")] {
        let (proof, fleet) = &fleets[which];
        let floor = machinery.floor(&harbormaster, &data_dir, fleet, CAPTURED)?;
        let load = |first, count| Load {
            fleet: fleet.clone(),
            first,
            count,
            tls,
            transport: None,
            pace: Pace::AtOnce(AT_ONCE),
        };
        step::begin(&format!("register by {proof} over TLS {tls}"));
        for server in [&floor, &harbormaster] {
            load(first, WARM_UP).run(machinery, server)?;
        }
        first += WARM_UP as u64;
        let (mut floors, mut new, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..effort.rounds() {
            floors.push(load(first, count).run(machinery, &floor)?);
            new.push(load(first, count).run(machinery, &harbormaster)?);
            repeated.push(load(first, count).run(machinery, &harbormaster)?);
            first += count as u64;
        }
        print(proof, tls, &floors, &new, &repeated)?;
    }
    harbormaster.process.stop()
}

fn print(proof: &str, tls: &str, floors: &[Round], new: &[Round], repeated: &[Round]) -> Result<(), Failure> {
    let mut table = Table::new(&[
        "",
        "registrations/s",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "server CPU µs",
        "CPU to the floor",
    ]);
    for (name, rounds) in [("floor", floors), ("new device", new), ("known device", repeated)] {
        let ratio = match name {
            "floor" => String::new(),
            _ => against(middle_ratio(rounds, floors, |round| round.cpu_us), CPU_RATIO_MAX),
        };
        let latency = |which: usize| format!("{:.1}", middle(rounds, |round| round.latency_ms[which]));
        table.row([
            name.to_owned(),
            format!("{:.0}", middle(rounds, |round| round.per_second)),
            latency(0),
            latency(1),
            latency(2),
            format!("{:.0}", middle(rounds, |round| round.cpu_us)),
            ratio,
        ]);
    }
    table.print(&format!("Complete registration, {proof}, TLS {tls}, {AT_ONCE} devices at a time"))
}
