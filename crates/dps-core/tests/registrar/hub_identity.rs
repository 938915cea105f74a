//! What a hub is given. Spec: DPS-REG-17, DPS-STORE-5.

use dps_core::enrollment::{Attestation, IndividualEnrollment, TwinDocument};
use dps_core::ports::HubAuthentication;
use dps_core::registration::HubCredential;
use dps_proto::key::KeyPair;

use crate::common::desk::{Desk, assigned};
use crate::common::entries::{AnyEntry, group, individual, keyed, keys};
use crate::common::hubs::local;

const NORTH: &str = "north.example";

fn desk() -> Desk {
    Desk::new(vec![local(NORTH)])
}

/// DPS-REG-17
#[test]
fn a_device_of_its_own_entry_gets_both_keys_of_that_entry() {
    let desk = desk();
    desk.put_individual(individual("press-1"));
    let (_, record) = desk.accepted(&desk.signed("press-1", &keys("press-1").secondary));
    assert_eq!(assigned(&record.state).0.credential, HubCredential::EnrollmentKeys);
    check_keys(&desk, "press-1", &keys("press-1"));
}

/// DPS-REG-17: over the spelling that verified, so that the device's own key is good at its hub.
#[test]
fn a_device_of_a_group_gets_keys_derived_from_both_group_keys_with_the_spelling_that_verified() {
    for spelling in ["Line-1", "line-1"] {
        let desk = desk();
        desk.put_group(group("alpha"));
        let device = desk.signed("Line-1", &keys("alpha").secondary.derive(spelling));
        let (_, record) = desk.accepted(&device);
        let expected = HubCredential::DerivedKeys { spelling: spelling.into() };
        assert_eq!(assigned(&record.state).0.credential, expected);
        check_keys(&desk, "Line-1", &keys("alpha").derive(spelling));
    }
}

/// DPS-REG-17
#[test]
fn the_keys_at_the_hub_are_refreshed_at_each_registration() {
    let desk = desk();
    desk.put_individual(individual("press-1"));
    desk.put_group(group("alpha"));
    let (_, first) = desk.accepted(&desk.by_own_key("press-1"));
    let before = desk.accepted(&desk.by_group("Line-1", "alpha")).1;
    desk.step_clock(60);

    let renewed = Attestation::SymmetricKey(keys("renewed"));
    desk.put_individual(IndividualEnrollment { attestation: renewed, ..individual("press-1") });
    check_keys(&desk, "press-1", &keys("press-1"));
    desk.accepted(&desk.signed("press-1", &keys("renewed").primary));
    check_keys(&desk, "press-1", &keys("renewed"));
    let stored = desk.hub_device(NORTH, "press-1").unwrap();
    assert_eq!((stored.created_at, stored.updated_at), (first.created_at, desk.clock.get().0));

    desk.put_group(keyed(group("alpha"), "renewed"));
    let (_, after) = desk.accepted(&desk.by_group("line-1", "renewed"));
    check_keys(&desk, "Line-1", &keys("renewed").derive("line-1"));
    // Another spelling verified this time: the record says so, and the device is the same.
    assert_eq!(assigned(&after.state).0.device_id, assigned(&before.state).0.device_id);
    assert_eq!(assigned(&after.state).0.credential, HubCredential::DerivedKeys { spelling: "line-1".into() });
}

/// DPS-REG-17
#[test]
fn a_hub_is_given_what_the_entry_says_of_a_new_device() {
    let desk = desk();
    let twin = TwinDocument(r#"{"tags":{"line":7}}"#.into());
    let mut entry = individual("press-1");
    entry.settings().initial_twin = Some(twin.clone());
    entry.settings().iot_edge = true;
    desk.put_individual(entry.clone());
    desk.accepted(&desk.by_own_key("press-1"));
    let given = desk.hub_device(NORTH, "press-1").unwrap().device;
    assert_eq!((given.hub.as_str(), given.registration_id.as_str()), (NORTH, "press-1"));
    assert_eq!((given.iot_edge, given.initial_twin), (true, Some(twin.clone())));

    entry.settings().initial_twin = Some(TwinDocument("{}".into()));
    desk.put_individual(entry);
    desk.accepted(&desk.by_own_key("press-1"));
    let given = desk.hub_device(NORTH, "press-1").unwrap().device;
    assert_eq!(given.initial_twin, Some(twin), "the twin it has is left alone");
}

/// DPS-REG-17: an entry that is disabled or has no hub gives nobody an identity.
#[test]
fn a_device_that_is_not_assigned_has_no_identity() {
    let desk = desk();
    desk.put_group(group("alpha").disabled());
    desk.told_disabled(&desk.by_group("line-1", "alpha"));
    desk.put_group(group("alpha").at_hubs(&["unlinked.example"]));
    desk.accepted(&desk.by_group("line-1", "alpha"));
    assert!(desk.hub_device(NORTH, "line-1").is_none());
}

#[track_caller]
fn check_keys(desk: &Desk, device_id: &str, expected: &KeyPair) {
    let HubAuthentication::Keys(given) = desk.hub_device(NORTH, device_id).unwrap().device.authentication
    else {
        panic!("a certificate")
    };
    assert_eq!(given.primary.expose(), expected.primary.expose());
    assert_eq!(given.secondary.expose(), expected.secondary.expose());
}
