//! A device that comes in by a group whose signing certificate its chain reaches. Spec: DPS-X509-7, DPS-X509-10 to DPS-X509-21.

use std::sync::Arc;

use dps_core::attestation::DeviceClaim;
use dps_core::enrollment::Signers;
use dps_core::refusal::Unproven;
use dps_core::x509::{BrokenChain, Certificate, ChainFault, ChainRules, Place, SignatureFault};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    KeyUsagePurpose, NameConstraints, date_time_ymd,
};

use crate::common::certificates::{Authority, presenting};
use crate::common::desk::Desk;
use crate::common::entries::{AnyEntry, by_signers, group_ref, pair, signed_by};
use crate::common::hubs::{instance, local};

fn desk() -> Desk {
    Desk::new(vec![local("north.example")])
}

#[track_caller]
fn broken(desk: &Desk, device: &DeviceClaim) -> BrokenChain {
    match desk.unproven(device) {
        Unproven::Chain(broken) => *broken,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn comes_in_by(desk: &Desk, chain: &[&Arc<Certificate>], group: &str) {
    assert_eq!(desk.accepted(&presenting("press-1", chain)).1.entry, group_ref(group));
}

/// A root, an issuing CA below it, and a device below that.
fn line() -> (Authority, Authority, Arc<Certificate>) {
    let root = Authority::root("Root");
    let issuing = root.authority("Issuing");
    let device = issuing.device("press-1");
    (root, issuing, device)
}

/// DPS-X509-7, DPS-X509-11
#[test]
fn a_chain_reaches_its_group_in_whatever_order_and_company() {
    let (root, issuing, device) = line();
    let stranger = Authority::root("Stranger").certificate;
    let (root, issuing) = (root.certificate, issuing.certificate);
    for anchor in [&root, &issuing] {
        let desk = desk();
        desk.put_group(signed_by("plant", anchor));
        for chain in [
            vec![&device, &issuing],
            vec![&device, &issuing, &root],
            vec![&device, &root, &issuing],
            vec![&device, &stranger, &issuing, &issuing, &device, &root],
        ] {
            comes_in_by(&desk, &chain, "plant");
        }
    }
    let desk = desk();
    desk.put_group(signed_by("plant", &issuing));
    comes_in_by(&desk, &[&device], "plant");
}

/// DPS-X509-7: known by its subject and its key, whichever certificate of them is enrolled.
#[test]
fn a_signing_certificate_is_known_by_subject_and_key() {
    let (root, issuing, device) = line();
    let other = Authority::root("Other root");
    let crossed = issuing.certified_by(&other);
    let desk = desk();
    desk.put_group(signed_by("plant", &crossed));
    comes_in_by(&desk, &[&device, &issuing.certificate, &root.certificate], "plant");
    let namesake = Authority::root("Issuing");
    desk.put_group(signed_by("plant", &namesake.certificate));
    let broken = broken(&desk, &presenting("press-1", &[&device]));
    assert!(matches!(broken.fault, ChainFault::Signature { why: SignatureFault::Wrong, .. }), "{broken}");
}

/// DPS-X509-7: two anchors with one name.
#[test]
fn groups_whose_certificates_have_one_name_are_told_apart_by_their_keys() {
    let (plants, desk) = ([Authority::root("CA"), Authority::root("CA")], desk());
    for (name, plant) in ["first", "second"].iter().zip(&plants) {
        desk.put_group(signed_by(name, &plant.certificate));
    }
    for (name, plant) in ["first", "second"].iter().zip(&plants) {
        comes_in_by(&desk, &[&plant.device("press-1")], name);
    }
}

/// DPS-X509-7
#[test]
fn either_way_of_a_cross_signed_chain_leads_to_its_group() {
    let (root, issuing, device) = line();
    let other = Authority::root("Other root");
    let crossed = issuing.certified_by(&other);
    let chain = [&device, &issuing.certificate, &crossed];
    for anchor in [&root, &other] {
        let desk = desk();
        desk.put_group(signed_by("plant", &anchor.certificate));
        comes_in_by(&desk, &chain, "plant");
    }
}

/// DPS-X509-7
#[test]
fn the_nearest_group_decides_even_where_it_refuses() {
    let (root, issuing, device) = line();
    let desk = desk();
    desk.put_group(signed_by("far", &root.certificate));
    let chain = [&device, &issuing.certificate];
    comes_in_by(&desk, &chain, "far");
    desk.put_group(signed_by("near", &issuing.certificate));
    comes_in_by(&desk, &chain, "near");
    desk.put_group(signed_by("near", &issuing.certificate).disabled());
    assert_eq!(desk.told_disabled(&presenting("press-1", &chain)).entry, group_ref("near"));
    let expired = root.authority_with("Issuing", |params| params.not_after = date_time_ymd(2021, 1, 1));
    desk.put_group(signed_by("near", &expired.certificate));
    let device = expired.device("press-1");
    let broken = broken(&desk, &presenting("press-1", &[&device, &expired.certificate]));
    assert!(matches!(broken.fault, ChainFault::Expired { .. }), "{broken}");
    assert!(matches!(broken.which.place, Place::Enrolled(_)), "{broken}");
}

/// DPS-X509-7
#[test]
fn of_groups_equally_near_a_disabled_one_decides_then_the_older() {
    let (_, issuing, device) = line();
    let desk = desk();
    for (name, age) in [("young", 30), ("old", 10), ("middle", 20)] {
        desk.put_group(signed_by(name, &issuing.certificate).created_at(age));
    }
    comes_in_by(&desk, &[&device], "old");
    desk.put_group(signed_by("young", &issuing.certificate).created_at(30).disabled());
    assert_eq!(desk.told_disabled(&presenting("press-1", &[&device])).entry, group_ref("young"));
}

/// DPS-X509-10
#[test]
fn either_signing_certificate_of_a_group_will_do() {
    let (first, second, desk) = (Authority::root("First"), Authority::root("Second"), desk());
    let both = Signers::Certificates(pair(&first.certificate, Some(&second.certificate)));
    desk.put_group(by_signers("plant", both));
    for plant in [&first, &second] {
        comes_in_by(&desk, &[&plant.device("press-1")], "plant");
    }
}

/// DPS-X509-21: the certificate that has no issuer, or the last one, is named.
#[test]
fn a_chain_that_leads_nowhere_says_where_it_ended() {
    let (root, issuing, device) = line();
    let desk = desk();
    for (chain, place, rule) in [
        (vec![&device], 0, "no-issuer"),
        (vec![&device, &root.certificate], 0, "no-issuer"),
        (vec![&device, &issuing.certificate], 1, "no-issuer"),
        (vec![&device, &root.certificate, &issuing.certificate], 1, "not-enrolled"),
    ] {
        let broken = broken(&desk, &presenting("press-1", &chain));
        assert_eq!(
            (broken.which.place.clone(), broken.fault.rule()),
            (Place::Presented(place), rule),
            "{broken}"
        );
        assert_eq!(broken.received.len(), chain.len());
    }
}

type Change = fn(&mut CertificateParams);

/// What is changed of an issuing CA, and the rule that it breaks then.
fn odd_authorities() -> Vec<(&'static str, Change)> {
    vec![
        ("not-a-ca", |params| params.is_ca = IsCa::ExplicitNoCa),
        ("not-a-ca", |params| params.is_ca = IsCa::NoCa),
        ("key-usage", |params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]),
        ("expired", |params| params.not_after = date_time_ymd(2021, 1, 1)),
        ("not-yet-valid", |params| params.not_before = date_time_ymd(2050, 1, 1)),
        ("extended-key-usage", |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        }),
        ("critical-extension", |params| {
            let mut unknown = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
            unknown.set_criticality(true);
            params.custom_extensions.push(unknown);
        }),
        ("name-constraints", |params| {
            params.name_constraints = Some(NameConstraints {
                permitted_subtrees: vec![GeneralSubtree::DnsName("example".into())],
                excluded_subtrees: Vec::new(),
            });
        }),
    ]
}

