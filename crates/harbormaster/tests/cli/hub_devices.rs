//! hub-device: the devices of the local hub of a running `dev`.

use serde_json::json;

use crate::command::User;
use crate::dev::Dev;

/// DPS-BROKER-12, DPS-DEV-10
#[test]
fn a_device_is_disabled_and_enabled_and_the_audit_says_so() {
    let user = User::new();
    let dev = Dev::start(&user);
    let contract = dev.contract();
    let text = |pointer: &str| contract.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    let (group_key, ca_file, id_scope) =
        (text("/enrollmentGroups/0/primaryKey"), text("/caFile"), text("/idScope"));
    let id = "press_7:left";
    let derive = ["device-key", "derive", "--group-key", &group_key, "--registration-id", id];
    let key = user.run(&derive).done().trim().to_owned();
    let port = contract["mqtt"]["port"].to_string();
    let register = ["device", "register", "--host", "localhost", "--port", &port, "--ca-file", &ca_file];
    let device = ["--id-scope", &id_scope, "--registration-id", id, "--key", &key];
    let registered = [&register[..], &device].concat();
    assert!(user.run(&registered).err.contains("assigned to hub.localhost"));

    let listed = user.run(&["hub-device", "list", "hub.localhost"]).done();
    let row = |listed: &str| {
        listed.lines().nth(1).unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(listed.starts_with("DEVICE "), "{listed}");
    assert_eq!(row(&listed), [id, "enabled", "sas", id]);
    let disabled = user.run(&["hub-device", "disable", "HUB.localhost", id]).done();
    assert_eq!(row(&disabled), [id, "disabled", "sas", id]);
    assert!(user.run(&registered).err.contains("assigned to hub.localhost"));
    let shown = user.run(&["hub-device", "show", "hub.localhost", id, "--output", "json"]).json();
    assert_eq!((&shown["status"], &shown["deviceId"]), (&json!("disabled"), &json!(id)));
    let enabled = user.run(&["hub-device", "enable", "hub.localhost", id, "--output", "json"]).json();
    assert_eq!(enabled["status"], "enabled");
    let audit = user.run(&["audit"]).done();
    let changes: Vec<&str> = audit.lines().filter(|line| line.contains("hubDevice")).collect();
    assert!(changes[0].contains("enabled hubDevice hub.localhost/press_7:left"), "{audit}");
    assert!(changes[1].contains("disabled hubDevice"), "{audit}");

    user.run(&["hub-device", "disable", "hub.localhost", "nobody"])
        .failed(66, &["the hub has no such device"]);
    user.run(&["hub-device", "disable", "none.example", id]).failed(66, &["no hub of that name"]);
    user.run(&["hub-device", "show", "hub.localhost", "a/b"]).failed(64, &["'/'"]);
    drop(dev);
}
