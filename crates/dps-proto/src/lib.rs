//! The words that Harbormaster and its devices exchange: identifiers, JSON bodies, SAS tokens, topics, MQTT packets,
//! and the two sides of the MQTT session as state machines.
//!
//! Pure text and bytes in, pure text and bytes out. There is no IO here, no clock and no randomness; time comes in as an
//! argument. Nothing here knows an enrollment: what a device may do is decided in `dps-core`.

pub mod api_version;
pub mod body;
pub mod code;
pub mod connection_string;
pub mod date;
pub mod device_path;
pub mod hub;
pub mod ids;
pub mod key;
pub mod login;
pub mod mqtt;
pub mod percent;
pub mod proxy_header;
pub mod sas;
pub mod topic;
