//! Rows that are handed over together. Spec: DPS-STORE-44.

use super::Cell;

/// Most batches that wait between the two stores.
pub(crate) const BATCHES_AHEAD: usize = 4;
/// A batch is handed over once it has as many bytes: it is larger by one row at most.
const BYTES_MAX: usize = 256 * 1024;

/// Some rows of one table.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    rows: Vec<Vec<Cell>>,
    bytes: usize,
}

impl Batch {
    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        self.bytes += row.iter().map(Cell::bytes).sum::<usize>();
        self.rows.push(row);
    }

    pub(crate) fn rows(&self) -> &[Vec<Cell>] {
        &self.rows
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= BYTES_MAX
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-STORE-44
    #[test]
    fn a_batch_is_full_by_what_its_rows_hold_and_not_by_their_number() {
        for (cell, rows_at_most) in [
            (Cell::Text("x".repeat(100_000)), 3),
            (Cell::Bytes(vec![0; 100_000]), 3),
            (Cell::Texts(vec!["x".repeat(1_000); 100]), 3),
            (Cell::Null, BYTES_MAX),
        ] {
            let mut batch = Batch::default();
            assert!(batch.is_empty() && !batch.is_full());
            while !batch.is_full() {
                batch.push(vec![cell.clone()]);
            }
            assert!(batch.rows().len() <= rows_at_most, "{}", batch.rows().len());
        }
    }
}
