//! instance, linked-hub, policy: what an operator sets while a `dev` runs.

use serde_json::json;

use crate::command::User;
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
    let expected = [
        json!({
            "name": "hub.localhost", "kind": "local", "allocationWeight": 1, "applyAllocationPolicy": true, "networks": [],
        }),
        json!({
            "name": "B.example", "kind": "static", "allocationWeight": 9, "applyAllocationPolicy": false,
            "networks": ["10.1.0.0/16", "2001:db8::/48"],
        }),
    ];
    assert_eq!(hubs.as_array().unwrap()[..], expected);
    let table = user.run(&["linked-hub", "show", "b.example"]).done();
    let line = "B.example  static  9       no       10.1.0.0/16, 2001:db8::/48";
    assert_eq!(table, format!("HUB        KIND    WEIGHT  FOR ALL  NETWORKS\n{line}\n"));
    user.run(&["linked-hub", "update", "c.example", "--allocation-weight", "9"]).failed(66, &["c.example"]);
    user.run(&["linked-hub", "delete", "b.example"]).done();
    user.run(&["linked-hub", "delete", "b.example"]).failed(66, &["no linked hub"]);
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
