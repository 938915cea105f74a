//! The store that keeps everything in one SQLite file. Spec: DPS-STORE-1 to DPS-STORE-8.
//!
//! One thread writes ([`writer`]), a few read lists, what is known of one device is read on the thread that asks ([`reader`]), one
//! thread keeps the write-ahead log short ([`checkpoint`]). The shape of the tables is in `migrations/`, the rows of each table in a
//! file of its name.

mod alarm;
mod assignment;
mod audit;
mod backup;
mod ca_certificate;
mod cause;
mod checkpoint;
mod claim;
mod clean_up;
mod columns;
mod conditional;
mod contents;
mod converted;
mod copy;
mod enrollment_group;
mod entry_clause;
mod fault;
mod hub_device;
mod hub_load;
mod hub_write;
mod individual_enrollment;
mod instance;
mod linked_hub;
mod open;
mod placing;
#[cfg(test)]
mod query_plans;
mod queue;
mod reader;
mod registration;
mod remembered;
mod restore;
mod schema;
mod settings;
mod shared_access_policy;
mod signers;
mod source;
mod sweep;
#[cfg(test)]
mod tests;
mod unfinished;
mod versions;
mod waiting;
mod writer;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use dps_core::audit::{AuditFilter, AuditRecord, Author, HubDeviceName, Subject};
use dps_core::ca_certificate::{CaCertificate, CaName};
use dps_core::enrollment::{EnrollmentGroup, EntryRef, IndividualEnrollment};
use dps_core::entry_filter::EntryFilter;
use dps_core::instance_settings::StoredInstance;
use dps_core::ports::{
    CandidateGroups, ChainEntries, ChainWanted, ClaimOrder, Claimed, ClaimedOperation, CleanUp,
    CleanUpOutcome, Commit, HubDeviceStatus, HubLoad, LookUp, Postponement, RegistrationWrite, Store,
    StoreError, StoredHubDevice, Sweep, WaitingFor, WriteError, WriteObserver, WriteOrder,
};
use dps_core::registration::Registration;
use dps_proto::ids::{DeviceId, EnrollmentGroupId, HubName, IdScope, InstanceSecret, RegistrationId};
use rusqlite::Connection;

pub use self::backup::BackupError;
pub use self::contents::{Contents, Sealed, Unsound};
pub use self::copy::CopyError;
pub use self::open::{OpenError, SqliteOptions, Synchronous};
pub use self::restore::{Occupied, RestoreError, Restored};
pub use self::source::{SourceError, SqliteSource};
pub use self::writer::WriteStatistics;

use self::alarm::Alarms;
use self::audit::Change;
use self::ca_certificate::CaCertificates;
use self::checkpoint::Checkpointer;
use self::enrollment_group::OpenGroups;
use self::instance::SealedInstance;
use self::reader::Readers;
use self::remembered::Remembered;
use self::writer::Writer;
use crate::sealing::Sealer;

/// A store in an SQLite file. Its futures need no runtime.
///
/// Dropping it lets the writes that wait finish, moves the log into the database, and joins its threads.
pub struct SqliteStore {
    // Dropped in this order: the writer empties the log, which it can only when no one else reads it.
    _checkpointer: Checkpointer,
    readers: Readers,
    writer: Writer,
    sealer: Arc<Sealer>,
    open_groups: Arc<Remembered<OpenGroups>>,
    ca_certificates: Arc<Remembered<CaCertificates>>,
}

impl SqliteStore {
    /// Opens the database at `path`, creates it with mode 0600 if there is none, and brings it to the newest version. The
    /// caller holds the lock of the [data directory](crate::DataDir). Spec: DPS-STORE-2, DPS-STORE-7, DPS-STORE-8.
    pub fn open(path: &Path, options: SqliteOptions, sealer: Sealer) -> Result<Self, OpenError> {
        let connections = open::open(path, &options)?;
        let alarms = Arc::<Alarms>::default();
        let writer = Writer::start(connections.writer, Arc::clone(&alarms)).map_err(OpenError::Thread)?;
        let readers = Readers::start(connections.readers, connections.spare_readers, Arc::clone(&alarms))
            .map_err(OpenError::Thread)?;
        let counts = Arc::clone(writer.counts());
        let checkpointer =
            Checkpointer::start(connections.checkpointer, counts, alarms).map_err(OpenError::Thread)?;
        Ok(Self {
            _checkpointer: checkpointer,
            readers,
            writer,
            sealer: Arc::new(sealer),
            open_groups: Arc::default(),
            ca_certificates: Arc::default(),
        })
    }

