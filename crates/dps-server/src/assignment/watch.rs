//! How the hubs outside do: told when it changes, and asked after where nobody else asks. Spec: DPS-REG-46.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use dps_core::instance::LinkedHub;
use dps_core::ports::HubHealth;
use dps_proto::ids::{DeviceId, HubName, IdScope};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::front_end::FrontEnd;
use crate::metrics::{HubOutcome, HubWork};

/// How soon a change is told.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often a hub is asked that is unhealthy. Spec: DPS-REG-46.
const ASK_EVERY: Duration = Duration::from_secs(30);

/// The device that is asked for: that there is none is an answer as good as any.
const NOBODY: &str = "harbormaster-is-it-there";

/// A hub of an instance.
type Key = (IdScope, HubName);

/// Watches the hubs of the instances that are served; one for each node.
pub struct HubWatch {
    front_end: Arc<FrontEnd>,
}

/// What is remembered of a hub.
struct Seen {
    is_healthy: bool,
    asked_at: Instant,
}

impl HubWatch {
    /// One that has seen nothing.
    pub fn new(front_end: Arc<FrontEnd>) -> Self {
        Self { front_end }
    }

    /// Watches until it is to stop.
    pub async fn run(self, mut stopping: watch::Receiver<bool>) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut seen, mut asking) = (HashMap::new(), JoinSet::new());
        while !*stopping.borrow() {
            tokio::select! {
                changed = stopping.changed() => if changed.is_err() { break },
                _ = looks.tick() => self.look(&mut seen, &mut asking),
                Some(_) = asking.join_next() => {}
            }
        }
    }

    fn look(&self, seen: &mut HashMap<Key, Seen>, asking: &mut JoinSet<()>) {
        let mut linked_now = Vec::new();
        for (_, instance) in self.front_end.registrar.instances().all() {
            for linked in instance.linked_hubs.iter().filter(|linked| linked.hub.registry().is_some()) {
                let key = (instance.id_scope.clone(), linked.name.clone());
                linked_now.push(key.clone());
                let health = linked.hub.health();
                let is_healthy = health == HubHealth::Healthy;
                let now = Instant::now();
                let known = seen.entry(key).or_insert(Seen { is_healthy: true, asked_at: now });
                self.front_end.metrics.hub_health(&instance.id_scope, &linked.name, is_healthy);
                let (id_scope, hub) = (instance.id_scope.as_str(), linked.name.as_str());
                match (&health, known.is_healthy) {
                    (HubHealth::Unhealthy { reason, .. }, true) => {
                        let reason: &str = reason;
                        tracing::warn!(id_scope, hub, reason, "hub unhealthy");
                        known.asked_at = now;
                    }
                    (HubHealth::Healthy, false) => {
                        tracing::info!(id_scope, hub, "hub healthy again");
                        self.front_end.placements.wake();
                        self.front_end.clean_ups.wake();
                    }
                    _ => {}
                }
                known.is_healthy = is_healthy;
                if !is_healthy && now.duration_since(known.asked_at) >= ASK_EVERY {
                    known.asked_at = now;
                    asking.spawn(ask(Arc::clone(&self.front_end), linked.clone()));
                }
            }
        }
        seen.retain(|key, _| {
            let is_linked = linked_now.contains(key);
            if !is_linked {
                self.front_end.metrics.hub_gone(&key.0, &key.1);
            }
            is_linked
        });
    }
}

/// What comes of it the hub remembers itself.
async fn ask(front_end: Arc<FrontEnd>, linked: LinkedHub) {
    let (Some(registry), Ok(nobody)) = (linked.hub.registry(), NOBODY.parse::<DeviceId>()) else { return };
    let (began, call) = (Instant::now(), front_end.metrics.hub_asked(HubWork::Probe));
    let _ = registry.identity(&nobody).await;
    let outcome = match linked.hub.health() {
        HubHealth::Healthy => HubOutcome::Done,
        HubHealth::Unhealthy { .. } => HubOutcome::Failed,
    };
    call.ended(outcome, began.elapsed());
}
