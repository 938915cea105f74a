//! Error codes and the ids under which a refusal can be found again. Spec: DPS-BODY-9 (docs/spec/bodies.md).

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// A code that devices know: an HTTP-like status times 1,000 plus a detail.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode(u32);

impl ErrorCode {
    /// The request cannot be read.
    pub const BAD_REQUEST: Self = Self(400_000);
    /// A value in the request is not acceptable.
    pub const INVALID_ARGUMENT: Self = Self(400_004);
    /// The webhook that chooses the hub failed. Stands in `registrationState`, never in a refusal; so do the two below.
    pub const CUSTOM_ALLOCATION_FAILED: Self = Self(400_207);
    /// The webhook that chooses the hub named none.
    pub const CUSTOM_ALLOCATION_HUB_NOT_SPECIFIED: Self = Self(400_208);
    /// The webhook that chooses the hub answered 401.
    pub const CUSTOM_ALLOCATION_UNAUTHORIZED: Self = Self(400_209);
    /// No linked hub can take the device. Stands in `registrationState`, never in a refusal.
    pub const HUB_NOT_FOUND: Self = Self(401_001);
    /// The credential does not prove the device.
    pub const UNAUTHORIZED: Self = Self(401_002);
    /// The credential is good and does not allow this.
    pub const FORBIDDEN: Self = Self(403_000);
    /// No such path, or no such service instance.
    pub const NOT_FOUND: Self = Self(404_000);
    /// No such individual enrollment.
    pub const ENROLLMENT_NOT_FOUND: Self = Self(404_201);
    /// No record of this device.
    pub const REGISTRATION_NOT_FOUND: Self = Self(404_202);
    /// No such operation of this device.
    pub const OPERATION_NOT_FOUND: Self = Self(404_203);
    /// No such enrollment group.
    pub const GROUP_NOT_FOUND: Self = Self(404_204);
    /// The path does not take this method, or lacks an id.
    pub const METHOD_NOT_ALLOWED: Self = Self(405_000);
    /// The entry exists and the request is to create it.
    pub const ALREADY_EXISTS: Self = Self(409_201);
    /// The entry has another etag.
    pub const PRECONDITION_FAILED: Self = Self(412_001);
    /// The body is too large.
    pub const TOO_LARGE: Self = Self(413_000);
    /// The body is of another media type.
    pub const MEDIA_TYPE: Self = Self(415_000);
    /// Too much work is waiting.
    pub const THROTTLED: Self = Self(429_001);
    /// The service failed.
    pub const INTERNAL: Self = Self(500_000);
    /// The service cannot do this now.
    pub const UNAVAILABLE: Self = Self(503_000);

    /// The number as it stands in bodies.
    pub fn value(self) -> u32 {
        self.0
    }

    /// The HTTP-like status of which this code is a detail.
    pub fn status(self) -> u16 {
        // Fits: every code is below 600,000.
        (self.0 / 1_000) as u16
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Names one refusal, to the device and in the log. Spec: DPS-BODY-10.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TrackingId(Uuid);

impl TrackingId {
    /// Makes one from 16 random bytes.
    pub fn from_random(random: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(random).into_uuid())
    }

    /// The GUID that it is.
    pub fn guid(self) -> Uuid {
        self.0
    }
}

/// Text that is no tracking id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("that is no tracking id: it is a GUID, such as ba17f6aa-4b7c-47c9-a917-bbfcb8bd658e")]
pub struct BadTrackingId;

impl FromStr for TrackingId {
    type Err = BadTrackingId;
    fn from_str(text: &str) -> Result<Self, BadTrackingId> {
        uuid::Uuid::try_parse(text).map(Self).map_err(|_| BadTrackingId)
    }
}

impl fmt::Display for TrackingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-BODY-9
    #[test]
    fn the_status_of_a_code_is_its_thousands() {
        assert_eq!(ErrorCode::UNAUTHORIZED.status(), 401);
        assert_eq!(ErrorCode::OPERATION_NOT_FOUND.status(), 404);
        assert_eq!(ErrorCode::THROTTLED.status(), 429);
    }
}
