//! Entries of a file, written many at a time. Spec: DPS-CLI-21 to DPS-CLI-23.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use dps_client::service::{
    BULK_ENTRIES_MAX, BulkFailure, BulkMode, Listing, Refusal, ServiceClient, ServiceError,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::value::RawValue;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::FileFormat;
use super::document::EntryDocument;
use super::entry::Kind;
use super::entry_source::{EntrySource, Read};
use super::failure;
use super::table::printable;
use crate::argument;
use crate::exit::{self, Failure};

/// Requests that are under way at one time, each on a connection of its own: the service commits together what comes together.
const CONNECTIONS: usize = 32;

/// Most bytes of the entries of one request.
const BATCH_BYTES_MAX: usize = 900 * 1024;

/// How often a request is sent that the service has no time for, and how long between: what it does not say itself, and the most.
const TRIES_MAX: u32 = 10;
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(3);
const TRY_AGAIN_AFTER_MAX: Duration = Duration::from_secs(60);

/// What is imported, and how.
#[derive(Args)]
pub(crate) struct ImportOptions {
    /// JSON Lines, a JSON array as `az` and the query API print it, or CSV; - is standard input.
    file: PathBuf,
    /// How the file is written [default: csv if its name ends in .csv, else jsonl].
    #[arg(long, value_enum)]
    format: Option<FileFormat>,
    /// Replace entries that exist. Keys that the file leaves out stay, if --new-keys lets such entries in.
    #[arg(long, conflicts_with = "skip_existing")]
    replace: bool,
    /// Leave entries that exist as they are, and do not count them as refused: to go on after an import that ended early.
    #[arg(long)]
    skip_existing: bool,
    /// Import entries with symmetric keys that the file leaves out, too: the service makes new ones, or keeps those that it has.
    #[arg(long)]
    new_keys: bool,
    /// Begin with this line, or place in the array.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = argument::number)]
    from: u64,
}

/// An entry that can be sent.
struct Item {
    number: u64,
    id: String,
    json: Box<RawValue>,
}

/// What became of a batch.
struct Written {
    first: u64,
    outcome: Result<Batch, ServiceError>,
}

#[derive(Default)]
struct Batch {
    done: u64,
    existing: u64,
    refused: Vec<(u64, String)>,
}

/// Counts, and tells what is refused.
struct Report {
    bar: ProgressBar,
    /// The options with which to go on.
    go_on_with: String,
    done: u64,
    existing: u64,
    refused: u64,
}

