//! `bench storm`: what becomes of devices that all come at one time, and what the server needs for them.

use serde_json::Value;

use super::Effort;
use super::configuration::Configuration;
use super::machinery::{Machinery, Server};
use super::process::Precedence;
use super::report::{Table, against};
use super::statistics::{median, percentile};
use crate::step::{self, Failure};

/// So many come at one time, from so many addresses.
const DEVICES: u64 = 8_000;
const ADDRESSES: u64 = 64;

/// As long as the official SDKs wait for each answer; here it is for all of them together.
const GIVE_UP_AFTER_S: u64 = 30;

/// Devices that may give up.
const GAVE_UP_MAX: f64 = 0.0;

/// The most memory up to a wave, in that up to the first one: the highest of several peaks is higher than one of them.
const MEMORY_RATIO_MAX: f64 = 1.25;

/// Key of the group. No secret: it opens nothing but what this program starts.
const KEY: &str = "DDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDD";

const STEP: &str = "bench";

/// What one wave came to.
struct Wave {
    assigned: f64,
    gave_up: f64,
    deferred: f64,
    /// From when all came to the answer that said where to go: half, 95 %, 99 % and all of the devices were faster.
    latency_s: [f64; 4],
    /// The most resident memory of the server up to its end.
    mib_at_most: f64,
}

/// Prints a table, with a row for each wave.
pub(super) fn run(machinery: &Machinery, effort: Effort) -> Result<(), Failure> {
    let (rounds, waves) = (effort.of(3, 1), effort.of(4, 2));
    let (mut before, mut of_rounds) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let data_dir = machinery.data_dir(&format!("storm-{round}"));
        // `dev` makes what a start needs.
        machinery.harbormaster(&data_dir)?.process.stop()?;
        let server = machinery.serve(&data_dir, &Configuration::default())?;
        let key = machinery.secret("storm.key", KEY)?.display().to_string();
        let create = ["enrollment-group", "create", "storm", "--primary-key-file", &key];
        machinery.manage(&server, &[&create[..], &["--secondary-key-file", &key]].concat())?.finish()?;
        step::begin(&format!("{DEVICES} devices at one time, {waves} times"));
        before.push(mib_at_most(&server)?);
        of_rounds.push(storm(machinery, &server, waves)?);
        server.process.stop()?;
    }
    print(&before, &of_rounds)
}

fn storm(machinery: &Machinery, server: &Server, waves: u64) -> Result<Vec<Wave>, Failure> {
    let options = [
        ("--fleet", format!("group:{KEY}")),
        ("--first", "0".to_owned()),
        ("--count", DEVICES.to_string()),
        ("--waves", waves.to_string()),
        ("--addresses", ADDRESSES.to_string()),
        ("--give-up-after-s", GIVE_UP_AFTER_S.to_string()),
    ];
    let options: Vec<String> =
        options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
    let mut driver = machinery.drive("storm", server, &options, Precedence::Normal)?;
    let mut seen = Vec::new();
    for _ in 0..waves {
        let results = driver.line()?;
        if results["gave_up"] != 0 {
            step::begin(&format!("gave up: {}, the first: {}", results["gave_up"], results["first_failure"]));
        }
        let wave = Wave::of(&results, mib_at_most(server)?);
        seen.push(wave.ok_or_else(|| Failure::new(STEP, "the driver's results lack a member"))?);
    }
    Ok(seen)
}

fn mib_at_most(server: &Server) -> Result<f64, Failure> {
    Ok(server.process.peak_kib()? as f64 / 1_024.0)
}

impl Wave {
    fn of(results: &Value, mib_at_most: f64) -> Option<Self> {
        let latencies_us: Vec<u64> =
            results["latencies_us"].as_array()?.iter().filter_map(Value::as_u64).collect();
        let latency_s = |percent| {
            let latency_us = percentile(&latencies_us, percent);
            latency_us.map_or(f64::NAN, |us| us as f64 / 1_000_000.0)
        };
        Some(Self {
            assigned: results["assigned"].as_f64()?,
            gave_up: results["gave_up"].as_f64()?,
            deferred: results["deferred"].as_f64()?,
            latency_s: [50, 95, 99, 100].map(latency_s),
            mib_at_most,
        })
    }
}

/// Medians of the rounds, but of those who gave up the most.
fn print(before: &[f64], rounds: &[Vec<Wave>]) -> Result<(), Failure> {
    let mut table = Table::new(&[
        "wave",
        "assigned",
        "gave up",
        "p50 s",
        "p95 s",
        "p99 s",
        "last s",
        "told to wait",
        "MiB at most",
        "to the first wave",
    ]);
    let none = String::new;
    let quiet = format!("{:.1}", median(before).unwrap_or(f64::NAN));
    table.row(["before".to_owned(), none(), none(), none(), none(), none(), none(), none(), quiet, none()]);
    for number in 0..rounds.first().map_or(0, Vec::len) {
        let middle = |figure: &dyn Fn(&[Wave]) -> f64| {
            median(&rounds.iter().map(|waves| figure(waves)).collect::<Vec<_>>()).unwrap_or(f64::NAN)
        };
        let gave_up = rounds.iter().map(|waves| waves[number].gave_up).fold(0.0, f64::max);
        let latency = |point: usize| format!("{:.1}", middle(&|waves| waves[number].latency_s[point]));
        table.row([
            (number + 1).to_string(),
            format!("{:.0}", middle(&|waves| waves[number].assigned)),
            against(gave_up, GAVE_UP_MAX),
            latency(0),
            latency(1),
            latency(2),
            latency(3),
            format!("{:.0}", middle(&|waves| waves[number].deferred)),
            format!("{:.1}", middle(&|waves| waves[number].mib_at_most)),
            against(middle(&|waves| waves[number].mib_at_most / waves[0].mib_at_most), MEMORY_RATIO_MAX),
        ]);
    }
    table.print(&format!(
        "{DEVICES} new devices at one time from {ADDRESSES} addresses, symmetric key, TLS 1.3, who give up after {GIVE_UP_AFTER_S} s"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_wave_is_what_the_driver_says_of_it() {
        let results = json!({
            "assigned": 3, "seconds": 4.5, "latencies_us": [4_500_000, 3_000_000, 3_500_000],
            "deferred": 1, "gave_up": 2, "first_failure": "not assigned in time",
        });
        let wave = Wave::of(&results, 64.0).unwrap();
        assert_eq!((wave.assigned, wave.gave_up, wave.deferred, wave.mib_at_most), (3.0, 2.0, 1.0, 64.0));
        assert_eq!(wave.latency_s, [3.5, 4.5, 4.5, 4.5]);
        assert!(Wave::of(&json!({"assigned": 3}), 64.0).is_none());
        let nobody = json!({"assigned": 0, "latencies_us": [], "deferred": 0, "gave_up": 9});
        assert!(Wave::of(&nobody, 64.0).unwrap().latency_s[2].is_nan());
    }
}
