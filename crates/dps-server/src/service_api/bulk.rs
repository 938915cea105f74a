//! Several entries in one request, each for itself. Spec: DPS-SERVICE-20 to DPS-SERVICE-22.

use std::collections::HashSet;

use dps_core::enrollment::EntryRef;
use dps_proto::ids::BadId;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::entries::Entries;
use super::route::EntryKind;
use super::{BODY_BYTES_MAX, ServiceFault};
use crate::enrollment_json::BadMember;
use crate::https::body::BodyFault;
use crate::if_match::IfMatch;

/// Most entries of one request.
const ITEMS_MAX: usize = 10;

/// Most characters of a mode that a refusal repeats.
const MODE_SHOWN_MAX: usize = 64;

/// What is done with each entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Create,
    Update,
    UpdateIfMatchETag,
    Delete,
}

const MODES: [(&str, Mode); 4] = [
    ("create", Mode::Create),
    ("update", Mode::Update),
    ("updateIfMatchETag", Mode::UpdateIfMatchETag),
    ("delete", Mode::Delete),
];

/// A request that can be carried out.
pub(super) struct Bulk {
    mode: Mode,
    items: Vec<(EntryRef, Value)>,
}

impl Bulk {
    /// Reads a body. An entry without a name spoils all of it: what became of it could not be told.
    pub(super) fn read(kind: EntryKind, mut body: Value) -> Result<Self, BadMember> {
        let wrong = |path: &str, why: String| BadMember { path: path.to_owned(), why };
        let member = kind.members().0;
        let mode = body["mode"].as_str().unwrap_or_default();
        let known = MODES.iter().find(|(word, _)| word.eq_ignore_ascii_case(mode));
        let Some((_, mode)) = known else {
            let mode: String = mode.chars().take(MODE_SHOWN_MAX).collect();
            let why = format!("{mode:?} is none of create, update, updateIfMatchETag, delete");
            return Err(wrong("mode", why));
        };
        let Value::Array(items) = body[member].take() else {
            return Err(wrong(member, "is not an array of entries".to_owned()));
        };
        if !(1..=ITEMS_MAX).contains(&items.len()) {
            let why = format!("has {} entries; it must have 1 to {ITEMS_MAX}", items.len());
            return Err(wrong(member, why));
        }
        let named = |(at, item): (usize, Value)| {
            let id_member = kind.members().1;
            let path = format!("{member}[{at}].{id_member}");
            let id = item[id_member].as_str().ok_or_else(|| wrong(&path, "is missing".to_owned()))?;
            let name = kind.name(id).map_err(|why: BadId| wrong(&path, why.to_string()))?;
            Ok((name, item))
        };
        let items = items.into_iter().enumerate().map(named).collect::<Result<_, BadMember>>()?;
        Ok(Self { mode: *mode, items })
    }

    /// What it is about, for logs.
    pub(super) fn subject(&self) -> String {
        subject(self.mode, self.items.iter().map(|(name, _)| name))
    }

    /// Carries it out, each entry for itself: what goes wrong with one stops no other. They are under way together, so that the
    /// store can commit them together; entries with the same id one after the other. What `until` leaves no time for is not begun.
    pub(super) async fn run(self, entries: &Entries<'_>, until: Instant) -> Outcome {
        let Self { mode, mut items } = self;
        let (mut done, mut failed) = (Vec::new(), Vec::new());
        while !items.is_empty() {
            let later = items.split_off(distinct(&items));
            let together = items.into_iter().map(async |(name, item)| {
                let written = match Instant::now() < until {
                    true => one(entries, mode, &name, item).await,
                    false => Err(ServiceFault::TimedOut),
                };
                (name, written)
            });
            for (name, written) in join_all(together).await {
                match written {
                    Ok(()) => done.push(name),
                    Err(fault) => failed.push((name, fault)),
                }
            }
            items = later;
        }
        Outcome { mode, done, failed }
    }
}

/// How many of the first entries have an id each of their own.
fn distinct(items: &[(EntryRef, Value)]) -> usize {
    let mut names = HashSet::new();
    items.iter().take_while(|(name, _)| names.insert(name)).count()
}

/// What became of each entry.
pub(super) struct Outcome {
    mode: Mode,
    done: Vec<EntryRef>,
    pub(super) failed: Vec<(EntryRef, ServiceFault)>,
}

impl Outcome {
    /// What was done, for logs; `None` where nothing was.
    pub(super) fn subject(&self) -> Option<String> {
        (!self.done.is_empty()).then(|| subject(self.mode, self.done.iter()))
    }

    /// Spec: DPS-SERVICE-21.
    pub(super) fn answer(&self) -> Value {
        let error = |(name, fault): &(EntryRef, ServiceFault)| {
            let (code, message) = fault.told();
            let (member, id) = match name {
                EntryRef::Individual(id) => ("registrationId", id.as_str()),
                EntryRef::Group(id) => ("enrollmentGroupId", id.as_str()),
            };
            json!({member: id, "errorCode": code.value(), "errorStatus": message})
        };
        let errors: Vec<Value> = self.failed.iter().map(error).collect();
        json!({"isSuccessful": errors.is_empty(), "errors": errors})
    }
}

fn subject<'n>(mode: Mode, names: impl Iterator<Item = &'n EntryRef>) -> String {
    let names: Vec<_> = names.map(EntryRef::to_string).collect();
    let word = MODES.iter().find(|(_, known)| *known == mode).map_or("", |(word, _)| word);
    format!("{word} {}", names.join(", "))
}

async fn one(entries: &Entries<'_>, mode: Mode, name: &EntryRef, item: Value) -> Result<(), ServiceFault> {
    if item.to_string().len() > BODY_BYTES_MAX {
        return Err(BodyFault::TooLarge(BODY_BYTES_MAX).into());
    }
    let etag = item["etag"].as_str().filter(|etag| !etag.is_empty()).map(IfMatch::tag);
    let if_match = match (mode, etag) {
        (Mode::Create, _) => IfMatch::Absent,
        (Mode::Update, _) => IfMatch::Existing,
        (Mode::UpdateIfMatchETag, Some(tag)) => tag,
        (Mode::UpdateIfMatchETag, None) => {
            return Err(BadMember { path: "etag".to_owned(), why: "is missing".to_owned() }.into());
        }
        (Mode::Delete, etag) => return entries.delete(name, &etag.unwrap_or(IfMatch::Any)).await,
    };
    entries.write(name, item, &if_match).await.map(drop)
}
