//! Linked hubs behind the port [`dps_core::ports::Hub`], and all that is asked of others over HTTPS. Spec: DPS-REG-17, DPS-STORE-5,
//! DPS-HUB-1 (docs/spec/hubs.md).
//!
//! Local and static hubs need no outbound call, so a device is assigned in the commit that writes its record.

pub mod azure;
pub mod outbound;
pub mod webhook;

mod kinds;
mod local;
mod static_name;

#[cfg(test)]
#[path = "../tests/support/scripted_peer.rs"]
mod scripted_peer;

pub use kinds::HubKinds;
pub use local::LocalHub;
pub use static_name::StaticHub;
