//! Linked hubs as they are printed. Spec: DPS-CLI-12, DPS-CLI-33.

use std::io::{self, Write as _};

use serde_json::Value;

use crate::exit::Failure;
use crate::instance_option::Output;
use crate::manage::table::{CLEAN_UPS, LINKED_HUBS, Table, lines, text};

/// One hub; how it does, where that was told.
pub(super) fn one(output: Output, hub: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if output == Output::Json {
        return writeln!(out, "{hub}");
    }
    let yes_or_no = |member: &str| if hub[member] == true { "yes" } else { "no" }.to_owned();
    let (connection, health, load) = (&hub["connection"], &hub["health"], &hub["load"]);
    let paused_for = match &health["pausedForSeconds"] {
        Value::Null => String::new(),
        seconds => format!("{seconds} s"),
    };
    let fields = [
        ("hub", text(&hub["name"])),
        ("kind", text(&hub["kind"])),
        ("weight", text(&hub["allocationWeight"])),
        ("for all", yes_or_no("applyAllocationPolicy")),
        ("networks", text(&hub["networks"])),
        ("draining", yes_or_no("draining")),
        ("host", text(&connection["hostName"])),
        ("policy", text(&connection["sharedAccessKeyName"])),
        ("key SHA-256", text(&connection["sharedAccessKeySha256"])),
        ("health", health_word(health)),
        ("unhealthy since", text(&health["since"])),
        ("because", text(&health["reason"])),
        ("left alone for", paused_for),
        ("devices", text(&load["devices"])),
        ("on their way", text(&load["assigning"])),
        ("to be removed", text(&load["cleanUps"])),
    ];
    out.write_all(lines(&fields).as_bytes())
}

/// All hubs of an instance.
pub(super) fn all(output: Output, hubs: &Value) -> Result<(), Failure> {
    list(output, hubs, Table::whole(&LINKED_HUBS, hubs)?)
}

/// Clean-ups of an instance.
pub(super) fn clean_ups(output: Output, clean_ups: &Value) -> Result<(), Failure> {
    list(output, clean_ups, Table::whole(&CLEAN_UPS, clean_ups)?)
}

fn list(output: Output, all: &Value, table: String) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match output {
        Output::Json => writeln!(out, "{all}")?,
        Output::Text => write!(out, "{table}")?,
    }
    Ok(())
}

/// Nothing for a hub that nobody asks.
fn health_word(health: &Value) -> String {
    if health["state"] == "notWatched" { String::new() } else { text(&health["state"]) }
}
