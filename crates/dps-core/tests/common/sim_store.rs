//! A model store: one image that a crash leaves, one that it takes away, and a place to stop at in every operation.
//! Spec: DPS-STORE-2 to DPS-STORE-5.
//!
//! Writes are applied to the volatile image and become durable together at the next sync; only then are they answered and
//! only then do readers see them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use async_trait::async_trait;
use dps_core::audit::{AuditFilter, AuditRecord, Author};
use dps_core::ca_certificate::{CaCertificate, CaName};
use dps_core::enrollment::{EnrollmentGroup, EntryRef, IndividualEnrollment};
use dps_core::entry_filter::EntryFilter;
use dps_core::instance_settings::StoredInstance;
use dps_core::ports::{
    CandidateGroups, ChainEntries, ChainWanted, ClaimOrder, Claimed, ClaimedOperation, CleanUp,
    CleanUpOutcome, Commit, HubDeviceStatus, HubLoad, LookUp, Postponement, RegistrationWrite, Store,
    StoreError, StoredHubDevice, Sweep, WaitingFor, WriteError, WriteOrder,
};
use dps_core::registration::Registration;
use dps_proto::ids::{DeviceId, EnrollmentGroupId, HubName, IdScope, InstanceSecret, RegistrationId};

use super::executor::turn;
use super::image::{Applied, Faults, Image};
use super::prng::Prng;

const NO_SETTINGS: &str = "the model store keeps no settings of instances";

/// The store. Its operations wait where [`Yields`] say, and for durability where [`Syncs`] say.
pub(crate) struct SimStore(Mutex<Inner>);

struct Inner {
    durable: Image,
    volatile: Image,
    /// Writes applied to the volatile image, and how many of them are durable.
    applied: u64,
    synced: u64,
    waiting: Vec<Waker>,
    /// Counts the starts: an operation from before a crash is never answered.
    boot: u32,
    is_up: bool,
    syncs: Syncs,
    yields: Yields,
    faults: Faults,
    broken: Option<(Call, StoreError)>,
    /// Whether several nodes share it: a crash of it is none of theirs, and their connections may be lost.
    is_shared: bool,
    /// When connections are lost.
    losses: Option<Prng>,
    calls: BTreeMap<Call, u32>,
    journal: Vec<Applied>,
}

/// When writes become durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syncs {
    /// As soon as one waits for it.
    AtOnce,
    /// When [`SimStore::sync`] is called.
    ByHand,
}

/// How many turns an operation waits at each point.
#[derive(Debug)]
pub(crate) enum Yields {
    /// So many; none at points that are not named.
    Fixed(BTreeMap<Point, u32>),
    /// From 0 to 2, drawn each time.
    Drawn(Prng),
}

/// Where an operation may be made to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Point {
    /// It has not looked yet.
    BeforeRead,
    /// It has looked; what it saw may change before the caller has it.
    AfterRead,
    /// The write has not been checked or applied.
    BeforeApply,
    /// It is applied, and would be lost in a crash.
    BeforeDurable,
    /// It is durable, and the caller does not know.
    BeforeAnswer,
}

/// The operations that the registrar uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    LookUp,
    CandidateGroups,
    ChainEntries,
    Commit,
}

impl SimStore {
    pub(crate) fn new(syncs: Syncs, yields: Yields, faults: Faults) -> Self {
        Self(Mutex::new(Inner {
            durable: Image::default(),
            volatile: Image::default(),
            applied: 0,
            synced: 0,
            waiting: Vec::new(),
            boot: 0,
            is_up: true,
            syncs,
            yields,
            faults,
            broken: None,
            is_shared: false,
            losses: None,
            calls: BTreeMap::new(),
            journal: Vec::new(),
        }))
    }

    /// The same, shared by several nodes: what it does not answer fails.
    pub(crate) fn shared(self) -> Self {
        self.with(|inner| inner.is_shared = true);
        self
    }

    /// From now on a connection is lost now and then: before a write is applied, or after.
    pub(crate) fn set_losses(&self, losses: Option<Prng>) {
        self.with(|inner| inner.losses = losses);
    }

