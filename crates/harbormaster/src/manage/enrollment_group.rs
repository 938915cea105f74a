//! `harbormaster enrollment-group`: enrollment groups.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use dps_client::service::EntryName;
use dps_core::enrollment::RegistrationIdPrefix;
use dps_proto::ids::EnrollmentGroupId;

use super::attestation::{AttestationChange, CredentialOptions, GroupAttestationKind};
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
    /// Create an enrollment group. One that exists stays as it is. Prints its keys.
    Create(Box<Create>),
    /// Show an enrollment group.
    Show {
        /// The group.
        enrollment_group_id: EnrollmentGroupId,
        /// Show its keys too.
        #[arg(long)]
        keys: bool,
        #[command(flatten)]
        common: CommonOptions,
    },
    /// List the enrollment groups.
    List {
        /// At most so many.
        #[arg(long, value_name = "NUMBER", value_parser = argument::count)]
        limit: Option<NonZeroUsize>,
        #[command(flatten)]
        common: CommonOptions,
    },
    /// Change an enrollment group. What is not given stays.
    Update(Box<Update>),
    /// Import enrollment groups from a file, many at a time. Each that is refused is told, and the others are imported.
    Import {
        #[command(flatten)]
        options: ImportOptions,
        #[command(flatten)]
        connection: ConnectionOptions,
    },
    /// Export all enrollment groups as JSON Lines or CSV.
    Export {
        #[command(flatten)]
        options: ExportOptions,
        #[command(flatten)]
        connection: ConnectionOptions,
    },
    /// Delete an enrollment group. Its devices' registration records and their identities at the hubs stay.
    Delete {
        /// The group.
        enrollment_group_id: EnrollmentGroupId,
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
    /// The group; may stand in --file instead.
    enrollment_group_id: Option<EnrollmentGroupId>,
    /// JSON of a whole enrollment group, which the other options change; - is standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Only devices whose registration id begins so belong to the group, and they are found faster. Harbormaster only.
    #[arg(long, value_name = "PREFIX")]
    registration_id_prefix: Option<RegistrationIdPrefix>,
    /// How its devices prove themselves [default for a new one: symmetric-key, or what the options given are for].
    #[arg(long, value_enum, value_name = "KIND")]
    attestation: Option<GroupAttestationKind>,
    #[command(flatten)]
    credentials: CredentialOptions,
    #[command(flatten)]
    settings: SettingsOptions,
}

impl EntryOptions {
    fn changes(self) -> anyhow::Result<Changes> {
        let kind = self.attestation.map(Into::into);
        let attestation = AttestationChange::read(kind, &self.credentials, None, "signingCertificates")?;
        let prefix = self.registration_id_prefix;
        Ok(Changes {
            kind: Kind::Group,
            name: self.enrollment_group_id.map(EntryName::Group),
            file: self.file,
            attestation,
            settings: self.settings,
            own: prefix.iter().map(|prefix| ("registrationIdPrefix", prefix.as_str().to_owned())).collect(),
        })
    }
}

pub(crate) fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Create(create) => {
            let changes = create.entry.changes().map_err(Failure::usage)?;
            run_command(create.common, async |client, output| entry::create(client, changes, output).await)
        }
        Command::Show { enrollment_group_id, keys, common } => {
            let name = EntryName::Group(enrollment_group_id);
            run_command(common, async |client, output| {
                entry::show(client, Kind::Group, name, keys, output).await
            })
        }
        Command::List { limit, common } => run_command(common, async |client, output| {
            entry::show_all(client, Kind::Group, limit, output).await
        }),
        Command::Update(update) => {
            let Update { entry, condition, common } = *update;
            let changes = entry.changes().map_err(Failure::usage)?;
            run_command(common, async |client, output| {
                entry::update(client, changes, condition, output).await
            })
        }
        Command::Import { options, connection } => {
            run_quietly(connection, async |client| import(client, Kind::Group, options).await)
        }
        Command::Export { options, connection } => {
            run_quietly(connection, async |client| export(client, Kind::Group, options).await)
        }
        Command::Delete { enrollment_group_id, condition, common } => {
            let name = EntryName::Group(enrollment_group_id);
            run_command(common, async |client, _| entry::delete(client, Kind::Group, name, condition).await)
        }
    }
}
