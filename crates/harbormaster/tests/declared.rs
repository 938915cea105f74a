//! `harbormaster apply`, `diff` and `export` against a running `serve`. Spec: DPS-CLI-30 to DPS-CLI-32.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by failing")]

mod fleet;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use dps_proto::key::SymmetricKey;
use fleet::{Fleet, OWNER_KEY, Serving, harbormaster};
use serde_json::Value;

/// Runs a command on the server.
fn run(serving: &Serving, token_file: &Path, arguments: &[&str]) -> Output {
    let admin = serving.admin().to_string();
    let mut command = harbormaster();
    command.args(arguments).args(["--admin", &admin, "--admin-token-file"]).arg(token_file);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What it printed; it ended with that code.
#[track_caller]
fn ended(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{} {}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Every file below a directory, with its mode.
fn files(directory: &Path) -> BTreeMap<String, (u32, String)> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            let mode = path.metadata().unwrap().permissions().mode() & 0o777;
            let name = path.strip_prefix(directory).unwrap().display().to_string();
            found.insert(name, (mode, fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

/// The configuration without its instances, over another data directory.
fn empty(fleet: &Fleet) -> String {
    let configuration = fleet.configuration();
    let (server, _) = configuration.split_once("[[instance]]").unwrap();
    server.replace("data_dir = \"data\"", "data_dir = \"empty\"")
}

/// DPS-CLI-29, DPS-CLI-31, DPS-CLI-32, DPS-INST-1, DPS-SERVE-14
#[tokio::test]
async fn what_is_exported_makes_the_same_instances_on_an_empty_server() {
    let fleet = Fleet::new();
    let (origin, token) = (fleet.serve(&fleet.configuration()), fleet.path("data/admin-token"));
    let made = run(&origin, &token, &["instance", "create", "0neCCCC0003", "--service-host", "c.test"]);
    ended(&made, 0);
    for arguments in [
        &["linked-hub", "create", "c.hub", "--kind", "static", "--allocation-weight", "7"][..],
        &["policy", "create", "reader", "--right", "EnrollmentRead"],
        &["certificate", "create", "plant", "--verified", "--certificate"],
    ] {
        let certificate = fleet.path("data/ca.pem");
        let pem = fs::read_to_string(&certificate).unwrap();
        let end = "-----END CERTIFICATE-----\n";
        let one = fleet.path("one.pem");
        fs::write(&one, pem.split_inclusive(end).next().unwrap()).unwrap();
        let mut arguments = arguments.to_vec();
        if arguments[0] == "certificate" {
            arguments.push(one.to_str().unwrap());
        }
        ended(&run(&origin, &token, &[&arguments[..], &["--id-scope", "0neCCCC0003"]].concat()), 0);
    }
    let secret = SymmetricKey::from_bytes(vec![7; 32]).unwrap();
    let secret = secret.expose_base64();
    let reached = format!("HostName=d.hub;SharedAccessKeyName=registry;SharedAccessKey={}", secret.as_str());
    fs::write(fleet.path("d.txt"), &reached).unwrap();
    let file = fleet.path("d.txt");
    let azure = ["linked-hub", "create", "d.hub", "--kind", "azureIotHub", "--connection-string-file"];
    let scope = ["--id-scope", "0neCCCC0003"];
    ended(&run(&origin, &token, &[&azure[..], &[file.to_str().unwrap()], &scope].concat()), 0);
    ended(&run(&origin, &token, &[&["linked-hub", "drain", "d.hub"][..], &scope].concat()), 0);
    let elsewhere = ["--when-source-unavailable", "reset", "--pass-over-unhealthy-hubs", "true"];
    ended(&run(&origin, &token, &[&["instance", "update", "0neCCCC0003"][..], &elsewhere].concat()), 0);
    let exported = fleet.path("exported");
    ended(&run(&origin, &token, &["export", exported.to_str().unwrap()]), 0);
    let written = files(&exported);
    assert_eq!(written.len(), 1 + 4 * 2 + 1, "{written:#?}");
    assert_eq!(written["keys/0neCCCC0003/hubs/d.hub"].1, reached);
    let document = &written["instances.toml"].1;
    for (name, (mode, content)) in &written {
        assert_eq!(*mode, if name.starts_with("keys/") { 0o600 } else { 0o644 }, "{name}");
        assert!(name == "instances.toml" || !document.contains(content.trim()), "{name} is in the document");
    }
    assert!(!document.contains(OWNER_KEY) && !document.contains(secret.as_str()));

    let (server, token) = (fleet.serve(&empty(&fleet)), fleet.path("empty/admin-token"));
    assert!(server.wait_for_line("there is no service instance").contains("WARN"));
    assert_eq!(server.ready["idScopes"], serde_json::json!([]));
    let file = exported.join("instances.toml");
    let file = file.to_str().unwrap();
    let differences = ended(&run(&server, &token, &["diff", "--file", file]), 1);
    for expected in [
        "instance 0neCCCC0003\n  + the instance\n",
        "  + linked hub c.hub: static, weight 7\n",
        "  + linked hub d.hub: azureIotHub, weight 1\n",
    ] {
        assert!(differences.contains(expected), "{differences}");
    }
    assert!(!differences.contains(secret.as_str()), "{differences}");
    assert_eq!(ended(&run(&server, &token, &["apply", "--file", file]), 0), differences);
    assert_eq!(ended(&run(&server, &token, &["diff", "--file", file]), 0), "");
    assert_eq!(ended(&run(&server, &token, &["apply", "--file", file]), 0), "");
    let again = fleet.path("again");
    ended(&run(&server, &token, &["export", again.to_str().unwrap()]), 0);
    assert_eq!(files(&again), written);
    let printed = ended(&run(&server, &token, &["export"]), 0);
    assert!(
        printed.contains("connection_string_env = \"HARBORMASTER_0NECCCC0003_D_HUB_CONNECTION_STRING\""),
        "{printed}"
    );
    // Another key of the hub is another connection string, and makes the hub as a whole no other.
    fs::write(exported.join("keys/0neCCCC0003/hubs/d.hub"), reached.replace("BwcH", "CAgI")).unwrap();
    let other = ended(&run(&server, &token, &["apply", "--file", file]), 0);
    assert_eq!(other, "instance 0neCCCC0003\n  ~ linked hub d.hub: another connection string\n");
    fs::write(exported.join("keys/0neCCCC0003/hubs/d.hub"), &reached).unwrap();
    ended(&run(&server, &token, &["apply", "--file", file]), 0);
    // The owner's key of the first opens the second, where there is no such group yet.
    let key: SymmetricKey = OWNER_KEY.parse().unwrap();
    assert_eq!(fleet.get_group(&server, "dps-0.test", &key).await, 404);
    let twice = run(&server, &token, &["export", again.to_str().unwrap()]);
    assert_eq!(twice.status.code(), Some(64), "what is there is not written over");

    // And all of it is there after a restart.
    assert!(server.stop().success());
    let server = fleet.serve(&empty(&fleet));
    assert_eq!(ended(&run(&server, &token, &["diff", "--file", file]), 0), "");
}

/// DPS-CLI-30, DPS-CLI-31
#[test]
fn a_file_is_judged_whole_and_what_it_leaves_out_goes() {
    let fleet = Fleet::new();
    let (server, token) = (fleet.serve(&empty(&fleet)), fleet.path("empty/admin-token"));
    let apply = |command: &str, document: &str| {
        fs::write(fleet.path("wanted.toml"), document).unwrap();
        run(&server, &token, &[command, "--file", fleet.path("wanted.toml").to_str().unwrap()])
    };
    let policy = "[[instance.shared_access_policy]]\nname = \"owner\"\nrights = [\"ServiceConfig\", \"EnrollmentRead\", \
                  \"EnrollmentWrite\", \"DeviceConnect\", \"RegistrationStatusRead\", \"RegistrationStatusWrite\"]\n\
                  primary_key_file = \"owner.key\"\n";
    let instance = "[[instance]]\nid_scope = \"0neDDDD0004\"\nservice_hosts = [\"d.test\"]\n";
    let hub = "[[instance.hub]]\nname = \"d.hub\"\nkind = \"local\"\n";

    let bad = format!("{instance}colour = 1\n{hub}allocation_weight = 0\n");
    let refused = apply("apply", &bad);
    assert_eq!(refused.status.code(), Some(64));
    for told in ["wanted.toml:4:1: instance.colour", "allocation_weight", "owner key"] {
        assert!(text(&refused.stderr).contains(told), "{}", text(&refused.stderr));
    }
    let in_clear = format!("{instance}{policy}")
        .replace("primary_key_file = \"owner.key\"", "primary_key = \"c2VjcmV0\"");
    let refused = apply("apply", &in_clear);
    assert_eq!(refused.status.code(), Some(64));
    assert!(!text(&refused.stderr).contains("c2VjcmV0"), "{}", text(&refused.stderr));
    assert_eq!(ended(&run(&server, &token, &["instance", "list", "--output", "json"]), 0).trim(), "[]");

    ended(&apply("apply", &format!("{instance}{hub}{policy}")), 0);
    let renewed = run(
        &server,
        &token,
        &["policy", "renew-key", "owner", "--key", "secondary", "--id-scope", "0neDDDD0004"],
    );
    ended(&renewed, 0);
    let changed = instance.replace("d.test", "e.test");
    let differences = ended(&apply("diff", &format!("{changed}{policy}")), 1);
    assert_eq!(
        differences,
        "instance 0neDDDD0004\n  ~ service_hosts: [d.test] -> [e.test]\n  ~ shared access policy owner: another secondary key\n  \
         - linked hub d.hub\n"
    );
    assert_eq!(ended(&apply("apply", &format!("{changed}{policy}")), 0), differences);
    let shown = ended(&run(&server, &token, &["instance", "show", "0neDDDD0004", "--output", "json"]), 0);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown["serviceHosts"][0], &shown["linkedHubs"]), (&"e.test".into(), &serde_json::json!([])));
    let printed = ended(&run(&server, &token, &["export"]), 0);
    assert!(
        printed.contains("primary_key_env = \"HARBORMASTER_0NEDDDD0004_OWNER_PRIMARY_KEY\""),
        "{printed}"
    );
}

/// DPS-CLI-31, DPS-INST-1
#[test]
fn an_instance_of_the_configuration_is_not_changed_and_neither_is_anything_else() {
    let fleet = Fleet::new();
    let (server, token) = (fleet.serve(&fleet.configuration()), fleet.path("data/admin-token"));
    let configuration = fleet.configuration();
    let (_, instances) = configuration.split_once("[[instance]]").unwrap();
    let unchanged = format!("[[instance]]{instances}");
    fs::write(fleet.path("wanted.toml"), &unchanged).unwrap();
    let file = fleet.path("wanted.toml");
    let file = file.to_str().unwrap();
    assert_eq!(ended(&run(&server, &token, &["apply", "--file", file]), 0), "");
    let new = unchanged.replace("0neAAAA0001", "0neEEEE0005").replace("dps-0.test", "e.test");
    fs::write(file, new.replace("hub-1.test", "other.test")).unwrap();
    let refused = run(&server, &token, &["apply", "--file", file]);
    assert_eq!(ended(&refused, 1), "");
    let told = text(&refused.stderr);
    assert!(told.contains("0neBBBB0002 stands in the configuration of the service"), "{told}");
    let found = run(&server, &token, &["instance", "show", "0neEEEE0005"]);
    assert_eq!(found.status.code(), Some(66), "nothing of the file was done");
    let refused = run(&server, &token, &["linked-hub", "delete", "hub-0.test", "--id-scope", "0neAAAA0001"]);
    assert_eq!(refused.status.code(), Some(73));
    assert!(text(&refused.stderr).contains("stands in the configuration"), "{}", text(&refused.stderr));
}