/// Imports a file.
pub(super) async fn import(
    client: &mut ServiceClient,
    kind: Kind,
    options: ImportOptions,
) -> Result<(), Failure> {
    let format = options.format.unwrap_or_else(|| FileFormat::of(&options.file));
    let mut source = EntrySource::open(&options.file, format, kind).map_err(Failure::usage)?;
    let go_on_with = match (options.replace, options.new_keys) {
        (true, true) => "--replace --new-keys",
        (true, false) => "--replace",
        (false, true) => "--skip-existing --new-keys",
        (false, false) => "--skip-existing",
    };
    let given_format = match options.format {
        Some(FileFormat::Csv) => " --format csv",
        Some(FileFormat::Jsonl) => " --format jsonl",
        None => "",
    };
    let mut report = Report::new(source.bytes, format!("{go_on_with}{given_format}"));
    let (batches, waiting) = mpsc::channel::<Vec<Item>>(CONNECTIONS);
    let (told, mut written) = mpsc::channel(CONNECTIONS);
    let waiting = Arc::new(Mutex::new(waiting));
    let mut workers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (mut client, waiting, told) = (client.another(), Arc::clone(&waiting), told.clone());
        let (replace, skip_existing) = (options.replace, options.skip_existing);
        workers.spawn(async move {
            loop {
                let Some(batch) = waiting.lock().await.recv().await else { break };
                let first = batch.first().map_or(0, |item| item.number);
                let outcome = write(&mut client, kind, batch, replace, skip_existing).await;
                if told.send(Written { first, outcome }).await.is_err() {
                    break;
                }
            }
        });
    }
    drop((told, waiting));

    let mut batch = NextBatch::default();
    let mut under_way = UnderWay::default();
    let mut is_read = false;
    let mut batches = Some(batches);
    loop {
        if let Some(batches) = &batches
            && batch.is_ready(is_read)
        {
            tokio::select! {
                Some(done) = written.recv() => report.count(done, &mut under_way, kind)?,
                // The first of two entries with one id is the one that is written first.
                Ok(room) = batches.reserve(), if !under_way.holds_any_of(&batch.items) => {
                    let items = batch.take();
                    under_way.add(&items);
                    room.send(items);
                }
            }
            continue;
        }
        if is_read {
            batches = None;
            match written.recv().await {
                Some(done) => report.count(done, &mut under_way, kind)?,
                None => break,
            }
            continue;
        }
        tokio::select! {
            entry = source.entries.recv() => match entry {
                None => is_read = true,
                Some(Read::Broken(why)) => report.refuse("the rest of the file", &why),
                Some(Read::Entry { number, .. }) if number < options.from => {}
                Some(Read::Entry { number, json }) => match item(kind, number, json, options.new_keys) {
                    Ok(item) => batch.push(item),
                    Err(why) => report.refuse(&place(number), &why),
                },
            },
            Some(done) = written.recv() => report.count(done, &mut under_way, kind)?,
        }
        report.bar.set_position(source.bytes_read.load(Ordering::Relaxed));
    }
    report.end()
}

/// The ids of what is under way, folded, by its first entry.
#[derive(Default)]
struct UnderWay {
    batches: BTreeMap<u64, Vec<String>>,
    ids: HashSet<String>,
}

impl UnderWay {
    fn add(&mut self, items: &[Item]) {
        let Some(first) = items.first() else { return };
        let ids: Vec<_> = items.iter().map(|item| item.id.to_ascii_lowercase()).collect();
        self.ids.extend(ids.iter().cloned());
        self.batches.insert(first.number, ids);
    }

    fn remove(&mut self, first: u64) {
        for id in self.batches.remove(&first).unwrap_or_default() {
            self.ids.remove(&id);
        }
    }

    fn holds_any_of(&self, items: &[Item]) -> bool {
        items.iter().any(|item| self.ids.contains(&item.id.to_ascii_lowercase()))
    }

    /// Where to go on from.
    fn first(&self) -> Option<u64> {
        self.batches.keys().next().copied()
    }
}

/// Entries for one request, and the one that did not fit.
#[derive(Default)]
struct NextBatch {
    items: Vec<Item>,
    bytes: usize,
    next: Option<Item>,
}

impl NextBatch {
    fn push(&mut self, item: Item) {
        // Of two entries with one id it could not be told which was refused.
        let is_there = self.items.iter().any(|other| other.id.eq_ignore_ascii_case(&item.id));
        let is_full =
            self.items.len() == BULK_ENTRIES_MAX || self.bytes + item.json.get().len() > BATCH_BYTES_MAX;
        if !self.items.is_empty() && (is_there || is_full) {
            self.next = Some(item);
        } else {
            self.bytes += item.json.get().len();
            self.items.push(item);
        }
    }

    /// Whether it is full, or has to do as it is.
    fn is_ready(&self, is_last: bool) -> bool {
        self.next.is_some() || self.items.len() == BULK_ENTRIES_MAX || (is_last && !self.items.is_empty())
    }

    fn take(&mut self) -> Vec<Item> {
        let items = std::mem::take(&mut self.items);
        self.bytes = 0;
        if let Some(next) = self.next.take() {
            self.push(next);
        }
        items
    }
}

