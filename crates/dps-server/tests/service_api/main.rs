//! The service API request by request, on a store in memory: what each client reads. The conformance suite has the real clients.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this program is a test in whole")]

mod access;
mod client;
mod connection;
mod entries;
mod lists;

pub(crate) const SCOPE: &str = "0ne0000a001";
pub(crate) const HOST: &str = "dps.example";
