//! A device, which registers against any Device Provisioning Service, Harbormaster or not; and a client of the admin listener.
//!
//! Depends on `dps-proto` only, so that it judges the service from outside.

pub mod admin;
pub mod mqtt;
pub mod tls;
