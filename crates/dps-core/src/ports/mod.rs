//! What the decisions need from outside: a store, hubs, a place for long computations.
//!
//! Storage is named for use cases, one transaction each. The futures need no runtime: the simulation drives them by hand.

mod allocation_hook;
mod clean_up;
mod device_registry;
mod found;
mod hub;
mod search_pool;
mod store;
mod waiting;
mod writing;

pub use allocation_hook::{AllocationHook, AllocationOutcome, HookAnswer, NamedHub};
pub(crate) use clean_up::peer;
pub use clean_up::{CleanUp, CleanUpOutcome, HubLoad};
pub use device_registry::{DeviceRegistry, HubHealth, RegistryDevice, RegistryError};
pub use found::{AnchorsWanted, CandidateGroups, ChainEntries, ChainWanted, LookUp};
pub use hub::{
    Hub, HubAuthentication, HubDevice, HubDeviceStatus, HubFactory, HubWrite, Placement, StoredHubDevice,
};
pub use search_pool::{PoolBusy, SearchPool, SearchTurn};
pub use store::{Store, WriteObserver};
pub use waiting::{ClaimOrder, Claimed, ClaimedOperation, Postponement, WaitingFor};
pub use writing::{Commit, Condition, RegistrationWrite, StoreError, Sweep, WriteError, WriteOrder};
