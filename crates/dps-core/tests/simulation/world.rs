//! One schedule: what happens, in which order, until everything has come to rest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Poll;

use dps_core::Moment;
use dps_core::attestation::DeviceClaim;
use dps_core::ports::{ClaimedOperation, CleanUp, WaitingFor};
use dps_proto::ids::{InstanceSecret, OperationId};
use uuid::Uuid;

use crate::asked::{Asked, Done, Named};
use crate::common::desk::scope;
use crate::common::executor::{Clock, Executor, TaskId};
use crate::common::image::Faults;
use crate::common::prng::Prng;
use crate::common::registry::SimRegistry;
use crate::common::sim_store::{SimStore, Syncs, Yields};
use crate::fleet::{Device, GROUPS, Signer, fleet};
use crate::nodes::Nodes;
use crate::operator::KeyVersions;
use crate::promises;

/// Linked throughout; the last two are outside.
pub(crate) const HUBS: [&str; 4] = ["north.example", "south.example", "outside.example", "beyond.example"];

/// Steps before the world is left to come to rest.
const STEPS: usize = 900;

/// Tasks under way at most. Each commit of many registers of one device lets one of them through, and the registrar gives up
/// after sixteen; that refusal is a promise of its own and none of these.
const TASKS_MAX: usize = 12;

/// A registrar with its devices, operators and hubs, all driven by one seed.
pub(crate) struct World {
    pub(crate) store: Arc<SimStore>,
    pub(crate) tasks: Executor<Done>,
    pub(crate) clock: Clock,
    pub(crate) prng: Prng,
    pub(crate) devices: Vec<Device>,
    pub(crate) versions: KeyVersions,
    pub(crate) trace: Vec<String>,
    pub(crate) movement: Movement,
    /// Whether entries may leave the choice of hubs to a webhook.
    pub(crate) webhooks: bool,
    pub(crate) nodes: Nodes,
    /// Deletions of records that are under way, and of which device.
    pub(crate) deletions: BTreeMap<TaskId, usize>,
    /// What workers hold, and hold on to over crashes and past their leases.
    pub(crate) claims: Vec<ClaimedOperation>,
    /// What workers hold that ask the hubs outside.
    pub(crate) placements: Vec<ClaimedOperation>,
    pub(crate) clean_ups: Vec<CleanUp>,
    /// The hubs outside. A crash here is none there.
    pub(crate) registries: [Arc<SimRegistry>; 2],
    /// Whether every entry has its devices at one of them.
    pub(crate) far: bool,
    /// Whether calls may be carried out that nobody waits for any more.
    pub(crate) lates: bool,
    pub(crate) seed: u64,
    shown: Shown,
}

/// Whether devices may move from hub to hub, which every other seed lets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Movement {
    None,
    Some,
}

/// When the steps are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    AsItHappens,
    Afterwards,
}

impl World {
    pub(crate) fn new(seed: u64, faults: Faults, shown: Shown) -> Self {
        let mut prng = Prng::new(seed);
        let store = SimStore::new(Syncs::ByHand, Yields::Drawn(prng.fork()), faults);
        let store = Arc::new(match Nodes::count(seed) {
            1 => store,
            _ => store.shared(),
        });
        store.set_losses(Nodes::loses_connections(seed).then(|| prng.fork()));
        let registries = [SimRegistry::new(), SimRegistry::new()];
        registries.iter().for_each(|registry| registry.wait_drawn(prng.fork()));
        Self {
            nodes: Nodes::of(seed, &store, &registries),
            deletions: BTreeMap::new(),
            seed,
            store,
            tasks: Executor::new(),
            clock: Clock::new(),
            prng,
            devices: fleet(),
            versions: KeyVersions::default(),
            trace: Vec::new(),
            movement: if seed.is_multiple_of(2) { Movement::None } else { Movement::Some },
            webhooks: seed % 4 >= 2,
            claims: Vec::new(),
            placements: Vec::new(),
            clean_ups: Vec::new(),
            registries,
            far: seed % 5 >= 3,
            lates: seed.is_multiple_of(3),
            shown,
        }
    }

