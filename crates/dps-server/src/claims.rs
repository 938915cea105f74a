//! Work that waits in the store, claimed as it falls due and carried out within bounds: the loop of every worker.
//! Spec: DPS-REG-32, DPS-REG-33, DPS-REG-40.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dps_core::ports::{ClaimOrder, Claimed, StoreError};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;

/// How long a worker sleeps at most: another node may have left something, or the clock may have been set.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// How long it leaves a store alone that could not answer.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Tells the workers of this node that something new waits.
#[derive(Debug, Default)]
pub struct Due(Notify);

impl Due {
    /// Something waits, and is durable.
    pub(crate) fn wake(&self) {
        self.0.notify_one();
    }

    async fn woken(&self) {
        self.0.notified().await;
    }
}

/// How much at one time, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Most that is under way at one time.
    pub(crate) calls_max: usize,
    /// Most of that for one peer, so that one that does not answer leaves room for others.
    pub(crate) per_peer_max: u32,
    /// For how long what was claimed is nobody else's.
    pub(crate) lease: Duration,
}

/// What one kind of worker does.
pub(crate) trait Work: Send + Sync + 'static {
    /// One piece of it.
    type Item: Send + 'static;

    fn bounds(&self) -> Bounds;

    fn now(&self) -> Timestamp;

    /// Told by whoever leaves something.
    fn due(&self) -> &Due;

    /// Makes peers count as asked, up to `per_peer_max` times, that are not to be asked now; when to look at that again.
    fn hold_back(&self, _in_flight: &mut BTreeMap<Box<str>, u32>) -> Option<Duration> {
        None
    }

    fn claim(
        &self,
        order: ClaimOrder,
    ) -> impl Future<Output = Result<Claimed<Self::Item>, StoreError>> + Send;

    fn peer(item: &Self::Item) -> Box<str>;

    /// Carries it out and tells of it, with a place at its peer. Where the store fails the lease runs out, and it is claimed again.
    fn carry_out(&self, item: Self::Item, place: Place) -> impl Future<Output = ()> + Send;
}

/// One of the places that a peer has for what is under way; the next piece of work takes it once it is left or dropped.
pub(crate) struct Place {
    number: u64,
    left: mpsc::UnboundedSender<u64>,
    is_left: AtomicBool,
}

impl Place {
    /// The peer is not asked any more; what is left of the work is the store's.
    pub(crate) fn leave(&self) {
        // Told once: the worker claims when it hears of it, and a claim is a write. It may have ended.
        if !self.is_left.swap(true, Ordering::Relaxed) {
            let _ = self.left.send(self.number);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The places that are taken.
struct Places {
    taken: HashMap<u64, Box<str>>,
    next: u64,
    left: mpsc::UnboundedSender<u64>,
}

impl Places {
    fn take(&mut self, peer: Box<str>) -> Place {
        let number = self.next;
        self.next += 1;
        self.taken.insert(number, peer);
        Place { number, left: self.left.clone(), is_left: AtomicBool::new(false) }
    }
}

/// How far a worker has gone through the peers of what waits.
#[derive(Default)]
struct Round {
    after_peer: Option<Box<str>>,
    /// The next one that is due, of the peers that it has gone through.
    next_due: Option<Timestamp>,
    /// Something may be claimed by now of a peer that it has gone through.
    is_outdated: bool,
}

/// Works until it is to stop, then lets what is under way end: each piece has a deadline.
pub(crate) async fn run<W: Work>(work: Arc<W>, mut stopping: watch::Receiver<bool>) {
    // At most one number for each piece of work under way.
    let (left, mut leaving) = mpsc::unbounded_channel();
    let mut places = Places { taken: HashMap::new(), next: 0, left };
    let (mut calls, mut round) = (JoinSet::new(), Round::default());
    while !*stopping.borrow() {
        let pause = begin(&work, &mut calls, &mut places, &mut round).await;
        let is_full = calls.len() >= work.bounds().calls_max;
        tokio::select! {
            changed = stopping.changed() => if changed.is_err() { break },
            () = work.due().woken() => round.is_outdated = true,
            () = sleep(pause) => {}
            // Else the place that it left has said so already.
            Some(ended) = calls.join_next(), if is_full => {
                tell_broken(ended);
                round.is_outdated = true;
            }
            Some(number) = leaving.recv() => {
                round.is_outdated |= places.taken.remove(&number).is_some();
                // What has ended by now makes room for as many at once: each claim is a write.
                while let Ok(number) = leaving.try_recv() {
                    round.is_outdated |= places.taken.remove(&number).is_some();
                }
            }
        }
    }
    while let Some(ended) = calls.join_next().await {
        tell_broken(ended);
    }
}

/// Begins what is due, as far as there is room; how long there is nothing more to begin.
async fn begin<W: Work>(
    work: &Arc<W>,
    calls: &mut JoinSet<()>,
    places: &mut Places,
    round: &mut Round,
) -> Duration {
    while let Some(ended) = calls.try_join_next() {
        tell_broken(ended);
    }
    let Bounds { calls_max, per_peer_max, lease } = work.bounds();
    let limit = calls_max.saturating_sub(calls.len());
    if limit == 0 {
        return SLEEP_MAX;
    }
    if round.after_peer.is_none() {
        *round = Round::default();
    }
    let mut in_flight = BTreeMap::new();
    for peer in places.taken.values() {
        *in_flight.entry(peer.clone()).or_default() += 1;
    }
    let held_back = work.hold_back(&mut in_flight).unwrap_or(SLEEP_MAX);
    let now = work.now();
    let order = ClaimOrder {
        now,
        lease_until: now.checked_add(SignedDuration::try_from(lease).unwrap_or_default()).unwrap_or(now),
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
        per_peer_max,
        in_flight,
        after_peer: round.after_peer.take(),
    };
    let Claimed { operations, next_due, peers_after } = match work.claim(order).await {
        Ok(claimed) => claimed,
        Err(why) => {
            tracing::warn!(reason = %why, "the store could not be asked for what waits");
            return STORE_PAUSE;
        }
    };
    for item in operations {
        let (work, place) = (Arc::clone(work), places.take(W::peer(&item)));
        calls.spawn(async move { work.carry_out(item, place).await });
    }
    round.next_due = round.next_due.into_iter().chain(next_due).min();
    if peers_after.is_some() {
        round.after_peer = peers_after;
        return Duration::ZERO;
    }
    if round.is_outdated {
        return Duration::ZERO;
    }
    let until_next = round.next_due.take().and_then(|due| Duration::try_from(due.duration_since(now)).ok());
    until_next.map_or(SLEEP_MAX, |until| until.min(SLEEP_MAX)).min(held_back)
}

fn tell_broken(ended: Result<(), JoinError>) {
    if let Err(why) = ended {
        tracing::error!(reason = %why, "what a worker did was broken off");
    }
}
