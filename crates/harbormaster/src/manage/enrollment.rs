//! `harbormaster enrollment`: individual enrollments.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use dps_client::service::EntryName;
use dps_proto::ids::{DeviceId, RegistrationId};

use super::attestation::{AttestationChange, AttestationKind, CredentialOptions};
use super::entry::{self, Changes, Kind};
use super::export::{ExportOptions, export};
use super::import::{ImportOptions, import};
use super::settings::SettingsOptions;
use super::{CommonOptions, DeleteCondition, UpdateCondition, run as run_command, run_quietly};
use crate::argument;
use crate::connection::ConnectionOptions;
use crate::exit::Failure;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Create an individual enrollment. One that exists stays as it is. Prints its keys.
    Create(Box<Create>),
    /// Show an individual enrollment.
    Show {
        /// The device.
        registration_id: RegistrationId,
        /// Show its keys too.
        #[arg(long)]
        keys: bool,
        #[command(flatten)]
        common: CommonOptions,
    },
    /// List the individual enrollments.
    List {
        /// At most so many.
        #[arg(long, value_name = "NUMBER", value_parser = argument::count)]
        limit: Option<NonZeroUsize>,
        #[command(flatten)]
        common: CommonOptions,
    },
    /// Change an individual enrollment. What is not given stays.
    Update(Box<Update>),
    /// Import individual enrollments from a file, many at a time. Each that is refused is told, and the others are imported.
    Import {
        #[command(flatten)]
        options: ImportOptions,
        #[command(flatten)]
        connection: ConnectionOptions,
    },
    /// Export all individual enrollments as JSON Lines or CSV.
    Export {
        #[command(flatten)]
        options: ExportOptions,
        #[command(flatten)]
        connection: ConnectionOptions,
    },
    /// Delete an individual enrollment. The device's registration record and its identity at the hub stay.
    Delete {
        /// The device.
        registration_id: RegistrationId,
        #[command(flatten)]
        condition: DeleteCondition,
        #[command(flatten)]
        common: CommonOptions,
    },
}

#[derive(Args)]
pub(crate) struct Create {
    #[command(flatten)]
    entry: EntryOptions,
    #[command(flatten)]
    common: CommonOptions,
}

#[derive(Args)]
pub(crate) struct Update {
    #[command(flatten)]
    entry: EntryOptions,
    #[command(flatten)]
    condition: UpdateCondition,
    #[command(flatten)]
    common: CommonOptions,
}

#[derive(Args)]
struct EntryOptions {
    /// The device; may stand in --file instead.
    registration_id: Option<RegistrationId>,
    /// JSON of a whole individual enrollment, which the other options change; - is standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Id that the device gets at its hub [default: its registration id].
    #[arg(long)]
    device_id: Option<DeviceId>,
    /// How the device proves itself [default for a new one: symmetric-key, or what the options given are for].
    #[arg(long, value_enum, value_name = "KIND")]
    attestation: Option<AttestationKind>,
    #[command(flatten)]
    credentials: CredentialOptions,
    /// Public part of the TPM's endorsement key: TPM2B_PUBLIC in Base64.
    #[arg(long, value_name = "KEY")]
    endorsement_key: Option<String>,
    #[command(flatten)]
    settings: SettingsOptions,
}

impl EntryOptions {
    fn changes(self) -> anyhow::Result<Changes> {
        let attestation = AttestationChange::read(
            self.attestation,
            &self.credentials,
            self.endorsement_key.as_ref(),
            "clientCertificates",
        )?;
        Ok(Changes {
            kind: Kind::Individual,
            name: self.registration_id.map(EntryName::Individual),
            file: self.file,
            attestation,
            settings: self.settings,
            own: self.device_id.iter().map(|id| ("deviceId", id.as_str().to_owned())).collect(),
        })
    }
}

pub(crate) fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Create(create) => {
            let changes = create.entry.changes().map_err(Failure::usage)?;
            run_command(create.common, async |client, output| entry::create(client, changes, output).await)
        }
        Command::Show { registration_id, keys, common } => {
            let name = EntryName::Individual(registration_id);
            run_command(common, async |client, output| {
                entry::show(client, Kind::Individual, name, keys, output).await
            })
        }
        Command::List { limit, common } => run_command(common, async |client, output| {
            entry::show_all(client, Kind::Individual, limit, output).await
        }),
        Command::Update(update) => {
            let Update { entry, condition, common } = *update;
            let changes = entry.changes().map_err(Failure::usage)?;
            run_command(common, async |client, output| {
                entry::update(client, changes, condition, output).await
            })
        }
        Command::Import { options, connection } => {
            run_quietly(connection, async |client| import(client, Kind::Individual, options).await)
        }
        Command::Export { options, connection } => {
            run_quietly(connection, async |client| export(client, Kind::Individual, options).await)
        }
        Command::Delete { registration_id, condition, common } => {
            let name = EntryName::Individual(registration_id);
            run_command(common, async |client, _| {
                entry::delete(client, Kind::Individual, name, condition).await
            })
        }
    }
}
