//! `bench enrollments`: what a million individual enrollments cost a registration and a start.

use std::path::Path;
use std::time::Instant;

use super::Effort;
use super::machinery::{Machinery, Server};
use super::register::sample_fleet;
use super::report::{Table, against};
use super::round::{Load, Pace, middle, middle_ratio};
use super::statistics::median;
use crate::step::{self, Failure};

/// CPU time of a registration, in those of an empty store.
const CPU_RATIO_MAX: f64 = 1.25;

const AT_ONCE: usize = 64;

/// Prints one table.
pub(super) fn run(machinery: &Machinery, effort: Effort) -> Result<(), Failure> {
    let (full_dir, empty_dir) = (machinery.data_dir("full"), machinery.data_dir("empty"));
    let entries = effort.of(1_000_000, 100_000);
    machinery.fill(&full_dir, "individual", entries)?;
    let full_fleet = format!("individual:{entries}");

    let (full, empty) = (machinery.harbormaster(&full_dir)?, machinery.harbormaster(&empty_dir)?);
    let empty_fleet = sample_fleet(&empty);
    let count = effort.of(10_000, 3_000);
    let load = |fleet: &str, round: usize| {
        let first = (round * count) as u64;
        Load {
            fleet: fleet.to_owned(),
            first,
            count,
            tls: "1.3",
            transport: None,
            pace: Pace::AtOnce(AT_ONCE),
        }
    };
    step::begin("register with each");
    let (mut of_full, mut of_empty) = (Vec::new(), Vec::new());
    for round in 0..=effort.rounds() {
        let empty = load(&empty_fleet, round).run(machinery, &empty)?;
        let full = load(&full_fleet, round).run(machinery, &full)?;
        // The first round warms up.
        if round > 0 {
            of_empty.push(empty);
            of_full.push(full);
        }
    }
    full.process.stop()?;
    empty.process.stop()?;

    step::begin("start each");
    let (mut start_full, mut start_empty) = (Vec::new(), Vec::new());
    for _ in 0..effort.rounds() {
        start_empty.push(start_ms(machinery, &empty_dir)?);
        start_full.push(start_ms(machinery, &full_dir)?);
    }

    let mut table =
        Table::new(&["store", "registrations/s", "p50 ms", "server CPU µs", "CPU to empty", "start ms"]);
    let ratio = middle_ratio(&of_full, &of_empty, |round| round.cpu_us);
    for (name, rounds, ratio, starts) in [
        ("empty, one group".to_owned(), &of_empty, String::new(), &start_empty),
        (format!("{entries} individual enrollments"), &of_full, against(ratio, CPU_RATIO_MAX), &start_full),
    ] {
        table.row([
            name,
            format!("{:.0}", middle(rounds, |round| round.per_second)),
            format!("{:.1}", middle(rounds, |round| round.latency_ms[0])),
            format!("{:.0}", middle(rounds, |round| round.cpu_us)),
            ratio,
            format!("{:.0}", median(starts).unwrap_or(f64::NAN)),
        ]);
    }
    table.print(&format!("New devices, TLS 1.3, {AT_ONCE} at a time"))
}

/// From the start of the process to the line that says every port accepts.
fn start_ms(machinery: &Machinery, data_dir: &Path) -> Result<f64, Failure> {
    let began = Instant::now();
    let Server { process, .. } = machinery.harbormaster(data_dir)?;
    let took = began.elapsed();
    process.stop()?;
    Ok(took.as_secs_f64() * 1_000.0)
}
