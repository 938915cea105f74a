//! A file of entries, read one at a time: JSON Lines, one JSON array as `az` and the query API print it, or CSV.
//! Spec: DPS-CLI-21, DPS-CLI-25.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::Context as _;
use serde::Deserializer as _;
use serde::de::{SeqAccess, Visitor};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::FileFormat;
use super::csv_source::CsvSource;
use super::entry::Kind;

/// Most bytes of one entry.
const ENTRY_BYTES_MAX: usize = 1024 * 1024;

/// Entries that were read and wait.
const WAITING_MAX: usize = 64;

/// What comes next of a file.
pub(super) enum Read {
    /// One entry.
    Entry {
        /// The line where it begins, or its place in the array; the first is 1.
        number: u64,
        /// Or why it is none.
        json: Result<Box<RawValue>, String>,
    },
    /// The rest cannot be read.
    Broken(String),
}

/// What comes of a file.
pub(super) struct EntrySource {
    pub(super) entries: mpsc::Receiver<Read>,
    /// Bytes of the file that were read so far.
    pub(super) bytes_read: Arc<AtomicU64>,
    /// All of them, where that is known.
    pub(super) bytes: Option<u64>,
}

impl EntrySource {
    /// Begins to read; `-` is standard input. Of CSV the first line is read at once, so that what it says can be refused.
    pub(super) fn open(path: &Path, format: FileFormat, kind: Kind) -> anyhow::Result<Self> {
        let (input, bytes): (Box<dyn io::Read + Send>, _) = if path == Path::new("-") {
            (Box::new(io::stdin()), None)
        } else {
            let file = File::open(path).with_context(|| path.display().to_string())?;
            let bytes = file.metadata().ok().filter(|metadata| metadata.is_file()).map(|it| it.len());
            (Box::new(file), bytes)
        };
        let bytes_read = Arc::new(AtomicU64::new(0));
        let entry_since = Arc::new(AtomicU64::new(u64::MAX));
        let counted =
            Counted { input, bytes_read: Arc::clone(&bytes_read), entry_since: Arc::clone(&entry_since) };
        let (sender, entries) = mpsc::channel(WAITING_MAX);
        let input = BufReader::with_capacity(64 * 1024, counted);
        let input = match format {
            FileFormat::Jsonl => Input::Json(input),
            FileFormat::Csv => {
                Input::Csv(CsvSource::begin(input, kind).with_context(|| path.display().to_string())?)
            }
        };
        // It ends with the file, or when nobody takes what it reads.
        thread::Builder::new().name("entry-source".to_owned()).spawn(move || {
            let sent = match input {
                Input::Json(mut input) => read(&mut input, &entry_since, &sender),
                Input::Csv(source) => source.send(&sender),
            };
            if let Err(why) = sent {
                let _ = sender.blocking_send(Read::Broken(why.to_string()));
            }
        })?;
        Ok(Self { entries, bytes_read, bytes })
    }
}

enum Input {
    Json(BufReader<Counted>),
    Csv(CsvSource<BufReader<Counted>>),
}

struct Counted {
    input: Box<dyn io::Read + Send>,
    bytes_read: Arc<AtomicU64>,
    /// How much had been read when the last entry of an array ended.
    entry_since: Arc<AtomicU64>,
}

impl io::Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let of_entry =
            self.bytes_read.load(Ordering::Relaxed).saturating_sub(self.entry_since.load(Ordering::Relaxed));
        if of_entry > 2 * ENTRY_BYTES_MAX as u64 {
            return Err(io::Error::other(format!("an entry is larger than {ENTRY_BYTES_MAX} bytes")));
        }
        let length = self.input.read(buffer)?;
        self.bytes_read.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

fn read(
    input: &mut BufReader<Counted>,
    entry_since: &AtomicU64,
    entries: &mpsc::Sender<Read>,
) -> io::Result<()> {
    let skipped = skip_white_space(input)?;
    match input.fill_buf()?.first() {
        Some(b'[') => {
            let bytes_read = Arc::clone(&input.get_ref().bytes_read);
            let mark = || entry_since.store(bytes_read.load(Ordering::Relaxed), Ordering::Relaxed);
            mark();
            let mut json = serde_json::Deserializer::from_reader(input);
            json.deserialize_seq(Array { entries, mark: &mark })?;
            json.end()?;
            Ok(())
        }
        Some(_) => lines(input, skipped + 1, entries),
        None => Ok(()),
    }
}

