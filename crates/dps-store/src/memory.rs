//! A store that forgets everything when it is dropped: for tests, and the plainest statement of what a store does.

mod claim;
mod clean_up;
mod content;
mod instances;
mod waiting;

use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use dps_core::audit::{Action, AuditFilter, AuditRecord, Author, HubDeviceName, Subject};
use dps_core::ca_certificate::{CA_CERTIFICATES_MAX, CaCertificate, CaName};
use dps_core::enrollment::{
    Attestation, EnrollmentGroup, EntryRef, GroupAttestation, IndividualEnrollment, OPEN_GROUPS_MAX,
    PREFIXED_GROUPS_MAX, Signers,
};
use dps_core::entry_filter::EntryFilter;
use dps_core::instance_settings::StoredInstance;
use dps_core::ports::{
    AnchorsWanted, CandidateGroups, ChainEntries, ChainWanted, ClaimOrder, Claimed, ClaimedOperation,
    CleanUp, CleanUpOutcome, Commit, Condition, HubDeviceStatus, HubLoad, LookUp, Postponement,
    RegistrationWrite, Store, StoreError, StoredHubDevice, Sweep, WaitingFor, WriteError, WriteOrder,
};
use dps_core::registration::Registration;
use dps_proto::ids::{DeviceId, EnrollmentGroupId, HubName, IdScope, InstanceSecret, RegistrationId};

use crate::condition::{permits_deletion, permits_put};

use content::{Anchor, Content, anchors, is_open, signers_of, written_over};
use waiting::newest_claim;

/// Keeps everything in memory behind one lock. It never fails and no future of it ever waits. Spec: DPS-STORE-9.
#[derive(Debug, Default)]
pub struct MemoryStore {
    content: Mutex<Content>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn content(&self) -> Result<MutexGuard<'_, Content>, StoreError> {
        self.content
            .lock()
            .map_err(|_| StoreError::Unavailable("a write was broken off by a panic".to_owned()))
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn open_instance(
        &self,
        scope: &IdScope,
        fresh: InstanceSecret,
    ) -> Result<InstanceSecret, StoreError> {
        self.content()?.instances.open(scope, fresh)
    }

    async fn id_scopes(&self) -> Result<Vec<IdScope>, StoreError> {
        Ok(self.content()?.instances.id_scopes())
    }

    async fn service_instances(&self) -> Result<Vec<StoredInstance>, StoreError> {
        Ok(self.content()?.instances.stored().cloned().collect())
    }

    async fn service_instance(&self, scope: &IdScope) -> Result<Option<StoredInstance>, StoreError> {
        Ok(self.content()?.instances.stored().find(|stored| stored.settings.id_scope == *scope).cloned())
    }

    async fn put_service_instance(
        &self,
        instance: StoredInstance,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        let mut content = self.content()?;
        let scope = instance.settings.id_scope.clone();
        let etag = instance.etag.clone();
        let changes = content.instances.put(instance, &order.condition)?;
        content.settings_version += 1;
        for (action, subject) in changes {
            let etag = (action != Action::Deleted).then(|| etag.clone());
            content.note(&scope, order.clone(), action, subject, etag);
        }
        Ok(())
    }

    async fn delete_service_instance(&self, scope: &IdScope, order: WriteOrder) -> Result<(), WriteError> {
        let mut content = self.content()?;
        content.instances.delete(scope, &order.condition)?;
        content.settings_version += 1;
        content.note(scope, order, Action::Deleted, Subject::ServiceInstance(scope.clone()), None);
        Ok(())
    }

    async fn sweep_deleted_instances(&self, of: Option<&IdScope>, _: u32) -> Result<Sweep, StoreError> {
        let mut content = self.content()?;
        let deleted = content.instances.take_deleted(of);
        deleted.iter().for_each(|scope| content.forget(scope));
        Ok(Sweep::Clean)
    }

    /// Nodes of one process may share it.
    async fn settings_version(&self) -> Result<Option<i64>, StoreError> {
        Ok(Some(self.content()?.settings_version))
    }

    async fn is_writable(&self) -> Result<(), StoreError> {
        self.content().map(drop)
    }

