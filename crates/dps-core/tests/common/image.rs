//! What the model store holds, and the rules by which it changes. Plain data: no time passes in here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dps_core::ca_certificate::{CaCertificate, CaName};
use dps_core::enrollment::{
    Attestation, EnrollmentGroup, EntryRef, GroupAttestation, IndividualEnrollment, OPEN_GROUPS_MAX,
    PREFIXED_GROUPS_MAX, ProvisioningStatus, Signers,
};
use dps_core::ports::{
    CandidateGroups, ChainEntries, ChainWanted, ClaimOrder, Claimed, ClaimedOperation, CleanUp,
    CleanUpOutcome, Commit, Condition, HubDeviceStatus, HubWrite, LookUp, Postponement, RegistrationWrite,
    StoredHubDevice, WaitingFor, WriteError,
};
use dps_core::registration::{Registration, State};
use dps_proto::ids::{DeviceId, ETag, EnrollmentGroupId, HubName, IdScope, InstanceSecret, RegistrationId};
use jiff::Timestamp;

/// The number of the newest claim of an operation that waits.
fn tries(record: &Registration) -> Option<u32> {
    match &record.state {
        State::Choosing { waiting, .. } => Some(waiting.tries),
        State::Assigning { placing, .. } => Some(placing.tries),
        _ => None,
    }
}

/// The time, the number and the peer of an operation that waits for `whom`.
fn waits(record: &mut Registration, whom: WaitingFor) -> Option<(&mut Timestamp, &mut u32, Box<str>)> {
    match (&mut record.state, whom) {
        (State::Choosing { waiting, .. }, WaitingFor::Webhook) => {
            let peer = waiting.webhook_host.clone();
            Some((&mut waiting.due_at, &mut waiting.tries, peer))
        }
        (State::Assigning { placing, .. }, WaitingFor::Hub) => {
            let peer = placing.peer.clone();
            Some((&mut placing.due_at, &mut placing.tries, peer))
        }
        _ => None,
    }
}

type Device = (IdScope, RegistrationId);

/// Everything that is stored, at one point in time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    pub(crate) secrets: Vec<(IdScope, InstanceSecret)>,
    pub(crate) individuals: BTreeMap<(IdScope, RegistrationId), Arc<IndividualEnrollment>>,
    pub(crate) groups: BTreeMap<(IdScope, EnrollmentGroupId), Arc<EnrollmentGroup>>,
    pub(crate) registrations: BTreeMap<(IdScope, RegistrationId), Registration>,
    pub(crate) hub_devices: BTreeMap<(IdScope, HubName, DeviceId), KeptDevice>,
    /// By their folded names.
    pub(crate) ca_certificates: BTreeMap<(IdScope, String), Arc<CaCertificate>>,
    pub(crate) clean_ups: BTreeMap<(IdScope, HubName, DeviceId), CleanUp>,
    /// Operations whose claim was not given back.
    leased: BTreeSet<Device>,
    /// How often the record of an id was deleted: each deletion begins a new life.
    lives: BTreeMap<(IdScope, RegistrationId), u32>,
}

/// A device at a local hub, and the life of the record that last gave it its keys.
#[derive(Debug, Clone)]
pub(crate) struct KeptDevice {
    pub(crate) stored: StoredHubDevice,
    life: u32,
}

/// Parts of the contract that a store may break, to show that someone notices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Answers a write before it is durable, and shows it to readers.
    pub(crate) lying_sync: bool,
    /// Commits whatever became of the entry. Spec: DPS-STORE-4.
    pub(crate) ignores_entry: bool,
    /// Commits whatever became of the record. Spec: DPS-STORE-4.
    pub(crate) ignores_record: bool,
    /// Commits whatever was claimed anew, the claim being part of what is remembered of the record. Spec: DPS-REG-32.
    pub(crate) ignores_claim: bool,
    /// Commits nothing, as if another writer always came first.
    pub(crate) always_outdated: bool,
}

/// A commit that was applied, with what held at that moment.
#[derive(Debug, Clone)]
pub(crate) struct Applied {
    pub(crate) write: RegistrationWrite,
    /// The record before.
    pub(crate) before: Option<Registration>,
    /// Etag and status of the entry that the write names in `decided_on`.
    pub(crate) entry: Option<(ETag, ProvisioningStatus)>,
}

impl Image {
    pub(crate) fn look_up(&self, scope: &IdScope, id: &RegistrationId) -> LookUp {
        let device = (scope.clone(), id.clone());
        let registration = self.registrations.get(&device).cloned();
        let registration_group = registration.as_ref().and_then(|record| match &record.entry {
            EntryRef::Group(group) => self.groups.get(&(scope.clone(), group.clone())).cloned(),
            EntryRef::Individual(_) => None,
        });
        let individual_enrollment = self.individuals.get(&device).cloned();
        LookUp { individual_enrollment, registration, registration_group }
    }

