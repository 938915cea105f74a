//! `harbormaster serve` from outside. Spec: DPS-SERVE-1 to DPS-SERVE-14.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by failing")]

mod fleet;

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use dps_core::access::SharedAccessPolicy;
use dps_proto::key::SymmetricKey;
use dps_proto::sas::sign_service_token;
use fleet::{Fleet, Serving, harbormaster};
use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

fn hub(answer: &dps_client::device::FinalAnswer) -> String {
    let outcome = answer.outcome().unwrap();
    assert_eq!(outcome.status.as_deref(), Some("assigned"), "{outcome:?}");
    outcome.registration_state.unwrap().assigned_hub.unwrap()
}

#[track_caller]
fn check_refused(output: &Output, expected: &str) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{told}");
    assert!(told.contains(expected), "{expected:?} in:\n{told}");
    assert_eq!(output.stdout, b"");
}

/// DPS-SERVE-1, DPS-SERVE-12, DPS-SERVE-13
#[tokio::test]
async fn devices_of_two_instances_register_and_are_found_again_after_a_restart() {
    let fleet = Fleet::new();
    let serving = fleet.serve(&fleet.configuration());
    assert_eq!(serving.ready["idScopes"], json!(["0neAAAA0001", "0neBBBB0002"]));
    for member in ["mqtt", "https"] {
        assert_eq!(serving.ready[member][0]["address"], "127.0.0.1", "{}", serving.ready);
        assert_ne!(serving.ready[member][0]["port"], 0, "{}", serving.ready);
    }
    let token_file = serving.ready["admin"]["tokenFile"].as_str().unwrap();
    assert!(fs::read_to_string(token_file).unwrap().len() >= 32);

    for (instance, expected) in [(0, "hub-0.test"), (1, "hub-1.test")] {
        let answer = fleet.register(&serving, instance, "press-7").await.unwrap();
        assert_eq!(hub(&answer), expected);
    }
    // The key of a device of one instance opens nothing in the other.
    let key = fleet.instances[1].device_key("press-8");
    let other = fleet.register_with(&serving, &fleet.instances[0].id_scope, &key, "press-8");
    assert_eq!(other.await.unwrap().outcome().unwrap().error_code, Some(401_002));
    assert!(serving.stop().success());

    let serving = fleet.serve(&fleet.configuration());
    let answer = fleet.register(&serving, 0, "press-7").await.unwrap();
    assert_eq!(hub(&answer), "hub-0.test");
    assert!(serving.stop().success());
}

/// DPS-SERVE-1, DPS-SERVE-5: by its host name, with the key from the file; each has a group of its own.
#[tokio::test]
async fn the_service_api_of_each_instance_answers_to_its_own_name_and_key() {
    let fleet = Fleet::new();
    let configuration = fleet.configuration().replacen("owner.key", "other.key", 1);
    fs::copy(fleet.path("owner.key"), fleet.path("other.key")).unwrap();
    fs::write(fleet.path("other.key"), "b3RoZXJvdGhlcm90aGVyb3RoZXI=").unwrap();
    let serving = fleet.serve(&configuration);
    let other: SymmetricKey = "b3RoZXJvdGhlcm90aGVyb3RoZXI=".parse().unwrap();
    let owner: SymmetricKey = fleet::OWNER_KEY.parse().unwrap();
    for (host, key, status) in [
        ("dps-0.test", &other, 200),
        ("dps-1.test", &owner, 200),
        ("dps-1.test", &other, 401),
        ("dps-2.test", &owner, 404),
    ] {
        assert_eq!(fleet.get_group(&serving, host, key).await, status, "{host}");
    }
    assert!(serving.stop().success());
}