    /// How many writes there were since it was opened, and how many commits they shared.
    pub fn write_statistics(&self) -> WriteStatistics {
        self.writer.counts().now()
    }

    /// Closes the store as dropping it does: returns when all that was written is in the database file itself.
    pub fn close(self) {}
}

#[async_trait]
impl Store for SqliteStore {
    async fn open_instance(
        &self,
        scope: &IdScope,
        fresh: InstanceSecret,
    ) -> Result<InstanceSecret, StoreError> {
        let sealed = instance::seal_secret(&self.sealer, scope, &fresh)?;
        let key = scope.clone();
        let sealed = self.writer.write(move |connection| instance::open(connection, &key, &sealed)).await?;
        instance::open_secret(&self.sealer, scope, &sealed)
    }

    async fn id_scopes(&self) -> Result<Vec<IdScope>, StoreError> {
        self.readers.read(instance::id_scopes).await
    }

    async fn service_instances(&self) -> Result<Vec<StoredInstance>, StoreError> {
        let sealer = Arc::clone(&self.sealer);
        self.readers.read(move |connection| instance::list(connection, &sealer)).await
    }

    async fn service_instance(&self, scope: &IdScope) -> Result<Option<StoredInstance>, StoreError> {
        let (sealer, scope) = (Arc::clone(&self.sealer), scope.clone());
        self.readers.read(move |connection| instance::find(connection, &sealer, &scope)).await
    }

    async fn put_service_instance(
        &self,
        instance: StoredInstance,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        let sealer = Arc::clone(&self.sealer);
        let sealed = SealedInstance::seal(&sealer, instance)?;
        self.writer.write(move |connection| sealed.put(connection, &sealer, &order)).await?
    }

    async fn delete_service_instance(&self, scope: &IdScope, order: WriteOrder) -> Result<(), WriteError> {
        let scope = scope.clone();
        self.writer.write(move |connection| instance::delete(connection, &scope, &order)).await?
    }

    async fn sweep_deleted_instances(&self, of: Option<&IdScope>, limit: u32) -> Result<Sweep, StoreError> {
        let scope = of.cloned();
        let step =
            self.writer.write(move |connection| sweep::step(connection, scope.as_ref(), limit)).await?;
        if let (Sweep::Clean, Some(scope)) = (step, of) {
            self.open_groups.forget(scope);
            self.ca_certificates.forget(scope);
        }
        Ok(step)
    }

    async fn is_writable(&self) -> Result<(), StoreError> {
        self.writer.write(schema::write_version_again).await
    }

    async fn look_up(&self, scope: &IdScope, id: &RegistrationId) -> Result<LookUp, StoreError> {
        let (sealer, scope, id) = (Arc::clone(&self.sealer), scope.clone(), id.clone());
        self.readers
            .read_here(move |connection| {
                let enrollment = individual_enrollment::find(connection, &sealer, &scope, &id)?;
                let registration = registration::find(connection, &scope, &id)?;
                let registration_group = match registration.as_ref().map(|registration| &registration.entry) {
                    Some(EntryRef::Group(group)) => {
                        enrollment_group::find(connection, &sealer, &scope, group)?
                    }
                    _ => None,
                };
                let individual_enrollment = enrollment.map(Arc::new);
                Ok(LookUp { individual_enrollment, registration, registration_group })
            })
            .await
    }

    async fn candidate_groups(
        &self,
        scope: &IdScope,
        id: &RegistrationId,
    ) -> Result<CandidateGroups, StoreError> {
        let (sealer, open_groups) = (Arc::clone(&self.sealer), Arc::clone(&self.open_groups));
        let (scope, id) = (scope.clone(), id.clone());
        self.readers
            .read_here(move |connection| {
                let prefixed = enrollment_group::with_prefix_of(connection, &sealer, &scope, &id)?;
                Ok(CandidateGroups { prefixed, open: open_groups.at(connection, &sealer, &scope)? })
            })
            .await
    }

