//! A store in memory that is unavailable for a number of look-ups.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use dps_core::audit::{AuditFilter, AuditRecord, Author};
use dps_core::ca_certificate::{CaCertificate, CaName};
use dps_core::enrollment::{EnrollmentGroup, IndividualEnrollment};
use dps_core::entry_filter::EntryFilter;
use dps_core::instance_settings::StoredInstance;
use dps_core::ports::{
    CandidateGroups, ChainEntries, ChainWanted, ClaimOrder, Claimed, ClaimedOperation, CleanUp,
    CleanUpOutcome, Commit, HubDeviceStatus, HubLoad, LookUp, Postponement, RegistrationWrite, Store,
    StoreError, StoredHubDevice, Sweep, WaitingFor, WriteError, WriteOrder,
};
use dps_core::registration::Registration;
use dps_proto::ids::{DeviceId, EnrollmentGroupId, HubName, IdScope, InstanceSecret, RegistrationId};
use dps_store::MemoryStore;

pub(crate) struct FailingStore {
    pub(crate) inner: MemoryStore,
    /// Look-ups that still fail.
    pub(crate) left: AtomicU32,
}

#[async_trait]
impl Store for FailingStore {
    async fn open_instance(&self, s: &IdScope, fresh: InstanceSecret) -> Result<InstanceSecret, StoreError> {
        self.inner.open_instance(s, fresh).await
    }

    async fn id_scopes(&self) -> Result<Vec<IdScope>, StoreError> {
        self.inner.id_scopes().await
    }

    async fn service_instances(&self) -> Result<Vec<StoredInstance>, StoreError> {
        self.inner.service_instances().await
    }

    async fn service_instance(&self, scope: &IdScope) -> Result<Option<StoredInstance>, StoreError> {
        self.inner.service_instance(scope).await
    }

    async fn put_service_instance(
        &self,
        instance: StoredInstance,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        self.inner.put_service_instance(instance, order).await
    }

    async fn delete_service_instance(&self, scope: &IdScope, order: WriteOrder) -> Result<(), WriteError> {
        self.inner.delete_service_instance(scope, order).await
    }

    async fn sweep_deleted_instances(&self, of: Option<&IdScope>, limit: u32) -> Result<Sweep, StoreError> {
        self.inner.sweep_deleted_instances(of, limit).await
    }

    async fn is_writable(&self) -> Result<(), StoreError> {
        self.inner.is_writable().await
    }

    async fn look_up(&self, scope: &IdScope, id: &RegistrationId) -> Result<LookUp, StoreError> {
        let take = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        match take {
            Ok(_) => Err(StoreError::Unavailable("the disk is full".to_owned())),
            Err(_) => self.inner.look_up(scope, id).await,
        }
    }

    async fn candidate_groups(
        &self,
        s: &IdScope,
        id: &RegistrationId,
    ) -> Result<CandidateGroups, StoreError> {
        self.inner.candidate_groups(s, id).await
    }

    async fn claim_waiting(&self, whom: WaitingFor, order: ClaimOrder) -> Result<Claimed, StoreError> {
        self.inner.claim_waiting(whom, order).await
    }

    async fn postpone(
        &self,
        claimed: &ClaimedOperation,
        postponement: Postponement,
    ) -> Result<Commit, StoreError> {
        self.inner.postpone(claimed, postponement).await
    }

    async fn claim_clean_ups(&self, order: ClaimOrder) -> Result<Claimed<CleanUp>, StoreError> {
        self.inner.claim_clean_ups(order).await
    }

    async fn clean_up_stands(&self, claimed: &CleanUp) -> Result<bool, StoreError> {
        self.inner.clean_up_stands(claimed).await
    }

    async fn settle_clean_up(
        &self,
        claimed: &CleanUp,
        outcome: CleanUpOutcome,
    ) -> Result<Commit, StoreError> {
        self.inner.settle_clean_up(claimed, outcome).await
    }

    async fn clean_up_stray(&self, clean_up: CleanUp) -> Result<Commit, StoreError> {
        self.inner.clean_up_stray(clean_up).await
    }

    async fn clean_ups(
        &self,
        scope: &IdScope,
        after: Option<(&HubName, &DeviceId)>,
        limit: u32,
    ) -> Result<Vec<CleanUp>, StoreError> {
        self.inner.clean_ups(scope, after, limit).await
    }

