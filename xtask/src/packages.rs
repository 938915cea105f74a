//! Packages of other languages that the conformance suite needs, installed under the target directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::step::{self, Failure};

/// Written when everything is installed, so that an installation cut short is done again.
const STAMP: &str = "installed.txt";

/// What npm installs from.
const NODE_FILES: [&str; 3] = ["package.json", "package-lock.json", ".npmrc"];

/// The Python of a virtual environment in `folder` with exactly what `suite`'s requirements.txt asks for.
///
/// # Errors
/// The step that does not pass.
pub(crate) fn of_python(suite: &Path, folder: &Path) -> Result<PathBuf, Failure> {
    let step = "environment for conformance";
    let python = folder.join("bin/python");
    let requirements = suite.join("requirements.txt");
    let wanted = read(step, &requirements)? + &step::output(step, Command::new("python3").arg("--version"))?;
    if is_current(folder, &wanted) {
        return Ok(python);
    }
    let mut create = Command::new("python3");
    create.args(["-m", "venv", "--clear"]).arg(folder);
    step::run(step, &mut create, "python3 cannot make a virtual environment here.")?;
    let mut install = Command::new(&python);
    install
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(&requirements);
    step::run(step, &mut install, "Installing needs PyPI.")?;
    finish(step, folder, &wanted)?;
    Ok(python)
}

/// Makes `folder` hold exactly the `node_modules` that the lock in `source` names.
///
/// # Errors
/// The step that does not pass.
pub(crate) fn of_node(source: &Path, folder: &Path) -> Result<(), Failure> {
    let step = "npm packages for conformance";
    let files: Vec<(&str, String)> = NODE_FILES
        .into_iter()
        .map(|name| Ok((name, read(step, &source.join(name))?)))
        .collect::<Result<_, Failure>>()?;
    let mut wanted = step::output(step, Command::new("node").arg("--version"))?;
    wanted.extend(files.iter().map(|(_, text)| text.as_str()));
    if is_current(folder, &wanted) {
        return Ok(());
    }
    // A copy, as npm writes beside the lock, and nothing of that belongs into the source tree.
    fs::create_dir_all(folder).map_err(|error| at(step, folder, &error))?;
    // npm empties node_modules first; what the stamp says would not be true of it.
    match fs::remove_file(folder.join(STAMP)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(step, folder, &error)),
        _ => {}
    }
    for (name, text) in &files {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| at(step, &path, &error))?;
    }
    let mut install = Command::new("npm");
    install.args(["ci", "--loglevel=error"]).current_dir(folder);
    step::run(step, &mut install, "Installing needs an npm registry.")?;
    finish(step, folder, &wanted)
}

fn read(step: &str, path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| at(step, path, &error))
}

fn finish(step: &str, folder: &Path, wanted: &str) -> Result<(), Failure> {
    let stamp = folder.join(STAMP);
    fs::write(&stamp, wanted).map_err(|error| at(step, &stamp, &error))
}

fn is_current(folder: &Path, wanted: &str) -> bool {
    fs::read_to_string(folder.join(STAMP)).is_ok_and(|found| found == wanted)
}

fn at(step: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(step, format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_installed_again_when_they_change_or_were_never_finished() {
        let folder = std::env::temp_dir().join(format!("harbormaster-xtask-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        assert!(!is_current(&folder, "pytest==1"));
        finish("x", &folder, "pytest==1").unwrap();
        assert!(is_current(&folder, "pytest==1"));
        assert!(!is_current(&folder, "pytest==2"));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_lock_that_is_missing_is_named() {
        let failure = of_node(Path::new("/nonexistent"), Path::new("/nonexistent/target")).unwrap_err();
        assert!(failure.advice.starts_with("/nonexistent/package.json: "), "{}", failure.advice);
    }

    #[test]
    fn the_lock_names_no_registry_and_every_package_by_its_hash() {
        let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/conformance/node/package-lock.json");
        let text = fs::read_to_string(lock).unwrap();
        let lock: serde_json::Value = serde_json::from_str(&text).unwrap();
        let packages: Vec<_> = lock["packages"].as_object().unwrap().iter().collect();
        assert!(packages.len() > 1 && !text.contains("\"resolved\""));
        for (name, package) in packages.into_iter().filter(|(name, _)| !name.is_empty()) {
            assert!(package["integrity"].as_str().is_some_and(|hash| hash.starts_with("sha512-")), "{name}");
        }
    }
}
