//! `cargo xtask check`: everything that can be said about a change without running it.

use crate::step::{self, Failure};
use crate::workspace::Workspace;
use crate::{borders, citations, licences};

/// Runs each check in turn.
///
/// # Errors
/// The first that does not pass.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Failure> {
    let mut format = workspace.cargo();
    format.args(["fmt", "--all", "--check"]);
    step::run("format", &mut format, "Run `cargo fmt --all`.")?;

    let mut clippy = workspace.cargo();
    clippy.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    step::run("clippy", &mut clippy, "Mend what clippy names; an `allow` needs a reason.")?;

    // A workspace of its own: nothing else would notice that it no longer fits the crates it is made of.
    let mut benchmark = workspace.cargo();
    benchmark.args(["clippy", "--locked", "--manifest-path", "bench/Cargo.toml", "--", "-D", "warnings"]);
    let advice = "Mend what clippy names; `cargo update --workspace --manifest-path bench/Cargo.toml` renews its lock file.";
    step::run("clippy of the benchmark", &mut benchmark, advice)?;

    let mut documentation = workspace.cargo();
    documentation.args(["doc", "--workspace", "--no-deps", "--document-private-items"]);
    documentation.env("RUSTDOCFLAGS", "-D warnings");
    step::run("rustdoc", &mut documentation, "Mend the documentation that rustdoc names.")?;

    step::begin("borders");
    borders::check(workspace)?;
    step::begin("licences");
    licences::check(workspace)?;
    step::begin("citations of docs/spec");
    citations::check(workspace)
}
