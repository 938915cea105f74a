//! An HMAC key wrapped for one TPM: it comes out only where the endorsement key and the storage root key are both at home
//! (TPM 2.0 Library part 1, sections 23 and 24). Spec: DPS-TPM-3.

use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey, PublicKeyComponents,
};
use dps_proto::ids::InstanceSecret;
use dps_proto::key::SymmetricKey;

use super::TpmKeys;
use super::storage_key::{SHA_256, StorageKey, name_of};

/// TPM_ALG_KEYEDHASH.
const KEYED_HASH: u16 = 0x0008;
/// TPM_ALG_HMAC.
const HMAC: u16 = 0x0005;
/// TPMA_OBJECT: sign, noDA and userWithAuth. It is not fixed to a TPM, or none could import it.
const ATTRIBUTES: u32 = 0x0004_0440;

/// Longest key that is wrapped, in bytes: a block of the hash.
const KEY_BYTES_MAX: usize = 64;

/// What one wrapping has for its secrets, unknown to whoever knows the random bytes alone.
pub struct Randomness([u8; 32]);

/// Why a key cannot be wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nothing can be encrypted with the RSA key of this TPM")]
pub struct WrapFault;

impl Randomness {
    /// From random bytes, fresh for each wrapping, which may be told to others elsewhere.
    pub fn new(secret: &InstanceSecret, random: &[u8; 32]) -> Self {
        Self(hmac(secret.expose(), &[b"tpm wrap", random]))
    }

    fn bytes(&self, purpose: &[u8]) -> [u8; 32] {
        hmac(&self.0, &[purpose])
    }
}

/// TPM2B_ID_OBJECT, TPM2B_ENCRYPTED_SECRET, TPM2B_PRIVATE, TPM2B_ENCRYPTED_SECRET, TPM2B_PUBLIC and an empty TPM2B: what Azure calls
/// an authentication key.
pub fn wrap(keys: &TpmKeys, key: &SymmetricKey, randomness: &Randomness) -> Result<Vec<u8>, WrapFault> {
    let key = key.expose();
    if key.len() > KEY_BYTES_MAX {
        return Err(WrapFault);
    }
    let obfuscation = randomness.bytes(b"obfuscation");
    let public = public_of(&obfuscation, key);
    let name = name_of(&public);
    let inner_key = first_half(&randomness.bytes(b"inner"));

    // The key as it lies in a TPM, within the inner wrapping, within the outer one.
    let sensitive = sized(&[&KEYED_HASH.to_be_bytes(), &sized(&[]), &sized(&[&obfuscation]), &sized(&[key])]);
    let integrity = digest(&SHA256, &[&sensitive[..], &name].concat());
    let inner = encrypted(&inner_key, [sized(&[integrity.as_ref()]), sensitive].concat())?;
    let import_seed = randomness.bytes(b"import");
    let private = sealed(&import_seed, &name, inner)?;

    // The inner key, for the TPM that has the endorsement key, and in it the storage root key.
    let credential_seed = randomness.bytes(b"credential");
    let credential = sealed(&credential_seed, &keys.storage_root.name(), sized(&[&inner_key]))?;

    Ok([
        sized(&[&credential]),
        sized(&[&encrypted_for(&keys.endorsement, b"IDENTITY\0", &credential_seed)?]),
        sized(&[&private]),
        sized(&[&encrypted_for(&keys.storage_root, b"DUPLICATE\0", &import_seed)?]),
        sized(&[&public]),
        sized(&[]),
    ]
    .concat())
}

/// TPMT_PUBLIC of an HMAC key.
fn public_of(obfuscation: &[u8; 32], key: &[u8]) -> Vec<u8> {
    let unique = digest(&SHA256, &[&obfuscation[..], key].concat());
    [
        &KEYED_HASH.to_be_bytes()[..],
        &SHA_256.to_be_bytes(),
        &ATTRIBUTES.to_be_bytes(),
        &sized(&[]),
        &HMAC.to_be_bytes(),
        &SHA_256.to_be_bytes(),
        &sized(&[unique.as_ref()]),
    ]
    .concat()
}

/// Encrypted and authenticated under a seed, for the object of that name: the protected storage of a TPM.
fn sealed(seed: &[u8; 32], name: &[u8; 34], plain: Vec<u8>) -> Result<Vec<u8>, WrapFault> {
    let storage_key = first_half(&kdf(seed, b"STORAGE", name, 128));
    let encrypted = encrypted(&storage_key, plain)?;
    let tag = hmac(&kdf(seed, b"INTEGRITY", &[], 256), &[&encrypted, name]);
    Ok([sized(&[&tag]), encrypted].concat())
}

/// KDFa with SHA-256, for as many bits as one round gives (part 1, section 11.4.10.2).
fn kdf(key: &[u8; 32], label: &[u8], context: &[u8], bits: u32) -> [u8; 32] {
    hmac(key, &[&1_u32.to_be_bytes(), label, &[0], context, &bits.to_be_bytes()])
}

fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let tag = sign(&Key::new(HMAC_SHA256, key), &parts.concat());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

fn first_half(bytes: &[u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&bytes[..16]);
    half
}

/// AES-128 in CFB mode. Every key is used once, so the initialisation vector is zero, as in a TPM.
fn encrypted(key: &[u8; 16], mut plain: Vec<u8>) -> Result<Vec<u8>, WrapFault> {
    let key = UnboundCipherKey::new(&AES_128, key).map_err(|_| WrapFault)?;
    let key = EncryptingKey::cfb128(key).map_err(|_| WrapFault)?;
    let zero = EncryptionContext::Iv128(FixedLength::from([0; 16]));
    key.less_safe_encrypt(&mut plain, zero).map_err(|_| WrapFault)?;
    Ok(plain)
}

fn encrypted_for(key: &StorageKey, label: &[u8], seed: &[u8; 32]) -> Result<Vec<u8>, WrapFault> {
    let exponent = key.exponent();
    let zeros = exponent.iter().take_while(|byte| **byte == 0).count();
    let components = PublicKeyComponents { n: key.modulus(), e: &exponent[zeros..] };
    let key: PublicEncryptingKey = components.try_into().map_err(|_| WrapFault)?;
    let key = OaepPublicEncryptingKey::new(key).map_err(|_| WrapFault)?;
    let mut encrypted = vec![0; key.ciphertext_size()];
    key.encrypt(&OAEP_SHA256_MGF1SHA256, seed, &mut encrypted, Some(label)).map_err(|_| WrapFault)?;
    Ok(encrypted)
}

/// A TPM2B of these parts.
fn sized(parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    // All of it is made here and short.
    [&(content.len() as u16).to_be_bytes()[..], &content].concat()
}
