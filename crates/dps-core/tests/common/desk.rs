//! A registrar with everything it needs, for tests that tell one story at a time.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use dps_core::Moment;
use dps_core::assignment::{CleanedUp, Placed};
use dps_core::attestation::DeviceClaim;
use dps_core::enrollment::{EnrollmentGroup, IndividualEnrollment};
use dps_core::instance::{LinkedHub, ServiceInstance};
use dps_core::instances::{Instances, Origin};
use dps_core::ports::{
    ClaimOrder, ClaimedOperation, CleanUp, Condition, SearchPool, Store, StoreError, StoredHubDevice,
    WaitingFor,
};
use dps_core::refusal::{Refusal, Unproven};
use dps_core::register::{Polled, Registered, Registrar};
use dps_core::registration::{Assignment, Registration, State, Substatus};
use dps_proto::ids::{ETag, IdScope, OperationId};
use dps_proto::key::SymmetricKey;

use super::entries::{SCOPE, keys, signed};
use super::executor::{Clock, Running, drive};
use super::hubs::instance;
use super::image::Faults;
use super::inline_pool::InlinePool;
use super::prng::Prng;
use super::sim_store::{SimStore, Syncs, Yields};

/// A registrar over a model store, with a clock in the test's hand.
pub(crate) struct Desk {
    pub(crate) store: Arc<SimStore>,
    pub(crate) registrar: Arc<Registrar>,
    pub(crate) clock: Cell<Clock>,
    prng: RefCell<Prng>,
}

impl Desk {
    /// With these hubs linked, and a pool that always has room.
    pub(crate) fn new(hubs: Vec<LinkedHub>) -> Self {
        Self::with(instance(hubs), Arc::new(InlinePool::default()))
    }

    pub(crate) fn with(instance: ServiceInstance, pool: Arc<dyn SearchPool>) -> Self {
        let store = Arc::new(SimStore::new(Syncs::AtOnce, Yields::none(), Faults::default()));
        let registrar = Arc::new(Registrar::new(
            Arc::clone(&store) as Arc<dyn Store>,
            pool,
            Instances::of(Origin::Configuration, [instance]),
        ));
        Self { store, registrar, clock: Cell::new(Clock::new()), prng: RefCell::new(Prng::new(1)) }
    }

    /// Serves the same store with other settings, as after a restart.
    pub(crate) fn reopen(&mut self, instance: ServiceInstance) {
        self.reopen_with(instance, Arc::new(InlinePool::default()));
    }

    pub(crate) fn reopen_with(&mut self, instance: ServiceInstance, pool: Arc<dyn SearchPool>) {
        let store = Arc::clone(&self.store) as Arc<dyn Store>;
        self.registrar =
            Arc::new(Registrar::new(store, pool, Instances::of(Origin::Configuration, [instance])));
    }

    /// Moves the clock, back too.
    pub(crate) fn step_clock(&self, seconds: i64) {
        let mut clock = self.clock.get();
        clock.step(seconds);
        self.clock.set(clock);
    }

    pub(crate) fn moment(&self) -> Moment {
        Moment { now: self.clock.get().0, random: self.prng.borrow_mut().bytes() }
    }

    pub(crate) fn put_individual(&self, mut enrollment: IndividualEnrollment) {
        enrollment.settings.etag = self.etag();
        drive(self.store.put_individual_enrollment(&scope(), enrollment, Condition::Always.into())).unwrap();
    }

    pub(crate) fn put_group(&self, mut group: EnrollmentGroup) {
        group.settings.etag = self.etag();
        drive(self.store.put_enrollment_group(&scope(), group, Condition::Always.into())).unwrap();
    }

    pub(crate) fn delete_individual(&self, id: &str) {
        let id = id.parse().unwrap();
        drive(self.store.delete_individual_enrollment(&scope(), &id, Condition::Always.into())).unwrap();
    }

    pub(crate) fn delete_group(&self, id: &str) {
        let id = id.parse().unwrap();
        drive(self.store.delete_enrollment_group(&scope(), &id, Condition::Always.into())).unwrap();
    }

    pub(crate) fn delete_record(&self, id: &str) {
        drive(self.store.delete_registration(&scope(), &id.parse().unwrap(), Condition::Always.into()))
            .unwrap();
    }

    fn etag(&self) -> ETag {
        ETag::generate(self.prng.borrow_mut().bytes(), 0)
    }

    /// A device with a token, good for an hour, signed with `key`.
    pub(crate) fn signed(&self, id: &str, key: &SymmetricKey) -> DeviceClaim {
        signed(id, key, self.clock.get().after(3_600))
    }

    /// A device that signs with the primary key of its individual enrollment.
    pub(crate) fn by_own_key(&self, id: &str) -> DeviceClaim {
        self.signed(id, &keys(id).primary)
    }

    /// A device that signs with the key derived from the primary key of a group.
    pub(crate) fn by_group(&self, id: &str, group: &str) -> DeviceClaim {
        self.signed(id, &keys(group).primary.derive(id))
    }

    pub(crate) fn register(&self, device: &DeviceClaim) -> Result<Registered, Refusal> {
        drive(self.registrar.register(device, None, self.moment()))
    }

    /// A register that waits for the test to drive it on.
    pub(crate) fn start_register(&self, device: &DeviceClaim) -> Running<Result<Registered, Refusal>> {
        let (registrar, device, moment) = (Arc::clone(&self.registrar), device.clone(), self.moment());
        Running::start(async move { registrar.register(&device, None, moment).await })
    }

