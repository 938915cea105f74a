//! `backup`, `restore` and `migrate` beside a running `serve`. Spec: DPS-CLI-34 to DPS-CLI-36.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by failing")]

mod fleet;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use fleet::{Fleet, harbormaster};

fn run(arguments: &[&str]) -> Output {
    harbormaster().args(arguments).output().unwrap()
}

#[track_caller]
fn done(output: &Output, expected: &[&str]) {
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    for expected in expected {
        assert!(told.contains(expected), "{expected:?} in:\n{told}");
    }
}

#[track_caller]
fn failed(output: &Output, code: i32, expected: &str) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{told}");
    assert!(told.contains(expected), "{expected:?} in:\n{told}");
}

/// DPS-CLI-34, DPS-CLI-35, DPS-STORE-30, DPS-STORE-31
#[tokio::test]
async fn a_backup_of_a_running_service_serves_its_devices_elsewhere() {
    let fleet = Fleet::new();
    let configuration = fleet.configuration();
    let elsewhere = configuration.replace("data_dir = \"data\"", "data_dir = \"elsewhere\"");
    let serving = fleet.serve(&configuration);
    let before = fleet.register(&serving, 0, "press-7").await.unwrap();
    let [file, backup] = [fleet.path("harbormaster.toml"), fleet.path("backup.db")];
    let [file, backup] = [file.to_str().unwrap(), backup.to_str().unwrap()];

    let made = run(&["backup", "--config", file, "--to", backup]);
    let lines = ["instances:               2", "enrollment groups:       4", "registration records:    1"];
    done(&made, &lines);
    let key = fleet.path("data/sealing.key").display().to_string();
    done(&made, &["NOT in it: the sealing key ", &format!("keep a copy of {key} apart from it")]);
    assert_eq!(fs::metadata(backup).unwrap().permissions().mode() & 0o777, 0o600);
    failed(&run(&["backup", "--config", file, "--to", backup]), 73, "is there already");
    failed(&run(&["restore", "--from", backup, "--config", file, "--force"]), 64, "stop the server first");

    fleet.write(&elsewhere);
    let no_store = fleet.path("none.db");
    failed(
        &run(&["backup", "--config", file, "--to", no_store.to_str().unwrap()]),
        66,
        "there is no store at",
    );
    done(&run(&["restore", "--from", backup, "--config", file]), &lines);
    failed(&run(&["restore", "--from", backup, "--config", file]), 73, "--force moves it aside");
    assert!(serving.stop().success());
    let serving = fleet.serve(&elsewhere);
    let after = fleet.register(&serving, 0, "press-7").await.unwrap();
    let made_at = |answer: &dps_client::device::FinalAnswer| {
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        body["registrationState"]["createdDateTimeUtc"].clone()
    };
    assert_eq!(made_at(&after), made_at(&before), "its record is the same");
    assert!(serving.stop().success());
    done(&run(&["restore", "--from", backup, "--config", file, "--force"]), &["is now ", ".replaced-"]);
}

/// DPS-CLI-35
#[test]
fn a_backup_is_restored_only_where_the_key_opens_it() {
    let fleet = Fleet::new();
    let path = |name: &str| fleet.path(name).display().to_string();
    let (data, backup, other) = (path("data"), path("backup.db"), path("other"));
    done(&run(&["backup", "--data-dir", &data, "--to", &backup]), &["instances:               2"]);

    let restore = ["restore", "--from", &backup, "--data-dir", &other];
    failed(&run(&restore), 64, "the sealing key that the store was made with is needed");
    let owner = path("owner.key");
    let with_another = [&restore[..], &["--sealing-key-file", &owner]].concat();
    failed(&run(&with_another), 64, "find the key that the store was made with");
    assert!(!fleet.path("other/store.db").exists());
    let key = path("data/sealing.key");
    done(&run(&[&restore[..], &["--sealing-key-file", &key]].concat()), &["restored to ", "other/store.db"]);
    failed(&run(&["restore", "--from", &other, "--data-dir", &data, "--force"]), 66, "there is no backup at");
    failed(&run(&["backup", "--to", &path("b.db")]), 64, "--config FILE for that of `serve`");

    // The rest of a configuration may be at hand for the service alone.
    let configuration =
        "[store]\ndata_dir = \"data\"\nsealing_key_file = \"$CREDENTIALS_DIRECTORY/sealing\"\n";
    let file = fleet.write(configuration).display().to_string();
    done(&run(&["backup", "--config", &file, "--to", &path("b.db")]), &["instances:               2"]);
    let refused = run(&["restore", "--from", &backup, "--config", &file, "--force"]);
    failed(&refused, 64, "harbormaster.toml:3:20: store.sealing_key_file: ");
}

/// DPS-CLI-36, DPS-STORE-7
#[test]
fn tables_are_brought_to_the_newest_version_and_only_looked_at_with_check() {
    let fleet = Fleet::new();
    let file = fleet.write(&fleet.configuration()).display().to_string();
    let check = ["migrate", "--config", &file, "--check"];
    done(&run(&check), &["store.db: version ", ", which is the newest"]);
    done(&run(&check[..3]), &["nothing was to be done"]);
    let serving = fleet.serve(&fleet.configuration());
    done(&run(&check), &["which is the newest"]);
    failed(&run(&check[..3]), 64, "stop the server first");
    assert!(serving.stop().success());

    let new = fleet.path("new").display().to_string();
    let check = ["migrate", "--data-dir", &new, "--check"];
    let to_do = run(&check);
    assert!(to_do.status.code() == Some(1) && to_do.stderr.is_empty(), "{to_do:?}");
    assert!(!fleet.path("new").exists());
    done(&run(&check[..3]), &["made, of version "]);
    assert_eq!(run(&check).status.code(), Some(0));
    fs::write(fleet.path("new/store.db"), "no database at all, and no store").unwrap();
    failed(&run(&check), 69, "store.db: the file is damaged, or no SQLite database");
    failed(&run(&check[..3]), 1, "store.db: the file is damaged, or no SQLite database");
}
