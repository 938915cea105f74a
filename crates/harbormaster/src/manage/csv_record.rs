//! Records of CSV as RFC 4180 has them; a line may end in LF alone. Spec: DPS-CLI-25.
//!
//! Stricter than spreadsheets are: what they would mend by a guess is refused, and the guess might have been another entry.

use std::io::{self, BufRead, Write};

/// Most bytes of one record.
pub(super) const RECORD_BYTES_MAX: usize = 1024 * 1024;

/// The cells of one record. They may be keys, so it has no `Debug`.
#[derive(Default)]
pub(super) struct Record {
    text: Vec<u8>,
    /// Where in `text` each cell ends.
    ends: Vec<usize>,
}

impl Record {
    /// The cells, as they were before they were quoted.
    pub(super) fn cells(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.ends.iter().enumerate().map(|(at, &end)| {
            let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.text[start..end]
        })
    }
}

/// Why a record cannot be read. Lines are counted from 1.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadRecord {
    #[error("it is larger than {RECORD_BYTES_MAX} bytes")]
    TooLarge,
    #[error("line {0}: a quote stands in a cell that does not begin with one")]
    QuoteWithin(u64),
    #[error("line {0}: a closing quote has neither a comma nor the end of the line behind it")]
    BehindQuote(u64),
    #[error("a quote is opened in line {0} and never closed")]
    Unclosed(u64),
}

/// Reads one record after the other. A byte order mark before the first is skipped.
pub(super) struct RecordReader<R> {
    input: R,
    /// That of the next byte.
    line: u64,
}

impl<R: BufRead> RecordReader<R> {
    /// Begins to read.
    pub(super) fn new(mut input: R) -> io::Result<Self> {
        // A buffer holds the mark whole, unless somebody types it.
        if input.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
            input.consume(3);
        }
        Ok(Self { input, line: 1 })
    }

    /// The next record and the line where it begins. After one that cannot be read, the next begins with a line.
    pub(super) fn next(&mut self) -> io::Result<Option<(u64, Result<Record, BadRecord>)>> {
        let first_line = self.line;
        let mut parser = Parser::default();
        loop {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                return Ok((parser.bytes > 0).then(|| (first_line, parser.end())));
            }
            for (at, &byte) in buffer.iter().enumerate() {
                let is_end = parser.take(byte, self.line);
                self.line += u64::from(byte == b'\n');
                if is_end {
                    self.input.consume(at + 1);
                    return Ok(Some((first_line, parser.end())));
                }
            }
            let length = buffer.len();
            self.input.consume(length);
        }
    }
}

/// Where in a record the next byte stands.
#[derive(Default, Clone, Copy)]
enum Place {
    #[default]
    CellBegins,
    Plain,
    Quoted {
        since: u64,
    },
    /// Behind a quote that ends the cell, or is the first of two that mean one.
    Quote {
        since: u64,
    },
    /// Behind the CR that follows a closing quote.
    Return,
    /// In the rest of the line of what cannot be read.
    Bad,
}

#[derive(Default)]
struct Parser {
    record: Record,
    place: Place,
    bytes: usize,
    bad: Option<BadRecord>,
}

impl Parser {
    /// Whether the record ends with this byte.
    fn take(&mut self, byte: u8, line: u64) -> bool {
        self.bytes += 1;
        if self.bytes > RECORD_BYTES_MAX && self.bad.is_none() {
            // Its end is still looked for: a line within a quoted cell is no record.
            self.bad = Some(BadRecord::TooLarge);
            self.record = Record::default();
        }
        self.place = match (self.place, byte) {
            (Place::Quoted { since }, b'"') => Place::Quote { since },
            (Place::Quote { since }, b'"') => {
                self.push(b'"');
                Place::Quoted { since }
            }
            (Place::Quoted { since }, _) => {
                self.push(byte);
                Place::Quoted { since }
            }
            (_, b'\n') => return true,
            (Place::Bad, _) => Place::Bad,
            (Place::CellBegins | Place::Plain | Place::Quote { .. }, b',') => {
                self.end_cell();
                Place::CellBegins
            }
            (Place::Quote { .. }, b'\r') => Place::Return,
            (Place::Quote { .. } | Place::Return, _) => self.give_up(BadRecord::BehindQuote(line)),
            (Place::CellBegins, b'"') => Place::Quoted { since: line },
            (Place::Plain, b'"') => self.give_up(BadRecord::QuoteWithin(line)),
            (Place::CellBegins | Place::Plain, _) => {
                self.push(byte);
                Place::Plain
            }
        };
        false
    }

    fn push(&mut self, byte: u8) {
        if self.bad.is_none() {
            self.record.text.push(byte);
        }
    }

    fn end_cell(&mut self) {
        if self.bad.is_none() {
            self.record.ends.push(self.record.text.len());
        }
    }

    fn give_up(&mut self, why: BadRecord) -> Place {
        self.bad.get_or_insert(why);
        Place::Bad
    }

    /// What was read, where the record ends, or the file.
    fn end(mut self) -> Result<Record, BadRecord> {
        match self.place {
            Place::Quoted { since } => return Err(BadRecord::Unclosed(since)),
            Place::Plain => {
                // That of CRLF: one that belongs to a cell stands in quotes.
                let start = self.record.ends.last().copied().unwrap_or_default();
                if self.record.text.get(start..).is_some_and(|cell| cell.ends_with(b"\r")) {
                    self.record.text.pop();
                }
                self.end_cell();
            }
            Place::CellBegins | Place::Quote { .. } | Place::Return => self.end_cell(),
            Place::Bad => {}
        }
        self.bad.map_or(Ok(self.record), Err)
    }
}

