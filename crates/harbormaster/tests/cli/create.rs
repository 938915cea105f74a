//! create: what is sent, and what never is.

use serde_json::{Value, json};

use crate::command::{User, ended_with_input};
use crate::scripted_service::{Answer, Request, ScriptedService};

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// Answers with what was sent, and keys where they are missing.
fn creating() -> ScriptedService {
    ScriptedService::start(|request: &Request| {
        let mut entry = request.body.clone();
        if entry["attestation"]["type"] == "symmetricKey" {
            entry["attestation"]["symmetricKey"] =
                json!({"primaryKey": "first-key", "secondaryKey": "second-key"});
        }
        Answer::json(entry)
    })
}

#[track_caller]
fn only(service: &ScriptedService) -> Request {
    let requests = service.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    requests[0].clone()
}

/// DPS-CLI-8, DPS-CLI-12
#[test]
fn a_new_enrollment_needs_nothing_but_its_id_and_its_keys_are_printed() {
    let service = creating();
    let out = User::new().run_at(&service, &["enrollment", "create", "press-7"]).done();
    let request = only(&service);
    assert_eq!(request.line, "PUT /enrollments/press-7?api-version=2021-10-01");
    assert_eq!(request.header("if-match"), None);
    assert_eq!(request.body, json!({"registrationId": "press-7", "attestation": {"type": "symmetricKey"}}));
    assert!(out.contains("primary key        first-key\nsecondary key      second-key\n"), "{out}");
}

