//! All entries of a kind as JSON Lines or CSV. Spec: DPS-CLI-24, DPS-CLI-27.

use std::io::{self, Write};

use clap::Args;
use dps_client::service::{ServiceClient, ServiceError};
use serde_json::value::RawValue;

use super::FileFormat;
use super::csv_columns::{self, Column};
use super::csv_record;
use super::document::EntryDocument;
use super::entry::Kind;
use super::failure;
use crate::exit::Failure;

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
    let mut keys_of = client.another();
    let (listing, _) = kind.listing();
    let mut pages = client.list(listing, None);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let failed = |why: &ServiceError| failure::of(why, &kind.subject(""));
    let mut page = pages.next().await.map_err(|why| failed(&why))?;
    // Nothing at all is printed where the service refuses.
    form.begin(&mut out)?;
    while let Some(entries) = page {
        for entry in entries {
            let mut document = EntryDocument::parse(&entry)?;
            let has_keys = document.get("attestation").is_some_and(|it| it["type"] == "symmetricKey");
            if options.keys && has_keys {
                let id = document.text(kind.id_member()).unwrap_or_default();
                let name = kind.parse_name(&id)?;
                match keys_of.attestation_mechanism(&name).await {
                    Ok(keys) => document.set_raw("attestation", keys),
                    // It was deleted since its page came.
                    Err(ServiceError::Refused(refusal)) if refusal.status == 404 => continue,
                    Err(why) => return Err(failure::of(&why, &kind.subject(&id))),
                }
                form.write(&mut out, &RawValue::from_string(document.to_json()?)?)?;
            } else {
                form.write(&mut out, &entry)?;
            }
        }
        out.flush()?;
        page = pages.next().await.map_err(|why| failed(&why))?;
    }
    Ok(out.flush()?)
}
