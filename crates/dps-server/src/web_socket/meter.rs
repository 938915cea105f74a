//! What comes of an unfinished message is buffered under a WebSocket, where the connection cannot see it.
//! Spec: DPS-MQTT-30, DPS-LIMIT-10.

use std::io;

use crate::limits::Charge;
use crate::watched::Watch;

/// What each connection may send of a message whatever others do: CONNECT and an ordinary register fit.
const OWN_BYTES: usize = 4 * 1024;

/// Fails a read when neither its own bytes nor those that all share suffice.
pub(super) struct Meter {
    /// `None` once it no longer counts.
    unfinished: Option<Unfinished>,
}

struct Unfinished {
    bytes: usize,
    charge: Charge,
}

impl Meter {
    pub(super) fn new(charge: Charge) -> Self {
        Self { unfinished: Some(Unfinished { bytes: 0, charge }) }
    }

    /// A message has come whole and was passed on.
    pub(super) fn message_came(&mut self) {
        if let Some(unfinished) = &mut self.unfinished {
            unfinished.bytes = 0;
            // Giving back does not fail.
            let _ = unfinished.charge.resize(0);
        }
    }

    /// The device has proved itself.
    pub(super) fn lift(&mut self) {
        self.unfinished = None;
    }
}

impl Watch for Meter {
    fn came(&mut self, bytes: usize) -> io::Result<()> {
        let Some(unfinished) = &mut self.unfinished else { return Ok(()) };
        unfinished.bytes += bytes;
        let shared = unfinished.bytes.saturating_sub(OWN_BYTES);
        unfinished.charge.resize(shared).map_err(io::Error::other)
    }
}
