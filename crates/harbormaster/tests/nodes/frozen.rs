//! A node that freezes while it asks a hub outside, for longer than its claims are its own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dps_core::assignment::{CALL_MAX, LEASE};
use futures_util::future::join_all;
use hub_registry::{Authority, Effect, Fault, HubRegistry, Options, Step};
use serde_json::{Value, json};
use tokio::time::{sleep, sleep_until};

use crate::cluster::{Cluster, ID_SCOPE};
use crate::database::Database;
use crate::deployment::Deployment;
use crate::device::{Link, provision};

/// A hub of others.
const OUTSIDE: &str = "outside.example";

/// Devices that freeze in the same way.
const EACH: usize = 3;

/// By when something has happened that takes no lease, on a machine that does much else.
const SOON: Duration = Duration::from_secs(60);

/// Done while the node is frozen and before another takes over, so that the answer waits for it to wake; or when another has placed the
/// device and the node is awake again: a call that comes late.
const EARLY: Duration = CALL_MAX.saturating_sub(Duration::from_secs(1));
const LATE: Duration = LEASE.saturating_mul(2);

/// In the middle of which call a node freezes.
struct Way {
    name: &'static str,
    step: Step,
    /// Whether the hub has the device already.
    is_there: bool,
    /// When the hub does what it was asked.
    after: Duration,
}

const WAYS: [Way; 5] = [
    Way { name: "made", step: Step::Bulk, is_there: false, after: EARLY },
    Way { name: "made-late", step: Step::Bulk, is_there: false, after: LATE },
    Way { name: "read", step: Step::ReadIdentity, is_there: true, after: EARLY },
    Way { name: "written", step: Step::WriteIdentity, is_there: true, after: EARLY },
    Way { name: "written-late", step: Step::WriteIdentity, is_there: true, after: LATE },
];

impl Way {
    fn devices(&self) -> Vec<String> {
        (0..EACH).map(|number| format!("far-{}-{number}", self.name)).collect()
    }

    /// How requests about one of its devices begin in which it is to freeze.
    fn asks(&self) -> &'static str {
        match self.step {
            Step::Bulk => "POST /devices",
            Step::ReadIdentity => "GET /devices/",
            _ => "PUT /devices/",
        }
    }
}

/// Three nodes with a hub outside.
async fn started() -> (Cluster, HubRegistry) {
    let authority = Authority::new().unwrap();
    let options = Options { names: Vec::new(), ..Options::default() };
    let hub = HubRegistry::start(&authority, options).await.unwrap();
    let linked = format!(
        "kind = \"local\"\n\n[[instance.hub]]\nname = \"{OUTSIDE}\"\nkind = \"azureIotHub\"\n\
         connection_string_file = \"$CREDENTIALS_DIRECTORY/outside\"\n"
    );
    let outbound = "[outbound]\nallow = [\"127.0.0.0/8\"]\nca_file = \"$CREDENTIALS_DIRECTORY/hub-ca\"\n\n[[instance]]\n";
    let deployment = Deployment {
        credentials: vec![("outside", hub.connection_string()), ("hub-ca", authority.pem().to_owned())],
        changes: vec![("kind = \"local\"\n", linked), ("[[instance]]\n", outbound.to_owned())],
        ..Deployment::of(Database::start())
    };
    let cluster = Cluster::of(deployment).await;
    let members = json!({"iotHubs": [OUTSIDE], "registrationIdPrefix": "far-"});
    cluster.put_group("far", members, 0).await;
    (cluster, hub)
}

/// What a node that wakes could spoil: the records, what is to be cleaned up, and the devices at the hub, by what changes with each write.
fn state(cluster: &Cluster, hub: &HubRegistry) -> (String, BTreeMap<String, Value>) {
    let kept = "SELECT registration_id, etag, state, hub, device_id FROM registration WHERE registration_id LIKE 'far-%'
                UNION ALL SELECT device_id, guid::text, 'to be gone', hub, device_id FROM clean_up ORDER BY 1";
    let identities = hub.with(|registry| {
        let ids = registry.ids().into_iter();
        ids.map(|id| registry.identity(&id).map(|identity| (id, identity)).unwrap()).collect()
    });
    (cluster.database.sql(kept), identities)
}

