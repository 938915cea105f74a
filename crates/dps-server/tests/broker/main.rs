//! The questions of a broker, over real sockets against a store in memory. Spec: DPS-BROKER-1 to DPS-BROKER-14.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this program is a test in whole")]

mod desk;
mod limits;
mod questions;
mod tls;