    /// Makes everything durable that was applied, and lets its writers be answered. Says how many writes that were.
    pub(crate) fn sync(&self) -> u64 {
        self.with(Inner::sync)
    }

    /// Whether a sync would make anything durable.
    pub(crate) fn has_unsynced(&self) -> bool {
        self.with(|inner| inner.synced < inner.applied)
    }

    /// Takes away what is not durable. No operation that is under way is ever answered.
    pub(crate) fn crash(&self) {
        self.with(|inner| {
            inner.volatile = inner.durable.clone();
            inner.applied = inner.synced;
            inner.boot += 1;
            inner.is_up = false;
            let waiting = std::mem::take(&mut inner.waiting);
            if inner.is_shared {
                waiting.into_iter().for_each(Waker::wake);
            }
        });
    }

    /// Opens for new operations after a crash.
    pub(crate) fn restart(&self) {
        self.with(|inner| inner.is_up = true);
    }

    /// What a crash would leave.
    pub(crate) fn durable(&self) -> Image {
        self.with(|inner| inner.durable.clone())
    }

    pub(crate) fn set_syncs(&self, syncs: Syncs) {
        self.with(|inner| inner.syncs = syncs);
    }

    /// Makes every operation wait at `point` for so many turns.
    pub(crate) fn wait_at(&self, point: Point, turns: u32) {
        self.with(|inner| inner.yields = Yields::Fixed(BTreeMap::from([(point, turns)])));
    }

    pub(crate) fn wait_nowhere(&self) {
        self.with(|inner| inner.yields = Yields::Fixed(BTreeMap::new()));
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.with(|inner| inner.faults = faults);
    }

    /// Answers `call` with `error` from now on.
    pub(crate) fn break_at(&self, call: Call, error: StoreError) {
        self.with(|inner| inner.broken = Some((call, error)));
    }

    /// How often `call` was made.
    pub(crate) fn calls(&self, call: Call) -> u32 {
        self.with(|inner| inner.calls.get(&call).copied().unwrap_or(0))
    }

    /// The commits applied since this was last asked.
    pub(crate) fn take_journal(&self) -> Vec<Applied> {
        self.with(|inner| std::mem::take(&mut inner.journal))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }

    fn count(&self, call: Call) -> Result<(), StoreError> {
        self.with(|inner| {
            *inner.calls.entry(call).or_default() += 1;
            match &inner.broken {
                Some((broken, error)) if *broken == call => Err(error.clone()),
                _ => Ok(()),
            }
        })
    }

    async fn read<T: Send>(&self, look: impl FnOnce(&Image) -> T + Send) -> Result<T, StoreError> {
        let boot = self.enter()?;
        self.pause(Point::BeforeRead, boot).await?;
        self.may_be_lost(2)?;
        let seen =
            self.with(|inner| look(if inner.faults.lying_sync { &inner.volatile } else { &inner.durable }));
        self.pause(Point::AfterRead, boot).await?;
        Ok(seen)
    }

    /// A refused write waits for the sync as well: what it was refused for must be visible to a reader by then.
    async fn write<T: Send>(&self, change: impl FnOnce(&mut Inner) -> T + Send) -> Result<T, StoreError> {
        let boot = self.enter()?;
        self.pause(Point::BeforeApply, boot).await?;
        self.may_be_lost(2)?;
        let (answer, number, waits) = self.with(|inner| {
            let answer = change(inner);
            inner.applied += 1;
            (answer, inner.applied, !inner.faults.lying_sync)
        });
        if waits {
            self.pause(Point::BeforeDurable, boot).await?;
            self.may_be_lost(2)?;
            self.until_durable(number, boot).await?;
        }
        self.pause(Point::BeforeAnswer, boot).await?;
        self.may_be_lost(2)?;
        Ok(answer)
    }

    fn enter(&self) -> Result<u32, StoreError> {
        self.with(|inner| {
            if inner.is_up { Ok(inner.boot) } else { Err(StoreError::Unavailable("it is down".to_owned())) }
        })
    }

    async fn pause(&self, point: Point, boot: u32) -> Result<(), StoreError> {
        for _ in 0..self.with(|inner| inner.yields.turns(point)) {
            turn().await;
            if self.with(|inner| inner.boot != boot) {
                self.unanswered().await?;
            }
        }
        Ok(())
    }

