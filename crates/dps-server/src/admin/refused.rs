//! What the admin listener does not do, and why.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use dps_core::instance_settings::BadSettings;
use dps_core::ports::{StoreError, WriteError};
use tokio::task::JoinError;

use super::problem;
use crate::json_members::BadMember;
use crate::new_key::NoRandomness;

/// Why a request comes to nothing.
pub(super) enum Refused {
    /// 400, of what was sent.
    Bad(String),
    /// 404.
    NoSuch(String),
    /// 409, of what there is.
    Conflict(String),
    /// 412.
    Changed,
    /// 503.
    Store(StoreError),
    /// 500.
    Broken(String),
}

impl From<BadSettings> for Refused {
    fn from(why: BadSettings) -> Self {
        Self::Bad(why.to_string())
    }
}

impl From<BadMember> for Refused {
    fn from(why: BadMember) -> Self {
        Self::Bad(why.to_string())
    }
}

impl From<NoRandomness> for Refused {
    fn from(why: NoRandomness) -> Self {
        Self::Broken(why.to_string())
    }
}

impl From<JoinError> for Refused {
    /// What a panic says is for whoever mends it, and may hold anything.
    fn from(_: JoinError) -> Self {
        Self::Broken("a fault of the program: report what it wrote to standard error".to_owned())
    }
}

impl From<StoreError> for Refused {
    fn from(why: StoreError) -> Self {
        Self::Store(why)
    }
}

impl From<WriteError> for Refused {
    fn from(why: WriteError) -> Self {
        match why {
            WriteError::Store(why) => Self::Store(why),
            WriteError::Exists | WriteError::Missing | WriteError::Changed => Self::Changed,
            WriteError::TooManyOpenGroups(_)
            | WriteError::TooManyPrefixedGroups(_)
            | WriteError::TooManyGroupsOfOneSubject(_)
            | WriteError::TooManyCaCertificates(_)
            | WriteError::NoSuchCaCertificate(_)
            | WriteError::CaCertificateInUse(_)
            | WriteError::TooManyInstances(_)
            | WriteError::ServiceHostTaken(..)
            | WriteError::InstanceBeingDeleted(_) => Self::Conflict(why.to_string()),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, why) = match self {
            Self::Bad(why) => (StatusCode::BAD_REQUEST, why),
            Self::NoSuch(why) => (StatusCode::NOT_FOUND, why),
            Self::Conflict(why) => (StatusCode::CONFLICT, why),
            Self::Changed => (
                StatusCode::PRECONDITION_FAILED,
                "what is there is another than If-Match says, or changed meanwhile: look at it again"
                    .to_owned(),
            ),
            Self::Store(why) => (StatusCode::SERVICE_UNAVAILABLE, why.to_string()),
            Self::Broken(why) => (StatusCode::INTERNAL_SERVER_ERROR, why),
        };
        problem(status, &why)
    }
}