/// How many lines it were.
fn skip_white_space(input: &mut impl BufRead) -> io::Result<u64> {
    let mut lines = 0;
    loop {
        let buffer = input.fill_buf()?;
        // A byte order mark, as editors on Windows write it, is none of JSON's.
        let white =
            buffer.iter().take_while(|byte| byte.is_ascii_whitespace() || b"\xef\xbb\xbf".contains(byte));
        let length = white.clone().count();
        lines += white.filter(|byte| **byte == b'\n').count() as u64;
        let is_all = length == buffer.len() && length > 0;
        input.consume(length);
        if !is_all {
            return Ok(lines);
        }
    }
}

fn lines(input: &mut impl BufRead, first: u64, entries: &mpsc::Sender<Read>) -> io::Result<()> {
    for number in first.. {
        let mut line = Vec::new();
        let length = input.by_ref().take(ENTRY_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line)?;
        if length == 0 {
            break;
        }
        let json = if length > ENTRY_BYTES_MAX {
            if line.last() != Some(&b'\n') {
                input.skip_until(b'\n')?;
            }
            Err(format!("it is larger than {ENTRY_BYTES_MAX} bytes"))
        } else if line.trim_ascii().is_empty() {
            continue;
        } else {
            serde_json::from_slice(&line).map_err(|why| format!("no JSON: {why}"))
        };
        if entries.blocking_send(Read::Entry { number, json }).is_err() {
            break;
        }
    }
    Ok(())
}

struct Array<'s> {
    entries: &'s mpsc::Sender<Read>,
    /// Called behind each entry.
    mark: &'s dyn Fn(),
}