/// DPS-NODE-5, DPS-REG-32, DPS-REG-44
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_freezes_for_longer_than_its_claims_while_it_asks_a_hub() {
    let (mut cluster, hub) = started().await;
    let devices: Vec<String> = WAYS.iter().flat_map(Way::devices).collect();
    for id in WAYS.iter().filter(|way| way.is_there).flat_map(Way::devices) {
        provision(cluster.balancer(), &cluster.tls, &cluster.device(&id), SOON).await;
    }
    // Nobody else is there to claim anything.
    cluster.kill_node(1);
    cluster.kill_node(2);
    let mut operations = BTreeMap::new();
    let began = tokio::time::Instant::now();
    for way in &WAYS {
        let effect = Effect::Late { milliseconds: u32::try_from(way.after.as_millis()).unwrap() };
        hub.plan(Fault { step: way.step, effect, times: u32::try_from(EACH).unwrap() });
        let asked = || hub.requests().iter().filter(|seen| seen.line.starts_with(way.asks())).count();
        let before = asked();
        operations.extend(join_all(way.devices().into_iter().map(|id| begin(&cluster, id))).await);
        let until = Instant::now() + SOON;
        while asked() < before + EACH {
            assert!(Instant::now() < until, "{}: {:#?}", way.name, hub.requests());
            sleep(Duration::from_millis(5)).await;
        }
    }
    cluster.signal(0, "-STOP");
    let all_asked = began.elapsed();
    assert!(all_asked < EARLY, "the node was answered before it froze, after {all_asked:?}");
    cluster.start_node(1);
    cluster.start_node(2);
    let assigned =
        "SELECT count(*) FROM registration WHERE registration_id LIKE 'far-%' AND state = 'assigned'";
    while cluster.database.sql(assigned) != devices.len().to_string() {
        assert!(began.elapsed() < LEASE + SOON, "{}", state(&cluster, &hub).0);
        sleep(Duration::from_millis(100)).await;
    }
    let taken_over = began.elapsed();
    assert!(taken_over > LEASE, "another node did not wait for the lease: {taken_over:?}");
    let before = state(&cluster, &hub);
    cluster.signal(0, "-CONT");
    let until = Instant::now() + SOON;
    while undecided(&cluster).await < devices.len() {
        assert!(Instant::now() < until, "the node does not come to an end of what it had begun");
        sleep(Duration::from_millis(100)).await;
    }
    sleep_until(began + all_asked + LATE + Duration::from_secs(2)).await;
    assert_eq!(state(&cluster, &hub), before, "what came late has changed something");

    let (_, identities) = before;
    assert_eq!(identities.keys().collect::<Vec<_>>(), {
        let mut sorted: Vec<_> = devices.iter().collect();
        sorted.sort();
        sorted
    });
    for (number, (id, operation_id)) in operations.iter().enumerate() {
        let who = cluster.device(id);
        let key = &identities[id]["authentication"]["symmetricKey"]["primaryKey"];
        assert_eq!(*key, *who.key.expose_base64(), "{id}");
        let node = (number % 3) as u8;
        let mut link = Link::connect(cluster.mqtt_of(node), &cluster.tls, &who).await.unwrap();
        let told = link.poll(operation_id).await.unwrap();
        let state = &told.body["registrationState"];
        assert_eq!((told.status, state["assignedHub"].as_str()), (200, Some(OUTSIDE)), "{id}: {told:?}");
    }
    let path = format!("/id-scopes/{ID_SCOPE}/clean-ups");
    assert_eq!(cluster.ask_admin(0, "GET", &path, &[], None).await.body, json!([]));
    say!(
        "a node was frozen for {:.0?} while it asked a hub: {} devices checked, all placed by others",
        taken_over - all_asked,
        devices.len()
    );
}

/// Registers a device at the node that is to freeze; its id and its operation.
async fn begin(cluster: &Cluster, id: String) -> (String, String) {
    let mut link = Link::connect(cluster.mqtt_of(0), &cluster.tls, &cluster.device(&id)).await.unwrap();
    let told = link.register().await.unwrap();
    assert_eq!((told.status, told.body["status"].as_str()), (202, Some("assigning")), "{told:?}");
    (id, told.body["operationId"].as_str().unwrap().to_owned())
}

/// Operations that the node began with and has let go of, because they were no longer its own.
async fn undecided(cluster: &Cluster) -> usize {
    let metrics = cluster.metrics(0).await;
    let counts = metrics.lines().filter(|line| {
        line.starts_with("harbormaster_hub_work_seconds_count{")
            && line.contains("\"Placement\"")
            && line.contains("\"Undecided\"")
    });
    counts.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
}
