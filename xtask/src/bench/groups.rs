//! `bench groups`: what many groups cost a device, and what a stranger can do with them.

use super::Effort;
use super::configuration::Configuration;
use super::machinery::{Machinery, Server};
use super::process::{Precedence, Process};
use super::report::{Table, against};
use super::round::{Load, Pace, Round, middle, middle_ratio};
use crate::step::{self, Failure};

/// Latency of a valid device while strangers try their luck, in that of a quiet service.
const LATENCY_RATIO_MAX: f64 = 2.0;

/// New devices a second: a few percent of what a core can do, so that it is the strangers who fill it.
const PER_SECOND: usize = 50;

/// Connections of the strangers, and where they come from.
const STRANGERS: &str = "32";
const STRANGERS_FROM: &str = "127.0.66.6";

/// Number of the first device that a stranger pretends to be; no device comes so far.
const STRANGERS_FIRST: &str = "80000000";

/// How the strangers go about it.
#[derive(Clone, Copy)]
enum Habit {
    /// One register after the other on the same connection.
    Stay,
    /// A new connection for each.
    Return,
}

/// Prints a table for each kind of groups.
pub(super) fn run(machinery: &Machinery, effort: Effort) -> Result<(), Failure> {
    // The sample group of `dev` is one more without a prefix, and 1,000 are the most.
    for (kind, count, what) in [
        ("open-groups", 999, "groups without a prefix, and the sample group"),
        ("prefixed-groups", effort.of(100_000, 10_000), "groups with a prefix each"),
    ] {
        let data_dir = machinery.data_dir(kind);
        machinery.fill(&data_dir, kind, count)?;
        // `dev` makes what a start needs, and lets strangers guess as they like; `serve` does not.
        machinery.harbormaster(&data_dir)?.process.stop()?;
        let server = machinery.serve(&data_dir, &Configuration::default())?;
        let mut table = Table::new(&[
            "",
            "p50 ms",
            "p95 ms",
            "p50 to quiet",
            "p95 to quiet",
            "told to wait",
            "strangers' answers/s",
        ]);
        for habit in [Habit::Stay, Habit::Return] {
            measure(machinery, effort, &server, &format!("{kind}:{count}"), habit, &mut table)?;
        }
        table.print(&format!("{count} {what}; {PER_SECOND} new devices a second, TLS 1.3"))?;
        server.process.stop()?;
    }
    Ok(())
}

fn measure(
    machinery: &Machinery,
    effort: Effort,
    server: &Server,
    fleet: &str,
    habit: Habit,
    table: &mut Table,
) -> Result<(), Failure> {
    let (name, registers, from) = match habit {
        Habit::Stay => ("strangers who stay", "1000000000", 0),
        Habit::Return => ("strangers who return", "1", 10_000_000),
    };
    step::begin(&format!("{fleet}, {name}"));
    let count = PER_SECOND * effort.of(10, 4);
    let mut first = from;
    let mut valid = || {
        let load = Load {
            fleet: fleet.to_owned(),
            first,
            count,
            tls: "1.3",
            transport: None,
            pace: Pace::PerSecond(PER_SECOND),
        };
        first += count as u64;
        load.run(machinery, server)
    };
    valid()?;
    let (mut quiet, mut pressed, mut tallies) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.rounds() {
        quiet.push(valid()?);
        let strangers = strangers(machinery, server, fleet, registers)?;
        let began = std::time::Instant::now();
        pressed.push(valid()?);
        let seconds = began.elapsed().as_secs_f64();
        tallies.push((strangers.last_line()?, seconds));
    }
    row(table, "quiet", &quiet, None, String::new());
    let tally = tallies.last().map(|(tally, seconds)| shown(tally, *seconds)).unwrap_or_default();
    row(table, name, &pressed, Some(&quiet), tally);
    Ok(())
}

fn strangers(
    machinery: &Machinery,
    server: &Server,
    fleet: &str,
    registers: &str,
) -> Result<Process, Failure> {
    let options = [
        ("--fleet", fleet),
        ("--first", STRANGERS_FIRST),
        ("--at-once", STRANGERS),
        ("--registers", registers),
        ("--source", STRANGERS_FROM),
    ];
    let options: Vec<String> =
        options.into_iter().flat_map(|(name, value)| [name.to_owned(), value.to_owned()]).collect();
    // The valid devices' driver has the same core, and must not wait for the strangers there.
    machinery.drive("strangers", server, &options, Precedence::Last)
}

fn row(table: &mut Table, name: &str, rounds: &[Round], quiet: Option<&[Round]>, tally: String) {
    let ratio = |which: usize| {
        let ratio = |quiet| middle_ratio(rounds, quiet, |round| round.latency_ms[which]);
        quiet.map(|quiet| against(ratio(quiet), LATENCY_RATIO_MAX)).unwrap_or_default()
    };
    let deferred: u64 = rounds.iter().map(|round| round.deferred).sum();
    table.row([
        name.to_owned(),
        format!("{:.1}", middle(rounds, |round| round.latency_ms[0])),
        format!("{:.1}", middle(rounds, |round| round.latency_ms[1])),
        ratio(0),
        ratio(1),
        deferred.to_string(),
        tally,
    ]);
}

/// Answers a second by status; 0 are connections that the service ended.
fn shown(tally: &serde_json::Value, seconds: f64) -> String {
    let answers = tally["answers"].as_object().into_iter().flatten();
    let parts = answers
        .map(|(status, count)| format!("{status}: {:.0}", count.as_f64().unwrap_or_default() / seconds));
    parts.collect::<Vec<_>>().join(", ")
}
