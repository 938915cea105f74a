//! Devices of local hubs, written along with records. Spec: DPS-STORE-5, DPS-REG-17.

use std::sync::Arc;

use dps_core::audit::{AuditFilter, Author, Principal};
use dps_core::enrollment::TwinDocument;
use dps_core::ports::{Condition, HubDevice, HubDeviceStatus, HubWrite, Store, StoredHubDevice, WriteError};
use dps_proto::ids::DeviceId;

use super::fixtures::*;

super::on_every_store!(
    a_device_is_made_in_the_commit_of_its_record,
    an_outdated_record_makes_no_device,
    a_device_put_again_gets_the_new_keys_and_keeps_its_twin_and_creation,
    a_device_that_was_made_without_twin_gets_none_later,
    one_commit_may_make_several_devices,
    device_ids_are_told_apart_by_case_and_hub_names_are_not,
    devices_of_two_hubs_or_id_scopes_never_meet,
    the_device_outlives_the_record,
    a_device_moves_in_one_commit_and_leaves_nothing_behind,
    devices_are_listed_in_the_order_of_their_ids_page_by_page,
    a_disabled_device_stays_so_when_it_is_put_again_and_others_are_left_alone,
    a_disabled_device_that_moves_stays_disabled,
    each_change_of_a_status_is_recorded_with_its_author,
);

async fn find(store: &dyn Store, id: &str) -> Option<StoredHubDevice> {
    store.hub_device(&scope(), &hub("hub.localhost"), &device_id(id)).await.unwrap()
}

#[track_caller]
fn same(found: Option<StoredHubDevice>, device: HubDevice, created: u32, updated: u32) {
    let status = HubDeviceStatus::Enabled;
    let expected = StoredHubDevice { device, status, created_at: time(created), updated_at: time(updated) };
    assert_eq!(shown_device(&found.expect("it is stored")), shown_device(&expected));
}

/// Makes devices along with the first record of `id`.
async fn make(store: &dyn Store, id: &str, devices: Vec<HubDevice>) {
    committed(store.commit(with_devices(first(record(id, 1)), devices)).await);
}

/// DPS-STORE-5
async fn a_device_is_made_in_the_commit_of_its_record(store: Arc<dyn Store>) {
    let device = HubDevice { iot_edge: true, initial_twin: Some(twin(1)), ..hub_device("Device-1", 1) };
    make(&*store, "Device-1", vec![device.clone()]).await;
    same(find(&*store, "Device-1").await, device, 1, 1);
}

/// DPS-REG-23, DPS-STORE-5: in the order of the writes, in any case of the hub, and nobody else's.
async fn a_device_moves_in_one_commit_and_leaves_nothing_behind(store: Arc<dyn Store>) {
    let remove = |at: &str, id: &str| HubWrite::RemoveDevice {
        id_scope: scope(),
        hub: hub(at),
        device_id: device_id(id),
    };
    let there =
        |number| HubDevice { hub: hub("b.x"), initial_twin: Some(twin(number)), ..hub_device("d", number) };
    let at_b = async || store.hub_device(&scope(), &hub("B.x"), &device_id("d")).await.unwrap();
    make(&*store, "d", vec![hub_device("d", 1), hub_device("D", 1), there(1)]).await;
    let mut write = over(1, record("d", 2));
    write.hub_writes =
        vec![remove("B.X", "d"), HubWrite::PutDevice(Box::new(there(2))), remove("HUB.localhost", "d")];
    let mut late = over(9, record("d", 2));
    late.hub_writes = write.hub_writes.clone();
    outdated(store.commit(late).await);
    same(at_b().await, there(1), 1, 1);
    committed(store.commit(write).await);
    same(at_b().await, there(2), 2, 2);
    assert!(find(&*store, "d").await.is_none());
    assert!(find(&*store, "D").await.is_some(), "another device");
}

/// DPS-STORE-4, DPS-STORE-5
async fn an_outdated_record_makes_no_device(store: Arc<dyn Store>) {
    outdated(store.commit(with_devices(over(1, record("d", 2)), vec![hub_device("d", 1)])).await);
    assert!(find(&*store, "d").await.is_none());
    make(&*store, "d", vec![hub_device("d", 1)]).await;
    outdated(store.commit(with_devices(over(9, record("d", 2)), vec![hub_device("d", 2)])).await);
    same(find(&*store, "d").await, hub_device("d", 1), 1, 1);
}

/// DPS-REG-17
async fn a_device_put_again_gets_the_new_keys_and_keeps_its_twin_and_creation(store: Arc<dyn Store>) {
    make(&*store, "d", vec![HubDevice { initial_twin: Some(twin(1)), ..hub_device("d", 1) }]).await;
    let again = HubDevice {
        hub: hub("HUB.localhost"),
        registration_id: super::fixtures::device("Device-2"),
        iot_edge: true,
        initial_twin: Some(twin(2)),
        ..hub_device("d", 2)
    };
    committed(store.commit(with_devices(over(1, record("d", 2)), vec![again.clone()])).await);
    let expected = HubDevice { hub: hub("Hub.Localhost"), initial_twin: Some(twin(1)), ..again };
    same(find(&*store, "d").await, expected, 1, 2);
}