    /// The whole schedule; the first promise that is broken.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        self.put_all_groups()?;
        for _ in 0..STEPS {
            self.step()?;
        }
        self.restart_those_down();
        self.come_to_rest()?;
        self.all_devices_get_home()
    }

    fn step(&mut self) -> Result<(), String> {
        match self.prng.below(200) {
            _ if self.nodes.is_any_down() && self.prng.percent(50) => self.restart_those_down(),
            0..=5 => {
                // Whoever asks a hub has its token from his own clock: one that steps back makes tokens that are good for longer.
                let steps: &[i64] =
                    if self.lates { &[1, 30, 90, 600] } else { &[-7_200, -3_600, -5, 1, 30, 600, 3_600] };
                let seconds = *self.prng.pick(steps);
                self.clock.step(seconds);
                self.note(&format!("the clock steps {seconds} s"));
            }
            6..=11 => self.trouble_a_hub(),
            12..=15 => self.carry_out_late(),
            // What follows needs a process that runs.
            _ if !self.nodes.is_any_up() => {}
            16..=89 if self.tasks.unfinished().len() >= TASKS_MAX => {
                self.turn()?;
            }
            16..=52 if self.far && self.prng.percent(50) => match self.prng.below(4) {
                0 => self.claim_clean_ups(),
                1 => self.clean_up(),
                _ => self.place(),
            },
            16..=52 => self.register(),
            53..=67 => self.poll(),
            68..=75 => self.operator(),
            76..=83 => self.place(),
            84..=86 => self.claim_clean_ups(),
            87..=89 => self.clean_up(),
            // A migration takes many turns: in some worlds most of them come to an end.
            90..=92 if self.far && self.prng.percent(75) => {}
            90..=92 => self.something_fails(),
            93..=109 => {
                let writes = self.store.sync();
                self.note(&format!("{writes} writes become durable"));
            }
            110..=115 => {
                let ahead = self.ahead();
                self.claim(ahead);
            }
            116..=122 => {
                let ahead = self.ahead();
                self.claim_placements(ahead);
            }
            123..=132 => self.settle(),
            _ => {
                for _ in 0..if self.far { 4 } else { 1 } {
                    self.turn()?;
                }
            }
        }
        Ok(())
    }

    /// By how much the clock of a worker is ahead, so that it finds leases over.
    fn ahead(&mut self) -> i64 {
        *self.prng.pick(&[0, 60, 50_000, 1_000_000])
    }

    fn register(&mut self) {
        let device = self.prng.below(self.devices.len());
        let (asked, claim) = self.ask(device);
        self.start_register(asked, claim);
    }

    fn start_register(&mut self, asked: Asked, claim: DeviceClaim) {
        let (registrar, moment) = (self.registrar(), self.moment());
        let (name, signer) = (self.devices[asked.device].name, asked.signer);
        let task = self
            .spawn(async move { Done::Registered(asked, registrar.register(&claim, None, moment).await) });
        self.note(&format!("{task:?} registers {name} with the key of {signer:?}"));
    }

    /// With an operation id of the device, of this life or an earlier one, of another device, or of nobody.
    fn poll(&mut self) {
        let told = |device: &Device| device.told.clone();
        let device = self.prng.below(self.devices.len());
        let (own, forgotten) = (told(&self.devices[device]), self.devices[device].forgotten.clone());
        let others = self.devices.iter().filter(|other| other.name != self.devices[device].name);
        let foreign: Vec<OperationId> = others.flat_map(told).collect();
        let named = match self.prng.below(10) {
            0 => Named::Forged(self.forged(device)),
            1..=2 if !foreign.is_empty() => Named::Foreign(*self.prng.pick(&foreign)),
            3..=4 if !forgotten.is_empty() => Named::Forgotten(*self.prng.pick(&forgotten)),
            _ if !own.is_empty() => Named::Own(*self.prng.pick(&own)),
            _ => return self.register(),
        };
        let (asked, claim) = self.ask(device);
        self.start_poll(asked, claim, named);
    }

    fn start_poll(&mut self, asked: Asked, claim: DeviceClaim, named: Named) {
        let (registrar, moment) = (self.registrar(), self.moment());
        let (name, signer) = (self.devices[asked.device].name, asked.signer);
        let task = self.spawn(async move {
            let result = registrar.poll(&claim, &named.operation().to_string(), moment).await;
            Done::Polled(asked, named, result)
        });
        self.note(&format!("{task:?} polls for {name} with the key of {signer:?}: {named:?}"));
    }

    /// An operation id as one would make it who does not know the secret of the instance.
    fn forged(&mut self, device: usize) -> OperationId {
        let (secret, guid) = (InstanceSecret::new(self.prng.bytes()), Uuid::from_bytes(self.prng.bytes()));
        OperationId::derive(&secret, &scope(), &self.devices[device].id(), guid)
    }

    /// A request of a device with whatever credential it takes.
    fn ask(&mut self, device: usize) -> (Asked, DeviceClaim) {
        let signer = Signer::draw(&mut self.prng);
        let version = match signer {
            Signer::Own => self.versions.draw(self.devices[device].name, &mut self.prng),
            Signer::Group(group) => self.versions.draw(group, &mut self.prng),
            Signer::Nobody => 0,
        };
        // Expired, about to, and good for long.
        let lifetime = *self.prng.pick(&[-400, 30, 3_600, 3_600, 3_600, 3_600, 3_600, 86_400]);
        self.ask_as(device, signer, version, lifetime)
    }

    fn ask_as(&mut self, device: usize, signer: Signer, version: u32, lifetime: i64) -> (Asked, DeviceClaim) {
        let known = &self.devices[device];
        let claim = known.claim(signer, version, self.clock.after(lifetime), &mut self.prng);
        (Asked { device, signer, life: known.life, home: known.home.clone() }, claim)
    }

    /// One poll of one task; whether there was one to poll.
    fn turn(&mut self) -> Result<bool, String> {
        let Some((task, polled)) = self.tasks.poll_any(&mut self.prng) else { return Ok(false) };
        for applied in self.store.take_journal() {
            let record = &applied.write.registration;
            let what = format!("{task:?} writes {}: {:?}", record.registration_id, record.state);
            self.note(&what);
            promises::check_commit(&applied, self.movement)?;
            promises::check_twin(&applied, &self.registries)?;
            let id = applied.write.registration.registration_id.clone();
            if promises::is_left_at_first(&applied)
                && let Some(device) = self.devices.iter_mut().find(|device| device.id() == id)
            {
                device.left_at_first = true;
            }
        }
        if let Poll::Ready(done) = polled {
            self.note(&format!("{task:?} ends: {done:?}"));
            self.nodes.forget(task);
            if let Some(device) = self.deletions.remove(&task) {
                self.devices[device].begin_anew();
                self.devices[device].deletions -= 1;
            }
            match &done {
                Done::Claimed(WaitingFor::Webhook, Ok(claimed)) => {
                    self.claims.extend(claimed.operations.iter().cloned());
                }
                Done::Claimed(WaitingFor::Hub, Ok(claimed)) => {
                    self.placements.extend(claimed.operations.iter().cloned());
                }
                Done::ClaimedCleanUps(Ok(claimed)) => {
                    self.clean_ups.extend(claimed.operations.iter().cloned());
                }
                _ => {}
            }
            let is_shared = Nodes::count(self.seed) > 1;
            promises::check_answer(&mut self.devices, &done, self.movement, is_shared)?;
        }
        Ok(true)
    }

    /// Everything that was begun ends, once every write becomes durable.
    pub(crate) fn come_to_rest(&mut self) -> Result<(), String> {
        loop {
            while self.turn()? {}
            match self.tasks.unfinished() {
                unfinished if unfinished.is_empty() => break,
                unfinished if !self.store.has_unsynced() => {
                    return Err(format!("{unfinished:?} wait, and nothing will wake them"));
                }
                _ => self.store.sync(),
            };
        }
        self.store.sync();
        promises::check_at_rest(&self.devices, &self.store.durable(), self.movement)
    }

    /// After a last crash, with every group enabled and no hub that refuses, every device is assigned, where it was ever
    /// told, and every operation id that it was told says so.
    fn all_devices_get_home(&mut self) -> Result<(), String> {
        self.all_crash();
        self.store.set_losses(None);
        self.restart_those_down();
        for device in 0..self.devices.len() {
            self.delete_individual(device);
        }
        self.come_to_rest()?;
        self.put_all_groups()?;
        // A device that waits for its hub under an entry that is gone fails the first time, and comes again.
        for _ in 0..2 {
            for device in 0..self.devices.len() {
                let (asked, claim) = self.ask_well(device);
                self.start_register(asked, claim);
            }
            self.come_to_rest()?;
            self.webhooks_choose()?;
            self.hubs_do_as_they_are_asked()?;
        }
        for device in 0..self.devices.len() {
            for operation in self.devices[device].told.clone() {
                let (asked, claim) = self.ask_well(device);
                self.start_poll(asked, claim, Named::Own(operation));
            }
        }
        self.come_to_rest()?;
        promises::check_one_home(&self.devices, &self.store.durable(), &self.registries)?;
        match self.devices.iter().find(|device| device.home.is_none()) {
            Some(lost) => Err(format!("{} was never told where it lives", lost.name)),
            None => Ok(()),
        }
    }

    /// A request with a credential that must do.
    fn ask_well(&mut self, device: usize) -> (Asked, DeviceClaim) {
        let (group, _) = GROUPS[1];
        self.ask_as(device, Signer::Group(group), self.versions.latest(group), 3_600)
    }

    fn put_all_groups(&mut self) -> Result<(), String> {
        for (name, _) in GROUPS {
            self.put_group(name, true);
        }
        self.come_to_rest()
    }

    pub(crate) fn moment(&mut self) -> Moment {
        Moment { now: self.nodes.clock(self.clock).0, random: self.prng.bytes() }
    }

    pub(crate) fn note(&mut self, what: &str) {
        let line = format!("{:4} {what}", self.trace.len());
        if self.shown == Shown::AsItHappens {
            println!("{line}");
        }
        self.trace.push(line);
    }
}
