//! TPM 2.0: the keys that a device presents, and secrets wrapped so that its TPM alone can use them.
//! Spec: DPS-TPM-1 to DPS-TPM-9 (docs/spec/tpm.md).

mod challenge;
mod key_blob;
mod storage_key;

pub use challenge::{WINDOW_SECONDS, hub_keys, nonce_key};
pub use key_blob::{Randomness, WrapFault, wrap};
pub use storage_key::{BadTpmKey, StorageKey};

/// The two keys of a TPM that a device presents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TpmKeys {
    /// What its maker gave it, by which it is enrolled.
    pub endorsement: StorageKey,
    /// Under which it keeps what it is given; its owner may make another.
    pub storage_root: StorageKey,
}

/// What a request says of a TPM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TpmEvidence {
    /// Nothing: the transport has no place for it. Spec: DPS-REG-7.
    #[default]
    NotCarried,
    /// Nothing, although it could.
    Absent,
    /// Its keys, if they can be read.
    Presented(Result<Box<TpmKeys>, BadTpmKey>),
    /// Nothing, and these were presented by an earlier request, perhaps another device's: they prove something only where the
    /// token bears them out. Spec: DPS-TPM-8.
    Remembered(Box<TpmKeys>),
}

impl TpmEvidence {
    /// From the public parts as a device sends them.
    pub fn presented(endorsement: &[u8], storage_root: &[u8]) -> Self {
        let read = || {
            Ok(Box::new(TpmKeys {
                endorsement: StorageKey::parse(endorsement)?,
                storage_root: StorageKey::parse(storage_root)?,
            }))
        };
        Self::Presented(read())
    }
}
