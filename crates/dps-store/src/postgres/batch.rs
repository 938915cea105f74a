//! Many registrations in one transaction of few statements. Spec: DPS-STORE-3, DPS-STORE-4, DPS-STORE-5, DPS-STORE-19.
//!
//! A registration is written on conditions: the etag of its record, the etag of its entry, the number of a claim. What they are about
//! is locked, then read, then judged here, and no other transaction changes it before this one has ended:
//!
//! - *Entries* are locked FOR SHARE. Who disables an entry waits for the batches that were decided on it as it was, and is answered
//!   after them; a batch that comes later sees the new etag. So no device is admitted by an entry after its disabling was answered.
//!   Batches of all nodes share these locks. Somebody who wants to write an entry takes its *turnstile* first, an advisory lock that
//!   batches take shared before the entry itself: rows alone let those who share overtake the one who waits, for ever under load.
//! - *Records* and *devices of local hubs* are locked FOR UPDATE. A row that is not there cannot be locked; it is made only if it is
//!   still not there, and the transaction is run again where another node has made it meanwhile.
//! - *Instances* that are being deleted are looked for, and none comes to be so meanwhile: nothing of theirs is written.
//!
//! Why not SERIALIZABLE: it would abort batches of hundreds for pairs of single rows, and remember each row that was read. Locks are
//! taken kind by kind, in the order above, and within a kind in the order of keys, so that no two batches wait for each other; a
//! deadlock with other writes is resolved by the server, and the loser is run again.

use std::collections::{BTreeSet, HashMap, HashSet};

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use dps_core::enrollment::EntryRef;
use dps_core::ports::{Commit, HubWrite, RegistrationWrite};
use dps_core::registration::Registration;
use dps_proto::ids::ETag;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::columns::Columns;
use super::fault::Fault;
use super::hub_writes::{HubWrites, StoredDevices};
use super::table::Rows;
use super::transaction::{Work, execute, query};
use super::{instance, registration, turnstile};

/// A registration that is to be written, and the sealed keys of each of its hub writes.
pub(super) struct Wanted {
    pub(super) write: RegistrationWrite,
    pub(super) sealed_keys: Vec<Vec<u8>>,
}

/// What is written to: no two writes of a batch have one in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Target {
    /// ID scope and registration id.
    Record(Box<str>, Box<str>),
    /// ID scope, hub and device id: a device of a local hub, or one that is to be gone from one outside.
    Device(Box<str>, Box<str>, Box<str>),
}

impl Wanted {
    /// All that it writes to.
    pub(super) fn targets(&self) -> Vec<Target> {
        let record = &self.write.registration;
        let own = Target::Record(record.id_scope.folded().into(), record.registration_id.folded().into());
        let devices = self.write.hub_writes.iter().map(|write| {
            let (scope, hub, device_id) = super::hub_writes::key(write);
            Target::Device(scope.into(), hub.into(), device_id.into())
        });
        std::iter::once(own).chain(devices).collect()
    }
}

/// Registrations that are written together. No two of them have a [`Target`] in common.
pub(super) struct Batch<'b> {
    pub(super) wanted: Vec<&'b Wanted>,
}

#[async_trait]
impl Work for Batch<'_> {
    /// One for each, in their order.
    type Outcome = Vec<Commit>;

    async fn run(&self, transaction: &Transaction<'_>) -> Result<Vec<Commit>, Fault> {
        let seen = self.lock(transaction).await?;
        let outcomes: Vec<Commit> = self.wanted.iter().map(|wanted| seen.judge(&wanted.write)).collect();
        let (mut made, mut replaced) = (Rows::default(), Rows::default());
        let mut at_hubs = HubWrites::default();
        for (wanted, outcome) in self.wanted.iter().zip(&outcomes) {
            if *outcome == Commit::Outdated {
                continue;
            }
            let record = &wanted.write.registration;
            let rows = if wanted.write.replaces.is_none() { &mut made } else { &mut replaced };
            rows.push(registration::values(record).map_err(Fault::of_one)?);
            at_hubs.add(&wanted.write, &wanted.sealed_keys, &seen.devices).map_err(Fault::of_one)?;
        }
        if !made.is_empty()
            && execute(transaction, &registration::INSERT_ALL, &made.params()).await? < made.count()
        {
            return Err(Fault::raced("a record"));
        }
        if !replaced.is_empty() {
            execute(transaction, &registration::REPLACE_ALL, &replaced.params()).await?;
        }
        at_hubs.write(transaction).await?;
        Ok(outcomes)
    }
}

