//! All entries of a kind as JSON Lines. Spec: DPS-CLI-24.

use std::io::{self, Write as _};

use clap::Args;
use dps_client::service::{ServiceClient, ServiceError};

use super::document::EntryDocument;
use super::entry::Kind;
use super::failure;
use crate::exit::Failure;

/// What of the entries is exported.
#[derive(Args)]
pub(crate) struct ExportOptions {
    /// Export symmetric keys too, so that the file can be imported elsewhere: one more request for each entry that has some.
    #[arg(long)]
    keys: bool,
}

/// Prints one entry a line.
pub(super) async fn export(
    client: &mut ServiceClient,
    kind: Kind,
    options: ExportOptions,
) -> Result<(), Failure> {
    let mut keys_of = client.another();
    let (listing, _) = kind.listing();
    let mut pages = client.list(listing, None);
    let mut out = io::BufWriter::new(io::stdout().lock());
    while let Some(entries) = pages.next().await.map_err(|why| failure::of(&why, &kind.subject("")))? {
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
                writeln!(out, "{}", document.to_json()?)?;
            } else {
                writeln!(out, "{}", entry.get())?;
            }
        }
        out.flush()?;
    }
    Ok(out.flush()?)
}
