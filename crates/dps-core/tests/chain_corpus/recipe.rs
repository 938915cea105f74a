//! A certificate put together by hand, so that it may be as odd as a case wants it.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
    EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
};

use crate::der::{
    self, INTEGER, PRINTABLE, SEQUENCE, SET, TRUE, UTC_TIME, UTF8, bits, extension, oid, sequence, tlv,
};
use crate::oracle::Weak;

pub(crate) const COMMON_NAME: &[u8] = &[0x55, 4, 3];
pub(crate) const ORGANIZATION: &[u8] = &[0x55, 4, 10];
pub(crate) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1D, 0x13];
pub(crate) const KEY_USAGE: &[u8] = &[0x55, 0x1D, 0x0F];
pub(crate) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1D, 0x25];
pub(crate) const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1D, 0x1E];
pub(crate) const ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1D, 0x11];
pub(crate) const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1D, 0x0E];
pub(crate) const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1D, 0x23];
pub(crate) const POLICIES: &[u8] = &[0x55, 0x1D, 0x20];
/// Known to nobody.
pub(crate) const UNKNOWN: &[u8] = &[0x2A, 0x03, 0x04];

/// The kinds of key, each with one algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    P256,
    P384,
    P521,
    Ed25519,
    Rsa,
    RsaPss,
    /// PKCS#1, and no NULL in the AlgorithmIdentifier.
    RsaNoNull,
}

/// A private key.
pub(crate) enum Key {
    Ecdsa(Kind, EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(Kind, RsaKeyPair),
    /// One that only openssl signs with.
    Weak(Weak),
}

impl Key {
    pub(crate) fn new(kind: Kind) -> Self {
        let ecdsa = |algorithm| Self::Ecdsa(kind, EcdsaKeyPair::generate(algorithm).unwrap());
        match kind {
            Kind::P256 => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING),
            Kind::P384 => ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING),
            Kind::P521 => ecdsa(&ECDSA_P521_SHA512_ASN1_SIGNING),
            Kind::Ed25519 => Self::Ed25519(Ed25519KeyPair::generate().unwrap()),
            Kind::Rsa | Kind::RsaPss | Kind::RsaNoNull => {
                Self::Rsa(kind, RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
            }
        }
    }

    pub(crate) fn public(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = match self {
            Self::Ecdsa(_, key) => key.public_key().as_der().unwrap(),
            Self::Ed25519(key) => key.public_key().as_der().unwrap(),
            Self::Rsa(_, key) => key.public_key().as_der().unwrap(),
            Self::Weak(key) => return key.public(),
        };
        der.as_ref().to_vec()
    }

