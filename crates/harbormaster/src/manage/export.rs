//! All entries of a kind as JSON Lines or CSV. Spec: DPS-CLI-24, DPS-CLI-27.

use std::collections::HashMap;
use std::io::{self, Write};

use anyhow::anyhow;
use clap::Args;
use dps_client::service::{ServiceClient, ServiceError};
use futures_util::future::join_all;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::value::RawValue;

use super::FileFormat;
use super::csv_columns::{self, Column};
use super::csv_record;
use super::document::EntryDocument;
use super::entry::Kind;
use super::failure;
use crate::exit::{self, Failure};
use crate::invocation::quoted;

/// How many entries are asked for their keys at one time.
const ASKED_AT_ONCE: usize = 16;

/// What of the entries is exported, and how.
#[derive(Args)]
pub(crate) struct ExportOptions {
    /// Export symmetric keys too, so that the file can be imported elsewhere: one more request for each entry that has some.
    #[arg(long)]
    keys: bool,
    /// How to write them.
    #[arg(long, value_enum, default_value_t = FileFormat::Jsonl)]
    format: FileFormat,
    /// Only entries that the service lists after this one: goes on after an export that ended early.
    #[arg(long, value_name = "ID")]
    after: Option<String>,
}

/// How entries are written.
enum Form {
    JsonLines,
    Csv(Vec<Column>),
}

impl Form {
    fn begin(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::JsonLines => Ok(()),
            Self::Csv(columns) => csv_record::write(out, columns.iter().map(|column| column.path)),
        }
    }

    fn write(&self, out: &mut impl Write, entry: &RawValue) -> io::Result<()> {
        match self {
            Self::JsonLines => writeln!(out, "{}", entry.get()),
            Self::Csv(columns) => {
                let cells = csv_columns::cells(columns, serde_json::from_str(entry.get())?);
                csv_record::write(out, cells.iter().map(String::as_str))
            }
        }
    }
}

/// Prints the entries as their pages come.
pub(super) async fn export(
    client: &mut ServiceClient,
    kind: Kind,
    options: ExportOptions,
) -> Result<(), Failure> {
    let form = match options.format {
        FileFormat::Jsonl => Form::JsonLines,
        FileFormat::Csv => Form::Csv(csv_columns::of(kind)),
    };
    let mut askers: Vec<_> = (0..ASKED_AT_ONCE).map(|_| client.another()).collect();
    let (listing, _) = kind.listing();
    let mut pages = client.list(listing, None);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut progress = Progress::new(options.after.clone());
    // The order of the list is the service's own affair.
    let mut skipped_to = options.after;
    let mut page = pages.next().await.map_err(|why| failure::of(&why, &kind.subject("")))?;
    // Nothing at all is printed where the service refuses.
    form.begin(&mut out)?;
    while let Some(mut entries) = page {
        if let Some(after) = &skipped_to {
            let is_it =
                |entry: &RawValue| id_of(entry, kind).is_some_and(|id| id.eq_ignore_ascii_case(after));
            match entries.iter().position(|entry| is_it(entry)) {
                Some(at) => {
                    entries.drain(..=at);
                    skipped_to = None;
                }
                None => entries.clear(),
            }
        }
        if options.keys {
            for some in entries.chunks(ASKED_AT_ONCE) {
                let asked = askers.iter_mut().zip(some).map(|(asker, entry)| with_keys(asker, kind, entry));
                for (entry, asked_for) in join_all(asked).await.into_iter().zip(some) {
                    if let Some(entry) = entry.map_err(|why| progress.ended_early(why))? {
                        form.write(&mut out, &entry)?;
                    }
                    progress.printed(id_of(asked_for, kind), 1);
                }
            }
        } else {
            entries.iter().try_for_each(|entry| form.write(&mut out, entry))?;
            progress.printed(entries.last().and_then(|last| id_of(last, kind)), entries.len());
        }
        out.flush()?;
        let next = pages.next().await.map_err(|why| failure::of(&why, &kind.subject("")));
        page = next.map_err(|why| progress.ended_early(why))?;
    }
    progress.bar.finish_and_clear();
    out.flush()?;
    match skipped_to {
        None => Ok(()),
        Some(after) => Err(Failure {
            code: exit::NOT_FOUND,
            why: anyhow!("the service lists no {} {after}: nothing was exported", kind.noun()),
        }),
    }
}

/// How far an export has come.
struct Progress {
    bar: ProgressBar,
    /// The entry that was printed last, or is not wanted.
    last: Option<String>,
}

impl Progress {
    fn new(after: Option<String>) -> Self {
        let bar = ProgressBar::no_length();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {human_pos} exported, {per_sec}") {
            bar.set_style(style);
        }
        Self { bar, last: after }
    }

    fn printed(&mut self, last: Option<String>, entries: usize) {
        self.bar.inc(entries as u64);
        self.last = last.or(self.last.take());
    }

    /// Spec: DPS-CLI-24.
    fn ended_early(&self, Failure { code, why }: Failure) -> Failure {
        self.bar.finish_and_clear();
        let why = match &self.last {
            Some(last) => anyhow!("{why:#}; go on with --after {}", quoted(last)),
            None => why,
        };
        Failure { code, why }
    }
}

fn id_of(entry: &RawValue, kind: Kind) -> Option<String> {
    let members: HashMap<&str, &RawValue> = serde_json::from_str(entry.get()).ok()?;
    serde_json::from_str(members.get(kind.id_member())?.get()).ok()
}

/// The entry with its symmetric keys, if it has some; `None` where it was deleted since its page came.
async fn with_keys(
    asker: &mut ServiceClient,
    kind: Kind,
    entry: &RawValue,
) -> Result<Option<Box<RawValue>>, Failure> {
    let mut document = EntryDocument::parse(entry)?;
    if document.get("attestation").is_none_or(|attestation| attestation["type"] != "symmetricKey") {
        return Ok(Some(entry.to_owned()));
    }
    let id = document.text(kind.id_member()).unwrap_or_default();
    let name = kind.parse_name(&id)?;
    match asker.attestation_mechanism(&name).await {
        Ok(keys) => document.set_raw("attestation", keys),
        Err(ServiceError::Refused(refusal)) if refusal.status == 404 => return Ok(None),
        Err(why) => return Err(failure::of(&why, &kind.subject(&id))),
    }
    Ok(Some(RawValue::from_string(document.to_json()?)?))
}
