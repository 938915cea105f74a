//! instance, linked-hub, policy: what an operator sets while a `dev` runs.

use serde_json::json;

use crate::command::{User, ended_with_input};
use crate::dev::Dev;

/// DPS-CLI-29, DPS-INST-1, DPS-INST-4, DPS-INST-8
#[test]
fn an_instance_lives_its_life() {
    let user = User::new();
    let dev = Dev::start(&user);
    let made = user.run(&["instance", "create", "--service-host", "Second.example"]);
    assert!(made.err.contains("harbormaster linked-hub create HOST"), "{}", made.err);
    let id_scope = made.out.lines().next().unwrap().split_whitespace().last().unwrap().to_owned();
    user.run(&["instance", "create", &id_scope]).failed(73, &["there is a service instance", "already"]);
    let made = user.run(&["instance", "create", "--service-host", "second.EXAMPLE"]);
    made.failed(73, &["second.example belongs to the service instance"]);

    let before = user.run(&["instance", "show", &id_scope, "--output", "json"]).json();
    assert_eq!(
        (&before["serviceHosts"], &before["managedBy"]),
        (&json!(["second.example"]), &json!("store"))
    );
    let policies = json!([before["sharedAccessPolicies"][0]["name"], before["sharedAccessPolicies"][1]]);
    assert_eq!(policies, json!(["provisioningserviceowner", null]));
    user.run(&["instance", "update", &id_scope, "--default-allocation-policy", "static"]).done();
    let after = user.run(&["instance", "show", &id_scope, "--output", "json"]).json();
    assert_eq!(after["defaultAllocationPolicy"], "static");
    for member in ["serviceHosts", "sharedAccessPolicies", "claimAcrossGroups", "x509", "createdDateTimeUtc"]
    {
        assert_eq!(after[member], before[member], "{member}");
    }
    let elsewhere = ["--when-source-unavailable", "reset", "--pass-over-unhealthy-hubs", "true"];
    let set =
        user.run(&[&["instance", "update", &id_scope, "--output", "json"][..], &elsewhere].concat()).json();
    assert_eq!(
        (&set["whenSourceUnavailable"], &set["passOverUnhealthyHubs"]),
        (&json!("reset"), &json!(true))
    );
    assert_eq!(
        (&before["whenSourceUnavailable"], &before["passOverUnhealthyHubs"]),
        (&json!("fail"), &json!(false))
    );
    user.run(&["instance", "update", &id_scope]).failed(64, &["nothing is to be changed"]);
    let old = before["etag"].as_str().unwrap();
    user.run(&["instance", "update", &id_scope, "--claim-across-groups", "refuse", "--etag", old])
        .failed(75, &[]);
    user.run(&["instance", "delete", &id_scope, "--etag", old]).failed(75, &[]);

    let listed = user.run(&["instance", "list"]).done();
    assert!(listed.starts_with("ID SCOPE") && listed.contains(&id_scope), "{listed}");
    let listed = user.run(&["instance", "list", "--output", "json"]).json();
    assert_eq!(listed.as_array().unwrap().len(), 2, "the one of `dev` as well");
    user.run(&["instance", "delete", &id_scope]).done();
    user.run(&["instance", "show", &id_scope]).failed(66, &["no service instance has that ID scope"]);
    let audit = user.run(&["audit", "--id-scope", &id_scope]).done();
    assert!(audit.lines().next().unwrap().contains("deleted serviceInstance"), "{audit}");
    drop(dev);
}