    async fn commit(&self, write: RegistrationWrite) -> Result<Commit, StoreError> {
        let seal = |write| hub_device::seal(&self.sealer, write);
        let sealed_keys: Vec<_> = write.hub_writes.iter().map(seal).collect::<Result<_, _>>()?;
        self.writer.write(move |connection| registration::commit(connection, &write, &sealed_keys)).await
    }

    async fn claim_waiting(&self, whom: WaitingFor, order: ClaimOrder) -> Result<Claimed, StoreError> {
        self.writer.write(move |connection| waiting::claim(connection, whom, &order)).await
    }

    async fn postpone(
        &self,
        claimed: &ClaimedOperation,
        postponement: Postponement,
    ) -> Result<Commit, StoreError> {
        let claimed = claimed.clone();
        self.writer.write(move |connection| waiting::postpone(connection, &claimed, postponement)).await
    }

    async fn claim_clean_ups(&self, order: ClaimOrder) -> Result<Claimed<CleanUp>, StoreError> {
        self.writer.write(move |connection| clean_up::ROWS.claim(connection, &order)).await
    }

    async fn clean_up_stands(&self, claimed: &CleanUp) -> Result<bool, StoreError> {
        let claimed = claimed.clone();
        self.readers.read_here(move |connection| clean_up::stands(connection, &claimed)).await
    }

    async fn settle_clean_up(
        &self,
        claimed: &CleanUp,
        outcome: CleanUpOutcome,
    ) -> Result<Commit, StoreError> {
        let claimed = claimed.clone();
        self.writer.write(move |connection| clean_up::settle(connection, &claimed, &outcome)).await
    }

    async fn clean_up_stray(&self, clean_up: CleanUp) -> Result<Commit, StoreError> {
        self.writer.write(move |connection| clean_up::put_stray(connection, &clean_up)).await
    }

    async fn clean_ups(
        &self,
        scope: &IdScope,
        after: Option<(&HubName, &DeviceId)>,
        limit: u32,
    ) -> Result<Vec<CleanUp>, StoreError> {
        let scope = scope.clone();
        let after = after.map(|(hub, device_id)| (hub.clone(), device_id.clone()));
        self.readers.read(move |connection| clean_up::list(connection, &scope, after.as_ref(), limit)).await
    }

    async fn hub_loads(&self, scope: &IdScope) -> Result<Vec<HubLoad>, StoreError> {
        let scope = scope.clone();
        self.readers.read(move |connection| hub_load::list(connection, &scope)).await
    }

    async fn delete_registration(
        &self,
        scope: &IdScope,
        id: &RegistrationId,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        let (scope, id) = (scope.clone(), id.clone());
        let WriteOrder { condition, by } = order;
        self.writer
            .write(move |connection| {
                let change = Change { scope: &scope, subject: Subject::Registration(id.clone()), etag: None };
                change.carry_out(
                    connection,
                    by.as_deref(),
                    |_| Ok(true),
                    |connection| {
                        registration::TABLE.delete(connection, scope.folded(), id.folded(), &condition)
                    },
                )
            })
            .await?
    }

    async fn put_individual_enrollment(
        &self,
        scope: &IdScope,
        enrollment: IndividualEnrollment,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        let sealed = individual_enrollment::seal(&self.sealer, scope, &enrollment)?;
        let scope = scope.clone();
        let WriteOrder { condition, by } = order;
        self.writer
            .write(move |connection| {
                let change = Change {
                    scope: &scope,
                    subject: Subject::Entry(EntryRef::Individual(enrollment.registration_id.clone())),
                    etag: Some(&enrollment.settings.etag),
                };
                let existed = |connection: &Connection| {
                    Ok(individual_enrollment::TABLE
                        .etag(connection, scope.folded(), enrollment.registration_id.folded())?
                        .is_some())
                };
                change.carry_out(connection, by.as_deref(), existed, |connection| {
                    individual_enrollment::put(connection, &scope, &enrollment, &sealed, &condition)
                })
            })
            .await?
    }

