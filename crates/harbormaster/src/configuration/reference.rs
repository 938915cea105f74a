//! docs/configuration.md and dist/ against the table of keys. Spec: DPS-SERVE-8.

use std::fmt::Write as _;
use std::path::Path;

use super::key::{Section, Standard, sections};

fn root_file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// The part of the document about one table of the file.
fn chapter(section: &Section) -> String {
    let mut text = format!(
        "## `{}`\n\n{}\n\n| Key | What stands there | Default | Meaning |\n|---|---|---|---|\n",
        section.header(),
        section.about
    );
    for key in &section.keys {
        let default = match &key.default {
            Standard::Required => "required".to_owned(),
            Standard::Nothing(meaning) => (*meaning).to_owned(),
            Standard::Value(value) => format!("`{value}`"),
        };
        writeln!(text, "| `{}` | {} | {default} | {} |", key.name, key.form, key.meaning).unwrap();
    }
    text
}

/// DPS-SERVE-8
#[test]
fn the_document_lists_every_key_as_the_table_has_it_and_no_other() {
    let document = root_file("docs/configuration.md");
    let chapters: Vec<String> = sections().iter().map(chapter).collect();
    for chapter in &chapters {
        assert!(document.contains(chapter), "docs/configuration.md has no such chapter:\n\n{chapter}");
    }
    let rows = |text: &str| text.lines().filter(|line| line.starts_with("| `")).count();
    let expected: usize = chapters.iter().map(|chapter| rows(chapter)).sum();
    assert_eq!(rows(&document), expected, "docs/configuration.md lists a key that is not there");
}
