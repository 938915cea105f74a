//! Pairs of keys as stores of tables keep them. Spec: DPS-STORE-6.

use dps_core::ports::StoreError;
use dps_proto::key::{KeyPair, SymmetricKey};
use zeroize::Zeroizing;

use crate::sealing::Sealer;

/// The sealed form of a pair of keys. Spec: DPS-STORE-6.
pub(crate) fn seal_keys(sealer: &Sealer, row_key: &str, keys: &KeyPair) -> Result<Vec<u8>, StoreError> {
    let (primary, secondary) = (keys.primary.expose(), keys.secondary.expose());
    let mut text = Zeroizing::new(Vec::with_capacity(1 + primary.len() + secondary.len()));
    // A key has at most 64 bytes.
    text.push(primary.len() as u8);
    text.extend_from_slice(primary);
    text.extend_from_slice(secondary);
    sealer.seal(row_key, &text)
}

/// The keys of a sealed pair.
pub(crate) fn open_keys(sealer: &Sealer, row_key: &str, sealed: &[u8]) -> Result<KeyPair, StoreError> {
    let text = sealer.open(row_key, sealed)?;
    let unreadable = || StoreError::Unreadable(format!("the secret of {row_key} is no pair of keys"));
    let (length, keys) = text.split_first().ok_or_else(unreadable)?;
    let (primary, secondary) = keys.split_at_checked(usize::from(*length)).ok_or_else(unreadable)?;
    let key = |bytes: &[u8]| SymmetricKey::from_bytes(bytes.to_vec()).map_err(|_| unreadable());
    Ok(KeyPair { primary: key(primary)?, secondary: key(secondary)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-STORE-6
    #[test]
    fn a_pair_of_keys_of_any_length_comes_back_from_its_sealed_form() {
        let sealer = Sealer::new(&crate::SealingKey::from_bytes([1; 32]));
        let key = |length| SymmetricKey::from_bytes(vec![length as u8; length]).unwrap();
        for (primary, secondary) in [(16, 64), (64, 16), (64, 64), (16, 16)] {
            let keys = KeyPair { primary: key(primary), secondary: key(secondary) };
            let opened = open_keys(&sealer, "row", &seal_keys(&sealer, "row", &keys).unwrap()).unwrap();
            assert_eq!(opened.primary.expose(), keys.primary.expose());
            assert_eq!(opened.secondary.expose(), keys.secondary.expose());
        }
    }

    /// DPS-STORE-6
    #[test]
    fn a_sealed_value_that_is_no_pair_of_keys_is_unreadable() {
        let sealer = Sealer::new(&crate::SealingKey::from_bytes([1; 32]));
        for text in [&[][..], &[16], &[16, 1], &[16; 17], &[200; 129]] {
            let opened = open_keys(&sealer, "row", &sealer.seal("row", text).unwrap());
            assert!(matches!(opened, Err(StoreError::Unreadable(_))), "{opened:?}");
        }
    }
}
