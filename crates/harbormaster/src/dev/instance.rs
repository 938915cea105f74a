//! The service instance of `dev`: made once, kept in the store, changed over the admin listener as any other. Spec: DPS-DEV-15.

use anyhow::Context as _;
use dps_core::Moment;
use dps_core::access::{Right, ServiceHost, SharedAccessPolicy};
use dps_core::instance::HubKind;
use dps_core::instance_settings::{HubSettings, InstanceSettings, StoredInstance};
use dps_core::ports::{Condition, Store};
use dps_proto::ids::{IdScope, InstanceSecret};
use dps_proto::key::{KeyPair, SymmetricKey};
use jiff::Timestamp;

use crate::service::random;

/// The hub that devices are assigned to.
const HUB: &str = "hub.localhost";

/// Finds or makes the instance that this `dev` is about, and gives it `hosts` as its service hosts. `asked` is the ID scope that it
/// must have; without it, it is the one that `dev` was about before.
pub(super) async fn prepare(
    store: &dyn Store,
    asked: Option<IdScope>,
    hosts: &[ServiceHost],
) -> anyhow::Result<InstanceSettings> {
    let kept = store.service_instances().await?;
    let is_host = |host: &ServiceHost| hosts.contains(host);
    // Only one `dev` was about has such a host.
    let before = kept.iter().find(|kept| kept.settings.service_hosts.iter().any(is_host));
    let id_scope = asked.or_else(|| before.map(|kept| kept.settings.id_scope.clone()));
    let id_scope = id_scope.unwrap_or_else(|| IdScope::generate(random()));
    for other in kept.iter().filter(|kept| kept.settings.id_scope != id_scope) {
        let mut settings = other.settings.clone();
        settings.service_hosts.retain(|host| !is_host(host));
        if settings.service_hosts.len() < other.settings.service_hosts.len() {
            put(store, other.with(settings, moment())).await?;
        }
    }
    let instance = match kept.iter().find(|kept| kept.settings.id_scope == id_scope) {
        Some(kept) if kept.settings.service_hosts == hosts => return Ok(kept.settings.clone()),
        Some(kept) => {
            let settings = InstanceSettings { service_hosts: hosts.to_vec(), ..kept.settings.clone() };
            kept.with(settings, moment())
        }
        None => {
            let settings = InstanceSettings {
                service_hosts: hosts.to_vec(),
                linked_hubs: vec![hub()?],
                ..InstanceSettings::new(id_scope, owner()?)
            };
            StoredInstance::first(settings, InstanceSecret::new(random()), moment())
        }
    };
    put(store, instance.clone()).await?;
    Ok(instance.settings)
}

async fn put(store: &dyn Store, instance: StoredInstance) -> anyhow::Result<()> {
    store.put_service_instance(instance, Condition::Always.into()).await.context("the service instance")
}

fn moment() -> Moment {
    Moment { now: Timestamp::now(), random: random() }
}

fn hub() -> anyhow::Result<HubSettings> {
    let name = HUB.parse().context("the name of the linked hub")?;
    Ok(HubSettings::new(name, HubKind::Local))
}

/// The policy with every right.
fn owner() -> anyhow::Result<SharedAccessPolicy> {
    let key = || SymmetricKey::from_bytes(random::<{ SymmetricKey::BYTES_MAX }>().to_vec());
    Ok(SharedAccessPolicy {
        name: SharedAccessPolicy::OWNER.parse().context("the owner's name")?,
        keys: KeyPair { primary: key()?, secondary: key()? },
        rights: Right::ALL.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use dps_store::MemoryStore;

    use super::*;

    fn hosts(names: &[&str]) -> Vec<ServiceHost> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    /// DPS-DEV-15
    #[tokio::test]
    async fn the_instance_is_found_again_and_those_that_were_made_beside_it_stay() {
        let store = MemoryStore::new();
        let first = prepare(&store, None, &hosts(&["localhost", "a.x"])).await.unwrap();
        assert_eq!(first.linked_hubs[0].name.as_str(), HUB);
        assert!(first.shared_access_policies[0].is_owner());
        let beside = InstanceSettings::new("beside".parse().unwrap(), owner().unwrap());
        let beside = InstanceSettings { service_hosts: hosts(&["beside.x"]), ..beside };
        put(&store, StoredInstance::first(beside, InstanceSecret::new([1; 32]), moment())).await.unwrap();

        let again = prepare(&store, None, &hosts(&["localhost"])).await.unwrap();
        assert_eq!(again.id_scope, first.id_scope);
        assert_eq!(again.service_hosts, hosts(&["localhost"]));
        assert!(again.shared_access_policies[0].is_same(&first.shared_access_policies[0]));

        let other = prepare(&store, Some("other".parse().unwrap()), &hosts(&["localhost"])).await.unwrap();
        assert_eq!(other.id_scope.as_str(), "other");
        let latest = prepare(&store, None, &hosts(&["localhost"])).await.unwrap();
        assert_eq!(latest.id_scope.as_str(), "other", "the one that it was about before");
        let kept = store.service_instances().await.unwrap();
        let told: Vec<_> = kept
            .iter()
            .map(|kept| (kept.settings.id_scope.clone(), kept.settings.service_hosts.len()))
            .collect();
        let expected = [(first.id_scope, 0), ("beside".parse().unwrap(), 1), ("other".parse().unwrap(), 1)];
        assert_eq!(told, expected);
    }
}
