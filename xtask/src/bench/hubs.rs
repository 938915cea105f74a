//! `bench hubs`: how long devices wait for a hub outside that takes its time, and what those of a dead hub beside it change.

use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::Duration;

use super::Effort;
use super::configuration::Configuration;
use super::machinery::{HUB_CA_FILE, Machinery};
use super::process::Precedence;
use super::report::{Table, against};
use super::statistics::median;
use crate::step::{self, Failure};

/// What the hub takes over each request.
const ANSWER_AFTER_MS: u64 = 50;

/// `hub_work_per_hub`, the default and one above.
const AT_ONCE: [u64; 2] = [16, 64];

/// Time until all are assigned, in that which the hub alone would take.
const PREDICTION_RATIO_MAX: f64 = 1.3;

/// The same beside a dead hub, in that without.
const DEAD_RATIO_MAX: f64 = 1.1;

/// Memory when all devices are assigned, in that with a quarter of them.
const MEMORY_RATIO_MAX: f64 = 1.1;

/// Creations that the hub is asked for, of each device.
const CREATIONS_MAX: f64 = 1.0;

/// Connections that the devices share: enough for all that they ask.
const CONNECTIONS: u64 = 64;

/// The memory is looked at so often on the way.
const PARTS: u64 = 4;

/// For what is left to do when the last device is assigned.
const SETTLE: Duration = Duration::from_secs(2);

/// Keys of the two groups. No secrets: they open nothing but what this program starts.
const KEYS: [(&str, &str); 2] = [
    ("near", "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"),
    ("dead", "CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC"),
];

const STEP: &str = "bench";

/// How many devices, how many at one time, and how many beside them that wait for a dead hub.
struct Crowd {
    devices: u64,
    at_once: u64,
    dead: u64,
}

/// What one round came to.
struct Round {
    /// From the first register to the last record that is assigned.
    seconds: f64,
    /// From the first register to the last answer to one.
    register_seconds: f64,
    /// Polls of a device.
    polls: f64,
    /// Requests to the hub that create a device, and all.
    creations: f64,
    calls: f64,
    /// Time of the server's core.
    cpu_us: f64,
    /// Resident memory of the server: before, at each part, and after.
    mib: Vec<f64>,
}

/// Prints two tables for each number of devices at a time.
pub(super) fn run(machinery: &Machinery, effort: Effort) -> Result<(), Failure> {
    let devices = effort.of(10_000, 2_000);
    for at_once in AT_ONCE {
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for number in 0..effort.of(3, 1) {
            let crowd = |dead| Crowd { devices, at_once, dead };
            for (dead, rounds) in [(0, &mut alone), (devices / 10, &mut beside)] {
                step::begin(&format!("{devices} devices, {at_once} at a time, beside {dead} of a dead hub"));
                rounds.push(crowd(dead).run(machinery, &format!("hubs-{at_once}-{number}-{dead}"))?);
            }
        }
        print(devices, at_once, &alone, &beside)?;
    }
    Ok(())
}

impl Crowd {
    fn run(&self, machinery: &Machinery, name: &str) -> Result<Round, Failure> {
        let Self { devices, at_once, dead } = self;
        let data_dir = machinery.data_dir(name);
        // `dev` makes what a start needs.
        machinery.harbormaster(&data_dir)?.process.stop()?;
        let (registry, contract) = machinery.hub_registry(ANSWER_AFTER_MS)?;
        // Whoever connects to it waits, for nobody accepts.
        let silence = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let silence = silence.map_err(|why| Failure::new(STEP, format!("a dead hub: {why}")))?;
        let dead_port = silence.local_addr().map_err(|why| Failure::new(STEP, why.to_string()))?.port();
        machinery.secret("near.txt", contract["connectionString"].as_str().unwrap_or_default())?;
        let key = KEYS[1].1;
        let owner =
            format!("HostName=127.0.0.1:{dead_port};SharedAccessKeyName=iothubowner;SharedAccessKey={key}");
        machinery.secret("dead.txt", &owner)?;
        let server = machinery.serve(&data_dir, &configuration(*at_once))?;
        for (group, key) in KEYS {
            let file = machinery.secret(&format!("{group}.key"), key)?.display().to_string();
            let hub = format!("{group}.test");
            let create = ["enrollment-group", "create", group, "--hub", &hub];
            let keys = ["--primary-key-file", &file, "--secondary-key-file", &file];
            machinery.manage(&server, &[&create[..], &keys].concat())?.finish()?;
        }

        let [near, unanswered] = KEYS.map(|(_, key)| format!("group:{key}"));
        let options = [
            ("--transport", "https".to_owned()),
            ("--fleet", near),
            ("--first", "0".to_owned()),
            ("--count", devices.to_string()),
            ("--connections", CONNECTIONS.to_string()),
            ("--every", (devices / PARTS).to_string()),
            ("--abandoned-fleet", unanswered),
            ("--abandoned-count", dead.to_string()),
        ];
        let options: Vec<String> =
            options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
        let mib = || Ok(server.process.resident_kib()? as f64 / 1_024.0);
        let mut seen = vec![mib()?];
        let before = server.process.cpu_seconds()?;
        let mut driver = machinery.drive("assign", &server, &options, Precedence::Normal)?;
        for _ in 0..PARTS {
            driver.line()?;
            seen.push(mib()?);
        }
        let cpu_seconds = server.process.cpu_seconds()? - before;
        let results = driver.line()?;
        thread::sleep(SETTLE);
        seen.push(mib()?);
        server.process.stop()?;

        let hub = registry.last_line()?;
        if hub["devices"] != *devices {
            return Err(Failure::new(STEP, format!("the hub has {} devices, not {devices}", hub["devices"])));
        }
        let figure = |value: &serde_json::Value| value.as_f64().unwrap_or(f64::NAN);
        let calls = hub["requests"].as_object().into_iter().flatten().map(|(_, count)| figure(count)).sum();
        Ok(Round {
            seconds: figure(&results["seconds"]),
            register_seconds: figure(&results["register_seconds"]),
            polls: figure(&results["polls"]) / *devices as f64,
            creations: figure(&hub["requests"]["POST /devices"]),
            calls,
            cpu_us: cpu_seconds * 1_000_000.0 / *devices as f64,
            mib: seen,
        })
    }

