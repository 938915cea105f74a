//! A plant's CA, an issuing CA below it, and the devices that this one issues certificates to.

use std::sync::{Arc, OnceLock};

use dps_core::enrollment::{CertificatePair, GroupAttestation, Signers};
use dps_core::x509::Certificate;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::CertificateDer;

struct Plant {
    root: CertificateDer<'static>,
    issuing: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

fn plant() -> &'static Plant {
    static PLANT: OnceLock<Plant> = OnceLock::new();
    PLANT.get_or_init(|| {
        let (root_params, root_key) = (ca("Plant root"), KeyPair::generate().unwrap());
        let root = root_params.self_signed(&root_key).unwrap().der().clone();
        let (params, key) = (ca("Plant issuing CA"), KeyPair::generate().unwrap());
        let above = Issuer::from_params(&root_params, &root_key);
        let issuing = params.signed_by(&key, &above).unwrap().der().clone();
        Plant { root, issuing, issuer: Issuer::new(params, key) }
    })
}

/// The attestation of a group whose devices' chains reach the plant's root.
pub(crate) fn attestation() -> GroupAttestation {
    let primary = Arc::new(Certificate::from_der(&plant().root).unwrap());
    GroupAttestation::Signers(Signers::Certificates(CertificatePair { primary, secondary: None }))
}

/// What a device of the plant shows in the handshake.
pub(crate) fn chain(id: &str) -> Vec<CertificateDer<'static>> {
    let own = named(id).signed_by(&KeyPair::generate().unwrap(), &plant().issuer).unwrap();
    vec![own.der().clone(), plant().issuing.clone()]
}

fn ca(name: &str) -> CertificateParams {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
