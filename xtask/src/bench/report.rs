//! Tables on standard output, as Markdown, so that docs/performance.md can take them as they are.

use std::io::{self, Write as _};

use crate::step::Failure;

/// A table that is printed whole.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column heads.
    pub(super) fn new(heads: &[&str]) -> Self {
        let heads = heads.iter().map(|head| (*head).to_owned()).collect();
        let rule = Vec::new();
        Self { rows: vec![heads, rule] }
    }

    /// The next row.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Prints it under a title.
    pub(super) fn print(&self, title: &str) -> Result<(), Failure> {
        let failed = |why: io::Error| Failure::new("bench", format!("standard output: {why}"));
        let mut out = io::stdout().lock();
        write!(out, "\n{title}\n\n{}", self.text()).map_err(failed)?;
        out.flush().map_err(failed)
    }

    fn text(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let line = |cells: &Vec<String>| match cells.as_slice() {
            [] => format!("|{}\n", "---|".repeat(columns)),
            cells => format!("| {} |\n", cells.join(" | ")),
        };
        self.rows.iter().map(line).collect()
    }
}

/// A figure beside its target, judged before both are rounded to two digits.
pub(super) fn against(figure: f64, target: f64) -> String {
    let verdict = if figure <= target { "met" } else { "missed" };
    format!("{figure:.2} (at most {target:.2}: {verdict})")
}

/// As [`against`], for a figure that is better the higher it is.
pub(super) fn at_least(figure: f64, target: f64) -> String {
    let verdict = if figure >= target { "met" } else { "missed" };
    format!("{figure:.2} (at least {target:.2}: {verdict})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_markdown() {
        let mut table = Table::new(&["", "CPU"]);
        table.row(["floor".to_owned(), "1".to_owned()]);
        assert_eq!(table.text(), "|  | CPU |\n|---|---|\n| floor | 1 |\n");
    }

    #[test]
    fn a_target_stands_beside_its_figure() {
        assert_eq!(against(1.5, 1.5), "1.50 (at most 1.50: met)");
        assert_eq!(against(1.502, 1.5), "1.50 (at most 1.50: missed)");
        assert_eq!(against(1.61, 1.5), "1.61 (at most 1.50: missed)");
        assert_eq!(against(f64::NAN, 1.5), "NaN (at most 1.50: missed)");
        assert_eq!(at_least(0.5, 0.5), "0.50 (at least 0.50: met)");
        assert_eq!(at_least(0.498, 0.5), "0.50 (at least 0.50: missed)");
        assert_eq!(at_least(f64::NAN, 0.5), "NaN (at least 0.50: missed)");
    }
}
