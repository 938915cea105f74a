//! Who proves to be the device. Spec: DPS-REG-1, DPS-REG-6, DPS-REG-7, DPS-SAS-3, DPS-SAS-6 to DPS-SAS-9.

use dps_core::attestation::{Credential, DeviceClaim};
use dps_core::refusal::{Refusal, Unproven};
use dps_proto::key::SymmetricKey;
use dps_proto::sas::MalformedToken;

use crate::common::certificates::Authority;
use crate::common::desk::{Desk, accepted, groups_tried};
use crate::common::entries::{
    AnyEntry, SCOPE, client, group, group_ref, individual, individual_by, individual_ref, keys, signed, tpm,
    with_password,
};
use crate::common::hubs::local;

fn desk() -> Desk {
    let desk = Desk::new(vec![local("north.example")]);
    desk.put_group(group("alpha"));
    desk
}

/// DPS-REG-1
#[test]
fn an_individual_enrollment_decides_before_any_group() {
    let desk = desk();
    desk.put_individual(individual("press-1"));
    let (_, record) = desk.accepted(&desk.by_own_key("press-1"));
    assert_eq!(record.entry, individual_ref("press-1"));
    let by_group = desk.by_group("press-1", "alpha");
    assert_eq!(desk.unproven(&by_group), Unproven::WrongKey(individual_ref("press-1")));
}

/// DPS-REG-1
#[test]
fn an_individual_enrollment_for_a_certificate_refuses_a_token_that_a_group_would_take() {
    let desk = desk();
    desk.put_individual(individual_by("press-1", client(&Authority::root("Plant CA").certificate)));
    let by_group = desk.by_group("press-1", "alpha");
    assert_eq!(desk.unproven(&by_group), Unproven::CertificateWanted(individual_ref("press-1")));
}

/// DPS-REG-7
#[test]
fn an_individual_enrollment_for_a_tpm_refuses_every_other_credential() {
    let desk = desk();
    desk.put_individual(individual_by("press-1", tpm()));
    for device in
        [desk.by_group("press-1", "alpha"), with_password("press-1", "secret"), without_credential("press-1")]
    {
        let refused = desk.register(&device);
        assert!(matches!(refused, Err(Refusal::TpmWanted)), "{refused:?}");
        let refused = desk.poll(&device, "5.");
        assert!(matches!(refused, Err(Refusal::TpmWanted)), "{refused:?}");
    }
    assert!(desk.record("press-1").is_none());
}

/// DPS-SAS-8
#[test]
fn both_keys_of_an_individual_enrollment_are_equally_good() {
    let desk = desk();
    desk.put_individual(individual("press-1"));
    for key in [keys("press-1").primary, keys("press-1").secondary] {
        desk.accepted(&desk.signed("press-1", &key));
    }
}

/// DPS-SAS-7, DPS-SAS-8
#[test]
fn a_key_derived_from_a_group_is_tried_over_the_id_as_presented_and_in_lower_case() {
    check_derived("Line-1", &keys("alpha").primary.derive("Line-1"), true);
    check_derived("Line-1", &keys("alpha").secondary.derive("Line-1"), true);
    check_derived("Line-1", &keys("alpha").primary.derive("line-1"), true);
    check_derived("Line-1", &keys("alpha").secondary.derive("line-1"), true);
    check_derived("Line-1", &keys("alpha").primary.derive("LINE-1"), false);
    check_derived("line-1", &keys("alpha").primary.derive("Line-1"), false);
    check_derived("Line-1", &keys("alpha").primary.derive("Line-2"), false);
    check_derived("Line-1", &keys("beta").primary.derive("Line-1"), false);
}

#[track_caller]
fn check_derived(id: &str, key: &SymmetricKey, is_good: bool) {
    let desk = desk();
    let device = desk.signed(id, key);
    if is_good {
        assert_eq!(desk.accepted(&device).1.entry, group_ref("alpha"));
    } else {
        assert_eq!(groups_tried(desk.unproven(&device)), Some(1));
    }
}

/// DPS-SAS-9
#[test]
fn a_group_key_used_directly_is_refused_and_the_group_named() {
    let desk = desk();
    desk.put_group(group("beta").disabled());
    for name in ["alpha", "beta"] {
        for key in [keys(name).primary, keys(name).secondary] {
            let why = desk.unproven(&desk.signed("line-1", &key));
            assert_eq!(why, Unproven::GroupKeyUsedDirectly(name.parse().unwrap()));
        }
    }
    assert!(desk.record("line-1").is_none());
}

