//! `harbormaster restore`: a backup becomes the store. Spec: DPS-CLI-35.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;
use dps_store::{Occupied, RestoreError, SqliteStore};

use crate::backup;
use crate::exit::{self, Failure};
use crate::store_place::{self, PlaceOptions, STORE_FILE};

#[derive(Args)]
#[command(
    after_help = "The server must not be running. The backup is read whole and judged before anything is replaced: it is sound, this \
                        program knows its version, and the sealing key opens its secrets. That key is in no backup: with --config it is \
                        the configuration's, with --data-dir that of --sealing-key-file, else the file sealing.key of the directory."
)]
pub(crate) struct Options {
    /// What `backup` made.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    #[command(flatten)]
    place: PlaceOptions,
    /// The sealing key that the store was made with, raw or as Base64 [default: sealing.key of --data-dir].
    #[arg(long, value_name = "FILE", requires = "data_dir")]
    sealing_key_file: Option<PathBuf>,
    /// Move a store that is there aside, in the same directory, instead of refusing.
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(options: Options) -> Result<ExitCode, Failure> {
    let Options { from, place, sealing_key_file, force } = options;
    let (data_dir, sealer) = place.with_sealer(sealing_key_file.as_deref())?;
    let data_dir = store_place::lock(&data_dir)?;
    let occupied = if force { Occupied::MoveAside } else { Occupied::Refuse };
    let restored = SqliteStore::restore(&from, (&data_dir, STORE_FILE), &sealer, occupied).map_err(failed)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "restored to {}", data_dir.path().join(STORE_FILE).display())?;
    writeln!(out, "{}", backup::shown(&restored.contents))?;
    if let Some(aside) = restored.aside {
        writeln!(out, "the store that was there is now {}", aside.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn failed(why: RestoreError) -> Failure {
    let code = match &why {
        RestoreError::NoBackup(_) => exit::NOT_FOUND,
        RestoreError::Occupied(_) => exit::EXISTS,
        RestoreError::Sealed(_) => exit::USAGE,
        RestoreError::Place(_)
        | RestoreError::Copy(_)
        | RestoreError::Unsound(_)
        | RestoreError::Aside { .. } => exit::FAILED,
    };
    let why = match why {
        occupied @ RestoreError::Occupied(_) => {
            anyhow!("{occupied}: --force moves it aside, or name another place")
        }
        why => why.into(),
    };
    Failure { code, why }
}