    /// The operation id and record of a register that must be accepted.
    #[track_caller]
    pub(crate) fn accepted(&self, device: &DeviceClaim) -> (OperationId, Registration) {
        accepted(self.register(device))
    }

    /// Why a register that must be refused for want of proof was refused.
    #[track_caller]
    pub(crate) fn unproven(&self, device: &DeviceClaim) -> Unproven {
        unproven(self.register(device))
    }

    /// The record of a register that must be told `disabled`.
    #[track_caller]
    pub(crate) fn told_disabled(&self, device: &DeviceClaim) -> Registration {
        match self.register(device) {
            Ok(Registered::Disabled { registration }) => registration,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn poll(&self, device: &DeviceClaim, operation: impl ToString) -> Result<Polled, Refusal> {
        drive(self.registrar.poll(device, &operation.to_string(), self.moment()))
    }

    pub(crate) fn look_up(&self, device: &DeviceClaim) -> Result<Registration, Refusal> {
        drive(self.registrar.look_up(device, self.moment()))
    }

    /// The state that a poll that must succeed is told.
    #[track_caller]
    pub(crate) fn polled(&self, device: &DeviceClaim, operation: OperationId) -> State {
        let polled = self.poll(device, operation).unwrap();
        assert_eq!(polled.operation_id, operation);
        polled.registration.state
    }

    /// A worker claims what waits for hubs, each for itself.
    pub(crate) fn claim(&self) -> Vec<ClaimedOperation> {
        drive(self.registrar.claim_waiting(WaitingFor::Hub, self.order())).unwrap().operations
    }

    /// The only operation that waits for a hub.
    #[track_caller]
    pub(crate) fn claim_one(&self) -> ClaimedOperation {
        let [claimed] = <[_; 1]>::try_from(self.claim()).unwrap();
        claimed
    }

    /// One try of a worker, which the test drives on.
    pub(crate) fn start_place(&self, claimed: &ClaimedOperation) -> Running<Result<Placed, Refusal>> {
        let (registrar, claimed, clock) = (Arc::clone(&self.registrar), claimed.clone(), self.moments());
        Running::start(async move { registrar.place(&claimed, &clock, &|| {}).await })
    }

    /// A worker claims the only operation that waits for a hub, and tries it once.
    #[track_caller]
    pub(crate) fn place(&self) -> Placed {
        self.start_place(&self.claim_one()).end().unwrap()
    }

    /// Where the only operation that waits for a hub ends.
    #[track_caller]
    pub(crate) fn placed(&self) -> State {
        match self.place() {
            Placed::Recorded { registration, .. } => registration.state,
            other => panic!("{other:?}"),
        }
    }

    /// A worker claims what is to be gone from hubs outside.
    pub(crate) fn claim_clean_ups(&self) -> Vec<CleanUp> {
        drive(self.registrar.claim_clean_ups(self.order())).unwrap().operations
    }

    /// One try of a worker to have a device gone, which the test drives on.
    pub(crate) fn start_clean_up(&self, claimed: &CleanUp) -> Running<Result<CleanedUp, StoreError>> {
        let (registrar, claimed, clock) = (Arc::clone(&self.registrar), claimed.clone(), self.moments());
        Running::start(async move { registrar.clean_up(&claimed, &clock).await })
    }

    /// A worker has gone what is due to be.
    pub(crate) fn clean_up(&self) -> Vec<CleanedUp> {
        self.claim_clean_ups().iter().map(|claimed| self.start_clean_up(claimed).end().unwrap()).collect()
    }

    fn order(&self) -> ClaimOrder {
        ClaimOrder {
            now: self.clock.get().0,
            lease_until: self.clock.get().after(60),
            limit: 100,
            per_peer_max: 100,
            in_flight: BTreeMap::new(),
            after_peer: None,
        }
    }

    /// The time as it is now, with other random bytes each time.
    fn moments(&self) -> impl Fn() -> Moment + Send + Sync + use<> {
        let (now, prng) = (self.clock.get().0, Mutex::new(self.prng.borrow_mut().fork()));
        move || Moment { now, random: prng.lock().unwrap().bytes() }
    }

    /// The record as it is stored.
    pub(crate) fn record(&self, id: &str) -> Option<Registration> {
        drive(self.registrar.registration(&scope(), &id.parse().unwrap())).unwrap()
    }

    /// The device as a local hub knows it.
    pub(crate) fn hub_device(&self, hub: &str, device_id: &str) -> Option<StoredHubDevice> {
        let (hub, device_id) = (hub.parse().unwrap(), device_id.parse().unwrap());
        drive(self.store.hub_device(&scope(), &hub, &device_id)).unwrap()
    }
}

#[track_caller]
pub(crate) fn accepted(registered: Result<Registered, Refusal>) -> (OperationId, Registration) {
    match registered {
        Ok(Registered::Accepted { operation_id, registration, .. }) => (operation_id, registration),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(crate) fn unproven<T: std::fmt::Debug>(result: Result<T, Refusal>) -> Unproven {
    match result {
        Err(Refusal::Unproven(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// Where an assigned record sends its device, and what the operation did.
#[track_caller]
pub(crate) fn assigned(state: &State) -> (&Assignment, Substatus) {
    match state {
        State::Assigned { assignment, substatus } => (assignment, *substatus),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn scope() -> IdScope {
    SCOPE.parse().unwrap()
}

/// How many groups were tried where no entry's key had made the signature.
pub(crate) fn groups_tried(why: Unproven) -> Option<usize> {
    match why {
        Unproven::NoEntry(tried) => Some(tried.groups),
        _ => None,
    }
}
