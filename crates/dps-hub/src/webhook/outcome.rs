//! What came of a call. Spec: DPS-HUB-21.

use crate::outbound::{Answer, OutboundError, RefusedAddress};

use super::allocation::{self, Allocation, NotNamed, Read};

/// What came of a call. `Display` says it for a log and holds nothing of the URL's query, of the request or of the answer.
#[derive(Debug, thiserror::Error)]
pub enum Outcome {
    /// 200, and a hub.
    #[error("the webhook chose {}", _0.hub)]
    Named(Allocation),
    /// 200, and no hub: Azure's 400208.
    #[error("the webhook chose no hub: {0}")]
    NotNamed(NotNamed),
    /// 401: Azure's 400209.
    #[error("the webhook answered 401")]
    Unauthorized,
    /// Another status below 429: Azure's 400207.
    #[error("the webhook answered {status}")]
    Refused {
        /// That status.
        status: u16,
    },
    /// It may answer otherwise later; see [`dps_core::custom_allocation::retry_delay`].
    #[error(transparent)]
    Retryable(Retryable),
    /// 200, and an answer that says nothing.
    #[error("the answer of the webhook cannot be read: {0}")]
    Unreadable(String),
    /// Nothing was sent: its address is not to be asked.
    #[error("the webhook is not called: {0}")]
    Blocked(RefusedAddress),
    /// Nothing was sent: there are more than [`super::REQUEST_BYTES_MAX`] bytes to tell it.
    #[error("the webhook is not called: it would be told more than {} bytes", super::REQUEST_BYTES_MAX)]
    RequestTooLarge,
}

/// Why a webhook is called again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Retryable {
    /// A status of 429 or above.
    #[error("the webhook answered {0}")]
    Status(u16),
    /// No answer, or a part of one.
    #[error("no answer of the webhook: {0}")]
    NoAnswer(OutboundError),
}

impl Outcome {
    pub(super) fn of(answered: Result<Answer, OutboundError>) -> Self {
        let answer = match answered {
            Ok(answer) => answer,
            Err(OutboundError::Refused(refused)) => return Self::Blocked(refused),
            Err(why @ OutboundError::AnswerTooLarge { .. }) => return Self::Unreadable(why.to_string()),
            Err(why) => return Self::Retryable(Retryable::NoAnswer(why)),
        };
        match answer.status.as_u16() {
            200 => match allocation::read(&answer.body) {
                Read::Named(allocation) => Self::Named(allocation),
                Read::NotNamed(how) => Self::NotNamed(how),
                Read::Unreadable(why) => Self::Unreadable(why),
            },
            401 => Self::Unauthorized,
            status if status < 429 => Self::Refused { status },
            status => Self::Retryable(Retryable::Status(status)),
        }
    }
}
