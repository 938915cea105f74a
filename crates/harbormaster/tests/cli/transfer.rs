//! import and export: against a running `dev`, and against a service that gives up.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::command::{User, ended_with_input};
use crate::dev::Dev;
use crate::scripted_service::{Answer, Request, ScriptedService};

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn individual(id: &str) -> Value {
    let keys = json!({"primaryKey": KEY, "secondaryKey": KEY});
    json!({"registrationId": id, "attestation": {"type": "symmetricKey", "symmetricKey": keys}})
}

/// DPS-CLI-21, DPS-CLI-24: more than fill the requests that are under way at one time, and every key and member.
#[test]
fn what_was_exported_is_imported_elsewhere_with_its_keys() {
    let (from, to) = (User::new(), User::new());
    let (here, there) = (Dev::start(&from), Dev::start(&to));
    let mut lines = String::new();
    for number in 0..1_003 {
        let mut entry = individual(&format!("Press-{number:04}"));
        entry["deviceId"] = json!(format!("press#{number}"));
        entry["optionalDeviceInformation"] = json!({"n": number});
        writeln!(lines, "{entry}").unwrap();
    }
    let file = from.file("entries.jsonl", &lines);
    assert_eq!(from.run(&["enrollment", "import", &file]).done(), "1003 imported, 0 refused\n");
    from.run(&["enrollment-group", "create", "line-7"]).done();

    let exported = from.run(&["enrollment", "export", "--keys"]).done();
    assert_eq!(exported.lines().count(), 1_003);
    let imported = ended_with_input(&mut to.command(&["enrollment", "import", "-"]), &exported);
    assert_eq!(imported.done(), "1003 imported, 0 refused\n");
    let show = |user: &User| {
        let mut shown = user.run(&["enrollment", "show", "press-0777", "--keys", "--output", "json"]).json();
        for own in ["etag", "createdDateTimeUtc", "lastUpdatedDateTimeUtc"] {
            assert!(shown.as_object_mut().unwrap().remove(own).is_some());
        }
        shown
    };
    assert_eq!(show(&from), show(&to));
    assert_eq!(show(&to)["attestation"]["symmetricKey"]["primaryKey"], KEY);

    let groups = from.run(&["enrollment-group", "export", "--keys"]).done();
    let groups = to.file("groups.jsonl", groups);
    // `dev` has a sample group of its own there.
    to.run(&["enrollment-group", "import", &groups, "--skip-existing"]).done();
    let key = |user: &User| {
        let shown = user.run(&["enrollment-group", "show", "line-7", "--keys", "--output", "json"]).json();
        shown["attestation"].clone()
    };
    assert_eq!(key(&from), key(&to));
    drop((here, there));
}

/// DPS-CLI-21 to DPS-CLI-23: as `az` lists them, with what cannot be imported between what can.
#[test]
fn each_entry_that_is_refused_is_told_and_the_others_are_imported() {
    let user = User::new();
    let dev = Dev::start(&user);
    user.run(&["enrollment", "create", "press-1"]).done();
    let mut listed = individual("press-5");
    listed["etag"] = json!("IjAw");
    listed["registrationState"] = json!({"status": "assigned"});
    listed["attestation"]["tpm"] = json!(null);
    let keyless =
        json!({"registrationId": "press-6", "attestation": {"type": "symmetricKey", "symmetricKey": null}});
    let mut wrong = individual("press-7");
    wrong["iotHubs"] = json!(["nowhere.example"]);
    let entries = json!([
        individual("press-1"), {"attestation": {}}, individual("a b"), individual("press-4"), listed, keyless, wrong,
        individual("PRESS-4"), 7
    ]);
    let file = user.file("list.json", serde_json::to_string_pretty(&entries).unwrap());
    let ended = user.run(&["enrollment", "import", &file]);
    let told = [
        "entry 1: press-1: 409201",
        "entry 2: registrationId is missing",
        "entry 3: registrationId: ",
        "entry 6: press-6 has no keys",
        "entry 7: press-7: 400004 iotHubs[0]",
        "entry 8: PRESS-4: 409201",
        "entry 9: no entry",
        "2 imported, 7 refused",
    ];
    ended.failed(1, &told);

    let again = user.run(&["enrollment", "import", &file, "--skip-existing", "--new-keys", "--from", "4"]);
    again.failed(1, &["entry 7: press-7", "entry 9", "1 imported, 3 existed, 2 refused"]);
    let replaced = user.file("replace.jsonl", format!("{}\n", individual("press-1")));
    assert_eq!(user.run(&["enrollment", "import", &replaced, "--replace"]).done(), "1 imported, 0 refused\n");
    let shown = user.run(&["enrollment", "show", "press-1", "--keys", "--output", "json"]).json();
    assert_eq!(shown["attestation"]["symmetricKey"]["primaryKey"], KEY);
    user.run(&["enrollment", "import", "/nowhere/at/all"]).failed(64, &["/nowhere/at/all"]);
    drop(dev);
}

