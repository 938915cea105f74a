//! Devices that register without a pause while something goes wrong, and what has to be true of them afterwards.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::cluster::{Cluster, HUB, ID_SCOPE};
use crate::device::{Notes, provision};

/// Devices that are on their way at one time.
pub(crate) const AT_ONCE: usize = 24;

/// By when a device is assigned, whatever goes wrong; on a machine that does much else.
const WITHIN: Duration = Duration::from_secs(180);

/// Devices on their way.
pub(crate) struct Load {
    is_over: Arc<AtomicBool>,
    devices: JoinSet<Vec<(String, Notes)>>,
}

impl Load {
    /// Devices come by the balancer from now on, each once it has room.
    pub(crate) fn begin(cluster: &Cluster) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut devices = JoinSet::new();
        for line in 0..AT_ONCE {
            let (is_over, tls, at) = (Arc::clone(&is_over), Arc::clone(&cluster.tls), cluster.balancer());
            let identities: Vec<_> =
                (0..2_000).map(|number| cluster.device(&format!("press-{line}-{number}"))).collect();
            devices.spawn(async move {
                let mut all = Vec::new();
                for who in identities {
                    if is_over.load(Ordering::SeqCst) {
                        break;
                    }
                    let notes = provision(at, &tls, &who, WITHIN).await;
                    all.push((who.id.as_str().to_owned(), notes));
                }
                all
            });
        }
        Self { is_over, devices }
    }

    /// No device begins any more; those that have are waited for. Then each has one record, and one device at the hub, with the keys
    /// that it was told, and all that any was told still holds on every node. Prints how many there were.
    pub(crate) async fn end(self, what: &str, cluster: &Cluster) -> u32 {
        self.is_over.store(true, Ordering::SeqCst);
        let all: BTreeMap<String, Notes> = self.devices.join_all().await.into_iter().flatten().collect();
        let setbacks: u32 = all.values().map(|notes| notes.setbacks).sum();
        let operations: usize = all.values().map(|notes| notes.operation_ids.len()).sum();
        say!(
            "{what}: {} devices checked, {operations} operations told, {setbacks} answers or connections lost",
            all.len()
        );
        assert!(all.len() > AT_ONCE, "too few devices to say anything");
        check_rows(cluster, &all);
        check_answers(cluster, &all).await;
        setbacks
    }
}

/// Devices with such names that register, as many at one time as in a [`Load`], each line of them one after the other: how many of each
/// line did, of at most as many as `most` says, until then.
pub(crate) async fn register(
    cluster: &Cluster,
    doors: &[SocketAddr],
    name: &str,
    most: [usize; AT_ONCE],
    until: Instant,
) -> [usize; AT_ONCE] {
    let mut lines = Vec::new();
    for ((line, most), at) in most.into_iter().enumerate().zip(doors.iter().cycle()) {
        let (tls, at) = (Arc::clone(&cluster.tls), *at);
        let identities: Vec<_> =
            (0..most).map(|number| cluster.device(&format!("{name}-{line}-{number}"))).collect();
        lines.push(tokio::spawn(async move {
            let mut count = 0;
            for who in identities.iter().take_while(|_| Instant::now() < until) {
                provision(at, &tls, who, WITHIN).await;
                count += 1;
            }
            count
        }));
    }
    let mut counts = [0; AT_ONCE];
    for (count, line) in counts.iter_mut().zip(lines) {
        *count = line.await.unwrap();
    }
    counts
}

/// In the tables: as many records and devices as there should be, and no others.
fn check_rows(cluster: &Cluster, all: &BTreeMap<String, Notes>) {
    let records = "SELECT registration_id_spelling || ' ' || state || ' ' || hub || ' ' || device_id
                   FROM registration WHERE registration_id LIKE 'press-%' ORDER BY registration_id";
    let expected: Vec<String> = {
        let mut rows: Vec<_> = all
            .iter()
            .map(|(id, notes)| {
                let (hub, device_id) = (notes.hub.as_ref().unwrap(), notes.device_id.as_ref().unwrap());
                assert_eq!((hub.as_str(), device_id), (HUB, id));
                (id.to_lowercase(), format!("{id} assigned {hub} {device_id}"))
            })
            .collect();
        rows.sort();
        rows.into_iter().map(|(_, row)| row).collect()
    };
    assert_eq!(cluster.database.sql(records).lines().collect::<Vec<_>>(), expected);
    let devices = "SELECT registration_id FROM hub_device WHERE registration_id LIKE 'press-%' ORDER BY registration_id COLLATE \"C\"";
    let ids: Vec<&str> = all.keys().map(String::as_str).collect();
    assert_eq!(cluster.database.sql(devices).lines().collect::<Vec<_>>(), ids);
}

/// At each node: every operation id that was told answers with where the device lives. At the hub: the device's own keys.
async fn check_answers(cluster: &Cluster, all: &BTreeMap<String, Notes>) {
    for (number, (id, notes)) in all.iter().enumerate() {
        let node = (number % 3) as u8;
        let path = format!("/admin/v1/id-scopes/{ID_SCOPE}/hubs/{HUB}/devices/{id}");
        let device = cluster.admin_of(node).get(&path).await.unwrap();
        assert_eq!(device["authentication"]["primaryKeySha256"], cluster.fingerprint(id), "{device}");
        let who = cluster.device(id);
        let mut link = crate::device::Link::connect(cluster.mqtt_of(node), &cluster.tls, &who).await.unwrap();
        assert!(!notes.operation_ids.is_empty());
        for operation_id in &notes.operation_ids {
            let told = link.poll(operation_id).await.unwrap();
            let state = &told.body["registrationState"];
            assert_eq!((told.status, state["assignedHub"].as_str()), (200, Some(HUB)), "{id}: {told:?}");
        }
    }
}
