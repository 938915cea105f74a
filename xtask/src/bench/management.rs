//! `bench management`: what managing many enrollments costs: an import, an export, a query's pages, single requests.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use super::Effort;
use super::machinery::{Machinery, Server};
use super::process::Ended;
use super::report::{Table, against, at_least};
use super::statistics::{median, percentile};
use crate::step::{self, Failure};

/// Entries a second of an import, in those of the store alone.
const IMPORT_RATIO_MIN: f64 = 0.5;

/// Time of a far page, in that of the first one.
const PAGE_RATIO_MAX: f64 = 1.25;

/// Items of a page, as the service has it by itself.
const PAGE_ITEMS: u64 = 100;

/// Connections that create and read, each with one request at a time.
const CONNECTIONS: usize = 64;

const STEP: &str = "bench";

/// Prints four tables.
pub(super) fn run(machinery: &Machinery, effort: Effort) -> Result<(), Failure> {
    import(machinery, effort)?;
    let data_dir = machinery.data_dir("managed");
    let entries = effort.of(1_000_000, 100_000);
    transfer(machinery, &data_dir, entries)?;
    let server = machinery.harbormaster(&data_dir)?;
    keep_in_memory(&data_dir)?;
    pages(machinery, effort, &server, entries)?;
    requests(machinery, effort, &server, entries)?;
    server.process.stop()
}

/// Each round has two new stores: one that is written by itself, one that an import fills.
fn import(machinery: &Machinery, effort: Effort) -> Result<(), Failure> {
    let entries = effort.of(100_000, 20_000);
    let file = machinery.entries(entries)?;
    step::begin(&format!("import {entries} enrollments, and insert as many"));
    let (mut inserted, mut imported, mut commits) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..effort.rounds() {
        let data_dir = machinery.data_dir(&format!("inserted-{round}"));
        let told = machinery.insert(&data_dir, entries)?;
        let figure = |member: &str| told[member].as_f64().unwrap_or(f64::NAN);
        inserted.push(entries as f64 / figure("seconds"));
        commits.push(figure("commits"));
        remove(&data_dir)?;
        let data_dir = machinery.data_dir(&format!("imported-{round}"));
        let server = machinery.harbormaster(&data_dir)?;
        let (seconds, _) = import_all(machinery, &server, &file, entries)?;
        imported.push(entries as f64 / seconds);
        server.process.stop()?;
        remove(&data_dir)?;
    }
    let ratios: Vec<f64> =
        imported.iter().zip(&inserted).map(|(imported, inserted)| imported / inserted).collect();
    let middle = |figures: &[f64]| median(figures).unwrap_or(f64::NAN);
    let mut table = Table::new(&["", "entries/s", "to the store"]);
    let commits = middle(&commits);
    let store = format!("store, {commits:.0} commits");
    table.row([store, format!("{:.0}", middle(&inserted)), String::new()]);
    let ratio = at_least(middle(&ratios), IMPORT_RATIO_MIN);
    table.row(["import".to_owned(), format!("{:.0}", middle(&imported)), ratio]);
    table.print(&format!("{entries} individual enrollments with symmetric keys into an empty store"))
}

/// Imports so many, and exports them: once, for it is long enough.
fn transfer(machinery: &Machinery, data_dir: &Path, entries: u64) -> Result<(), Failure> {
    let file = machinery.entries(entries)?;
    let mut table = Table::new(&["", "seconds", "entries/s", "client MiB at most", "service MiB at most"]);
    let mut row = |what: &str, seconds: f64, client: &Ended, server: Server| {
        let mib = |kib: u64| format!("{:.0}", kib as f64 / 1_024.0);
        let service_kib = server.process.peak_kib()?;
        table.row([
            what.to_owned(),
            format!("{seconds:.0}"),
            format!("{:.0}", entries as f64 / seconds),
            mib(client.peak_kib),
            mib(service_kib),
        ]);
        // The next has a service that was just started: the most that it had is of all its time.
        server.process.stop()
    };
    step::begin(&format!("import {entries} enrollments"));
    let server = machinery.harbormaster(data_dir)?;
    let (seconds, client) = import_all(machinery, &server, &file, entries)?;
    row("import", seconds, &client, server)?;
    for (what, options) in [("export", &[][..]), ("export --keys", &["--keys"])] {
        step::begin(&format!("{what} {entries} enrollments"));
        let server = machinery.harbormaster(data_dir)?;
        let began = Instant::now();
        let arguments = [&["enrollment", "export"][..], options].concat();
        let client = machinery.manage(&server, &arguments)?.finish()?;
        let seconds = began.elapsed().as_secs_f64();
        if client.lines != entries {
            return Err(Failure::new(STEP, format!("{what} printed {} lines", client.lines)));
        }
        row(what, seconds, &client, server)?;
    }
    table.print(&format!("{entries} individual enrollments with symmetric keys, once"))
}

