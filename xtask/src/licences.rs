//! Every package that goes into a build or a test has a licence that we accept.

use serde_json::Value;

use crate::spdx;
use crate::step::{self, Failure};
use crate::workspace::{Workspace, list};

/// The licences we accept: permissive ones, none of which asks more of a user than to keep its text.
const ALLOWED: [&str; 15] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "ISC",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "0BSD",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "OpenSSL",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Checks every package of the resolve graph.
///
/// # Errors
/// Each package whose licence is missing, unreadable or not accepted.
pub(crate) fn check(workspace: &Workspace) -> Result<(), Failure> {
    let advice = "Take another package, or add the licence to xtask/src/licences.rs with a reason.";
    step::none("licences", &refused(&workspace.metadata), advice)
}

fn refused(metadata: &Value) -> Vec<String> {
    let resolved: Vec<&str> =
        list(&metadata["resolve"]["nodes"]).filter_map(|node| node["id"].as_str()).collect();
    let mut faults = Vec::new();
    for package in list(&metadata["packages"]) {
        if !package["id"].as_str().is_some_and(|id| resolved.contains(&id)) {
            continue;
        }
        let name = format!("{} {}", text(package, "name"), text(package, "version"));
        match package["license"].as_str().map(|licence| (licence, spdx::satisfiable(licence, &ALLOWED))) {
            Some((_, Ok(true))) => {}
            Some((licence, Ok(false))) => {
                faults.push(format!("{name}: {licence} is not a licence we accept"))
            }
            Some((licence, Err(spdx::Unreadable))) => {
                faults.push(format!("{name}: cannot read the licence `{licence}`"))
            }
            None => faults.push(format!("{name}: names no licence")),
        }
    }
    faults
}

fn text<'v>(package: &'v Value, member: &str) -> &'v str {
    package[member].as_str().unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check_licence(licence: Value, expected: &[&str]) {
        let metadata = json!({
            "packages": [{"id": "x", "name": "x", "version": "1.0.0", "license": licence}],
            "resolve": {"nodes": [{"id": "x"}]},
        });
        assert_eq!(refused(&metadata), expected);
    }

    #[test]
    fn a_package_is_named_unless_its_licence_is_accepted() {
        check_licence(json!("MIT OR Apache-2.0"), &[]);
        check_licence(json!("ISC AND (Apache-2.0 OR ISC) AND OpenSSL"), &[]);
        check_licence(json!("AGPL-3.0-only"), &["x 1.0.0: AGPL-3.0-only is not a licence we accept"]);
        check_licence(json!("MIT AND"), &["x 1.0.0: cannot read the licence `MIT AND`"]);
        check_licence(json!(null), &["x 1.0.0: names no licence"]);
    }

    #[test]
    fn a_package_that_is_not_in_the_graph_does_not_matter() {
        let metadata = json!({
            "packages": [{"id": "x", "name": "x", "version": "1.0.0", "license": "AGPL-3.0-only"}],
            "resolve": {"nodes": []},
        });
        assert!(refused(&metadata).is_empty());
    }
}
