//! `harbormaster registration`: what became of devices. Records are made by registering, never by hand.

use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::Subcommand;
use dps_client::service::{Listing, Resource};
use dps_proto::ids::{EnrollmentGroupId, RegistrationId};

use super::failure::{self, Subject};
use super::table::{self, Table};
use super::{CommonOptions, DeleteCondition, Output, list, run as run_command};
use crate::argument;
use crate::exit::Failure;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List the registration records of a group's devices.
    List {
        /// The group.
        #[arg(long, value_name = "ID")]
        enrollment_group: EnrollmentGroupId,
        /// At most so many.
        #[arg(long, value_name = "NUMBER", value_parser = argument::count)]
        limit: Option<NonZeroUsize>,
        #[command(flatten)]
        common: CommonOptions,
    },
    /// Show a device's registration record.
    Show {
        /// The device.
        registration_id: RegistrationId,
        #[command(flatten)]
        common: CommonOptions,
    },
    /// Delete a device's registration record: its next registration is a first one. Its identity at the hub stays.
    Delete {
        /// The device.
        registration_id: RegistrationId,
        #[command(flatten)]
        condition: DeleteCondition,
        #[command(flatten)]
        common: CommonOptions,
    },
}

pub(crate) fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::List { enrollment_group, limit, common } => run_command(common, async |client, output| {
            let subject = Subject {
                noun: "enrollment-group",
                id: enrollment_group.to_string(),
                list: "enrollment-group list".to_owned(),
            };
            let listing = Listing::RegistrationsOf(enrollment_group);
            list(client, listing, limit, output, Table::new(&table::REGISTRATIONS), &subject).await
        }),
        Command::Show { registration_id, common } => run_command(common, async |client, output| {
            let subject = subject(&registration_id);
            let record = client.get(&Resource::Registration(registration_id)).await;
            let record = record.map_err(|why| failure::of(&why, &subject))?;
            let mut out = io::stdout().lock();
            match output {
                Output::Json => writeln!(out, "{record}")?,
                Output::Table => {
                    out.write_all(table::registration(&serde_json::from_str(record.get())?).as_bytes())?;
                }
            }
            Ok(out.flush()?)
        }),
        Command::Delete { registration_id, condition, common } => run_command(common, async |client, _| {
            let subject = subject(&registration_id);
            let record = Resource::Registration(registration_id);
            let deleted = client.delete(&record, condition.if_match().as_ref()).await;
            deleted.map_err(|why| failure::of(&why, &subject))
        }),
    }
}

fn subject(id: &RegistrationId) -> Subject {
    let list = "registration list --enrollment-group ID".to_owned();
    Subject { noun: "registration", id: id.to_string(), list }
}
