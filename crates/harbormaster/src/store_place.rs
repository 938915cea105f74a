//! Which store a command is about: that of a configuration, or of a data directory. Spec: DPS-CLI-34.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use dps_store::{DataDir, DataDirError, Sealer, warn_if_open_to_others};

use crate::configuration::{self, Postgres};
use crate::exit::Failure;
use crate::file_option;

/// Name of the database in its data directory.
pub(crate) const STORE_FILE: &str = "store.db";

/// Name of the sealing key in the data directory of `dev`.
pub(crate) const DEV_SEALING_KEY: &str = "sealing.key";

const CONFIGURATION: &str = "HARBORMASTER_CONFIG";

#[derive(Args)]
pub(crate) struct PlaceOptions {
    /// The configuration of `serve` that names the store; no more of it is looked at [default: what HARBORMASTER_CONFIG names].
    #[arg(long = "config", value_name = "FILE", conflicts_with = "data_dir")]
    configuration: Option<PathBuf>,
    /// The directory that holds the store: that of `dev --data-dir`, or store.data_dir of a configuration.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Where a store lies.
enum Named {
    ByConfiguration(PathBuf),
    ByDirectory(PathBuf),
}

impl PlaceOptions {
    fn named(&self) -> Result<Named, Failure> {
        let set = || std::env::var_os(CONFIGURATION).filter(|file| !file.is_empty()).map(PathBuf::from);
        match (&self.data_dir, self.configuration.clone()) {
            (Some(data_dir), _) => Ok(Named::ByDirectory(data_dir.clone())),
            (None, configuration) => {
                configuration.or_else(set).map(Named::ByConfiguration).ok_or_else(|| {
                    let why = "say which store: --config FILE for that of `serve`, --data-dir DIR for that of `dev`";
                    Failure::usage(anyhow!(why))
                })
            }
        }
    }

    /// The configuration and its database, where it names one.
    pub(crate) fn postgres(&self) -> Result<Option<(PathBuf, Box<Postgres>)>, Failure> {
        let Named::ByConfiguration(file) = self.named()? else { return Ok(None) };
        let found = configuration::read_postgres(&file).map_err(Failure::usage)?;
        Ok(found.map(|postgres| (file, Box::new(postgres))))
    }

    /// The data directory, which need not be there.
    pub(crate) fn data_dir(&self) -> Result<PathBuf, Failure> {
        match self.named()? {
            Named::ByDirectory(data_dir) => Ok(data_dir),
            Named::ByConfiguration(file) => configuration::read_data_dir(&file).map_err(Failure::usage),
        }
    }

    /// The data directory, and what opens the secrets of its store: the key of the configuration, else that of `key_file`, else that
    /// which `dev` left in the directory.
    pub(crate) fn with_sealer(&self, key_file: Option<&Path>) -> Result<(PathBuf, Sealer), Failure> {
        match self.named()? {
            Named::ByConfiguration(file) => {
                let data_dir = configuration::read_data_dir(&file).map_err(Failure::usage)?;
                let store = configuration::read_store(&file).map_err(Failure::usage)?;
                Ok((data_dir, Sealer::new(&store.sealing_key.value)))
            }
            Named::ByDirectory(data_dir) => {
                let kept = data_dir.join(DEV_SEALING_KEY);
                let file = key_file.unwrap_or(&kept);
                let key = sealing_key("--sealing-key-file", file).map_err(Failure::usage)?;
                Ok((data_dir, Sealer::new(&key)))
            }
        }
    }
}

/// The sealing key in a file, which `option` names.
pub(crate) fn sealing_key(option: &'static str, file: &Path) -> anyhow::Result<dps_store::SealingKey> {
    let bytes = file_option::read(option, file).with_context(
        || "the sealing key that the store was made with is needed, and is in no backup: name its file",
    )?;
    warn_if_open_to_others(file).with_context(|| file.display().to_string())?;
    configuration::sealing_key(&bytes).with_context(|| format!("{option} {}", file.display()))
}

/// The data directory that the file is the store of, where it is one: a server may be using it. A backup lies elsewhere, or has
/// another name.
pub(crate) fn data_dir_of(file: &Path) -> Option<PathBuf> {
    let file = file.canonicalize().ok()?;
    let directory = file.parent()?;
    let is_store = file.file_name().is_some_and(|name| name == STORE_FILE) && DataDir::is_one(directory);
    is_store.then(|| directory.to_owned())
}

/// Opens and locks a data directory that no server may be using.
pub(crate) fn lock(data_dir: &Path) -> Result<DataDir, Failure> {
    DataDir::open(data_dir).map_err(|why| match why {
        DataDirError::InUse { .. } => Failure::usage(anyhow!("{why}: stop the server first")),
        DataDirError::Io { .. } | DataDirError::BadName(_) => why.into(),
    })
}
