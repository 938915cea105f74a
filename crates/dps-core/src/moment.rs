//! Time and randomness, as an argument.

use jiff::Timestamp;
use uuid::{Builder, Uuid};

/// When a decision is made, and the random bytes it may use.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The service's wall clock.
    pub now: Timestamp,
    /// Fresh for every request.
    pub random: [u8; 32],
}

impl Moment {
    /// The random part of a new operation id.
    pub(crate) fn guid(&self) -> Uuid {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.random[..16]);
        Builder::from_random_bytes(bytes).into_uuid()
    }

    /// The random part of a new etag.
    pub(crate) fn etag(&self) -> dps_proto::ids::ETag {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.random[16..]);
        dps_proto::ids::ETag::generate(bytes, self.now.as_second())
    }
}