    pub(crate) fn candidate_groups(&self, scope: &IdScope, id: &RegistrationId) -> CandidateGroups {
        let of_scope = || self.groups.iter().filter(|((of, _), _)| of == scope).map(|(_, group)| group);
        let length = |group: &EnrollmentGroup| {
            group.registration_id_prefix.as_ref().map_or(0, |prefix| prefix.as_str().len())
        };
        let matches = |group: &EnrollmentGroup| {
            group.registration_id_prefix.as_ref().is_some_and(|prefix| prefix.matches(id))
        };
        let mut prefixed: Vec<_> =
            of_scope().filter(|group| has_keys(group) && matches(group)).cloned().collect();
        prefixed.sort_by_key(|group| std::cmp::Reverse(length(group)));
        let mut open: Vec<_> = of_scope().filter(|group| is_open(group)).cloned().collect();
        open.sort_by_key(|group| group.settings.created_at);
        CandidateGroups { prefixed, open: open.into() }
    }

    /// Spec: DPS-X509-6, DPS-X509-7.
    pub(crate) fn chain_entries(&self, scope: &IdScope, wanted: &ChainWanted) -> ChainEntries {
        let authorities = self.ca_certificates(scope);
        let anchors = wanted.anchors(&authorities);
        let holds = |enrollment: &IndividualEnrollment| match &enrollment.attestation {
            Attestation::ClientCertificates(pair) => {
                pair.iter().any(|certificate| certificate.thumbprint() == wanted.leaf)
            }
            _ => false,
        };
        let leads = |group: &EnrollmentGroup| match &group.attestation {
            GroupAttestation::SymmetricKey(_) => false,
            GroupAttestation::Signers(Signers::Certificates(pair)) => {
                pair.iter().any(|certificate| anchors.subjects.contains(&certificate.subject()))
            }
            GroupAttestation::Signers(Signers::CaReferences(names)) => {
                names.iter().any(|name| anchors.ca_names.iter().any(|wanted| wanted.is(name)))
            }
        };
        let individuals = self.individuals.iter().filter(|((of, _), it)| of == scope && holds(it));
        let mut individual_enrollments: Vec<_> = individuals.map(|(_, it)| Arc::clone(it)).collect();
        individual_enrollments.sort_by_key(|it| it.settings.created_at);
        let of_scope = self.groups.iter().filter(|((of, _), it)| of == scope && leads(it));
        let mut groups: Vec<_> = of_scope.map(|(_, it)| Arc::clone(it)).collect();
        groups.sort_by_key(|it| it.settings.created_at);
        ChainEntries { individual_enrollments, groups, authorities }
    }

    pub(crate) fn ca_certificates(&self, scope: &IdScope) -> Arc<[Arc<CaCertificate>]> {
        let of_scope = self.ca_certificates.iter().filter(|((of, _), _)| of == scope);
        of_scope.map(|(_, ca)| Arc::clone(ca)).collect()
    }

    pub(crate) fn put_ca_certificate(
        &mut self,
        scope: &IdScope,
        certificate: CaCertificate,
        condition: &Condition,
    ) -> Result<(), WriteError> {
        let key = (scope.clone(), certificate.name.folded().to_owned());
        may_put(self.ca_certificates.get(&key).map(|known| &known.etag), condition)?;
        self.ca_certificates.insert(key, Arc::new(certificate));
        Ok(())
    }

    pub(crate) fn delete_ca_certificate(
        &mut self,
        scope: &IdScope,
        name: &CaName,
        condition: &Condition,
    ) -> Result<(), WriteError> {
        let key = (scope.clone(), name.folded().to_owned());
        may_delete(self.ca_certificates.get(&key).map(|known| &known.etag), condition)?;
        self.ca_certificates.remove(&key);
        Ok(())
    }

