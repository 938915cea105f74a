//! A service that outgrew SQLite and goes on on PostgreSQL, its devices noticing a pause alone. Spec: DPS-CLI-40 to DPS-CLI-42.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

#[path = "nodes/cutter.rs"]
mod cutter;
#[path = "nodes/database.rs"]
#[allow(dead_code, reason = "the tests of nodes do more with it")]
mod database;
#[path = "nodes/device.rs"]
#[allow(dead_code, reason = "the tests of nodes do more with it")]
mod device;
mod fleet;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cutter::Cutter;
use database::Database;
use device::{Identity, Link, Told};
use fleet::{Fleet, OWNER_KEY, Serving, harbormaster};
use hub_registry::{Authority, Effect, Fault, HubRegistry, Options, Step};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// Longer than anything takes on a loaded machine.
const WITHIN: Duration = Duration::from_secs(120);

/// Sealing key of the nodes: another than that of the store that is copied.
const NODES_KEY: &str = "c2VhbGluZyBrZXkgb2YgdGhlIHRlc3RzIG9mIG5vZGU=";

/// A service on SQLite: the devices of its first instance live at a local hub, those of its second at one outside.
struct Harbor {
    fleet: Fleet,
    database: Database,
    hub: HubRegistry,
    tls: Arc<rustls::ClientConfig>,
}

impl Harbor {
    async fn new() -> Self {
        let fleet = Fleet::new();
        let authority = Authority::new().unwrap();
        authority.write(&fleet.path("hub-ca.pem")).unwrap();
        // The address alone, where the name may lead to another one.
        let options = Options { names: Vec::new(), ..Options::default() };
        let hub = HubRegistry::start(&authority, options).await.unwrap();
        let database = Database::start();
        let tls = dps_client::tls::trusting(&fleet.path("data/ca.pem")).unwrap();
        let harbor = Self { fleet, database, hub, tls };
        harbor.secret("hub.txt", &harbor.hub.connection_string());
        harbor.secret("nodes-sealing", NODES_KEY);
        harbor.secret(
            "database-url",
            &format!("host={} user=postgres dbname=postgres", harbor.database.directory.display()),
        );
        fs::write(harbor.fleet.path("nodes.toml"), harbor.on_postgresql()).unwrap();
        harbor
    }