    async fn look_up(&self, scope: &IdScope, id: &RegistrationId) -> Result<LookUp, StoreError> {
        let content = self.content()?;
        let key = (scope.clone(), id.clone());
        let registration = content.registrations.get(&key).cloned();
        let registration_group = match registration.as_ref().map(|registration| &registration.entry) {
            Some(EntryRef::Group(group)) => {
                content.enrollment_groups.get(&(scope.clone(), group.clone())).cloned()
            }
            _ => None,
        };
        let individual_enrollment = content.individual_enrollments.get(&key).cloned();
        Ok(LookUp { individual_enrollment, registration, registration_group })
    }

    async fn candidate_groups(
        &self,
        scope: &IdScope,
        id: &RegistrationId,
    ) -> Result<CandidateGroups, StoreError> {
        let content = self.content()?;
        let mut groups: Vec<_> =
            content.groups(scope).filter(|group| signers_of(group).is_none()).cloned().collect();
        groups.sort_by_key(|group| (group.settings.created_at, group.id.clone()));
        let (open, mut prefixed): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|group| group.registration_id_prefix.is_none());
        prefixed
            .retain(|group| group.registration_id_prefix.as_ref().is_some_and(|prefix| prefix.matches(id)));
        // The sort is stable: groups of the same prefix stay oldest first.
        prefixed.sort_by_key(|group| {
            std::cmp::Reverse(group.registration_id_prefix.as_ref().map(|prefix| prefix.as_str().len()))
        });
        Ok(CandidateGroups { prefixed, open: open.into() })
    }

    async fn commit(&self, write: RegistrationWrite) -> Result<Commit, StoreError> {
        let mut content = self.content()?;
        let RegistrationWrite { mut registration, replaces, under_claim, decided_on, hub_writes } = write;
        let scope = registration.id_scope.clone();
        if content.instances.check_is_there(&scope).is_err() {
            return Ok(Commit::Outdated);
        }
        if let Some((entry, etag)) = decided_on
            && content.entry_etag(&scope, &entry) != Some(&etag)
        {
            return Ok(Commit::Outdated);
        }
        let key = (scope, registration.registration_id.clone());
        let stored = content.registrations.get(&key);
        if stored.map(|stored| &stored.etag) != replaces.as_ref() {
            return Ok(Commit::Outdated);
        }
        let newest_claim = stored.and_then(newest_claim);
        if under_claim.is_some() && under_claim != newest_claim {
            return Ok(Commit::Outdated);
        }
        if let Some(stored) = stored {
            registration.registration_id = stored.registration_id.clone();
            registration.created_at = stored.created_at;
        }
        let at = registration.updated_at;
        content.leased.remove(&key);
        content.registrations.insert(key, registration);
        content.write_at_hubs(hub_writes, at);
        Ok(Commit::Done)
    }

    async fn claim_waiting(&self, whom: WaitingFor, order: ClaimOrder) -> Result<Claimed, StoreError> {
        Ok(self.content()?.claim_waiting(whom, &order))
    }

    async fn postpone(
        &self,
        claimed: &ClaimedOperation,
        postponement: Postponement,
    ) -> Result<Commit, StoreError> {
        Ok(self.content()?.postpone(claimed, postponement))
    }

    async fn claim_clean_ups(&self, order: ClaimOrder) -> Result<Claimed<CleanUp>, StoreError> {
        Ok(self.content()?.claim_clean_ups(&order))
    }

    async fn clean_up_stands(&self, claimed: &CleanUp) -> Result<bool, StoreError> {
        Ok(self.content()?.clean_up_stands(claimed))
    }

    async fn settle_clean_up(
        &self,
        claimed: &CleanUp,
        outcome: CleanUpOutcome,
    ) -> Result<Commit, StoreError> {
        Ok(self.content()?.settle_clean_up(claimed, outcome))
    }

    async fn clean_up_stray(&self, clean_up: CleanUp) -> Result<Commit, StoreError> {
        Ok(self.content()?.put_stray(clean_up))
    }

    async fn clean_ups(
        &self,
        scope: &IdScope,
        after: Option<(&HubName, &DeviceId)>,
        limit: u32,
    ) -> Result<Vec<CleanUp>, StoreError> {
        let content = self.content()?;
        let of_scope = content.clean_ups.iter().filter(|((of, ..), _)| of == scope);
        let later =
            of_scope.filter(|((_, hub, device_id), _)| after.is_none_or(|after| (hub, device_id) > after));
        Ok(later.take(limit as usize).map(|(_, clean_up)| clean_up.clone()).collect())
    }

    async fn hub_loads(&self, scope: &IdScope) -> Result<Vec<HubLoad>, StoreError> {
        Ok(self.content()?.hub_loads(scope))
    }

    async fn delete_registration(
        &self,
        scope: &IdScope,
        id: &RegistrationId,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        let mut content = self.content()?;
        let key = (scope.clone(), id.clone());
        let stored = content.registrations.get(&key).map(|stored| stored.etag.as_str());
        permits_deletion(&order.condition, stored)?;
        content.leased.remove(&key);
        content.registrations.remove(&key);
        content.note(scope, order, Action::Deleted, Subject::Registration(id.clone()), None);
        Ok(())
    }

    async fn put_individual_enrollment(
        &self,
        scope: &IdScope,
        mut enrollment: IndividualEnrollment,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        let mut content = self.content()?;
        content.instances.check_is_there(scope)?;
        let key = (scope.clone(), enrollment.registration_id.clone());
        let stored = content.individual_enrollments.get(&key);
        permits_put(&order.condition, stored.map(|stored| stored.settings.etag.as_str()))?;
        if let Attestation::Signers(signers) = &enrollment.attestation {
            content.check_references(scope, signers)?;
        }
        let action = written_over(stored.is_some());
        let subject = Subject::Entry(EntryRef::Individual(enrollment.registration_id.clone()));
        let etag = enrollment.settings.etag.clone();
        if let Some(stored) = stored {
            enrollment.registration_id = stored.registration_id.clone();
            enrollment.settings.created_at = stored.settings.created_at;
        }
        content.individual_enrollments.insert(key, Arc::new(enrollment));
        content.note(scope, order, action, subject, Some(etag));
        Ok(())
    }

    async fn delete_individual_enrollment(
        &self,
        scope: &IdScope,
        id: &RegistrationId,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        let mut content = self.content()?;
        let key = (scope.clone(), id.clone());
        let stored = content.individual_enrollments.get(&key).map(|stored| stored.settings.etag.as_str());
        permits_deletion(&order.condition, stored)?;
        content.individual_enrollments.remove(&key);
        let subject = Subject::Entry(EntryRef::Individual(id.clone()));
        content.note(scope, order, Action::Deleted, subject, None);
        Ok(())
    }

    async fn individual_enrollments(
        &self,
        scope: &IdScope,
        filter: &EntryFilter,
        after: Option<&RegistrationId>,
        limit: u32,
    ) -> Result<Vec<Arc<IndividualEnrollment>>, StoreError> {
        let content = self.content()?;
        let enrollments = content.individual_enrollments.iter().filter(|((of, _), _)| of == scope);
        let later = enrollments.filter(|((_, id), _)| after.is_none_or(|after| id > after));
        let taken = later.filter(|(_, enrollment)| filter.takes_individual(enrollment));
        Ok(taken.take(limit as usize).map(|(_, enrollment)| Arc::clone(enrollment)).collect())
    }

    async fn enrollment_group(
        &self,
        scope: &IdScope,
        id: &EnrollmentGroupId,
    ) -> Result<Option<Arc<EnrollmentGroup>>, StoreError> {
        Ok(self.content()?.enrollment_groups.get(&(scope.clone(), id.clone())).cloned())
    }

    async fn put_enrollment_group(
        &self,
        scope: &IdScope,
        mut group: EnrollmentGroup,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        let mut content = self.content()?;
        content.instances.check_is_there(scope)?;
        let key = (scope.clone(), group.id.clone());
        let stored = content.enrollment_groups.get(&key);
        permits_put(&order.condition, stored.map(|stored| stored.settings.etag.as_str()))?;
        if let GroupAttestation::Signers(signers) = &group.attestation {
            content.check_references(scope, signers)?;
            content.check_anchors(scope, &group.id, signers)?;
        }
        if is_open(&group) && !stored.is_some_and(|stored| is_open(stored)) {
            let open = content.groups(scope).filter(|group| is_open(group)).count();
            if open >= OPEN_GROUPS_MAX {
                return Err(WriteError::TooManyOpenGroups(open));
            }
        }
        let stored_prefix = stored.and_then(|stored| stored.registration_id_prefix.as_ref());
        if let Some(prefix) = &group.registration_id_prefix
            && stored_prefix != Some(prefix)
        {
            let others = content.groups(scope).filter(|other| other.id != group.id);
            let most = prefix.most_on_one_id(others.filter_map(|other| other.registration_id_prefix.clone()));
            if most > PREFIXED_GROUPS_MAX {
                return Err(WriteError::TooManyPrefixedGroups(most));
            }
        }
        let action = written_over(stored.is_some());
        let (subject, etag) =
            (Subject::Entry(EntryRef::Group(group.id.clone())), group.settings.etag.clone());
        if let Some(stored) = stored {
            group.id = stored.id.clone();
            group.settings.created_at = stored.settings.created_at;
        }
        content.enrollment_groups.insert(key, Arc::new(group));
        content.note(scope, order, action, subject, Some(etag));
        Ok(())
    }

    async fn delete_enrollment_group(
        &self,
        scope: &IdScope,
        id: &EnrollmentGroupId,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        let mut content = self.content()?;
        let key = (scope.clone(), id.clone());
        let stored = content.enrollment_groups.get(&key).map(|stored| stored.settings.etag.as_str());
        permits_deletion(&order.condition, stored)?;
        content.enrollment_groups.remove(&key);
        content.note(scope, order, Action::Deleted, Subject::Entry(EntryRef::Group(id.clone())), None);
        Ok(())
    }

    async fn enrollment_groups(
        &self,
        scope: &IdScope,
        filter: &EntryFilter,
        after: Option<&EnrollmentGroupId>,
        limit: u32,
    ) -> Result<Vec<Arc<EnrollmentGroup>>, StoreError> {
        let content = self.content()?;
        let later = content.groups(scope).filter(|group| after.is_none_or(|after| group.id > *after));
        Ok(later.filter(|group| filter.takes_group(group)).take(limit as usize).cloned().collect())
    }

    async fn audit_records(
        &self,
        scope: &IdScope,
        filter: &AuditFilter,
        limit: u32,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        let content = self.content()?;
        let of_scope = content.audit.iter().rev().filter(|(of, _)| of == scope);
        let taken = of_scope.map(|(_, record)| record).filter(|record| filter.takes(record));
        Ok(taken.take(limit as usize).cloned().collect())
    }

    async fn registrations_of_group(
        &self,
        scope: &IdScope,
        group: &EnrollmentGroupId,
        after: Option<&RegistrationId>,
        limit: u32,
    ) -> Result<Vec<Registration>, StoreError> {
        let content = self.content()?;
        let entry = EntryRef::Group(group.clone());
        let of_group = content
            .registrations
            .iter()
            .filter(|((of, _), registration)| of == scope && registration.entry == entry);
        let later = of_group.filter(|((_, id), _)| after.is_none_or(|after| id > after));
        Ok(later.take(limit as usize).map(|(_, registration)| registration.clone()).collect())
    }

    async fn hub_device(
        &self,
        scope: &IdScope,
        hub: &HubName,
        device_id: &DeviceId,
    ) -> Result<Option<StoredHubDevice>, StoreError> {
        let key = (scope.clone(), hub.clone(), device_id.clone());
        Ok(self.content()?.hub_devices.get(&key).cloned())
    }

    async fn hub_devices(
        &self,
        scope: &IdScope,
        hub: &HubName,
        after: Option<&DeviceId>,
        limit: u32,
    ) -> Result<Vec<StoredHubDevice>, StoreError> {
        let content = self.content()?;
        let of_this_hub =
            |device: &&StoredHubDevice| device.device.id_scope == *scope && device.device.hub == *hub;
        let devices: Box<dyn Iterator<Item = &StoredHubDevice> + Send> = match after {
            Some(after) => {
                let from = Bound::Excluded((scope.clone(), hub.clone(), after.clone()));
                Box::new(content.hub_devices.range((from, Bound::Unbounded)).map(|(_, device)| device))
            }
            None => Box::new(content.hub_devices.values()),
        };
        Ok(devices.filter(of_this_hub).take(limit as usize).cloned().collect())
    }

    async fn set_hub_device_status(
        &self,
        scope: &IdScope,
        hub: &HubName,
        device_id: &DeviceId,
        status: HubDeviceStatus,
        by: Option<Box<Author>>,
    ) -> Result<(), WriteError> {
        let mut content = self.content()?;
        let key = (scope.clone(), hub.clone(), device_id.clone());
        let stored = content.hub_devices.get_mut(&key).ok_or(WriteError::Missing)?;
        stored.status = status;
        let subject = Subject::HubDevice(HubDeviceName::new(hub, device_id));
        content.note(scope, WriteOrder { condition: Condition::Always, by }, status.into(), subject, None);
        Ok(())
    }

    async fn chain_entries(&self, scope: &IdScope, wanted: &ChainWanted) -> Result<ChainEntries, StoreError> {
        let content = self.content()?;
        let authorities: Arc<[_]> = content.ca_certificates(scope).cloned().collect();
        let AnchorsWanted { subjects, ca_names } = wanted.anchors(&authorities);
        let enrollments = content.individual_enrollments.iter().filter(|((of, _), _)| of == scope);
        let mut individual_enrollments: Vec<_> = enrollments
            .map(|(_, enrollment)| enrollment)
            .filter(|enrollment| match &enrollment.attestation {
                Attestation::ClientCertificates(pair) => {
                    pair.iter().any(|certificate| certificate.thumbprint() == wanted.leaf)
                }
                _ => false,
            })
            .cloned()
            .collect();
        individual_enrollments
            .sort_by_key(|enrollment| (enrollment.settings.created_at, enrollment.registration_id.clone()));
        individual_enrollments.truncate(ChainEntries::HOLDERS_MAX);
        let is_wanted = |signers: &Signers| {
            anchors(signers).iter().any(|anchor| match anchor {
                Anchor::Subject(subject) => subjects.contains(subject),
                Anchor::Ca(name) => ca_names.iter().any(|wanted| wanted.folded() == &**name),
            })
        };
        let mut groups: Vec<_> =
            content.groups(scope).filter(|group| signers_of(group).is_some_and(is_wanted)).cloned().collect();
        groups.sort_by_key(|group| (group.settings.created_at, group.id.clone()));
        Ok(ChainEntries { individual_enrollments, groups, authorities })
    }

    async fn ca_certificates(&self, scope: &IdScope) -> Result<Arc<[Arc<CaCertificate>]>, StoreError> {
        Ok(self.content()?.ca_certificates(scope).cloned().collect())
    }

    async fn put_ca_certificate(
        &self,
        scope: &IdScope,
        mut certificate: CaCertificate,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        let mut content = self.content()?;
        content.instances.check_is_there(scope)?;
        let key = (scope.clone(), certificate.name.folded().into());
        let stored = content.ca_certificates.get(&key);
        permits_put(&order.condition, stored.map(|stored| stored.etag.as_str()))?;
        let action = written_over(stored.is_some());
        let (subject, etag) = (Subject::CaCertificate(certificate.name.clone()), certificate.etag.clone());
        match stored {
            Some(stored) => {
                certificate.name = stored.name.clone();
                certificate.created_at = stored.created_at;
            }
            None if content.ca_certificates(scope).count() >= CA_CERTIFICATES_MAX => {
                return Err(WriteError::TooManyCaCertificates(CA_CERTIFICATES_MAX));
            }
            None => {}
        }
        content.ca_certificates.insert(key, Arc::new(certificate));
        content.note(scope, order, action, subject, Some(etag));
        Ok(())
    }

    async fn delete_ca_certificate(
        &self,
        scope: &IdScope,
        name: &CaName,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        let mut content = self.content()?;
        let key = (scope.clone(), name.folded().into());
        permits_deletion(
            &order.condition,
            content.ca_certificates.get(&key).map(|stored| stored.etag.as_str()),
        )?;
        if let Some(entry) = content.referrer(scope, name) {
            return Err(WriteError::CaCertificateInUse(entry));
        }
        content.ca_certificates.remove(&key);
        content.note(scope, order, Action::Deleted, Subject::CaCertificate(name.clone()), None);
        Ok(())
    }
}
