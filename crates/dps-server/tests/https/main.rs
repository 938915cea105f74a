//! Port 443 request by request, on a store in memory: the service API, the device API and WebSockets. The conformance suite has the real
//! clients.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this program is a test in whole")]

mod access;
mod bad_requests;
mod client;
mod connection;
mod devices;
mod entries;
mod lists;
mod service_models;
#[path = "../common/showing.rs"]
mod showing;
mod web_socket;

pub(crate) const SCOPE: &str = "0ne0000a001";
pub(crate) const HOST: &str = "dps.example";