    fn secret(&self, name: &str, text: &str) {
        fs::write(self.fleet.path(name), text).unwrap();
        fs::set_permissions(self.fleet.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.fleet.path(name).display().to_string()
    }

    fn on_sqlite(&self) -> String {
        let azure = "name = \"hub-1.test\"\nkind = \"azureIotHub\"\nconnection_string_file = \"hub.txt\"\n";
        let outbound = "[outbound]\nallow = [\"127.0.0.0/8\"]\nca_file = \"hub-ca.pem\"\n[limits]\n";
        let text = self.fleet.configuration().replace("name = \"hub-1.test\"\nkind = \"local\"\n", azure);
        text.replace("\"dps-0.test\"", "\"localhost\"").replace("[limits]\n", outbound)
    }

    /// The same with a database and the key of the nodes in place of the data directory.
    fn on_postgresql(&self) -> String {
        let text = self.on_sqlite();
        let text = text.replace("[[tls", "admin_token_file = \"data/admin-token\"\n[[tls");
        let text = text.replace("data_dir = \"data\"", "kind = \"postgresql\"\nurl_file = \"database-url\"");
        text.replace("\"data/sealing.key\"", "\"nodes-sealing\"")
    }

    /// `copy` with these arguments, to the database of the nodes.
    fn copy(&self, arguments: &[&str]) -> Output {
        let nodes = self.path("nodes.toml");
        harbormaster().args(["copy", "--config", &nodes]).args(arguments).output().unwrap()
    }

    /// What a command of the service API prints as JSON.
    fn service(&self, serving: &Serving, arguments: &[&str]) -> Value {
        let connection_string = format!(
            "HostName=localhost:{};SharedAccessKeyName=provisioningserviceowner;SharedAccessKey={OWNER_KEY}",
            serving.https_port()
        );
        let mut command = harbormaster();
        command.args(arguments).args(["--output", "json", "--connection-string", &connection_string]);
        json_of(command.args(["--ca-file", &self.path("data/ca.pem")]).output().unwrap())
    }

    /// What a command of the admin listener prints as JSON, of the first instance.
    fn admin(&self, serving: &Serving, arguments: &[&str]) -> Value {
        let mut command = harbormaster();
        let (admin, token) = (serving.admin().to_string(), self.path("data/admin-token"));
        command.args(arguments).args(["--output", "json", "--id-scope", "0neAAAA0001", "--admin", &admin]);
        json_of(command.args(["--admin-token-file", &token]).output().unwrap())
    }

    /// The final answer of a device that shows a certificate.
    fn register_by_certificate(&self, serving: &Serving, id: &str) -> Value {
        let port = serving.mqtt_port().to_string();
        let (certificate, key) = (self.path(&format!("pki/{id}.pem")), self.path(&format!("pki/{id}.key")));
        let mut command = harbormaster();
        command.args(["device", "register", "--host", "localhost", "--port", &port, "--registration-id", id]);
        command.args(["--ca-file", &self.path("data/ca.pem"), "--id-scope", "0neAAAA0001"]);
        json_of(command.args(["--certificate", &certificate, "--certificate-key", &key]).output().unwrap())
    }

    async fn register(&self, serving: &Serving, id: &str) -> Value {
        serde_json::from_slice(&self.fleet.register(serving, 0, id).await.unwrap().body).unwrap()
    }

    /// A connection of a device of that instance.
    async fn link(&self, serving: &Serving, instance: usize, id: &str) -> Link {
        let enrolled = &self.fleet.instances[instance];
        let who = Identity {
            id_scope: enrolled.id_scope.clone(),
            id: id.parse().unwrap(),
            key: enrolled.device_key(id),
        };
        let at = SocketAddr::from(([127, 0, 0, 1], serving.mqtt_port()));
        Link::connect(at, &self.tls, &who).await.unwrap()
    }

    /// All that management sees of the first instance.
    fn seen(&self, serving: &Serving) -> Vec<Value> {
        let services = [
            &["enrollment", "list"][..],
            &["enrollment", "show", "press-x", "--keys"],
            &["enrollment-group", "list"],
            &["enrollment-group", "show", "line-7", "--keys"],
            &["registration", "list", "--enrollment-group", "dev-group"],
        ];
        let admins = [
            &["audit", "--limit", "100"][..],
            &["hub-device", "list", "hub-0.test"],
            &["certificate", "list"],
        ];
        let services = services.iter().map(|arguments| self.service(serving, arguments));
        services.chain(admins.iter().map(|arguments| self.admin(serving, arguments))).collect()
    }
}

#[track_caller]
fn json_of(output: Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn failed(output: &Output, code: i32, expected: &str) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{told}");
    assert!(told.contains(expected), "{expected:?} in:\n{told}");
    assert!(!told.contains(NODES_KEY) && !told.contains("user=postgres"), "{told}");
}

fn run(arguments: &[&str]) {
    let output = harbormaster().args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Where a device lives, and since when it is known.
fn home(answer: &Value) -> [&Value; 3] {
    let state = &answer["registrationState"];
    assert_eq!(state["status"], "assigned", "{answer:#}");
    [&state["assignedHub"], &state["deviceId"], &state["createdDateTimeUtc"]]
}

/// DPS-CLI-40, DPS-CLI-42, DPS-STORE-40, DPS-STORE-41, DPS-STORE-42, DPS-ID-4, DPS-REG-40
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_of_a_copied_service_go_on_where_they_were() {
    let harbor = Harbor::new().await;
    let pki = harbor.path("pki");
    run(&["pki", "init", "--dir", &pki]);
    run(&["pki", "issue", "line-x", "--dir", &pki]);
    run(&["pki", "issue", "press-x", "--dir", &pki, "--self-signed"]);
    let serving = harbor.fleet.serve(&harbor.on_sqlite());
    let (leaf, issuing) = (harbor.path("pki/press-x.pem"), harbor.path("pki/issuing-ca.pem"));
    harbor.service(&serving, &["enrollment", "create", "press-x", "--certificate", &leaf]);
    harbor.service(&serving, &["enrollment-group", "create", "plant", "--certificate", &issuing]);
    harbor
        .service(&serving, &["enrollment-group", "create", "line-7", "--registration-id-prefix", "line-7-"]);
    harbor.service(&serving, &["enrollment", "create", "gone"]);
    harbor.service(&serving, &["enrollment", "update", "gone", "--disabled"]);
    let by_key = harbor.register(&serving, "press-7").await;
    let by_certificate = ["press-x", "line-x"].map(|id| harbor.register_by_certificate(&serving, id));
    // One that is still on its way to a hub outside when the service stops.
    let refused = Effect::Refuse { status: 500, code: "ServerError".to_owned(), retry_after: None };
    for step in [Step::Bulk, Step::WriteIdentity] {
        harbor.hub.plan(Fault { step, effect: refused.clone(), times: 1_000 });
    }
    let on_its_way = harbor.link(&serving, 1, "crane-1").await.register().await.unwrap();
    assert_eq!(on_its_way.status, 202, "{on_its_way:?}");
    failed(&harbor.copy(&["--from-data-dir", &harbor.path("data")]), 64, "stop the server first");
    failed(&harbor.copy(&["--from", &harbor.path("data/store.db")]), 64, "stop the server first");
    let before = harbor.seen(&serving);
    assert!(serving.stop().success());

    let store = fs::read(harbor.fleet.path("data/store.db")).unwrap();
    let copied = json_of(harbor.copy(&["--from-data-dir", &harbor.path("data"), "--output", "json"]));
    let rows = |table: &str| {
        let of = copied["tables"].as_array().unwrap().iter().find(|of| of["table"] == table).unwrap();
        assert_eq!(of["source"], of["target"]);
        of["target"].as_u64().unwrap()
    };
    assert_eq!([rows("instance"), rows("registration"), rows("hub_device")], [2, 4, 3], "{copied:#}");
    assert_eq!(fs::read(harbor.fleet.path("data/store.db")).unwrap(), store, "the way back");

    harbor.hub.heal();
    let serving = harbor.fleet.serve(&harbor.on_postgresql());
    assert_eq!(harbor.seen(&serving), before);
    let told = poll(&mut harbor.link(&serving, 0, "press-7").await, &by_key["operationId"]).await;
    assert_eq!((told.status, home(&told.body)), (200, home(&by_key)));
    let again = harbor.register(&serving, "press-7").await;
    assert_eq!(home(&again), home(&by_key));
    for (id, answer) in ["press-x", "line-x"].iter().zip(&by_certificate) {
        assert_eq!(home(&harbor.register_by_certificate(&serving, id)), home(answer));
    }
    // The nodes carry on what was on its way, and its operation is the same.
    let until = Instant::now() + WITHIN;
    let arrived = loop {
        let told =
            poll(&mut harbor.link(&serving, 1, "crane-1").await, &on_its_way.body["operationId"]).await;
        if told.status == 200 {
            break told;
        }
        assert!(told.status == 202 && Instant::now() < until, "{told:?}");
        sleep(Duration::from_millis(250)).await;
    };
    assert_eq!(home(&arrived.body)[0], "hub-1.test");
    assert!(harbor.hub.with(|registry| registry.identity("crane-1").is_ok()));
    let log = serving.stop_for_log();
    assert!(log.iter().all(|line| !line.contains(" ERROR ")), "{log:#?}");
}

async fn poll(link: &mut Link, operation_id: &Value) -> Told {
    link.poll(operation_id.as_str().unwrap()).await.unwrap()
}

/// DPS-CLI-40, DPS-CLI-41, DPS-CLI-42
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_copied_is_refused_by_its_code_and_changes_nothing() {
    let harbor = Harbor::new().await;
    let (data, backup) = (harbor.path("data"), harbor.path("backup.db"));
    run(&["backup", "--data-dir", &data, "--to", &backup]);
    let from_backup = ["--from", &backup];
    // The key of the nodes does not open it.
    failed(&harbor.copy(&from_backup), 64, "name its file by --from-sealing-key-file");
    let owner = harbor.path("owner.key");
    let with_another = ["--from-data-dir", &data, "--from-sealing-key-file", &owner];
    failed(&harbor.copy(&with_another), 64, "find the key that the store was made with");
    failed(&harbor.copy(&["--from", &harbor.path("none.db")]), 66, "there is no store at");
    failed(&harbor.copy(&["--from-data-dir", &harbor.path("none")]), 66, "there is no store at");
    assert!(!harbor.fleet.path("none").exists());
    failed(&harbor.copy(&[]), 64, "--from");
    failed(&harbor.copy(&["--from", &backup, "--from-data-dir", &data]), 64, "cannot be used with");
    let on_sqlite = harbor.fleet.write(&harbor.on_sqlite()).display().to_string();
    let to_sqlite =
        harbormaster().args(["copy", "--config", &on_sqlite, "--from", &backup]).output().unwrap();
    failed(&to_sqlite, 64, "store.data_dir");
    let key = harbor.path("data/sealing.key");
    let spoilt = harbor.path("spoilt.db");
    let from_spoilt = ["--from", &spoilt, "--from-sealing-key-file", &key];
    let mut bytes = fs::read(&backup).unwrap();
    // Where SQLite keeps the version of the tables.
    bytes[60..64].copy_from_slice(&10_u32.to_be_bytes());
    fs::write(&spoilt, &bytes).unwrap();
    failed(&harbor.copy(&from_spoilt), 64, "run `migrate` on it first");
    fs::write(&spoilt, &bytes[..bytes.len() - 8_192]).unwrap();
    failed(&harbor.copy(&from_spoilt), 1, "what is to be copied is not sound");
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'harbormaster'";
    assert_eq!(harbor.database.sql(schemas), "0", "nothing was made");

    harbor.database.kill();
    failed(&harbor.copy(&["--from-data-dir", &data]), 69, "cannot be reached");
    harbor.database.start_again();
    let copied = harbor.copy(&[&from_backup[..], &["--from-sealing-key-file", &key]].concat());
    let told = String::from_utf8(copied.stdout.clone()).unwrap();
    assert!(copied.status.success(), "{copied:?}");
    assert!(
        told.contains("copied to the schema harbormaster") && told.contains("sealed with key "),
        "{told}"
    );
    let group = told.lines().find(|line| line.starts_with("enrollment_group ")).unwrap();
    assert_eq!(group.split_whitespace().collect::<Vec<_>>(), ["enrollment_group", "4", "4"]);
    failed(&harbor.copy(&["--from-data-dir", &data]), 73, "name another by store.schema");

    harbor.database.sql("TRUNCATE instance, enrollment_group, enrollment_group_version, enrollment_group_anchor, individual_enrollment, \
         linked_hub, shared_access_policy, hub_device, registration, ca_certificate, ca_certificate_version, clean_up, audit");
    harbor.database.sql(
        "CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
         CREATE TRIGGER theirs BEFORE INSERT ON enrollment_group FOR EACH ROW EXECUTE FUNCTION theirs()",
    );
    let differs = harbor.copy(&["--from-data-dir", &data, "--output", "json"]);
    failed(&differs, 65, "enrollment_group 0 of 4");
    let told: Value = serde_json::from_slice(&differs.stdout).unwrap();
    let expected = json!({"table": "enrollment_group", "source": 4, "target": 0});
    assert!(told["tables"].as_array().unwrap().contains(&expected), "{told:#}");
    assert_eq!(harbor.database.sql("SELECT count(*) FROM instance"), "0");
}

/// DPS-CLI-41: whoever tried it learns which it was by trying again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_was_cut_off_as_it_was_kept_does_not_say_that_it_failed() {
    let harbor = Harbor::new().await;
    let nodes = harbor.path("nodes.toml");
    run(&["migrate", "--config", &nodes]);
    let cutter = Cutter::start(harbor.database.socket()).await;
    let port = cutter.address.port();
    harbor.secret("database-url", &format!("host=127.0.0.1 port={port} user=postgres dbname=postgres"));
    cutter.begin();
    let from = ["--from-data-dir", &harbor.path("data")];
    let unconfirmed = tokio::task::block_in_place(|| harbor.copy(&from));
    failed(&unconfirmed, 69, "all of it is there or nothing");
    assert_eq!(cutter.end(), 1);
    let again = tokio::task::block_in_place(|| harbor.copy(&from));
    failed(&again, 73, "is not empty");
    assert_eq!(harbor.database.sql("SELECT count(*) FROM instance"), "2");
}

/// DPS-CLI-41, DPS-STORE-43: as while another copy is made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_while_the_tables_are_held_is_told_so_and_may_come_again() {
    let harbor = Harbor::new().await;
    run(&["migrate", "--config", &harbor.path("nodes.toml")]);
    let hold = "BEGIN; LOCK TABLE instance IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600)";
    let mut holding = harbor.database.psql(hold).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let holder = "SELECT pid FROM pg_locks WHERE relation = 'instance'::regclass AND mode = 'AccessExclusiveLock' AND granted";
    let until = Instant::now() + WITHIN;
    while harbor.database.sql(holder).is_empty() {
        assert!(Instant::now() < until, "nobody holds the table");
    }
    let from = ["--from-data-dir", &harbor.path("data")];
    let (copied, served) = std::thread::scope(|scope| {
        let served = scope.spawn(|| harbor.fleet.refused(&harbor.on_postgresql()));
        (harbor.copy(&from), served.join().unwrap())
    });
    failed(&copied, 69, "the tables are in use");
    failed(&served, 1, "PostgreSQL");
    harbor.database.sql(&format!("SELECT pg_terminate_backend(pid) FROM ({holder}) AS holder"));
    assert!(!holding.wait().unwrap().success());
    let copied = json_of(harbor.copy(&[&from[..], &["--output", "json"]].concat()));
    assert_eq!(copied["tables"][0], json!({"table": "instance", "source": 2, "target": 2}));
}
