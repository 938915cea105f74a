//! One step of a command: say its name, run it, and on failure say what to do.

use std::process::{Command, Stdio};

/// A step that did not pass.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The name of the step.
    pub(crate) step: String,
    /// What was found, and what to do about it.
    pub(crate) advice: String,
}

impl Failure {
    /// A failure of `step` with its `advice`.
    pub(crate) fn new(step: &str, advice: impl Into<String>) -> Self {
        Self { step: step.to_owned(), advice: advice.into() }
    }
}

/// Says that `step` begins.
pub(crate) fn begin(step: &str) {
    eprintln!("== {step}");
}

/// Runs `command` as `step`, its output passed through.
///
/// # Errors
/// `advice` and the command line, where the command cannot be started or does not exit with 0.
pub(crate) fn run(step: &str, command: &mut Command, advice: &str) -> Result<(), Failure> {
    begin(step);
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::new(step, format!("{advice}\n({status}: {})", shown(command)))),
        Err(error) => Err(Failure::new(step, format!("cannot start {}: {error}", shown(command)))),
    }
}

/// What `command` prints on standard output.
///
/// # Errors
/// The command line and what it said on standard error, where it cannot be started or does not exit with 0.
pub(crate) fn output(step: &str, command: &mut Command) -> Result<String, Failure> {
    let output = command
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| Failure::new(step, format!("cannot start {}: {error}", shown(command))))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(step, format!("{}: {}\n{}", shown(command), output.status, said.trim_end())))
}

/// Fails `step` when there are `faults`: all of them at once, then `advice`.
///
/// # Errors
/// Each fault on a line of its own.
pub(crate) fn none(step: &str, faults: &[String], advice: &str) -> Result<(), Failure> {
    if faults.is_empty() {
        return Ok(());
    }
    Err(Failure::new(step, format!("  {}\n{advice}", faults.join("\n  "))))
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_fails_names_the_step_the_advice_and_the_command() {
        let failure = run("look", Command::new("false").arg("--x"), "Look again.").unwrap_err();
        assert_eq!(failure.step, "look");
        assert!(failure.advice.starts_with("Look again.\n(exit status: 1: false --x"), "{}", failure.advice);
    }

    #[test]
    fn a_command_that_does_not_exist_is_a_failure_and_not_a_success() {
        let failure = run("look", &mut Command::new("/nonexistent/tool"), "").unwrap_err();
        assert!(failure.advice.starts_with("cannot start /nonexistent/tool: "), "{}", failure.advice);
        assert!(output("look", &mut Command::new("/nonexistent/tool")).is_err());
    }

    #[test]
    fn output_keeps_what_a_failing_command_said() {
        let failure = output("list", Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        assert!(failure.advice.ends_with("why"), "{}", failure.advice);
    }

    #[test]
    fn faults_are_listed_all_at_once() {
        assert_eq!(none("list", &[], "Mend them."), Ok(()));
        let failure = none("list", &["one".to_owned(), "two".to_owned()], "Mend them.").unwrap_err();
        assert_eq!(failure.advice, "  one\n  two\nMend them.");
    }
}
