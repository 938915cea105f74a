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

    from.run(&["enrollment", "export", "--after", "press-9"]).failed(66, &["nothing was exported"]);
    for keys in [&[][..], &["--keys"]] {
        let rest = [&["enrollment", "export", "--after", "press-0999"], keys].concat();
        let rest = from.run(&rest).done();
        assert_eq!(rest.lines().count(), 3, "of the ids from Press-1000 on");
        assert!(rest.lines().next().unwrap().contains("Press-1000"), "{rest}");
    }

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

/// DPS-CLI-25 to DPS-CLI-28: with members that mean nothing here, and ids that a spreadsheet would run.
#[test]
fn a_table_of_entries_is_imported_elsewhere_as_it_was() {
    let (from, to) = (User::new(), User::new());
    let (here, there) = (Dev::start(&from), Dev::start(&to));
    let mut odd = individual("-press-1");
    odd["deviceId"] = json!("=1+1");
    odd["customFutureField"] = json!({"n": [1.5, null, {"deep, \"quoted\"\r\n": "é"}]});
    odd["initialTwin"] = json!({"tags": {}, "properties": {"desired": {"text": "a,b\nc"}, "reported": {}}});
    odd["capabilities"] = json!({"iotEdge": true});
    let certificate = rcgen::generate_simple_self_signed(["press-3".to_owned()]).unwrap().cert.pem();
    let certified = json!({
        "registrationId": "press-3", "provisioningStatus": "disabled",
        "attestation": {"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": certificate}}}},
    });
    let lines = format!("{odd}\n{}\n{certified}\n", individual("press-2"));
    from.run(&["enrollment", "import", &from.file("entries.jsonl", lines)]).done();
    let mut group = individual("x");
    group["registrationId"].take();
    group["enrollmentGroupId"] = json!("line-8");
    group["registrationIdPrefix"] = json!("line-8-");
    from.run(&["enrollment-group", "import", &from.file("groups.jsonl", format!("{group}\n"))]).done();

    let show = |user: &User, noun: &str, id: &str| {
        let mut shown = user.run(&[noun, "show", "--keys", "--output", "json", "--", id]).json();
        for own in ["etag", "createdDateTimeUtc", "lastUpdatedDateTimeUtc"] {
            assert!(shown.as_object_mut().unwrap().remove(own).is_some());
        }
        shown
    };
    let table = from.run(&["enrollment", "export", "--keys", "--format", "csv"]).done();
    assert!(table.starts_with("registrationId,deviceId,provisioningStatus,attestation.type,"), "{table}");
    assert!(table.contains(&format!("\n'-press-1,'=1+1,enabled,symmetricKey,{KEY},{KEY},")), "{table}");
    // What the service tells of a certificate keeps it where there is one, and makes none where there is not.
    let again = ended_with_input(
        &mut from.command(&["enrollment", "import", "-", "--format=csv", "--replace"]),
        &table,
    );
    assert_eq!(again.done(), "3 imported, 0 refused\n");
    let file = to.file("entries.CSV", &table);
    let refused = "entry 4: press-3: 400004 attestation.x509.clientCertificates.primary.certificate";
    to.run(&["enrollment", "import", &file]).failed(1, &[refused, "2 imported, 1 refused"]);
    for id in ["-press-1", "press-2"] {
        assert_eq!(show(&to, "enrollment", id), show(&from, "enrollment", id));
    }
    assert_eq!(show(&to, "enrollment", "-press-1")["deviceId"], "=1+1");
    assert_eq!(show(&to, "enrollment", "-press-1")["customFutureField"], odd["customFutureField"]);

    let groups = from.run(&["enrollment-group", "export", "--keys", "--format", "csv"]).done();
    let imported = to.run(&["enrollment-group", "import", &to.file("groups.csv", groups), "--skip-existing"]);
    // `dev` has two sample groups of its own there.
    assert_eq!(imported.done(), "1 imported, 2 existed, 0 refused\n");
    assert_eq!(show(&to, "enrollment-group", "line-8"), show(&from, "enrollment-group", "line-8"));
    drop((here, there));
}