    async fn hub_loads(&self, scope: &IdScope) -> Result<Vec<HubLoad>, StoreError> {
        self.inner.hub_loads(scope).await
    }

    async fn commit(&self, write: RegistrationWrite) -> Result<Commit, StoreError> {
        self.inner.commit(write).await
    }

    async fn delete_registration(
        &self,
        scope: &IdScope,
        id: &RegistrationId,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        self.inner.delete_registration(scope, id, order).await
    }

    async fn put_individual_enrollment(
        &self,
        scope: &IdScope,
        enrollment: IndividualEnrollment,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        self.inner.put_individual_enrollment(scope, enrollment, order).await
    }

    async fn delete_individual_enrollment(
        &self,
        scope: &IdScope,
        id: &RegistrationId,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        self.inner.delete_individual_enrollment(scope, id, order).await
    }

    async fn enrollment_group(
        &self,
        scope: &IdScope,
        id: &EnrollmentGroupId,
    ) -> Result<Option<Arc<EnrollmentGroup>>, StoreError> {
        self.inner.enrollment_group(scope, id).await
    }

    async fn put_enrollment_group(
        &self,
        scope: &IdScope,
        group: EnrollmentGroup,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        self.inner.put_enrollment_group(scope, group, order).await
    }

    async fn delete_enrollment_group(
        &self,
        scope: &IdScope,
        id: &EnrollmentGroupId,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        self.inner.delete_enrollment_group(scope, id, order).await
    }

    async fn individual_enrollments(
        &self,
        scope: &IdScope,
        filter: &EntryFilter,
        after: Option<&RegistrationId>,
        limit: u32,
    ) -> Result<Vec<Arc<IndividualEnrollment>>, StoreError> {
        self.inner.individual_enrollments(scope, filter, after, limit).await
    }

    async fn enrollment_groups(
        &self,
        scope: &IdScope,
        filter: &EntryFilter,
        after: Option<&EnrollmentGroupId>,
        limit: u32,
    ) -> Result<Vec<Arc<EnrollmentGroup>>, StoreError> {
        self.inner.enrollment_groups(scope, filter, after, limit).await
    }

    async fn audit_records(
        &self,
        scope: &IdScope,
        filter: &AuditFilter,
        limit: u32,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        self.inner.audit_records(scope, filter, limit).await
    }

    async fn registrations_of_group(
        &self,
        scope: &IdScope,
        group: &EnrollmentGroupId,
        after: Option<&RegistrationId>,
        limit: u32,
    ) -> Result<Vec<Registration>, StoreError> {
        self.inner.registrations_of_group(scope, group, after, limit).await
    }

    async fn hub_device(
        &self,
        scope: &IdScope,
        hub: &HubName,
        device_id: &DeviceId,
    ) -> Result<Option<StoredHubDevice>, StoreError> {
        self.inner.hub_device(scope, hub, device_id).await
    }

    async fn hub_devices(
        &self,
        scope: &IdScope,
        hub: &HubName,
        after: Option<&DeviceId>,
        limit: u32,
    ) -> Result<Vec<StoredHubDevice>, StoreError> {
        self.inner.hub_devices(scope, hub, after, limit).await
    }

    async fn set_hub_device_status(
        &self,
        scope: &IdScope,
        hub: &HubName,
        device_id: &DeviceId,
        status: HubDeviceStatus,
        by: Option<Box<Author>>,
    ) -> Result<(), WriteError> {
        self.inner.set_hub_device_status(scope, hub, device_id, status, by).await
    }

    async fn chain_entries(&self, scope: &IdScope, wanted: &ChainWanted) -> Result<ChainEntries, StoreError> {
        self.inner.chain_entries(scope, wanted).await
    }

    async fn ca_certificates(&self, scope: &IdScope) -> Result<Arc<[Arc<CaCertificate>]>, StoreError> {
        self.inner.ca_certificates(scope).await
    }

    async fn put_ca_certificate(
        &self,
        scope: &IdScope,
        certificate: CaCertificate,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        self.inner.put_ca_certificate(scope, certificate, order).await
    }

    async fn delete_ca_certificate(
        &self,
        scope: &IdScope,
        name: &CaName,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        self.inner.delete_ca_certificate(scope, name, order).await
    }
}
