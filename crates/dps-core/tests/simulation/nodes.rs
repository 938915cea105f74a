//! The nodes that serve devices: one with a store of its own, or several that share one. Each has its clock, ends for itself, and takes with
//! it what it was doing; the store they share ends for itself, and connections to it are lost, before a write or after it.
//! Spec: DPS-STORE-2, DPS-STORE-3, DPS-REG-32, DPS-REG-44.

use std::collections::BTreeSet;
use std::sync::Arc;

use dps_core::instance::{ServiceInstance, WhenSourceUnavailable};
use dps_core::instances::{Instances, Origin};
use dps_core::ports::Store;
use dps_core::register::Registrar;

use crate::asked::Done;
use crate::common::executor::{Clock, TaskId};
use crate::common::hubs::{instance, local, remote};
use crate::common::inline_pool::InlinePool;
use crate::common::registry::SimRegistry;
use crate::common::sim_store::SimStore;
use crate::world::{HUBS, World};

/// All of them, and the one that acts.
pub(crate) struct Nodes {
    all: Vec<Node>,
    acting: usize,
}

struct Node {
    registrar: Arc<Registrar>,
    /// How many seconds its clock is ahead.
    skew: i64,
    is_up: bool,
    tasks: BTreeSet<TaskId>,
}

impl Nodes {
    /// How many there are, which the seed decides.
    pub(crate) fn count(seed: u64) -> usize {
        if seed % 7 >= 3 { 3 } else { 1 }
    }

    /// Whether their connections to the store are lost now and then.
    pub(crate) fn loses_connections(seed: u64) -> bool {
        seed % 7 >= 5
    }

    pub(crate) fn of(seed: u64, store: &Arc<SimStore>, registries: &[Arc<SimRegistry>; 2]) -> Self {
        let node = |_| Node {
            registrar: serve(store, registries, seed),
            skew: 0,
            is_up: true,
            tasks: BTreeSet::new(),
        };
        Self { all: (0..Self::count(seed)).map(node).collect(), acting: 0 }
    }

    pub(crate) fn is_any_up(&self) -> bool {
        self.all.iter().any(|node| node.is_up)
    }

    pub(crate) fn is_any_down(&self) -> bool {
        self.all.iter().any(|node| !node.is_up)
    }

    /// The clock of the one that acts.
    pub(crate) fn clock(&self, clock: Clock) -> Clock {
        Clock(clock.after(self.all[self.acting].skew))
    }

    /// The task has ended.
    pub(crate) fn forget(&mut self, task: TaskId) {
        for node in &mut self.all {
            node.tasks.remove(&task);
        }
    }
}

impl World {
    /// That of a node that is up, which acts from now on.
    pub(crate) fn registrar(&mut self) -> Arc<Registrar> {
        self.let_one_act();
        Arc::clone(&self.nodes.all[self.nodes.acting].registrar)
    }

    /// The store, by way of a node that is up.
    pub(crate) fn store_of_a_node(&mut self) -> Arc<SimStore> {
        self.let_one_act();
        Arc::clone(&self.store)
    }

    fn let_one_act(&mut self) {
        let up: Vec<_> = (0..self.nodes.all.len()).filter(|at| self.nodes.all[*at].is_up).collect();
        // With one node nothing is drawn, so that its schedules are what they were.
        self.nodes.acting =
            if up.len() > 1 { *self.prng.pick(&up) } else { up.first().copied().unwrap_or(0) };
    }

    /// A task of the node that acts.
    pub(crate) fn spawn(&mut self, future: impl Future<Output = Done> + 'static) -> TaskId {
        let task = self.tasks.spawn(future);
        self.nodes.all[self.nodes.acting].tasks.insert(task);
        task
    }

    pub(crate) fn something_fails(&mut self) {
        if self.nodes.all.len() == 1 {
            self.all_crash();
            return;
        }
        let at = self.prng.below(self.nodes.all.len());
        match self.prng.below(4) {
            0 => {
                self.note("the store ends, and is there again");
                self.store.crash();
                self.store.restart();
            }
            1 => {
                let skew = *self.prng.pick(&[-300, -90, -2, 0, 2, 90, 300]);
                self.note(&format!("the clock of node {at} is {skew} s ahead"));
                self.nodes.all[at].skew = skew;
            }
            _ => self.ends(at),
        }
    }

    /// The whole machine, with the store.
    pub(crate) fn all_crash(&mut self) {
        self.note("crash");
        for at in 0..self.nodes.all.len() {
            self.ends(at);
        }
        self.store.crash();
    }

    fn ends(&mut self, at: usize) {
        self.note(&format!("node {at} ends"));
        let node = &mut self.nodes.all[at];
        node.is_up = false;
        for task in std::mem::take(&mut node.tasks) {
            self.tasks.abandon(task);
            if let Some(device) = self.deletions.remove(&task) {
                // The record may be gone or not.
                self.devices[device].begin_anew();
                self.devices[device].deletions -= 1;
            }
        }
    }

    pub(crate) fn restart_those_down(&mut self) {
        self.store.restart();
        for at in 0..self.nodes.all.len() {
            if !self.nodes.all[at].is_up {
                self.note(&format!("node {at} starts"));
                let registrar = serve(&self.store, &self.registries, self.seed);
                let node = &mut self.nodes.all[at];
                (node.registrar, node.is_up) = (registrar, true);
            }
        }
    }
}

fn serve(store: &Arc<SimStore>, [outside, beyond]: &[Arc<SimRegistry>; 2], seed: u64) -> Arc<Registrar> {
    let hubs = vec![local(HUBS[0]), local(HUBS[1]), remote(HUBS[2], outside), remote(HUBS[3], beyond)];
    let when_source_unavailable = WhenSourceUnavailable::ALL[usize::from(seed % 8 >= 4)];
    let instance = ServiceInstance { when_source_unavailable, ..instance(hubs) };
    let store = Arc::clone(store) as Arc<dyn Store>;
    Arc::new(Registrar::new(
        store,
        Arc::new(InlinePool::default()),
        Instances::of(Origin::Configuration, [instance]),
    ))
}