/// DPS-REG-17
async fn a_device_that_was_made_without_twin_gets_none_later(store: Arc<dyn Store>) {
    make(&*store, "d", vec![hub_device("d", 1)]).await;
    let again = HubDevice { initial_twin: Some(TwinDocument("{}".into())), ..hub_device("d", 2) };
    committed(store.commit(with_devices(over(1, record("d", 2)), vec![again])).await);
    same(find(&*store, "d").await, hub_device("d", 2), 1, 2);
}

/// DPS-STORE-5
async fn one_commit_may_make_several_devices(store: Arc<dyn Store>) {
    make(&*store, "d", vec![hub_device("a", 1), hub_device("b", 2), hub_device("a", 3)]).await;
    same(find(&*store, "a").await, hub_device("a", 3), 1, 1);
    same(find(&*store, "b").await, hub_device("b", 2), 1, 1);
}

/// DPS-ID-8
async fn device_ids_are_told_apart_by_case_and_hub_names_are_not(store: Arc<dyn Store>) {
    make(&*store, "d", vec![hub_device("device", 1), hub_device("DEVICE", 2)]).await;
    same(find(&*store, "device").await, hub_device("device", 1), 1, 1);
    same(find(&*store, "DEVICE").await, hub_device("DEVICE", 2), 1, 1);
    assert!(find(&*store, "Device").await.is_none());
    let shouted = store.hub_device(&scope(), &hub("HUB.LOCALHOST"), &device_id("device")).await.unwrap();
    same(shouted, hub_device("device", 1), 1, 1);
}

/// DPS-STORE-1
async fn devices_of_two_hubs_or_id_scopes_never_meet(store: Arc<dyn Store>) {
    let there = hub("other.localhost");
    let elsewhere = HubDevice { hub: there.clone(), ..hub_device("d", 2) };
    let theirs = HubDevice { id_scope: other_scope(), ..hub_device("d", 3) };
    make(&*store, "d", vec![hub_device("d", 1), elsewhere.clone()]).await;
    let their_record = dps_core::registration::Registration { id_scope: other_scope(), ..record("d", 1) };
    committed(store.commit(with_devices(first(their_record), vec![theirs.clone()])).await);

    same(find(&*store, "d").await, hub_device("d", 1), 1, 1);
    same(store.hub_device(&scope(), &there, &device_id("d")).await.unwrap(), elsewhere, 1, 1);
    same(
        store.hub_device(&other_scope(), &hub("hub.localhost"), &device_id("d")).await.unwrap(),
        theirs,
        1,
        1,
    );
    assert!(store.hub_device(&other_scope(), &there, &device_id("d")).await.unwrap().is_none());
    for (scope, name, expected) in [
        (scope(), "hub.localhost", 1),
        (scope(), "other.localhost", 1),
        (other_scope(), "hub.localhost", 1),
        (other_scope(), "other.localhost", 0),
    ] {
        let listed = store.hub_devices(&scope, &hub(name), None, 10).await.unwrap();
        assert_eq!(listed.len(), expected, "{scope} {name}");
    }
}

async fn the_device_outlives_the_record(store: Arc<dyn Store>) {
    make(&*store, "d", vec![hub_device("d", 1)]).await;
    store.delete_registration(&scope(), &device("d"), Condition::Always.into()).await.unwrap();
    same(find(&*store, "d").await, hub_device("d", 1), 1, 1);
}

async fn devices_are_listed_in_the_order_of_their_ids_page_by_page(store: Arc<dyn Store>) {
    let ids = ["b", "B", "a10", "a", "a2", "#1", "z"];
    make(&*store, "d", ids.iter().map(|id| hub_device(id, 1)).collect()).await;
    let page = async |after: Option<&str>, limit| {
        let after = after.map(device_id);
        let listed = store.hub_devices(&scope(), &hub("HUB.localhost"), after.as_ref(), limit).await.unwrap();
        listed.into_iter().map(|stored| stored.device.device_id).collect::<Vec<DeviceId>>()
    };
    let expected = |ids: &[&str]| ids.iter().map(|id| device_id(id)).collect::<Vec<_>>();
    assert_eq!(page(None, 100).await, expected(&["#1", "B", "a", "a10", "a2", "b", "z"]));
    assert_eq!(page(None, 3).await, expected(&["#1", "B", "a"]));
    assert_eq!(page(Some("a"), 3).await, expected(&["a10", "a2", "b"]));
    assert_eq!(page(Some("a1"), 1).await, expected(&["a10"]), "an id that does not exist marks a place too");
    assert_eq!(page(Some("b"), 3).await, expected(&["z"]));
    assert_eq!(page(Some("z"), 3).await, expected(&[]));
    assert_eq!(page(None, 0).await, expected(&[]));
}

