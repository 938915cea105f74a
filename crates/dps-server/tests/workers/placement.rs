//! The workers that ask hubs outside, and who watches these. Spec: DPS-REG-40, DPS-REG-43, DPS-REG-45, DPS-REG-46.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use dps_core::enrollment::{EnrollmentGroup, TwinDocument};
use dps_core::ports::{
    DeviceRegistry, Hub, HubAuthentication, HubDevice, HubDeviceStatus, HubHealth, Placement, RegistryDevice,
    RegistryError,
};
use dps_core::registration::{Failure, State};
use dps_proto::ids::DeviceId;
use dps_server::assignment::{CleanUpWorker, HubWatch, PlacementWorker};
use dps_server::explain::Wanted;
use dps_server::limits::Limits;
use jiff::Timestamp;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::desk::{Desk, group, is_assigned, linked, until};

/// A hub that answers when it may, and does as it is told.
struct Registry {
    /// One for each call; none is given back.
    permits: Semaphore,
    devices: Mutex<BTreeMap<DeviceId, u64>>,
    asked: AtomicUsize,
    asked_most: AtomicUsize,
    asked_in_all: AtomicUsize,
    refuses: Mutex<Option<RegistryError>>,
    health: Mutex<HubHealth>,
    paused_until: Mutex<Option<Instant>>,
}

struct RegistryHub(Arc<Registry>);

impl Registry {
    fn with_permits(permits: usize) -> Arc<Self> {
        Arc::new(Self {
            permits: Semaphore::new(permits),
            devices: Mutex::default(),
            asked: AtomicUsize::new(0),
            asked_most: AtomicUsize::new(0),
            asked_in_all: AtomicUsize::new(0),
            refuses: Mutex::default(),
            health: Mutex::new(HubHealth::Healthy),
            paused_until: Mutex::default(),
        })
    }

    fn quick() -> Arc<Self> {
        Self::with_permits(Semaphore::MAX_PERMITS / 2)
    }

    async fn answer<T>(
        &self,
        act: impl FnOnce(&mut BTreeMap<DeviceId, u64>) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        self.asked_in_all.fetch_add(1, Ordering::SeqCst);
        let now = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.asked_most.fetch_max(now, Ordering::SeqCst);
        self.permits.acquire().await.unwrap().forget();
        self.asked.fetch_sub(1, Ordering::SeqCst);
        match self.refuses.lock().unwrap().clone() {
            Some(why) => Err(why),
            None => act(&mut self.devices.lock().unwrap()),
        }
    }

    fn has(&self, id: &str) -> bool {
        self.devices.lock().unwrap().contains_key(&id.parse::<DeviceId>().unwrap())
    }

    fn count(&self, counter: impl Fn(&Self) -> &AtomicUsize) -> usize {
        counter(self).load(Ordering::SeqCst)
    }
}

#[async_trait]
impl DeviceRegistry for Registry {
    async fn create(&self, device: &HubDevice, _: HubDeviceStatus) -> Result<(), RegistryError> {
        let id = device.device_id.clone();
        self.answer(|devices| devices.insert(id, 1).map_or(Ok(()), |_| Err(RegistryError::Exists))).await
    }

    async fn identity(&self, device_id: &DeviceId) -> Result<RegistryDevice, RegistryError> {
        let read = |version: &u64| RegistryDevice {
            device_id: device_id.clone(),
            etag: version.to_string().into(),
            iot_edge: false,
            status: HubDeviceStatus::Enabled,
            written: "{}".into(),
        };
        self.answer(|devices| devices.get(device_id).map(read).ok_or(RegistryError::Absent)).await
    }

    async fn set_authentication(
        &self,
        device: &RegistryDevice,
        _: &HubAuthentication,
    ) -> Result<(), RegistryError> {
        self.answer(|devices| match devices.get_mut(&device.device_id) {
            Some(version) if version.to_string() == *device.etag => {
                *version += 1;
                Ok(())
            }
            Some(_) => Err(RegistryError::Changed),
            None => Err(RegistryError::Absent),
        })
        .await
    }

    async fn delete(&self, device: &RegistryDevice) -> Result<(), RegistryError> {
        self.answer(|devices| devices.remove(&device.device_id).map(drop).ok_or(RegistryError::Absent)).await
    }

    async fn twin(&self, _: &DeviceId) -> Result<TwinDocument, RegistryError> {
        self.answer(|_| Ok(TwinDocument("{}".into()))).await
    }
}

impl Hub for RegistryHub {
    fn place(&self, _: HubDevice) -> Placement {
        Placement::Outside
    }

