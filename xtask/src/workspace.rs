//! Where the workspace is, where its builds go, and what Cargo knows about its packages.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::step::{self, Failure};

/// The workspace this program belongs to.
pub(crate) struct Workspace {
    /// The folder of the workspace's Cargo.toml.
    pub(crate) root: PathBuf,
    /// Where builds go; `CARGO_TARGET_DIR` and Cargo's configuration are honoured.
    pub(crate) target: PathBuf,
    /// The answer of `cargo metadata`.
    pub(crate) metadata: Value,
}

impl Workspace {
    /// Asks Cargo.
    ///
    /// # Errors
    /// What Cargo said, where it cannot answer.
    pub(crate) fn read() -> Result<Self, Failure> {
        let step = "cargo metadata";
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let mut command = Command::new(cargo());
        command.args(["metadata", "--format-version", "1", "--manifest-path", manifest]);
        let metadata: Value = serde_json::from_str(&step::output(step, &mut command)?)
            .map_err(|error| Failure::new(step, format!("the answer is not JSON: {error}")))?;
        let folder = |member: &str| {
            let path = metadata[member].as_str().map(PathBuf::from);
            path.ok_or_else(|| Failure::new(step, format!("the answer has no {member}")))
        };
        Ok(Self { root: folder("workspace_root")?, target: folder("target_directory")?, metadata })
    }

    /// `cargo`, run at the root of the workspace with its target directory.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(cargo());
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        command
    }
}

/// The names of the workspace's own packages, in Cargo's order.
pub(crate) fn members(metadata: &Value) -> Vec<&str> {
    let ids: Vec<&str> = list(&metadata["workspace_members"]).filter_map(Value::as_str).collect();
    let packages = list(&metadata["packages"]);
    packages
        .filter(|p| p["id"].as_str().is_some_and(|id| ids.contains(&id)))
        .filter_map(|p| p["name"].as_str())
        .collect()
}

/// The elements of a JSON array; none where the value is no array.
pub(crate) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_packages_of_the_workspace_are_members() {
        let metadata = json!({
            "workspace_members": ["path+a", "path+b"],
            "packages": [
                {"id": "path+a", "name": "a"}, {"id": "registry+c", "name": "c"}, {"id": "path+b", "name": "b"},
            ],
        });
        assert_eq!(members(&metadata), ["a", "b"]);
    }

    #[test]
    fn the_workspace_is_found_from_anywhere() {
        let workspace = Workspace::read().unwrap();
        assert!(workspace.root.join("xtask/Cargo.toml").is_file());
        assert!(members(&workspace.metadata).contains(&"xtask"));
    }
}
