//! The statements of docs/spec against those who cite them: each by the code that makes it true and by a test.
//!
//! A range such as "1 to 8" counts for its two ends only: what stands between was not looked at one by one.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{self, SourceFile};
use crate::step::{self, Failure};
use crate::workspace::Workspace;

/// Checks the workspace.
///
/// # Errors
/// All misses at once: statements without code or test, citations without a statement.
pub(crate) fn check(workspace: &Workspace) -> Result<(), Failure> {
    let root = &workspace.root;
    let specification = source::files(root, "docs/spec", &[".md"])?;
    let mut sources = source::files(root, "crates", &[".rs"])?;
    for folder in ["tests/conformance", "fuzz"] {
        sources.extend(source::files(root, folder, &[".rs", ".py"])?);
    }
    let advice = "Cite a statement as DPS-AREA-n where the code makes it true and where a test proves it.";
    step::none("citations of docs/spec", &misses(&specification, &sources), advice)
}

/// What is wrong between the statements that `specification` makes and the citations in `sources`.
fn misses(specification: &[SourceFile], sources: &[SourceFile]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut statements: BTreeMap<(String, u32), &str> = BTreeMap::new();
    for file in specification {
        for statement in file.text.lines().filter_map(defined) {
            if let Some(other) = statements.insert(statement.clone(), &file.path) {
                faults.push(format!("{}: stated twice, in {other} and {}", shown(&statement), file.path));
            }
        }
    }
    let mut by_code = BTreeSet::new();
    let mut by_test = BTreeSet::new();
    for file in sources {
        let (code, test) = code_and_test(file);
        by_code.extend(citations(code));
        by_test.extend(citations(test));
        for statement in citations(code).into_iter().chain(citations(test)).collect::<BTreeSet<_>>() {
            if !statements.contains_key(&statement) {
                faults.push(format!(
                    "{}: cites {}, which docs/spec does not state",
                    file.path,
                    shown(&statement)
                ));
            }
        }
    }
    for (statement, path) in &statements {
        let without = match (by_code.contains(statement), by_test.contains(statement)) {
            (true, true) => continue,
            (true, false) => "no test cites it",
            (false, true) => "no code cites it",
            (false, false) => "neither code nor a test cites it",
        };
        faults.push(format!("{} ({path}): {without}", shown(statement)));
    }
    faults
}

/// The statement that a line of docs/spec makes: `- **DPS-AREA-n** ...`.
fn defined(line: &str) -> Option<(String, u32)> {
    let (name, _) = line.strip_prefix("- **")?.split_once("**")?;
    citations(name).into_iter().next()
}

/// The two halves of a file. Test code is all of a file outside `crates/*/src`, all of one named `tests` or in the suite `contract`, and the rest of
/// any file from `#[cfg(test)]` on.
fn code_and_test(file: &SourceFile) -> (&str, &str) {
    let mut folders = file.path.split('/');
    let in_src = folders.next() == Some("crates") && folders.nth(1) == Some("src");
    if !in_src
        || file.path.ends_with("/tests.rs")
        || file.path.contains("/tests/")
        || file.path.contains("/src/contract/")
    {
        return ("", &file.text);
    }
    let mut at = 0;
    for line in file.text.split_inclusive('\n') {
        if line.trim_start().starts_with("#[cfg(test)]") {
            return file.text.split_at(at);
        }
        at += line.len();
    }
    (&file.text, "")
}

/// Every `DPS-AREA-n` in `text`.
fn citations(text: &str) -> BTreeSet<(String, u32)> {
    let mut found = BTreeSet::new();
    for (at, prefix) in text.match_indices("DPS-") {
        let inside_a_word = text[..at].ends_with(|before: char| before.is_alphanumeric() || before == '-');
        let rest = &text[at + prefix.len()..];
        let chapter: String = rest.chars().take_while(char::is_ascii_uppercase).collect();
        let Some(number) = rest[chapter.len()..].strip_prefix('-') else { continue };
        let number: String = number.chars().take_while(char::is_ascii_digit).collect();
        if let (false, false, Ok(number)) = (inside_a_word, chapter.is_empty(), number.parse()) {
            found.insert((chapter, number));
        }
    }
    found
}

