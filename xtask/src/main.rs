//! `cargo xtask`: what has to pass before a change lands, and the commands around it.
//!
//! Every command sets up what it needs. Progress goes to standard error, so that what the commands themselves print
//! can be piped.

mod bench;
mod borders;
mod check;
mod citations;
mod conformance;
mod earlier;
mod fuzz;
mod licences;
mod packages;
mod source;
mod spdx;
mod step;
mod test;
mod workspace;

use std::process::ExitCode;

use step::Failure;
use workspace::Workspace;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  check                      format, clippy, rustdoc, borders between crates, licences, citations of docs/spec
  test [ARG]...              build, `cargo test --workspace ARG...`, then the conformance suite
  conformance [ARG]...       the official SDKs and raw clients against the binary; ARG... goes to pytest.
                             HARBORMASTER_BINARY names a binary to test instead of building one
  bench SUBJECT [--quick]    measure `register`, `transports`, `enrollments`, `groups`, `management`, `hubs` or `storm`; docs/performance.md says how to read it
  fuzz [TARGET] [SECONDS]    fuzz one target, or all of them, for SECONDS each (60)
  help                       this text
";

/// The command line cannot be understood, as in BSD's sysexits.
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => return misused("no command"),
    };
    let done = match command {
        "check" if rest.is_empty() => Workspace::read().and_then(|workspace| check::run(&workspace)),
        "test" => Workspace::read().and_then(|workspace| test::run(&workspace, rest)),
        "conformance" => Workspace::read().and_then(|workspace| conformance::run(&workspace, rest)),
        "bench" => match bench::Plan::parse(rest) {
            Some(plan) => Workspace::read().and_then(|workspace| bench::run(&workspace, &plan)),
            None => {
                return misused(
                    "bench takes register, transports, enrollments, groups, management, hubs or storm, and perhaps --quick",
                );
            }
        },
        "fuzz" => match fuzz::Plan::parse(rest) {
            Some(plan) => Workspace::read().and_then(|workspace| fuzz::run(&workspace, &plan)),
            None => return misused("fuzz takes a target and a number of seconds"),
        },
        "help" | "-h" | "--help" => {
            eprint!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        "check" => return misused("check takes no arguments"),
        unknown => return misused(&format!("there is no command `{unknown}`")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { step, advice }) => {
            eprintln!("\nxtask: {step} failed\n{advice}");
            ExitCode::FAILURE
        }
    }
}

fn misused(why: &str) -> ExitCode {
    eprint!("xtask: {why}\n\n{USAGE}");
    ExitCode::from(EXIT_USAGE)
}