    async fn until_durable(&self, number: u64, boot: u32) -> Result<(), StoreError> {
        let is_durable = std::future::poll_fn(|context| {
            self.with(|inner| {
                if inner.boot != boot {
                    return Poll::Ready(false);
                }
                if inner.syncs == Syncs::AtOnce {
                    inner.sync();
                }
                if inner.synced >= number {
                    return Poll::Ready(true);
                }
                inner.waiting.push(context.waker().clone());
                Poll::Pending
            })
        })
        .await;
        if is_durable { Ok(()) } else { self.unanswered().await }
    }

    /// What an operation from before a crash comes to: nothing, or an error where the store alone went down.
    async fn unanswered(&self) -> Result<(), StoreError> {
        match self.with(|inner| inner.is_shared) {
            true => Err(StoreError::Unavailable("the store went down".to_owned())),
            false => std::future::pending().await,
        }
    }

    fn may_be_lost(&self, percent: usize) -> Result<(), StoreError> {
        match self.with(|inner| inner.losses.as_mut().is_some_and(|prng| prng.percent(percent))) {
            true => Err(StoreError::Unavailable("the connection was lost".to_owned())),
            false => Ok(()),
        }
    }
}

impl Inner {
    fn sync(&mut self) -> u64 {
        let count = self.applied - self.synced;
        self.durable = self.volatile.clone();
        self.synced = self.applied;
        for waker in self.waiting.drain(..) {
            waker.wake();
        }
        count
    }
}

impl Yields {
    pub(crate) fn none() -> Self {
        Self::Fixed(BTreeMap::new())
    }

    fn turns(&mut self, point: Point) -> u32 {
        match self {
            Self::Fixed(turns) => turns.get(&point).copied().unwrap_or(0),
            Self::Drawn(prng) => prng.below(3) as u32,
        }
    }
}

#[async_trait]
impl Store for SimStore {
    async fn open_instance(
        &self,
        scope: &IdScope,
        fresh: InstanceSecret,
    ) -> Result<InstanceSecret, StoreError> {
        self.write(|inner| {
            let secrets = &mut inner.volatile.secrets;
            if let Some((_, known)) = secrets.iter().find(|(known, _)| known == scope) {
                return known.clone();
            }
            secrets.push((scope.clone(), fresh.clone()));
            fresh
        })
        .await
    }

    async fn id_scopes(&self) -> Result<Vec<IdScope>, StoreError> {
        self.read(|image| image.secrets.iter().map(|(scope, _)| scope.clone()).collect()).await
    }

    /// The registrar is given its instances, so the model keeps none, nor in those below.
    async fn service_instances(&self) -> Result<Vec<StoredInstance>, StoreError> {
        Err(StoreError::Unavailable(NO_SETTINGS.to_owned()))
    }

    async fn service_instance(&self, _: &IdScope) -> Result<Option<StoredInstance>, StoreError> {
        Err(StoreError::Unavailable(NO_SETTINGS.to_owned()))
    }

    async fn put_service_instance(&self, _: StoredInstance, _: WriteOrder) -> Result<(), WriteError> {
        Err(StoreError::Unavailable(NO_SETTINGS.to_owned()).into())
    }

    async fn delete_service_instance(&self, _: &IdScope, _: WriteOrder) -> Result<(), WriteError> {
        Err(StoreError::Unavailable(NO_SETTINGS.to_owned()).into())
    }

    async fn sweep_deleted_instances(&self, _: Option<&IdScope>, _: u32) -> Result<Sweep, StoreError> {
        Ok(Sweep::Clean)
    }

    async fn is_writable(&self) -> Result<(), StoreError> {
        self.write(|_| ()).await
    }

    async fn look_up(&self, scope: &IdScope, id: &RegistrationId) -> Result<LookUp, StoreError> {
        self.count(Call::LookUp)?;
        self.read(|image| image.look_up(scope, id)).await
    }

    async fn candidate_groups(
        &self,
        scope: &IdScope,
        id: &RegistrationId,
    ) -> Result<CandidateGroups, StoreError> {
        self.count(Call::CandidateGroups)?;
        self.read(|image| image.candidate_groups(scope, id)).await
    }

