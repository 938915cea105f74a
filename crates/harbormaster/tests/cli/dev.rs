//! Commands and the `dev` that they find by themselves.

use std::fs::DirBuilder;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::DirBuilderExt as _;
use std::process::{Child, Command};

use serde_json::Value;

use crate::command::User;

/// A `harbormaster dev` of a user.
pub(crate) struct Dev {
    process: Child,
    contract: Value,
}

impl Dev {
    pub(crate) fn start(user: &User) -> Self {
        Self::start_with(user, &[])
    }

    fn start_with(user: &User, options: &[&str]) -> Self {
        let arguments = ["dev", "--output", "json", "--mqtt-port", "0", "--https-port", "0"];
        let mut command = user.command(&[&arguments[..], options].concat());
        let mut process = command.env("HARBORMASTER_LOG", "error").spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { process, contract: serde_json::from_str(&line).unwrap() }
    }

    /// What it said of itself.
    pub(crate) fn contract(&self) -> &Value {
        &self.contract
    }

    fn stop(mut self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.process.wait().unwrap().success());
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // A test that failed midway leaves nothing running.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// DPS-CLI-3, DPS-CLI-4, DPS-CLI-6
#[test]
fn a_running_dev_is_found_and_an_entry_lives_its_life_there() {
    let user = User::new();
    let dev = Dev::start(&user);
    let created =
        user.run(&["enrollment", "create", "press-7", "--device-id", "press#7", "--output", "json"]).json();
    assert!(created["attestation"]["symmetricKey"]["primaryKey"].is_string(), "{created}");
    let keys = user.run(&["enrollment", "show", "press-7", "--keys", "--output", "json"]).json();
    assert_eq!(keys["attestation"]["symmetricKey"], created["attestation"]["symmetricKey"]);
    user.run(&["enrollment", "create", "PRESS-7"]).failed(73, &["409201"]);
    let key = user.file("key", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    user.run(&["enrollment", "update", "press-7", "--disabled", "--secondary-key-file", &key]).done();
    let updated = user.run(&["enrollment", "show", "press-7", "--keys", "--output", "json"]).json();
    assert_eq!(
        (&updated["provisioningStatus"], &updated["deviceId"]),
        (&"disabled".into(), &"press#7".into())
    );
    let symmetric = &updated["attestation"]["symmetricKey"];
    assert_eq!(symmetric["primaryKey"], created["attestation"]["symmetricKey"]["primaryKey"]);
    assert_eq!(symmetric["secondaryKey"], "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    let etag = created["etag"].as_str().unwrap();
    user.run(&["enrollment", "delete", "press-7", "--etag", etag]).failed(75, &["412001"]);
    user.run(&["enrollment", "delete", "press-7"]).done();
    user.run(&["enrollment", "show", "press-7"]).failed(66, &["404201"]);

    let groups = user.run(&["enrollment-group", "list", "--output", "json"]).json();
    assert_eq!(groups[0]["enrollmentGroupId"], "dev-group");
    let records = user.run(&["registration", "list", "--enrollment-group", "dev-group", "--output", "json"]);
    assert_eq!(records.json(), serde_json::json!([]));
    dev.stop();
    user.run(&["enrollment", "list"]).failed(64, &["no `harbormaster dev` of this user is running"]);
    assert_eq!(std::fs::read_dir(user.home().join("harbormaster")).unwrap().count(), 0);
}

/// DPS-CLI-3
#[test]
fn a_dev_under_a_name_that_only_devices_resolve_is_reached_all_the_same() {
    let user = User::new();
    let dev = Dev::start_with(&user, &["--host", "dps.test", "--bind", "0.0.0.0"]);
    let connection_string = dev.contract["serviceConnectionString"].as_str().unwrap();
    assert!(connection_string.starts_with("HostName=dps.test:"), "{connection_string}");
    assert!(user.run(&["enrollment-group", "list"]).done().contains("dev-group"));
    dev.stop();
}

/// DPS-CLI-7
#[test]
fn of_several_running_devs_none_is_meant() {
    let user = User::new();
    let (one, other) = (Dev::start(&user), Dev::start(&user));
    let scopes = [&one, &other].map(|dev| dev.contract["idScope"].as_str().unwrap().to_owned());
    let told = ["several", &scopes[0], &scopes[1], "--connection-string"];
    user.run(&["enrollment", "list"]).failed(64, &told);
    let token_file = one.contract["admin"]["tokenFile"].as_str().unwrap();
    let told = ["several", &scopes[0], &scopes[1], "--id-scope", "--admin 127.0.0.1:", token_file];
    user.run(&["explain", "--last"]).failed(64, &told);
    for scope in &scopes {
        user.run(&["explain", "--last", "--id-scope", scope]).failed(1, &["no such refusal is kept"]);
    }
    user.run(&["explain", "--last", "--id-scope", "0neNobody"]).failed(64, &["several"]);
    // What a killed one leaves is not taken for a running one.
    one.kill();
    let connection_string = other.contract["serviceConnectionString"].as_str().unwrap();
    let ca_file = other.contract["caFile"].as_str().unwrap();
    let by_hand =
        ["enrollment-group", "list", "--connection-string", connection_string, "--ca-file", ca_file];
    assert_eq!(user.run(&by_hand).done(), user.run(&["enrollment-group", "list"]).done());
    assert!(user.run(&["enrollment-group", "list"]).done().contains("dev-group"));
}

/// DPS-CLI-6
#[test]
fn a_dev_that_cannot_announce_itself_in_private_serves_all_the_same() {
    let user = User::new();
    let directory = user.home().join("harbormaster");
    DirBuilder::new().mode(0o755).create(&directory).unwrap();
    let dev = Dev::start(&user);
    let told = ["not a directory of this user with mode 0700", "--connection-string"];
    user.run(&["enrollment", "list"]).failed(64, &told);
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
    dev.stop();
}

/// DPS-CLI-7, DPS-EXPLAIN-2
#[test]
fn explain_finds_the_running_dev_too() {
    let user = User::new();
    let dev = Dev::start(&user);
    user.run(&["registration", "show", "nobody"]).failed(66, &["404202"]);
    let explained = user.run(&["explain", "--last"]).done();
    assert!(explained.contains("no record of this registration id"), "{explained}");
    let as_json = user.run(&["explain", "--last", "--output", "json"]).json();
    let connection = as_json[0]["connection"].as_u64().unwrap();
    assert_eq!(user.run(&["explain", "--connection", &connection.to_string()]).done(), explained);
    user.run(&["explain", "--connection", "4711"]).failed(1, &["no such refusal is kept"]);
    user.run(&["explain", "nonsense"]).failed(64, &["no tracking id: it is a GUID"]);
    let two_lines = user.file("two-lines", "a\nb\n");
    user.run(&["explain", "--last", "--admin", "127.0.0.1:1", "--admin-token-file", &two_lines])
        .failed(64, &["--admin-token-file", "one word"]);
    let https = format!("127.0.0.1:{}", dev.contract["https"]["port"]);
    let token_file = dev.contract["admin"]["tokenFile"].as_str().unwrap();
    user.run(&["explain", "--last", "--admin", &https, "--admin-token-file", token_file])
        .failed(1, &["is it the admin address"]);
    user.run(&["explain", "--last", "--admin", "127.0.0.1:1"]).failed(64, &["--admin-token-file"]);
    dev.stop();
    user.run(&["explain", "--last"]).failed(64, &["no `harbormaster dev` of this user is running"]);
}