/// DPS-X509-13 to DPS-X509-17
#[test]
fn what_signs_a_certificate_keeps_to_the_rules_sent_along_or_enrolled() {
    let root = Authority::root("Root");
    for (rule, change) in odd_authorities() {
        let issuing = root.authority_with("Issuing", change);
        let device = issuing.device("press-1");
        let chain = presenting("press-1", &[&device, &issuing.certificate]);
        for anchor in [&root.certificate, &issuing.certificate] {
            let desk = desk();
            desk.put_group(signed_by("plant", anchor));
            let broken = broken(&desk, &chain);
            assert_eq!(broken.fault.rule(), rule, "{broken}");
            assert_eq!(broken.which.subject, "CN=Issuing");
        }
    }
}

/// DPS-X509-14: the dates of what is enrolled may be let pass.
#[test]
fn an_expired_signing_certificate_admits_where_that_is_allowed() {
    let root = Authority::root("Root");
    let issuing = root.authority_with("Issuing", |params| params.not_after = date_time_ymd(2021, 1, 1));
    let mut desk = desk();
    let mut with = instance(vec![local("north.example")]);
    with.chain_rules = ChainRules { enforce_anchor_expiry: false, ..ChainRules::default() };
    desk.reopen(with);
    desk.put_group(signed_by("plant", &issuing.certificate));
    comes_in_by(&desk, &[&issuing.device("press-1")], "plant");
}