    fn registry(&self) -> Option<&dyn DeviceRegistry> {
        Some(&*self.0)
    }

    fn health(&self) -> HubHealth {
        self.0.health.lock().unwrap().clone()
    }

    fn paused_for(&self) -> Option<Duration> {
        let until = (*self.0.paused_until.lock().unwrap())?;
        Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }
}

/// What runs, and what stops it.
struct Workers {
    stop: watch::Sender<bool>,
    running: JoinSet<()>,
}

impl Workers {
    fn start(desk: &Desk) -> Self {
        let (stop, stopping) = watch::channel(false);
        let mut running = JoinSet::new();
        running.spawn(PlacementWorker::new(Arc::clone(&desk.front_end)).run(stopping.clone()));
        running.spawn(CleanUpWorker::new(Arc::clone(&desk.front_end)).run(stopping.clone()));
        running.spawn(HubWatch::new(Arc::clone(&desk.front_end)).run(stopping));
        Self { stop, running }
    }

    async fn stop(mut self) {
        self.stop.send_replace(true);
        let ends = async { while self.running.join_next().await.is_some() {} };
        timeout(Duration::from_secs(10), ends).await.unwrap();
    }
}

/// A group whose devices go to the hub of its name.
fn at(name: &str) -> EnrollmentGroup {
    let mut group = group(name);
    group.settings.hubs = vec![format!("{name}.example").parse().unwrap()];
    group
}

async fn desk(hubs: &[(&str, &Arc<Registry>)], per_hub: u32) -> Desk {
    let groups = hubs.iter().map(|(name, _)| at(name)).collect();
    let linked = hubs
        .iter()
        .map(|(name, registry)| {
            linked(&format!("{name}.example"), Arc::new(RegistryHub(Arc::clone(registry))))
        })
        .collect();
    Desk::new(groups, linked, Limits { hub_work_per_hub: per_hub, ..Limits::default() }).await
}

/// DPS-REG-40
#[tokio::test]
async fn a_hub_that_does_not_answer_keeps_no_other_waiting_and_a_stop_lets_calls_end() {
    let (slow, quick) = (Registry::with_permits(0), Registry::quick());
    let desk = desk(&[("slow", &slow), ("quick", &quick)], 3).await;
    for number in 0..10 {
        desk.register(&format!("slow-{number}"), "slow").await;
    }
    for number in 0..20 {
        desk.register(&format!("quick-{number}"), "quick").await;
    }
    let workers = Workers::start(&desk);
    for number in 0..20 {
        desk.until(&format!("quick-{number}"), is_assigned).await;
    }
    assert_eq!(slow.count(|it| &it.asked), 3);
    slow.permits.add_permits(4);
    desk.until("slow-3", is_assigned).await;
    until("the place is taken by the next", || slow.count(|it| &it.asked) == 3).await;
    workers.stop.send_replace(true);
    sleep(Duration::from_millis(50)).await;
    slow.permits.add_permits(1_000);
    workers.stop().await;
    assert_eq!(slow.count(|it| &it.asked_most), 3);
    // One may have been claimed ahead.
    let placed = slow.devices.lock().unwrap().len();
    assert!((7..=8).contains(&placed), "what was claimed ended, and no more began: {placed}");
    assert!(!is_assigned(&desk.state("slow-9").await));
}

/// DPS-REG-40, DPS-REG-42: those that only the dead hub concerns are kept, not those that come to the other one for the first time.
#[tokio::test]
async fn devices_that_leave_a_dead_hub_keep_none_waiting_that_come_to_the_new_one() {
    let (old, new) = (Registry::quick(), Registry::quick());
    let desk = desk(&[("old", &old), ("new", &new)], 2).await;
    for number in 0..6 {
        desk.register(&format!("dev-{number}"), "old").await;
    }
    let workers = Workers::start(&desk);
    for number in 0..6 {
        desk.until(&format!("dev-{number}"), is_assigned).await;
    }
    workers.stop().await;
    // From now on the old hub says nothing.
    let permits = old.permits.available_permits();
    old.permits.forget_permits(permits);
    desk.put_group(EnrollmentGroup { settings: at("new").settings, ..at("old") }).await;
    for number in 0..6 {
        desk.register(&format!("dev-{number}"), "old").await;
    }
    desk.register("fresh-1", "new").await;
    desk.register("fresh-2", "new").await;
    let workers = Workers::start(&desk);
    desk.until("fresh-1", is_assigned).await;
    desk.until("fresh-2", is_assigned).await;
    old.permits.add_permits(permits);
    for number in 0..6 {
        desk.until(&format!("dev-{number}"), is_assigned).await;
        until("gone from the old hub", || !old.has(&format!("dev-{number}"))).await;
        assert!(new.has(&format!("dev-{number}")));
    }
    workers.stop().await;
}

