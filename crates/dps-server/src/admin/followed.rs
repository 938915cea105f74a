//! Service instances that other nodes change. Spec: DPS-NODE-3.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use dps_core::instance::ServiceInstance;
use dps_core::instances::Origin;
use dps_core::ports::StoreError;
use dps_proto::ids::{ETag, IdScope};
use tokio::sync::watch;
use tokio::time::sleep;

use super::Admin;

/// With the time that the answer takes, what was changed on another node is known here within 2 s. Spec: DPS-NODE-3.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What of the store's instances is served.
#[derive(Default)]
struct Known {
    version: Option<i64>,
    etags: HashMap<IdScope, ETag>,
}

impl Admin {
    /// Serves what other nodes write, until it is to stop; ends at once where there are none.
    pub async fn follow_other_nodes(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        let mut known = Known::default();
        while !*stopping.borrow() {
            match self.look(&mut known).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(why) => {
                    tracing::debug!(reason = %why, "the store could not be asked for changes of service instances");
                }
            }
            tokio::select! {
                changed = stopping.changed() => if changed.is_err() { break },
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Whether the store is one that others may write to.
    async fn look(&self, known: &mut Known) -> Result<bool, StoreError> {
        let Some(version) = self.store.settings_version().await? else { return Ok(false) };
        if known.version == Some(version) {
            return Ok(true);
        }
        // A change of this node's own is not undone by what was read before it.
        let _turn = self.changing.lock().await;
        let version = self.store.settings_version().await?;
        let stored = self.store.service_instances().await?;
        let instances = self.registrar.instances();
        let mut etags = HashMap::new();
        for instance in stored {
            let scope = instance.settings.id_scope.clone();
            if known.etags.get(&scope) != Some(&instance.etag) {
                let served = ServiceInstance::new(instance.settings, instance.secret, &*self.hubs);
                instances.set(Origin::Store, served);
                tracing::debug!(id_scope = scope.as_str(), "service instance served as the store has it");
            }
            etags.insert(scope, instance.etag);
        }
        for (origin, served) in instances.all() {
            if origin == Origin::Store && !etags.contains_key(&served.id_scope) {
                instances.remove(&served.id_scope);
                tracing::info!(
                    id_scope = served.id_scope.as_str(),
                    "service instance deleted by another node"
                );
            }
        }
        *known = Known { version, etags };
        Ok(true)
    }
}
