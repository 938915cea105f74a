//! One round of complete registrations against one server.

use serde_json::Value;

use super::machinery::{Machinery, Server};
use super::process::Precedence;
use super::statistics::{median, percentile};
use crate::step::Failure;

const STEP: &str = "bench";

/// Which devices register, and how fast.
pub(super) struct Load {
    /// What enrolls them, as the driver takes it.
    pub(super) fleet: String,
    /// Number of the first.
    pub(super) first: u64,
    /// How many.
    pub(super) count: usize,
    /// `1.2` or `1.3`.
    pub(super) tls: &'static str,
    /// How devices speak to the server, as the driver takes it; MQTT over TLS where absent.
    pub(super) transport: Option<&'static str>,
    pub(super) pace: Pace,
}

/// When the next device comes.
#[derive(Clone, Copy)]
pub(super) enum Pace {
    /// So many at a time, the next as soon as one is done.
    AtOnce(usize),
    /// So many a second.
    PerSecond(usize),
}

/// What one round came to.
pub(super) struct Round {
    /// Completed registrations a second.
    pub(super) per_second: f64,
    /// User and system time of the server for each, in microseconds.
    pub(super) cpu_us: f64,
    /// From before TCP to the final answer, in milliseconds: half, 95 % and 99 % of the devices were faster.
    pub(super) latency_ms: [f64; 3],
    /// Devices that were told to come back later.
    pub(super) deferred: u64,
}

impl Load {
    /// Runs it, and reads what the server used meanwhile.
    ///
    /// # Errors
    /// Where a device was not assigned: a figure would say nothing then.
    pub(super) fn run(&self, machinery: &Machinery, server: &Server) -> Result<Round, Failure> {
        let before = server.process.cpu_seconds()?;
        let mut driver = machinery.drive("load", server, &self.arguments(), Precedence::Normal)?;
        let results = driver.line()?;
        let cpu_seconds = server.process.cpu_seconds()? - before;
        if results["failed"] != 0 {
            let why = format!(
                "{} devices were not assigned, the first: {}",
                results["failed"], results["first_failure"]
            );
            return Err(Failure::new(STEP, why));
        }
        Round::of(&results, cpu_seconds)
            .ok_or_else(|| Failure::new(STEP, "the driver's results lack a member"))
    }

    fn arguments(&self) -> Vec<String> {
        let (pace, number) = match self.pace {
            Pace::AtOnce(number) => ("--at-once", number),
            Pace::PerSecond(number) => ("--per-second", number),
        };
        let (first, count, number) = (self.first.to_string(), self.count.to_string(), number.to_string());
        let options = [
            ("--fleet", &*self.fleet),
            ("--first", &first),
            ("--count", &count),
            ("--tls", self.tls),
            (pace, &number),
        ];
        let transport = self.transport.map(|transport| ("--transport", transport));
        let options = options.into_iter().chain(transport);
        options.flat_map(|(name, value)| [name.to_owned(), value.to_owned()]).collect()
    }
}

impl Round {
    fn of(results: &Value, cpu_seconds: f64) -> Option<Self> {
        let completed = results["completed"].as_f64()?;
        let latencies_us: Vec<u64> =
            results["latencies_us"].as_array()?.iter().filter_map(Value::as_u64).collect();
        let latency_ms = |percent| percentile(&latencies_us, percent).map(|us| us as f64 / 1_000.0);
        Some(Self {
            per_second: completed / results["seconds"].as_f64()?,
            cpu_us: cpu_seconds * 1_000_000.0 / completed,
            latency_ms: [latency_ms(50)?, latency_ms(95)?, latency_ms(99)?],
            deferred: results["deferred"].as_u64()?,
        })
    }
}

/// The median of a figure of several rounds.
pub(super) fn middle(rounds: &[Round], figure: impl Fn(&Round) -> f64) -> f64 {
    median(&rounds.iter().map(figure).collect::<Vec<_>>()).unwrap_or(f64::NAN)
}

/// The median of the ratios of a figure, each between two rounds that ran one after the other.
pub(super) fn middle_ratio(over: &[Round], under: &[Round], figure: impl Fn(&Round) -> f64) -> f64 {
    let ratios: Vec<f64> = over.iter().zip(under).map(|(over, under)| figure(over) / figure(under)).collect();
    median(&ratios).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn round(cpu_us: f64) -> Round {
        Round { per_second: 1.0, cpu_us, latency_ms: [1.0; 3], deferred: 0 }
    }

    #[test]
    fn figures_are_for_one_registration() {
        let results = json!({"completed": 4, "seconds": 2.0, "latencies_us": [4_000, 1_000, 2_000, 3_000], "deferred": 1});
        let round = Round::of(&results, 0.002).unwrap();
        assert_eq!((round.per_second, round.cpu_us, round.deferred), (2.0, 500.0, 1));
        assert_eq!(round.latency_ms, [2.0, 4.0, 4.0]);
        assert!(Round::of(&json!({"completed": 4}), 1.0).is_none());
    }

    #[test]
    fn ratios_are_taken_between_neighbours() {
        let (over, under) = ([round(3.0), round(80.0), round(5.0)], [round(2.0), round(40.0), round(4.0)]);
        assert_eq!(middle_ratio(&over, &under, |round| round.cpu_us), 1.5);
        assert_eq!(middle(&over, |round| round.cpu_us), 5.0);
    }
}
