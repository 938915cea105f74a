//! Distinguished names: compared, shown, and the common name in one. Spec: DPS-X509-3, DPS-X509-12.

use aws_lc_rs::digest;
use x509_parser::asn1_rs::{Any, Tag};
use x509_parser::oid_registry::{OID_X509_COMMON_NAME, OidRegistry};
use x509_parser::x509::X509Name;

/// Equal for two distinguished names that are the same by RFC 5280 section 7.1, and for no others. Spec: DPS-X509-12.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameKey([u8; 32]);

/// Why a subject gives no registration id. Spec: DPS-X509-3.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCommonName {
    /// There is none.
    #[error("its subject has no common name")]
    Missing,
    /// There are several.
    #[error("its subject has {0} common names, and only one can be the registration id")]
    Several(usize),
    /// It has no letter.
    #[error("its common name is empty")]
    Empty,
    /// It hides something.
    #[error("its common name holds a NUL")]
    Nul,
    /// It is not a string, or not one of its kind.
    #[error("its common name cannot be read")]
    Unreadable,
}

impl NameKey {
    pub(super) fn of(name: &X509Name<'_>) -> Self {
        let mut canonical = Vec::with_capacity(128);
        for relative in name.iter() {
            let mut attributes: Vec<Vec<u8>> = relative
                .iter()
                .map(|attribute| {
                    let oid = attribute.attr_type().as_bytes();
                    let value = match text_of(attribute.attr_value()) {
                        Some(text) => [&b"t"[..], folded(&text).as_bytes()].concat(),
                        None => raw(attribute.attr_value()),
                    };
                    [&length(oid), oid, &length(&value), &value].concat()
                })
                .collect();
            // A relative name is a set.
            attributes.sort_unstable();
            canonical.extend_from_slice(&(attributes.len() as u64).to_be_bytes());
            canonical.extend(attributes.concat());
        }
        let mut key = [0; 32];
        key.copy_from_slice(digest::digest(&digest::SHA256, &canonical).as_ref());
        Self(key)
    }

    /// One that was kept.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// To be kept.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The common name that is the registration id.
pub(super) fn common_name(subject: &X509Name<'_>) -> Result<String, BadCommonName> {
    let names: Vec<_> = subject
        .iter_attributes()
        .filter(|attribute| *attribute.attr_type() == OID_X509_COMMON_NAME)
        .collect();
    let value = match names.as_slice() {
        [] => return Err(BadCommonName::Missing),
        [one] => one.attr_value(),
        several => return Err(BadCommonName::Several(several.len())),
    };
    let text = text_of(value).ok_or(BadCommonName::Unreadable)?;
    match text {
        text if text.is_empty() => Err(BadCommonName::Empty),
        text if text.contains('\0') => Err(BadCommonName::Nul),
        text => Ok(text),
    }
}

/// As in RFC 4514, last part first, with a space behind each comma: the way DPS shows names.
pub(super) fn shown(name: &X509Name<'_>) -> String {
    let registry = OidRegistry::default().with_x509();
    let relatives: Vec<_> = name.iter().collect();
    let parts = relatives.iter().rev().map(|relative| {
        let attributes = relative.iter().map(|attribute| {
            let oid = attribute.attr_type();
            let kind = match registry.get(oid).map(|entry| entry.sn()) {
                Some("commonName") => "CN".to_owned(),
                Some("countryName") => "C".to_owned(),
                Some("organizationName") => "O".to_owned(),
                Some("organizationalUnit") => "OU".to_owned(),
                Some("localityName") => "L".to_owned(),
                Some("stateOrProvinceName") => "ST".to_owned(),
                Some(other) if other.len() <= 3 => other.to_owned(),
                _ => oid.to_id_string(),
            };
            match text_of(attribute.attr_value()) {
                Some(text) => format!("{kind}={}", escaped(&text)),
                None => {
                    let hex: String =
                        raw(attribute.attr_value()).iter().map(|byte| format!("{byte:02x}")).collect();
                    format!("{kind}=#{hex}")
                }
            }
        });
        attributes.collect::<Vec<_>>().join("+")
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// The text of the string kinds that names are made of; `None` for other kinds, and for a string that is none of its kind.
fn text_of(value: &Any<'_>) -> Option<String> {
    let bytes: &[u8] = value.data;
    match value.tag() {
        Tag::Utf8String => std::str::from_utf8(bytes).ok().map(str::to_owned),
        Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::VisibleString => {
            bytes.is_ascii().then(|| bytes.iter().map(|byte| char::from(*byte)).collect())
        }
        // T.61 as everyone uses it: Latin-1.
        Tag::T61String => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
        Tag::BmpString => {
            let (pairs, rest) = bytes.as_chunks::<2>();
            let units = pairs.iter().map(|pair| u16::from_be_bytes(*pair));
            // Surrogates are no characters of the basic plane.
            let text: Option<String> = units.map(|unit| char::from_u32(unit.into())).collect();
            text.filter(|_| rest.is_empty())
        }
        _ => None,
    }
}

/// Case folded, white space at the ends removed and collapsed within.
fn folded(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.extend(word.chars().flat_map(char::to_lowercase));
    }
    folded
}

/// Kind and content, for what has no text.
fn raw(value: &Any<'_>) -> Vec<u8> {
    let tag = value.tag().0.to_be_bytes();
    [&b"r"[..], &tag, value.data].concat()
}

fn length(bytes: &[u8]) -> [u8; 8] {
    (bytes.len() as u64).to_be_bytes()
}

/// So that a name cannot pretend to have other parts, and control characters do nothing.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=' => escaped.extend(['\\', character]),
            control if control.is_control() => escaped.extend(control.escape_default()),
            other => escaped.push(other),
        }
    }
    escaped
}
