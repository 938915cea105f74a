//! `harbormaster backup`: a copy of a store that may be in use. Spec: DPS-CLI-34.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use dps_store::{BackupError, Contents, SqliteStore};

use crate::exit::{self, Failure};
use crate::store_place::{DEV_SEALING_KEY, PlaceOptions, STORE_FILE};

#[derive(Args)]
#[command(
    after_help = "The backup is the store alone: enrollments, records, instances and their settings, devices of local hubs, each secret \
                        sealed. It does NOT hold the sealing key, and without that key its secrets cannot be opened by anybody: keep a copy \
                        of the key apart from the backups. For `serve` it is what store.sealing_key_file or store.sealing_key_env names, for \
                        `dev` the file sealing.key of the data directory. Certificates, their keys, the admin token and the configuration are \
                        files of their own, and are not in it either."
)]
pub(crate) struct Options {
    #[command(flatten)]
    place: PlaceOptions,
    /// The file to make, with mode 0600. Nothing is written over.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

pub(crate) fn run(options: Options) -> Result<ExitCode, Failure> {
    let Options { place, to } = options;
    let data_dir = place.data_dir()?;
    let contents = SqliteStore::back_up(&data_dir.join(STORE_FILE), &to).map_err(|why| {
        let code = match &why {
            BackupError::NoStore(_) => exit::NOT_FOUND,
            BackupError::Exists(_) => exit::EXISTS,
            BackupError::Copy(_) | BackupError::Unsound(_) => exit::FAILED,
        };
        Failure { code, why: why.into() }
    })?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "backed up to {}\n{}", to.display(), shown(&contents))?;
    writeln!(out, "{}", what_is_missing(&contents, &data_dir))?;
    Ok(ExitCode::SUCCESS)
}

/// What a store holds, a line for each.
pub(crate) fn shown(contents: &Contents) -> String {
    let Contents {
        version,
        bytes,
        instances,
        individual_enrollments,
        enrollment_groups,
        registrations,
        hub_devices,
        sealing_keys: _,
    } = contents;
    format!(
        "instances:               {instances}\n\
         individual enrollments:  {individual_enrollments}\n\
         enrollment groups:       {enrollment_groups}\n\
         registration records:    {registrations}\n\
         devices of local hubs:   {hub_devices}\n\
         size and version:        {bytes} bytes, version {version}"
    )
}

/// Where the key is without which the backup is worth little.
fn what_is_missing(contents: &Contents, data_dir: &Path) -> String {
    let keys: Vec<_> = contents.sealing_keys.iter().map(ToString::to_string).collect();
    if keys.is_empty() {
        return "it has no secrets yet".to_owned();
    }
    let of_dev = data_dir.join(DEV_SEALING_KEY);
    let place = if of_dev.exists() {
        of_dev.display().to_string()
    } else {
        "what store.sealing_key_file or store.sealing_key_env of the configuration names".to_owned()
    };
    format!(
        "NOT in it: the sealing key {}, without which its secrets cannot be opened: keep a copy of {place} apart from it",
        keys.join(", ")
    )
}
