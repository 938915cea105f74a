//! One schedule: what happens, in which order, and what must hold throughout.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Poll;

use dps_core::Moment;
use dps_core::enrollment::ProvisioningStatus;
use dps_core::ports::{Condition, Store, WriteError};
use dps_core::refusal::Refusal;
use dps_core::register::{Finished, Polled, Registered, Registrar};
use dps_core::registration::{Assignment, Failure, Registration, State, Substatus};
use dps_proto::ids::{DeviceId, HubName, IdScope, OperationId};

use crate::common::entries::{AnyEntry as _, SCOPE, group, individual};
use crate::common::executor::{Clock, Executor, TaskId};
use crate::common::hubs::{instance, local, slow};
use crate::common::image::Faults;
use crate::common::inline_pool::InlinePool;
use crate::common::prng::Prng;
use crate::common::sim_store::{SimStore, Syncs, Yields};
use crate::fleet::{Device, LOCAL_GROUP, OUTSIDE_GROUP, fleet};

/// Steps before the world is left to come to rest.
const STEPS: usize = 220;

/// Turns in which a world at rest must have ended everything.
const TURNS_TO_REST: usize = 20_000;

pub(crate) struct World {
    store: Arc<SimStore>,
    registrar: Arc<Registrar>,
    tasks: Executor<Done>,
    clock: Clock,
    prng: Prng,
    devices: Vec<Device>,
    pub(crate) trace: Vec<String>,
}

/// What a task came to, and for whom.
enum Done {
    Registered { device: usize, life: u32, result: Result<Registered, Refusal> },
    Polled { device: usize, life: u32, own: bool, operation: OperationId, result: Result<Polled, Refusal> },
    Deleted { device: usize, result: Result<(), WriteError> },
    Enrolled(Result<(), WriteError>),
    Finished(Result<Finished, Refusal>),
}

