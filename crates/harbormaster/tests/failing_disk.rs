//! A running `serve` whose disk is full, damaged or read-only. Spec: DPS-SERVE-18, DPS-SERVE-19.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by failing")]

mod fleet;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::mpsc;

use dps_client::device::{FinalAnswer, RegisterError};
use fleet::{Fleet, OWNER_KEY, Serving, harbormaster};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

const PAGE_BYTES: usize = 4_096;

/// Bytes that each file of the process may have, from now on. Files that reach it are to their writer what a full disk is, and no
/// right or mount is needed for it.
fn limit_files(serving: &Serving, bytes: Option<u64>) {
    let pid = Pid::from_raw(serving.pid().try_into().unwrap());
    prlimit(pid, Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
}

/// Status and retry-after of each answer to a device that registers until it has a final one.
async fn hear(
    fleet: &Fleet,
    serving: &Serving,
    id: &str,
    heard: mpsc::Sender<String>,
) -> Result<FinalAnswer, RegisterError> {
    let enrolled = &fleet.instances[0];
    let hear = |topic: &str| {
        let (answer, parameters) = topic.rsplit_once("/?").unwrap();
        let status = answer.rsplit_once('/').unwrap().1;
        let retry_after = parameters.split_once("retry-after=").map_or("none", |(_, after)| after);
        heard.send(format!("{status}, {retry_after}")).unwrap();
    };
    fleet.register_heard(serving, &enrolled.id_scope, &enrolled.device_key(id), id, hear).await
}

/// DPS-SERVE-18, DPS-STORE-32, DPS-METRICS-4
#[tokio::test]
async fn while_nothing_can_be_written_devices_are_told_to_come_again_and_are_served_once_it_can() {
    let fleet = Fleet::new();
    let owner = OWNER_KEY.parse().unwrap();
    let serving = fleet.serve(&fleet.configuration());
    let store = fleet.path("data/store.db").display().to_string();
    let assigned = fleet.register(&serving, 0, "before").await.unwrap().outcome().unwrap();
    assert_eq!(assigned.status.as_deref(), Some("assigned"));
    assert_eq!(serving.readiness().0, 200);

    limit_files(&serving, Some(0));
    let (heard, answers) = mpsc::channel();
    let during = hear(&fleet, &serving, "during", heard);
    let mended = async {
        let told = tokio::task::spawn_blocking(move || (answers.recv().unwrap(), answers)).await.unwrap();
        let (status, body) = serving.readiness();
        assert!(status == 503 && body.contains(&format!("{store}: it cannot be written")), "{status} {body}");
        // What can be read is.
        assert_eq!(fleet.get_group(&serving, "dps-0.test", &owner).await, 200);
        limit_files(&serving, None);
        told
    };
    let (registered, (first, answers)) = tokio::join!(during, mended);
    assert_eq!(first, "503, 3");
    let registered = registered.unwrap().outcome().unwrap();
    assert_eq!(registered.status.as_deref(), Some("assigned"), "{registered:?}");
    let rest: Vec<_> = answers.iter().collect();
    assert_eq!(rest, ["202, 3", "200, none"], "never assigned before it could be written");
    assert_eq!(serving.readiness().0, 200);

    let log = serving.stop_for_log();
    let lines = |text: &str| log.iter().filter(|line| line.contains(text)).collect::<Vec<_>>();
    let told = lines("the store cannot write");
    assert!(told.len() == 1 && told[0].contains("ERROR") && told[0].contains(&store), "{log:#?}");
    assert_eq!(lines("the store writes again").len(), 1, "{log:#?}");
    let refused = lines("request refused");
    assert!(refused.len() == 1 && refused[0].contains(&store) && refused[0].contains("503000"), "{log:#?}");
}

/// Writes over the head of each page that holds `text`, and of no other.
fn damage_pages_with(file: &Path, text: &str) {
    let mut bytes = fs::read(file).unwrap();
    let mut damaged = 0;
    for page in bytes.chunks_mut(PAGE_BYTES).skip(1) {
        if page.windows(text.len()).any(|window| window == text.as_bytes()) {
            page[..64].fill(0xFF);
            damaged += 1;
        }
    }
    assert!(damaged > 0, "{text:?} stands nowhere");
    fs::write(file, bytes).unwrap();
}

/// DPS-SERVE-18, DPS-STORE-33
#[tokio::test]
async fn a_device_whose_record_is_damaged_is_never_told_that_it_is_assigned() {
    let fleet = Fleet::new();
    let owner = OWNER_KEY.parse().unwrap();
    let store = fleet.path("data/store.db");
    let serving = fleet.serve(&fleet.configuration());
    fleet.register(&serving, 0, "press-7-of-many").await.unwrap();
    assert!(serving.stop().success());
    damage_pages_with(&store, "press-7-of-many");

    let serving = fleet.serve(&fleet.configuration());
    let (heard, answers) = mpsc::channel();
    // It would ask again and again.
    let asks = hear(&fleet, &serving, "press-7-of-many", heard);
    let first = tokio::task::spawn_blocking(move || answers.recv().unwrap());
    let first = tokio::select! {
        first = first => first.unwrap(),
        answered = asks => panic!("{answered:?}"),
    };
    assert_eq!(first, "500, 3");
    assert_eq!(serving.readiness().0, 200, "others are served");
    assert_eq!(fleet.get_group(&serving, "dps-0.test", &owner).await, 200);
    let log = serving.stop_for_log();
    let told = log.iter().find(|line| line.contains("the store is damaged")).unwrap();
    let expected = format!("{}: a page of it is damaged", store.display());
    assert!(told.contains("ERROR") && told.contains(&expected), "{told}");
}

#[track_caller]
fn check_not_started(output: &Output, code: i32, expected: &[&str]) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{told}");
    for expected in expected {
        assert!(told.contains(expected), "{expected:?} in:\n{told}");
    }
}

