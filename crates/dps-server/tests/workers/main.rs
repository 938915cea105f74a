//! The workers, and nodes that share work, over a store in memory. Spec: DPS-REG-28 to DPS-REG-33, DPS-REG-40 to DPS-REG-46, DPS-NODE-2, DPS-NODE-3.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this program is a test in whole")]

mod allocation;
mod desk;
mod nodes;
mod placement;
