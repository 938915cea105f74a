//! A binary of an earlier version, beside which nodes of this one have to run while a deployment is brought from one to the other.
//! It is built of this repository's own history.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::step::{self, Failure};
use crate::workspace::Workspace;

/// The commit of that version. Nothing has been released yet, so it is the first one that several nodes could run of; from then on
/// it is the release before.
const COMMIT: &str = "2398dd96557edeeb773cc59673368591ac708408";

const STEP: &str = "an earlier version";

/// Where its binary is; it is built where it is not there yet. That leaves it where the binary of this version is built, too: build this one
/// afterwards.
///
/// # Errors
/// The step that does not pass.
pub(crate) fn provide(workspace: &Workspace) -> Result<PathBuf, Failure> {
    let folder = workspace.target.join("earlier").join(COMMIT);
    let binary = folder.join("harbormaster");
    if binary.exists() {
        return Ok(binary);
    }
    let failed = |why: std::io::Error| Failure::new(STEP, format!("{}: {why}", folder.display()));
    let source = folder.join("source");
    fs::create_dir_all(&source).map_err(failed)?;
    let archive = folder.join("source.tar");
    let mut git = Command::new("git");
    git.arg("-C").arg(&workspace.root).args(["archive", "--output"]).arg(&archive).arg(COMMIT);
    step::run(STEP, &mut git, "The whole history is needed: `git fetch --unshallow`.")?;
    let mut tar = Command::new("tar");
    tar.arg("-xf").arg(&archive).arg("-C").arg(&source);
    step::run("unpack it", &mut tar, "Install tar.")?;
    let mut build = workspace.cargo();
    // In the same target directory: most of what it is made of is the same.
    build.args(["build", "--locked", "--package", "harbormaster"]).current_dir(&source);
    step::run("build it", &mut build, "It was built before: what the compiler names is about the machine.")?;
    // Under another name first, so that there is a whole binary or none.
    let copy = folder.join("harbormaster.new");
    fs::copy(workspace.target.join("debug/harbormaster"), &copy).map_err(failed)?;
    fs::rename(&copy, &binary).map_err(failed)?;
    Ok(binary)
}
