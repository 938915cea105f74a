//! Which hub is made of which settings.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use dps_core::instance::HubKind;
use dps_core::instance_settings::HubSettings;
use dps_core::ports::{Hub, HubFactory};
use dps_proto::ids::HubName;

use crate::azure::RegistryHub;
use crate::outbound::Outbound;
use crate::{LocalHub, StaticHub};

/// Kept hubs that are looked through for those that nobody has any more, at first.
const PRUNED_FROM: usize = 64;

/// Makes hubs of every kind. Clones share the hubs outside that they made. The default has no way out: its hubs outside cannot be asked.
#[derive(Clone, Default)]
pub struct HubKinds {
    serves_broker: bool,
    outbound: Option<Outbound>,
    outside: Arc<Mutex<Outside>>,
}

/// The hubs outside that are in use. Spec: DPS-HUB-19.
#[derive(Default)]
struct Outside {
    /// Nearly always one of a name: two connection strings of one hub are the old and the new one, or two instances'.
    of_name: HashMap<HubName, Vec<Weak<RegistryHub>>>,
    prune_at: usize,
}

impl HubKinds {
    /// Hubs outside are asked by `outbound`; `serves_broker` says whether a broker may ask who the devices of local hubs are.
    /// Spec: DPS-BROKER-11.
    pub fn new(serves_broker: bool, outbound: Outbound) -> Self {
        Self { serves_broker, outbound: Some(outbound), ..Self::default() }
    }

    fn outside(&self, settings: &HubSettings) -> Arc<RegistryHub> {
        let Some(connection_string) = &settings.connection_string else {
            return Arc::new(RegistryHub::unreachable("the hub has no connection string"));
        };
        let Some(outbound) = &self.outbound else {
            return Arc::new(RegistryHub::unreachable("this server makes no outgoing connections"));
        };
        let mut outside = self.outside.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = outside.of_name.get(&settings.name).into_iter().flatten();
        if let Some(hub) = kept.filter_map(Weak::upgrade).find(|hub| hub.speaks_by(connection_string)) {
            return hub;
        }
        let hub = Arc::new(RegistryHub::new(connection_string.clone(), outbound.clone()));
        outside.keep(settings.name.clone(), &hub);
        hub
    }
}

impl Outside {
    fn keep(&mut self, name: HubName, hub: &Arc<RegistryHub>) {
        let of_name = self.of_name.entry(name).or_default();
        of_name.retain(|hub| hub.strong_count() > 0);
        of_name.push(Arc::downgrade(hub));
        // All of them are looked through only when there are twice as many: each costs no more than a few looks.
        if self.of_name.len() >= self.prune_at.max(PRUNED_FROM) {
            self.of_name.retain(|_, hubs| hubs.iter().any(|hub| hub.strong_count() > 0));
            self.prune_at = self.of_name.len() * 2;
        }
    }
}

impl HubFactory for HubKinds {
    fn hub(&self, settings: &HubSettings) -> Arc<dyn Hub> {
        match settings.kind {
            HubKind::Local => Arc::new(LocalHub { serves_broker: self.serves_broker }),
            HubKind::Static => Arc::new(StaticHub),
            HubKind::Azure => self.outside(settings),
        }
    }
}

#[cfg(test)]
mod tests {
    use dps_core::ports::{HubHealth, RegistryError};

    use super::*;
    use crate::outbound::{AllowedTargets, Trust, TrustedRoots};
    use crate::scripted_peer::{ScriptedPeer, answer};

    const KEY: &str = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0MTIzNDU2Nzg=";

    fn settings(name: &str, authority: &str, policy: &str) -> HubSettings {
        let text = format!("HostName={authority};SharedAccessKeyName={policy};SharedAccessKey={KEY}");
        HubSettings::azure(name.parse().unwrap(), text.parse().unwrap())
    }

    fn is_same(hub: &Arc<dyn Hub>, other: &Arc<dyn Hub>) -> bool {
        Arc::as_ptr(hub).cast::<()>() == Arc::as_ptr(other).cast::<()>()
    }

