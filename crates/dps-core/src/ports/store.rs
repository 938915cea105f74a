//! The store of enrollments, records and the devices of local hubs.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dps_proto::ids::{DeviceId, EnrollmentGroupId, HubName, IdScope, InstanceSecret, RegistrationId};
use jiff::Timestamp;

use super::{
    CandidateGroups, ChainEntries, ChainWanted, ClaimOrder, Claimed, ClaimedOperation, CleanUp,
    CleanUpOutcome, Commit, HubDeviceStatus, HubLoad, LookUp, Postponement, RegistrationWrite, StoreError,
    StoredHubDevice, Sweep, WaitingFor, WriteError, WriteOrder,
};
use crate::audit::{AuditFilter, AuditRecord, Author};
use crate::ca_certificate::{CaCertificate, CaName};
use crate::enrollment::{EnrollmentGroup, IndividualEnrollment};
use crate::entry_filter::EntryFilter;
use crate::instance_settings::StoredInstance;
use crate::registration::Registration;

/// Where enrollments, records and the devices of local hubs are kept. Spec: DPS-STORE-1 to DPS-STORE-11.
#[async_trait]
pub trait Store: Send + Sync {
    /// The secret of an instance; `fresh` becomes it if the instance is new.
    async fn open_instance(
        &self,
        scope: &IdScope,
        fresh: InstanceSecret,
    ) -> Result<InstanceSecret, StoreError>;

    /// The ID scopes of all instances that were ever opened, in the order of their creation.
    async fn id_scopes(&self) -> Result<Vec<IdScope>, StoreError>;

    /// The instances whose settings are kept here, in the order of their creation; at most
    /// [`crate::instance_settings::INSTANCES_MAX`]. Spec: DPS-INST-1.
    async fn service_instances(&self) -> Result<Vec<StoredInstance>, StoreError>;

    /// The instance of that ID scope, if its settings are kept here.
    async fn service_instance(&self, scope: &IdScope) -> Result<Option<StoredInstance>, StoreError>;

    /// Creates an instance or replaces its settings; etag and dates are stored as given, `created_at` only at creation. The
    /// secret is that of [`Store::open_instance`] where there is one. Each change is recorded for itself.
    /// Spec: DPS-INST-2, DPS-INST-3, DPS-INST-10.
    async fn put_service_instance(
        &self,
        instance: StoredInstance,
        order: WriteOrder,
    ) -> Result<(), WriteError>;

    /// Takes an instance's settings away for good; what belongs to it is deleted by [`Store::sweep_deleted_instances`].
    /// Spec: DPS-INST-8.
    async fn delete_service_instance(&self, scope: &IdScope, order: WriteOrder) -> Result<(), WriteError>;

    /// Deletes up to `limit` rows of each kind of what a deleted instance left, the one of this ID scope or any; whether there may
    /// be more. What is written to it meanwhile goes with the rest or is refused; what comes later is refused. Spec: DPS-INST-8, DPS-STORE-24.
    async fn sweep_deleted_instances(&self, of: Option<&IdScope>, limit: u32) -> Result<Sweep, StoreError>;

    /// Whether a write would be durable now: something is written that changes nothing. Spec: DPS-METRICS-4.
    async fn is_writable(&self) -> Result<(), StoreError>;

    /// What is known of a registration id, all seen at one point in time.
    async fn look_up(&self, scope: &IdScope, id: &RegistrationId) -> Result<LookUp, StoreError>;

    /// The symmetric-key groups that a device with this id may belong to, all seen at one point in time. Spec: DPS-REG-2.
    async fn candidate_groups(
        &self,
        scope: &IdScope,
        id: &RegistrationId,
    ) -> Result<CandidateGroups, StoreError>;

    /// Writes a record and what its hub wants written, all or nothing. `Ok(Commit::Done)` means durable.
    /// Spec: DPS-STORE-2, DPS-STORE-4, DPS-STORE-5.
    async fn commit(&self, write: RegistrationWrite) -> Result<Commit, StoreError>;

    /// Claims operations that wait for `whom` and are due, the longest due first: each gets the next number of its tries and is not
    /// due before the lease has run out. One whose last lease ran out, and was not given back by [`Store::postpone`], has
    /// [`crate::registration::Placing::unanswered_at`] set to `order.now`. Spec: DPS-REG-32, DPS-REG-44.
    async fn claim_waiting(&self, whom: WaitingFor, order: ClaimOrder) -> Result<Claimed, StoreError>;