/// DPS-SERVE-13: half a head holds nothing up, and a request that lacks its body does until the second signal.
#[tokio::test]
async fn a_second_signal_ends_what_the_first_waits_for() {
    let fleet = Fleet::new();
    let serving = fleet.serve(&fleet.configuration());
    let tls = TlsConnector::from(dps_client::tls::trusting(&fleet.path("data/ca.pem")).unwrap());
    let connect = async |text: &[u8]| {
        let tcp = TcpStream::connect(("127.0.0.1", serving.https_port())).await.unwrap();
        let mut stream = tls.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap();
        stream.write_all(text).await.unwrap();
        stream
    };
    let mut half = connect(b"GET /enrollments/a HTTP/1.1\r\nHo").await;
    let owner = fleet::OWNER_KEY.parse().unwrap();
    let expiry = Timestamp::now() + SignedDuration::from_hours(1);
    let token = sign_service_token("dps-0.test", SharedAccessPolicy::OWNER, &owner, expiry);
    let asks = format!(
        "PUT /enrollments/a?api-version=2021-10-01 HTTP/1.1\r\nhost: dps-0.test\r\nauthorization: {token}\r\n\
         content-length: 9\r\nexpect: 100-continue\r\n\r\n"
    );
    let mut waits = connect(asks.as_bytes()).await;
    let mut told = [0; 12];
    waits.read_exact(&mut told).await.unwrap();
    assert_eq!(&told, b"HTTP/1.1 100");
    serving.signal("-TERM");
    // While the other is still waited for: the service has not ended.
    let mut said = Vec::new();
    let cut = half.read_to_end(&mut said).await;
    assert!(said.is_empty() && cut.is_err_and(|why| why.kind() == ErrorKind::UnexpectedEof), "{said:?}");
    let log = serving.stop_for_log();
    assert!(log.iter().any(|line| line.contains("stopped again")), "{log:#?}");
}

/// DPS-SERVE-12
#[test]
fn the_log_tells_where_it_listens() {
    let fleet = Fleet::new();
    let serving = fleet.serve(&fleet.configuration());
    let port = serving.mqtt_port();
    let log = serving.stop_for_log();
    let line = format!("listener=mqtt address=127.0.0.1:{port}");
    assert!(log.iter().any(|told| told.contains(&line)), "{line} in {log:#?}");
}

/// DPS-SERVE-2, DPS-SERVE-3
#[test]
fn a_configuration_with_faults_is_refused_before_anything_begins() {
    let fleet = Fleet::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let configuration = fleet
        .configuration()
        .replace("127.0.0.1:0", &format!("127.0.0.1:{port}"))
        .replace("data_dir = \"data\"", "data_dir = \"elsewhere\"\nkindd = \"sqlite\"")
        .replace("kind = \"local\"", "kind = \"lokal\"");
    let file = fleet.path("harbormaster.toml").display().to_string();
    let refused = fleet.refused(&configuration);
    check_refused(&refused, "kindd: there is no such key (did you mean kind?)");
    let told = String::from_utf8(refused.stderr).unwrap();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 5, "{told}");
    for (line, place) in lines.iter().zip([
        "3:10: listen.https",
        "4:9: listen.admin",
        "10:1: store.kindd",
        "20:8: instance.hub.kind",
        "30:8: instance.hub.kind",
    ]) {
        assert!(line.starts_with(&format!("{file}:{place}: ")), "{line} at {place}");
    }
    assert!(!fleet.path("elsewhere").exists());

    let checked = harbormaster().args(["config", "check", "--config", &file]).output().unwrap();
    check_refused(&checked, &told);
}

/// DPS-SERVE-2
#[test]
fn a_configuration_that_is_not_there_is_refused() {
    let output = harbormaster().args(["serve", "--config", "/nonexistent/h.toml"]).output().unwrap();
    check_refused(&output, "/nonexistent/h.toml: --config: the file cannot be read");
}

/// DPS-SERVE-2
#[test]
fn a_configuration_that_is_no_text_is_told_with_its_place() {
    let fleet = Fleet::new();
    let file = fleet.path("harbormaster.toml");
    fs::write(&file, b"[log]\nlevel = \"caf\xe9\"\n").unwrap();
    let output = harbormaster().args(["config", "check", "--config"]).arg(&file).output().unwrap();
    check_refused(&output, "harbormaster.toml:2:13: TOML: what stands here is not UTF-8");
}