    fn predicted_seconds(devices: u64, at_once: u64) -> f64 {
        devices as f64 * ANSWER_AFTER_MS as f64 / 1_000.0 / at_once as f64
    }
}

/// The hub whose answers count, and one that is silent.
fn configuration(at_once: u64) -> Configuration {
    let hub = |name: &str| {
        format!(
            "[[instance.hub]]\nname = \"{name}.test\"\nkind = \"azureIotHub\"\nconnection_string_file = \"{name}.txt\"\n"
        )
    };
    Configuration {
        tables: format!(
            "[outbound]\nallow = [\"127.0.0.0/8\"]\nca_file = \"{HUB_CA_FILE}\"\n[limits]\nhub_work_per_hub = {at_once}\n"
        ),
        hubs: KEYS.map(|(name, _)| hub(name)).concat(),
    }
}

fn print(devices: u64, at_once: u64, alone: &[Round], beside: &[Round]) -> Result<(), Failure> {
    let middle = |rounds: &[Round], figure: &dyn Fn(&Round) -> f64| {
        median(&rounds.iter().map(figure).collect::<Vec<_>>()).unwrap_or(f64::NAN)
    };
    let predicted = Crowd::predicted_seconds(devices, at_once);
    let mut times = Table::new(&[
        "",
        "registered s",
        "predicted s",
        "measured s",
        "to the prediction",
        "to alone",
        "calls a device",
        "creations a device",
        "polls a device",
        "server CPU µs",
    ]);
    let ratios: Vec<f64> =
        beside.iter().zip(alone).map(|(beside, alone)| beside.seconds / alone.seconds).collect();
    let to_alone = against(median(&ratios).unwrap_or(f64::NAN), DEAD_RATIO_MAX);
    let rows = [("alone", alone, String::new()), ("beside a dead hub", beside, to_alone)];
    for (name, rounds, to_alone) in rows {
        let of_device = |figure: &dyn Fn(&Round) -> f64| middle(rounds, figure) / devices as f64;
        times.row([
            name.to_owned(),
            format!("{:.1}", middle(rounds, &|round| round.register_seconds)),
            format!("{predicted:.2}"),
            format!("{:.2}", middle(rounds, &|round| round.seconds)),
            against(middle(rounds, &|round| round.seconds) / predicted, PREDICTION_RATIO_MAX),
            to_alone,
            format!("{:.2}", of_device(&|round| round.calls)),
            against(of_device(&|round| round.creations), CREATIONS_MAX),
            format!("{:.1}", middle(rounds, &|round| round.polls)),
            format!("{:.0}", middle(rounds, &|round| round.cpu_us)),
        ]);
    }
    times.print(&format!(
        "{devices} new devices by a hub that answers after {ANSWER_AFTER_MS} ms, {at_once} at a time"
    ))?;

    let parts = (1..=PARTS).map(|part| (devices * part / PARTS).to_string());
    let heads: Vec<String> =
        [String::new(), "before".to_owned()].into_iter().chain(parts).chain(["after".to_owned()]).collect();
    let heads: Vec<&str> = heads.iter().map(String::as_str).chain(["last to first quarter"]).collect();
    let mut memory = Table::new(&heads);
    for (name, rounds) in [("alone", alone), ("beside a dead hub", beside)] {
        let at = |point: usize| middle(rounds, &|round| round.mib[point]);
        let ratio = middle(rounds, &|round| round.mib[PARTS as usize] / round.mib[1]);
        let cells = (0..PARTS as usize + 2).map(|point| format!("{:.1}", at(point)));
        let cells: Vec<String> = [name.to_owned()].into_iter().chain(cells).collect();
        memory.row(cells.into_iter().chain([against(ratio, MEMORY_RATIO_MAX)]));
    }
    memory.print(&format!("Resident MiB of the server when so many are assigned, {at_once} at a time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prediction_is_what_the_hub_alone_would_take() {
        assert_eq!(Crowd::predicted_seconds(10_000, 16), 31.25);
        assert_eq!(Crowd::predicted_seconds(10_000, 64), 7.8125);
    }

    #[test]
    fn each_group_has_a_hub_of_its_own() {
        let Configuration { tables, hubs } = configuration(64);
        assert!(tables.ends_with("[limits]\nhub_work_per_hub = 64\n"), "{tables}");
        for (name, _) in KEYS {
            let of_group = format!("name = \"{name}.test\"\nkind = \"azureIotHub\"\n");
            assert!(hubs.contains(&of_group), "{hubs}");
        }
    }
}