    async fn commit(&self, write: RegistrationWrite) -> Result<Commit, StoreError> {
        self.count(Call::Commit)?;
        self.write(|inner| {
            let (answer, applied) = inner.volatile.commit(write, inner.faults);
            inner.journal.extend(applied);
            answer
        })
        .await
    }

    async fn claim_waiting(&self, whom: WaitingFor, order: ClaimOrder) -> Result<Claimed, StoreError> {
        self.write(|inner| inner.volatile.claim_waiting(whom, &order)).await
    }

    async fn postpone(&self, claimed: &ClaimedOperation, to: Postponement) -> Result<Commit, StoreError> {
        self.write(|inner| inner.volatile.postpone(claimed, to)).await
    }

    async fn claim_clean_ups(&self, order: ClaimOrder) -> Result<Claimed<CleanUp>, StoreError> {
        self.write(|inner| inner.volatile.claim_clean_ups(&order)).await
    }

    /// A read that waits for what was written before it.
    async fn clean_up_stands(&self, claimed: &CleanUp) -> Result<bool, StoreError> {
        self.read(|image| image.clean_up_stands(claimed)).await
    }

    async fn settle_clean_up(
        &self,
        claimed: &CleanUp,
        outcome: CleanUpOutcome,
    ) -> Result<Commit, StoreError> {
        self.write(|inner| inner.volatile.settle_clean_up(claimed, outcome)).await
    }

    async fn clean_up_stray(&self, clean_up: CleanUp) -> Result<Commit, StoreError> {
        self.write(|inner| inner.volatile.clean_up_stray(clean_up)).await
    }

    async fn clean_ups(
        &self,
        scope: &IdScope,
        _: Option<(&HubName, &DeviceId)>,
        _: u32,
    ) -> Result<Vec<CleanUp>, StoreError> {
        let of_scope = |image: &Image| {
            let of_scope = image.clean_ups.values().filter(|clean_up| clean_up.id_scope == *scope);
            of_scope.cloned().collect()
        };
        self.read(of_scope).await
    }

    async fn hub_loads(&self, _: &IdScope) -> Result<Vec<HubLoad>, StoreError> {
        Err(StoreError::Unreadable("the model store counts nothing".to_owned()))
    }

    async fn delete_registration(
        &self,
        scope: &IdScope,
        id: &RegistrationId,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        self.write(|inner| inner.volatile.delete_registration(scope, id, &order.condition)).await?
    }

    async fn put_individual_enrollment(
        &self,
        scope: &IdScope,
        enrollment: IndividualEnrollment,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        self.write(|inner| inner.volatile.put_individual(scope, enrollment, &order.condition)).await?
    }

    async fn delete_individual_enrollment(
        &self,
        scope: &IdScope,
        id: &RegistrationId,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        self.write(|inner| inner.volatile.delete_individual(scope, id, &order.condition)).await?
    }

    async fn enrollment_group(
        &self,
        scope: &IdScope,
        id: &EnrollmentGroupId,
    ) -> Result<Option<std::sync::Arc<EnrollmentGroup>>, StoreError> {
        self.read(|image| image.groups.get(&(scope.clone(), id.clone())).cloned()).await
    }

    async fn put_enrollment_group(
        &self,
        scope: &IdScope,
        group: EnrollmentGroup,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        self.write(|inner| inner.volatile.put_group(scope, group, &order.condition)).await?
    }

    async fn delete_enrollment_group(
        &self,
        scope: &IdScope,
        id: &EnrollmentGroupId,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        self.write(|inner| inner.volatile.delete_group(scope, id, &order.condition)).await?
    }

    async fn individual_enrollments(
        &self,
        scope: &IdScope,
        filter: &EntryFilter,
        after: Option<&RegistrationId>,
        limit: u32,
    ) -> Result<Vec<Arc<IndividualEnrollment>>, StoreError> {
        self.read(|image| {
            let of_scope = image.individuals.iter().filter(|((of, _), _)| of == scope);
            let later = of_scope.filter(|((_, id), _)| after.is_none_or(|after| id > after));
            let taken = later.filter(|(_, enrollment)| filter.takes_individual(enrollment));
            taken.take(limit as usize).map(|(_, enrollment)| Arc::clone(enrollment)).collect()
        })
        .await
    }