/// DPS-SERVE-2, DPS-SERVE-8
#[test]
fn a_good_configuration_is_summed_up_and_shown_as_one_that_reads_the_same() {
    let fleet = Fleet::new();
    let file = fleet.write(&fleet.configuration());
    let config = |command: &str, file: &Path| {
        let output = harbormaster().args(["config", command, "--config"]).arg(file).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(
        config("check", &file),
        "ok: 2 instances (0neAAAA0001, 0neBBBB0002), 2 hubs, 1 certificate, 3 listeners\n"
    );
    let shown = config("show", &file);
    assert!(!shown.contains(fleet::OWNER_KEY), "{shown}");
    let again = fleet.path("again.toml");
    fs::write(&again, &shown).unwrap();
    assert_eq!(config("show", &again), shown);
}

/// DPS-SERVE-12
#[test]
fn an_address_in_use_is_told_with_its_place() {
    let fleet = Fleet::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let configuration = fleet.configuration().replacen("127.0.0.1:0", &address, 1);
    check_refused(
        &fleet.refused(&configuration),
        &format!("harbormaster.toml:2:9: listen.mqtt: cannot listen on {address}: Address already in use"),
    );
}

/// DPS-SERVE-13
#[test]
fn a_store_that_was_sealed_with_another_key_is_refused() {
    let fleet = Fleet::new();
    let configuration = fleet.configuration().replace("data/sealing.key", "owner.key");
    check_refused(&fleet.refused(&configuration), "harbormaster.toml:10:20: store.sealing_key: ");
}

/// DPS-SERVE-14, DPS-INST-1
#[test]
fn an_instance_of_the_store_that_is_not_named_is_warned_of() {
    let fleet = Fleet::new();
    let configuration = fleet.configuration().replace("0neBBBB0002", "0neCCCC0003");
    let serving = fleet.serve(&configuration);
    // `dev` has left the settings of both, and one of them is the configuration's now.
    let told = serving.wait_for_line("do not count");
    assert!(told.contains("the configuration has the service instance 0neAAAA0001"), "{told}");
    assert_eq!(serving.ready["idScopes"], json!(["0neAAAA0001", "0neBBBB0002", "0neCCCC0003"]));
    serving.stop();
    let serving = fleet.serve(&fleet.configuration());
    let told = serving.wait_for_line("the store holds");
    let expected = "the service instance 0neCCCC0003, which has no settings: its devices are refused";
    assert!(told.contains("WARN") && told.contains(expected), "{told}");
    assert_eq!(serving.ready["idScopes"], json!(["0neAAAA0001", "0neBBBB0002"]));
    let rest = serving.stop_for_log();
    assert!(!rest.iter().any(|line| line.contains("the store holds")), "{rest:#?}");
}

/// DPS-SERVE-9
#[tokio::test]
async fn a_json_log_is_one_object_a_line_with_its_fields_at_the_top() {
    let fleet = Fleet::new();
    let serving = fleet.serve(&(fleet.configuration() + "[log]\nformat = \"json\"\n"));
    let stranger = SymmetricKey::from_bytes(vec![7; 32]).unwrap();
    let refused = fleet.register_with(&serving, &fleet.instances[0].id_scope, &stranger, "stranger-1").await;
    let tracking_id = refused.unwrap().outcome().unwrap().tracking_id.unwrap();
    let log = serving.stop_for_log();
    let lines: Vec<Value> = log
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}")))
        .collect();
    for line in &lines {
        for member in ["timestamp", "level", "message"] {
            assert!(line[member].is_string(), "{member} in {line}");
        }
    }
    let refusal = lines.iter().find(|line| line["tracking_id"] == *tracking_id);
    assert_eq!(refusal.unwrap()["registration_id"], "stranger-1", "{lines:#?}");
}

/// DPS-SERVE-9
#[test]
fn a_filter_that_cannot_be_read_is_refused_and_one_that_is_probably_not_meant_is_warned_of() {
    let fleet = Fleet::new();
    let file = fleet.write(&fleet.configuration());
    let command = |filter: &str| {
        let mut command = harbormaster();
        command.env("HARBORMASTER_LOG", filter).args(["serve", "--output", "json", "--config"]).arg(&file);
        command
    };
    check_refused(&command("dps_server=loud").output().unwrap(), "HARBORMASTER_LOG=dps_server=loud: ");
    let log = Serving::start(command("inof")).stop_for_log();
    assert!(log.len() == 1 && log[0].contains("\"inof\" is no level"), "{log:?}");
}

