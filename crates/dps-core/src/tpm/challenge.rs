//! Keys that follow from the instance's secret, so that any node knows them and none has to keep them.
//! Spec: DPS-TPM-4, DPS-TPM-7.

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use dps_proto::ids::{IdScope, InstanceSecret, RegistrationId};
use dps_proto::key::{KeyPair, SymmetricKey};
use jiff::Timestamp;

use super::TpmKeys;

/// For how long a device is challenged with the same key; the one before is good too.
pub const WINDOW_SECONDS: i64 = 5 * 60;

/// The key that a device is challenged with at this time. It follows from the device and its TPM, so that a token which is signed
/// with it proves that very TPM.
pub fn nonce_key(
    secret: &InstanceSecret,
    scope: &IdScope,
    id: &RegistrationId,
    keys: &TpmKeys,
    at: Timestamp,
) -> SymmetricKey {
    let window = at.as_second().div_euclid(WINDOW_SECONDS);
    derived(secret, b"nonce", scope, id, keys, &window.to_be_bytes())
}

/// The keys that the device authenticates with at its hub: the same for the same TPM with the same storage root key.
pub fn hub_keys(secret: &InstanceSecret, scope: &IdScope, id: &RegistrationId, keys: &TpmKeys) -> KeyPair {
    let derived = |which: &[u8]| derived(secret, b"hub", scope, id, keys, which);
    KeyPair { primary: derived(b"primary"), secondary: derived(b"secondary") }
}

fn derived(
    secret: &InstanceSecret,
    purpose: &[u8],
    scope: &IdScope,
    id: &RegistrationId,
    keys: &TpmKeys,
    last: &[u8],
) -> SymmetricKey {
    let name = keys.storage_root.name();
    let parts: [&[u8]; 7] = [
        b"tpm",
        purpose,
        scope.folded().as_bytes(),
        id.folded().as_bytes(),
        keys.endorsement.as_bytes(),
        &name,
        last,
    ];
    let mut said = Vec::with_capacity(512);
    for part in parts {
        // Each with its length, so that no two sets of parts say the same.
        said.extend_from_slice(&(part.len() as u64).to_be_bytes());
        said.extend_from_slice(part);
    }
    let tag = sign(&Key::new(HMAC_SHA256, secret.expose()), &said);
    SymmetricKey::of_tag(&tag)
}