/// DPS-CLI-29, DPS-INST-9
#[test]
fn hubs_are_linked_weighed_and_unlinked() {
    let user = User::new();
    let dev = Dev::start(&user);
    user.run(&["linked-hub", "create", "B.example", "--kind", "static", "--allocation-weight", "7"]).done();
    user.run(&["linked-hub", "create", "b.example", "--kind", "local"]).failed(73, &["is linked already"]);
    user.run(&["linked-hub", "update", "b.EXAMPLE", "--allocation-weight", "9"]).done();
    let networks = ["--network", "10.1.0.0/16", "--network", "2001:db8::/48"];
    user.run(
        &[&["linked-hub", "update", "b.example", "--apply-allocation-policy", "false"], &networks[..]]
            .concat(),
    )
    .done();
    user.run(&["linked-hub", "update", "b.example"]).failed(64, &["nothing is to be changed"]);
    user.run(&["linked-hub", "update", "b.example", "--network", "10.1.0.0"]).failed(64, &["--network"]);
    let hubs = user.run(&["linked-hub", "list", "--output", "json"]).json();
    let health = json!({"state": "notWatched", "since": null, "reason": null, "pausedForSeconds": null});
    let load = json!({"devices": 0, "assigning": 0, "cleanUps": 0});
    let expected = [
        json!({
            "name": "hub.localhost", "kind": "local", "allocationWeight": 1, "applyAllocationPolicy": true, "networks": [],
            "draining": false, "health": health, "load": load,
        }),
        json!({
            "name": "B.example", "kind": "static", "allocationWeight": 9, "applyAllocationPolicy": false,
            "networks": ["10.1.0.0/16", "2001:db8::/48"], "draining": false, "health": health, "load": load,
        }),
    ];
    assert_eq!(hubs.as_array().unwrap()[..], expected);
    let table = user.run(&["linked-hub", "list"]).done();
    let (head, first, line) = (
        "HUB            KIND    WEIGHT  FOR ALL  HEALTH  DEVICES  ASSIGNING  CLEAN-UPS  NETWORKS",
        "hub.localhost  local   1       yes      -       0        0          0",
        "B.example      static  9       no       -       0        0          0          10.1.0.0/16, 2001:db8::/48",
    );
    assert_eq!(table, format!("{head}\n{first}\n{line}\n"));
    let shown = user.run(&["linked-hub", "show", "b.example"]).done();
    assert!(shown.starts_with("hub                B.example\nkind               static\n"), "{shown}");
    let drained = user.run(&["linked-hub", "drain", "B.EXAMPLE", "--output", "json"]).json();
    assert_eq!((&drained["draining"], &drained["networks"]), (&json!(true), &expected[1]["networks"]));
    assert!(user.run(&["linked-hub", "list"]).done().contains("  -, draining  "));
    let undone = user.run(&["linked-hub", "drain", "b.example", "--undo"]).done();
    assert!(undone.contains("draining           no\n"), "{undone}");
    user.run(&["linked-hub", "drain", "c.example"]).failed(66, &["c.example"]);
    user.run(&["linked-hub", "update", "c.example", "--allocation-weight", "9"]).failed(66, &["c.example"]);
    user.run(&["linked-hub", "delete", "b.example"]).done();
    user.run(&["linked-hub", "delete", "b.example"]).failed(66, &["no linked hub"]);
    drop(dev);
}

/// DPS-CLI-33, DPS-INST-13, DPS-INST-10
#[test]
fn the_connection_string_of_an_azure_iot_hub_is_read_from_a_file_and_printed_nowhere() {
    const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let user = User::new();
    let dev = Dev::start(&user);
    let text = format!("HostName=a.example;SharedAccessKeyName=registry;SharedAccessKey={KEY}\n");
    let file = user.file("a.txt", &text);
    let create = ["linked-hub", "create", "a.example", "--kind", "azureIotHub"];
    let given = [&create[..], &["--connection-string-file"]].concat();
    user.run(&create).failed(64, &["--connection-string-file"]);
    let local = ["linked-hub", "create", "a.example", "--kind", "local", "--connection-string-file", &file];
    user.run(&local).failed(64, &["--kind azureIotHub alone"]);
    let bad = user.file("bad.txt", text.replace("HostName", "almostasecret"));
    user.run(&[&given[..], &[&bad]].concat()).failed(64, &["--connection-string-file", "part 1 is none of"]);

    let shown = ended_with_input(&mut user.command(&[&given[..], &["-"]].concat()), &text).done();
    assert!(shown.contains("host               a.example\npolicy             registry\n"), "{shown}");
    let other = text.replace("MDEyMzQ1", "QUJDREVG");
    let other = user.file("other.txt", other.replace("a.example", "a.example:8443"));
    let updated = user.run(&["linked-hub", "update", "A.example", "--connection-string-file", &other]).done();
    assert!(updated.contains("host               a.example:8443\n"), "{updated}");
    let weighed = user.run(&["linked-hub", "update", "a.example", "--allocation-weight", "7"]).done();
    assert!(weighed.contains("host               a.example:8443\n"), "it stays: {weighed}");
    user.run(&["linked-hub", "drain", "a.example"]).done();
    let all = [
        user.run(&["linked-hub", "show", "a.example"]).done(),
        user.run(&["linked-hub", "show", "a.example", "--output", "json"]).done(),
        user.run(&["linked-hub", "list", "--output", "json"]).done(),
        user.run(&["instance", "show", "--output", "json"]).done(),
        user.run(&["export"]).done(),
        user.run(&["audit"]).done(),
        shown,
        updated,
    ];
    for shown in &all {
        assert!(!shown.contains(KEY) && !shown.contains("QUJDREVG"), "{shown}");
    }
    // Each change is one of the hub.
    let audit: Vec<&str> = all[5].lines().filter(|line| line.contains("linkedHub a.example")).collect();
    let actions = ["replaced", "replaced", "replaced", "created"];
    assert_eq!(audit.len(), actions.len(), "{audit:?}");
    assert!(audit.iter().zip(actions).all(|(line, action)| line.contains(action)), "{audit:?}");
    drop(dev);
}