/// What a batch is decided on, as it is until the transaction has ended.
struct Seen {
    /// ID scopes of instances that are being deleted, or gone.
    gone: HashSet<String>,
    /// By kind, ID scope and id.
    entry_etags: HashMap<(&'static str, String, String), String>,
    /// Etag and newest claim, by ID scope and id.
    records: HashMap<(String, String), (String, Option<u32>)>,
    devices: StoredDevices,
}

/// Parameters `$1` and so on are arrays of keys.
pub(super) const LOCK_ENROLLMENTS: &str = "SELECT e.id_scope, e.registration_id, e.etag
     FROM unnest($1::text[], $2::text[]) AS wanted (id_scope, id)
     JOIN individual_enrollment e ON e.id_scope = wanted.id_scope AND e.registration_id = wanted.id
     ORDER BY e.id_scope, e.registration_id FOR SHARE OF e";

pub(super) const LOCK_GROUPS: &str = "SELECT g.id_scope, g.enrollment_group_id, g.etag
     FROM unnest($1::text[], $2::text[]) AS wanted (id_scope, id)
     JOIN enrollment_group g ON g.id_scope = wanted.id_scope AND g.enrollment_group_id = wanted.id
     ORDER BY g.id_scope, g.enrollment_group_id FOR SHARE OF g";

pub(super) const LOCK_RECORDS: &str = "SELECT r.id_scope, r.registration_id, r.etag, r.waiting_tries
     FROM unnest($1::text[], $2::text[]) AS wanted (id_scope, id)
     JOIN registration r ON r.id_scope = wanted.id_scope AND r.registration_id = wanted.id
     ORDER BY r.id_scope, r.registration_id FOR UPDATE OF r";

impl Batch<'_> {
    /// Locks all that the writes are decided on, and what they write over.
    async fn lock(&self, transaction: &Transaction<'_>) -> Result<Seen, Fault> {
        let (mut enrollments, mut groups) = (BTreeSet::new(), BTreeSet::new());
        for (record, entry) in self.wanted.iter().filter_map(|wanted| decided_on(&wanted.write)) {
            match entry {
                EntryRef::Individual(id) => enrollments.insert((record.id_scope.folded(), id.folded())),
                EntryRef::Group(id) => groups.insert((record.id_scope.folded(), id.folded())),
            };
        }
        let records = self.wanted.iter().map(|wanted| &wanted.write.registration);
        let records =
            records.map(|record| (record.id_scope.folded(), record.registration_id.folded())).collect();
        let scopes: BTreeSet<&str> =
            self.wanted.iter().map(|wanted| wanted.write.registration.id_scope.folded()).collect();
        let writes: Vec<&HubWrite> = self.wanted.iter().flat_map(|wanted| &wanted.write.hub_writes).collect();
        turnstile::pass(transaction, &groups).await?;
        // Sent together, and carried out one after the other.
        let scopes: Vec<&str> = scopes.into_iter().collect();
        let of_scopes: [&(dyn ToSql + Sync); 1] = [&scopes];
        let (gone, enrollments, groups, records, devices) = tokio::try_join!(
            query(transaction, instance::NOT_THERE, &of_scopes),
            lock(transaction, LOCK_ENROLLMENTS, enrollments),
            lock(transaction, LOCK_GROUPS, groups),
            lock(transaction, LOCK_RECORDS, records),
            StoredDevices::lock(transaction, &writes),
        )?;
        let gone = gone.iter().map(|row| Columns::of(row).value());
        let gone = gone.collect::<Result<_, _>>()?;
        let mut seen = Seen { gone, entry_etags: HashMap::new(), records: HashMap::new(), devices };
        for (kind, rows) in [("individual", enrollments), ("group", groups)] {
            for row in &rows {
                let mut columns = Columns::of(row);
                let key = (kind, columns.value()?, columns.value()?);
                seen.entry_etags.insert(key, columns.value()?);
            }
        }
        for row in &records {
            let mut columns = Columns::of(row);
            let key = (columns.value()?, columns.value()?);
            seen.records.insert(key, (columns.value()?, columns.optional_number()?));
        }
        Ok(seen)
    }
}

fn decided_on(write: &RegistrationWrite) -> Option<(&Registration, &EntryRef)> {
    write.decided_on.as_ref().map(|(entry, _)| (&write.registration, entry))
}

/// The rows of these keys. `BTreeSet` has them in order, which spares the server sorting them.
async fn lock(
    transaction: &Transaction<'_>,
    select: &str,
    keys: BTreeSet<(&str, &str)>,
) -> Result<Vec<Row>, Fault> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let (scopes, ids): (Vec<&str>, Vec<&str>) = keys.into_iter().unzip();
    query(transaction, select, &[&scopes, &ids]).await
}

impl Seen {
    /// Whether a write is still about what it was decided on. Spec: DPS-INST-8, DPS-STORE-4, DPS-STORE-24, DPS-REG-13, DPS-REG-32.
    fn judge(&self, write: &RegistrationWrite) -> Commit {
        let record = &write.registration;
        let key = |id: &str| (record.id_scope.folded().to_owned(), id.to_owned());
        let is_entry_the_same = write.decided_on.as_ref().is_none_or(|(entry, etag)| {
            let (kind, id) = match entry {
                EntryRef::Individual(id) => ("individual", id.folded()),
                EntryRef::Group(id) => ("group", id.folded()),
            };
            let (scope, id) = key(id);
            self.entry_etags.get(&(kind, scope, id)).is_some_and(|stored| stored == etag.as_str())
        });
        let stored = self.records.get(&key(record.registration_id.folded()));
        let is_record_the_same =
            stored.map(|(etag, _)| etag.as_str()) == write.replaces.as_ref().map(ETag::as_str);
        let newest_claim = stored.and_then(|(_, tries)| *tries);
        let is_claim_the_newest = write.under_claim.is_none() || write.under_claim == newest_claim;
        let stays = !self.gone.contains(record.id_scope.folded());
        match stays && is_entry_the_same && is_record_the_same && is_claim_the_newest {
            true => Commit::Done,
            false => Commit::Outdated,
        }
    }
}