    /// Lets a claimed operation be due at another time, if the claim is still its newest. Spec: DPS-REG-32.
    async fn postpone(
        &self,
        claimed: &ClaimedOperation,
        postponement: Postponement,
    ) -> Result<Commit, StoreError>;

    /// Claims devices that are to be gone from hubs outside, as [`Store::claim_waiting`] does operations; `tries` and `due_at` are those
    /// of the claim. Spec: DPS-REG-43.
    async fn claim_clean_ups(&self, order: ClaimOrder) -> Result<Claimed<CleanUp>, StoreError>;

    /// Whether this claim is the newest, and the device still to be gone: its record has it neither there nor on the way there. What was
    /// written before it was asked is seen. Spec: DPS-REG-43.
    async fn clean_up_stands(&self, claimed: &CleanUp) -> Result<bool, StoreError>;

    /// Ends or postpones a claimed clean-up, if the claim is still its newest. Spec: DPS-REG-43.
    async fn settle_clean_up(&self, claimed: &CleanUp, outcome: CleanUpOutcome)
    -> Result<Commit, StoreError>;

    /// Orders a clean-up for what a worker made whose claim was no longer the newest. [`Commit::Outdated`], and nothing is
    /// written, where the record has the device at that hub under that id, or is about to. Spec: DPS-REG-44.
    async fn clean_up_stray(&self, clean_up: CleanUp) -> Result<Commit, StoreError>;

    /// Up to `limit` clean-ups of an instance that come after `after`, in the order of folded hub and device id.
    async fn clean_ups(
        &self,
        scope: &IdScope,
        after: Option<(&HubName, &DeviceId)>,
        limit: u32,
    ) -> Result<Vec<CleanUp>, StoreError>;

    /// How many devices are at each hub of an instance, and on their way; hubs without any are left out. Looks at all records.
    /// Spec: DPS-REG-47.
    async fn hub_loads(&self, scope: &IdScope) -> Result<Vec<HubLoad>, StoreError>;

    /// Deletes a record. The device's identity at its hub stays.
    async fn delete_registration(
        &self,
        scope: &IdScope,
        id: &RegistrationId,
        order: WriteOrder,
    ) -> Result<(), WriteError>;

    /// Creates or replaces an individual enrollment; its etag and dates are stored as given, `created_at` only at creation.
    async fn put_individual_enrollment(
        &self,
        scope: &IdScope,
        enrollment: IndividualEnrollment,
        order: WriteOrder,
    ) -> Result<(), WriteError>;

    /// Deletes an individual enrollment; the record of its device stays.
    async fn delete_individual_enrollment(
        &self,
        scope: &IdScope,
        id: &RegistrationId,
        order: WriteOrder,
    ) -> Result<(), WriteError>;

    /// Up to `limit` individual enrollments that `filter` takes and whose ids come after `after`, in the order of their folded
    /// ids. Spec: DPS-STORE-11.
    async fn individual_enrollments(
        &self,
        scope: &IdScope,
        filter: &EntryFilter,
        after: Option<&RegistrationId>,
        limit: u32,
    ) -> Result<Vec<Arc<IndividualEnrollment>>, StoreError>;

    /// The enrollment group of that id.
    async fn enrollment_group(
        &self,
        scope: &IdScope,
        id: &EnrollmentGroupId,
    ) -> Result<Option<Arc<EnrollmentGroup>>, StoreError>;

    /// Creates or replaces an enrollment group, as [`Store::put_individual_enrollment`] does. Spec: DPS-REG-3, DPS-REG-21.
    async fn put_enrollment_group(
        &self,
        scope: &IdScope,
        group: EnrollmentGroup,
        order: WriteOrder,
    ) -> Result<(), WriteError>;

    /// Deletes an enrollment group; the records of its devices stay.
    async fn delete_enrollment_group(
        &self,
        scope: &IdScope,
        id: &EnrollmentGroupId,
        order: WriteOrder,
    ) -> Result<(), WriteError>;