impl World {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        let mut prng = Prng::new(seed);
        let store = Arc::new(SimStore::new(Syncs::ByHand, Yields::Drawn(prng.fork()), faults));
        let registrar = serve(&store);
        Self {
            store,
            registrar,
            tasks: Executor::new(),
            clock: Clock::new(),
            prng,
            devices: fleet(),
            trace: Vec::new(),
        }
    }

    /// The whole schedule; the first thing that does not hold.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        self.enroll_all();
        for _ in 0..STEPS {
            self.step()?;
        }
        self.come_to_rest()?;
        self.all_devices_get_home()
    }

    fn step(&mut self) -> Result<(), String> {
        match self.prng.below(100) {
            0..=17 => self.register(),
            18..=29 => self.poll(),
            30..=35 => self.operator(),
            36..=41 => self.hub_outside(),
            42..=45 => {
                let seconds = *self.prng.pick(&[-3_600, -5, 1, 30, 600]);
                self.clock.step(seconds);
                self.note(format!("the clock steps {seconds} s"));
            }
            46..=47 => self.crash(),
            48..=62 => {
                let writes = self.store.sync();
                self.note(format!("sync of {writes} writes"));
            }
            _ => {
                self.turn()?;
            }
        }
        self.check_journal()
    }

    fn register(&mut self) {
        let (device, life, claim) = self.caller();
        let (registrar, moment) = (Arc::clone(&self.registrar), self.moment());
        let task = self.tasks.spawn(async move {
            Done::Registered { device, life, result: registrar.register(&claim, moment).await }
        });
        self.note(format!("{task:?} registers {}", self.devices[device].name));
    }

    /// With an operation id of its own, old or new, or with one of another device.
    fn poll(&mut self) {
        let told: Vec<(usize, OperationId)> = self
            .devices
            .iter()
            .enumerate()
            .flat_map(|(number, device)| device.told.iter().map(move |operation| (number, *operation)))
            .collect();
        if told.is_empty() {
            return self.register();
        }
        let (owner, operation) = *self.prng.pick(&told);
        let (other, ..) = self.caller();
        let device = if self.prng.percent(80) { owner } else { other };
        let (life, as_individual) = (self.devices[device].life, self.prng.percent(30));
        let claim = self.devices[device].claim(as_individual, self.clock.after(3_600));
        let (registrar, moment) = (Arc::clone(&self.registrar), self.moment());
        let task = self.tasks.spawn(async move {
            let result = registrar.poll(&claim, &operation.to_string(), moment).await;
            Done::Polled { device, life, own: device == owner, operation, result }
        });
        self.note(format!("{task:?} polls {operation} for {}", self.devices[device].name));
    }

    /// Enables, disables or makes an entry, takes an individual one away, or deletes a record.
    fn operator(&mut self) {
        let (store, scope, moment) = (Arc::clone(&self.store), scope(), self.moment());
        let (etag, enabled) = (etag(&moment), self.prng.percent(60));
        let device = self.prng.below(self.devices.len());
        let (name, id) = (self.devices[device].name, self.devices[device].id());
        match self.prng.below(10) {
            0..=3 => {
                let (name, hub) = *self.prng.pick(&GROUPS);
                let mut entry = group(name).at_hubs(&[hub]);
                entry.settings.etag = etag;
                let entry = if enabled { entry } else { entry.disabled() };
                self.note(format!("group {name} is written, enabled {enabled}"));
                self.tasks.spawn(async move {
                    Done::Enrolled(store.put_enrollment_group(&scope, entry, Condition::Always).await)
                });
            }
            4..=6 => {
                let mut entry = individual(name).at_hubs(&["south.example"]);
                entry.settings.etag = etag;
                let entry = if enabled { entry } else { entry.disabled() };
                self.note(format!("individual {name} is written, enabled {enabled}"));
                self.tasks.spawn(async move {
                    Done::Enrolled(store.put_individual_enrollment(&scope, entry, Condition::Always).await)
                });
            }
            7..=8 => {
                self.note(format!("individual {name} is deleted"));
                self.tasks.spawn(async move {
                    Done::Enrolled(store.delete_individual_enrollment(&scope, &id, Condition::Always).await)
                });
            }
            _ => {
                self.note(format!("the record of {name} is deleted"));
                self.devices[device].begin_anew();
                self.devices[device].deletions += 1;
                self.tasks.spawn(async move {
                    let result = store.delete_registration(&scope, &id, Condition::Always).await;
                    Done::Deleted { device, result }
                });
            }
        }
    }

    /// A hub outside answers an operation: a current one, or one that has long been superseded.
    fn hub_outside(&mut self) {
        let records: Vec<Registration> = self.store.durable().registrations.into_values().collect();
        if records.is_empty() {
            return;
        }
        let record = self.prng.pick(&records).clone();
        let outcome =
            if self.prng.percent(70) { Ok(Substatus::InitialAssignment) } else { Err(Failure::NoUsableHub) };
        let (registrar, moment) = (Arc::clone(&self.registrar), self.moment());
        let task = self.tasks.spawn(async move {
            let (id, guid) = (&record.registration_id, record.operation.guid);
            Done::Finished(registrar.finish(&record.id_scope, id, guid, outcome, moment).await)
        });
        self.note(format!("{task:?} is the answer of a hub outside: {outcome:?}"));
    }

    fn crash(&mut self) {
        self.note("crash and restart".to_owned());
        self.tasks.abandon();
        for device in self.devices.iter_mut().filter(|device| device.deletions > 0) {
            // The record may be gone or not.
            device.begin_anew();
            device.deletions = 0;
        }
        self.store.crash();
        self.store.restart();
        self.registrar = serve(&self.store);
    }

    /// One poll of one task.
    fn turn(&mut self) -> Result<bool, String> {
        let mut prng = self.prng.fork();
        match self.tasks.poll_any(&mut prng) {
            None => Ok(false),
            Some((_, Poll::Pending)) => Ok(true),
            Some((task, Poll::Ready(done))) => self.judge(task, done).map(|()| true),
        }
    }

    /// What a device is told must agree with all that it was told before.
    fn judge(&mut self, task: TaskId, done: Done) -> Result<(), String> {
        match done {
            Done::Registered { device, life, result } => {
                self.note(format!("{task:?}: {result:?}"));
                let device = &mut self.devices[device];
                if let Ok(Registered::Accepted { operation_id, registration, .. }) = result
                    && device.is_in(life)
                {
                    device.told.push(operation_id);
                    hear(device, &registration.state)?;
                }
                Ok(())
            }
            Done::Polled { device, life, own, operation, result } => {
                self.note(format!("{task:?}: {result:?}"));
                let device = &mut self.devices[device];
                match result {
                    Ok(_) if !own => {
                        Err(format!("{} was told of {operation}, another device's", device.name))
                    }
                    Ok(polled) if device.is_in(life) => hear(device, &polled.registration.state),
                    Err(Refusal::NoSuchOperation(why)) if own && device.is_in(life) => {
                        Err(format!("{} was told {operation}, and now: {why}", device.name))
                    }
                    _ => Ok(()),
                }
            }
            Done::Deleted { device, result } => {
                self.note(format!("{task:?}: {result:?}"));
                self.devices[device].begin_anew();
                self.devices[device].deletions -= 1;
                Ok(())
            }
            Done::Enrolled(result) => {
                self.note(format!("{task:?}: {result:?}"));
                Ok(())
            }
            Done::Finished(result) => {
                self.note(format!("{task:?}: {result:?}"));
                Ok(())
            }
        }
    }

    /// Spec: DPS-REG-13: nobody is assigned but under an entry that is enabled as it is written.
    fn check_journal(&mut self) -> Result<(), String> {
        for applied in self.store.take_journal() {
            let State::Assigned { .. } = applied.write.registration.state else { continue };
            let decided_on = applied.write.decided_on.as_ref().map(|(_, etag)| etag);
            let stands = applied.entry.as_ref().is_some_and(|(etag, status)| {
                *status == ProvisioningStatus::Enabled && Some(etag) == decided_on
            });
            if !stands {
                let id = &applied.write.registration.registration_id;
                return Err(format!("{id} was assigned under an entry that is disabled, changed or gone"));
            }
        }
        Ok(())
    }

    /// Everything that was begun ends, once every write becomes durable.
    fn come_to_rest(&mut self) -> Result<(), String> {
        for _ in 0..TURNS_TO_REST {
            if !self.turn()? {
                self.check_journal()?;
                if self.tasks.unfinished().is_empty() {
                    return self.check_at_rest();
                }
                self.store.sync();
            }
        }
        Err(format!("{} tasks never ended", self.tasks.unfinished().len()))
    }

    /// Spec: DPS-REG-11: the record knows where its device lives, and no other hub does.
    fn check_at_rest(&self) -> Result<(), String> {
        let image = self.store.durable();
        for device in &self.devices {
            let record = image.registrations.get(&(scope(), device.id()));
            let home = record.and_then(Registration::assignment).map(place);
            if device.lives_at.is_some() && device.lives_at != home {
                return Err(format!(
                    "{} was told {:?}, the record has {home:?}",
                    device.name, device.lives_at
                ));
            }
            let identities = image.identities(&scope(), &device.id());
            if identities.len() > 1
                || (record.is_some() && identities.iter().any(|at| Some(at) != home.as_ref()))
            {
                return Err(format!("{} has identities at {identities:?}, its record {home:?}", device.name));
            }
        }
        Ok(())
    }

    /// With every entry enabled, every device is assigned, and to the hub that it was ever told.
    fn all_devices_get_home(&mut self) -> Result<(), String> {
        self.note("every entry is enabled, every individual one taken away".to_owned());
        for device in 0..self.devices.len() {
            let (store, id) = (Arc::clone(&self.store), self.devices[device].id());
            self.tasks.spawn(async move {
                Done::Enrolled(store.delete_individual_enrollment(&scope(), &id, Condition::Always).await)
            });
        }
        self.come_to_rest()?;
        self.enroll_all();
        for device in 0..self.devices.len() {
            let claim = self.devices[device].claim(false, self.clock.after(3_600));
            let (registrar, moment, life) =
                (Arc::clone(&self.registrar), self.moment(), self.devices[device].life);
            self.tasks.spawn(async move {
                Done::Registered { device, life, result: registrar.register(&claim, moment).await }
            });
        }
        self.come_to_rest()?;
        for record in self.store.durable().registrations.into_values() {
            let (registrar, moment) = (Arc::clone(&self.registrar), self.moment());
            self.tasks.spawn(async move {
                let (id, guid) = (&record.registration_id, record.operation.guid);
                let outcome = Ok(Substatus::InitialAssignment);
                Done::Finished(registrar.finish(&record.id_scope, id, guid, outcome, moment).await)
            });
        }
        self.come_to_rest()?;
        let image = self.store.durable();
        let states: BTreeMap<_, _> =
            image.registrations.iter().map(|((_, id), record)| (id, &record.state)).collect();
        match states.iter().find(|(_, state)| !matches!(state, State::Assigned { .. })) {
            Some(lost) => Err(format!("at the end: {lost:?}")),
            None if states.len() < self.devices.len() => Err(format!("only {} records", states.len())),
            None => Ok(()),
        }
    }

    fn enroll_all(&mut self) {
        for (name, hub) in GROUPS {
            let (store, moment) = (Arc::clone(&self.store), self.moment());
            let mut entry = group(name).at_hubs(&[hub]);
            entry.settings.etag = etag(&moment);
            self.tasks.spawn(async move {
                Done::Enrolled(store.put_enrollment_group(&scope(), entry, Condition::Always).await)
            });
        }
        // What comes next may rely on it.
        while !self.tasks.unfinished().is_empty() {
            if self.turn() == Ok(false) {
                self.store.sync();
            }
        }
    }

    fn caller(&mut self) -> (usize, u32, dps_core::attestation::DeviceClaim) {
        let device = self.prng.below(self.devices.len());
        let as_individual = self.prng.percent(30);
        // One token in ten has run out.
        let expires = if self.prng.percent(10) { -400 } else { 3_600 };
        let claim = self.devices[device].claim(as_individual, self.clock.after(expires));
        (device, self.devices[device].life, claim)
    }

    fn moment(&mut self) -> Moment {
        Moment { now: self.clock.0, random: self.prng.bytes() }
    }

    fn note(&mut self, what: String) {
        self.trace.push(format!("{:4} {what}", self.trace.len()));
    }
}

