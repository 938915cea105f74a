//! `harbormaster config`: a configuration judged or shown, and nothing begun. Spec: DPS-SERVE-2, DPS-SERVE-8.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::configuration::{self, Configuration, Fault, Faults};
use crate::exit::{self, Failure};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Say all that is wrong with a configuration, or that nothing is.
    ///
    /// The files and environment variables that it names are looked at too; no port is opened and nothing is written.
    Check {
        /// The configuration.
        #[arg(long = "config", value_name = "FILE", env = "HARBORMASTER_CONFIG")]
        file: PathBuf,
    },
    /// Print a configuration as it counts, every default included; of secrets, where they lie.
    Show(ShowOptions),
}

#[derive(Args)]
pub(crate) struct ShowOptions {
    /// The configuration.
    #[arg(
        long = "config",
        value_name = "FILE",
        env = "HARBORMASTER_CONFIG",
        required_unless_present = "defaults"
    )]
    file: Option<PathBuf>,
    /// Print every key with its meaning, unit and default instead.
    #[arg(long)]
    defaults: bool,
}

pub(crate) fn run(command: Command) -> Result<ExitCode, Failure> {
    let mut out = std::io::stdout().lock();
    let file = match command {
        Command::Check { file } => {
            return match configuration::read(&file) {
                Ok(configuration) => {
                    warn(&configuration.warnings)?;
                    writeln!(out, "ok: {}", summary(&configuration))?;
                    Ok(ExitCode::SUCCESS)
                }
                Err(faults) => refuse(&faults),
            };
        }
        Command::Show(options) if options.defaults => None,
        Command::Show(options) => options.file,
    };
    let shown = match file.map(|file| configuration::read(&file)) {
        Some(Ok(configuration)) => configuration::show(&configuration),
        Some(Err(faults)) => return refuse(&faults),
        None => configuration::show_defaults(),
    };
    out.write_all(shown.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Tells all that is wrong, each on a line that begins with its place.
pub(crate) fn refuse(faults: &Faults) -> Result<ExitCode, Failure> {
    writeln!(std::io::stderr(), "{}", exit::without_system_numbers(&faults.to_string()))?;
    Ok(exit::USAGE.into())
}

fn warn(warnings: &[Fault]) -> std::io::Result<()> {
    let mut err = std::io::stderr().lock();
    warnings.iter().try_for_each(|warning| writeln!(err, "warning: {warning}"))
}

fn summary(configuration: &Configuration) -> String {
    let Configuration { listen, certificates, instances, .. } = configuration;
    let count = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    let scopes: Vec<&str> = instances.iter().map(|instance| instance.id_scope.value.as_str()).collect();
    format!(
        "{} ({}), {}, {}, {}",
        count(instances.len(), "instance"),
        scopes.join(", "),
        count(instances.iter().map(|instance| instance.hubs.len()).sum(), "hub"),
        count(certificates.len(), "certificate"),
        count(listen.mqtt.len() + listen.https.len() + 1, "listener"),
    )
}
