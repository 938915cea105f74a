//! audit: what a running `dev` tells of who changed it.

use crate::command::User;
use crate::dev::Dev;

/// DPS-AUDIT-1, DPS-AUDIT-2, DPS-AUDIT-4
#[test]
fn changes_are_told_newest_first_with_who_made_them_and_without_secrets() {
    let user = User::new();
    let dev = Dev::start(&user);
    assert_eq!(user.run(&["audit"]).done(), "", "what `dev` makes at its start has no author");
    let created = user.run(&["enrollment", "create", "Press-7", "--output", "json"]).json();
    let key = created["attestation"]["symmetricKey"]["primaryKey"].as_str().unwrap();
    assert_ne!(user.run(&["enrollment", "create", "press-7"]).code, 0);
    user.run(&["enrollment", "update", "press-7", "--disabled"]).done();
    user.run(&["enrollment-group", "create", "line-8"]).done();
    user.run(&["enrollment", "delete", "press-7"]).done();

    let told = user.run(&["audit"]).done();
    let told: Vec<_> = told.lines().map(|line| line.split_once("Z  ").unwrap().1).collect();
    let expected = [
        "deleted enrollment press-7",
        "created enrollmentGroup line-8",
        "replaced enrollment Press-7",
        "created enrollment Press-7",
    ];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for (line, expected) in told.iter().zip(expected) {
        assert!(line.starts_with(&format!("{expected}, by policy ")), "{line}");
        assert!(line.contains(" from 127.0.0.1, trackingId "), "{line}");
    }
    let records = user.run(&["audit", "--id", "PRESS-7", "--limit", "2", "--output", "json"]).json();
    let actions: Vec<_> =
        records.as_array().unwrap().iter().map(|it| it["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["deleted", "replaced"]);
    let before = records[1]["number"].to_string();
    let older = user.run(&["audit", "--id", "press-7", "--before", &before, "--output", "json"]).json();
    assert_eq!((older[0]["action"].as_str(), older[1].as_str()), (Some("created"), None));
    assert_eq!(older[0]["etag"], created["etag"]);
    assert!(!older.to_string().contains(key));
    drop(dev);
}
