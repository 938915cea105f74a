//! What the registrar does, statement by statement: one story a test, against the model store.
//! Spec: docs/spec/registration.md, and of ids.md, sas.md and store.md what the registrar owes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this program is a test in whole")]

#[path = "../common/mod.rs"]
mod common;

mod attestation;
mod authorities;
mod chains;
mod client_certificates;
mod commits;
mod custom_allocation;
mod cut_off;
mod disabled;
mod groups;
mod hub_choice;
mod hub_identity;
mod hubs_outside;
mod lived;
mod moving;
mod polling;
mod registration;
mod reprovisioning;
mod tpm;
mod trying;
