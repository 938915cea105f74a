//! CA certificates of an instance, and individual enrollments by signing certificates. Spec: DPS-X509-5, DPS-X509-9, DPS-X509-24.

use std::sync::Arc;

use dps_core::ca_certificate::{CaCertificate, NoProof, VerificationCode};
use dps_core::enrollment::{Attestation, Signers};
use dps_core::ports::{Condition, Store as _};
use dps_core::refusal::Unproven;
use dps_core::x509::{Certificate, ChainFault, SignatureFault};

use crate::common::certificates::{Authority, presenting, self_signed};
use crate::common::desk::{Desk, scope};
use crate::common::entries::{
    by_signers, ca_references, group_ref, individual_by, individual_ref, pair, signed_by,
};
use crate::common::executor::drive;
use crate::common::hubs::local;

fn desk() -> Desk {
    Desk::new(vec![local("north.example")])
}

fn uploaded(desk: &Desk, name: &str, certificate: &Arc<Certificate>, is_verified: bool) -> CaCertificate {
    CaCertificate::uploaded(name.parse().unwrap(), Arc::clone(certificate), is_verified, desk.moment())
}

fn upload(desk: &Desk, name: &str, certificate: &Arc<Certificate>, is_verified: bool) {
    let ca = uploaded(desk, name, certificate, is_verified);
    drive(desk.store.put_ca_certificate(&scope(), ca, Condition::Always.into())).unwrap();
}

/// DPS-X509-9
#[test]
fn a_group_by_reference_admits_once_the_ca_certificate_is_verified() {
    let (desk, root) = (desk(), Authority::root("Root"));
    let device = root.device("press-1");
    let claim = presenting("press-1", &[&device]);
    upload(&desk, "plant", &root.certificate, false);
    desk.put_group(by_signers("line", ca_references("PLANT", None)));
    let why = desk.unproven(&claim);
    assert!(matches!(&why, Unproven::UnverifiedCa { name, .. } if name.as_str() == "plant"), "{why}");
    upload(&desk, "plant", &root.certificate, true);
    assert_eq!(desk.accepted(&claim).1.entry, group_ref("line"));
}

/// DPS-X509-9, DPS-X509-10
#[test]
fn either_ca_certificate_of_a_group_will_do() {
    let (desk, first, second) = (desk(), Authority::root("First"), Authority::root("Second"));
    upload(&desk, "one", &first.certificate, true);
    upload(&desk, "two", &second.certificate, true);
    desk.put_group(by_signers("line", ca_references("one", Some("two"))));
    for plant in [&first, &second] {
        desk.accepted(&presenting("press-1", &[&plant.device("press-1")]));
    }
}

/// DPS-X509-9: a device need not send what is uploaded and verified.
#[test]
fn verified_ca_certificates_fill_gaps_and_others_do_not() {
    let desk = desk();
    let root = Authority::root("Root");
    let issuing = root.authority("Issuing");
    let device = issuing.device("press-1");
    let claim = presenting("press-1", &[&device]);
    desk.put_group(signed_by("plant", &root.certificate));
    upload(&desk, "issuing", &issuing.certificate, false);
    let Unproven::Chain(broken) = desk.unproven(&claim) else { panic!("another reason") };
    assert!(matches!(broken.fault, ChainFault::NoIssuer { .. }), "{broken}");
    upload(&desk, "issuing", &issuing.certificate, true);
    assert_eq!(desk.accepted(&claim).1.entry, group_ref("plant"));
}

/// DPS-X509-5
#[test]
fn an_individual_enrollment_may_name_who_signs_its_certificates() {
    let desk = desk();
    let root = Authority::root("Root");
    upload(&desk, "root", &root.certificate, true);
    for signers in [Signers::Certificates(pair(&root.certificate, None)), ca_references("root", None)] {
        desk.put_individual(individual_by("press-1", Attestation::Signers(signers)));
        for _ in 0..2 {
            let renewed = root.device("press-1");
            let (_, record) = desk.accepted(&presenting("press-1", &[&renewed]));
            assert_eq!(record.entry, individual_ref("press-1"));
        }
        let stranger = presenting("press-1", &[&self_signed("press-1")]);
        assert!(matches!(desk.unproven(&stranger), Unproven::Chain(_)));
    }
}

/// DPS-X509-24
#[test]
fn possession_is_proved_over_the_last_code_with_the_ca_s_key() {
    let (desk, root) = (desk(), Authority::root("Root"));
    let [first, second] = [1, 2].map(|byte| VerificationCode::generate([byte; 24]));
    let ca = uploaded(&desk, "root", &root.certificate, false);
    let proof = |code: &VerificationCode| root.device(code.as_str());
    assert_eq!(ca.verified_by(&proof(&first), desk.moment()).unwrap_err(), NoProof::NoCode);
    let ca = ca.awaiting(first.clone(), desk.moment());
    let newer = ca.awaiting(second.clone(), desk.moment());
    assert_ne!(newer.etag, ca.etag);
    let foreign = self_signed(second.as_str());
    let wrong = NoProof::Signature(SignatureFault::Wrong);
    for (shown, why) in [(proof(&first), NoProof::OtherCode), (foreign, wrong)] {
        assert_eq!(newer.verified_by(&shown, desk.moment()).unwrap_err(), why);
    }
    let verified = newer.verified_by(&proof(&second), desk.moment()).unwrap();
    assert!(verified.is_verified());
    assert_eq!(verified.verified_by(&proof(&second), desk.moment()).unwrap_err(), NoProof::NoCode);
    let lower = root.device(&second.as_str().to_lowercase());
    assert!(newer.verified_by(&lower, desk.moment()).is_ok());
}
