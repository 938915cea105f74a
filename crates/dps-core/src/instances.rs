//! The service instances of a node, as they are served at this moment. Spec: DPS-INST-1 (docs/spec/instances.md).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, Weak};

use dps_proto::ids::{HubName, IdScope};

use crate::access::ServiceHost;
use crate::instance::{HubKind, ServiceInstance};

/// All instances of a node. A request takes its instance once and keeps to it: what changes meanwhile is for the next one.
#[derive(Default)]
pub struct Instances {
    served: RwLock<Arc<Served>>,
}

/// Where the settings of an instance come from. Spec: DPS-INST-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A configuration, which alone can change them.
    Configuration,
    /// The store: they change over the admin listener.
    Store,
}

/// An instance that is served no longer.
pub struct Removed {
    last: Arc<ServiceInstance>,
    earlier: Vec<Weak<ServiceInstance>>,
}

#[derive(Default, Clone)]
struct Served {
    by_scope: HashMap<IdScope, Entry>,
    /// By the text of each service host.
    by_host: HashMap<Box<str>, IdScope>,
    /// Those that link a local hub of that name.
    by_local_hub: HashMap<HubName, Vec<IdScope>>,
}

/// Whose a local hub is: user names of devices name the hub, and no ID scope. Spec: DPS-BROKER-4.
#[derive(Clone)]
pub enum LocalHubOwner {
    /// No instance links a local hub of that name.
    Nobody,
    /// One instance does.
    One(Arc<ServiceInstance>),
    /// Several do, so the name means none of their hubs.
    Several,
}

#[derive(Clone)]
struct Entry {
    origin: Origin,
    instance: Arc<ServiceInstance>,
    /// With earlier settings, by which requests may still go.
    earlier: Vec<Weak<ServiceInstance>>,
}

impl Removed {
    /// Whether a request goes by it still, be it by settings that were replaced before it was removed.
    pub fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.last) > 1 || self.earlier.iter().any(|earlier| earlier.strong_count() > 0)
    }
}

impl Instances {
    /// These and no others, until one is [set](Self::set).
    pub fn of(origin: Origin, instances: impl IntoIterator<Item = ServiceInstance>) -> Arc<Self> {
        let directory = Self::default();
        instances.into_iter().for_each(|instance| directory.set(origin, instance));
        Arc::new(directory)
    }

    /// Serves this instance from now on, in place of an earlier one of its ID scope and origin. One of the configuration stays
    /// where one of the store has its ID scope, and keeps its service hosts.
    pub fn set(&self, origin: Origin, instance: ServiceInstance) {
        self.change(|served| {
            let scope = instance.id_scope.clone();
            let before = served.by_scope.remove(&scope);
            let entry = match before {
                Some(before) if before.origin == Origin::Configuration && origin == Origin::Store => before,
                Some(mut before) => {
                    before.earlier.push(Arc::downgrade(&before.instance));
                    before.earlier.retain(|earlier| earlier.strong_count() > 0);
                    Entry { origin, instance: Arc::new(instance), earlier: before.earlier }
                }
                None => Entry { origin, instance: Arc::new(instance), earlier: Vec::new() },
            };
            served.by_scope.insert(scope, entry);
        });
    }

    /// Serves it no longer. What was served stays in memory as long as a request goes by it.
    pub fn remove(&self, scope: &IdScope) -> Option<Removed> {
        let mut removed = None;
        self.change(|served| removed = served.by_scope.remove(scope));
        removed.map(|Entry { instance, earlier, .. }| Removed { last: instance, earlier })
    }

    /// The instance of that ID scope.
    pub fn of_scope(&self, scope: &IdScope) -> Option<Arc<ServiceInstance>> {
        self.served().by_scope.get(scope).map(|entry| Arc::clone(&entry.instance))
    }

    /// The instance that has the host of `authority` among its service hosts. Spec: DPS-ACCESS-2.
    pub fn of_host(&self, authority: &str) -> Option<Arc<ServiceInstance>> {
        let served = self.served();
        let scope = served.by_host.get(ServiceHost::text_of(authority).as_str())?;
        served.by_scope.get(scope).map(|entry| Arc::clone(&entry.instance))
    }

