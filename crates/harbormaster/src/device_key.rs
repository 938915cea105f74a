//! `harbormaster device-key`: derive what a device of a group signs with. Spec: DPS-SAS-7.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Subcommand;
use dps_proto::ids::RegistrationId;
use dps_proto::key::SymmetricKey;

use crate::exit::Failure;
use crate::key_option::KeyOption;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Print the key of one device of an enrollment group.
    ///
    /// The key is Base64(HMAC-SHA256(group key, registration id)). A device holds this key and never the group's.
    Derive {
        /// The group's primary or secondary key, Base64.
        #[arg(long, env = "HARBORMASTER_GROUP_KEY", hide_env_values = true, value_parser = KeyOption)]
        group_key: SymmetricKey,
        /// The device, spelled as it will register.
        #[arg(long)]
        registration_id: RegistrationId,
    },
}

pub(crate) fn run(command: Command) -> Result<ExitCode, Failure> {
    let Command::Derive { group_key, registration_id } = command;
    let key = group_key.derive(registration_id.as_str());
    writeln!(std::io::stdout(), "{}", *key.expose_base64())?;
    Ok(ExitCode::SUCCESS)
}
