//! How keys and instance secrets lie in the store. Spec: DPS-STORE-6.
//!
//! A sealed value is: version (1 byte, `1`), id of the sealing key (8 bytes), nonce (12 bytes), ciphertext and tag of
//! AES-256-GCM. The row's key, such as `enrollment-group/0ne00000000/line-7`, is the associated data.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use dps_core::ports::StoreError;
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const KEY_ID_BYTES: usize = 8;
const HEADER_BYTES: usize = 1 + KEY_ID_BYTES;

/// Seals secrets before they are stored and opens them when they are read.
pub struct Sealer {
    key: hmac::Key,
    id: KeyId,
}

impl Sealer {
    /// A sealer with this key.
    pub fn new(key: &SealingKey) -> Self {
        Self { id: key.id(), key: hmac::Key::new(hmac::HMAC_SHA256, &*key.0) }
    }

    /// Bytes of a sealed value that say with which key it was sealed.
    pub(crate) const HEAD_BYTES: i64 = HEADER_BYTES as i64;

    /// What the values that it seals begin with.
    pub(crate) fn head(&self) -> Vec<u8> {
        [&[VERSION], &self.id.0[..]].concat()
    }

    /// The name of its key.
    pub(crate) fn id(&self) -> KeyId {
        self.id
    }

    /// Seals `secret` for the row of that key; it opens in no other. Fails only if there is no randomness to be had.
    pub fn seal(&self, row_key: &str, secret: &[u8]) -> Result<Vec<u8>, StoreError> {
        let failed = |_| StoreError::Unavailable("no randomness to seal with".to_owned());
        let mut text = Zeroizing::new(secret.to_vec());
        let (nonce, tag) = self
            .row_cipher(row_key)
            .and_then(|cipher| cipher.seal_in_place_separate_tag(Aad::from(row_key), &mut text))
            .map_err(failed)?;
        let mut sealed = Vec::with_capacity(HEADER_BYTES + NONCE_LEN + text.len() + tag.as_ref().len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&self.id.0);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&text);
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens what was sealed for the row of that key.
    pub fn open(&self, row_key: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let unreadable = |why: String| StoreError::Unreadable(format!("the secret of {row_key} {why}"));
        let Some((header, rest)) = sealed.split_at_checked(HEADER_BYTES) else {
            return Err(unreadable("is cut off".to_owned()));
        };
        if header[0] != VERSION {
            return Err(unreadable(format!(
                "is sealed in form {}, which this program does not know",
                header[0]
            )));
        }
        if header[1..] != self.id.0 {
            let mut other = KeyId([0; KEY_ID_BYTES]);
            other.0.copy_from_slice(&header[1..]);
            return Err(unreadable(format!(
                "is sealed with key {other}; the store was opened with key {}",
                self.id
            )));
        }
        let Some((nonce, text)) = rest.split_at_checked(NONCE_LEN) else {
            return Err(unreadable("is cut off".to_owned()));
        };
        let mut text = Zeroizing::new(text.to_vec());
        let length = Nonce::try_assume_unique_for_key(nonce)
            .and_then(|nonce| self.row_cipher(row_key)?.open_in_place(nonce, Aad::from(row_key), &mut text))
            .map(|opened| opened.len());
        match length {
            Ok(length) => {
                text.truncate(length);
                Ok(text)
            }
            Err(_) => Err(unreadable(format!(
                "does not open with key {}: damaged, or moved from another row",
                self.id
            ))),
        }
    }

    /// Each row has a key of its own, so that random nonces stay safe however many values are sealed: the limit of 2^32
    /// values to a key then holds for one row.
    fn row_cipher(&self, row_key: &str) -> Result<RandomizedNonceKey, aws_lc_rs::error::Unspecified> {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(b"row\n");
        context.update(row_key.as_bytes());
        RandomizedNonceKey::new(&AES_256_GCM, context.sign().as_ref())
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({})", self.id)
    }
}

/// The key that a store's secrets are sealed with: 32 random bytes. Never printed.
pub struct SealingKey(Zeroizing<[u8; 32]>);

