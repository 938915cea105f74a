//! Azure IoT Hubs of a running `serve`: devices made there, moved and removed, and how the hubs do.
//! Spec: DPS-INST-13 to DPS-INST-15, DPS-SERVE-15, DPS-SERVE-17, DPS-CLI-33.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by failing")]

mod fleet;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use dps_client::device::FinalAnswer;
use fleet::{Fleet, Serving, harbormaster};
use hub_registry::{Authority, Effect, Fault, HubRegistry, Options, Policy, Step};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

const READ_AGAIN: &str = "service instances of the configuration read again";

/// Longer than anything takes on a loaded machine.
const WITHIN: Duration = Duration::from_secs(60);

/// Two hubs outside, `hub-0.test` and `spare.test` for the devices of the first instance.
struct Harbor {
    fleet: Fleet,
    hub: HubRegistry,
    spare: HubRegistry,
}

impl Harbor {
    async fn new() -> Self {
        let fleet = Fleet::new();
        let authority = Authority::new().unwrap();
        authority.write(&fleet.path("hub-ca.pem")).unwrap();
        // The address alone, where the name may lead to another one.
        let options = Options { names: Vec::new(), ..Options::default() };
        let hub = HubRegistry::start(&authority, options.clone()).await.unwrap();
        let spare = HubRegistry::start(&authority, options).await.unwrap();
        let harbor = Self { fleet, hub, spare };
        harbor.write_secret("hub.txt", &harbor.hub.connection_string());
        harbor.write_secret("spare.txt", &harbor.spare.connection_string());
        harbor
    }