    /// Spec: DPS-STORE-4, DPS-STORE-5.
    pub(crate) fn commit(&mut self, write: RegistrationWrite, faults: Faults) -> (Commit, Option<Applied>) {
        let record = &write.registration;
        let device = (record.id_scope.clone(), record.registration_id.clone());
        let before = self.registrations.get(&device).cloned();
        let entry = write.decided_on.as_ref().and_then(|(name, _)| self.entry(&record.id_scope, name));
        let record_holds = before.as_ref().map(|record| &record.etag) == write.replaces.as_ref();
        let claim_holds = write.under_claim.is_none() || write.under_claim == before.as_ref().and_then(tries);
        let entry_holds = match (&write.decided_on, &entry) {
            (Some((_, decided_on)), Some((etag, _))) => etag == decided_on,
            (Some(_), None) => false,
            (None, _) => true,
        };
        if faults.always_outdated
            || !(record_holds || faults.ignores_record)
            || !(claim_holds || faults.ignores_claim)
            || !(entry_holds || faults.ignores_entry)
        {
            return (Commit::Outdated, None);
        }
        let life = self.lives.get(&device).copied().unwrap_or(0);
        for hub_write in &write.hub_writes {
            let mut given = match hub_write {
                HubWrite::PutDevice(given) => (**given).clone(),
                HubWrite::RemoveDevice { id_scope, hub, device_id } => {
                    self.hub_devices.remove(&(id_scope.clone(), hub.clone(), device_id.clone()));
                    continue;
                }
                HubWrite::DisableDevice { id_scope, hub, device_id } => {
                    let key = (id_scope.clone(), hub.clone(), device_id.clone());
                    if let Some(kept) = self.hub_devices.get_mut(&key) {
                        kept.stored.status = HubDeviceStatus::Disabled;
                    }
                    continue;
                }
                HubWrite::CleanUp(clean_up) => {
                    self.clean_ups.insert(key(clean_up), (**clean_up).clone());
                    continue;
                }
                HubWrite::Keep { id_scope, hub, device_id } => {
                    self.clean_ups.remove(&(id_scope.clone(), hub.clone(), device_id.clone()));
                    continue;
                }
            };
            let key = (given.id_scope.clone(), given.hub.clone(), given.device_id.clone());
            let known = self.hub_devices.get(&key);
            if let Some(known) = known {
                given.initial_twin = known.stored.device.initial_twin.clone();
            }
            let created_at = known.map_or(record.updated_at, |known| known.stored.created_at);
            let status = known.map_or(HubDeviceStatus::Enabled, |known| known.stored.status);
            let stored = StoredHubDevice { device: given, status, created_at, updated_at: record.updated_at };
            self.hub_devices.insert(key, KeptDevice { stored, life });
        }
        self.leased.remove(&device);
        self.registrations.insert(device, record.clone());
        (Commit::Done, Some(Applied { write, before, entry }))
    }

    /// Spec: DPS-REG-32, DPS-REG-44.
    pub(crate) fn claim_waiting(&mut self, whom: WaitingFor, order: &ClaimOrder) -> Claimed {
        let (leased, registrations) = (&mut self.leased, &mut self.registrations);
        let waiting = registrations.iter_mut().filter_map(|(device, record)| {
            let (due_at, _, peer) = waits(record, whom)?;
            Some((*due_at, peer, device.clone()))
        });
        let (taken, next_due) = due(waiting.collect(), order);
        let mut claimed = Claimed { next_due, ..Claimed::default() };
        for (device, peer) in taken {
            let Some(record) = registrations.get_mut(&device) else { continue };
            let Some((due_at, tries, _)) = waits(record, whom) else { continue };
            *tries += 1;
            *due_at = order.lease_until;
            let tries = *tries;
            if !leased.insert(device.clone())
                && let State::Assigning { placing, .. } = &mut record.state
            {
                placing.unanswered_at = Some(order.now);
            }
            claimed.operations.push(ClaimedOperation {
                id_scope: device.0,
                registration_id: record.registration_id.clone(),
                guid: record.operation.guid,
                etag: record.etag.clone(),
                tries,
                peer,
                lease_until: order.lease_until,
            });
        }
        claimed
    }

    /// Spec: DPS-REG-32, DPS-REG-44.
    pub(crate) fn postpone(&mut self, claimed: &ClaimedOperation, to: Postponement) -> Commit {
        let device = (claimed.id_scope.clone(), claimed.registration_id.clone());
        let Some(record) = self.registrations.get_mut(&device) else { return Commit::Outdated };
        let is_same = record.operation.guid == claimed.guid && record.etag == claimed.etag;
        if !is_same || tries(record) != Some(claimed.tries) {
            return Commit::Outdated;
        }
        self.leased.remove(&device);
        if let State::Assigning { placing, .. } = &mut record.state {
            placing.unanswered_at = to.unanswered_at.or(placing.unanswered_at);
        }
        for whom in [WaitingFor::Webhook, WaitingFor::Hub] {
            if let Some((due_at, ..)) = waits(record, whom) {
                *due_at = to.until;
            }
        }
        Commit::Done
    }

