//! A device with an individual enrollment by certificate. Spec: DPS-X509-3, DPS-X509-4, DPS-X509-6, DPS-X509-14, DPS-X509-18,
//! DPS-X509-22.

use std::sync::Arc;

use dps_core::attestation::{Credential, DeviceClaim};
use dps_core::enrollment::Attestation;
use dps_core::ports::HubAuthentication;
use dps_core::refusal::Unproven;
use dps_core::registration::{HubCredential, State};
use dps_core::x509::{BadCommonName, CaLeaf, Certificate, ChainFault, ChainRules};
use rcgen::{BasicConstraints, DistinguishedName, DnType, IsCa, date_time_ymd};

use crate::common::certificates::{Authority, presenting, self_signed, self_signed_with};
use crate::common::desk::{Desk, assigned};
use crate::common::entries::{
    AnyEntry, client, individual, individual_by, individual_ref, keys, pair, signed_by,
};
use crate::common::hubs::{instance, local};

const NORTH: &str = "north.example";

fn desk() -> Desk {
    Desk::new(vec![local(NORTH)])
}

#[track_caller]
fn fault(desk: &Desk, device: &DeviceClaim) -> ChainFault {
    match desk.unproven(device) {
        Unproven::Chain(broken) => broken.fault.clone(),
        other => panic!("{other:?}"),
    }
}

/// Thumbprints at the hub, primary and secondary.
#[track_caller]
fn at_hub(desk: &Desk, device_id: &str) -> (String, String) {
    match desk.hub_device(NORTH, device_id).unwrap().device.authentication {
        HubAuthentication::SelfSigned { primary, secondary } => (primary.to_string(), secondary.to_string()),
        HubAuthentication::Keys(_) => panic!("keys"),
    }
}

/// DPS-X509-4, DPS-X509-22
#[test]
fn either_certificate_of_the_enrollment_admits_whoever_issued_it() {
    let desk = desk();
    let (own, issued) = (self_signed("press-1"), Authority::root("Plant").device("press-1"));
    let attestation = Attestation::ClientCertificates(pair(&own, Some(&issued)));
    desk.put_individual(individual_by("press-1", attestation));
    let text = |certificate: &Certificate| certificate.thumbprint().to_string();
    for (used, other) in [(&own, &issued), (&issued, &own), (&own, &issued)] {
        let (_, record) = desk.accepted(&presenting("press-1", &[used]));
        assert_eq!(record.entry, individual_ref("press-1"));
        let expected = HubCredential::Certificate { thumbprint: used.thumbprint() };
        assert_eq!(assigned(&record.state).0.credential, expected);
        assert_eq!(at_hub(&desk, "press-1"), (text(used), text(other)));
    }
}

/// DPS-X509-22
#[test]
fn one_certificate_is_both_at_the_hub() {
    let desk = desk();
    let own = self_signed("press-1");
    desk.put_individual(individual_by("press-1", client(&own)));
    desk.accepted(&presenting("press-1", &[&own]));
    let thumbprint = own.thumbprint().to_string();
    assert_eq!(at_hub(&desk, "press-1"), (thumbprint.clone(), thumbprint));
}

/// DPS-X509-4
#[test]
fn another_certificate_is_refused_whatever_issued_it() {
    let desk = desk();
    let plant = Authority::root("Plant");
    desk.put_group(signed_by("plant", &plant.certificate));
    desk.put_individual(individual_by("press-1", client(&plant.device("press-1"))));
    for other in [plant.device("press-1"), self_signed("press-1")] {
        let why = desk.unproven(&presenting("press-1", &[&other]));
        assert!(matches!(why, Unproven::OtherCertificate(_)), "{why}");
    }
    assert!(desk.record("press-1").is_none());
}

/// DPS-X509-4: the entry's attestation decides which credential counts.
#[test]
fn a_token_and_a_certificate_do_not_stand_in_for_one_another() {
    let desk = desk();
    let own = self_signed("press-1");
    desk.put_individual(individual_by("press-1", client(&own)));
    assert_eq!(
        desk.unproven(&desk.by_own_key("press-1")),
        Unproven::CertificateWanted(individual_ref("press-1"))
    );
    let both = DeviceClaim {
        credential: Credential {
            password: desk.by_own_key("press-1").credential.password,
            ..presenting("press-1", &[&own]).credential
        },
        ..presenting("press-1", &[&own])
    };
    desk.accepted(&both);
    desk.put_individual(individual("press-1"));
    let certificate_alone = presenting("press-1", &[&own]);
    assert_eq!(desk.unproven(&certificate_alone), Unproven::TokenWanted(individual_ref("press-1")));
    desk.accepted(&both);
}

/// DPS-X509-3
#[test]
fn the_common_name_is_the_registration_id_ignoring_case() {
    let desk = desk();
    let own = self_signed("Press-1");
    desk.put_individual(individual_by("press-1", client(&own)));
    for id in ["press-1", "PRESS-1", "Press-1"] {
        desk.accepted(&presenting(id, &[&own]));
    }
    let other =
        ChainFault::OtherRegistrationId { common_name: "Press-1".into(), registration_id: "press-2".into() };
    desk.put_individual(individual_by("press-2", client(&own)));
    assert_eq!(fault(&desk, &presenting("press-2", &[&own])), other);
}