/// Imports a file into a store without enrollments of its own; how long it took.
fn import_all(
    machinery: &Machinery,
    server: &Server,
    file: &Path,
    entries: u64,
) -> Result<(f64, Ended), Failure> {
    let began = Instant::now();
    let file = file.display().to_string();
    let client = machinery.manage(server, &["enrollment", "import", &file])?.finish()?;
    let seconds = began.elapsed().as_secs_f64();
    let expected = format!("{entries} imported, 0 refused\n");
    if client.last_line != expected {
        return Err(Failure::new(STEP, format!("the import said {:?}", client.last_line)));
    }
    Ok((seconds, client))
}

fn pages(machinery: &Machinery, effort: Effort, server: &Server, entries: u64) -> Result<(), Failure> {
    step::begin(&format!("read the first page and the one before row {entries}"));
    let rounds = effort.rounds();
    let options = [
        ("--items", PAGE_ITEMS.to_string()),
        ("--row", entries.to_string()),
        ("--rounds", rounds.to_string()),
        ("--requests", effort.of(400, 100).to_string()),
    ];
    let mut driver = machinery.drive_service("pages", server, &options)?;
    let (mut first, mut far) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let round = driver.line()?;
        first.push(latencies(&round["first_us"]));
        far.push(latencies(&round["far_us"]));
    }
    let ratios: Vec<f64> = first.iter().zip(&far).map(|(first, far)| far[0] / first[0]).collect();
    let mut table = Table::new(&["page", "p50 ms", "p95 ms", "p50 to the first"]);
    let row = |name: String, rounds: &[[f64; 2]], ratio: String| {
        [name, middle_ms(rounds, 0), middle_ms(rounds, 1), ratio]
    };
    table.row(row("the first".to_owned(), &first, String::new()));
    let ratio = against(median(&ratios).unwrap_or(f64::NAN), PAGE_RATIO_MAX);
    table.row(row(format!("rows {} to {entries}", entries - PAGE_ITEMS + 1), &far, ratio));
    table.print(&format!(
        "Pages of {PAGE_ITEMS} individual enrollments of {entries}, by turns on one connection"
    ))
}

fn requests(machinery: &Machinery, effort: Effort, server: &Server, entries: u64) -> Result<(), Failure> {
    step::begin("create and read, one enrollment a request");
    let count = effort.of(20_000, 5_000);
    let mut table = Table::new(&["", "requests/s", "p50 ms", "p95 ms", "server CPU µs"]);
    // Creations go on behind those that there are.
    for (what, first, name) in [("create", entries, "PUT, new"), ("read", 0, "GET")] {
        let (mut per_second, mut cpu_us, mut latency) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=effort.rounds() as u64 {
            let options = [
                ("--what", what.to_owned()),
                ("--first", (first + round * count).to_string()),
                ("--count", count.to_string()),
                ("--of", entries.to_string()),
                ("--at-once", CONNECTIONS.to_string()),
            ];
            let before = server.process.cpu_seconds()?;
            let told = machinery.drive_service("requests", server, &options)?.line()?;
            let cpu_seconds = server.process.cpu_seconds()? - before;
            // The first round warms up.
            if round > 0 {
                per_second.push(count as f64 / told["seconds"].as_f64().unwrap_or(f64::NAN));
                cpu_us.push(cpu_seconds * 1_000_000.0 / count as f64);
                latency.push(latencies(&told["latencies_us"]));
            }
        }
        let middle = |figures: &[f64]| format!("{:.0}", median(figures).unwrap_or(f64::NAN));
        table.row([
            name.to_owned(),
            middle(&per_second),
            middle_ms(&latency, 0),
            middle_ms(&latency, 1),
            middle(&cpu_us),
        ]);
    }
    table.print(&format!(
        "One individual enrollment a request, {CONNECTIONS} connections that are kept, {entries} in the store"
    ))
}

/// Half and 95 % of the requests were faster, in milliseconds.
fn latencies(told_us: &Value) -> [f64; 2] {
    let us: Vec<u64> = told_us.as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    [50, 95].map(|percent| percentile(&us, percent).map_or(f64::NAN, |us| us as f64 / 1_000.0))
}

fn middle_ms(rounds: &[[f64; 2]], which: usize) -> String {
    let figures: Vec<f64> = rounds.iter().map(|round| round[which]).collect();
    format!("{:.2}", median(&figures).unwrap_or(f64::NAN))
}

/// Has the system read the store once: the speed of the disk is not what is measured.
fn keep_in_memory(data_dir: &Path) -> Result<(), Failure> {
    let store = data_dir.join("store.db");
    let read = File::open(&store).and_then(|mut file| io::copy(&mut file, &mut io::sink()));
    read.map(drop).map_err(|why| Failure::new(STEP, format!("{}: {why}", store.display())))
}

/// Stores of earlier rounds are in nobody's way, but on the disk.
fn remove(data_dir: &Path) -> Result<(), Failure> {
    fs::remove_dir_all(data_dir).map_err(|why| Failure::new(STEP, format!("{}: {why}", data_dir.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn latencies_are_those_of_half_and_of_nearly_all() {
        let us: Vec<u64> = (1..=100).map(|number| number * 1_000).collect();
        assert_eq!(latencies(&json!(us)), [50.0, 95.0]);
        assert!(latencies(&json!(null))[0].is_nan());
    }
}
