//! The entries of a CSV file, read one at a time. Spec: DPS-CLI-25, DPS-CLI-26.

use std::io::{self, BufRead};

use anyhow::{anyhow, bail};
use serde_json::value::to_raw_value;
use tokio::sync::mpsc;

use super::csv_header::Header;
use super::csv_record::RecordReader;
use super::entry::Kind;
use super::entry_source::Read;

/// A file whose first line was read.
pub(super) struct CsvSource<R> {
    records: RecordReader<R>,
    header: Header,
}

impl<R: BufRead> CsvSource<R> {
    /// Reads the first line.
    pub(super) fn begin(input: R, kind: Kind) -> anyhow::Result<Self> {
        let mut records = RecordReader::new(input)?;
        match records.next()? {
            None => bail!("it is empty; its first line must name the columns"),
            Some((_, record)) => {
                let header = Header::read(kind, &record?).map_err(|why| anyhow!("{why}"))?;
                Ok(Self { records, header })
            }
        }
    }

    /// Sends all entries, each with the line where it begins, until nobody takes them.
    pub(super) fn send(mut self, entries: &mpsc::Sender<Read>) -> io::Result<()> {
        while let Some((number, record)) = self.records.next()? {
            let entry = record.map_err(|why| why.to_string()).and_then(|row| self.header.entry(&row));
            let json = match entry {
                Ok(None) => continue,
                Ok(Some(entry)) => to_raw_value(&entry).map_err(|why| why.to_string()),
                Err(why) => Err(why),
            };
            if entries.blocking_send(Read::Entry { number, json }).is_err() {
                break;
            }
        }
        Ok(())
    }
}
