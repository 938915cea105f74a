//! The store that several nodes share: PostgreSQL, 15 or newer. Spec: DPS-STORE-14 to DPS-STORE-25, DPS-NODE-1, DPS-NODE-5.
//!
//! One task writes registrations, many in a transaction ([`writer`], [`batch`]); every other write is a transaction of its own
//! ([`transaction`]). What is known of one device is one statement ([`look_up`]). The shape of the tables is in `migrations/`, the rows of
//! each table in a file of its name.
//!
//! Nodes know of each other by what is in the tables alone. No write of one is lost to another, and none is decided on what a node
//! remembers: that is used only where the same snapshot says that it is current ([`remembered`]).

mod anchor;
mod assignment;
mod audit;
mod batch;
mod ca_certificate;
mod claim;
mod clean_up;
mod clock;
mod columns;
mod conditional;
mod enrollment_group;
mod entry_clause;
mod fault;
mod fill;
mod group_limits;
mod hub_device;
mod hub_load;
mod hub_writes;
mod individual_enrollment;
mod instance;
mod linked_hub;
mod look_up;
mod options;
mod placing;
mod pool;
mod registration;
mod remembered;
mod schema;
mod settings;
mod shared_access_policy;
mod signers;
mod sweep;
mod table;
mod tls;
mod transaction;
mod turnstile;
mod versions;
mod waiting;
mod write_check;
mod writer;

use std::sync::Arc;

use async_trait::async_trait;
use dps_core::audit::{AuditFilter, AuditRecord, Author};
use dps_core::ca_certificate::{CaCertificate, CaName};
use dps_core::enrollment::{EnrollmentGroup, IndividualEnrollment};
use dps_core::entry_filter::EntryFilter;
use dps_core::instance_settings::StoredInstance;
use dps_core::ports::{
    CandidateGroups, ChainEntries, ChainWanted, ClaimOrder, Claimed, ClaimedOperation, CleanUp,
    CleanUpOutcome, Commit, HubDeviceStatus, HubLoad, LookUp, Postponement, RegistrationWrite, Store,
    StoreError, StoredHubDevice, Sweep, WaitingFor, WriteError, WriteObserver, WriteOrder,
};
use dps_core::registration::Registration;
use dps_proto::ids::{DeviceId, EnrollmentGroupId, HubName, IdScope, InstanceSecret, RegistrationId};
use jiff::Timestamp;

pub use self::fill::FillError;
pub use self::options::{
    BadSchemaName, BadTarget, PostgresOpenError, PostgresOptions, PostgresTarget, SchemaName, Unfit,
};

use self::batch::Wanted;
use self::ca_certificate::CaCertificates;
use self::enrollment_group::OpenGroups;
use self::pool::Connections;
use self::remembered::Remembered;
use self::transaction::{Writes, at_one_point_in_time};
use self::writer::Writer;
use crate::WriteStatistics;
use crate::sealing::Sealer;

/// A store in a PostgreSQL database, which other nodes may use at the same time. It needs a Tokio runtime.
pub struct PostgresStore {
    connections: Connections,
    writes: Writes,
    writer: Writer,
    sealer: Arc<Sealer>,
    open_groups: Remembered<OpenGroups>,
    ca_certificates: Remembered<CaCertificates>,
}

impl PostgresStore {
    /// Connects, looks whether the server is fit, and brings the tables to the newest version. Spec: DPS-STORE-15, DPS-STORE-16.
    pub async fn open(options: &PostgresOptions, sealer: Sealer) -> Result<Self, PostgresOpenError> {
        let connections = Connections::new(options, options.connections.get())?;
        let mut session = connections.get_first().await?;
        let client = session.client_mut().map_err(PostgresOpenError::unreachable)?;
        schema::migrate(client, &options.schema, options.migration_timeout).await?;
        drop(session);
        // Registrations never wait for a connection that somebody reads a list by.
        let writer = Writer::start(Connections::new(options, 1)?);
        Ok(Self {
            writes: Writes::new(connections.clone()),
            connections,
            writer,
            sealer: Arc::new(sealer),
            open_groups: Remembered::default(),
            ca_certificates: Remembered::default(),
        })
    }

    /// How many registrations were written since it was opened, and how many commits they shared.
    pub fn write_statistics(&self) -> WriteStatistics {
        self.writer.statistics()
    }