    /// Up to `limit` enrollment groups that `filter` takes and whose ids come after `after`, in the order of their folded ids.
    /// Spec: DPS-STORE-11.
    async fn enrollment_groups(
        &self,
        scope: &IdScope,
        filter: &EntryFilter,
        after: Option<&EnrollmentGroupId>,
        limit: u32,
    ) -> Result<Vec<Arc<EnrollmentGroup>>, StoreError>;

    /// Up to `limit` records that came from this group, whether or not it still exists, whose registration ids come after
    /// `after`, in the order of their folded ids. Spec: DPS-STORE-11.
    async fn registrations_of_group(
        &self,
        scope: &IdScope,
        group: &EnrollmentGroupId,
        after: Option<&RegistrationId>,
        limit: u32,
    ) -> Result<Vec<Registration>, StoreError>;

    /// The newest `limit` records of changes that `filter` takes, newest first. Spec: DPS-AUDIT-4.
    async fn audit_records(
        &self,
        scope: &IdScope,
        filter: &AuditFilter,
        limit: u32,
    ) -> Result<Vec<AuditRecord>, StoreError>;

    /// The device of that id at a local hub.
    async fn hub_device(
        &self,
        scope: &IdScope,
        hub: &HubName,
        device_id: &DeviceId,
    ) -> Result<Option<StoredHubDevice>, StoreError>;

    /// Up to `limit` devices of a local hub whose ids come after `after`, in the order of their ids.
    async fn hub_devices(
        &self,
        scope: &IdScope,
        hub: &HubName,
        after: Option<&DeviceId>,
        limit: u32,
    ) -> Result<Vec<StoredHubDevice>, StoreError>;

    /// Enables or disables a device of a local hub, which stays so when it registers again. [`WriteError::Missing`] where
    /// there is none. Spec: DPS-BROKER-12.
    async fn set_hub_device_status(
        &self,
        scope: &IdScope,
        hub: &HubName,
        device_id: &DeviceId,
        status: HubDeviceStatus,
        by: Option<Box<Author>>,
    ) -> Result<(), WriteError>;

    /// What a chain may lead to, by way of [`ChainWanted::anchors`], all seen at one point in time. Spec: DPS-X509-6, DPS-X509-7.
    async fn chain_entries(&self, scope: &IdScope, wanted: &ChainWanted) -> Result<ChainEntries, StoreError>;

    /// All CA certificates of an instance, verified or not, in the order of their folded names; at most
    /// [`crate::ca_certificate::CA_CERTIFICATES_MAX`]. Asked for at every register by certificate: not to be read and parsed
    /// each time. Spec: DPS-X509-23.
    async fn ca_certificates(&self, scope: &IdScope) -> Result<Arc<[Arc<CaCertificate>]>, StoreError>;

    /// Creates or replaces a CA certificate; its etag and dates are stored as given, `created_at` only at creation.
    async fn put_ca_certificate(
        &self,
        scope: &IdScope,
        certificate: CaCertificate,
        order: WriteOrder,
    ) -> Result<(), WriteError>;

    /// Deletes a CA certificate that no entry refers to. Spec: DPS-X509-25.
    async fn delete_ca_certificate(
        &self,
        scope: &IdScope,
        name: &CaName,
        order: WriteOrder,
    ) -> Result<(), WriteError>;

    /// Another number after each change of any service instance, for the nodes that share a store; `None` where no other process writes
    /// to it. Spec: DPS-NODE-3.
    async fn settings_version(&self) -> Result<Option<i64>, StoreError> {
        Ok(None)
    }

    /// The time by the clock of a store that several nodes share; `None` where that is the process's own. Spec: DPS-NODE-2.
    async fn clock(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }

    /// Tells `observer`, the first that is given, of every write from now on. A store in which no write ever waits tells
    /// nothing. Spec: DPS-METRICS-5.
    fn observe_writes(&self, _observer: Arc<dyn WriteObserver>) {}
}

/// Hears how long the writes of a store take. Called on the store's own threads: it must not block. Spec: DPS-METRICS-5.
pub trait WriteObserver: Send + Sync {
    /// Someone asked for a write, which waits from now on.
    fn asked(&self);

    /// A write that was asked for has ended, well or not, `took` after it was asked for: the time in the queue and its
    /// share of a common commit are in it.
    fn ended(&self, took: Duration);
}