    async fn delete_individual_enrollment(
        &self,
        scope: &IdScope,
        id: &RegistrationId,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        let (scope, id) = (scope.clone(), id.clone());
        let WriteOrder { condition, by } = order;
        self.writer
            .write(move |connection| {
                let change = Change {
                    scope: &scope,
                    subject: Subject::Entry(EntryRef::Individual(id.clone())),
                    etag: None,
                };
                change.carry_out(
                    connection,
                    by.as_deref(),
                    |_| Ok(true),
                    |connection| {
                        individual_enrollment::TABLE.delete(
                            connection,
                            scope.folded(),
                            id.folded(),
                            &condition,
                        )
                    },
                )
            })
            .await?
    }

    async fn individual_enrollments(
        &self,
        scope: &IdScope,
        filter: &EntryFilter,
        after: Option<&RegistrationId>,
        limit: u32,
    ) -> Result<Vec<Arc<IndividualEnrollment>>, StoreError> {
        let (sealer, scope) = (Arc::clone(&self.sealer), scope.clone());
        let (filter, after) = (filter.clone(), after.cloned());
        self.readers
            .read(move |connection| {
                individual_enrollment::list(connection, &sealer, &scope, &filter, after.as_ref(), limit)
            })
            .await
    }

    async fn enrollment_group(
        &self,
        scope: &IdScope,
        id: &EnrollmentGroupId,
    ) -> Result<Option<Arc<EnrollmentGroup>>, StoreError> {
        let (sealer, scope, id) = (Arc::clone(&self.sealer), scope.clone(), id.clone());
        self.readers.read(move |connection| enrollment_group::find(connection, &sealer, &scope, &id)).await
    }

    async fn put_enrollment_group(
        &self,
        scope: &IdScope,
        group: EnrollmentGroup,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        let sealed = enrollment_group::seal(&self.sealer, scope, &group)?;
        let scope = scope.clone();
        let WriteOrder { condition, by } = order;
        self.writer
            .write(move |connection| {
                let change = Change {
                    scope: &scope,
                    subject: Subject::Entry(EntryRef::Group(group.id.clone())),
                    etag: Some(&group.settings.etag),
                };
                let existed = |connection: &Connection| {
                    Ok(enrollment_group::etag(connection, &scope, &group.id)?.is_some())
                };
                change.carry_out(connection, by.as_deref(), existed, |connection| {
                    enrollment_group::put(connection, &scope, &group, &sealed, &condition)
                })
            })
            .await?
    }

    async fn delete_enrollment_group(
        &self,
        scope: &IdScope,
        id: &EnrollmentGroupId,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        let (scope, id) = (scope.clone(), id.clone());
        let WriteOrder { condition, by } = order;
        self.writer
            .write(move |connection| {
                let change = Change {
                    scope: &scope,
                    subject: Subject::Entry(EntryRef::Group(id.clone())),
                    etag: None,
                };
                change.carry_out(
                    connection,
                    by.as_deref(),
                    |_| Ok(true),
                    |connection| enrollment_group::delete(connection, &scope, &id, &condition),
                )
            })
            .await?
    }

    async fn enrollment_groups(
        &self,
        scope: &IdScope,
        filter: &EntryFilter,
        after: Option<&EnrollmentGroupId>,
        limit: u32,
    ) -> Result<Vec<Arc<EnrollmentGroup>>, StoreError> {
        let (sealer, scope) = (Arc::clone(&self.sealer), scope.clone());
        let (filter, after) = (filter.clone(), after.cloned());
        self.readers
            .read(move |connection| {
                enrollment_group::list(connection, &sealer, &scope, &filter, after.as_ref(), limit)
            })
            .await
    }

    async fn audit_records(
        &self,
        scope: &IdScope,
        filter: &AuditFilter,
        limit: u32,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        let (scope, filter) = (scope.clone(), filter.clone());
        self.readers.read(move |connection| audit::list(connection, &scope, &filter, limit)).await
    }

    async fn registrations_of_group(
        &self,
        scope: &IdScope,
        group: &EnrollmentGroupId,
        after: Option<&RegistrationId>,
        limit: u32,
    ) -> Result<Vec<Registration>, StoreError> {
        let (scope, group, after) = (scope.clone(), group.clone(), after.cloned());
        self.readers
            .read(move |connection| registration::of_group(connection, &scope, &group, after.as_ref(), limit))
            .await
    }

