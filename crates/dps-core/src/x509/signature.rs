//! Whether a key made the signature of a certificate. Spec: DPS-X509-19.

use rustls_pki_types::{SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer};
use webpki::{ALL_VERIFICATION_ALGS, Error, RawPublicKeyEntity};
use x509_parser::asn1_rs::{FromDer as _, Oid};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::certificate::Certificate;

/// RSA keys of fewer bits sign nothing here.
const RSA_BITS_MIN: usize = 2_048;

/// Parameters that say nothing, in DER.
pub(super) const NULL: [u8; 2] = [0x05, 0x00];

/// Why a signature does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFault {
    /// The key did not make it.
    #[error("its signature was not made with the issuer's key")]
    Wrong,
    /// SHA-1, MD5, or nothing that is known.
    #[error("it is signed with the algorithm {0}, which is not accepted")]
    Algorithm(Box<str>),
    /// The key is of another kind than the algorithm.
    #[error("its signature algorithm does not fit the issuer's key")]
    OtherKind,
    /// The key is too short.
    #[error("the issuer's RSA key has {0} bits, fewer than {RSA_BITS_MIN}")]
    ShortKey(usize),
    /// The key cannot be read.
    #[error("the issuer's key cannot be read")]
    Key,
}

/// Verifies the signature of `certificate` by a SubjectPublicKeyInfo in DER. What the certificates otherwise say is not looked
/// at.
pub(super) fn verify(certificate: &Certificate, public_key: &[u8]) -> Result<(), SignatureFault> {
    let algorithm = certificate.signature_algorithm();
    let mut candidates = ALL_VERIFICATION_ALGS
        .iter()
        .filter(|known| is_of(algorithm, known.signature_alg_id().as_ref()))
        .peekable();
    if candidates.peek().is_none() {
        return Err(SignatureFault::Algorithm(named(algorithm)));
    }
    let spki = SubjectPublicKeyInfoDer::from(public_key);
    let key = RawPublicKeyEntity::try_from(&spki).map_err(|_| SignatureFault::Key)?;
    let mut fault = SignatureFault::OtherKind;
    for known in candidates {
        let known: &dyn SignatureVerificationAlgorithm = *known;
        match key.verify_signature(known, certificate.signed_part(), certificate.signature()) {
            Ok(()) => return Ok(()),
            Err(Error::InvalidSignatureForPublicKey) => fault = SignatureFault::Wrong,
            Err(_) => {}
        }
    }
    if let (SignatureFault::Wrong, Some(bits)) = (&fault, rsa_bits(public_key))
        && bits < RSA_BITS_MIN
    {
        return Err(SignatureFault::ShortKey(bits));
    }
    Err(fault)
}

/// Some leave the NULL away that belongs to RSA with PKCS#1. Spec: DPS-X509-19.
fn is_of(algorithm: &[u8], known: &[u8]) -> bool {
    known == algorithm || known.strip_suffix(&NULL) == Some(algorithm)
}

fn rsa_bits(public_key: &[u8]) -> Option<usize> {
    let (_, key) = SubjectPublicKeyInfo::from_der(public_key).ok()?;
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => Some(rsa.key_size()),
        _ => None,
    }
}

/// The object identifier that an AlgorithmIdentifier begins with.
fn named(algorithm: &[u8]) -> Box<str> {
    Oid::from_der(algorithm).map_or_else(|_| "of no name".into(), |(_, oid)| oid.to_id_string().into())
}
