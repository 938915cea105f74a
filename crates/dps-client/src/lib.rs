//! A device, which registers against any Device Provisioning Service, Harbormaster or not; a client of the service API, likewise; and a
//! client of the admin listener.
//!
//! Depends on `dps-proto` only, so that it judges the service from outside.

pub mod admin;
pub mod device;
pub mod https;
pub mod mqtt;
pub mod service;
pub mod tls;