/// DPS-CLI-22
#[test]
fn an_import_that_the_service_ends_says_what_to_go_on_with() {
    let user = User::new();
    let service = ScriptedService::start(|_: &Request| Answer::refused(403_000, "no"));
    let lines: String = (0..25).map(|number| format!("{}\n", individual(&format!("d-{number}")))).collect();
    let file = user.file("entries.jsonl", lines);
    let ended = user.run_at(&service, &["enrollment", "import", &file, "--from", "3"]);
    ended.failed(77, &["EnrollmentWrite", "0 imported, 0 refused; go on with --from 3 --skip-existing"]);
    let service = ScriptedService::start(|_: &Request| Answer::refused(403_000, "no"));
    let ended = user.run_at(&service, &["enrollment", "import", &file, "--replace", "--new-keys"]);
    ended.failed(77, &["go on with --from 1 --replace --new-keys"]);
}

/// DPS-CLI-22
#[test]
fn an_import_sends_again_what_a_busy_service_has_no_time_for() {
    let user = User::new();
    let lines: String = (0..3).map(|number| format!("{}\n", individual(&format!("d-{number}")))).collect();
    let file = user.file("entries.jsonl", lines);
    let busy = || Answer::refused(429_001, "Later.").header("retry-after", 0);
    let exists = json!([{"registrationId": "d-1", "errorCode": 409_201, "errorStatus": "It exists."}]);
    let exists = Answer::json(json!({"isSuccessful": false, "errors": exists}));
    let service = ScriptedService::answering([busy(), busy(), exists]);
    let ended = user.run_at(&service, &["enrollment", "import", &file]);
    ended
        .failed(1, &["entry 2: d-1: 409201 It exists. Perhaps this import made it", "2 imported, 1 refused"]);
    let requests = service.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|request| request.body == requests[0].body));
}

/// DPS-CLI-22: whether it says so of a request or of an entry of it.
#[test]
fn an_import_ends_where_the_service_stays_busy() {
    let user = User::new();
    let lines: String = (0..3).map(|number| format!("{}\n", individual(&format!("d-{number}")))).collect();
    let file = user.file("entries.jsonl", lines);
    for code in [429_001, 503_000] {
        let busy = move || Answer::refused(code, "Later.").header("retry-after", 0);
        let of_one = json!([{"registrationId": "d-2", "errorCode": code, "errorStatus": "Later."}]);
        let of_one = Answer::json(json!({"isSuccessful": false, "errors": of_one}));
        let for_good = ScriptedService::start(move |_: &Request| busy());
        let at_last_of_one = ScriptedService::answering((0..9).map(|_| busy()).chain([of_one]));
        for service in [for_good, at_last_of_one] {
            let ended = user.run_at(&service, &["enrollment", "import", &file, "--from", "2"]);
            let code = code.to_string();
            let told =
                [&*code, "try again later", "0 imported, 0 refused; go on with --from 2 --skip-existing"];
            ended.failed(69, &told);
            assert_eq!(service.requests().len(), 10);
        }
    }
}

/// DPS-CLI-22: what no parser of the service takes, and what is larger than a request may be.
#[test]
fn an_entry_that_spoils_its_request_is_refused_alone() {
    let user = User::new();
    let dev = Dev::start(&user);
    let mut lines = String::new();
    for number in 0..10 {
        let entry = individual(&format!("d-{number}")).to_string();
        let entry = match number {
            3 => entry.replacen('{', r#"{"deviceId":"\ud800","#, 1),
            6 => {
                let twin = |text: &str| format!(r#"{{"initialTwin":{{"a":"{text}"}},"#);
                // It may be this large in a file, and not in a request.
                let room = 1024 * 1024 - entry.len() - twin("").len();
                entry.replacen('{', &twin(&"x".repeat(room)), 1)
            }
            8 => entry.replacen(
                '{',
                &format!(r#"{{"initialTwin":{{"a":{}{}}},"#, "[".repeat(200), "]".repeat(200)),
                1,
            ),
            _ => entry,
        };
        lines.push_str(&entry);
        lines.push('\n');
    }
    let file = user.file("entries.jsonl", lines);
    let ended = user.run(&["enrollment", "import", &file]);
    let told =
        ["entry 4: d-3: 400000", "entry 7: d-6: 413000", "entry 9: d-8: 400000", "7 imported, 3 refused"];
    ended.failed(1, &told);
    drop(dev);
}