    /// Whose the local hub of that name is. Spec: DPS-BROKER-4.
    pub fn of_local_hub(&self, hub: &HubName) -> LocalHubOwner {
        let served = self.served();
        match served.by_local_hub.get(hub).map(Vec::as_slice) {
            None | Some([]) => LocalHubOwner::Nobody,
            Some([scope]) => match served.by_scope.get(scope) {
                Some(entry) => LocalHubOwner::One(Arc::clone(&entry.instance)),
                None => LocalHubOwner::Nobody,
            },
            Some(_) => LocalHubOwner::Several,
        }
    }

    /// The only local hub there is, of all instances; `None` where there is none, or are several. Spec: DPS-BROKER-5.
    pub fn only_local_hub(&self) -> Option<HubName> {
        let served = self.served();
        let mut hubs = served.by_local_hub.keys();
        hubs.next().filter(|_| hubs.next().is_none()).cloned()
    }

    /// Where the instance of that ID scope comes from.
    pub fn origin(&self, scope: &IdScope) -> Option<Origin> {
        self.served().by_scope.get(scope).map(|entry| entry.origin)
    }

    /// All of them, by ID scope.
    pub fn all(&self) -> Vec<(Origin, Arc<ServiceInstance>)> {
        let served = self.served();
        let both = |entry: &Entry| (entry.origin, Arc::clone(&entry.instance));
        let mut all: Vec<_> = served.by_scope.values().map(both).collect();
        all.sort_by(|(_, one), (_, other)| one.id_scope.cmp(&other.id_scope));
        all
    }

    /// The ID scope of the only instance, where there is only one.
    pub fn only_id_scope(&self) -> Option<IdScope> {
        let served = self.served();
        let mut scopes = served.by_scope.keys();
        scopes.next().filter(|_| scopes.next().is_none()).cloned()
    }

    fn served(&self) -> Arc<Served> {
        Arc::clone(&self.served.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Served)) {
        let mut current = self.served.write().unwrap_or_else(PoisonError::into_inner);
        let mut served = Served::clone(&current);
        change(&mut served);
        served.by_host = served.hosts();
        served.by_local_hub = served.local_hubs();
        // In one step, so that a panic before it leaves all as it was.
        *current = Arc::new(served);
    }
}

impl Served {
    /// Each host once: the configuration's instances come first, then the older ID scopes in their order.
    fn hosts(&self) -> HashMap<Box<str>, IdScope> {
        let mut entries: Vec<_> = self.by_scope.values().collect();
        entries.sort_by(|one, other| {
            let of_store = |entry: &Entry| entry.origin == Origin::Store;
            (of_store(one), &one.instance.id_scope).cmp(&(of_store(other), &other.instance.id_scope))
        });
        let mut hosts = HashMap::new();
        for Entry { instance, .. } in entries {
            for host in &instance.service_hosts {
                hosts.entry(host.as_str().into()).or_insert_with(|| instance.id_scope.clone());
            }
        }
        hosts
    }