/// What is sent for an entry of the file, if it can be.
fn item(
    kind: Kind,
    number: u64,
    json: Result<Box<RawValue>, String>,
    new_keys: bool,
) -> Result<Item, String> {
    let document = EntryDocument::parse(&json?).map_err(|why| format!("no entry: {why}"))?;
    let member = kind.id_member();
    let id = document.text(member).ok_or_else(|| format!("{member} is missing"))?;
    kind.parse_name(&id).map_err(|why| format!("{member}: {why:#}"))?;
    let attestation = document.get("attestation").unwrap_or_default();
    let has_key = |name: &str| attestation["symmetricKey"][name].as_str().is_some_and(|key| !key.is_empty());
    if attestation["type"] == "symmetricKey"
        && !new_keys
        && !has_key("primaryKey")
        && !has_key("secondaryKey")
    {
        return Err(format!(
            "{id} has no keys: lists leave them out, and its devices would be refused with new ones; --new-keys has new ones made"
        ));
    }
    let json = document.writable().to_json().and_then(RawValue::from_string);
    Ok(Item { number, id, json: json.map_err(|why| why.to_string())? })
}

async fn write(
    client: &mut ServiceClient,
    kind: Kind,
    items: Vec<Item>,
    replace: bool,
    skip_existing: bool,
) -> Result<Batch, ServiceError> {
    let (listing, _) = kind.listing();
    let mut batch = Batch::default();
    let Sent { mut done, refused } = send(client, &listing, BulkMode::Create, items).await?;
    let (existing, refused): (Vec<_>, Vec<_>) =
        refused.into_iter().partition(|refused| (replace || skip_existing) && refused.is_there());
    batch.refuse(refused);
    let existing: Vec<_> = existing.into_iter().map(|refused| refused.item).collect();
    if replace && !existing.is_empty() {
        let replaced = send(client, &listing, BulkMode::Update, existing).await?;
        done += replaced.done;
        batch.refuse(replaced.refused);
    } else {
        batch.existing = existing.len() as u64;
    }
    batch.done = done;
    Ok(batch)
}

/// What became of entries that were sent.
#[derive(Default)]
struct Sent {
    done: u64,
    refused: Vec<RefusedItem>,
}

struct RefusedItem {
    item: Item,
    code: u32,
    why: String,
}

impl RefusedItem {
    fn is_there(&self) -> bool {
        self.code / 1_000 == 409
    }

    /// Whether the service may take it later.
    fn is_for_now(&self) -> bool {
        matches!(self.code / 1_000, 429 | 503)
    }

    /// As if its request had been refused.
    fn as_refusal(&self) -> Refusal {
        let (code, message) = (self.code, self.why.clone());
        let status = u16::try_from(code / 1_000).unwrap_or_default();
        Refusal { status, error_code: Some(code), message, ..Refusal::default() }
    }
}

impl Batch {
    fn refuse(&mut self, refused: Vec<RefusedItem>) {
        self.refused.extend(
            refused
                .into_iter()
                .map(|RefusedItem { item, code, why }| (item.number, format!("{}: {code} {why}", item.id))),
        );
    }
}

