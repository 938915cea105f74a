//! Chains of several shapes and kinds of key, each admitted as it is.

use dps_core::x509::Certificate;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
    SignatureAlgorithm, date_time_ymd,
};

/// What a device sends, its own first, and what is enrolled.
pub(crate) struct Shape {
    pub(crate) name: String,
    pub(crate) sent: Vec<Vec<u8>>,
    pub(crate) anchors: Vec<Certificate>,
}

const KINDS: [(&str, &SignatureAlgorithm); 4] = [
    ("P-256", &PKCS_ECDSA_P256_SHA256),
    ("P-384", &PKCS_ECDSA_P384_SHA384),
    ("RSA-2048", &PKCS_RSA_SHA256),
    ("Ed25519", &PKCS_ED25519),
];

/// Every shape with every kind of key.
pub(crate) fn shapes() -> Vec<Shape> {
    KINDS.iter().flat_map(|(kind, algorithm)| of_kind(kind, algorithm)).collect()
}

struct Authority {
    params: CertificateParams,
    key: KeyPair,
    der: Vec<u8>,
}

impl Authority {
    fn root(name: &str, algorithm: &'static SignatureAlgorithm) -> Self {
        let (params, key) = (ca(name), KeyPair::generate_for(algorithm).unwrap());
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { params, key, der }
    }

    fn below(&self, name: &str, algorithm: &'static SignatureAlgorithm) -> Self {
        let (params, key) = (ca(name), KeyPair::generate_for(algorithm).unwrap());
        let der = self.certifies(&params, &key);
        Self { params, key, der }
    }

    fn certifies(&self, params: &CertificateParams, key: &KeyPair) -> Vec<u8> {
        params.signed_by(key, &Issuer::from_params(&self.params, &self.key)).unwrap().der().to_vec()
    }

    fn read(&self) -> Certificate {
        Certificate::from_der(&self.der).unwrap()
    }
}

fn of_kind(kind: &str, algorithm: &'static SignatureAlgorithm) -> Vec<Shape> {
    let root = Authority::root("Root", algorithm);
    let line = root.below("Line", algorithm);
    let other = Authority::root("Other root", algorithm);
    let device_key = KeyPair::generate_for(algorithm).unwrap();
    let device = |issuer: &Authority| issuer.certifies(&leaf(), &device_key);
    // The line's CA, certified by another root as well: a second way to the top.
    let crossed = other.certifies(&line.params, &line.key);
    let shape = |name: &str, sent: Vec<Vec<u8>>, anchors: Vec<Certificate>| Shape {
        name: format!("{name}, {kind}"),
        sent,
        anchors,
    };
    vec![
        shape("under a root", vec![device(&root)], vec![root.read()]),
        shape("under a root that is sent along", vec![device(&root), root.der.clone()], vec![root.read()]),
        shape("with an intermediate", vec![device(&line), line.der.clone()], vec![root.read()]),
        shape(
            "with an intermediate and the root",
            vec![device(&line), line.der.clone(), root.der.clone()],
            vec![root.read()],
        ),
        shape(
            "with strangers",
            vec![device(&line), other.der.clone(), line.der.clone(), device(&other)],
            vec![root.read()],
        ),
        shape(
            "cross-signed",
            vec![device(&line), line.der.clone(), crossed],
            vec![root.read(), other.read()],
        ),
    ]
}

fn ca(name: &str) -> CertificateParams {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(3));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn leaf() -> CertificateParams {
    let mut params = named("press-7");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2060, 1, 1));
    params
}
