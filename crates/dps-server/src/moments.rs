//! Where time and randomness come from: read here, passed down as arguments.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use dps_core::Moment;
use dps_core::ports::{Store, StoreError};
use dps_proto::code::TrackingId;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// How often the clock of a store is asked. Spec: DPS-NODE-2.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// An answer that took longer says too little of the time.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// A difference of clocks that is told: leases and tokens would feel it if it were not made up for.
const TOLD_FROM: SignedDuration = SignedDuration::from_secs(1);

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

/// The clock of a store that several nodes share, as far as it is known: the machine's own and the difference. Spec: DPS-NODE-2.
#[derive(Debug, Default)]
pub struct StoreMoments {
    /// Nanoseconds that the store's clock is ahead.
    ahead: AtomicI64,
}

impl StoreMoments {
    /// Asks the clock of the store once; a store of one process has none of its own.
    ///
    /// # Errors
    /// Where the store cannot answer.
    pub async fn of(store: &dyn Store) -> Result<Arc<Self>, StoreError> {
        let moments = Self::default();
        moments.ask(store).await?;
        Ok(Arc::new(moments))
    }

    /// Asks again and again until it is to stop. Where the store does not answer the last difference stays.
    pub async fn follow(self: Arc<Self>, store: Arc<dyn Store>, mut stopping: watch::Receiver<bool>) {
        while !*stopping.borrow() {
            tokio::select! {
                changed = stopping.changed() => if changed.is_err() { break },
                () = sleep(ASK_EVERY) => {
                    if let Err(why) = self.ask(&*store).await {
                        tracing::debug!(reason = %why, "the store's clock could not be asked");
                    }
                }
            }
        }
    }

    async fn ask(&self, store: &dyn Store) -> Result<(), StoreError> {
        let (asked, began) = (Timestamp::now(), Instant::now());
        let Some(answer) = store.clock().await? else { return Ok(()) };
        let took = began.elapsed();
        let half = SignedDuration::try_from(took / 2).unwrap_or_default();
        let Some(here) = asked.checked_add(half).ok().filter(|_| took <= ANSWER_WITHIN) else {
            return Ok(());
        };
        let ahead = answer.duration_since(here);
        let before = SignedDuration::from_nanos(self.ahead.load(Ordering::Relaxed));
        if (ahead - before).abs() >= TOLD_FROM {
            tracing::warn!(
                seconds = ahead.as_secs_f64(),
                "the store's clock is ahead of this machine's by so much; it counts"
            );
        }
        self.ahead.store(i64::try_from(ahead.as_nanos()).unwrap_or_default(), Ordering::Relaxed);
        Ok(())
    }
}

impl Moments for StoreMoments {
    fn moment(&self) -> Moment {
        let Moment { now, random } = SystemMoments.moment();
        let ahead = SignedDuration::from_nanos(self.ahead.load(Ordering::Relaxed));
        Moment { now: now.checked_add(ahead).unwrap_or(now), random }
    }
}

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