/// DPS-X509-13
#[test]
fn no_more_authorities_stand_below_than_a_certificate_allows() {
    let limited = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let root = Authority::root("Root");
    let top = root.authority_with("Top", limited);
    let below = top.authority("Below");
    let (near, far) = (top.device("press-1"), below.device("press-1"));
    for (anchor, place) in
        [(&root, Place::Presented(2)), (&top, Place::Enrolled(group_ref("plant").to_string()))]
    {
        let desk = desk();
        desk.put_group(signed_by("plant", &anchor.certificate));
        comes_in_by(&desk, &[&near, &top.certificate], "plant");
        let chain = presenting("press-1", &[&far, &below.certificate, &top.certificate]);
        let broken = broken(&desk, &chain);
        assert_eq!(broken.fault, ChainFault::PathLength { allowed: 0, below: 1 });
        assert_eq!(broken.which.place, place, "{broken}");
    }
}

/// DPS-X509-20
#[test]
fn a_chain_is_walked_six_certificates_up() {
    let root = Authority::root("Root 0");
    let mut authorities = vec![root];
    for number in 1..7 {
        let next = authorities[number - 1].authority(&format!("Below {number}"));
        authorities.push(next);
    }
    for (count, is_fit) in [(6, true), (7, false)] {
        let desk = desk();
        desk.put_group(signed_by("plant", &authorities[0].certificate));
        let device = authorities[count - 1].device("press-1");
        let mut chain = vec![&device];
        chain.extend(authorities[1..count].iter().rev().map(|authority| &authority.certificate));
        if is_fit {
            comes_in_by(&desk, &chain, "plant");
        } else {
            assert_eq!(broken(&desk, &presenting("press-1", &chain)).fault, ChainFault::TooDeep);
        }
    }
}

/// DPS-X509-20: nine namesakes that sign nothing, and groups of the same name beside.
#[test]
fn work_on_a_hostile_chain_is_bounded() {
    let desk = desk();
    for number in 0..16 {
        desk.put_group(signed_by(&format!("g{number}"), &Authority::root("CA").certificate));
    }
    let device = Authority::root("CA").device("press-1");
    let namesakes: Vec<_> = (0..9).map(|_| Authority::root("CA").certificate).collect();
    let chain: Vec<_> = [&device].into_iter().chain(&namesakes).collect();
    let claim = presenting("press-1", &chain);
    // 16 signatures by groups and 9 by namesakes; nothing is verified a second time.
    for _ in 0..3 {
        let broken = broken(&desk, &claim);
        assert!(matches!(broken.fault, ChainFault::Signature { .. }), "{broken}");
    }
    let ring: Vec<_> = (0..9).map(|_| Authority::root("Ring")).collect();
    let crossed: Vec<_> = ring.windows(2).map(|two| two[0].certified_by(&two[1])).collect();
    let device = ring[0].device("press-1");
    let chain: Vec<_> = [&device].into_iter().chain(&crossed).collect();
    let broken = broken(&desk, &presenting("press-1", &chain));
    assert!(
        matches!(
            broken.fault,
            ChainFault::TooManySignatures(32) | ChainFault::TooDeep | ChainFault::Signature { .. }
        ),
        "{broken}"
    );
}