/// The binary with these arguments, by way of `sh`, which runs `before`. Without the right that lets root write everything.
fn bound_by_rights(before: &str, arguments: &[&str]) -> Command {
    let binary = harbormaster();
    let is_root = rustix::process::geteuid().is_root();
    let without = if is_root { "setpriv --inh-caps=-dac_override --bounding-set=-dac_override " } else { "" };
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("{before} exec {without}\"$@\""))
        .arg("sh")
        .arg(binary.get_program())
        .args(arguments);
    command
}

/// DPS-SERVE-19, DPS-STORE-34
#[test]
fn a_store_that_cannot_be_used_is_told_at_the_start() {
    let fleet = Fleet::new();
    let configuration = fleet.write(&fleet.configuration());
    let arguments = ["serve", "--config", configuration.to_str().unwrap()];
    let start = |before: &str| bound_by_rights(before, &arguments).output().unwrap();
    let store = fleet.path("data/store.db");
    let named = store.display().to_string();

    // A limit of no bytes, and none for the log, which is a pipe.
    check_not_started(&start("ulimit -f 0;"), 1, &["data/lock: File too large"]);

    fs::set_permissions(&store, Permissions::from_mode(0o400)).unwrap();
    check_not_started(&start(""), 1, &[&named, "this process may not write the file"]);
    fs::set_permissions(&store, Permissions::from_mode(0o600)).unwrap();

    fs::set_permissions(fleet.path("data"), Permissions::from_mode(0o500)).unwrap();
    check_not_started(&start(""), 1, &[&named, "this process may not write it: look at the rights"]);
    fs::set_permissions(fleet.path("data"), Permissions::from_mode(0o700)).unwrap();

    let good = fs::read(&store).unwrap();
    let mut damaged = good.clone();
    damaged[..PAGE_BYTES].fill(0xFF);
    fs::write(&store, &damaged).unwrap();
    check_not_started(&start(""), 1, &[&named, "the file is damaged", "put a backup in its place"]);

    // What is damaged further on is not the sealing key's fault.
    fs::write(&store, &good).unwrap();
    damage_pages_with(&store, "0neaaaa0001");
    check_not_started(&start(""), 1, &[&named, "a page of it is damaged: put a backup in its place"]);
}
