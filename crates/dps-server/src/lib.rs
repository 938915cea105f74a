//! Front ends: what turns bytes from a socket into questions for [`dps_core::register::Registrar`], and its decisions into
//! bytes.
//!
//! A register message passes [`listen`] (accept), `opening` (TLS) and [`mqtt::connection`] (the only loop that touches the socket) on its
//! way in; [`render`] and [`fault`] are the only files that know both what was decided and what a device is told.

pub mod admin;
mod admin_listener;
pub mod admission;
pub mod advice;
pub mod allocation;
pub mod assignment;
pub mod broker_auth;
pub mod chain_explanation;
pub mod challenged;
pub mod claims;
pub mod client_certificates;
pub mod counted_searches;
pub mod device_api;
pub mod device_request;
pub mod dry_run;
pub mod enrollment_json;
mod excerpt;
pub mod expiry_warnings;
pub mod explain;
pub mod fault;
pub mod flight_limit;
pub mod front_end;
pub mod handshake;
pub mod https;
mod if_match;
mod json_members;
pub mod limits;
pub mod listen;
pub mod metrics;
pub mod moments;
pub mod mqtt;
mod network;
mod new_key;
mod opening;
pub mod proxy_protocol;
pub mod render;
pub mod search_pool;
pub mod service_api;
pub mod throttle;
pub mod tls;
pub mod unassigned;
pub mod watched;
pub mod web_socket;
mod write_deadline;