async fn set(store: &dyn Store, id: &str, status: HubDeviceStatus) {
    let hub = hub("HUB.localhost");
    store.set_hub_device_status(&scope(), &hub, &device_id(id), status, None).await.unwrap();
}

async fn status(store: &dyn Store, id: &str) -> HubDeviceStatus {
    find(store, id).await.unwrap().status
}

/// DPS-BROKER-12
async fn a_disabled_device_stays_so_when_it_is_put_again_and_others_are_left_alone(store: Arc<dyn Store>) {
    make(&*store, "d", vec![hub_device("d", 1), hub_device("D", 1)]).await;
    set(&*store, "d", HubDeviceStatus::Disabled).await;
    assert_eq!(find(&*store, "d").await.unwrap().updated_at, time(1), "its authentication is as it was");
    committed(store.commit(with_devices(over(1, record("d", 2)), vec![hub_device("d", 2)])).await);
    assert_eq!(status(&*store, "d").await, HubDeviceStatus::Disabled);
    assert_eq!(status(&*store, "D").await, HubDeviceStatus::Enabled);
    let listed = store.hub_devices(&scope(), &hub("hub.localhost"), None, 9).await.unwrap();
    let statuses: Vec<_> = listed.iter().map(|stored| stored.status).collect();
    assert_eq!(statuses, [HubDeviceStatus::Enabled, HubDeviceStatus::Disabled]);
    set(&*store, "d", HubDeviceStatus::Enabled).await;
    same(find(&*store, "d").await, hub_device("d", 2), 1, 2);
}

/// DPS-BROKER-12, DPS-REG-23
async fn a_disabled_device_that_moves_stays_disabled(store: Arc<dyn Store>) {
    let remove =
        |at: &str| HubWrite::RemoveDevice { id_scope: scope(), hub: hub(at), device_id: device_id("d") };
    let put = |at: &str, number| {
        HubWrite::PutDevice(Box::new(HubDevice { hub: hub(at), ..hub_device("d", number) }))
    };
    let status_at = async |at: &str| {
        let found = store.hub_device(&scope(), &hub(at), &device_id("d")).await.unwrap();
        found.map(|stored| stored.status)
    };
    make(&*store, "d", vec![hub_device("d", 1)]).await;
    for (number, from, to, expected) in [
        (1, "hub.localhost", "b.x", HubDeviceStatus::Enabled),
        (2, "b.x", "hub.localhost", HubDeviceStatus::Disabled),
        (3, "hub.localhost", "b.x", HubDeviceStatus::Disabled),
    ] {
        if expected == HubDeviceStatus::Disabled {
            let (scope, at) = (scope(), hub(from));
            store.set_hub_device_status(&scope, &at, &device_id("d"), expected, None).await.unwrap();
        }
        let mut write = over(number, record("d", number + 1));
        write.hub_writes = vec![remove(to), put(to, number + 1), remove(from)];
        committed(store.commit(write).await);
        assert_eq!((status_at(from).await, status_at(to).await), (None, Some(expected)), "{number}");
    }
}

/// DPS-BROKER-12, DPS-AUDIT-1
async fn each_change_of_a_status_is_recorded_with_its_author(store: Arc<dyn Store>) {
    make(&*store, "Dev-1", vec![hub_device("Dev-1", 1)]).await;
    let by = |number| {
        Some(Box::new(Author {
            principal: Principal::Admin,
            address: None,
            tracking_id: None,
            at: time(number),
        }))
    };
    let at = hub("hub.localhost");
    for (number, status) in [(1, HubDeviceStatus::Disabled), (2, HubDeviceStatus::Enabled)] {
        store.set_hub_device_status(&scope(), &at, &device_id("Dev-1"), status, by(number)).await.unwrap();
    }
    for (scope, at, id) in
        [(scope(), at.clone(), "dev-1"), (scope(), hub("b.x"), "Dev-1"), (other_scope(), at.clone(), "Dev-1")]
    {
        let refused =
            store.set_hub_device_status(&scope, &at, &device_id(id), HubDeviceStatus::Disabled, by(9)).await;
        assert!(matches!(refused, Err(WriteError::Missing)), "{refused:?}");
    }
    let filter = AuditFilter { subject: Some("hub.localhost/dev-1".into()), ..AuditFilter::default() };
    let records = store.audit_records(&scope(), &filter, 9).await.unwrap();
    let told: Vec<_> = records
        .iter()
        .map(|record| {
            let (kind, id) = (record.subject.kind(), record.subject.id().to_ascii_lowercase());
            (record.action.as_str(), kind, id, record.author.at)
        })
        .collect();
    let subject = |action, number| (action, "hubDevice", "hub.localhost/dev-1".to_owned(), time(number));
    assert_eq!(told, [subject("enabled", 2), subject("disabled", 1)]);
}
