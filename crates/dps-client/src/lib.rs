//! A device: registers against any Device Provisioning Service, Harbormaster or not.
//!
//! Depends on `dps-proto` only, so that it judges the service from outside.

pub mod mqtt;
pub mod tls;