/// Sends entries until the service has time for them. A request that is refused for what one of its entries holds is sent entry by entry.
async fn send(
    client: &mut ServiceClient,
    listing: &Listing,
    mode: BulkMode,
    mut items: Vec<Item>,
) -> Result<Sent, ServiceError> {
    let mut sent = Sent::default();
    for tries in 1.. {
        let entries: Vec<&RawValue> = items.iter().map(|item| &*item.json).collect();
        let answer = client.bulk(listing, mode, &entries).await;
        let mut wait = TRY_AGAIN_AFTER;
        let refused = match answer {
            Ok(failures) => {
                let refused = refused_of(failures, &mut items);
                sent.done += items.len() as u64;
                refused
            }
            Err(ServiceError::Refused(refusal))
                if matches!(refusal.status, 400 | 413 | 415) && items.len() > 1 =>
            {
                for item in items {
                    let alone = Box::pin(send(client, listing, mode, vec![item])).await?;
                    sent.done += alone.done;
                    sent.refused.extend(alone.refused);
                }
                return Ok(sent);
            }
            Err(ServiceError::Refused(refusal))
                if matches!(refusal.status, 400 | 413 | 415)
                    || (matches!(refusal.status, 429 | 503) && tries < TRIES_MAX) =>
            {
                let code = refusal.error_code.unwrap_or(u32::from(refusal.status) * 1_000);
                wait = refusal.retry_after.unwrap_or(wait).min(TRY_AGAIN_AFTER_MAX);
                let refused = |item| RefusedItem { item, code, why: refusal.message.clone() };
                items.into_iter().map(refused).collect()
            }
            Err(why) => return Err(why),
        };
        let (for_now, mut refused): (Vec<_>, Vec<_>) = refused.into_iter().partition(RefusedItem::is_for_now);
        if tries == TRIES_MAX
            && let Some(last) = for_now.first()
        {
            return Err(ServiceError::Refused(last.as_refusal()));
        }
        if tries > 1 {
            for refused in refused.iter_mut().filter(|refused| refused.is_there()) {
                refused
                    .why
                    .push_str(" Perhaps this import made it: the service was busy, and it was sent again.");
            }
        }
        sent.refused.extend(refused);
        items = for_now.into_iter().map(|refused| refused.item).collect();
        if items.is_empty() {
            break;
        }
        sleep(wait).await;
    }
    Ok(sent)
}

/// Takes those that were refused out of `items`.
fn refused_of(failures: Vec<BulkFailure>, items: &mut Vec<Item>) -> Vec<RefusedItem> {
    let mut refused = Vec::new();
    for failure in failures {
        // An entry that was not sent is none of this request's.
        if let Some(at) = failure.id().and_then(|id| items.iter().position(|item| item.id == id)) {
            let (code, why) = (failure.error_code, failure.error_status);
            refused.push(RefusedItem { item: items.remove(at), code, why });
        }
    }
    refused
}

fn place(number: u64) -> String {
    format!("entry {number}")
}

impl Report {
    fn new(bytes: Option<u64>, go_on_with: String) -> Self {
        let bar = match bytes {
            Some(bytes) => ProgressBar::new(bytes),
            None => ProgressBar::no_length(),
        };
        let style = ProgressStyle::with_template("{wide_bar} {percent}% {msg} {eta} left");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Self { bar, go_on_with, done: 0, existing: 0, refused: 0 }
    }

    /// Spec: DPS-CLI-22: one line each.
    fn refuse(&mut self, place: &str, why: &str) {
        self.refused += 1;
        self.bar.suspend(|| {
            // Who does not read it does not want it.
            let _ = writeln!(io::stderr().lock(), "harbormaster: {place}: {}", printable(why));
        });
    }

    fn count(&mut self, written: Written, under_way: &mut UnderWay, kind: Kind) -> Result<(), Failure> {
        match written.outcome {
            Ok(Batch { done, existing, refused }) => {
                under_way.remove(written.first);
                self.done += done;
                self.existing += existing;
                for (number, why) in refused {
                    self.refuse(&place(number), &why);
                }
                self.bar.set_message(format!("{} done, {} refused", self.done, self.refused));
                Ok(())
            }
            Err(why) => {
                self.bar.finish_and_clear();
                let from = under_way.first().unwrap_or(written.first);
                let Failure { code, why } = failure::of(&why, &kind.subject(""));
                let why = anyhow!("{why}; {}; go on with --from {from} {}", self.summary(), self.go_on_with);
                Err(Failure { code, why })
            }
        }
    }

    fn summary(&self) -> String {
        let existing = match self.existing {
            0 => String::new(),
            existing => format!(", {existing} existed"),
        };
        format!("{} imported{existing}, {} refused", self.done, self.refused)
    }

    fn end(self) -> Result<(), Failure> {
        self.bar.finish_and_clear();
        if self.refused > 0 {
            return Err(Failure { code: exit::FAILED, why: anyhow!("{}", self.summary()) });
        }
        Ok(writeln!(io::stdout().lock(), "{}", self.summary())?)
    }
}
