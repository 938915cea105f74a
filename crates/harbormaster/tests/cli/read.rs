//! show and list: what is printed.

use serde_json::json;

use crate::command::User;
use crate::scripted_service::{Answer, Request, ScriptedService};

const ENTRY: &str = r#"{"registrationId":"press-7","attestation":{"type":"symmetricKey"},"n":1.10}"#;

/// Two pages, and one more that nobody should ask for.
fn paged() -> ScriptedService {
    ScriptedService::start(|request: &Request| match request.header("x-ms-continuation") {
        None => Answer::json(r#"[{"registrationId":"a","n":1.10},{"registrationId":"b"}]"#)
            .header("x-ms-continuation", "second"),
        Some("second") => Answer::json(r#"[{"registrationId":"c"}]"#).header("x-ms-continuation", "third"),
        _ => Answer::json("[]"),
    })
}

/// DPS-CLI-12
#[test]
fn json_is_what_the_service_said_byte_for_byte() {
    let service = ScriptedService::answering([Answer::json(ENTRY)]);
    let shown = User::new().run_at(&service, &["enrollment", "show", "press-7", "--output", "json"]);
    assert_eq!(shown.done(), format!("{ENTRY}\n"));
}

/// DPS-CLI-12, DPS-CLI-13
#[test]
fn keys_are_asked_for_only_where_they_are_wanted() {
    let service = ScriptedService::answering([Answer::json(ENTRY)]);
    let shown = User::new().run_at(&service, &["enrollment", "show", "press-7"]).done();
    assert_eq!(shown, "registration id    press-7\nattestation        symmetricKey\n");

    let keys =
        r#"{"type":"symmetricKey","symmetricKey":{"primaryKey":"first-key","secondaryKey":"second-key"}}"#;
    let service = ScriptedService::start(move |request| match request.line.starts_with("POST") {
        true => Answer::json(keys),
        false => Answer::json(ENTRY),
    });
    let user = User::new();
    let shown = user.run_at(&service, &["enrollment", "show", "press-7", "--keys"]).done();
    assert!(shown.contains("primary key        first-key\nsecondary key      second-key\n"), "{shown}");
    let shown =
        user.run_at(&service, &["enrollment", "show", "press-7", "--keys", "--output", "json"]).json();
    assert_eq!(shown["attestation"]["symmetricKey"]["primaryKey"], "first-key");
}

/// DPS-CLI-11, DPS-CLI-12
#[test]
fn a_list_is_one_array_or_one_table_over_all_pages() {
    let (user, service) = (User::new(), paged());
    let listed = user.run_at(&service, &["enrollment", "list", "--output", "json"]).done();
    assert!(listed.contains(r#"{"registrationId":"a","n":1.10}"#), "{listed}");
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed[2], json!({"registrationId": "c"}));
    let listed = user.run_at(&service, &["enrollment", "list"]).done();
    let lines: Vec<_> = listed.lines().collect();
    assert!(lines[0].starts_with("REGISTRATION ID  STATUS  ATTESTATION"), "{listed}");
    assert_eq!(lines[1..], ["a", "b", "c"]);
}

/// DPS-CLI-11
#[test]
fn a_limit_ends_a_list_and_the_pages_beyond_it_are_not_asked_for() {
    let service = paged();
    let listed =
        User::new().run_at(&service, &["enrollment-group", "list", "--limit", "2", "--output", "json"]);
    assert_eq!(listed.json().as_array().unwrap().len(), 2);
    assert_eq!(service.requests().len(), 1);
    assert_eq!(service.requests()[0].header("x-ms-max-item-count"), Some("2"));
}

/// DPS-CLI-12
#[test]
fn an_empty_list_is_an_empty_array() {
    let service = ScriptedService::start(|_| Answer::json("[]"));
    let arguments = ["registration", "list", "--enrollment-group", "line-7", "--output", "json"];
    assert_eq!(User::new().run_at(&service, &arguments).done(), "[]\n");
    assert_eq!(service.requests()[0].line, "POST /registrations/line-7/query?api-version=2021-10-01");
}

/// DPS-CLI-12
#[test]
fn a_record_says_what_became_of_the_device() {
    let record = json!({"registrationId": "press-7", "status": "failed", "errorCode": 401001, "errorMessage": "IoTHub not found."});
    let service = ScriptedService::answering([Answer::json(record)]);
    let shown = User::new().run_at(&service, &["registration", "show", "press-7"]).done();
    let expected = "registration id    press-7\nstatus             failed\nerror              401001\nbecause            IoTHub not found.\n";
    assert_eq!(shown, expected);
}

/// DPS-CLI-14, DPS-CLI-15
#[test]
fn what_is_not_there_says_where_to_look() {
    for (noun, code, list) in [
        ("enrollment", 404_201, "`harbormaster enrollment list`"),
        ("enrollment-group", 404_204, "`harbormaster enrollment-group list`"),
        ("registration", 404_202, "`harbormaster registration list --enrollment-group ID`"),
    ] {
        let service = ScriptedService::answering([Answer::refused(code, "Not found.")]);
        let told =
            format!("{noun} press-7: {code} Not found. (trackingId a-tracking-id); list them with {list}");
        User::new().run_at(&service, &[noun, "show", "press-7"]).failed(66, &[&told]);
    }
}

/// DPS-CLI-12: as `head` leaves.
#[test]
fn who_reads_only_the_first_lines_has_got_what_he_wanted() {
    let service = paged();
    let mut process = User::new().command_at(&service, &["enrollment", "list"]).spawn().unwrap();
    drop(process.stdout.take());
    let output = process.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}
