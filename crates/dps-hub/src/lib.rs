//! Linked hubs behind the port [`dps_core::ports::Hub`]. Spec: DPS-REG-17, DPS-STORE-5.
//!
//! Both kinds here need no outbound call, so a device is assigned in the commit that writes its record.

mod kinds;
mod local;
mod static_name;

pub use kinds::HubKinds;
pub use local::LocalHub;
pub use static_name::StaticHub;
