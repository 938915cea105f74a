//! What the tests of the registrar and the simulation share: a model store, a hand-driven executor, hubs and pools that do as
//! they are told.

// Two test programs are built from this, and neither uses all of it.
#![allow(dead_code)]

pub(crate) mod certificates;
pub(crate) mod desk;
pub(crate) mod entries;
pub(crate) mod executor;
pub(crate) mod hubs;
pub(crate) mod image;
pub(crate) mod inline_pool;
pub(crate) mod prng;
pub(crate) mod registry;
pub(crate) mod sim_store;
