//! `harbormaster enrollment`, `enrollment-group` and `registration`: what the service API is for, noun then verb.
//! Spec: DPS-CLI-8 to DPS-CLI-15, DPS-CLI-21 to DPS-CLI-28 (docs/spec/cli.md).

mod attestation;
mod csv_columns;
mod csv_header;
mod csv_record;
mod csv_source;
mod document;
pub(crate) mod enrollment;
pub(crate) mod enrollment_group;
mod entry;
mod entry_source;
mod export;
mod failure;
mod import;
pub(crate) mod registration;
mod settings;
pub(crate) mod table;

use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use dps_client::service::{IfMatch, Listing, ServiceClient};

use crate::connection::ConnectionOptions;
use crate::exit::Failure;
use failure::Subject;
use table::Table;

/// What every command has.
#[derive(Args)]
pub(crate) struct CommonOptions {
    /// How to print.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    connection: ConnectionOptions,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people. Keys are shown only with --keys and after create.
    Table,
    /// The service's own JSON.
    Json,
}

/// How a file of entries is written.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FileFormat {
    /// One entry a line. Import takes a JSON array, too.
    Jsonl,
    /// A table: one entry a row, one member a column.
    Csv,
}

impl FileFormat {
    /// What the name of a file says. Spec: DPS-CLI-25.
    fn of(path: &Path) -> Self {
        match path.extension() {
            Some(ending) if ending.eq_ignore_ascii_case("csv") => Self::Csv,
            _ => Self::Jsonl,
        }
    }
}

/// Under which condition an update is done.
#[derive(Args)]
pub(crate) struct UpdateCondition {
    /// Only if its etag is still this one [default: the one that was read].
    #[arg(long, conflicts_with = "force")]
    etag: Option<String>,
    /// Whatever somebody else may have changed meanwhile.
    #[arg(long)]
    force: bool,
}

/// Under which condition something is deleted.
#[derive(Args)]
pub(crate) struct DeleteCondition {
    /// Only if its etag is still this one.
    #[arg(long)]
    etag: Option<String>,
}

impl DeleteCondition {
    fn if_match(self) -> Option<IfMatch> {
        self.etag.map(IfMatch::ETag)
    }
}

/// Runs one command against the service.
fn run(
    options: CommonOptions,
    command: impl AsyncFnOnce(&mut ServiceClient, Output) -> Result<(), Failure>,
) -> Result<ExitCode, Failure> {
    let CommonOptions { connection, output } = options;
    run_quietly(connection, async |client| command(client, output).await)
}

/// As [`run`], for a command whose output has one form.
fn run_quietly(
    connection: ConnectionOptions,
    command: impl AsyncFnOnce(&mut ServiceClient) -> Result<(), Failure>,
) -> Result<ExitCode, Failure> {
    let mut client = connection.client()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(command(&mut client));
    // A name look-up that takes for ever cannot be ended, and is not waited for.
    runtime.shutdown_background();
    match ended {
        // Who reads only the first lines has got what he wanted.
        Err(Failure { why, .. }) if is_closed_pipe(&why) => Ok(ExitCode::SUCCESS),
        Err(failure) => Err(failure),
        Ok(()) => Ok(ExitCode::SUCCESS),
    }
}

fn is_closed_pipe(why: &anyhow::Error) -> bool {
    why.downcast_ref::<io::Error>().is_some_and(|why| why.kind() == io::ErrorKind::BrokenPipe)
}

/// Prints a list page by page as it comes, as one table or one JSON array. Spec: DPS-CLI-11, DPS-CLI-12.
async fn list(
    client: &mut ServiceClient,
    listing: Listing,
    limit: Option<NonZeroUsize>,
    output: Output,
    mut table: Table,
    subject: &Subject,
) -> Result<(), Failure> {
    let mut pages = client.list(listing, limit.map(NonZeroUsize::get));
    let mut out = io::stdout().lock();
    let mut separator = "[";
    while let Some(items) = pages.next().await.map_err(|why| failure::of(&why, subject))? {
        match output {
            Output::Json => {
                for item in items {
                    write!(out, "{separator}{}", item.get())?;
                    separator = ",\n";
                }
            }
            Output::Table => out.write_all(table.page(&items)?.as_bytes())?,
        }
        out.flush()?;
    }
    if output == Output::Json {
        let nothing = if separator == "[" { "[" } else { "" };
        writeln!(out, "{nothing}]")?;
    }
    Ok(out.flush()?)
}