    async fn kinds(peer: &ScriptedPeer) -> HubKinds {
        let roots = TrustedRoots::read(&Trust::Only(peer.ca_file())).unwrap();
        let outbound = Outbound::new(AllowedTargets::parse(["localhost"]).unwrap(), roots).unwrap();
        HubKinds::new(false, outbound)
    }

    /// DPS-HUB-19
    #[tokio::test]
    async fn one_hub_is_made_of_equal_settings_for_as_long_as_it_is_used() {
        let peer = ScriptedPeer::start(|_| answer(401, "")).await;
        let kinds = kinds(&peer).await;
        let authority = format!("localhost:{}", peer.address.port());
        let weighted = HubSettings { allocation_weight: 7, ..settings("HUB.example", &authority, "owner") };
        let (first, second) =
            (kinds.hub(&settings("hub.example", &authority, "owner")), kinds.clone().hub(&weighted));
        assert!(is_same(&first, &second));
        for other in [
            settings("hub2.example", &authority, "owner"),
            settings("hub.example", &authority, "other"),
            settings("hub.example", "localhost", "owner"),
        ] {
            assert!(!is_same(&first, &kinds.hub(&other)), "{other:?}");
        }
        first.registry().unwrap().identity(&"d".parse().unwrap()).await.unwrap_err();
        assert!(matches!(second.health(), HubHealth::Unhealthy { .. }), "what one learns the other knows");
        drop((first, second));
        let anew = kinds.hub(&settings("hub.example", &authority, "owner"));
        assert_eq!(anew.health(), HubHealth::Healthy, "nobody had it any more");
    }

    /// DPS-HUB-19
    #[tokio::test]
    async fn hubs_that_nobody_has_any_more_are_forgotten() {
        let peer = ScriptedPeer::start(|_| answer(401, "")).await;
        let kinds = kinds(&peer).await;
        let kept: Vec<_> = (0..10)
            .map(|number| kinds.hub(&settings(&format!("kept-{number}.example"), "localhost", "owner")))
            .collect();
        for number in 0..1_000 {
            kinds.hub(&settings(&format!("gone-{number}.example"), "localhost", "owner"));
            kinds.hub(&settings("kept-0.example", "localhost", &format!("gone-{number}")));
        }
        let outside = kinds.outside.lock().unwrap();
        assert!(outside.of_name.len() <= PRUNED_FROM, "{} names", outside.of_name.len());
        assert!(outside.of_name.values().all(|hubs| hubs.len() <= 2));
        drop(outside);
        for (number, hub) in kept.iter().enumerate() {
            let again = kinds.hub(&settings(&format!("kept-{number}.example"), "localhost", "owner"));
            assert!(is_same(hub, &again), "{number}");
        }
    }

    /// DPS-HUB-19
    #[tokio::test]
    async fn a_hub_that_cannot_be_asked_says_why_at_every_call() {
        let peer = ScriptedPeer::start(|_| answer(401, "")).await;
        let kinds = kinds(&peer).await;
        let without =
            HubSettings { connection_string: None, ..settings("hub.example", "localhost", "owner") };
        let rows = [
            (kinds.hub(&settings("hub.example", "hub..example", "owner")), "the host of the hub: "),
            (kinds.hub(&settings("hub.example", "1.2.3.4.5", "owner")), "the host of the hub: "),
            (kinds.hub(&without), "no connection string"),
            (
                HubKinds::default().hub(&settings("hub.example", "localhost", "owner")),
                "no outgoing connections",
            ),
        ];
        for (hub, expected) in rows {
            let registry = hub.registry().unwrap();
            let id = "d".parse().unwrap();
            for why in [registry.identity(&id).await.unwrap_err(), registry.twin(&id).await.unwrap_err()] {
                assert!(
                    matches!(&why, RegistryError::NotAllowed { reason } if reason.contains(expected)),
                    "{why:?}"
                );
            }
            let HubHealth::Unhealthy { reason, .. } = hub.health() else { panic!("{expected}: healthy") };
            assert!(reason.contains(expected), "{reason}");
        }
        assert_eq!(peer.connections(), 0);
    }
}