/// DPS-REG-45
#[tokio::test]
async fn a_hub_that_asks_to_be_left_alone_is() {
    let hub = Registry::quick();
    let desk = desk(&[("hub", &hub)], 16).await;
    let over_at = Instant::now() + Duration::from_millis(400);
    *hub.paused_until.lock().unwrap() = Some(over_at);
    for number in 0..5 {
        desk.register(&format!("dev-{number}"), "hub").await;
    }
    let workers = Workers::start(&desk);
    until("it is asked", || hub.count(|it| &it.asked_in_all) > 0).await;
    assert!(Instant::now() >= over_at);
    for number in 0..5 {
        desk.until(&format!("dev-{number}"), is_assigned).await;
    }
    assert_eq!(hub.count(|it| &it.asked_in_all), 5);
    workers.stop().await;
}

/// DPS-REG-46
#[tokio::test]
async fn a_hub_that_is_unhealthy_is_asked_for_one_device_at_a_time() {
    let hub = Registry::with_permits(0);
    let desk = desk(&[("hub", &hub)], 16).await;
    let reason = "it does not answer".into();
    *hub.health.lock().unwrap() = HubHealth::Unhealthy { since: Timestamp::UNIX_EPOCH, reason };
    for number in 0..5 {
        desk.register(&format!("dev-{number}"), "hub").await;
    }
    let workers = Workers::start(&desk);
    until("it is asked", || hub.count(|it| &it.asked) == 1).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(hub.count(|it| &it.asked), 1);
    let unhealthy = r#"harbormaster_hub_unhealthy{id_scope="0ne00000001",hub="hub.example"}"#;
    until("it is told", || desk.front_end.metrics.render().contains(&format!("{unhealthy} 1"))).await;
    *hub.health.lock().unwrap() = HubHealth::Healthy;
    until("it is told", || desk.front_end.metrics.render().contains(&format!("{unhealthy} 0"))).await;
    until("it is asked for all of them", || hub.count(|it| &it.asked) == 5).await;
    hub.permits.add_permits(100);
    for number in 0..5 {
        desk.until(&format!("dev-{number}"), is_assigned).await;
    }
    workers.stop().await;
}

/// DPS-REG-46: where nothing waits that would show whether it is well again.
#[tokio::test(start_paused = true)]
async fn a_hub_that_is_unhealthy_is_asked_whether_it_is_well_again() {
    let hub = Registry::quick();
    let desk = desk(&[("hub", &hub)], 16).await;
    let workers = Workers::start(&desk);
    sleep(Duration::from_secs(300)).await;
    assert_eq!(hub.count(|it| &it.asked_in_all), 0, "nobody asks one that is well");
    let reason = "it does not answer".into();
    *hub.health.lock().unwrap() = HubHealth::Unhealthy { since: Timestamp::UNIX_EPOCH, reason };
    sleep(Duration::from_secs(25)).await;
    assert_eq!(hub.count(|it| &it.asked_in_all), 0);
    sleep(Duration::from_secs(70)).await;
    assert_eq!(hub.count(|it| &it.asked_in_all), 3);
    workers.stop().await;
}

/// DPS-REG-45, DPS-EXPLAIN-14
#[tokio::test]
async fn a_device_that_its_hub_refuses_is_explained_without_a_connection() {
    let hub = Registry::quick();
    let desk = desk(&[("hub", &hub)], 16).await;
    let (said, reason) = (r#"{"Message":"no"}"#.into(), "the hub takes no more devices: 413002".into());
    *hub.refuses.lock().unwrap() = Some(RegistryError::Refused { said, reason });
    desk.register("dev-1", "hub").await;
    let workers = Workers::start(&desk);
    desk.until("dev-1", |state| matches!(state, State::Failed { .. })).await;
    let failure = Failure::HubRefused { said: r#"{"Message":"no"}"#.into() };
    assert_eq!(desk.state("dev-1").await, State::Failed { failure, last: None });
    workers.stop().await;
    let wanted = Wanted { registration_id: Some("dev-1".parse().unwrap()), ..Wanted::default() };
    let found = desk.front_end.explanations.find(&wanted, 9);
    assert_eq!((found.len(), found[0].told.as_str(), found[0].connection), (1, "401002", None));
    assert_eq!(found[0].reason, "the hub refused (the hub takes no more devices: 413002)");
    let metrics = desk.front_end.metrics.render();
    let counted = r#"harbormaster_hub_work_seconds_count{work="Placement",outcome="Failed"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
}
