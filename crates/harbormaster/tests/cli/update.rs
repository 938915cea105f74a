//! update and delete: what changes, and under which condition.

use serde_json::json;

use crate::command::User;
use crate::scripted_service::{Answer, ScriptedService};

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// As the service gives it: with what it owns, and with a member that nobody here knows.
const ENTRY: &str = r#"{"attestation":{"type":"symmetricKey"},"createdDateTimeUtc":"2026-01-01T00:00:00.0000000Z","customFutureField":{"n":1.10},"etag":"IjEi","lastUpdatedDateTimeUtc":"2026-01-01T00:00:00.0000000Z","provisioningStatus":"enabled","registrationId":"press-7","registrationState":{"status":"assigned"}}"#;

const WRITTEN: &str = r#"{"registrationId":"press-7","attestation":{"type":"symmetricKey","symmetricKey":{"primaryKey":"first-key"}}}"#;

fn lines(service: &ScriptedService) -> Vec<String> {
    let path = |line: String| line.trim_end_matches("?api-version=2021-10-01").to_owned();
    service.requests().into_iter().map(|request| path(request.line)).collect()
}

/// DPS-CLI-9, DPS-CLI-12
#[test]
fn an_update_changes_what_was_given_and_only_if_nobody_else_did_meanwhile() {
    let service = ScriptedService::answering([Answer::json(ENTRY), Answer::json(WRITTEN)]);
    let out = User::new().run_at(&service, &["enrollment", "update", "press-7", "--disabled"]).done();
    assert_eq!(lines(&service), ["GET /enrollments/press-7", "PUT /enrollments/press-7"]);
    let put = &service.requests()[1];
    assert_eq!(put.header("if-match"), Some("IjEi"));
    assert_eq!(
        put.text,
        r#"{"attestation":{"type":"symmetricKey"},"customFutureField":{"n":1.10},"provisioningStatus":"disabled","registrationId":"press-7"}"#
    );
    assert!(!out.contains("first-key"), "{out}");
}

/// DPS-CLI-9
#[test]
fn an_update_of_nothing_asks_for_nothing() {
    let service = ScriptedService::start(|_| Answer::json(ENTRY));
    let user = User::new();
    user.run_at(&service, &["enrollment", "update", "press-7"]).failed(64, &["nothing to change"]);
    user.run_at(&service, &["enrollment-group", "update", "a", "--force"]).failed(64, &["nothing to change"]);
    assert!(service.requests().is_empty());
}

/// DPS-CLI-9
#[test]
fn the_condition_can_be_an_etag_of_ones_own_or_none() {
    for (option, condition) in [("--etag=IjIi", "IjIi"), ("--force", "*")] {
        let service = ScriptedService::answering([Answer::json(ENTRY), Answer::json(WRITTEN)]);
        User::new().run_at(&service, &["enrollment", "update", "press-7", "--enabled", option]).done();
        assert_eq!(service.requests()[1].header("if-match"), Some(condition));
    }
    User::new().run(&["enrollment", "update", "press-7", "--force", "--etag", "a"]).failed(64, &["--force"]);
}

/// DPS-CLI-9: a service could make a key that is left out anew.
#[test]
fn a_key_alone_is_exchanged_beside_the_other_one() {
    let user = User::new();
    let key = user.file("key", KEY);
    let keys = r#"{"type":"symmetricKey","symmetricKey":{"primaryKey":"old","secondaryKey":"kept"}}"#;
    let answers = [ENTRY, keys, WRITTEN].map(Answer::json);
    let service = ScriptedService::answering(answers);
    user.run_at(&service, &["enrollment", "update", "press-7", "--primary-key-file", &key]).done();
    assert_eq!(
        lines(&service),
        [
            "GET /enrollments/press-7",
            "POST /enrollments/press-7/attestationmechanism",
            "PUT /enrollments/press-7"
        ]
    );
    let put = &service.requests()[2].body;
    assert_eq!(put["attestation"]["symmetricKey"], json!({"primaryKey": KEY, "secondaryKey": "kept"}));
}

/// DPS-CLI-9
#[test]
fn a_file_that_was_read_from_the_service_carries_its_own_condition() {
    let user = User::new();
    let known = user.file("known.json", ENTRY);
    let service = ScriptedService::answering([Answer::json(WRITTEN)]);
    let ended = user.run_at(&service, &["enrollment", "update", "--file", &known, "--output", "json"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(lines(&service), ["PUT /enrollments/press-7"]);
    assert_eq!(service.requests()[0].header("if-match"), Some("IjEi"));

    let bare = user.file("bare.json", r#"{"attestation":{"type":"symmetricKey"}}"#);
    let service = ScriptedService::answering([Answer::json(ENTRY), Answer::json(WRITTEN)]);
    user.run_at(&service, &["enrollment", "update", "press-7", "--file", &bare]).done();
    let put = &service.requests()[1];
    assert_eq!(
        (put.header("if-match"), &*put.text),
        (Some("IjEi"), r#"{"attestation":{"type":"symmetricKey"}}"#)
    );
}

/// DPS-CLI-9, DPS-CLI-14, DPS-CLI-15
#[test]
fn a_change_in_between_is_told_apart_from_other_failures() {
    let service =
        ScriptedService::answering([Answer::json(ENTRY), Answer::refused(412_001, "ETag mismatch")]);
    User::new()
        .run_at(&service, &["enrollment-group", "update", "line-7", "--disabled"])
        .failed(75, &["412001 ETag mismatch", "harbormaster enrollment-group show line-7", "--force"]);
}

/// DPS-CLI-10
#[test]
fn a_delete_has_a_condition_only_where_it_is_given() {
    let user = User::new();
    let service = ScriptedService::start(|_| Answer::deleted());
    for arguments in [
        &["enrollment", "delete", "press-7"][..],
        &["enrollment-group", "delete", "line-7", "--etag", "IjEi"],
        &["registration", "delete", "press-7", "--etag", "IjIi"],
    ] {
        assert_eq!(user.run_at(&service, arguments).done(), "");
    }
    assert_eq!(
        lines(&service),
        ["DELETE /enrollments/press-7", "DELETE /enrollmentGroups/line-7", "DELETE /registrations/press-7"]
    );
    let requests = service.requests();
    let conditions: Vec<_> = requests.iter().map(|request| request.header("if-match")).collect();
    assert_eq!(conditions, [None, Some("IjEi"), Some("IjIi")]);
}