    /// Spec: DPS-REG-43.
    pub(crate) fn claim_clean_ups(&mut self, order: &ClaimOrder) -> Claimed<CleanUp> {
        let waiting = self.clean_ups.iter().map(|(key, it)| (it.due_at, it.peer(), key.clone()));
        let (taken, next_due) = due(waiting.collect(), order);
        let mut claimed = Claimed { next_due, ..Claimed::default() };
        for (key, _) in taken {
            let Some(clean_up) = self.clean_ups.get_mut(&key) else { continue };
            clean_up.tries += 1;
            clean_up.due_at = order.lease_until;
            claimed.operations.push(clean_up.clone());
        }
        claimed
    }

    /// Spec: DPS-REG-43.
    pub(crate) fn clean_up_stands(&self, claimed: &CleanUp) -> bool {
        self.holds(claimed) && !self.wants(claimed)
    }

    fn holds(&self, claimed: &CleanUp) -> bool {
        let is_same = |it: &CleanUp| (it.guid, it.tries) == (claimed.guid, claimed.tries);
        self.clean_ups.get(&key(claimed)).is_some_and(is_same)
    }

    /// Whether the record has the device where it is to be gone from, or on the way there.
    fn wants(&self, clean_up: &CleanUp) -> bool {
        let device = (clean_up.id_scope.clone(), clean_up.registration_id.clone());
        let record = self.registrations.get(&device);
        let target = record.and_then(|record| match &record.state {
            State::Assigning { placing, .. } => Some(&placing.target),
            _ => None,
        });
        let mut wanted = record.and_then(Registration::assignment).into_iter().chain(target);
        wanted.any(|at| (&at.hub, &at.device_id) == (&clean_up.hub, &clean_up.device_id))
    }

    /// Spec: DPS-REG-43.
    pub(crate) fn settle_clean_up(&mut self, claimed: &CleanUp, outcome: CleanUpOutcome) -> Commit {
        if !self.holds(claimed) {
            return Commit::Outdated;
        }
        match outcome {
            CleanUpOutcome::Done => drop(self.clean_ups.remove(&key(claimed))),
            CleanUpOutcome::Again { until, problem } => {
                if let Some(clean_up) = self.clean_ups.get_mut(&key(claimed)) {
                    (clean_up.due_at, clean_up.problem) = (until, Some(problem));
                }
            }
        }
        Commit::Done
    }

    /// Spec: DPS-REG-44.
    pub(crate) fn clean_up_stray(&mut self, clean_up: CleanUp) -> Commit {
        if self.wants(&clean_up) {
            return Commit::Outdated;
        }
        self.clean_ups.insert(key(&clean_up), clean_up);
        Commit::Done
    }

    /// The local hubs where the current record of a device has made identities.
    pub(crate) fn identities(&self, scope: &IdScope, id: &RegistrationId) -> Vec<(HubName, DeviceId)> {
        let life = self.lives.get(&(scope.clone(), id.clone())).copied().unwrap_or(0);
        let of_device = |kept: &KeptDevice| {
            kept.life == life
                && kept.stored.device.id_scope == *scope
                && kept.stored.device.registration_id == *id
        };
        let found = self.hub_devices.iter().filter(|(_, kept)| of_device(kept));
        found.map(|((_, hub, device_id), _)| (hub.clone(), device_id.clone())).collect()
    }

    fn entry(&self, scope: &IdScope, name: &EntryRef) -> Option<(ETag, ProvisioningStatus)> {
        let settings = match name {
            EntryRef::Individual(id) => &self.individuals.get(&(scope.clone(), id.clone()))?.settings,
            EntryRef::Group(id) => &self.groups.get(&(scope.clone(), id.clone()))?.settings,
        };
        Some((settings.etag.clone(), settings.provisioning_status))
    }

    pub(crate) fn delete_registration(
        &mut self,
        scope: &IdScope,
        id: &RegistrationId,
        condition: &Condition,
    ) -> Result<(), WriteError> {
        let device = (scope.clone(), id.clone());
        may_delete(self.registrations.get(&device).map(|record| &record.etag), condition)?;
        self.registrations.remove(&device);
        *self.lives.entry(device).or_default() += 1;
        Ok(())
    }

    pub(crate) fn put_individual(
        &mut self,
        scope: &IdScope,
        mut enrollment: IndividualEnrollment,
        condition: &Condition,
    ) -> Result<(), WriteError> {
        let key = (scope.clone(), enrollment.registration_id.clone());
        let known = self.individuals.get(&key).map(|known| known.settings.clone());
        may_put(known.as_ref().map(|known| &known.etag), condition)?;
        if let Some(known) = known {
            enrollment.settings.created_at = known.created_at;
        }
        self.individuals.insert(key, Arc::new(enrollment));
        Ok(())
    }

