//! The decisions: who a device is, whether it may come in, and where it lives.
//!
//! There is no runtime, no clock and no randomness here: time and random bytes come in as a [`Moment`], storage and hubs
//! through the traits of [`ports`]. No wire word either: a front end turns what is decided here into topics, bodies and
//! codes.

pub mod access;
pub mod allocation;
mod arrival;
pub mod assignment;
pub mod attestation;
pub mod audit;
pub mod broker;
pub mod ca_certificate;
pub mod custom_allocation;
mod destination;
pub mod enrollment;
pub mod entry_filter;
pub mod instance;
pub mod instance_settings;
pub mod instances;
pub mod moment;
pub mod ports;
pub mod refusal;
pub mod register;
pub mod registration;
pub mod tpm;
pub mod x509;

pub use moment::Moment;
