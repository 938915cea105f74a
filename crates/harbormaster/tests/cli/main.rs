//! The command line from outside: the binary, its arguments, what it prints and how it exits.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

mod audit;
mod command;
mod completions;
mod connection;
mod create;
mod dev;
mod hub_devices;
mod instances;
mod pki;
mod read;
mod transfer;
mod update;

#[path = "../../../dps-client/tests/support/scripted_service.rs"]
mod scripted_service;