    pub(crate) fn delete_individual(
        &mut self,
        scope: &IdScope,
        id: &RegistrationId,
        condition: &Condition,
    ) -> Result<(), WriteError> {
        let key = (scope.clone(), id.clone());
        may_delete(self.individuals.get(&key).map(|known| &known.settings.etag), condition)?;
        self.individuals.remove(&key);
        Ok(())
    }

    /// Spec: DPS-REG-3.
    pub(crate) fn put_group(
        &mut self,
        scope: &IdScope,
        mut group: EnrollmentGroup,
        condition: &Condition,
    ) -> Result<(), WriteError> {
        let key = (scope.clone(), group.id.clone());
        let known = self.groups.get(&key).map(|known| known.settings.clone());
        may_put(known.as_ref().map(|known| &known.etag), condition)?;
        if let Some(known) = known {
            group.settings.created_at = known.created_at;
        }
        let others = self.groups.iter().filter(|(other, _)| other.0 == *scope && **other != key);
        if is_open(&group) && others.filter(|(_, other)| is_open(other)).count() >= OPEN_GROUPS_MAX {
            return Err(WriteError::TooManyOpenGroups(OPEN_GROUPS_MAX));
        }
        if let Some(prefix) = &group.registration_id_prefix {
            let others = self.groups.iter().filter(|(other, _)| other.0 == *scope && **other != key);
            let most = prefix.most_on_one_id(others.filter_map(|(_, it)| it.registration_id_prefix.clone()));
            if most > PREFIXED_GROUPS_MAX {
                return Err(WriteError::TooManyPrefixedGroups(most));
            }
        }
        self.groups.insert(key, Arc::new(group));
        Ok(())
    }

    pub(crate) fn delete_group(
        &mut self,
        scope: &IdScope,
        id: &EnrollmentGroupId,
        condition: &Condition,
    ) -> Result<(), WriteError> {
        let key = (scope.clone(), id.clone());
        may_delete(self.groups.get(&key).map(|known| &known.settings.etag), condition)?;
        self.groups.remove(&key);
        Ok(())
    }
}

fn key(clean_up: &CleanUp) -> (IdScope, HubName, DeviceId) {
    (clean_up.id_scope.clone(), clean_up.hub.clone(), clean_up.device_id.clone())
}

/// What of `waiting` may be claimed, the longest due first, with its peer; and when the next is due.
fn due<K: Ord>(
    mut waiting: Vec<(Timestamp, Box<str>, K)>,
    order: &ClaimOrder,
) -> (Vec<(K, Box<str>)>, Option<Timestamp>) {
    waiting.retain(|(_, peer, _)| order.after_peer.as_ref().is_none_or(|after| peer > after));
    let next_due = waiting.iter().map(|(at, ..)| *at).filter(|at| *at > order.now).min();
    waiting.retain(|(at, ..)| *at <= order.now);
    waiting.sort_by(|(a, _, left), (b, _, right)| (a, left).cmp(&(b, right)));
    let mut of_peers: BTreeMap<Box<str>, u32> = BTreeMap::new();
    let mut taken = Vec::new();
    for (_, peer, of) in waiting {
        let of_peer = of_peers.entry(peer.clone()).or_default();
        if *of_peer < order.room_for(&peer) && taken.len() < order.limit as usize {
            *of_peer += 1;
            taken.push((of, peer));
        }
    }
    (taken, next_due)
}

fn has_keys(group: &EnrollmentGroup) -> bool {
    matches!(group.attestation, GroupAttestation::SymmetricKey(_))
}

/// Spec: DPS-REG-3.
fn is_open(group: &EnrollmentGroup) -> bool {
    has_keys(group) && group.registration_id_prefix.is_none()
}

fn may_put(known: Option<&ETag>, condition: &Condition) -> Result<(), WriteError> {
    match (known, condition) {
        (_, Condition::Always) | (None, Condition::IfAbsent) => Ok(()),
        (Some(_), Condition::IfAbsent) => Err(WriteError::Exists),
        (None, Condition::IfMatches(_)) => Err(WriteError::Missing),
        (Some(known), Condition::IfMatches(etag)) if known == etag => Ok(()),
        (Some(_), Condition::IfMatches(_)) => Err(WriteError::Changed),
    }
}

fn may_delete(known: Option<&ETag>, condition: &Condition) -> Result<(), WriteError> {
    if known.is_none() { Err(WriteError::Missing) } else { may_put(known, condition) }
}
