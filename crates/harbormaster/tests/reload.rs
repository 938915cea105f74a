//! What SIGHUP changes of the instances of a configuration. Spec: DPS-SERVE-15.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by failing")]

mod fleet;

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dps_client::device::FinalAnswer;
use dps_proto::key::SymmetricKey;
use fleet::{Fleet, OWNER_KEY};
use serde_json::Value;

const READ_AGAIN: &str = "service instances of the configuration read again";

/// The hub that a device was told.
fn hub(answer: &FinalAnswer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    body["registrationState"]["assignedHub"].as_str().unwrap().to_owned()
}

/// DPS-SERVE-15: keys are exchanged, and clients of the other key are served throughout.
#[tokio::test]
async fn a_new_key_counts_once_the_configuration_is_read_again() {
    let fleet = Fleet::new();
    let key = |byte: u8| SymmetricKey::from_bytes(vec![byte; 32]).unwrap();
    let (old, new): (SymmetricKey, _) = (OWNER_KEY.parse().unwrap(), key(9));
    fs::copy(fleet.path("owner.key"), fleet.path("second.key")).unwrap();
    let second = "primary_key_file = \"owner.key\"\nsecondary_key_file = \"second.key\"\n";
    let configuration = fleet.configuration().replace("primary_key_file = \"owner.key\"\n", second);
    let serving = fleet.serve(&configuration);
    assert_eq!(fleet.get_group(&serving, "dps-0.test", &old).await, 200);
    fs::write(fleet.path("owner.key"), STANDARD.encode(new.expose())).unwrap();
    assert_eq!(fleet.get_group(&serving, "dps-0.test", &new).await, 401);
    serving.signal("-HUP");
    serving.wait_for_line(READ_AGAIN);
    // The old key is the secondary still.
    for key in [&old, &new] {
        assert_eq!(fleet.get_group(&serving, "dps-0.test", key).await, 200);
    }
    fs::write(fleet.path("second.key"), STANDARD.encode(new.expose())).unwrap();
    serving.signal("-HUP");
    serving.wait_for_line(READ_AGAIN);
    assert_eq!(fleet.get_group(&serving, "dps-0.test", &old).await, 401);
    assert_eq!(fleet.get_group(&serving, "dps-0.test", &new).await, 200);
}

/// DPS-SERVE-15, DPS-INST-9
#[tokio::test]
async fn instances_and_hubs_come_and_go_with_the_configuration() {
    let fleet = Fleet::new();
    let owner: SymmetricKey = OWNER_KEY.parse().unwrap();
    let configuration = fleet.configuration();
    let serving = fleet.serve(&configuration);
    let before = fleet.register(&serving, 0, "a").await.unwrap();
    assert_eq!(hub(&before), "hub-0.test");

    let changed = configuration.replace("hub-0.test", "new.test").replace("dps-1.test", "other.test");
    fleet.write(&changed);
    serving.signal("-HUP");
    serving.wait_for_line(READ_AGAIN);
    let moved = fleet.register(&serving, 0, "a").await.unwrap();
    assert_eq!(hub(&moved), "new.test");
    assert_eq!(fleet.get_group(&serving, "dps-1.test", &owner).await, 404);
    assert_eq!(fleet.get_group(&serving, "other.test", &owner).await, 200);

    fleet.write(&changed.replace("name = \"new.test\"", "name = \"a b\""));
    serving.signal("-HUP");
    let told = serving.wait_for_line("could not be read again");
    assert!(
        told.contains("its service instances stay as they were") && told.contains("instance.hub.name"),
        "{told}"
    );
    assert_eq!(fleet.get_group(&serving, "other.test", &owner).await, 200);

    // What a configuration no longer has is the store's again, where `dev` left it.
    let (first, _) = changed.rsplit_once("[[instance]]").unwrap();
    fleet.write(first);
    serving.signal("-HUP");
    serving.wait_for_line(READ_AGAIN);
    assert_eq!(fleet.get_group(&serving, "other.test", &owner).await, 404);
    let theirs = fleet.register(&serving, 1, "b").await.unwrap();
    assert_eq!(hub(&theirs), "hub.localhost");
    assert!(serving.stop().success());
}