    fn local_hubs(&self) -> HashMap<HubName, Vec<IdScope>> {
        let mut hubs: HashMap<HubName, Vec<IdScope>> = HashMap::new();
        for (scope, entry) in &self.by_scope {
            for linked in entry.instance.linked_hubs.iter().filter(|linked| linked.kind == HubKind::Local) {
                hubs.entry(linked.name.clone()).or_default().push(scope.clone());
            }
        }
        hubs
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dps_proto::ids::InstanceSecret;
    use dps_proto::key::{KeyPair, SymmetricKey};

    use super::*;
    use crate::access::{Right, SharedAccessPolicy};
    use crate::instance_settings::{HubSettings, InstanceSettings};
    use crate::ports::{Hub, HubDevice, HubFactory, Placement};

    /// Hubs that nobody is assigned to.
    struct Idle;
    impl HubFactory for Idle {
        fn hub(&self, _: &HubSettings) -> Arc<dyn Hub> {
            Arc::new(Self)
        }
    }
    impl Hub for Idle {
        fn place(&self, _: HubDevice) -> Placement {
            unreachable!("nobody registers")
        }
    }

    fn instance(scope: &str, hosts: &[&str]) -> ServiceInstance {
        ServiceInstance::new(settings(scope, hosts), InstanceSecret::new([0; 32]), &Idle)
    }

    fn settings(scope: &str, hosts: &[&str]) -> InstanceSettings {
        let key = SymmetricKey::from_bytes(vec![1; 32]).unwrap();
        let owner = SharedAccessPolicy {
            name: SharedAccessPolicy::OWNER.parse().unwrap(),
            keys: KeyPair { primary: key.clone(), secondary: key },
            rights: Right::ALL.to_vec(),
        };
        let mut settings = InstanceSettings::new(scope.parse().unwrap(), owner);
        settings.service_hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
        settings
    }

    fn with_hubs(scope: &str, hubs: &[(&str, HubKind)]) -> ServiceInstance {
        let linked = |(name, kind): &(&str, HubKind)| HubSettings::new(name.parse().unwrap(), *kind);
        let linked_hubs = hubs.iter().map(linked).collect();
        let settings = InstanceSettings { linked_hubs, ..settings(scope, &[]) };
        ServiceInstance::new(settings, InstanceSecret::new([0; 32]), &Idle)
    }

    /// DPS-BROKER-4, DPS-BROKER-5
    #[test]
    fn a_local_hub_is_that_of_one_instance_or_of_none() {
        let owner = |instances: &Instances, hub: &str| match instances.of_local_hub(&hub.parse().unwrap()) {
            LocalHubOwner::Nobody => "nobody".to_owned(),
            LocalHubOwner::One(instance) => instance.id_scope.to_string(),
            LocalHubOwner::Several => "several".to_owned(),
        };
        let instances = Instances::of(
            Origin::Store,
            [
                with_hubs("0neA", &[("a.x", HubKind::Local), ("s.x", HubKind::Static)]),
                with_hubs("0neB", &[("s.x", HubKind::Static)]),
            ],
        );
        assert_eq!(owner(&instances, "A.X"), "0neA");
        assert_eq!(owner(&instances, "s.x"), "nobody", "its devices are not known here");
        assert_eq!(instances.only_local_hub(), Some("a.x".parse().unwrap()));
        instances.set(Origin::Store, with_hubs("0neB", &[("a.X", HubKind::Local), ("b.x", HubKind::Local)]));
        assert_eq!(owner(&instances, "a.x"), "several");
        assert_eq!(owner(&instances, "b.x"), "0neB");
        assert_eq!(instances.only_local_hub(), None);
        instances.remove(&"0neA".parse().unwrap());
        assert_eq!(owner(&instances, "a.x"), "0neB");
        instances.remove(&"0neB".parse().unwrap());
        assert_eq!((owner(&instances, "a.x"), instances.only_local_hub()), ("nobody".to_owned(), None));
    }

    /// DPS-INST-1, DPS-INST-8
    #[test]
    fn a_request_keeps_to_the_settings_it_began_with_and_the_next_goes_by_the_new_ones() {
        let instances = Instances::of(Origin::Store, [instance("0ne0000000A", &["a.x"])]);
        let scope = "0NE0000000a".parse().unwrap();
        let begun = instances.of_scope(&scope).unwrap();
        instances.set(Origin::Store, instance("0ne0000000A", &["b.x"]));
        assert_eq!(begun.service_hosts[0].as_str(), "a.x");
        assert!(instances.of_host("a.x").is_none());
        assert_eq!(instances.of_host("B.X:8443").unwrap().id_scope, scope);
        let last = instances.of_scope(&scope).unwrap();
        let removed = instances.remove(&scope).unwrap();
        assert!(instances.of_scope(&scope).is_none() && instances.of_host("b.x").is_none());
        assert!(removed.is_in_use());
        drop(last);
        assert!(removed.is_in_use(), "a request goes by the settings that were replaced");
        drop(begun);
        assert!(!removed.is_in_use());
    }

    /// DPS-INST-1
    #[test]
    fn the_configuration_comes_before_the_store_in_whichever_order_they_come() {
        for configured_first in [true, false] {
            let instances = Instances::of(Origin::Store, []);
            let configured = || {
                instances.set(Origin::Configuration, instance("zzzz", &["a.x"]));
                instances.set(Origin::Configuration, instance("0ne0000000A", &[]));
            };
            if configured_first {
                configured();
            }
            instances.set(Origin::Store, instance("0ne0000000A", &["own.x"]));
            instances.set(Origin::Store, instance("0ne0000000B", &["a.x", "b.x"]));
            if !configured_first {
                configured();
            }
            assert_eq!(instances.origin(&"0ne0000000a".parse().unwrap()), Some(Origin::Configuration));
            assert!(instances.of_host("own.x").is_none());
            assert_eq!(instances.of_host("a.x").unwrap().id_scope.as_str(), "zzzz");
            assert_eq!(instances.of_host("b.x").unwrap().id_scope.as_str(), "0ne0000000B");
            assert_eq!(instances.all().len(), 3);
            assert_eq!(instances.only_id_scope(), None);
        }
    }
}
