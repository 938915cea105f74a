//! Individual enrollments as clients of the service API write them, and a file of them to import.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::fleet;

#[derive(Args)]
pub(crate) struct Options {
    /// Written anew, as JSON Lines.
    #[arg(long)]
    file: PathBuf,
    /// How many.
    #[arg(long)]
    count: u64,
}

#[derive(Serialize)]
struct Written {
    entries: u64,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(&options.file)?);
    for number in 0..options.count {
        writeln!(file, "{}", individual(number)?)?;
    }
    file.flush()?;
    crate::tell(&Written { entries: options.count })
}

/// The entry of that number, with its keys.
pub(crate) fn individual(number: u64) -> anyhow::Result<String> {
    let keys = fleet::individual_keys(number)?;
    let entry = json!({
        "registrationId": fleet::individual_id(number)?.as_str(),
        "attestation": {
            "type": "symmetricKey",
            "symmetricKey": {
                "primaryKey": *keys.primary.expose_base64(),
                "secondaryKey": *keys.secondary.expose_base64(),
            },
        },
    });
    Ok(entry.to_string())
}