/// DPS-CLI-22, DPS-CLI-25, DPS-CLI-26: as a spreadsheet saves it, with rows that cannot be imported between those that can.
#[test]
fn each_row_that_is_refused_is_told_by_its_line() {
    let user = User::new();
    let dev = Dev::start(&user);
    let certificate = rcgen::generate_simple_self_signed(["d-2".to_owned()]).unwrap().cert.pem();
    let lines_of_certificate = certificate.lines().count();
    let certificate = certificate.replace('\n', "\r\n");
    let table = format!(
        "\u{feff}attestation.type,registrationId,attestation.x509.clientCertificates.primary.certificate,capabilities.iotEdge\r\n\
         x509,d-2,\"{certificate}\",TRUE\r\n,,,\r\nx509,d-3,none,\r\nx509,d-4\r\nx509,d \"5\",,\r\nx509,d-6,\"{}\",\r\n\
         x509,D-2,\"{certificate}\",FALSE\r\nx509,d-8,,perhaps\r\n",
        "x".repeat(1024 * 1024),
    );
    let file = user.file("entries.csv", &table);
    // The quoted cell ends with a line end of its own.
    let line = |row: usize| row + lines_of_certificate;
    let told = [
        format!("entry {}: d-3: 400004 attestation.x509.clientCertificates.primary.certificate", line(4)),
        format!("entry {}: it has 2 cells, and the first line names 4 columns", line(5)),
        format!("entry {}: line {}: a quote stands in a cell", line(6), line(6)),
        format!("entry {}: it is larger than 1048576 bytes", line(7)),
        format!("entry {}: D-2: 409201", line(8)),
        format!("entry {}: capabilities.iotEdge: no JSON", line(8) + lines_of_certificate + 1),
        "1 imported, 6 refused".to_owned(),
    ];
    user.run(&["enrollment", "import", &file]).failed(1, &told.each_ref().map(String::as_str));
    let shown = user.run(&["enrollment", "show", "d-2", "--output", "json"]).json();
    assert_eq!(
        (&shown["capabilities"]["iotEdge"], &shown["attestation"]["type"]),
        (&json!(true), &json!("x509"))
    );
    let from = line(8).to_string();
    let rest = user.run(&["enrollment", "import", &file, "--from", &from, "--skip-existing"]);
    rest.failed(1, &["0 imported, 1 existed, 1 refused"]);

    let misspelt = user.file("misspelt.csv", "registrationId,attestation.typ\nd-9,symmetricKey\n");
    let told =
        ["misspelt.csv: column 2, attestation.typ: no such column is known; did you mean attestation.type?"];
    user.run(&["enrollment", "import", &misspelt, "--new-keys"]).failed(64, &told);
    user.run(&["enrollment", "show", "d-9"]).failed(66, &[]);
    drop(dev);
}

/// DPS-CLI-22, DPS-CLI-25: the line to go on with is that where a row begins.
#[test]
fn an_import_of_rows_that_the_service_ends_says_what_to_go_on_with() {
    let user = User::new();
    let service = ScriptedService::start(|_: &Request| Answer::refused(403_000, "no"));
    let table = "registrationId,attestation.type,initialTwin.tags\nd-1,tpm,\"{\n}\"\nd-2,tpm,\n";
    let mut command =
        user.command_at(&service, &["enrollment", "import", "-", "--format", "csv", "--from", "3"]);
    let ended = ended_with_input(&mut command, table);
    ended.failed(77, &["0 imported, 0 refused; go on with --from 4 --skip-existing --format csv"]);
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

/// DPS-CLI-24
#[test]
fn an_export_that_the_service_ends_says_what_to_go_on_with() {
    let entry = |id: &str| json!({"registrationId": id, "attestation": {"type": "tpm"}});
    let page = json!([entry("a-1"), entry("B-2")]).to_string();
    let service =
        ScriptedService::start(move |request: &Request| match request.header("x-ms-continuation") {
            None => Answer::json(&page).header("x-ms-continuation", "next"),
            Some(_) => Answer::refused(503_000, "down"),
        });
    let user = User::new();
    let ended = user.run_at(&service, &["enrollment", "export"]);
    assert_eq!((ended.code, ended.out.lines().count()), (69, 2), "{}", ended.err);
    assert!(ended.err.contains("go on with --after B-2"), "{}", ended.err);
    let ended = user.run_at(&service, &["enrollment", "export", "--after", "A-1"]);
    assert_eq!((ended.code, ended.out.lines().count()), (69, 1), "{}", ended.err);
}
