//! A hub whose device identities and twins live in Harbormaster's own store. Spec: DPS-REG-17.

use dps_core::ports::{Hub, HubDevice, HubWrite, Placement};

/// A hub that is kept here: for a desk, for CI, and for brokers that ask Harbormaster who a device is.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalHub;

impl Hub for LocalHub {
    /// The identity goes into the commit of the record: both are there, or neither. Spec: DPS-STORE-5.
    fn place(&self, device: HubDevice) -> Placement {
        Placement::Writes(vec![HubWrite::PutDevice(Box::new(device))])
    }
}
