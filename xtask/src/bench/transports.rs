//! `bench transports`: what a registration and an idle connection cost over each transport, beside MQTT over TLS.

use super::Effort;
use super::machinery::Machinery;
use super::memory::{CONNECTIONS, kib_each};
use super::register::sample_fleet;
use super::report::{Table, against};
use super::round::{Load, Pace, Round, middle, middle_ratio};
use super::statistics::median;
use crate::step::{self, Failure};

/// Enough that the server is never idle.
const AT_ONCE: usize = 64;

/// Registrations before the first round counts.
const WARM_UP: usize = 500;

/// KiB of resident memory for each idle WebSocket.
const IDLE_KIB_MAX: f64 = 20.0;

const TRANSPORTS: [(&str, Option<&str>); 4] = [
    ("MQTT over TLS", None),
    ("MQTT over WebSocket", Some("mqtt-ws")),
    ("HTTPS, one connection", Some("https")),
    ("HTTPS, a connection for each request", Some("https-anew")),
];

/// Prints two tables.
pub(super) fn run(machinery: &Machinery, effort: Effort) -> Result<(), Failure> {
    registrations(machinery, effort)?;
    idle(machinery, effort)
}

fn registrations(machinery: &Machinery, effort: Effort) -> Result<(), Failure> {
    let server = machinery.harbormaster(&machinery.data_dir("transports"))?;
    let (fleet, count) = (sample_fleet(&server), effort.of(10_000, 3_000));
    step::begin("register over each transport");
    let mut first = 0;
    let mut load = |transport, count: usize| {
        let pace = Pace::AtOnce(AT_ONCE);
        let load = Load { fleet: fleet.clone(), first, count, tls: "1.3", transport, pace };
        first += count as u64;
        load.run(machinery, &server)
    };
    for (_, transport) in TRANSPORTS {
        load(transport, WARM_UP)?;
    }
    let mut rounds: [Vec<Round>; 4] = Default::default();
    for _ in 0..effort.rounds() {
        for (rounds, (_, transport)) in rounds.iter_mut().zip(TRANSPORTS) {
            rounds.push(load(transport, count)?);
        }
    }
    let heads =
        ["", "registrations/s", "p50 ms", "p95 ms", "p99 ms", "server CPU µs", "CPU to MQTT over TLS"];
    let mut table = Table::new(&heads);
    for ((name, transport), over) in TRANSPORTS.iter().zip(&rounds) {
        let latency = |which: usize| format!("{:.1}", middle(over, |round| round.latency_ms[which]));
        let ratio = middle_ratio(over, &rounds[0], |round| round.cpu_us);
        table.row([
            (*name).to_owned(),
            format!("{:.0}", middle(over, |round| round.per_second)),
            latency(0),
            latency(1),
            latency(2),
            format!("{:.0}", middle(over, |round| round.cpu_us)),
            transport.map(|_| format!("{ratio:.2}")).unwrap_or_default(),
        ]);
    }
    table
        .print(&format!("Complete registration, symmetric key, new devices, TLS 1.3, {AT_ONCE} at a time"))?;
    server.process.stop()
}

fn idle(machinery: &Machinery, effort: Effort) -> Result<(), Failure> {
    let mut table = Table::new(&["idle WebSocket", "KiB", "target"]);
    for (stage, name) in [("connected", "after CONNECT"), ("attested", "after one register")] {
        step::begin(&format!("idle WebSockets, {name}"));
        let mut slopes = Vec::new();
        for _ in 0..effort.of(5, 1) {
            let server = machinery.harbormaster(&machinery.data_dir("idle-transports"))?;
            slopes.push(kib_each(machinery, &server, &sample_fleet(&server), stage, Some("mqtt-ws"))?);
        }
        let kib = median(&slopes).unwrap_or(f64::NAN);
        table.row([name.to_owned(), format!("{kib:.1}"), against(kib, IDLE_KIB_MAX)]);
    }
    let (from, to) = CONNECTIONS;
    table.print(&format!("Resident memory of an idle WebSocket, slope between {from} and {to}, TLS 1.3"))
}