    async fn hub_device(
        &self,
        scope: &IdScope,
        hub: &HubName,
        device_id: &DeviceId,
    ) -> Result<Option<StoredHubDevice>, StoreError> {
        let (sealer, scope) = (Arc::clone(&self.sealer), scope.clone());
        let (hub, device_id) = (hub.clone(), device_id.clone());
        self.readers
            .read(move |connection| hub_device::find(connection, &sealer, &scope, &hub, &device_id))
            .await
    }

    async fn hub_devices(
        &self,
        scope: &IdScope,
        hub: &HubName,
        after: Option<&DeviceId>,
        limit: u32,
    ) -> Result<Vec<StoredHubDevice>, StoreError> {
        let (sealer, scope) = (Arc::clone(&self.sealer), scope.clone());
        let (hub, after) = (hub.clone(), after.cloned());
        self.readers
            .read(move |connection| {
                hub_device::list(connection, &sealer, &scope, &hub, after.as_ref(), limit)
            })
            .await
    }

    async fn set_hub_device_status(
        &self,
        scope: &IdScope,
        hub: &HubName,
        device_id: &DeviceId,
        status: HubDeviceStatus,
        by: Option<Box<Author>>,
    ) -> Result<(), WriteError> {
        let (scope, hub, device_id) = (scope.clone(), hub.clone(), device_id.clone());
        self.writer
            .write(move |connection| {
                if !hub_device::set_status(connection, &scope, &hub, &device_id, status)? {
                    return Ok(Err(WriteError::Missing));
                }
                if let Some(author) = &by {
                    let subject = Subject::HubDevice(HubDeviceName::new(&hub, &device_id));
                    let change = Change { scope: &scope, subject, etag: None };
                    change.write(connection, author, status.into())?;
                }
                Ok(Ok(()))
            })
            .await?
    }

    async fn chain_entries(&self, scope: &IdScope, wanted: &ChainWanted) -> Result<ChainEntries, StoreError> {
        let (sealer, remembered) = (Arc::clone(&self.sealer), Arc::clone(&self.ca_certificates));
        let (scope, wanted) = (scope.clone(), wanted.clone());
        self.readers
            .read_here(move |connection| {
                let authorities = remembered.at(connection, &sealer, &scope)?;
                let anchors = wanted.anchors(&authorities);
                let individual_enrollments =
                    individual_enrollment::of_thumbprint(connection, &sealer, &scope, &wanted.leaf)?;
                let groups = enrollment_group::of_anchors(connection, &sealer, &scope, &anchors)?;
                Ok(ChainEntries { individual_enrollments, groups, authorities })
            })
            .await
    }

    async fn ca_certificates(&self, scope: &IdScope) -> Result<Arc<[Arc<CaCertificate>]>, StoreError> {
        let (sealer, remembered) = (Arc::clone(&self.sealer), Arc::clone(&self.ca_certificates));
        let scope = scope.clone();
        self.readers.read_here(move |connection| remembered.at(connection, &sealer, &scope)).await
    }

    async fn put_ca_certificate(
        &self,
        scope: &IdScope,
        certificate: CaCertificate,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        let scope = scope.clone();
        let WriteOrder { condition, by } = order;
        self.writer
            .write(move |connection| {
                let change = Change {
                    scope: &scope,
                    subject: Subject::CaCertificate(certificate.name.clone()),
                    etag: Some(&certificate.etag),
                };
                let existed = |connection: &Connection| {
                    Ok(ca_certificate::TABLE
                        .etag(connection, scope.folded(), certificate.name.folded())?
                        .is_some())
                };
                change.carry_out(connection, by.as_deref(), existed, |connection| {
                    ca_certificate::put(connection, &scope, &certificate, &condition)
                })
            })
            .await?
    }

    async fn delete_ca_certificate(
        &self,
        scope: &IdScope,
        name: &CaName,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        let (scope, name) = (scope.clone(), name.clone());
        let WriteOrder { condition, by } = order;
        self.writer
            .write(move |connection| {
                let change =
                    Change { scope: &scope, subject: Subject::CaCertificate(name.clone()), etag: None };
                change.carry_out(
                    connection,
                    by.as_deref(),
                    |_| Ok(true),
                    |connection| ca_certificate::delete(connection, &scope, &name, &condition),
                )
            })
            .await?
    }

    fn observe_writes(&self, observer: Arc<dyn WriteObserver>) {
        self.writer.observe(observer);
    }
}
