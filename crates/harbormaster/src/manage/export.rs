//! All entries of a kind as JSON Lines or CSV. Spec: DPS-CLI-24, DPS-CLI-27.

use std::io::{self, Write};

use clap::Args;
use dps_client::service::{ServiceClient, ServiceError};
use futures_util::future::join_all;
use serde_json::value::RawValue;

use super::FileFormat;
use super::csv_columns::{self, Column};
use super::csv_record;
use super::document::EntryDocument;
use super::entry::Kind;
use super::failure;
use crate::exit::Failure;

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
    let failed = |why: &ServiceError| failure::of(why, &kind.subject(""));
    let mut page = pages.next().await.map_err(|why| failed(&why))?;
    // Nothing at all is printed where the service refuses.
    form.begin(&mut out)?;
    while let Some(entries) = page {
        if options.keys {
            for some in entries.chunks(ASKED_AT_ONCE) {
                let asked = askers.iter_mut().zip(some).map(|(asker, entry)| with_keys(asker, kind, entry));
                for entry in join_all(asked).await {
                    if let Some(entry) = entry? {
                        form.write(&mut out, &entry)?;
                    }
                }
            }
        } else {
            entries.iter().try_for_each(|entry| form.write(&mut out, entry))?;
        }
        out.flush()?;
        page = pages.next().await.map_err(|why| failed(&why))?;
    }
    Ok(out.flush()?)
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
