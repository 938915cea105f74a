//! Several nodes as one store, for tests: each call goes to the next of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use dps_core::audit::{AuditFilter, AuditRecord, Author};
use dps_core::ca_certificate::{CaCertificate, CaName};
use dps_core::enrollment::{EnrollmentGroup, IndividualEnrollment};
use dps_core::entry_filter::EntryFilter;
use dps_core::instance_settings::StoredInstance;
use dps_core::ports::*;
use dps_core::registration::Registration;
use dps_proto::ids::{DeviceId, EnrollmentGroupId, HubName, IdScope, InstanceSecret, RegistrationId};

use super::PostgresStore;

/// Stores of one database.
pub(crate) struct Nodes {
    nodes: Vec<PostgresStore>,
    calls: AtomicUsize,
}

impl Nodes {
    pub(crate) fn new(nodes: Vec<PostgresStore>) -> Self {
        Self { nodes, calls: AtomicUsize::new(0) }
    }

    fn next(&self) -> &PostgresStore {
        &self.nodes[self.calls.fetch_add(1, Ordering::Relaxed) % self.nodes.len()]
    }
}

macro_rules! calls {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        #[async_trait]
        impl Store for Nodes {
            $(async fn $name(&self, $($argument: $type),*) -> $result {
                self.next().$name($($argument),*).await
            })*
        }
    };
}

calls! {
    fn open_instance(scope: &IdScope, fresh: InstanceSecret) -> Result<InstanceSecret, StoreError>;
    fn id_scopes() -> Result<Vec<IdScope>, StoreError>;
    fn service_instances() -> Result<Vec<StoredInstance>, StoreError>;
    fn service_instance(scope: &IdScope) -> Result<Option<StoredInstance>, StoreError>;
    fn put_service_instance(instance: StoredInstance, order: WriteOrder) -> Result<(), WriteError>;
    fn delete_service_instance(scope: &IdScope, order: WriteOrder) -> Result<(), WriteError>;
    fn sweep_deleted_instances(of: Option<&IdScope>, limit: u32) -> Result<Sweep, StoreError>;
    fn is_writable() -> Result<(), StoreError>;
    fn look_up(scope: &IdScope, id: &RegistrationId) -> Result<LookUp, StoreError>;
    fn candidate_groups(scope: &IdScope, id: &RegistrationId) -> Result<CandidateGroups, StoreError>;
    fn commit(write: RegistrationWrite) -> Result<Commit, StoreError>;
    fn claim_waiting(whom: WaitingFor, order: ClaimOrder) -> Result<Claimed, StoreError>;
    fn postpone(claimed: &ClaimedOperation, postponement: Postponement) -> Result<Commit, StoreError>;
    fn claim_clean_ups(order: ClaimOrder) -> Result<Claimed<CleanUp>, StoreError>;
    fn clean_up_stands(claimed: &CleanUp) -> Result<bool, StoreError>;
    fn settle_clean_up(claimed: &CleanUp, outcome: CleanUpOutcome) -> Result<Commit, StoreError>;
    fn clean_up_stray(clean_up: CleanUp) -> Result<Commit, StoreError>;
    fn clean_ups(scope: &IdScope, after: Option<(&HubName, &DeviceId)>, limit: u32) -> Result<Vec<CleanUp>, StoreError>;
    fn hub_loads(scope: &IdScope) -> Result<Vec<HubLoad>, StoreError>;
    fn delete_registration(scope: &IdScope, id: &RegistrationId, order: WriteOrder) -> Result<(), WriteError>;
    fn put_individual_enrollment(scope: &IdScope, enrollment: IndividualEnrollment, order: WriteOrder)
        -> Result<(), WriteError>;
    fn delete_individual_enrollment(scope: &IdScope, id: &RegistrationId, order: WriteOrder) -> Result<(), WriteError>;
    fn individual_enrollments(scope: &IdScope, filter: &EntryFilter, after: Option<&RegistrationId>, limit: u32)
        -> Result<Vec<Arc<IndividualEnrollment>>, StoreError>;
    fn enrollment_group(scope: &IdScope, id: &EnrollmentGroupId) -> Result<Option<Arc<EnrollmentGroup>>, StoreError>;
    fn put_enrollment_group(scope: &IdScope, group: EnrollmentGroup, order: WriteOrder) -> Result<(), WriteError>;
    fn delete_enrollment_group(scope: &IdScope, id: &EnrollmentGroupId, order: WriteOrder) -> Result<(), WriteError>;
    fn enrollment_groups(scope: &IdScope, filter: &EntryFilter, after: Option<&EnrollmentGroupId>, limit: u32)
        -> Result<Vec<Arc<EnrollmentGroup>>, StoreError>;
    fn registrations_of_group(
        scope: &IdScope, group: &EnrollmentGroupId, after: Option<&RegistrationId>, limit: u32
    ) -> Result<Vec<Registration>, StoreError>;
    fn audit_records(scope: &IdScope, filter: &AuditFilter, limit: u32) -> Result<Vec<AuditRecord>, StoreError>;
    fn hub_device(scope: &IdScope, hub: &HubName, device_id: &DeviceId) -> Result<Option<StoredHubDevice>, StoreError>;
    fn hub_devices(scope: &IdScope, hub: &HubName, after: Option<&DeviceId>, limit: u32)
        -> Result<Vec<StoredHubDevice>, StoreError>;
    fn set_hub_device_status(
        scope: &IdScope, hub: &HubName, device_id: &DeviceId, status: HubDeviceStatus, by: Option<Box<Author>>
    ) -> Result<(), WriteError>;
    fn chain_entries(scope: &IdScope, wanted: &ChainWanted) -> Result<ChainEntries, StoreError>;
    fn ca_certificates(scope: &IdScope) -> Result<Arc<[Arc<CaCertificate>]>, StoreError>;
    fn put_ca_certificate(scope: &IdScope, certificate: CaCertificate, order: WriteOrder) -> Result<(), WriteError>;
    fn delete_ca_certificate(scope: &IdScope, name: &CaName, order: WriteOrder) -> Result<(), WriteError>;
}