/// A sealing key has 32 bytes; this many were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sealing key has 32 bytes, not {0}")]
pub struct BadSealingKey(pub usize);

impl SealingKey {
    /// Takes 32 random bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Names the key and reveals nothing of it.
    pub fn id(&self) -> KeyId {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &*self.0), b"id of the sealing key");
        let mut id = KeyId([0; KEY_ID_BYTES]);
        id.0.copy_from_slice(&tag.as_ref()[..KEY_ID_BYTES]);
        id
    }
}

impl TryFrom<&[u8]> for SealingKey {
    type Error = BadSealingKey;
    fn try_from(bytes: &[u8]) -> Result<Self, BadSealingKey> {
        bytes.try_into().map(Self::from_bytes).map_err(|_| BadSealingKey(bytes.len()))
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey(..)")
    }
}

/// Names a sealing key: 16 hexadecimal digits when shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; KEY_ID_BYTES]);

impl KeyId {
    /// The key that a value was sealed with. `None` where it is no sealed value, or of a form that this program does not know.
    pub(crate) fn of_sealed(sealed: &[u8]) -> Option<Self> {
        let (version, rest) = sealed.split_first()?;
        let id = rest.first_chunk().copied()?;
        (*version == VERSION).then_some(Self(id))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(byte: u8) -> Sealer {
        Sealer::new(&SealingKey::from_bytes([byte; 32]))
    }

    #[track_caller]
    fn refused(opened: Result<Zeroizing<Vec<u8>>, StoreError>, expected: &str) {
        let Err(StoreError::Unreadable(text)) = opened else { panic!("{opened:?}") };
        assert!(text.contains(expected), "{text}");
    }

    /// DPS-STORE-6
    #[test]
    fn a_sealed_value_opens_with_its_key_in_its_row() {
        for secret in [&b""[..], b"k", &[7; 129]] {
            let sealed = sealer(1).seal("row/a", secret).unwrap();
            assert_eq!(&**sealer(1).open("row/a", &sealed).unwrap(), secret);
            assert_eq!(sealed.len(), 1 + 8 + 12 + secret.len() + 16);
        }
    }

    /// DPS-STORE-6
    #[test]
    fn the_same_value_never_looks_the_same_twice() {
        assert_ne!(sealer(1).seal("row/a", b"secret").unwrap(), sealer(1).seal("row/a", b"secret").unwrap());
    }

    /// DPS-STORE-6
    #[test]
    fn a_value_moved_to_another_row_does_not_open() {
        let sealed = sealer(1).seal("row/a", b"secret").unwrap();
        refused(sealer(1).open("row/b", &sealed), "moved from another row");
    }

    /// DPS-STORE-6
    #[test]
    fn opening_with_another_key_names_both_keys() {
        let sealed = sealer(1).seal("row/a", b"secret").unwrap();
        let (used, opened) = (SealingKey::from_bytes([1; 32]).id(), SealingKey::from_bytes([2; 32]).id());
        refused(sealer(2).open("row/a", &sealed), &format!("sealed with key {used}"));
        refused(sealer(2).open("row/a", &sealed), &format!("opened with key {opened}"));
    }

    /// DPS-STORE-6
    #[test]
    fn a_damaged_value_does_not_open() {
        let sealed = sealer(1).seal("row/a", b"secret").unwrap();
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            refused(sealer(1).open("row/a", &damaged), "row/a");
            refused(sealer(1).open("row/a", &sealed[..at]), "row/a");
        }
    }

    /// DPS-STORE-6
    #[test]
    fn neither_the_key_nor_a_sealer_can_be_printed() {
        let key = SealingKey::from_bytes([0xAB; 32]);
        assert_eq!(format!("{key:?}"), "SealingKey(..)");
        assert_eq!(format!("{:?}", Sealer::new(&key)), format!("Sealer({})", key.id()));
        assert!(!key.id().to_string().contains("abab"));
    }

    #[test]
    fn a_sealing_key_has_32_bytes() {
        assert!(SealingKey::try_from(&[0; 32][..]).is_ok());
        assert_eq!(SealingKey::try_from(&[0; 31][..]).map(|_| ()), Err(BadSealingKey(31)));
    }
}
