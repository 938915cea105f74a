//! Which service is asked, whom a command trusts, and what it says when neither works.

use crate::command::{User, ended};
use crate::scripted_service::{Answer, KEY, ScriptedService};

const SHOW: [&str; 3] = ["enrollment", "show", "press-7"];

fn named(id: &'static str) -> ScriptedService {
    ScriptedService::start(move |_| Answer::json(format!(r#"{{"registrationId":"{id}"}}"#)))
}

/// DPS-CLI-3
#[test]
fn an_option_comes_before_a_file_and_both_before_the_environment() {
    let user = User::new();
    let (by_option, by_file, by_environment) =
        (named("by-option"), named("by-file"), named("by-environment"));
    let file = user.file("connection-string", by_file.connection_string() + "\n");
    let shown = |service: &ScriptedService, options: &[&str]| {
        let arguments = [&SHOW[..], options].concat();
        let mut command = user.command(&arguments);
        command.env("HARBORMASTER_CONNECTION_STRING", by_environment.connection_string());
        command.env("HARBORMASTER_CA_FILE", service.ca_file());
        ended(&mut command).done()
    };
    let connection_string = by_option.connection_string();
    assert!(shown(&by_option, &["--connection-string", &connection_string]).contains("by-option"));
    assert!(shown(&by_file, &["--connection-string-file", &file]).contains("by-file"));
    assert!(shown(&by_environment, &[]).contains("by-environment"));
    let ca_file = by_file.ca_file();
    let options = ["--connection-string-file", &file, "--ca-file", ca_file.to_str().unwrap()];
    assert!(shown(&by_option, &options).contains("by-file"));
    let both = [&SHOW[..], &["--connection-string", "a", "--connection-string-file", "b"]].concat();
    user.run(&both).failed(64, &["--connection-string-file"]);
}

/// DPS-CLI-3
#[test]
fn without_a_service_a_command_says_how_to_name_one() {
    let user = User::new();
    let told = ["no `harbormaster dev` of this user is running", "--connection-string"];
    user.run(&SHOW).failed(64, &told);
    ended(user.command(&SHOW).env("HARBORMASTER_CONNECTION_STRING", "")).failed(64, &told);
}

/// DPS-CLI-4, DPS-CLI-15
#[test]
fn what_neither_the_system_nor_the_ca_file_knows_is_not_trusted() {
    let (user, service, other) = (User::new(), named("press-7"), named("other"));
    let mut command = user.command(&SHOW);
    command.env("HARBORMASTER_CONNECTION_STRING", service.connection_string());
    command.env("SSL_CERT_FILE", other.ca_file());
    ended(&mut command).failed(69, &["is not trusted", "--ca-file"]);
    ended(command.env("SSL_CERT_FILE", service.ca_file())).done();
    ended(command.env("HARBORMASTER_CA_FILE", other.ca_file())).failed(69, &["is not trusted", "--ca-file"]);
    ended(command.env("HARBORMASTER_CA_FILE", "/nowhere")).failed(64, &["HARBORMASTER_CA_FILE: /nowhere"]);
    assert_eq!(service.requests().len(), 1);
}

/// DPS-CLI-14, DPS-CLI-15
#[test]
fn a_service_that_is_not_there_or_does_not_know_the_key_is_told_apart() {
    let (user, service) = (User::new(), ScriptedService::start(|_| Answer::refused(401_002, "Unauthorized")));
    user.run_at(&service, &SHOW).failed(77, &["401002 Unauthorized", "check policy name and key"]);
    let nowhere = service.connection_string().replace(&service.port.to_string(), "1");
    let elsewhere = [&SHOW[..], &["--connection-string", &nowhere]].concat();
    user.run_at(&service, &elsewhere)
        .failed(69, &["cannot connect to localhost:1", "is the service running"]);
}

/// DPS-CLI-14, DPS-CLI-15
#[test]
fn what_is_no_provisioning_service_is_told_apart_too() {
    let user = User::new();
    let service = ScriptedService::answering([Answer::json("<html>"), Answer::json("<html>").status(502)]);
    user.run_at(&service, &SHOW).failed(69, &["not of the service API", "is this the HTTPS port"]);
    user.run_at(&service, &SHOW).failed(69, &["status 502 Bad Gateway", "try again later"]);
}

/// DPS-CLI-13
#[test]
fn no_message_holds_the_key() {
    let user = User::new();
    let service = ScriptedService::start(|_| Answer::refused(401_002, "Unauthorized"));
    let told = user.run_at(&service, &SHOW).err;
    assert!(!told.contains(&KEY[..8]), "{told}");
    for text in [
        format!("HostName=a;SharedAccessKeyName=b;{KEY}"),
        format!("HostName=a;SharedAccessKeyName=b;SharedAccessKey={KEY}?"),
        KEY.to_owned(),
    ] {
        let arguments = [&SHOW[..], &["--connection-string", &text]].concat();
        let ended = user.run(&arguments);
        assert!(!ended.err.contains(&KEY[..8]), "{}", ended.err);
        ended.failed(64, &["--connection-string: "]);
    }
}
