//! Devices with a TPM, in states that a real one seldom meets.

use dps_core::attestation::DeviceClaim;
use dps_core::enrollment::{Attestation, IndividualEnrollment, ProvisioningStatus};
use dps_core::refusal::{Refusal, Unproven};
use dps_core::registration::{Failure, State};
use dps_core::tpm::{TpmEvidence, TpmKeys, nonce_key};
use dps_proto::ids::InstanceSecret;

use crate::common::desk::{Desk, scope};
use crate::common::entries::individual;
use crate::common::hubs::{local, remote};
use crate::common::registry::{Fate, SimRegistry, Step};

/// TPM2B_PUBLIC of a storage key whose modulus is this byte, again and again.
fn public(byte: u8) -> Vec<u8> {
    let mut public = vec![0x00, 0x01, 0x00, 0x0b, 0x00, 0x03, 0x00, 0xb2, 0x00, 0x20];
    public.extend([0x83; 32]);
    public.extend([0x00, 0x06, 0x00, 0x80, 0x00, 0x43, 0x00, 0x10, 0x08, 0x00, 0, 0, 0, 0, 0x01, 0x00]);
    public.extend([byte; 256]);
    [&(public.len() as u16).to_be_bytes()[..], &public].concat()
}

fn keys(storage_root: u8) -> TpmKeys {
    match TpmEvidence::presented(&public(0xc5), &public(storage_root)) {
        TpmEvidence::Presented(Ok(keys)) => *keys,
        other => panic!("{other:?}"),
    }
}

fn enrollment() -> IndividualEnrollment {
    let attestation = Attestation::Tpm { endorsement_key: public(0xc5).into() };
    IndividualEnrollment { attestation, ..individual("press-1") }
}

/// A device that has unwrapped what it was challenged with, and what its request says of its TPM.
fn device(desk: &Desk, storage_root: u8, evidence: TpmEvidence) -> DeviceClaim {
    let (secret, id) = (InstanceSecret::new([7; 32]), "press-1".parse().unwrap());
    let key = nonce_key(&secret, &scope(), &id, &keys(storage_root), desk.clock.get().0);
    let mut device = desk.signed("press-1", &key);
    device.credential.tpm = evidence;
    device
}

fn presented(storage_root: u8) -> TpmEvidence {
    TpmEvidence::presented(&public(0xc5), &public(storage_root))
}

/// DPS-TPM-1, DPS-REG-14: the poll has the token alone, and no hub has the device.
#[test]
fn a_device_reads_that_its_operation_failed() {
    let desk = Desk::new(vec![]);
    desk.put_individual(enrollment());
    let (operation, record) = desk.accepted(&device(&desk, 0xb3, presented(0xb3)));
    let failed = State::Failed { failure: Failure::NoUsableHub, last: None };
    assert_eq!(record.state, failed);
    assert_eq!(desk.polled(&device(&desk, 0xb3, TpmEvidence::Absent), operation), failed);
    let refused = desk.poll(&device(&desk, 0xb5, TpmEvidence::Absent), operation);
    assert!(matches!(refused, Err(Refusal::Unproven(Unproven::NotTheChallenge))), "{refused:?}");
}

/// DPS-TPM-1: a TPM that was cleared has another storage root key than the one that the device was assigned by.
#[test]
fn a_device_whose_tpm_was_cleared_reads_what_became_of_its_operation() {
    let registry = SimRegistry::new();
    let desk = Desk::new(vec![remote("far.example", &registry)]);
    desk.put_individual(enrollment());
    let _ = desk.accepted(&device(&desk, 0xb3, presented(0xb3)));
    assert!(matches!(desk.placed(), State::Assigned { .. }));
    let (second, _) = desk.accepted(&device(&desk, 0xb5, presented(0xb5)));
    let absent = || device(&desk, 0xb5, TpmEvidence::Absent);
    assert!(matches!(desk.polled(&absent(), second), State::Assigning { .. }));
    registry.script(Step::Identity, Fate::Refused("no"));
    assert!(matches!(desk.placed(), State::Failed { .. }));
    assert!(matches!(desk.polled(&absent(), second), State::Failed { last: Some(_), .. }));
    let disabled = IndividualEnrollment { ..enrollment() };
    let mut disabled = disabled;
    disabled.settings.provisioning_status = ProvisioningStatus::Disabled;
    desk.put_individual(disabled);
    assert!(matches!(desk.polled(&absent(), second), State::Disabled { .. }));
}

/// DPS-TPM-8: whoever presents a TPM in a device's name keeps the device from nothing.
#[test]
fn a_remembered_tpm_that_the_token_does_not_bear_out_is_no_obstacle() {
    let desk = Desk::new(vec![local("north.example")]);
    desk.put_individual(enrollment());
    desk.accepted(&device(&desk, 0xb3, presented(0xb3)));
    let remembered = TpmEvidence::Remembered(Box::new(keys(0xb5)));
    desk.accepted(&device(&desk, 0xb3, remembered.clone()));
    let stranger = device(&desk, 0xb7, remembered);
    assert!(matches!(desk.unproven(&stranger), Unproven::NotTheChallenge));
}

/// DPS-TPM-6, DPS-TPM-8: nodes keep what they remember of unknown TPMs apart.
#[test]
fn a_challenge_says_whether_the_tpm_is_enrolled() {
    let desk = Desk::new(vec![local("north.example")]);
    for is_enrolled in [false, true] {
        let mut asking = device(&desk, 0xb3, presented(0xb3));
        asking.credential.password = None;
        let refused = desk.register(&asking);
        let Err(Refusal::TpmChallenge(challenge)) = refused else { panic!("{refused:?}") };
        assert_eq!(challenge.is_enrolled, is_enrolled);
        desk.put_individual(enrollment());
    }
}
