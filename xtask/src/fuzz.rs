//! `cargo xtask fuzz [TARGET] [SECONDS]`: one fuzz target, or all of them in turn.

use std::path::PathBuf;
use std::process::Command;

use crate::source;
use crate::step::{self, Failure};
use crate::workspace::Workspace;

/// The version that the targets are known to work with.
const CARGO_FUZZ: &str = "0.13.2";

/// Seconds per target where none are given.
const SECONDS: u64 = 60;

/// What to fuzz, and for how long.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// One target; all of them where there is none.
    target: Option<String>,
    /// Seconds per target.
    seconds: u64,
}

impl Plan {
    /// Reads `[TARGET] [SECONDS]`. `None` where the arguments are neither.
    pub(crate) fn parse(arguments: &[String]) -> Option<Self> {
        let (target, seconds) = match arguments {
            [] => (None, None),
            [one] if one.parse::<u64>().is_ok() => (None, Some(one)),
            [one] => (Some(one), None),
            [target, seconds] => (Some(target), Some(seconds)),
            _ => return None,
        };
        let seconds =
            seconds.map_or(Some(SECONDS), |text| text.parse().ok().filter(|seconds| *seconds > 0))?;
        Some(Self { target: target.cloned(), seconds })
    }
}

/// Runs the plan.
///
/// # Errors
/// The target that is unknown or found something.
pub(crate) fn run(workspace: &Workspace, plan: &Plan) -> Result<(), Failure> {
    let known: Vec<String> = source::files(&workspace.root, "fuzz/fuzz_targets", &[".rs"])?
        .iter()
        .filter_map(|file| Some(file.path.rsplit('/').next()?.strip_suffix(".rs")?.to_owned()))
        .collect();
    let targets = match &plan.target {
        Some(target) if known.contains(target) => vec![target.clone()],
        Some(target) => {
            let advice = format!("There is no target `{target}`; there are: {}", known.join(", "));
            return Err(Failure::new("fuzz", advice));
        }
        None if known.is_empty() => {
            return Err(Failure::new("fuzz", "There are no targets in fuzz/fuzz_targets."));
        }
        None => known,
    };
    let cargo_fuzz = install(workspace)?;
    for target in targets {
        let mut fuzz = Command::new(&cargo_fuzz);
        // New inputs go to the first folder; the committed one is only read.
        let found = workspace.target.join("fuzz-corpus").join(&target);
        std::fs::create_dir_all(&found)
            .map_err(|error| Failure::new("fuzz", format!("{}: {error}", found.display())))?;
        fuzz.args(["fuzz", "run", &target]).arg(&found).arg(workspace.root.join("fuzz/corpus").join(&target));
        fuzz.args(["--", &format!("-max_total_time={}", plan.seconds)]);
        // The sanitizers are nightly flags; this lets the pinned stable compiler take them.
        fuzz.current_dir(&workspace.root).env("RUSTC_BOOTSTRAP", "1");
        let advice = "The input that did it stands in fuzz/artifacts: make it a test, then mend the code.";
        step::run(&format!("fuzz {target}"), &mut fuzz, advice)?;
    }
    Ok(())
}

fn install(workspace: &Workspace) -> Result<PathBuf, Failure> {
    let folder = workspace.target.join("tools");
    let program = folder.join("bin/cargo-fuzz");
    let version = step::output("fuzz", Command::new(&program).args(["fuzz", "--version"]));
    if version.is_ok_and(|version| version.trim().ends_with(CARGO_FUZZ)) {
        return Ok(program);
    }
    let mut install = workspace.cargo();
    install
        .args(["install", "cargo-fuzz", "--version", CARGO_FUZZ, "--locked", "--force", "--root"])
        .arg(&folder);
    step::run("install cargo-fuzz", &mut install, "Installing needs crates.io.")?;
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(arguments: &[&str], expected: Option<(Option<&str>, u64)>) {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let expected = expected.map(|(target, seconds)| Plan { target: target.map(str::to_owned), seconds });
        assert_eq!(Plan::parse(&arguments), expected);
    }

    #[test]
    fn target_and_seconds_may_both_be_left_out() {
        check(&[], Some((None, SECONDS)));
        check(&["30"], Some((None, 30)));
        check(&["packet"], Some((Some("packet"), SECONDS)));
        check(&["packet", "5"], Some((Some("packet"), 5)));
    }

    #[test]
    fn what_is_neither_is_refused() {
        check(&["packet", "soon"], None);
        check(&["packet", "0"], None);
        check(&["packet", "5", "x"], None);
    }
}
