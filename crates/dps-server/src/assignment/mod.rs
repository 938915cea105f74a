//! Hubs outside: devices made and moved there, and gone from where they were. Spec: DPS-REG-40 to DPS-REG-46.
//!
//! [`PlacementWorker`] and [`CleanUpWorker`] claim what waits in the store and let the registrar ask the hubs (`dps-core/src/assignment`
//! says in what order); [`HubWatch`] tells how the hubs do.

mod clean_up;
mod held_back;
mod placement;
mod watch;

pub use clean_up::CleanUpWorker;
pub use placement::PlacementWorker;
pub use watch::HubWatch;