    /// Lets the registrations that wait be written, and closes the connections.
    pub async fn close(self) {
        self.writer.close().await;
        self.connections.close();
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn open_instance(
        &self,
        scope: &IdScope,
        fresh: InstanceSecret,
    ) -> Result<InstanceSecret, StoreError> {
        let sealed = instance::seal_secret(&self.sealer, scope, &fresh)?;
        let sealed = self.writes.write(&instance::Open { scope, fresh: &sealed }).await?;
        instance::open_secret(&self.sealer, scope, &sealed)
    }

    async fn id_scopes(&self) -> Result<Vec<IdScope>, StoreError> {
        let session = self.connections.get().await?;
        session.within(instance::id_scopes(session.client()?)).await
    }

    async fn service_instances(&self) -> Result<Vec<StoredInstance>, StoreError> {
        at_one_point_in_time(&self.connections, &instance::Kept { sealer: &self.sealer, scope: None }).await
    }

    async fn service_instance(&self, scope: &IdScope) -> Result<Option<StoredInstance>, StoreError> {
        let kept = instance::Kept { sealer: &self.sealer, scope: Some(scope) };
        Ok(at_one_point_in_time(&self.connections, &kept).await?.pop())
    }

    async fn put_service_instance(
        &self,
        instance: StoredInstance,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        self.writes.write(&instance::Put::new(&self.sealer, &instance, &order)?).await?
    }

    async fn delete_service_instance(&self, scope: &IdScope, order: WriteOrder) -> Result<(), WriteError> {
        self.writes.write(&instance::Delete { scope, order: &order }).await?
    }

    async fn sweep_deleted_instances(&self, of: Option<&IdScope>, limit: u32) -> Result<Sweep, StoreError> {
        let step = self.writes.write(&sweep::Step { of, limit }).await?;
        if let (Sweep::Clean, Some(scope)) = (step, of) {
            self.open_groups.forget(scope);
            self.ca_certificates.forget(scope);
        }
        Ok(step)
    }

    async fn is_writable(&self) -> Result<(), StoreError> {
        self.writes.write(&write_check::WriteCheck).await
    }

    async fn look_up(&self, scope: &IdScope, id: &RegistrationId) -> Result<LookUp, StoreError> {
        let session = self.connections.get().await?;
        session.within(look_up::look_up(session.client()?, &self.sealer, scope, id)).await
    }

    async fn candidate_groups(
        &self,
        scope: &IdScope,
        id: &RegistrationId,
    ) -> Result<CandidateGroups, StoreError> {
        let candidates =
            look_up::Candidates { sealer: &self.sealer, scope, id, open_groups: &self.open_groups };
        at_one_point_in_time(&self.connections, &candidates).await
    }

    async fn commit(&self, write: RegistrationWrite) -> Result<Commit, StoreError> {
        let waiting = self.writes.asked();
        let seal = |write| hub_device::seal(&self.sealer, write);
        let sealed_keys = write.hub_writes.iter().map(seal).collect::<Result<_, _>>()?;
        self.writer.write(Wanted { write, sealed_keys }, waiting).await
    }

    async fn claim_waiting(&self, whom: WaitingFor, order: ClaimOrder) -> Result<Claimed, StoreError> {
        self.writes.write(&waiting::Claim { whom, order: &order }).await
    }

    async fn postpone(
        &self,
        claimed: &ClaimedOperation,
        postponement: Postponement,
    ) -> Result<Commit, StoreError> {
        self.writes.write(&waiting::Postpone { claimed, postponement }).await
    }

    async fn claim_clean_ups(&self, order: ClaimOrder) -> Result<Claimed<CleanUp>, StoreError> {
        self.writes.write(&clean_up::Claim { order: &order }).await
    }

    async fn clean_up_stands(&self, claimed: &CleanUp) -> Result<bool, StoreError> {
        let session = self.connections.get().await?;
        session.within(clean_up::stands(session.client()?, claimed)).await
    }

    async fn settle_clean_up(
        &self,
        claimed: &CleanUp,
        outcome: CleanUpOutcome,
    ) -> Result<Commit, StoreError> {
        self.writes.write(&clean_up::Settle { claimed, outcome: &outcome }).await
    }

    async fn clean_up_stray(&self, clean_up: CleanUp) -> Result<Commit, StoreError> {
        self.writes.write(&clean_up::PutStray { clean_up: &clean_up }).await
    }

    async fn clean_ups(
        &self,
        scope: &IdScope,
        after: Option<(&HubName, &DeviceId)>,
        limit: u32,
    ) -> Result<Vec<CleanUp>, StoreError> {
        let session = self.connections.get().await?;
        session.within(clean_up::list(session.client()?, scope, after, limit)).await
    }

    async fn hub_loads(&self, scope: &IdScope) -> Result<Vec<HubLoad>, StoreError> {
        at_one_point_in_time(&self.connections, &hub_load::Count { scope }).await
    }

    async fn delete_registration(
        &self,
        scope: &IdScope,
        id: &RegistrationId,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        self.writes.write(&registration::Delete { scope, id, order: &order }).await?
    }

    async fn put_individual_enrollment(
        &self,
        scope: &IdScope,
        enrollment: IndividualEnrollment,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        let put = individual_enrollment::Put::new(&self.sealer, scope, &enrollment, &order)?;
        self.writes.write(&put).await?
    }

    async fn delete_individual_enrollment(
        &self,
        scope: &IdScope,
        id: &RegistrationId,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        self.writes.write(&individual_enrollment::Delete { scope, id, order: &order }).await?
    }

    async fn individual_enrollments(
        &self,
        scope: &IdScope,
        filter: &EntryFilter,
        after: Option<&RegistrationId>,
        limit: u32,
    ) -> Result<Vec<Arc<IndividualEnrollment>>, StoreError> {
        let session = self.connections.get().await?;
        let client = session.client()?;
        session.within(individual_enrollment::list(client, &self.sealer, scope, (filter, after), limit)).await
    }

    async fn enrollment_group(
        &self,
        scope: &IdScope,
        id: &EnrollmentGroupId,
    ) -> Result<Option<Arc<EnrollmentGroup>>, StoreError> {
        let session = self.connections.get().await?;
        session.within(enrollment_group::find(session.client()?, &self.sealer, scope, id)).await
    }

    async fn put_enrollment_group(
        &self,
        scope: &IdScope,
        group: EnrollmentGroup,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        let put = enrollment_group::Put::new(&self.sealer, scope, &group, &order)?;
        self.writes.write(&put).await?
    }

    async fn delete_enrollment_group(
        &self,
        scope: &IdScope,
        id: &EnrollmentGroupId,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        self.writes.write(&enrollment_group::Delete { scope, id, order: &order }).await?
    }

    async fn enrollment_groups(
        &self,
        scope: &IdScope,
        filter: &EntryFilter,
        after: Option<&EnrollmentGroupId>,
        limit: u32,
    ) -> Result<Vec<Arc<EnrollmentGroup>>, StoreError> {
        let session = self.connections.get().await?;
        let client = session.client()?;
        session.within(enrollment_group::list(client, &self.sealer, scope, (filter, after), limit)).await
    }

    async fn registrations_of_group(
        &self,
        scope: &IdScope,
        group: &EnrollmentGroupId,
        after: Option<&RegistrationId>,
        limit: u32,
    ) -> Result<Vec<Registration>, StoreError> {
        let session = self.connections.get().await?;
        session.within(registration::of_group(session.client()?, scope, group, after, limit)).await
    }

    async fn audit_records(
        &self,
        scope: &IdScope,
        filter: &AuditFilter,
        limit: u32,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        let session = self.connections.get().await?;
        session.within(audit::list(session.client()?, scope, filter, limit)).await
    }

    async fn hub_device(
        &self,
        scope: &IdScope,
        hub: &HubName,
        device_id: &DeviceId,
    ) -> Result<Option<StoredHubDevice>, StoreError> {
        let session = self.connections.get().await?;
        session.within(hub_device::find(session.client()?, &self.sealer, scope, hub, device_id)).await
    }

    async fn hub_devices(
        &self,
        scope: &IdScope,
        hub: &HubName,
        after: Option<&DeviceId>,
        limit: u32,
    ) -> Result<Vec<StoredHubDevice>, StoreError> {
        let session = self.connections.get().await?;
        session.within(hub_device::list(session.client()?, &self.sealer, (scope, hub), after, limit)).await
    }

    async fn set_hub_device_status(
        &self,
        scope: &IdScope,
        hub: &HubName,
        device_id: &DeviceId,
        status: HubDeviceStatus,
        by: Option<Box<Author>>,
    ) -> Result<(), WriteError> {
        self.writes.write(&hub_device::SetStatus { scope, hub, device_id, status, by: by.as_deref() }).await?
    }

    async fn chain_entries(&self, scope: &IdScope, wanted: &ChainWanted) -> Result<ChainEntries, StoreError> {
        let ca_certificates = &self.ca_certificates;
        let chain = look_up::Chain { sealer: &self.sealer, scope, wanted, ca_certificates };
        at_one_point_in_time(&self.connections, &chain).await
    }

    async fn ca_certificates(&self, scope: &IdScope) -> Result<Arc<[Arc<CaCertificate>]>, StoreError> {
        let ca_certificates = &self.ca_certificates;
        let authorities = look_up::Authorities { sealer: &self.sealer, scope, ca_certificates };
        at_one_point_in_time(&self.connections, &authorities).await
    }

    async fn put_ca_certificate(
        &self,
        scope: &IdScope,
        certificate: CaCertificate,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        self.writes.write(&ca_certificate::Put { scope, ca: &certificate, order: &order }).await?
    }

    async fn delete_ca_certificate(
        &self,
        scope: &IdScope,
        name: &CaName,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        self.writes.write(&ca_certificate::Delete { scope, name, order: &order }).await?
    }

    async fn settings_version(&self) -> Result<Option<i64>, StoreError> {
        let session = self.connections.get().await?;
        session.within(instance::settings_version(session.client()?)).await.map(Some)
    }

    async fn clock(&self) -> Result<Option<Timestamp>, StoreError> {
        let session = self.connections.get().await?;
        session.within(clock::read(session.client()?)).await.map(Some)
    }

    fn observe_writes(&self, observer: Arc<dyn WriteObserver>) {
        self.writes.observe(observer);
    }
}

#[cfg(test)]
pub(crate) mod alternating;
#[cfg(test)]
pub(crate) mod server;
#[cfg(test)]
mod tests;
