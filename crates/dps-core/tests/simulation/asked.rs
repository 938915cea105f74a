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
    Deleted { device: usize, result: Result<(), WriteError> },
    Claimed(WaitingFor, Result<Claimed, StoreError>),
    Settled(Result<Settled, Refusal>),
    Placed(Result<Placed, Refusal>),
    ClaimedCleanUps(Result<Claimed<CleanUp>, StoreError>),
    CleanedUp(Result<CleanedUp, StoreError>),
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
