//! Symmetric keys and their derivation. Spec: DPS-SAS-7, DPS-SAS-10 (docs/spec/sas.md).

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose};
use zeroize::Zeroizing;

/// Keys are typed by hand and cut by tools, so missing padding is no reason to refuse one.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A shared key: of an enrollment, a group, or a device. It has no `Display` and prints as `SymmetricKey(..)`.
#[derive(Clone)]
pub struct SymmetricKey(Zeroizing<Vec<u8>>);

/// Why a text is not a symmetric key. Spec: DPS-SAS-10.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// The text is not Base64.
    #[error("the key is not Base64")]
    NotBase64,
    /// The decoded key is shorter or longer than a key may be.
    #[error("the key has {0} bytes; it must have 16 to 64")]
    Length(usize),
}

impl SymmetricKey {
    /// Fewest bytes of a key. Spec: DPS-SAS-10.
    pub const BYTES_MIN: usize = 16;
    /// Most bytes of a key. Spec: DPS-SAS-10.
    pub const BYTES_MAX: usize = 64;

    /// Takes the raw bytes of a key.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, BadKey> {
        let bytes = Zeroizing::new(bytes);
        if (Self::BYTES_MIN..=Self::BYTES_MAX).contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(BadKey::Length(bytes.len()))
        }
    }

    /// The key of one device of a group: HMAC-SHA256, keyed with this group key, over `registration_id` exactly as
    /// spelled. Spec: DPS-SAS-7.
    pub fn derive(&self, registration_id: &str) -> Self {
        Self::of_tag(&self.sign(&[registration_id.as_bytes()]))
    }

    /// The key that an HMAC-SHA256 comes to.
    pub fn of_tag(tag: &hmac::Tag) -> Self {
        Self(Zeroizing::new(tag.as_ref().to_vec()))
    }

    /// HMAC-SHA256 over the concatenated parts.
    pub fn sign(&self, parts: &[&[u8]]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.0));
        for part in parts {
            context.update(part);
        }
        context.sign()
    }

    /// Whether `signature` is this key's HMAC-SHA256 over the parts, compared in constant time.
    pub fn verifies(&self, parts: &[&[u8]], signature: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(self.sign(parts).as_ref(), signature).is_ok()
    }

    /// Whether both are the same key, compared in constant time.
    pub fn is_same(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }

    /// The raw bytes, for the store to seal.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The Base64 text, for answers whose purpose is to hand out the key.
    pub fn expose_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(general_purpose::STANDARD.encode(&*self.0))
    }
}

impl FromStr for SymmetricKey {
    type Err = BadKey;
    fn from_str(text: &str) -> Result<Self, BadKey> {
        Self::from_bytes(LENIENT.decode(text.trim()).map_err(|_| BadKey::NotBase64)?)
    }
}

impl fmt::Debug for SymmetricKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SymmetricKey(..)")
    }
}

/// The two keys of an enrollment, a group or a device; either is as good as the other. Spec: DPS-SAS-8.
#[derive(Debug, Clone)]
pub struct KeyPair {
    /// The key that tools show first.
    pub primary: SymmetricKey,
    /// The key to change over to.
    pub secondary: SymmetricKey,
}

impl KeyPair {
    /// The pair of one device of a group. Spec: DPS-SAS-7.
    pub fn derive(&self, registration_id: &str) -> Self {
        Self {
            primary: self.primary.derive(registration_id),
            secondary: self.secondary.derive(registration_id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn derived(group_key: &str, id: &str, expected: &str) {
        let group_key: SymmetricKey = group_key.parse().unwrap();
        assert_eq!(*group_key.derive(id).expose_base64(), expected);
    }

    /// DPS-SAS-7: the test vectors that the documentation publishes.
    #[test]
    fn derived_keys_match_the_published_vectors() {
        derived(
            "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==",
            "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6",
            "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=",
        );
        let contoso =
            "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA==";
        derived(contoso, "breakroom499-contoso-tstrsd-007", "JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=");
        derived(contoso, "mainbuilding167-contoso-hpsd-088", "6uejA9PfkQgmYylj8Zerp3kcbeVrGZ172YLa7VSnJzg=");
    }

    /// DPS-SAS-10
    #[test]
    fn a_key_is_base64_of_16_to_64_bytes() {
        assert!("AAAAAAAAAAAAAAAAAAAAAA==".parse::<SymmetricKey>().is_ok());
        assert!("AAAAAAAAAAAAAAAAAAAAAA".parse::<SymmetricKey>().is_ok(), "padding may be missing");
        assert_eq!("AAAA".parse::<SymmetricKey>().map(|_| ()), Err(BadKey::Length(3)));
        assert_eq!("A".repeat(88).parse::<SymmetricKey>().map(|_| ()), Err(BadKey::Length(66)));
        assert_eq!("not base64!".parse::<SymmetricKey>().map(|_| ()), Err(BadKey::NotBase64));
    }

    #[test]
    fn a_key_cannot_be_printed() {
        let key = SymmetricKey::from_bytes(vec![1; 16]).unwrap();
        assert_eq!(format!("{key:?}"), "SymmetricKey(..)");
    }
}