/// DPS-CLI-8
#[test]
fn every_option_becomes_its_member() {
    let (user, service) = (User::new(), creating());
    let (key, twin) = (user.file("key", KEY), user.file("twin.json", r#"{"tags":{"n":1.10}}"#));
    #[rustfmt::skip]
    let arguments = [
        "enrollment", "create", "press-7", "--device-id", "press#7", "--primary-key-file", &key,
        "--hub", "one.test", "--hub", "two.test", "--allocation-policy", "custom", "--webhook-url", "https://web.test",
        "--reprovision", "never", "--initial-twin", &twin, "--edge", "--disabled",
    ];
    user.run_at(&service, &arguments).done();
    let request = only(&service);
    assert!(request.text.contains(r#""initialTwin":{"tags":{"n":1.10}}"#), "{}", request.text);
    assert_eq!(
        request.body,
        json!({
            "registrationId": "press-7",
            "deviceId": "press#7",
            "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": KEY}},
            "iotHubs": ["one.test", "two.test"],
            "allocationPolicy": "custom",
            "customAllocationDefinition": {"webhookUrl": "https://web.test", "apiVersion": "2021-10-01"},
            "reprovisionPolicy": {"updateHubAssignment": false, "migrateDeviceData": false},
            "initialTwin": serde_json::from_str::<Value>(r#"{"tags": {"n": 1.10}}"#).unwrap(),
            "capabilities": {"iotEdge": true},
            "provisioningStatus": "disabled",
        })
    );
}

/// DPS-CLI-8
#[test]
fn the_credentials_given_tell_the_attestation() {
    let user = User::new();
    let certificate = rcgen::generate_simple_self_signed(vec!["press-7".to_owned()]).unwrap().cert;
    let (pem, der) = (user.file("pem", certificate.pem()), user.file("der", certificate.der()));
    let sent = |arguments: &[&str]| -> Value {
        let service = creating();
        user.run_at(&service, arguments).done();
        only(&service).body
    };
    let body = sent(&["enrollment", "create", "a", "--certificate", &pem, "--secondary-certificate", &der]);
    let x509 = &body["attestation"]["x509"]["clientCertificates"];
    assert_eq!(body["attestation"]["type"], "x509");
    assert!(x509["primary"]["certificate"].as_str().unwrap().starts_with("MII"), "{x509}");
    assert_eq!(x509["primary"], x509["secondary"]);
    let body = sent(&["enrollment-group", "create", "a", "--attestation", "x509", "--certificate", &pem]);
    assert_eq!(body["enrollmentGroupId"], "a");
    assert_eq!(body["attestation"]["x509"]["signingCertificates"]["primary"], x509["primary"]);
    let body = sent(&["enrollment", "create", "a", "--endorsement-key", "AToAAQ=="]);
    assert_eq!(body["attestation"], json!({"type": "tpm", "tpm": {"endorsementKey": "AToAAQ=="}}));
    let body = sent(&["enrollment-group", "create", "line-7", "--registration-id-prefix", "line-7-"]);
    assert_eq!(body["registrationIdPrefix"], "line-7-");
}

/// DPS-CLI-8
#[test]
fn a_whole_body_comes_from_a_file_or_standard_input_and_options_change_it() {
    let (user, service) = (User::new(), creating());
    let body = r#"{"registrationId":"Press-7","attestation":{"type":"tpm","tpm":{"endorsementKey":"a"}},"customFutureField":1.10}"#;
    let mut command =
        user.command_at(&service, &["enrollment", "create", "--file", "-", "--disabled", "--output", "json"]);
    let ended = ended_with_input(&mut command, body);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.err.contains("customFutureField: no such member is known"), "{}", ended.err);
    assert_eq!(only(&service).line, "PUT /enrollments/Press-7?api-version=2021-10-01");
    assert_eq!(
        only(&service).text,
        r#"{"attestation":{"type":"tpm","tpm":{"endorsementKey":"a"}},"customFutureField":1.10,"provisioningStatus":"disabled","registrationId":"Press-7"}"#
    );
}

/// DPS-CLI-8
#[test]
fn a_misspelt_member_of_a_file_is_told() {
    let (user, service) = (User::new(), creating());
    let file = user.file("body.json", r#"{"registrationId":"a","provisioningstatus":"disabled"}"#);
    let ended = user.run_at(&service, &["enrollment", "create", "--file", &file]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(
        ended.err.contains("provisioningstatus: no such member is known; did you mean provisioningStatus?"),
        "{}",
        ended.err
    );
    assert_eq!(only(&service).body["provisioningstatus"], "disabled");
}

/// DPS-CLI-14: what cannot be asked is not asked.
#[test]
fn options_that_do_not_go_together_end_before_a_request() {
    let (user, service) = (User::new(), creating());
    let (key, file) = (user.file("key", KEY), user.file("body.json", r#"{"registrationId":"a"}"#));
    let broken = user.file("broken", "almost a key");
    let rows: [(&[&str], &str); 9] = [
        (&["enrollment", "create"], "give its id, or --file"),
        (&["enrollment", "create", "b", "--file", &file], "registrationId of --file is a"),
        (&["enrollment", "create", "a!"], "'!'"),
        (&["enrollment", "create", "a", "--attestation", "x509"], "give --certificate"),
        (
            &["enrollment", "create", "a", "--attestation", "tpm", "--primary-key-file", &key],
            "--primary-key-file is for",
        ),
        (&["enrollment", "create", "a", "--certificate", &key], "it holds no certificate"),
        (&["enrollment", "create", "a", "--primary-key-file", &broken], "--primary-key-file"),
        (&["enrollment", "create", "a", "--allocation-policy", "custom"], "give --webhook-url"),
        (&["enrollment-group", "create", "a", "--attestation", "tpm"], "symmetric-key"),
    ];
    for (arguments, told) in rows {
        user.run_at(&service, arguments).failed(64, &[told]);
    }
    assert!(service.requests().is_empty());
}

/// DPS-CLI-8, DPS-CLI-14, DPS-CLI-15
#[test]
fn what_exists_is_not_changed() {
    let service = ScriptedService::answering([Answer::refused(409_201, "Enrollment already exists.")]);
    let told = ["409201 Enrollment already exists. (trackingId a-tracking-id)", "enrollment update press-7"];
    User::new().run_at(&service, &["enrollment", "create", "press-7"]).failed(73, &told);
    assert_eq!(only(&service).header("if-match"), None);
}
