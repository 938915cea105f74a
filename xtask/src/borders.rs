//! The arrows between the crates: which may be drawn, what may never stand under the two pure crates, and how little of
//! dps-proto the decisions may know.
//!
//! Only normal dependencies count. A test may use what it likes.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::source::{self, SourceFile};
use crate::step::{self, Failure};
use crate::workspace::{self, Workspace, list};

/// Every arrow that may be drawn: a crate, and those of ours it may depend on.
const ARROWS: [(&str, &[&str]); 9] = [
    ("dps-proto", &[]),
    ("dps-core", &["dps-proto"]),
    ("dps-store", &["dps-core", "dps-proto"]),
    ("dps-hub", &["dps-core", "dps-proto"]),
    ("dps-server", &["dps-core", "dps-proto"]),
    ("dps-client", &["dps-proto"]),
    ("harbormaster", &["dps-client", "dps-core", "dps-hub", "dps-proto", "dps-server", "dps-store"]),
    // For tests: nothing that is shipped has an arrow to it.
    ("hub-registry", &["dps-proto"]),
    ("xtask", &[]),
];

/// The crates without IO, clock or runtime.
const PURE: [&str; 2] = ["dps-proto", "dps-core"];

/// What would bring a runtime, a socket or a database into a pure crate.
const IMPURE: [&str; 7] = ["tokio", "mio", "sqlx", "hyper", "axum", "reqwest", "rusqlite"];

/// The modules of dps-proto that dps-core may use: ids, what SAS tokens are made of and by (a connection string is a host, a policy and its
/// key), and how these are written.
const CORE_KNOWS: [&str; 7] = ["ids", "key", "sas", "connection_string", "percent", "api_version", "date"];

/// Checks the workspace.
///
/// # Errors
/// Every border that is crossed.
pub(crate) fn check(workspace: &Workspace) -> Result<(), Failure> {
    let mut faults = arrows(&workspace.metadata);
    for pure in PURE {
        // The tree of one crate alone: `cargo metadata` would count features that only other crates turn on.
        let mut tree = workspace.cargo();
        tree.args(["tree", "--package", pure, "--edges", "normal", "--prefix", "none", "--format", "{p}"]);
        faults.extend(impurities(pure, &step::output("borders", &mut tree)?));
    }
    for file in source::files(&workspace.root, "crates/dps-core/src", &[".rs"])? {
        faults.extend(wire_words(&file));
    }
    step::none("borders", &faults, "The arrows and the reasons for them stand in xtask/src/borders.rs.")
}

/// The arrows between our crates that [`ARROWS`] does not have, and crates it does not know.
fn arrows(metadata: &Value) -> Vec<String> {
    let members = workspace::members(metadata);
    let mut faults = Vec::new();
    for package in list(&metadata["packages"]) {
        let Some(name) = package["name"].as_str().filter(|name| members.contains(name)) else { continue };
        let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == name) else {
            faults.push(format!("{name}: a crate without a row in the table of arrows"));
            continue;
        };
        for dependency in list(&package["dependencies"]) {
            let Some(on) = dependency["name"].as_str().filter(|on| members.contains(on)) else { continue };
            if !dependency["kind"].is_null() {
                continue;
            }
            if !allowed.contains(&on) {
                faults.push(format!("{name} -> {on}: not an arrow of the design"));
            }
            if !dependency["rename"].is_null() {
                faults.push(format!(
                    "{name} -> {on}: renamed; our crates keep their names, so that uses can be found"
                ));
            }
        }
    }
    faults
}

/// The names of [`IMPURE`] in `tree`, which is what `cargo tree --prefix none --format {p}` says about `crate_name`.
fn impurities(crate_name: &str, tree: &str) -> Vec<String> {
    let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    let found = IMPURE.iter().filter(|name| names.contains(*name));
    let reason = "no IO and no runtime below the front ends and adapters; see `cargo tree --invert`";
    found.map(|name| format!("{crate_name} -> ... -> {name}: {reason}")).collect()
}

/// The uses of modules of dps-proto that dps-core must not know.
fn wire_words(file: &SourceFile) -> Vec<String> {
    let code = without_comments(&file.text);
    let mut faults = Vec::new();
    for (at, name) in code.match_indices("dps_proto") {
        let line = code[..at].lines().count().max(1);
        let modules = match code[at + name.len()..].trim_start().strip_prefix("::") {
            Some(rest) => first_segments(rest.trim_start()),
            None => vec!["(the whole crate)".to_owned()],
        };
        for module in modules.iter().filter(|module| !CORE_KNOWS.contains(&module.as_str())) {
            faults.push(format!(
                "{}:{line}: dps_proto::{module}: core decides and knows no wire words; it may use {} only",
                file.path,
                CORE_KNOWS.join(", "),
            ));
        }
    }
    faults
}