fn shown((chapter, number): &(String, u32)) -> String {
    format!("DPS-{chapter}-{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile { path: path.to_owned(), text: text.to_owned() }
    }

    #[track_caller]
    fn check_misses(specification: &str, sources: &[(&str, &str)], expected: &[&str]) {
        let sources: Vec<SourceFile> = sources.iter().map(|(path, text)| file(path, text)).collect();
        assert_eq!(misses(&[file("docs/spec/a.md", specification)], &sources), expected);
    }

    const ONE: &str = "# A\n- **DPS-A-1** Something.\n";

    #[test]
    fn a_statement_cited_by_code_and_by_a_test_passes() {
        check_misses(
            ONE,
            &[("crates/x/src/lib.rs", "// DPS-A-1\n#[cfg(test)]\nmod tests { /* DPS-A-1 */ }")],
            &[],
        );
        check_misses(
            ONE,
            &[("crates/x/src/lib.rs", "//! DPS-A-1"), ("tests/conformance/test_a.py", "DPS-A-1")],
            &[],
        );
        check_misses(ONE, &[("crates/x/src/lib.rs", "//! DPS-A-1"), ("crates/x/tests/a.rs", "DPS-A-1")], &[]);
        check_misses(
            ONE,
            &[("crates/x/src/lib.rs", "//! DPS-A-1"), ("fuzz/fuzz_targets/a.rs", "DPS-A-1")],
            &[],
        );
        check_misses(
            ONE,
            &[("crates/x/src/lib.rs", "//! DPS-A-1"), ("crates/x/src/y/tests.rs", "DPS-A-1")],
            &[],
        );
    }

    #[test]
    fn a_statement_that_one_side_forgets_is_named_with_that_side() {
        check_misses(ONE, &[], &["DPS-A-1 (docs/spec/a.md): neither code nor a test cites it"]);
        check_misses(
            ONE,
            &[("crates/x/src/lib.rs", "DPS-A-1")],
            &["DPS-A-1 (docs/spec/a.md): no test cites it"],
        );
        let test_only = ("crates/x/src/lib.rs", "fn f() {}\n#[cfg(test)]\nmod tests { /* DPS-A-1 */ }");
        check_misses(ONE, &[test_only], &["DPS-A-1 (docs/spec/a.md): no code cites it"]);
        check_misses(
            ONE,
            &[("tests/conformance/t.py", "DPS-A-1")],
            &["DPS-A-1 (docs/spec/a.md): no code cites it"],
        );
    }

    #[test]
    fn a_range_counts_for_its_two_ends_only() {
        let three = "- **DPS-A-1** x\n- **DPS-A-2** x\n- **DPS-A-3** x\n";
        let sources = [
            ("crates/x/src/lib.rs", "DPS-A-1 to DPS-A-3"),
            ("crates/x/tests/t.rs", "DPS-A-1 DPS-A-2 DPS-A-3"),
        ];
        check_misses(three, &sources, &["DPS-A-2 (docs/spec/a.md): no code cites it"]);
    }

    #[test]
    fn a_citation_of_nothing_is_named() {
        let cited = [("crates/x/src/lib.rs", "DPS-A-1, DPS-A-10"), ("crates/x/tests/t.rs", "DPS-A-1")];
        check_misses(ONE, &cited, &["crates/x/src/lib.rs: cites DPS-A-10, which docs/spec does not state"]);
    }

    #[test]
    fn a_statement_made_twice_is_named() {
        let twice = "- **DPS-A-1** x\n- **DPS-A-1** y\n";
        let cited = [("crates/x/src/lib.rs", "DPS-A-1"), ("crates/x/tests/t.rs", "DPS-A-1")];
        check_misses(twice, &cited, &["DPS-A-1: stated twice, in docs/spec/a.md and docs/spec/a.md"]);
    }

    #[test]
    fn prose_that_mentions_a_statement_does_not_make_it() {
        check_misses("See DPS-A-1.\n  - **DPS-A-2** indented\n| DPS-A-3 |\n", &[], &[]);
    }

    #[test]
    fn only_whole_names_are_citations() {
        assert!(citations("DPS-A DPS- DPS--1 DPS-a-1 XDPS-A-1 X-DPS-A-1 DPS-A-x").is_empty());
        assert_eq!(citations("(DPS-A-12).").into_iter().collect::<Vec<_>>(), [("A".to_owned(), 12)]);
    }
}
