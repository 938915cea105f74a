//! Thumbprints: hashes of whole certificates, by which people and hubs know them. Spec: DPS-X509-22, DPS-X509-27.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;

/// SHA-256 of a certificate's DER. Shown in upper-case hexadecimal, as hubs do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256Thumbprint([u8; 32]);

/// SHA-1 of a certificate's DER, for people to compare with what other tools show. Shown in lower-case hexadecimal.
/// Nothing is decided by it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sha1Thumbprint([u8; 20]);

/// A text that is no SHA-256 thumbprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 thumbprint has 64 hexadecimal digits")]
pub struct BadThumbprint;

impl Sha256Thumbprint {
    /// That of a certificate.
    pub fn of(der: &[u8]) -> Self {
        Self(copy(digest::digest(&digest::SHA256, der).as_ref()))
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

impl Sha1Thumbprint {
    /// That of a certificate.
    pub fn of(der: &[u8]) -> Self {
        Self(copy(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der).as_ref()))
    }
}

/// A digest has the length of its algorithm.
fn copy<const LENGTH: usize>(digest: &[u8]) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes.copy_from_slice(digest);
    bytes
}

impl FromStr for Sha256Thumbprint {
    type Err = BadThumbprint;

    fn from_str(text: &str) -> Result<Self, BadThumbprint> {
        let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
        let digits = digits.filter(|digits| digits.len() == 64).ok_or(BadThumbprint)?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            // Two digits make a byte.
            *byte = (pair[0] * 16 + pair[1]) as u8;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Sha256Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for Sha256Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Sha1Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha1Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-X509-27
    #[test]
    fn thumbprints_are_shown_as_dps_shows_them() {
        assert_eq!(Sha1Thumbprint::of(b"abc").to_string(), "a9993e364706816aba3e25717850c26c9cd0d89d");
        let sha256 = Sha256Thumbprint::of(b"abc");
        assert_eq!(sha256.to_string(), "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD");
        assert_eq!(sha256.to_string().to_lowercase().parse(), Ok(sha256));
        for bad in ["", "BA78", &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(bad.parse::<Sha256Thumbprint>(), Err(BadThumbprint), "{bad}");
        }
    }
}