impl<'de> Visitor<'de> for Array<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        let mut number = 0;
        while let Some(json) = array.next_element::<Box<RawValue>>()? {
            (self.mark)();
            number += 1;
            let json = match json.get().len() {
                ..=ENTRY_BYTES_MAX => Ok(json),
                _ => Err(format!("it is larger than {ENTRY_BYTES_MAX} bytes")),
            };
            if self.entries.blocking_send(Read::Entry { number, json }).is_err() {
                return Err(serde::de::Error::custom("nobody takes the entries"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(text: &[u8]) -> Vec<(u64, Result<String, String>)> {
        read_all_of(text, FileFormat::Jsonl)
    }

    fn read_all_of(text: &[u8], format: FileFormat) -> Vec<(u64, Result<String, String>)> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut source = EntrySource::open(file.path(), format, Kind::Individual).unwrap();
        assert_eq!(source.bytes, Some(text.len() as u64));
        let mut entries = Vec::new();
        while let Some(read) = source.entries.blocking_recv() {
            entries.push(match read {
                Read::Entry { number, json } => (number, json.map(|json| json.get().to_owned())),
                Read::Broken(why) => (0, Err(why)),
            });
        }
        assert_eq!(source.bytes_read.load(Ordering::Relaxed), text.len() as u64);
        entries
    }

    /// DPS-CLI-21
    #[test]
    fn lines_and_arrays_hold_the_same_entries() {
        let (a, b) = ((1, Ok(r#"{"n":1.10}"#.to_owned())), (2, Ok(r#"{"m":"]"}"#.to_owned())));
        for text in [
            "{\"n\":1.10}\n{\"m\":\"]\"}\n",
            "{\"n\":1.10}\r\n{\"m\":\"]\"}",
            "\u{feff}{\"n\":1.10}\n{\"m\":\"]\"}\n\n",
            "[{\"n\":1.10},{\"m\":\"]\"}]",
            "\n [\n  {\"n\":1.10},\n  {\"m\":\"]\"}\n]\n",
        ] {
            assert_eq!(read_all(text.as_bytes()), [a.clone(), b.clone()], "{text}");
        }
        for nothing in ["", "\n\n", "[]"] {
            assert_eq!(read_all(nothing.as_bytes()), [], "{nothing:?}");
        }
    }

    /// DPS-CLI-21: the others are read all the same, where it can be told where they begin.
    #[test]
    fn what_is_no_entry_is_named_by_its_place() {
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(ENTRY_BYTES_MAX));
        let read = read_all(format!("\n{{\"a\":1}}\n{{\"a\":\n{large}\n{{\"a\":2}}").as_bytes());
        let numbers: Vec<_> = read.iter().map(|(number, json)| (*number, json.is_ok())).collect();
        assert_eq!(numbers, [(2, true), (3, false), (4, false), (5, true)]);
        // As large as may be, and a byte more, which is the end of its line.
        for (bytes, is_ok) in [(ENTRY_BYTES_MAX - 1, true), (ENTRY_BYTES_MAX, false)] {
            let line = format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
            let read = read_all(format!("{line}\n{{\"a\":2}}\n").as_bytes());
            let numbers: Vec<_> = read.iter().map(|(number, json)| (*number, json.is_ok())).collect();
            assert_eq!(numbers, [(1, is_ok), (2, true)]);
        }
        let read = read_all(format!("[{{}},{large},{{}}]").as_bytes());
        let numbers: Vec<_> = read.iter().map(|(number, json)| (*number, json.is_ok())).collect();
        assert_eq!(numbers, [(1, true), (2, false), (3, true)]);
        let read = read_all(b"[{\"a\":1},{\"a\":]");
        assert_eq!(
            read.iter().map(|(number, json)| (*number, json.is_ok())).collect::<Vec<_>>(),
            [(1, true), (0, false)]
        );
    }

    /// DPS-CLI-25
    #[test]
    fn rows_are_entries_with_the_lines_where_they_begin() {
        let text = "\u{feff}registrationId,attestation.x509.clientCertificates.primary.certificate\r\n\
                    a,\"BEGIN\r\nEND\"\r\n\r\nb,\"x\"y\r\nc,\r\n";
        let with = |certificate: &str| {
            let primary = format!(r#"{{"primary":{{"certificate":"{certificate}"}}}}"#);
            format!(r#"{{"registrationId":"a","attestation":{{"x509":{{"clientCertificates":{primary}}}}}}}"#)
        };
        let why = "line 5: a closing quote has neither a comma nor the end of the line behind it";
        let expected = [
            (2, Ok(with(r"BEGIN\r\nEND"))),
            (5, Err(why.to_owned())),
            (6, Ok(r#"{"registrationId":"c"}"#.to_owned())),
        ];
        assert_eq!(read_all_of(text.as_bytes(), FileFormat::Csv), expected);
        assert_eq!(read_all_of(b"registrationId\n", FileFormat::Csv), []);
    }

    /// DPS-CLI-26: before anything is sent.
    #[test]
    fn a_file_whose_first_line_cannot_be_used_is_not_opened() {
        for (text, why) in [
            ("", "it is empty; its first line must name the columns"),
            ("registrationid\n", "did you mean registrationId?"),
            ("\"registrationId\n", "a quote is opened in line 1 and never closed"),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            let opened = EntrySource::open(file.path(), FileFormat::Csv, Kind::Individual);
            let refused = format!("{:#}", opened.map(drop).unwrap_err());
            assert!(refused.contains(why) && refused.starts_with(file.path().to_str().unwrap()), "{refused}");
        }
    }

    /// DPS-CLI-21: one entry that never ends is not kept.
    #[test]
    fn an_array_is_not_read_past_an_entry_that_is_far_too_large() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(
            &mut file,
            format!("[{{}},\"{}\"]", "x".repeat(8 * ENTRY_BYTES_MAX)).as_bytes(),
        )
        .unwrap();
        let mut source = EntrySource::open(file.path(), FileFormat::Jsonl, Kind::Individual).unwrap();
        assert!(matches!(source.entries.blocking_recv(), Some(Read::Entry { number: 1, json: Ok(_) })));
        let Some(Read::Broken(why)) = source.entries.blocking_recv() else { panic!() };
        assert!(why.contains("larger than"), "{why}");
        assert!(source.bytes_read.load(Ordering::Relaxed) < 3 * ENTRY_BYTES_MAX as u64);
    }
}