/// Each group with the hub it leads to.
const GROUPS: [(&str, &str); 2] = [(LOCAL_GROUP, "north.example"), (OUTSIDE_GROUP, "outside.example")];

fn serve(store: &Arc<SimStore>) -> Arc<Registrar> {
    let hubs = vec![local("north.example"), local("south.example"), slow("outside.example")];
    let store = Arc::clone(store) as Arc<dyn Store>;
    Arc::new(Registrar::new(store, Arc::new(InlinePool::default()), [instance(hubs)]))
}

/// Spec: DPS-REG-11: a device that was told one place is never told another.
fn hear(device: &mut Device, state: &State) -> Result<(), String> {
    let State::Assigned { assignment, .. } = state else { return Ok(()) };
    let now = place(assignment);
    match &device.lives_at {
        Some(before) if *before != now => {
            Err(format!("{} was told {before:?} and is now told {now:?}", device.name))
        }
        _ => {
            device.lives_at = Some(now);
            Ok(())
        }
    }
}

fn place(assignment: &Assignment) -> (HubName, DeviceId) {
    (assignment.hub.clone(), assignment.device_id.clone())
}

fn etag(moment: &Moment) -> dps_proto::ids::ETag {
    let mut random = [0; 16];
    random.copy_from_slice(&moment.random[16..]);
    dps_proto::ids::ETag::generate(random, moment.now.as_second())
}

fn scope() -> IdScope {
    SCOPE.parse().unwrap()
}
