//! `cargo xtask test`: the tests of every crate, then the conformance suite.

use crate::conformance;
use crate::earlier;
use crate::step::{self, Failure};
use crate::workspace::Workspace;

/// Builds, tests, and runs the suite against the binary just built.
///
/// # Errors
/// The first step that does not pass.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), Failure> {
    // Tests of chains need openssl: better to know before everything is built than after.
    conformance::provide_tools()?;
    // Before this version, whose binary takes its place.
    earlier::provide(workspace)?;
    // All targets at once: features are then resolved once for binaries and tests, and nothing is built twice.
    let mut build = workspace.cargo();
    build.args(["build", "--workspace", "--all-targets"]);
    step::run("build", &mut build, "Mend what the compiler names.")?;

    let mut test = workspace.cargo();
    test.args(["test", "--workspace"]).args(arguments);
    step::run("test", &mut test, "Mend what the tests name; `cargo test -p CRATE NAME` runs one alone.")?;

    conformance::run_against(workspace, &conformance::built_binary(workspace), &[])
}