/// Writes one record.
pub(super) fn write<'c>(out: &mut impl Write, cells: impl IntoIterator<Item = &'c str>) -> io::Result<()> {
    let mut separator = "";
    for cell in cells {
        out.write_all(separator.as_bytes())?;
        if cell.contains(['"', ',', '\r', '\n']) {
            write!(out, "\"{}\"", cell.replace('"', "\"\""))?;
        } else {
            out.write_all(cell.as_bytes())?;
        }
        separator = ",";
    }
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    type Read = (u64, Result<Vec<String>, BadRecord>);

    fn read_through(input: impl BufRead) -> Vec<Read> {
        let mut reader = RecordReader::new(input).unwrap();
        let mut records = Vec::new();
        while let Some((line, record)) = reader.next().unwrap() {
            let cells = |record: Record| {
                record.cells().map(|cell| String::from_utf8(cell.to_vec()).unwrap()).collect::<Vec<_>>()
            };
            records.push((line, record.map(cells)));
        }
        records
    }

    fn read(text: &str) -> Vec<Read> {
        let records = read_through(text.as_bytes());
        // Wherever the buffer ends.
        let mark = if text.starts_with('\u{feff}') { 3 } else { 1 };
        assert_eq!(read_through(io::BufReader::with_capacity(mark, text.as_bytes())), records, "{text:?}");
        records
    }

    fn record(line: u64, cells: &[&str]) -> Read {
        (line, Ok(cells.iter().map(|cell| (*cell).to_owned()).collect()))
    }

    /// DPS-CLI-25
    #[test]
    fn records_begin_where_their_lines_do() {
        let two = [record(1, &["a", "b"]), record(2, &["1", ""])];
        for text in [
            "a,b\n1,\n",
            "a,b\r\n1,\r\n",
            "a,b\n1,",
            "\u{feff}a,b\n1,\n",
            "\"a\",\"b\"\n\"1\",\"\"\n",
            "\"a\",\"b\"\r\n\"1\",\"\"\r\n",
            "a,b\r\n1,\"\"\r",
        ] {
            assert_eq!(read(text), two, "{text:?}");
        }
        let text = "a,\"x\r\n,\"\"y\"\"\n\"\r\n\r\nb, c \n";
        assert_eq!(
            read(text),
            [record(1, &["a", "x\r\n,\"y\"\n"]), record(4, &[""]), record(5, &["b", " c "])]
        );
        assert_eq!(read(""), []);
        assert_eq!(read("\u{feff}"), []);
    }

    /// DPS-CLI-25: and what follows is read.
    #[test]
    fn what_is_no_record_is_refused_with_its_line_and_no_guess() {
        for (bad, why) in [
            ("a\"b\",c", BadRecord::QuoteWithin(2)),
            ("\"a\"b,c", BadRecord::BehindQuote(2)),
            ("\"a\" ,c", BadRecord::BehindQuote(2)),
            ("\"a\"\rb,c", BadRecord::BehindQuote(2)),
            ("\"a\nb\"c", BadRecord::BehindQuote(3)),
        ] {
            let lines = bad.matches('\n').count() as u64;
            let expected = [record(1, &["x"]), (2, Err(why)), record(3 + lines, &["y"])];
            assert_eq!(read(&format!("x\n{bad}\ny\n")), expected, "{bad}");
        }
        assert_eq!(read("x\na,\"b\ny\nz\n"), [record(1, &["x"]), (2, Err(BadRecord::Unclosed(2)))]);
    }

    /// DPS-CLI-25: a line within a cell is no record, however large the cell is.
    #[test]
    fn a_record_that_is_too_large_is_not_kept_and_its_end_is_found() {
        let cell = |bytes: usize| "x".repeat(bytes);
        let fits = format!("{}\n", cell(RECORD_BYTES_MAX - 1));
        assert_eq!(read_through(fits.as_bytes()), [record(1, &[fits.trim_end()])]);
        for large in [cell(RECORD_BYTES_MAX + 1), format!("\"{0}\nno,record\n{0}\"", cell(RECORD_BYTES_MAX))]
        {
            let lines = large.matches('\n').count() as u64;
            let expected = [(1, Err(BadRecord::TooLarge)), record(2 + lines, &["y"])];
            assert_eq!(read_through(format!("{large}\ny\n").as_bytes()), expected);
        }
        let mut parser = Parser::default();
        for _ in 0..3 * RECORD_BYTES_MAX {
            parser.take(b',', 1);
        }
        assert_eq!((parser.record.text.capacity(), parser.record.ends.capacity()), (0, 0));
    }

    proptest! {
        /// DPS-CLI-25
        #[test]
        fn what_is_written_is_read(
            records in vec(vec("[a\",\r\n =\u{feff}é]{0,6}", 2..5), 0..6),
        ) {
            let mut text = Vec::new();
            for cells in &records {
                write(&mut text, cells.iter().map(String::as_str)).unwrap();
            }
            // The mark at the beginning would be that of the file.
            prop_assume!(!text.starts_with("\u{feff}".as_bytes()));
            let read: Vec<_> = read_through(&*text).into_iter().map(|(_, record)| record.unwrap()).collect();
            prop_assert_eq!(read, records);
        }
    }
}
