//! What `cargo xtask bench` measures with. Each command is a file; results are single lines of JSON on standard output.

mod assign;
mod capture;
mod device;
mod entries;
mod fill;
mod fleet;
mod floor;
mod hold;
mod https;
mod insert;
mod link;
mod load;
mod pages;
mod requests;
mod service;
mod storm;
mod strangers;
mod target;

use std::io::Write as _;

use clap::{Parser, Subcommand};
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};

#[derive(Parser)]
#[command(name = "harbormaster-bench", disable_help_subcommand = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve fixed bytes behind the service's own TLS.
    Floor(floor::Options),
    /// Register one device and print what it was answered, for the floor.
    Capture(capture::Options),
    /// Register many devices.
    Load(load::Options),
    /// Register many devices whose hub takes its time, each of which asks again when it was told to.
    Assign(assign::Options),
    /// Register many devices that all come at one time, from many addresses, and wait as real ones do.
    Storm(storm::Options),
    /// Open connections and leave them idle.
    Hold(hold::Options),
    /// Send bad tokens as fast as they are refused.
    Strangers(strangers::Options),
    /// Put enrollments into the store of a new data directory.
    Fill(fill::Options),
    /// Write a file of individual enrollments to import.
    Entries(entries::Options),
    /// Put individual enrollments into the store of a new data directory, and say how long that took.
    Insert(insert::Options),
    /// Read the first page of a query and a far one by turns.
    Pages(pages::Options),
    /// Create or read individual enrollments, one a request.
    Requests(requests::Options),
}

fn main() -> anyhow::Result<()> {
    match CommandLine::parse().command {
        Command::Floor(options) => server_runtime()?.block_on(floor::run(options)),
        Command::Capture(options) => driver_runtime()?.block_on(capture::run(options)),
        Command::Load(options) => driver_runtime()?.block_on(load::run(options)),
        Command::Assign(options) => driver_runtime()?.block_on(assign::run(options)),
        Command::Storm(options) => driver_runtime()?.block_on(storm::run(options)),
        Command::Hold(options) => driver_runtime()?.block_on(hold::run(options)),
        Command::Strangers(options) => driver_runtime()?.block_on(strangers::run(options)),
        Command::Fill(options) => server_runtime()?.block_on(fill::run(options)),
        Command::Entries(options) => entries::run(&options),
        Command::Insert(options) => server_runtime()?.block_on(insert::run(options)),
        Command::Pages(options) => driver_runtime()?.block_on(pages::run(options)),
        Command::Requests(options) => driver_runtime()?.block_on(requests::run(options)),
    }
}

/// One thread: the drivers have one core to themselves.
fn driver_runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// As the service makes its own.
fn server_runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .enable_all()
        .on_thread_start(|| {
            let _ = aws_lc_rs::rand::fill(&mut [0; 16]);
        })
        .build()
}

/// One line of JSON on standard output.
fn tell(result: &impl Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, result)?;
    writeln!(out)?;
    Ok(out.flush()?)
}
