//! How many devices are at each hub, on their way, and to be gone. Spec: DPS-REG-47.

use std::sync::Arc;

use dps_core::ports::{HubLoad, HubWrite, Store};
use dps_core::registration::{Assignment, Failure, HubCredential, Placing, Registration, State, Substatus};
use dps_proto::ids::IdScope;

use super::fixtures::*;

super::on_every_store!(
    a_hub_without_devices_is_left_out,
    devices_are_counted_where_they_live_whatever_became_of_their_operation,
    hubs_are_counted_in_any_case_and_for_one_instance,
);

fn at(name: &str, id: &str) -> Assignment {
    Assignment { hub: hub(name), ..assignment(id) }
}

/// The counts by hub, as `devices/assigning/clean-ups`.
async fn loads(store: &dyn Store, scope: &IdScope) -> Vec<String> {
    let shown = |load: &HubLoad| {
        let HubLoad { hub, devices, assigning, clean_ups } = load;
        format!("{} {devices}/{assigning}/{clean_ups}", hub.folded())
    };
    store.hub_loads(scope).await.unwrap().iter().map(shown).collect()
}

/// Writes a record in this state.
async fn put(store: &dyn Store, id: &str, state: State) {
    committed(store.commit(first(Registration { state, ..record(id, 1) })).await);
}

fn goes(id: &str, to: &str, last: Option<Assignment>) -> State {
    let placing = Placing { target: at(to, id), ..placing(id, "peer", 1) };
    State::Assigning { placing: Box::new(placing), last }
}

/// DPS-REG-47
async fn a_hub_without_devices_is_left_out(store: Arc<dyn Store>) {
    assert_eq!(loads(&*store, &scope()).await, [""; 0]);
    put(&*store, "nowhere", State::Disabled { last: None }).await;
    assert_eq!(loads(&*store, &scope()).await, [""; 0]);
    put(&*store, "d", goes("d", "a.x", None)).await;
    assert_eq!(loads(&*store, &scope()).await, ["a.x 0/1/0"]);
    let state = State::Assigned { assignment: at("a.x", "d"), substatus: Substatus::InitialAssignment };
    committed(store.commit(over(1, Registration { state, ..record("d", 2) })).await);
    assert_eq!(loads(&*store, &scope()).await, ["a.x 1/0/0"]);
    let failed = State::Failed { failure: Failure::HubUnavailable, last: None };
    committed(store.commit(over(2, Registration { state: failed, ..record("d", 3) })).await);
    assert_eq!(loads(&*store, &scope()).await, [""; 0]);
}

/// DPS-REG-47
async fn devices_are_counted_where_they_live_whatever_became_of_their_operation(store: Arc<dyn Store>) {
    let lives = || Some(at("Old.X", "d"));
    put(&*store, "stays", goes("stays", "old.x", lives())).await;
    put(&*store, "moves", goes("moves", "new.x", lives())).await;
    put(&*store, "comes", goes("comes", "new.x", None)).await;
    let waiting = waiting(HubCredential::EnrollmentKeys, "hook.example", 1);
    put(&*store, "asks", State::Choosing { waiting: Box::new(waiting), last: lives() }).await;
    put(&*store, "failed", State::Failed { failure: Failure::HubThrottled, last: lives() }).await;
    put(&*store, "disabled", State::Disabled { last: lives() }).await;
    let substatus = Substatus::DeviceDataReset;
    put(&*store, "lives", State::Assigned { assignment: at("old.x", "d"), substatus }).await;
    assert_eq!(loads(&*store, &scope()).await, ["new.x 0/2/0", "old.x 6/1/0"]);
}

/// DPS-REG-47, DPS-STORE-1
async fn hubs_are_counted_in_any_case_and_for_one_instance(store: Arc<dyn Store>) {
    for (id, name) in [("a", "B.x"), ("b", "b.X"), ("c", "a.x")] {
        let substatus = Substatus::InitialAssignment;
        put(&*store, id, State::Assigned { assignment: at(name, id), substatus }).await;
    }
    let clean_ups = [("d", "B.X"), ("e", "b.x"), ("d", "gone.x")]
        .map(|(id, name)| HubWrite::CleanUp(Box::new(clean_up(id, name, 1))));
    let mut write = over(1, Registration { state: State::Disabled { last: None }, ..record("c", 2) });
    write.hub_writes = clean_ups.into();
    committed(store.commit(write).await);
    assert_eq!(loads(&*store, &scope()).await, ["b.x 2/0/2", "gone.x 0/0/1"]);
    assert_eq!(loads(&*store, &other_scope()).await, [""; 0]);
    let theirs = Registration { id_scope: other_scope(), ..record("a", 1) };
    committed(store.commit(first(theirs)).await);
    assert_eq!(loads(&*store, &other_scope()).await, ["hub.localhost 1/0/0"]);
}