/// DPS-CLI-33
#[test]
fn a_hub_that_has_devices_is_unlinked_by_force_alone() {
    let user = User::new();
    let dev = Dev::start(&user);
    let contract = dev.contract();
    let text = |pointer: &str| contract.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    let (port, ca_file, id_scope, group_key) = (
        contract["mqtt"]["port"].to_string(),
        text("/caFile"),
        text("/idScope"),
        text("/enrollmentGroups/0/primaryKey"),
    );
    let register = ["device", "register", "--host", "localhost", "--port", &port, "--ca-file", &ca_file];
    let device = ["--id-scope", &id_scope, "--registration-id", "press-7", "--group-key", &group_key];
    assert!(user.run(&[&register[..], &device].concat()).err.contains("assigned to hub.localhost"));
    let hub = user.run(&["linked-hub", "show", "hub.localhost", "--output", "json"]).json();
    assert_eq!(hub["load"], json!({"devices": 1, "assigning": 0, "cleanUps": 0}));
    let told =
        ["hub.localhost is not unlinked", "live there: 1,", "linked-hub drain hub.localhost", "--force"];
    user.run(&["linked-hub", "delete", "hub.localhost"]).failed(1, &told);
    assert!(user.run(&["linked-hub", "list"]).done().contains("hub.localhost"));
    assert_eq!(user.run(&["linked-hub", "clean-ups", "--output", "json"]).json(), json!([]));
    user.run(&["linked-hub", "delete", "hub.localhost", "--force"]).done();
    assert!(!user.run(&["linked-hub", "list"]).done().contains("hub.localhost"));
    user.run(&["linked-hub", "delete", "hub.localhost"]).failed(66, &["no linked hub"]);
    drop(dev);
}

/// DPS-CLI-29, DPS-INST-6, DPS-INST-7
#[test]
fn a_policy_opens_what_it_may_and_its_keys_are_renewed_one_by_one() {
    let user = User::new();
    let dev = Dev::start(&user);
    let made =
        user.run(&["policy", "create", "reader", "--right", "enrollmentread", "--output", "json"]).json();
    assert_eq!(made["rights"], json!(["EnrollmentRead"]));
    let connection_string =
        |key: &str| user.run(&["instance", "connection-string", "--policy", "reader", "--key", key]).done();
    let list = |text: &str| {
        let ca_file = dev.contract()["caFile"].as_str().unwrap();
        user.run(&["enrollment", "list", "--connection-string", text.trim(), "--ca-file", ca_file]).code
    };
    let (primary, secondary) = (connection_string("primary"), connection_string("secondary"));
    assert!(
        primary.contains(&format!("SharedAccessKey={}", made["primaryKey"].as_str().unwrap())),
        "{primary}"
    );
    assert_eq!((list(&primary), list(&secondary)), (0, 0));
    user.run(&["policy", "renew-key", "reader", "--key", "primary"]).done();
    assert_eq!((list(&primary), list(&secondary)), (77, 0));
    user.run(&["policy", "renew-key", "reader", "--key", "swap"]).done();
    assert_eq!(connection_string("primary"), secondary);
    assert_eq!((list(&connection_string("primary")), list(&connection_string("secondary"))), (0, 0));

    user.run(&["policy", "update", "READER", "--right", "owner"]).done();
    let shown = user.run(&["policy", "show", "reader", "--output", "json"]).json();
    assert_eq!((shown["rights"].as_array().unwrap().len(), shown.get("primaryKey")), (6, None));
    assert_eq!(connection_string("primary"), secondary, "its keys stay");
    user.run(&["policy", "delete", "provisioningserviceowner"]).done();
    let last = user.run(&["policy", "delete", "reader"]);
    last.failed(1, &["reader is not deleted", "needs an owner"]);
    user.run(&["policy", "update", "nobody", "--right", "owner"]).failed(66, &["no shared access policy"]);
    user.run(&["policy", "create", "x", "--right", "Everything"]).failed(64, &["no right has that name"]);
    assert_eq!(list(&secondary), 0);
    drop(dev);
}
