//! Where time and randomness come from: read here, passed down as arguments.

use dps_core::Moment;
use dps_proto::code::TrackingId;
use jiff::Timestamp;

/// A source of time and random bytes.
pub trait Moments: Send + Sync {
    /// The time now, with fresh random bytes.
    fn moment(&self) -> Moment;

    /// A new id for a refusal.
    fn tracking_id(&self) -> TrackingId {
        let mut random = [0; 16];
        random.copy_from_slice(&self.moment().random[..16]);
        TrackingId::from_random(random)
    }
}

/// The machine's own clock and random generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemMoments;

impl Moments for SystemMoments {
    fn moment(&self) -> Moment {
        let mut random = [0; 32];
        // The operating system's generator does not fail once it is seeded; were it to, ids would repeat, and the
        // store's conditions would refuse the second use.
        if aws_lc_rs::rand::fill(&mut random).is_err() {
            tracing::error!("the random generator failed");
        }
        Moment { now: Timestamp::now(), random }
    }
}
