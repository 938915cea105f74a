//! One certificate, read once. Spec: DPS-X509-11.

use std::ops::Range;

use jiff::Timestamp;
use x509_parser::asn1_rs::{Any, FromDer as _};
use x509_parser::certificate::X509Certificate;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

use super::extensions::{Authority, Extensions};
use super::name::{self, BadCommonName, NameKey};
use super::signature::{self, SignatureFault};
use super::thumbprint::{Sha1Thumbprint, Sha256Thumbprint};

/// An X.509 certificate that can be read. Nothing is known of its signature yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Box<[u8]>,
    thumbprint: Sha256Thumbprint,
    subject: NameKey,
    issuer: NameKey,
    subject_at: Range<usize>,
    issuer_at: Range<usize>,
    serial_at: Range<usize>,
    public_key_at: Range<usize>,
    signed_at: Range<usize>,
    algorithm_at: Range<usize>,
    signature_at: Range<usize>,
    version: u32,
    not_before: Timestamp,
    not_after: Timestamp,
    extensions: Extensions,
}

/// Why bytes are not taken for a certificate. Spec: DPS-X509-11.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCertificate {
    /// More than anyone needs.
    #[error("it has {0} bytes, more than {max}", max = Certificate::BYTES_MAX)]
    TooLong(usize),
    /// It is not DER of a certificate.
    #[error("it is not an X.509 certificate in DER")]
    Shape,
    /// Something stands behind it.
    #[error("{0} bytes stand behind it")]
    Trailing(usize),
    /// The signed part names another algorithm than the unsigned one.
    #[error("its signature algorithm inside is another than outside")]
    Algorithms,
    /// One extension twice.
    #[error("it has one extension twice")]
    DuplicateExtension,
    /// An extension that decides cannot be read.
    #[error("its extension {0} cannot be read")]
    Extension(String),
    /// A date is none.
    #[error("its dates cannot be read")]
    Dates,
}

impl Certificate {
    /// Longest certificate that is read, in bytes.
    pub const BYTES_MAX: usize = 16 * 1_024;

    /// Reads one certificate in DER.
    pub fn from_der(der: &[u8]) -> Result<Self, BadCertificate> {
        if der.len() > Self::BYTES_MAX {
            return Err(BadCertificate::TooLong(der.len()));
        }
        let (rest, read) = X509Certificate::from_der(der).map_err(|_| BadCertificate::Shape)?;
        if !rest.is_empty() {
            return Err(BadCertificate::Trailing(rest.len()));
        }
        let Parts { signed_at, inner_algorithm_at, algorithm_at, signature_at } =
            Parts::of(der).ok_or(BadCertificate::Shape)?;
        if !same_algorithm(&der[inner_algorithm_at], &der[algorithm_at.clone()]) {
            return Err(BadCertificate::Algorithms);
        }
        let at = |part: &[u8]| position(der, part).ok_or(BadCertificate::Shape);
        let tbs = &read.tbs_certificate;
        // "No well-defined expiration date" is 99991231235959Z (RFC 5280 section 4.1.2.5), hours beyond the last time there is here.
        let date = |seconds: i64| {
            let seconds = seconds.min(Timestamp::MAX.as_second());
            Timestamp::from_second(seconds).map_err(|_| BadCertificate::Dates)
        };
        Ok(Self {
            thumbprint: Sha256Thumbprint::of(der),
            subject: NameKey::of(&tbs.subject),
            issuer: NameKey::of(&tbs.issuer),
            subject_at: at(tbs.subject.as_raw())?,
            issuer_at: at(tbs.issuer.as_raw())?,
            serial_at: at(tbs.raw_serial())?,
            public_key_at: at(tbs.subject_pki.raw)?,
            signed_at,
            algorithm_at,
            signature_at,
            // Written as one less than it is called.
            version: tbs.version.0.saturating_add(1),
            not_before: date(tbs.validity.not_before.timestamp())?,
            not_after: date(tbs.validity.not_after.timestamp())?,
            extensions: Extensions::read(&read)?,
            der: der.into(),
        })
    }

    /// As it was read.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 of it: two certificates are the same where this is.
    pub fn thumbprint(&self) -> Sha256Thumbprint {
        self.thumbprint
    }

    /// SHA-1 of it, for people.
    pub fn sha1_thumbprint(&self) -> Sha1Thumbprint {
        Sha1Thumbprint::of(&self.der)
    }

    /// Its subject, to be compared.
    pub fn subject(&self) -> NameKey {
        self.subject
    }

    /// Its issuer, to be compared.
    pub fn issuer(&self) -> NameKey {
        self.issuer
    }

    /// Its subject, to be shown: `CN=..., O=...`.
    pub fn subject_text(&self) -> String {
        self.name(&self.subject_at).map_or_else(String::new, |name| name::shown(&name))
    }

    /// Its issuer, to be shown.
    pub fn issuer_text(&self) -> String {
        self.name(&self.issuer_at).map_or_else(String::new, |name| name::shown(&name))
    }

    /// The one common name of its subject. Spec: DPS-X509-3.
    pub fn common_name(&self) -> Result<String, BadCommonName> {
        self.name(&self.subject_at).ok_or(BadCommonName::Unreadable).and_then(|name| name::common_name(&name))
    }

    /// Its serial number, big-endian.
    pub fn serial_number(&self) -> &[u8] {
        &self.der[self.serial_at.clone()]
    }

