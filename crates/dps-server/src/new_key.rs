//! Keys that the service makes where nobody gives one.

use dps_proto::key::SymmetricKey;

/// There are no random bytes to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no key could be made: the random generator failed")]
pub(crate) struct NoRandomness;

/// 64 random bytes, as Azure makes them.
pub(crate) fn new_key() -> Result<SymmetricKey, NoRandomness> {
    let mut bytes = vec![0; SymmetricKey::BYTES_MAX];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    SymmetricKey::from_bytes(bytes).map_err(|_| NoRandomness)
}
