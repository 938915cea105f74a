//! A stream whose peer may not send much before it is answered. Spec: DPS-LIMIT-11, DPS-MQTT-30.
//!
//! rustls keeps an unfinished handshake message of up to 64 KiB; no client needs a tenth of that, but for its certificates.

use std::io;

use crate::client_certificates::CERTIFICATES_BYTES_MAX;
use crate::limits::Charge;
use crate::watched::{Watch, Watched};

/// What each connection may send in one flight whatever others do: all that a client without certificates ever sends.
const OWN_BYTES: usize = 8 * 1024;

/// Most bytes of the first flight: what a peer sends until it is answered.
const FIRST_FLIGHT_BYTES_MAX: usize = OWN_BYTES;

/// Most bytes of a later one, which may bring certificates.
const FLIGHT_BYTES_MAX: usize = OWN_BYTES + CERTIFICATES_BYTES_MAX;

/// Fails a read beyond the limit, until [`FlightLimit::lift`] is called.
pub type FlightLimit<S> = Watched<S, Flights>;

/// Counts what comes in each flight.
#[derive(Debug)]
pub struct Flights {
    /// `None` once it no longer counts.
    flight: Option<Box<Flight>>,
}

/// What came since the peer was last answered.
#[derive(Debug)]
struct Flight {
    bytes: usize,
    bytes_max: usize,
    charge: Charge,
}

/// The peer sent more than a flight may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the peer sent more of a TLS handshake at once than anyone needs: {FIRST_FLIGHT_BYTES_MAX} bytes to begin with, later \
     {FLIGHT_BYTES_MAX}"
)]
pub struct FlightTooLong;

impl<S> FlightLimit<S> {
    /// The first flight begins. What is more than a connection's own counts against `charge`.
    pub fn new(stream: S, charge: Charge) -> Self {
        let flight = Flight { bytes: 0, bytes_max: FIRST_FLIGHT_BYTES_MAX, charge };
        Self::by(Flights { flight: Some(Box::new(flight)) }, stream)
    }

    /// The handshake is over: other limits hold from here on.
    pub fn lift(&mut self) {
        self.watch().flight = None;
    }
}

impl Watch for Flights {
    fn came(&mut self, bytes: usize) -> io::Result<()> {
        let Some(flight) = &mut self.flight else { return Ok(()) };
        flight.bytes += bytes;
        if flight.bytes > flight.bytes_max {
            return Err(io::Error::other(FlightTooLong));
        }
        flight.charge.resize(flight.bytes.saturating_sub(OWN_BYTES)).map_err(io::Error::other)
    }

    fn sends(&mut self) {
        if let Some(flight) = &mut self.flight {
            flight.bytes = 0;
            flight.bytes_max = FLIGHT_BYTES_MAX;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;
    use crate::limits::{BudgetSpent, ByteBudget};

    fn limited<S>(stream: S, budget: usize) -> FlightLimit<S> {
        FlightLimit::new(stream, Charge::new(ByteBudget::new(budget)))
    }

    /// DPS-LIMIT-11
    #[tokio::test]
    async fn each_flight_is_limited_until_the_handshake_is_over() {
        let (mut peer, stream) = duplex(1024 * 1024);
        let mut stream = limited(stream, 1024 * 1024);
        peer.write_all(&vec![1; FIRST_FLIGHT_BYTES_MAX + 3 * FLIGHT_BYTES_MAX]).await.unwrap();
        stream.read_exact(&mut vec![0; FIRST_FLIGHT_BYTES_MAX]).await.unwrap();
        let mut whole = vec![0; FLIGHT_BYTES_MAX];
        for _ in 0..2 {
            stream.write_all(b"hello").await.unwrap();
            stream.read_exact(&mut whole).await.unwrap();
        }
        let why = stream.read_u8().await.unwrap_err();
        assert!(why.get_ref().unwrap().is::<FlightTooLong>(), "{why}");
        stream.lift();
        stream.read_exact(&mut whole[..1_024]).await.unwrap();
    }

    /// DPS-LIMIT-11
    #[tokio::test]
    async fn the_first_flight_brings_no_certificates() {
        let (mut peer, stream) = duplex(1024 * 1024);
        let mut stream = limited(stream, 1024 * 1024);
        peer.write_all(&vec![1; FIRST_FLIGHT_BYTES_MAX + 1]).await.unwrap();
        stream.read_exact(&mut vec![0; FIRST_FLIGHT_BYTES_MAX]).await.unwrap();
        let why = stream.read_u8().await.unwrap_err();
        assert!(why.get_ref().unwrap().is::<FlightTooLong>(), "{why}");
    }

    /// DPS-MQTT-30
    #[tokio::test]
    async fn what_is_more_than_a_connections_own_shares_a_budget() {
        let budget = ByteBudget::new(1_000);
        let (mut peer, stream) = duplex(1024 * 1024);
        let mut stream = FlightLimit::new(stream, Charge::new(std::sync::Arc::clone(&budget)));
        stream.write_all(b"hello").await.unwrap();
        peer.write_all(&vec![1; OWN_BYTES + 1_001]).await.unwrap();
        stream.read_exact(&mut vec![0; OWN_BYTES + 1_000]).await.unwrap();
        let mut another = Charge::new(std::sync::Arc::clone(&budget));
        assert!(another.resize(1).is_err());
        let why = stream.read_u8().await.unwrap_err();
        assert!(why.get_ref().unwrap().is::<BudgetSpent>(), "{why}");
        stream.lift();
        another.resize(1_000).unwrap();
    }
}
