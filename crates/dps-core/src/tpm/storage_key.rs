//! The public part of a TPM's storage key (TPM 2.0 Library part 2, section 12.2.5). Spec: DPS-TPM-2.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};

/// TPM_ALG_RSA.
const RSA: u16 = 0x0001;
/// TPM_ALG_SHA256.
pub(super) const SHA_256: u16 = 0x000b;
/// TPM_ALG_AES.
const AES: u16 = 0x0006;
/// TPM_ALG_CFB.
const CFB: u16 = 0x0043;
/// TPM_ALG_NULL.
const NULL: u16 = 0x0010;

/// TPMA_OBJECT: restricted and decrypt, which make a storage key.
const RESTRICTED_DECRYPT: u32 = 0x0003_0000;

/// What an exponent of 0 stands for.
const EXPONENT: u32 = 65_537;

/// Longest TPM2B_PUBLIC that is read, in bytes.
const BYTES_MAX: usize = 1_024;

/// An RSA-2048 storage key with AES-128-CFB and SHA-256, as every TPM 2.0 has it by default.
#[derive(Clone, PartialEq, Eq)]
pub struct StorageKey {
    /// TPM2B_PUBLIC.
    bytes: Box<[u8]>,
    modulus: Box<[u8]>,
    exponent: u32,
}

/// Why bytes are no key that secrets can be wrapped for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTpmKey {
    /// It does not end where it says, or begin as it should.
    #[error("it is no TPM2B_PUBLIC")]
    Shape,
    /// Another algorithm.
    #[error(
        "it is no RSA key of 2,048 bits with SHA-256 and AES-128 in CFB mode, the only ones that are taken"
    )]
    Algorithms,
    /// A key for something else.
    #[error("it is no storage key: the attributes restricted and decrypt are not both set")]
    Attributes,
}

impl StorageKey {
    /// Reads a TPM2B_PUBLIC.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadTpmKey> {
        if bytes.len() > BYTES_MAX {
            return Err(BadTpmKey::Shape);
        }
        let mut whole = Reader(bytes);
        let mut public = Reader(whole.sized()?);
        whole.ends()?;
        let (kind, name_algorithm) = (public.u16()?, public.u16()?);
        let attributes = public.u32()?;
        let _policy = public.sized()?;
        if kind != RSA || name_algorithm != SHA_256 {
            return Err(BadTpmKey::Algorithms);
        }
        // A symmetric algorithm of another kind has other parameters behind it.
        if (public.u16()?, public.u16()?, public.u16()?, public.u16()?, public.u16()?)
            != (AES, 128, CFB, NULL, 2_048)
        {
            return Err(BadTpmKey::Algorithms);
        }
        let exponent = match public.u32()? {
            0 => EXPONENT,
            exponent => exponent,
        };
        let modulus = public.sized()?;
        public.ends()?;
        // Fewer bits than it says are no key of that length.
        if modulus.len() != 256 || modulus[0] < 0x80 || exponent.is_multiple_of(2) || exponent < 3 {
            return Err(BadTpmKey::Algorithms);
        }
        if attributes & RESTRICTED_DECRYPT != RESTRICTED_DECRYPT {
            return Err(BadTpmKey::Attributes);
        }
        Ok(Self { bytes: bytes.into(), modulus: modulus.into(), exponent })
    }

    /// TPM2B_PUBLIC.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What a TPM calls it: the hash's algorithm and the hash of TPMT_PUBLIC.
    pub fn name(&self) -> [u8; 34] {
        name_of(&self.bytes[2..])
    }

    pub(super) fn modulus(&self) -> &[u8] {
        &self.modulus
    }

    pub(super) fn exponent(&self) -> [u8; 4] {
        self.exponent.to_be_bytes()
    }
}

/// By its name, in hexadecimal: the key itself is long.
impl fmt::Display for StorageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StorageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StorageKey({self})")
    }
}

/// The name of an object with this TPMT_PUBLIC.
pub(super) fn name_of(public: &[u8]) -> [u8; 34] {
    let mut name = [0; 34];
    name[..2].copy_from_slice(&SHA_256.to_be_bytes());
    name[2..].copy_from_slice(digest(&SHA256, public).as_ref());
    name
}

/// What is left to read.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, length: usize) -> Result<&'b [u8], BadTpmKey> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(BadTpmKey::Shape)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16, BadTpmKey> {
        self.take(2)?.try_into().map(u16::from_be_bytes).map_err(|_| BadTpmKey::Shape)
    }

    fn u32(&mut self) -> Result<u32, BadTpmKey> {
        self.take(4)?.try_into().map(u32::from_be_bytes).map_err(|_| BadTpmKey::Shape)
    }

    /// A TPM2B.
    fn sized(&mut self) -> Result<&'b [u8], BadTpmKey> {
        let length = self.u16()?;
        self.take(length.into())
    }

    fn ends(&self) -> Result<(), BadTpmKey> {
        if self.0.is_empty() { Ok(()) } else { Err(BadTpmKey::Shape) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An endorsement key of the default template, with a modulus that nobody has.
    fn endorsement_key() -> Vec<u8> {
        let mut public = vec![0x00, 0x01, 0x00, 0x0b, 0x00, 0x03, 0x00, 0xb2, 0x00, 0x20];
        public.extend([0x83; 32]);
        public.extend([0x00, 0x06, 0x00, 0x80, 0x00, 0x43, 0x00, 0x10, 0x08, 0x00, 0, 0, 0, 0, 0x01, 0x00]);
        public.extend([0xc5; 256]);
        [&(public.len() as u16).to_be_bytes()[..], &public].concat()
    }

    /// DPS-TPM-2
    #[test]
    fn a_key_of_the_default_template_is_read_and_any_other_told_why_not() {
        let good = endorsement_key();
        let key = StorageKey::parse(&good).unwrap();
        assert_eq!((key.as_bytes(), key.exponent()), (&good[..], 65_537_u32.to_be_bytes()));
        assert!(key.to_string().starts_with("000b"));
        let changed = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            StorageKey::parse(&bytes).unwrap_err()
        };
        assert_eq!(changed(1, 0x00), BadTpmKey::Shape);
        assert_eq!(changed(3, 0x23), BadTpmKey::Algorithms);
        assert_eq!(changed(5, 0x0c), BadTpmKey::Algorithms);
        assert_eq!(changed(7, 0x01), BadTpmKey::Attributes);
        assert_eq!(changed(11, 0x21), BadTpmKey::Algorithms);
        assert_eq!(changed(47, 0x01), BadTpmKey::Algorithms);
        assert_eq!(changed(60, 0x45), BadTpmKey::Algorithms);
        for length in 0..good.len() {
            assert_eq!(StorageKey::parse(&good[..length]), Err(BadTpmKey::Shape));
        }
        assert_eq!(StorageKey::parse(&[&good[..], &[0]].concat()), Err(BadTpmKey::Shape));
    }
}