    /// The AlgorithmIdentifier of its signatures.
    pub(crate) fn algorithm(&self) -> Vec<u8> {
        const ECDSA_SHA2: [u8; 7] = [0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3];
        const PKCS1: [u8; 8] = [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1];
        let ecdsa = |hash: u8| sequence(&[&oid(&[&ECDSA_SHA2[..], &[hash]].concat())]);
        let rsa = |number: u8, rest: &[u8]| sequence(&[&oid(&[&PKCS1[..], &[number]].concat()), rest]);
        let null = [5, 0];
        match self {
            Self::Ecdsa(Kind::P256, _) => ecdsa(2),
            Self::Ecdsa(Kind::P384, _) => ecdsa(3),
            Self::Ecdsa(..) => ecdsa(4),
            Self::Ed25519(_) => sequence(&[&oid(&[0x2B, 0x65, 0x70])]),
            Self::Rsa(Kind::RsaPss, _) => {
                let sha256 = sequence(&[&oid(&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1]), &null]);
                let mask = sequence(&[&oid(&[&PKCS1[..], &[8]].concat()), &sha256]);
                let parameters =
                    sequence(&[&tlv(0xA0, &sha256), &tlv(0xA1, &mask), &tlv(0xA2, &tlv(INTEGER, &[32]))]);
                rsa(10, &parameters)
            }
            Self::Weak(Weak { number, is_rsa: true, .. }) => rsa(*number, &null),
            Self::Weak(_) => sequence(&[&oid(&[0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 1])]),
            Self::Rsa(Kind::RsaNoNull, _) => rsa(11, &[]),
            Self::Rsa(..) => rsa(11, &null),
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ecdsa(_, key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed25519(key) => key.sign(message).as_ref().to_vec(),
            Self::Weak(key) => key.sign(message),
            Self::Rsa(kind, key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                let encoding = if *kind == Kind::RsaPss { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                key.sign(encoding, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }
}

/// What a certificate says, part by part in DER.
#[derive(Clone)]
pub(crate) struct Recipe {
    /// Without it X.509 v1; 2 is v3.
    pub(crate) version: Option<u8>,
    pub(crate) serial: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    /// Written over the issuer's name.
    pub(crate) issuer: Option<Vec<u8>>,
    pub(crate) not_before: Vec<u8>,
    pub(crate) not_after: Vec<u8>,
    /// Between the public key and the extensions, such as issuerUniqueID.
    pub(crate) unique_ids: Vec<u8>,
    pub(crate) extensions: Vec<Vec<u8>>,
    /// Written over the algorithm inside.
    pub(crate) inner_algorithm: Option<Vec<u8>>,
    /// Behind the end.
    pub(crate) trailing: Vec<u8>,
    /// Turns a bit of the signature.
    pub(crate) is_tampered: bool,
}

/// A certificate with its key.
pub(crate) struct Made {
    pub(crate) der: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    pub(crate) key: Key,
}

impl Recipe {
    fn named(subject: Vec<u8>) -> Self {
        Self {
            version: Some(2),
            serial: vec![0x11, 0x22, 0x33],
            subject,
            issuer: None,
            not_before: tlv(UTC_TIME, b"200101000000Z"),
            not_after: tlv(UTC_TIME, b"400101000000Z"),
            unique_ids: Vec::new(),
            extensions: Vec::new(),
            inner_algorithm: None,
            trailing: Vec::new(),
            is_tampered: false,
        }
    }

    /// A CA of this name, with basicConstraints and keyUsage.
    pub(crate) fn authority(common_name: &str) -> Self {
        let mut recipe = Self::named(name(UTF8, common_name.as_bytes()));
        recipe.extensions = vec![authority_constraints(None), key_usage(&[0x03, 0x02, 0x01, 0x06])];
        recipe
    }

    /// A device's, with nothing but its name.
    pub(crate) fn device(common_name: &str) -> Self {
        Self::named(name(UTF8, common_name.as_bytes()))
    }

    pub(crate) fn self_signed(&self, kind: Kind) -> Made {
        self.self_signed_with(Key::new(kind))
    }

    pub(crate) fn self_signed_with(&self, key: Key) -> Made {
        let der = self.signed(&key, &key, &self.subject);
        Made { der, subject: self.subject.clone(), key }
    }

    pub(crate) fn by(&self, issuer: &Made) -> Made {
        self.by_with(issuer, Kind::P256)
    }

    pub(crate) fn by_with(&self, issuer: &Made, kind: Kind) -> Made {
        let key = Key::new(kind);
        let der = self.signed(&key, &issuer.key, &issuer.subject);
        Made { der, subject: self.subject.clone(), key }
    }

    /// A certificate of `key` that `signer` signs.
    pub(crate) fn signed(&self, key: &Key, signer: &Key, issuer: &[u8]) -> Vec<u8> {
        let version = self.version.map(|version| tlv(0xA0, &tlv(INTEGER, &[version]))).unwrap_or_default();
        let extensions = match self.extensions.is_empty() {
            true => Vec::new(),
            false => tlv(0xA3, &tlv(SEQUENCE, &self.extensions.concat())),
        };
        let algorithm = signer.algorithm();
        let signed = sequence(&[
            &version,
            &tlv(INTEGER, &self.serial),
            self.inner_algorithm.as_ref().unwrap_or(&algorithm),
            self.issuer.as_deref().unwrap_or(issuer),
            &sequence(&[&self.not_before, &self.not_after]),
            &self.subject,
            &key.public(),
            &self.unique_ids,
            &extensions,
        ]);
        let mut signature = signer.sign(&signed);
        if self.is_tampered {
            let last = signature.len() - 1;
            signature[last] ^= 1;
        }
        [sequence(&[&signed, &algorithm, &bits(&signature)]), self.trailing.clone()].concat()
    }
}

/// A name of one common name, in this kind of string.
pub(crate) fn name(tag: u8, common_name: &[u8]) -> Vec<u8> {
    sequence(&[&attribute(COMMON_NAME, tag, common_name)])
}

pub(crate) fn attribute(id: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
    tlv(SET, &sequence(&[&oid(id), &tlv(tag, value)]))
}

/// An organisation, then these common names.
pub(crate) fn organised(common_names: &[&str]) -> Vec<u8> {
    let mut parts = attribute(ORGANIZATION, PRINTABLE, b"Plant");
    for common_name in common_names {
        parts.extend(attribute(COMMON_NAME, UTF8, common_name.as_bytes()));
    }
    tlv(SEQUENCE, &parts)
}

/// CA:TRUE, with so many below it.
pub(crate) fn authority_constraints(path_length: Option<u8>) -> Vec<u8> {
    let limit = path_length.map(|most| tlv(INTEGER, &[most])).unwrap_or_default();
    extension(BASIC_CONSTRAINTS, &TRUE, &sequence(&[&TRUE, &limit]))
}

/// CA:FALSE.
pub(crate) fn no_authority() -> Vec<u8> {
    extension(BASIC_CONSTRAINTS, &TRUE, &sequence(&[]))
}

/// The BIT STRING as it stands there.
pub(crate) fn key_usage(value: &[u8]) -> Vec<u8> {
    extension(KEY_USAGE, &TRUE, value)
}

/// The last numbers of id-kp: 1 is serverAuth, 2 is clientAuth.
pub(crate) fn purposes(numbers: &[u8]) -> Vec<u8> {
    let purposes: Vec<u8> =
        numbers.iter().flat_map(|number| oid(&[0x2B, 6, 1, 5, 5, 7, 3, *number])).collect();
    extension(EXTENDED_KEY_USAGE, &[], &tlv(SEQUENCE, &purposes))
}

/// anyExtendedKeyUsage.
pub(crate) fn any_purpose() -> Vec<u8> {
    extension(EXTENDED_KEY_USAGE, &[], &sequence(&[&oid(&[0x55, 0x1D, 0x25, 0])]))
}

pub(crate) fn unknown(critical: bool) -> Vec<u8> {
    extension(UNKNOWN, if critical { &TRUE } else { &[] }, &[5, 0])
}

/// Permits names under `example`.
pub(crate) fn name_constraints(critical: bool) -> Vec<u8> {
    let permitted = tlv(0xA0, &sequence(&[&tlv(0x82, b"example")]));
    extension(NAME_CONSTRAINTS, if critical { &TRUE } else { &[] }, &sequence(&[&permitted]))
}

pub(crate) fn subject_key_id(id: &[u8]) -> Vec<u8> {
    extension(SUBJECT_KEY_ID, &[], &tlv(der::OCTET_STRING, id))
}

pub(crate) fn authority_key_id(id: &[u8]) -> Vec<u8> {
    extension(AUTHORITY_KEY_ID, &[], &sequence(&[&tlv(0x80, id)]))
}