/// The text with each `//` comment blanked out; lines stay lines.
fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The first segments of what follows `dps_proto::`: one for a path, one per branch for a group in braces.
fn first_segments(rest: &str) -> Vec<String> {
    let Some(group) = rest.strip_prefix('{') else { return vec![segment(rest)] };
    let mut depth = 0_i32;
    let mut branches = vec![String::new()];
    for character in group.chars() {
        match character {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                branches.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(branch) = branches.last_mut() {
            branch.push(character);
        }
    }
    branches.iter().map(|branch| branch.trim()).filter(|branch| !branch.is_empty()).map(segment).collect()
}

fn segment(path: &str) -> String {
    let name: String = path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if name.is_empty() { path.chars().take(1).collect() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn metadata(package: &str, dependency: Value) -> Value {
        let names = ["dps-proto", "dps-core", "dps-server", "dps-store", "surprise"];
        let packages: Vec<Value> = names
            .iter()
            .map(|name| {
                let dependencies = if *name == package { vec![dependency.clone()] } else { vec![] };
                json!({"id": name, "name": name, "dependencies": dependencies})
            })
            .collect();
        json!({"workspace_members": ["dps-proto", "dps-core", "dps-server", "dps-store", package], "packages": packages})
    }

    #[track_caller]
    fn check_arrow(package: &str, dependency: Value, expected: &[&str]) {
        assert_eq!(arrows(&metadata(package, dependency)), expected);
    }

    #[test]
    fn an_arrow_of_the_design_passes_and_any_other_is_named() {
        let normal = |name: &str| json!({"name": name, "kind": null, "rename": null});
        check_arrow("dps-server", normal("dps-core"), &[]);
        check_arrow("dps-server", normal("serde"), &[]);
        check_arrow(
            "dps-server",
            normal("dps-store"),
            &["dps-server -> dps-store: not an arrow of the design"],
        );
        check_arrow("dps-proto", normal("dps-core"), &["dps-proto -> dps-core: not an arrow of the design"]);
        check_arrow("surprise", normal("serde"), &["surprise: a crate without a row in the table of arrows"]);
    }

    #[test]
    fn a_test_may_use_what_a_crate_may_not() {
        check_arrow("dps-server", json!({"name": "dps-store", "kind": "dev", "rename": null}), &[]);
    }

    #[test]
    fn a_renamed_crate_is_named() {
        let faults = arrows(&metadata("dps-core", json!({"name": "dps-proto", "kind": null, "rename": "p"})));
        assert!(faults.len() == 1 && faults[0].contains("renamed"), "{faults:?}");
    }

    #[test]
    fn a_runtime_below_a_pure_crate_is_named_however_deep() {
        let tree = "dps-core v0.1.0 (/w/crates/dps-core)\ntokio-util v0.7.0\nmio v1.0.0 (*)\ntokio v1.54.0\n";
        let faults = impurities("dps-core", tree);
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].starts_with("dps-core -> ... -> tokio:"), "{faults:?}");
        assert!(faults[1].starts_with("dps-core -> ... -> mio:"), "{faults:?}");
        assert!(impurities("dps-core", "dps-core v0.1.0\ntokio-util v0.7.0\n").is_empty());
    }

    #[track_caller]
    fn check_words(text: &str, expected: &[&str]) {
        let file = SourceFile { path: "core.rs".to_owned(), text: text.to_owned() };
        let faults = wire_words(&file);
        let found: Vec<&str> =
            faults.iter().map(|fault| fault.split(": core decides").next().unwrap()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn core_may_use_ids_keys_tokens_and_dates_and_nothing_else_of_proto() {
        check_words("use dps_proto::ids::IdScope;\nuse dps_proto::{key, sas::{Token, SKEW}, date};\n", &[]);
        check_words("use dps_proto::body::Answer;", &["core.rs:1: dps_proto::body"]);
        check_words(
            "\n\nuse dps_proto::{\n    ids::{A, B},\n    topic,\n    mqtt::{Packet},\n};",
            &["core.rs:3: dps_proto::topic", "core.rs:3: dps_proto::mqtt"],
        );
        check_words("fn f() { dps_proto::code::of(1) }", &["core.rs:1: dps_proto::code"]);
        check_words("use dps_proto::*;", &["core.rs:1: dps_proto::*"]);
        check_words("use dps_proto as p;", &["core.rs:1: dps_proto::(the whole crate)"]);
    }

    #[test]
    fn a_comment_may_speak_of_the_wire() {
        check_words("/// Rendered by dps_proto::body.\nfn f() {} // dps_proto::topic\n", &[]);
    }
}