    /// 1 to 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The first second at which it is valid.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The last second at which it is valid.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether it is that of a CA.
    pub fn authority(&self) -> Authority {
        self.extensions.authority
    }

    /// Its keyUsage, where it has one: whether that has keyCertSign.
    pub fn may_sign_certificates(&self) -> Option<bool> {
        self.extensions.may_sign_certificates
    }

    /// Its extendedKeyUsage, where it has one: whether that lets clients authenticate.
    pub fn may_authenticate_clients(&self) -> Option<bool> {
        self.extensions.may_authenticate_clients
    }

    /// Its SubjectPublicKeyInfo in DER.
    pub fn public_key(&self) -> &[u8] {
        &self.der[self.public_key_at.clone()]
    }

    /// The kind of its key, such as `RSA 2048` or `P-256`.
    pub fn key_kind(&self) -> String {
        let Ok((_, key)) = SubjectPublicKeyInfo::from_der(self.public_key()) else {
            return "unknown".to_owned();
        };
        if let Ok(PublicKey::RSA(rsa)) = key.parsed() {
            return format!("RSA {}", rsa.key_size());
        }
        let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        let oid = curve.unwrap_or(key.algorithm.algorithm.clone()).to_id_string();
        match oid.as_str() {
            "1.2.840.10045.3.1.7" => "P-256".to_owned(),
            "1.3.132.0.34" => "P-384".to_owned(),
            "1.3.132.0.35" => "P-521".to_owned(),
            "1.3.101.112" => "Ed25519".to_owned(),
            _ => oid,
        }
    }

    /// Whether its name and its key are those of `other`: the same authority, whatever else the two say.
    pub fn is_same_signer(&self, other: &Self) -> bool {
        self.subject == other.subject && self.public_key() == other.public_key()
    }

    /// Whether subject and issuer are one name.
    pub fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// Whether the key of `issuer` signed it; names, dates and whether `issuer` may sign are not looked at.
    pub fn verify_signature(&self, issuer: &Self) -> Result<(), SignatureFault> {
        signature::verify(self, issuer.public_key())
    }

    pub(super) fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// What is signed.
    pub(super) fn signed_part(&self) -> &[u8] {
        &self.der[self.signed_at.clone()]
    }

    /// The content of the outer AlgorithmIdentifier.
    pub(super) fn signature_algorithm(&self) -> &[u8] {
        &self.der[self.algorithm_at.clone()]
    }

    pub(super) fn signature(&self) -> &[u8] {
        &self.der[self.signature_at.clone()]
    }

    fn name(&self, at: &Range<usize>) -> Option<X509Name<'_>> {
        X509Name::from_der(&self.der[at.clone()]).ok().map(|(_, name)| name)
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate")
            .field("subject", &self.subject_text())
            .field("thumbprint", &self.thumbprint)
            .finish_non_exhaustive()
    }
}

/// The same to the byte, or but for parameters that say nothing: NULL or absent.
fn same_algorithm(inner: &[u8], outer: &[u8]) -> bool {
    fn said(algorithm: &[u8]) -> &[u8] {
        algorithm.strip_suffix(&signature::NULL).unwrap_or(algorithm)
    }
    said(inner) == said(outer)
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
/// `[0]`, explicit: the version.
const VERSION: u8 = 0xA0;

/// Where the parts lie that decide about the signature. The parser takes any tag for a SEQUENCE whose number is 16; what is not
/// signed must not be written in two ways.
struct Parts {
    signed_at: Range<usize>,
    /// The content of the AlgorithmIdentifier that is signed.
    inner_algorithm_at: Range<usize>,
    /// That of the one that is not.
    algorithm_at: Range<usize>,
    /// The bits alone.
    signature_at: Range<usize>,
}

impl Parts {
    fn of(der: &[u8]) -> Option<Self> {
        let whole = element(der, SEQUENCE)?;
        if !whole.rest.is_empty() {
            return None;
        }
        let signed = element(whole.content, SEQUENCE)?;
        let algorithm = element(signed.rest, SEQUENCE)?;
        let signature = element(algorithm.rest, BIT_STRING)?;
        let (unused, bits) = signature.content.split_first()?;
        if !signature.rest.is_empty() || *unused != 0 {
            return None;
        }
        let version = element(signed.content, VERSION);
        let serial = element(version.map_or(signed.content, |version| version.rest), INTEGER)?;
        let inner_algorithm = element(serial.rest, SEQUENCE)?;
        let signed = &whole.content[..whole.content.len() - signed.rest.len()];
        Some(Self {
            signed_at: position(der, signed)?,
            inner_algorithm_at: position(der, inner_algorithm.content)?,
            algorithm_at: position(der, algorithm.content)?,
            signature_at: position(der, bits)?,
        })
    }
}

struct Element<'d> {
    content: &'d [u8],
    rest: &'d [u8],
}

/// The first element, which begins with exactly this byte.
fn element(der: &[u8], tag: u8) -> Option<Element<'_>> {
    if der.first() != Some(&tag) {
        return None;
    }
    let (rest, any) = Any::from_der(der).ok()?;
    // `any.data` is borrowed from `der`, but its type hides for how long.
    let end = der.len() - rest.len();
    let length = any.data.len();
    Some(Element { content: der.get(end.checked_sub(length)?..end)?, rest })
}

/// Where `part`, a slice of `whole`, lies in it.
fn position(whole: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    let end = start.checked_add(part.len())?;
    (whole.get(start..end)? == part).then_some(start..end)
}
