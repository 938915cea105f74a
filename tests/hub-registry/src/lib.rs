//! The registry of an Azure IoT Hub, as far as a provisioning service asks it, for tests.
//!
//! It keeps devices and twins, judges SAS tokens, answers in Azure's words, and refuses by name whatever it does not know: a
//! request that would have gone unnoticed here would have been an error there. On command it fails, stalls or cuts the connection
//! at any step, before or after it did what it was asked.

mod access;
mod answer;
mod authority;
mod bulk;
mod control;
mod device;
mod device_body;
mod fault;
mod refusal;
mod registry;
mod route;
mod server;
mod twin;

pub use access::Policy;
pub use authority::Authority;
pub use fault::{Effect, Fault, Step};
pub use refusal::Refusal;
pub use registry::Registry;
pub use server::{HubRegistry, Options, SeenRequest};