    fn write_secret(&self, name: &str, text: &str) {
        fs::write(self.fleet.path(name), text).unwrap();
        fs::set_permissions(self.fleet.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// The first instance has the hub, and `more`.
    fn configuration(&self, more: &str) -> String {
        let azure = "name = \"hub-0.test\"\nkind = \"azureIotHub\"\nconnection_string_file = \"hub.txt\"\n";
        let outbound =
            "[outbound]\nallow = [\"127.0.0.0/8\"]\nca_file = \"hub-ca.pem\"\n[limits]\nhub_work = 8\n";
        let text = self.fleet.configuration().replace("[limits]\n", outbound);
        text.replace("name = \"hub-0.test\"\nkind = \"local\"\n", &format!("{azure}{more}"))
    }

    async fn register(&self, serving: &Serving, id: &str) -> (String, Option<String>) {
        state_of(&self.fleet.register(serving, 0, id).await.unwrap())
    }

    /// What a command of this server prints as JSON.
    fn json(&self, serving: &Serving, arguments: &[&str]) -> Value {
        let mut command = harbormaster();
        let admin = serving.admin().to_string();
        command.args(arguments).args(["--output", "json", "--id-scope", "0neAAAA0001", "--admin", &admin]);
        let output =
            command.arg("--admin-token-file").arg(self.fleet.path("data/admin-token")).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{told}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// One hub as it is shown, once it is as wanted.
    async fn shown(&self, serving: &Serving, hub: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + WITHIN;
        loop {
            let shown = self.json(serving, &["linked-hub", "show", hub]);
            if is_wanted(&shown) {
                return shown;
            }
            assert!(Instant::now() < until, "{shown:#}");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The hub that a device was told, and what became of its data.
fn state_of(answer: &FinalAnswer) -> (String, Option<String>) {
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let text = |member: &str| body["registrationState"][member].as_str().map(str::to_owned);
    (text("assignedHub").unwrap_or_else(|| panic!("{body:#}")), text("substatus"))
}

fn has_device(hub: &HubRegistry, id: &str) -> bool {
    hub.with(|registry| registry.identity(id).is_ok())
}

/// DPS-SERVE-15, DPS-SERVE-17, DPS-INST-14, DPS-INST-15, DPS-REG-43, DPS-REG-47
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_is_drained_and_its_devices_are_removed_once_they_live_elsewhere() {
    let harbor = Harbor::new().await;
    let serving = harbor.fleet.serve(&harbor.configuration(""));
    let (hub, substatus) = harbor.register(&serving, "press-7").await;
    assert_eq!((hub.as_str(), substatus.as_deref()), ("hub-0.test", Some("initialAssignment")));
    assert!(has_device(&harbor.hub, "press-7"));
    let shown = harbor.json(&serving, &["linked-hub", "show", "hub-0.test"]);
    assert_eq!(shown["load"], json!({"devices": 1, "assigning": 0, "cleanUps": 0}));
    let healthy = json!({"state": "healthy", "since": null, "reason": null, "pausedForSeconds": null});
    assert_eq!((&shown["health"], &shown["kind"]), (&healthy, &json!("azureIotHub")));

    let spare = "draining = true\n[[instance.hub]]\nname = \"spare.test\"\nkind = \"azureIotHub\"\n\
                 connection_string_file = \"spare.txt\"\n";
    harbor.fleet.write(&harbor.configuration(spare));
    serving.signal("-HUP");
    serving.wait_for_line(READ_AGAIN);
    assert_eq!(harbor.register(&serving, "press-8").await.0, "spare.test");
    // It does not go away at the first try.
    let refused = Effect::Refuse { status: 500, code: "ServerError".to_owned(), retry_after: None };
    harbor.hub.plan(Fault { step: Step::DeleteIdentity, effect: refused, times: 4 });
    let (hub, substatus) = harbor.register(&serving, "press-7").await;
    assert_eq!((hub.as_str(), substatus.as_deref()), ("spare.test", Some("deviceDataMigrated")));
    assert!(has_device(&harbor.spare, "press-7"));
    let until = Instant::now() + WITHIN;
    let left = loop {
        let left = harbor.json(&serving, &["linked-hub", "clean-ups"]);
        if left[0]["problem"].is_string() {
            break left;
        }
        assert!(Instant::now() < until, "{left:#}");
    };
    for (member, expected) in [("hub", "hub-0.test"), ("deviceId", "press-7"), ("registrationId", "press-7")]
    {
        assert_eq!(left[0][member], expected, "{left:#}");
    }
    assert!(left[0]["tries"].as_u64() >= Some(1) && left[0]["dueAt"].is_string(), "{left:#}");
    let none = json!({"devices": 0, "assigning": 0, "cleanUps": 0});
    harbor.shown(&serving, "hub-0.test", |shown| shown["load"] == none).await;
    assert!(!has_device(&harbor.hub, "press-7"));
    assert_eq!(harbor.json(&serving, &["linked-hub", "clean-ups"]), json!([]));
    let all = harbor.json(&serving, &["linked-hub", "list"]);
    assert_eq!((&all[0]["draining"], &all[1]["load"]["devices"]), (&json!(true), &json!(2)));
    let log = serving.stop_for_log();
    let gone = log.iter().find(|line| line.contains("device gone from a hub")).unwrap();
    // As people write it: a store knows an ID scope by its letters alone.
    assert!(gone.contains("id_scope=0neAAAA0001 "), "{gone}");
}

/// DPS-SERVE-15, DPS-SERVE-17, DPS-INST-14, DPS-REG-46
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_does_not_accept_its_connection_string_is_unhealthy_until_sighup_reads_another() {
    let harbor = Harbor::new().await;
    let serving = harbor.fleet.serve(&harbor.configuration(""));
    assert_eq!(harbor.register(&serving, "press-7").await.0, "hub-0.test");
    harbor.hub.renew_key(Policy::IotHubOwner);
    let refused = harbor.fleet.register(&serving, 0, "press-7").await.unwrap();
    assert!(
        String::from_utf8(refused.body.to_vec()).unwrap().contains("401002"),
        "the hub's refusal is told"
    );
    let shown = harbor.shown(&serving, "hub-0.test", |shown| shown["health"]["state"] == "unhealthy").await;
    assert!(shown["health"]["since"].is_string(), "{shown:#}");
    let reason = shown["health"]["reason"].as_str().unwrap();
    assert!(!reason.is_empty() && !reason.contains("SharedAccess"), "{reason}");

    harbor.write_secret("hub.txt", &harbor.hub.connection_string());
    serving.signal("-HUP");
    serving.wait_for_line(READ_AGAIN);
    assert_eq!(harbor.register(&serving, "press-7").await.0, "hub-0.test");
    harbor.shown(&serving, "hub-0.test", |shown| shown["health"]["state"] == "healthy").await;
    let key = harbor.hub.connection_string();
    let key = key.rsplit_once("SharedAccessKey=").unwrap().1;
    let log = serving.stop_for_log();
    assert!(log.iter().all(|line| !line.contains(key)), "{log:#?}");
}