/// DPS-SERVE-9
#[test]
fn dev_logs_json_lines_where_it_is_told_to() {
    let mut command = harbormaster();
    command.args([
        "dev",
        "--output",
        "json",
        "--mqtt-port",
        "0",
        "--https-port",
        "0",
        "--log-format",
        "json",
    ]);
    for line in Serving::start(command).stop_for_log() {
        assert!(serde_json::from_str::<Value>(&line).unwrap()["message"].is_string(), "{line}");
    }
}

/// DPS-SERVE-11: what a supervisor does, with the socket as file descriptor 3.
#[tokio::test]
async fn a_socket_that_was_passed_on_is_served() {
    let fleet = Fleet::new();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let activated = |name: &str, socket: TcpListener| {
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec 3<&0 </dev/null; exec \"$0\" serve --output json --config \"$1\""])
            .arg(env!("CARGO_BIN_EXE_harbormaster"))
            .arg(fleet.write(&fleet.configuration().replacen("127.0.0.1:0", "127.0.0.1:1", 1)))
            .env("LISTEN_FDS", "1")
            .env("LISTEN_FDNAMES", name)
            .stdin(OwnedFd::from(socket));
        command
    };
    let serving = Serving::start(activated("mqtt", socket));
    assert_eq!(serving.ready["mqtt"], json!([{"address": "127.0.0.1", "port": port}]));
    assert_eq!(hub(&fleet.register(&serving, 1, "press-7").await.unwrap()), "hub-1.test");
    assert!(serving.stop().success());

    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    check_refused(&activated("smtp", socket).output().unwrap(), "(named \"smtp\") is none of [listen]");
}

/// DPS-SERVE-10
#[test]
fn the_supervisor_is_told_what_happens() {
    let fleet = Fleet::new();
    let path = fleet.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let wait_for = |wanted: &str| {
        let mut buffer = [0; 1_024];
        loop {
            let length = socket.recv(&mut buffer).unwrap_or_else(|why| panic!("{wanted}: {why}"));
            let told = String::from_utf8_lossy(&buffer[..length]);
            if told.lines().any(|line| line == wanted) {
                return told.into_owned();
            }
        }
    };
    let mut command = harbormaster();
    command
        .args(["serve", "--output", "json", "--config"])
        .arg(fleet.write(&fleet.configuration()))
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "200000");
    let serving = Serving::start(command);
    wait_for("READY=1");
    wait_for("WATCHDOG=1");
    wait_for("WATCHDOG=1");
    serving.signal("-HUP");
    assert!(wait_for("RELOADING=1").contains("MONOTONIC_USEC="));
    wait_for("READY=1");
    serving.signal("-TERM");
    wait_for("STOPPING=1");
    assert!(serving.stop().success());
}

