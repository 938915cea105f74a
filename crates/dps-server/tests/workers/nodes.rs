//! Nodes that share a store. Spec: DPS-NODE-2, DPS-NODE-3.

use std::sync::Arc;
use std::time::Duration;

use dps_core::Moment;
use dps_core::access::{Right, SharedAccessPolicy};
use dps_core::instance::HubKind;
use dps_core::instance_settings::{HubSettings, InstanceSettings, StoredInstance};
use dps_core::ports::{Condition, Store};
use dps_hub::HubKinds;
use dps_proto::ids::{IdScope, InstanceSecret};
use dps_proto::key::{KeyPair, SymmetricKey};
use dps_server::admin::Admin;
use dps_server::moments::{Moments, StoreMoments};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::desk::Desk;

fn scope() -> IdScope {
    "0ne00000077".parse().unwrap()
}

fn settings(hubs: &[&str]) -> InstanceSettings {
    let key = |byte| SymmetricKey::from_bytes(vec![byte; 32]).unwrap();
    let owner = SharedAccessPolicy {
        name: "owner".parse().unwrap(),
        rights: Right::ALL.into(),
        keys: KeyPair { primary: key(1), secondary: key(2) },
    };
    let linked_hubs = hubs.iter().map(|hub| HubSettings::new(hub.parse().unwrap(), HubKind::Local)).collect();
    InstanceSettings { linked_hubs, ..InstanceSettings::new(scope(), owner) }
}

fn moment(number: u8) -> Moment {
    Moment { now: Timestamp::UNIX_EPOCH, random: [number; 32] }
}

/// DPS-NODE-3
#[tokio::test(start_paused = true)]
async fn what_another_node_writes_of_an_instance_is_served_within_two_seconds() {
    let desk = Desk::new(Vec::new(), Vec::new(), Default::default()).await;
    let (store, front_end) = (Arc::clone(&desk.store), Arc::clone(&desk.front_end));
    let admin = Admin::new(Arc::clone(&store) as _, &front_end, Arc::new(HubKinds::default()), "token");
    let (stop, stopping) = watch::channel(false);
    let following = tokio::spawn(admin.follow_other_nodes(stopping));
    let instances = front_end.registrar.instances();
    let hubs = || {
        let served = instances.of_scope(&scope())?;
        Some(served.linked_hubs.iter().map(|linked| linked.name.as_str().to_owned()).collect::<Vec<_>>())
    };
    let look = Duration::from_millis(2_100);
    sleep(look).await;
    assert_eq!(hubs(), None);

    let first = StoredInstance::first(settings(&["a.example"]), InstanceSecret::new([3; 32]), moment(1));
    store.put_service_instance(first.clone(), Condition::IfAbsent.into()).await.unwrap();
    sleep(look).await;
    assert_eq!(hubs().unwrap(), ["a.example"]);

    let second = first.with(settings(&["a.example", "b.example"]), moment(2));
    store.put_service_instance(second, Condition::Always.into()).await.unwrap();
    sleep(look).await;
    assert_eq!(hubs().unwrap(), ["a.example", "b.example"]);
    // A node's own instances, of its configuration, are none of the store's.
    let own = instances.all().len();

    store.delete_service_instance(&scope(), Condition::Always.into()).await.unwrap();
    sleep(look).await;
    assert_eq!((hubs(), instances.all().len()), (None, own - 1));
    stop.send_replace(true);
    following.await.unwrap();
}

/// DPS-NODE-2: a store of one process has no clock but that one's.
#[tokio::test]
async fn a_node_that_is_alone_counts_by_its_own_clock() {
    let desk = Desk::new(Vec::new(), Vec::new(), Default::default()).await;
    let moments = StoreMoments::of(&*desk.store).await.unwrap();
    let before = Timestamp::now();
    let moment = moments.moment();
    assert!((before..=Timestamp::now()).contains(&moment.now));
    assert_ne!(moment.random, moments.moment().random);
}