/// DPS-X509-3
#[test]
fn a_subject_without_one_common_name_gives_no_registration_id() {
    let desk = desk();
    let named = |names: &[&str]| {
        self_signed_with("press-1", |params| {
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::OrganizationName, "Plant");
            for name in names {
                params.distinguished_name.push(DnType::CommonName, *name);
            }
        })
    };
    for (certificate, why) in [
        (named(&[]), BadCommonName::Missing),
        (named(&[""]), BadCommonName::Empty),
        (named(&["press-1\0"]), BadCommonName::Nul),
    ] {
        desk.put_individual(individual_by("press-1", client(&certificate)));
        assert_eq!(fault(&desk, &presenting("press-1", &[&certificate])), ChainFault::CommonName(why));
    }
}

/// DPS-X509-6: the certificate is somebody else's.
#[test]
fn a_certificate_of_another_enrollment_admits_nobody_else() {
    let desk = desk();
    let plant = Authority::root("Plant");
    let own = plant.device("press-1");
    desk.put_group(signed_by("plant", &plant.certificate));
    desk.put_individual(individual_by("another", client(&own)));
    assert_eq!(
        desk.unproven(&presenting("press-1", &[&own])),
        Unproven::EnrolledForAnother(individual_ref("another"))
    );
    desk.put_individual(individual_by("another", client(&own)).disabled());
    let record = desk.told_disabled(&presenting("press-1", &[&own]));
    assert_eq!(record.entry, individual_ref("another"));
}

/// DPS-X509-14: on a poll the time is that at which the operation began.
#[test]
fn a_certificate_that_runs_out_while_its_device_polls_is_still_good() {
    let desk = desk();
    let now = desk.clock.get().0;
    let own = self_signed_with("press-1", |params| {
        let day = now.to_zoned(jiff::tz::TimeZone::UTC).date();
        params.not_after =
            date_time_ymd(day.year().into(), day.month().unsigned_abs(), day.day().unsigned_abs())
                + (now.as_second().rem_euclid(86_400) + 60)
                    .try_into()
                    .map(std::time::Duration::from_secs)
                    .unwrap();
    });
    desk.put_individual(individual_by("press-1", client(&own)));
    let device = presenting("press-1", &[&own]);
    let (operation, _) = desk.accepted(&device);
    desk.step_clock(120);
    assert!(matches!(desk.polled(&device, operation), State::Assigned { .. }));
    assert!(matches!(fault(&desk, &device), ChainFault::Expired { .. }));
    desk.step_clock(-1_000_000_000);
    assert!(matches!(fault(&desk, &device), ChainFault::NotYetValid { .. }));
}

/// DPS-X509-18
#[test]
fn a_ca_certificate_is_a_devices_own_only_where_it_is_enrolled_exactly() {
    let plant = Authority::root("Plant");
    let is_ca =
        |params: &mut rcgen::CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let (exact, of_group) = (self_signed_with("press-1", is_ca), plant.device_with("press-2", is_ca));
    for (allowed, exact_is_fit, of_group_is_fit) in
        [(CaLeaf::Enrolled, true, false), (CaLeaf::Always, true, true), (CaLeaf::Never, false, false)]
    {
        let mut desk = desk();
        let mut with = instance(vec![local(NORTH)]);
        with.chain_rules = ChainRules { allow_ca_leaf: allowed, ..ChainRules::default() };
        desk.reopen(with);
        desk.put_group(signed_by("plant", &plant.certificate));
        desk.put_individual(individual_by("press-1", client(&exact)));
        for (id, own, is_fit) in [("press-1", &exact, exact_is_fit), ("press-2", &of_group, of_group_is_fit)]
        {
            let device = presenting(id, &[own]);
            if is_fit {
                desk.accepted(&device);
            } else {
                assert_eq!(fault(&desk, &device), ChainFault::CaLeaf, "{allowed:?} {id}");
            }
        }
    }
}

/// DPS-X509-8
#[test]
fn a_disabled_enrollment_is_told_to_its_certificate_or_to_one_that_a_group_would_take() {
    let desk = desk();
    let (plant, own) = (Authority::root("Plant"), self_signed("press-1"));
    desk.put_group(signed_by("plant", &plant.certificate));
    let of_group = presenting("press-1", &[&plant.device("press-1")]);
    let stranger = presenting("press-1", &[&Authority::root("Stranger").device("press-1")]);
    for attestation in [client(&own), Attestation::SymmetricKey(keys("press-1"))] {
        desk.put_individual(individual_by("press-1", attestation.clone()).disabled());
        let record = desk.told_disabled(&of_group);
        assert_eq!(record.entry, individual_ref("press-1"));
        assert!(matches!(fault(&desk, &stranger), ChainFault::NoIssuer { .. }));
        if matches!(attestation, Attestation::ClientCertificates(_)) {
            desk.told_disabled(&presenting("press-1", &[&own]));
        }
    }
    let another = Arc::clone(&own);
    desk.put_individual(individual_by("press-1", client(&another)));
    desk.accepted(&presenting("press-1", &[&own]));
}
