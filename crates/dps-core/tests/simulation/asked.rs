//! What tasks were asked, and what they came to.

use dps_core::assignment::{CleanedUp, Placed};
use dps_core::custom_allocation::Settled;
use dps_core::ports::{Claimed, CleanUp, StoreError, WaitingFor, WriteError};
use dps_core::refusal::Refusal;
use dps_core::register::{Polled, Registered};
use dps_proto::ids::OperationId;

use crate::fleet::{Home, Signer};

/// A request of a device, with what the device knew as it asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Its place in the fleet.
    pub(crate) device: usize,
    pub(crate) signer: Signer,
    pub(crate) life: u32,
    pub(crate) home: Option<Home>,
}

/// What a poll names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// An operation that the device was told.
    Own(OperationId),
    /// One that it was told before its record was deleted.
    Forgotten(OperationId),
    /// One that another device was told.
    Foreign(OperationId),
    /// One that nobody was told.
    Forged(OperationId),
}

/// What a task came to.
#[derive(Debug)]
pub(crate) enum Done {
    Registered(Asked, Result<Registered, Refusal>),
    Polled(Asked, Named, Result<Polled, Refusal>),
    Enrolled(Result<(), WriteError>),
    Deleted(Result<(), WriteError>),
    Claimed(WaitingFor, Result<Claimed, StoreError>),
    Settled(Result<Settled, Refusal>),
    Placed(Result<Placed, Refusal>),
    ClaimedCleanUps(Result<Claimed<CleanUp>, StoreError>),
    CleanedUp(Result<CleanedUp, StoreError>),
}

impl Done {
    /// Whether it came to nothing because the store did not answer.
    pub(crate) fn is_unanswered(&self) -> bool {
        let lost = |why: &StoreError| matches!(why, StoreError::Unavailable(_));
        let refused = |why: &Refusal| matches!(why, Refusal::Store(why) if lost(why));
        match self {
            Self::Registered(_, Err(why))
            | Self::Polled(_, _, Err(why))
            | Self::Settled(Err(why))
            | Self::Placed(Err(why)) => refused(why),
            Self::Enrolled(Err(WriteError::Store(why)))
            | Self::Deleted(Err(WriteError::Store(why)))
            | Self::Claimed(_, Err(why))
            | Self::ClaimedCleanUps(Err(why))
            | Self::CleanedUp(Err(why)) => lost(why),
            _ => false,
        }
    }
}

impl Named {
    pub(crate) fn operation(self) -> OperationId {
        match self {
            Self::Own(operation)
            | Self::Forgotten(operation)
            | Self::Foreign(operation)
            | Self::Forged(operation) => operation,
        }
    }
}
