//! What a device sends before it has proved itself is buffered in and under a WebSocket, where the connection cannot see it, and some
//! of those buffers never shrink. So all of it counts, until then.
//! Spec: DPS-MQTT-30, DPS-LIMIT-10.

use std::io;

use crate::limits::Charge;
use crate::watched::Watch;

/// What each connection may send whatever others do: CONNECT and an ordinary register fit.
const OWN_BYTES: usize = 4 * 1024;

/// Fails a read when neither its own bytes nor those that all share suffice.
pub(super) struct Meter {
    /// `None` once it no longer counts.
    unattested: Option<Unattested>,
}

struct Unattested {
    bytes: usize,
    charge: Charge,
}

impl Meter {
    pub(super) fn new(charge: Charge) -> Self {
        Self { unattested: Some(Unattested { bytes: 0, charge }) }
    }

    /// The device has proved itself.
    pub(super) fn lift(&mut self) {
        self.unattested = None;
    }
}

impl Watch for Meter {
    fn came(&mut self, bytes: usize) -> io::Result<()> {
        let Some(unattested) = &mut self.unattested else { return Ok(()) };
        unattested.bytes += bytes;
        let shared = unattested.bytes.saturating_sub(OWN_BYTES);
        unattested.charge.resize(shared).map_err(io::Error::other)
    }
}
