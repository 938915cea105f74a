//! `harbormaster completions`: what a shell completes. Spec: DPS-CLI-16.

use std::io::Write as _;
use std::process::ExitCode;

use clap_complete::Shell;

use crate::exit::Failure;

/// Prints the script of a shell for the whole command line.
pub(crate) fn run(shell: Shell, mut command_line: clap::Command) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command_line, "harbormaster", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