/// DPS-SERVE-6: by the name that the client asks for, and anew after SIGHUP.
#[tokio::test]
async fn a_client_gets_the_certificate_of_its_name() {
    let fleet = Fleet::new();
    let make = |name: &str| {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        fs::write(fleet.path(&format!("{name}.pem")), made.cert.pem()).unwrap();
        fs::copy(fleet.path("server.key"), fleet.path(&format!("{name}.key"))).unwrap();
        fs::write(fleet.path(&format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
    };
    let mut configuration = fleet.configuration();
    for name in ["dps-0.test", "dps-1.test"] {
        make(name);
        configuration.push_str(&format!(
            "[[tls.certificate]]\nchain_file = \"{name}.pem\"\nkey_file = \"{name}.key\"\n"
        ));
    }
    let serving = fleet.serve(&configuration);
    // Trusts the certificate of that name and no other.
    let connect = async |name: &'static str| {
        let tls = dps_client::tls::trusting(&fleet.path(&format!("{name}.pem"))).unwrap();
        let tcp = tokio::net::TcpStream::connect(("127.0.0.1", serving.mqtt_port())).await.unwrap();
        let name = ServerName::try_from(name).unwrap();
        TlsConnector::from(Arc::clone(&tls)).connect(name, tcp).await
    };
    connect("dps-0.test").await.unwrap();
    connect("dps-1.test").await.unwrap();

    make("dps-1.test");
    assert!(connect("dps-1.test").await.is_err());
    serving.signal("-HUP");
    serving.wait_for_line("certificates read again");
    connect("dps-1.test").await.unwrap();

    fs::write(fleet.path("dps-1.test.key"), "no key").unwrap();
    serving.signal("-HUP");
    serving.wait_for_line("the old ones stay");
    connect("dps-1.test").await.unwrap();

    // Nor is it exchanged for what a start would refuse, or for what clients do.
    make("dps-1.test");
    fs::set_permissions(fleet.path("dps-1.test.key"), Permissions::from_mode(0o644)).unwrap();
    serving.signal("-HUP");
    let told = serving.wait_for_line("the old ones stay");
    assert!(told.contains("others than its owner have rights to the file (its mode is 0644)"), "{told}");
    fs::set_permissions(fleet.path("dps-1.test.key"), Permissions::from_mode(0o600)).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["dps-2.test".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2020, 2, 2);
    fs::write(fleet.path("dps-1.test.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(fleet.path("dps-1.test.key"), key.serialize_pem()).unwrap();
    serving.signal("-HUP");
    let told = serving.wait_for_line("the old ones stay");
    assert!(told.contains("expired at 2020-02-02"), "{told}");

    params.not_after = rcgen::date_time_ymd(2090, 2, 2);
    fs::write(fleet.path("dps-1.test.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    serving.signal("-HUP");
    serving.wait_for_line("no certificate carries the name dps-1.test");
    serving.wait_for_line("certificates read again");
    assert!(serving.stop().success());

    // A start has nothing better to serve, and says so.
    params.not_after = rcgen::date_time_ymd(2020, 2, 2);
    fs::write(fleet.path("dps-1.test.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    let told = fleet.serve(&configuration).wait_for_line("a certificate of the chain expired at 2020-02-02");
    assert!(told.contains("ERROR"), "{told}");
}

/// DPS-SERVE-8: the example that operators begin with.
#[test]
fn the_example_passes_with_keys_from_the_environment() {
    let fleet = Fleet::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dist/harbormaster.toml");
    let example = fs::read_to_string(example).unwrap();
    fs::create_dir_all(fleet.path("tls")).unwrap();
    for kind in ["ecdsa", "rsa"] {
        for ending in ["pem", "key"] {
            let from = fleet.path(&format!("data/server-{kind}.{ending}"));
            fs::copy(from, fleet.path(&format!("tls/{kind}.{ending}"))).unwrap();
        }
    }
    let mut text = example.clone();
    for name in ["sealing", "owner-primary", "owner-secondary"] {
        let key = match name {
            "sealing" => "sealing_key",
            "owner-primary" => "primary_key",
            _ => "secondary_key",
        };
        let variable = key.to_uppercase();
        text = text.replace(
            &format!("{key}_file = \"$CREDENTIALS_DIRECTORY/{name}\""),
            &format!("{key}_env = \"{variable}\""),
        );
    }
    assert!(!text.contains("$CREDENTIALS_DIRECTORY"), "{text}");
    let key = fleet::OWNER_KEY;
    let check = |text: &str, variables: &[(&str, &str)]| {
        let mut command = harbormaster();
        command.args(["config", "check", "--config"]).arg(fleet.write(text));
        let output = command.envs(variables.iter().copied()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    check(&text, &[("SEALING_KEY", key), ("PRIMARY_KEY", key), ("SECONDARY_KEY", key)]);

    // And as it stands, with the credentials where systemd puts them.
    let credentials = fleet.path("credentials");
    fs::create_dir(&credentials).unwrap();
    for name in ["sealing", "owner-primary", "owner-secondary"] {
        fs::write(credentials.join(name), key).unwrap();
    }
    check(&example, &[("CREDENTIALS_DIRECTORY", credentials.to_str().unwrap())]);
}
