//! Harbormaster: a device provisioning service that people run themselves.
//!
//! Each command is a file; [`dev`] prepares a service, [`service`] puts store, hubs, registrar and front ends together: start
//! reading there.

mod activation;
mod admin_option;
mod argument;
mod audit;
mod backup;
mod certificate;
mod completions;
mod config;
mod configuration;
mod connection;
mod copy;
mod declared;
mod dev;
mod device;
mod device_key;
mod dry_run;
mod exit;
mod explain;
mod file_option;
mod hub_device;
mod instance;
mod instance_option;
mod invocation;
mod key_option;
mod likeness;
mod linked_hub;
mod logging;
mod manage;
mod migrate;
mod new_file;
mod pki;
mod policy;
mod restore;
mod running_dev;
mod serve;
mod service;
mod stop;
mod store_place;
mod supervisor;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use exit::Failure;

/// A registration is many small allocations; this allocator takes less of it than the C library's. See docs/performance.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A device provisioning service that people run themselves, wire-compatible with Azure IoT Hub DPS.
#[derive(Parser)]
#[command(name = "harbormaster", version, disable_help_subcommand = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a service that is ready for devices, with no configuration.
    Dev(dev::Options),
    /// Run a service from a configuration file.
    Serve(serve::Options),
    /// Check a configuration file, or show what it comes to.
    #[command(subcommand)]
    Config(config::Command),
    /// Copy a store, while a server uses it, into one file.
    Backup(backup::Options),
    /// Make a store of a backup.
    Restore(restore::Options),
    /// Bring the tables of a store to the newest version, and serve nothing.
    Migrate(migrate::Options),
    /// Copy a store from SQLite to PostgreSQL, for several nodes to go on with.
    Copy(copy::Options),
    /// Be a device.
    #[command(subcommand)]
    Device(device::Command),
    /// Work with the keys of devices.
    #[command(subcommand)]
    DeviceKey(device_key::Command),
    /// Manage individual enrollments: which devices may register.
    #[command(subcommand)]
    Enrollment(manage::enrollment::Command),
    /// Manage enrollment groups: devices that register with what they share.
    #[command(subcommand)]
    EnrollmentGroup(manage::enrollment_group::Command),
    /// Manage the CA certificates of a service instance, which groups may refer to.
    #[command(subcommand)]
    Certificate(certificate::Command),
    /// Manage service instances: ID scopes, each with hubs, policies and enrollments of its own.
    #[command(subcommand)]
    Instance(instance::Command),
    /// Manage the hubs that devices of a service instance are assigned to.
    #[command(subcommand)]
    LinkedHub(linked_hub::Command),
    /// Look at the devices of local hubs, and let them connect to the broker that is their hub or not.
    #[command(subcommand)]
    HubDevice(hub_device::Command),
    /// Manage shared access policies: who may manage a service instance, and with which keys.
    #[command(subcommand)]
    Policy(policy::Command),
    /// Make service instances what a file says: settings, hubs, policies and CA certificates.
    Apply(declared::ApplyOptions),
    /// Say what `apply` would change, and change nothing.
    Diff(declared::DiffOptions),
    /// Write the service instances of a server as a file that `apply` takes.
    Export(declared::export::Options),
    /// Who changed what, and when: entries, records, CA certificates and settings, newest first.
    Audit(audit::AuditOptions),
    /// Make and look at certificates, for a desk or a factory line.
    #[command(subcommand)]
    Pki(pki::Command),
    /// Look at registration records: what became of devices.
    #[command(subcommand)]
    Registration(manage::registration::Command),
    /// Say why a device was refused, or what would become of one.
    Explain(explain::Options),
    /// Print a script by which a shell completes commands and options.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let command_line = match CommandLine::try_parse() {
        Ok(command_line) => command_line,
        Err(why) => {
            // A closed pipe is no reason for another exit code.
            let _ = why.print();
            return if why.use_stderr() { exit::USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let logging = match &command_line.command {
        // How these log is theirs to say.
        Command::Dev(_) | Command::Serve(_) => Ok(()),
        _ => logging::start(logging::Format::Text, logging::Level::Info),
    };
    let done = logging.and_then(|()| run(command_line.command));
    match done {
        Ok(code) => code,
        Err(Failure { code, why }) => {
            let _ = writeln!(std::io::stderr(), "harbormaster: {}", exit::told(&why));
            code.into()
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Dev(options) => dev::run(options),
        Command::Serve(options) => serve::run(options),
        Command::Config(command) => config::run(command),
        Command::Backup(options) => backup::run(options),
        Command::Restore(options) => restore::run(options),
        Command::Migrate(options) => migrate::run(options),
        Command::Copy(options) => copy::run(options),
        Command::Device(command) => device::run(command),
        Command::DeviceKey(command) => device_key::run(command),
        Command::Enrollment(command) => manage::enrollment::run(command),
        Command::EnrollmentGroup(command) => manage::enrollment_group::run(command),
        Command::Certificate(command) => certificate::run(command),
        Command::Instance(command) => instance::run(command),
        Command::LinkedHub(command) => linked_hub::run(command),
        Command::HubDevice(command) => hub_device::run(command),
        Command::Policy(command) => policy::run(command),
        Command::Apply(options) => declared::apply(options),
        Command::Diff(options) => declared::diff(options),
        Command::Export(options) => declared::export::run(options),
        Command::Audit(options) => audit::run(options),
        Command::Pki(command) => pki::run(command),
        Command::Registration(command) => manage::registration::run(command),
        Command::Explain(options) => explain::run(options),
        Command::Completions { shell } => completions::run(shell, CommandLine::command()),
    }
}