/// DPS-SAS-9: also by a device that has come in by that group before.
#[test]
fn a_known_device_that_turns_to_the_group_key_is_told_from_one_with_a_wrong_key() {
    let desk = desk();
    desk.accepted(&desk.by_group("line-1", "alpha"));
    let why = desk.unproven(&desk.signed("line-1", &keys("alpha").primary));
    assert_eq!(why, Unproven::GroupKeyUsedDirectly("alpha".parse().unwrap()));
}

/// DPS-REG-1, DPS-SAS-1, DPS-SAS-3, DPS-SAS-6: what is wrong with a token itself is said whatever the entries are.
#[test]
fn what_is_no_good_token_is_refused_before_any_key_is_tried() {
    let desk = desk();
    desk.put_individual(individual("press-1"));
    let now = desk.clock.get();
    for id in ["press-1", "line-1"] {
        let key = keys("press-1").primary;
        check_refused(&desk, &without_credential(id), &Unproven::NoCredential);
        check_refused(&desk, &with_password(id, "secret"), &Unproven::Malformed(MalformedToken::Scheme));
        let for_another = DeviceClaim { registration_id: id.parse().unwrap(), ..desk.by_own_key("press-2") };
        let other_resource = Unproven::OtherResource {
            received: format!("{SCOPE}%2Fregistrations%2Fpress-2"),
            expected: format!("{SCOPE}/registrations/{id}"),
        };
        check_refused(&desk, &for_another, &other_resource);
        let expired = Unproven::Expired { expired_at: now.after(-301), judged_at: now.0 };
        check_refused(&desk, &signed(id, &key, now.after(-301)), &expired);
    }
}

#[track_caller]
fn check_refused(desk: &Desk, device: &DeviceClaim, expected: &Unproven) {
    assert_eq!(desk.unproven(device), *expected);
    assert!(desk.record(device.registration_id.as_str()).is_none(), "a refused device leaves no record");
}

/// DPS-SAS-6
#[test]
fn a_token_is_good_until_five_minutes_after_its_expiry() {
    let desk = desk();
    desk.put_individual(individual("press-1"));
    desk.accepted(&signed("press-1", &keys("press-1").primary, desk.clock.get().after(-300)));
}

/// DPS-SAS-3, DPS-ID-2
#[test]
fn a_token_may_spell_the_id_otherwise_than_the_device_does() {
    let desk = desk();
    desk.put_individual(individual("Press-1"));
    let device = DeviceClaim {
        registration_id: "press-1".parse().unwrap(),
        ..desk.signed("PRESS-1", &keys("Press-1").primary)
    };
    assert_eq!(desk.accepted(&device).1.entry, individual_ref("press-1"));
}

/// DPS-REG-6: a register and a poll of an instance that is not served here.
#[test]
fn an_unknown_id_scope_is_refused_by_name() {
    let desk = desk();
    let device = DeviceClaim { id_scope: "0neFFFFFFFF".parse().unwrap(), ..desk.by_group("line-1", "alpha") };
    assert!(desk.registrar.knows(&SCOPE.to_lowercase().parse().unwrap()));
    assert!(!desk.registrar.knows(&device.id_scope));
    let refused = desk.register(&device);
    assert!(
        matches!(&refused, Err(Refusal::UnknownIdScope(scope)) if *scope == device.id_scope),
        "{refused:?}"
    );
    let refused = desk.poll(&device, "5.");
    assert!(
        matches!(&refused, Err(Refusal::UnknownIdScope(scope)) if *scope == device.id_scope),
        "{refused:?}"
    );
}

/// DPS-REG-1: the entry that decides is the one of the moment, not the one the device once came in by.
#[test]
fn a_device_of_a_group_that_gets_its_own_entry_is_judged_by_that() {
    let desk = desk();
    desk.accepted(&desk.by_group("line-1", "alpha"));
    desk.put_individual(individual("line-1"));
    let by_group = desk.by_group("line-1", "alpha");
    assert_eq!(desk.unproven(&by_group), Unproven::WrongKey(individual_ref("line-1")));
    let (_, record) = accepted(desk.register(&desk.by_own_key("line-1")));
    assert_eq!(record.entry, individual_ref("line-1"));
}

fn without_credential(id: &str) -> DeviceClaim {
    DeviceClaim { credential: Credential::default(), ..with_password(id, "") }
}