    async fn enrollment_groups(
        &self,
        scope: &IdScope,
        filter: &EntryFilter,
        after: Option<&EnrollmentGroupId>,
        limit: u32,
    ) -> Result<Vec<Arc<EnrollmentGroup>>, StoreError> {
        self.read(|image| {
            let of_scope = image.groups.iter().filter(|((of, _), _)| of == scope);
            let later = of_scope.filter(|((_, id), _)| after.is_none_or(|after| id > after));
            let taken = later.filter(|(_, group)| filter.takes_group(group));
            taken.take(limit as usize).map(|(_, group)| Arc::clone(group)).collect()
        })
        .await
    }

    /// No decision depends on them, so the model keeps none.
    async fn audit_records(
        &self,
        _: &IdScope,
        _: &AuditFilter,
        _: u32,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        Err(StoreError::Unavailable("the model store keeps no audit".to_owned()))
    }

    async fn registrations_of_group(
        &self,
        scope: &IdScope,
        group: &EnrollmentGroupId,
        after: Option<&RegistrationId>,
        limit: u32,
    ) -> Result<Vec<Registration>, StoreError> {
        let entry = EntryRef::Group(group.clone());
        self.read(|image| {
            let of_group =
                image.registrations.iter().filter(|((of, _), kept)| of == scope && kept.entry == entry);
            let later = of_group.filter(|((_, id), _)| after.is_none_or(|after| id > after));
            later.take(limit as usize).map(|(_, registration)| registration.clone()).collect()
        })
        .await
    }

    async fn hub_device(
        &self,
        scope: &IdScope,
        hub: &HubName,
        device_id: &DeviceId,
    ) -> Result<Option<StoredHubDevice>, StoreError> {
        let key = (scope.clone(), hub.clone(), device_id.clone());
        self.read(|image| image.hub_devices.get(&key).map(|kept| kept.stored.clone())).await
    }

    async fn hub_devices(
        &self,
        scope: &IdScope,
        hub: &HubName,
        after: Option<&DeviceId>,
        limit: u32,
    ) -> Result<Vec<StoredHubDevice>, StoreError> {
        let after = after.cloned();
        self.read(|image| {
            let of_hub = image.hub_devices.iter().filter(|(key, _)| key.0 == *scope && key.1 == *hub);
            let later = of_hub.filter(|(key, _)| after.as_ref().is_none_or(|after| key.2 > *after));
            later.take(limit as usize).map(|(_, kept)| kept.stored.clone()).collect()
        })
        .await
    }

    async fn set_hub_device_status(
        &self,
        scope: &IdScope,
        hub: &HubName,
        device_id: &DeviceId,
        status: HubDeviceStatus,
        _: Option<Box<Author>>,
    ) -> Result<(), WriteError> {
        let key = (scope.clone(), hub.clone(), device_id.clone());
        self.write(|inner| match inner.volatile.hub_devices.get_mut(&key) {
            Some(kept) => {
                kept.stored.status = status;
                Ok(())
            }
            None => Err(WriteError::Missing),
        })
        .await?
    }

    async fn chain_entries(&self, scope: &IdScope, wanted: &ChainWanted) -> Result<ChainEntries, StoreError> {
        self.count(Call::ChainEntries)?;
        self.read(|image| image.chain_entries(scope, wanted)).await
    }

    async fn ca_certificates(&self, scope: &IdScope) -> Result<Arc<[Arc<CaCertificate>]>, StoreError> {
        self.read(|image| image.ca_certificates(scope)).await
    }

    async fn put_ca_certificate(
        &self,
        scope: &IdScope,
        certificate: CaCertificate,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        self.write(|inner| inner.volatile.put_ca_certificate(scope, certificate, &order.condition)).await?
    }

    async fn delete_ca_certificate(
        &self,
        scope: &IdScope,
        name: &CaName,
        order: WriteOrder,
    ) -> Result<(), WriteError> {
        self.write(|inner| inner.volatile.delete_ca_certificate(scope, name, &order.condition)).await?
    }
}
