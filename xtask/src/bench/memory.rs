//! The second half of `bench register`: what an idle connection costs in memory.

use super::Effort;
use super::machinery::{Machinery, Server};
use super::process::Precedence;
use super::register::{CAPTURED, fleets};
use super::report::{Table, against};
use super::statistics::{median, slope};
use crate::step::{self, Failure};

/// KiB of resident memory for each idle connection.
const IDLE_KIB_MAX: f64 = 16.0;

/// Between these numbers of connections the slope is taken, so that what the server needs anyway is left out.
pub(super) const CONNECTIONS: (usize, usize) = (1_000, 5_000);

/// Prints one table. Every figure is of a server that was just started: memory that was used before would hide it.
pub(super) fn run(machinery: &Machinery, effort: Effort) -> Result<(), Failure> {
    let data_dir = machinery.data_dir("memory");
    let mut table = Table::new(&["idle connection", "floor KiB", "Harbormaster KiB", "target"]);
    for (stage, which, name) in [
        ("connected", 0, "after CONNECT"),
        ("attested", 0, "after one register"),
        ("connected", 1, "with certificates, after CONNECT"),
        ("attested", 1, "with certificates, after one register"),
    ] {
        step::begin(&format!("idle connections, {name}"));
        let (mut floors, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..effort.of(5, 1) {
            let harbormaster = machinery.harbormaster(&data_dir)?;
            let (_, fleet) = &fleets(&harbormaster, &data_dir)[which];
            let floor = machinery.floor(&harbormaster, &data_dir, fleet, CAPTURED)?;
            floors.push(kib_each(machinery, &floor, fleet, stage, None)?);
            ours.push(kib_each(machinery, &harbormaster, fleet, stage, None)?);
        }
        let (floor, ours) = (median(&floors).unwrap_or(f64::NAN), median(&ours).unwrap_or(f64::NAN));
        table.row([
            name.to_owned(),
            format!("{floor:.1}"),
            format!("{ours:.1}"),
            against(ours, IDLE_KIB_MAX),
        ]);
    }
    let (from, to) = CONNECTIONS;
    table.print(&format!("Resident memory of an idle connection, slope between {from} and {to}, TLS 1.3"))
}

/// The slope for one kind of connection; MQTT over TLS where no transport is named.
pub(super) fn kib_each(
    machinery: &Machinery,
    server: &Server,
    fleet: &str,
    stage: &str,
    transport: Option<&str>,
) -> Result<f64, Failure> {
    let counts = format!("{},{}", CONNECTIONS.0, CONNECTIONS.1);
    let options = [("--fleet", fleet), ("--first", "0"), ("--counts", &counts), ("--stage", stage)];
    let options = options.into_iter().chain(transport.map(|transport| ("--transport", transport)));
    let options: Vec<String> =
        options.flat_map(|(name, value)| [name.to_owned(), value.to_owned()]).collect();
    let mut driver = machinery.drive("hold", server, &options, Precedence::Normal)?;
    let mut point = || {
        let open = driver.line()?["open"].as_f64().unwrap_or(f64::NAN);
        let resident = server.process.resident_kib()? as f64;
        driver.go_on()?;
        Ok((open, resident))
    };
    let (from, to) = (point()?, point()?);
    Ok(slope(from, to).unwrap_or(f64::NAN))
}
