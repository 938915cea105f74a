//! Work that waits in the store, claimed as it falls due and carried out within bounds: the loop of every worker.
//! Spec: DPS-REG-32, DPS-REG-33, DPS-REG-40.

mod places;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use dps_core::ports::{ClaimOrder, Claimed, StoreError};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

pub(crate) use places::Place;
use places::Places;

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
    /// Most for one peer that is claimed before there is a place for it, and counts as under way: what hides how long a claim takes.
    pub(crate) ahead_per_peer_max: u32,
    /// For how long what was claimed is nobody else's.
    pub(crate) lease: Duration,
}

/// Peers that are not to be asked now, or not much.
#[derive(Default)]
pub(crate) struct HeldBack {
    /// How often they count as asked at least.
    pub(crate) places: BTreeMap<Box<str>, u32>,
    /// When to look at that again, unless something else happens before.
    pub(crate) until: Option<Duration>,
}

/// What one kind of worker does.
pub(crate) trait Work: Send + Sync + 'static {
    /// One piece of it.
    type Item: Send + 'static;

    fn bounds(&self) -> Bounds;

    fn now(&self) -> Timestamp;

    /// Told by whoever leaves something.
    fn due(&self) -> &Due;

    /// Peers that are not to be asked now, or not much.
    fn held_back(&self) -> HeldBack {
        HeldBack::default()
    }

    fn claim(
        &self,
        order: ClaimOrder,
    ) -> impl Future<Output = Result<Claimed<Self::Item>, StoreError>> + Send;

    fn peer(item: &Self::Item) -> Box<str>;

    /// Carries it out and tells of it, with a place at its peer. Where the store fails the lease runs out, and it is claimed again.
    fn carry_out(&self, item: Self::Item, place: Place) -> impl Future<Output = ()> + Send;
}

/// Works until it is to stop, then lets what is claimed end: each piece has a deadline.
pub(crate) async fn run<W: Work>(work: Arc<W>, mut stopping: watch::Receiver<bool>) {
    let (mut worker, mut leaving) = Worker::new(work);
    while !*stopping.borrow() {
        worker.begin();
        worker.claim();
        let is_full = worker.room() == 0;
        tokio::select! {
            changed = stopping.changed() => if changed.is_err() { break },
            () = worker.work.due().woken() => worker.is_outdated = true,
            () = sleep_until(worker.look_again_at), if !worker.is_outdated => worker.is_outdated = true,
            claimed = claimed_by(&mut worker.claiming) => worker.take(claimed),
            // Else the place that it left has said so already.
            Some(ended) = worker.calls.join_next(), if is_full => {
                tell_broken(ended);
                worker.is_outdated = true;
            }
            Some(number) = leaving.recv() => worker.leave(number, &mut leaving),
        }
    }
    worker.end(leaving).await;
}

/// A claim that the store is asked for, and by when what it tells of was due.
type Claiming<T> = Pin<Box<dyn Future<Output = (Timestamp, Result<Claimed<T>, StoreError>)> + Send>>;

/// One that works.
struct Worker<W: Work> {
    work: Arc<W>,
    calls: JoinSet<()>,
    places: Places<W::Item>,
    /// One claim at a time: what it takes is what the next one may not take.
    claiming: Option<Claiming<W::Item>>,
    /// How far it has gone through the peers of what waits.
    after_peer: Option<Box<str>>,
    /// The next one that is due, of the peers that it has gone through.
    next_due: Option<Timestamp>,
    /// Something may be claimed by now that the last claim did not see, or had no room for.
    is_outdated: bool,
    /// When that is so at the latest.
    look_again_at: Instant,
}

impl<W: Work> Worker<W> {
    fn new(work: Arc<W>) -> (Self, mpsc::UnboundedReceiver<u64>) {
        let (places, leaving) = Places::new();
        let worker = Self {
            work,
            calls: JoinSet::new(),
            places,
            claiming: None,
            after_peer: None,
            next_due: None,
            is_outdated: true,
            look_again_at: Instant::now(),
        };
        (worker, leaving)
    }

    /// Begins what is claimed, as far as there are places.
    fn begin(&mut self) {
        while let Some(ended) = self.calls.try_join_next() {
            tell_broken(ended);
        }
        if self.places.ahead_in_all() == 0 {
            return;
        }
        let mut in_flight = self.places.taken();
        for (peer, places) in self.held_back() {
            let counted = in_flight.entry(peer).or_default();
            *counted = (*counted).max(places);
        }
        while let Some((item, place)) = self.places.take(&mut in_flight, self.work.bounds().per_peer_max) {
            let work = Arc::clone(&self.work);
            self.calls.spawn(async move { work.carry_out(item, place).await });
        }
    }

    /// How many more may be claimed.
    fn room(&self) -> usize {
        self.work.bounds().calls_max.saturating_sub(self.calls.len() + self.places.ahead_in_all())
    }

    /// Asks the store for more, where there may be more and there is room.
    fn claim(&mut self) {
        let limit = self.room();
        if self.claiming.is_some() || limit == 0 || !(self.is_outdated || self.after_peer.is_some()) {
            return;
        }
        let Bounds { per_peer_max, ahead_per_peer_max, lease, .. } = self.work.bounds();
        if self.after_peer.is_none() {
            self.next_due = None;
            self.is_outdated = false;
            self.look_again_at = Instant::now() + SLEEP_MAX;
        }
        let mut in_flight = self.places.taken();
        for (peer, places) in self.held_back() {
            let counted = in_flight.entry(peer).or_default();
            // Nothing is claimed ahead.
            *counted = (*counted).max(places) + ahead_per_peer_max;
        }
        for (peer, waiting) in self.places.ahead() {
            *in_flight.entry(peer.clone()).or_default() += waiting;
        }
        let now = self.work.now();
        let order = ClaimOrder {
            now,
            lease_until: now.checked_add(SignedDuration::try_from(lease).unwrap_or_default()).unwrap_or(now),
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
            per_peer_max: per_peer_max + ahead_per_peer_max,
            in_flight,
            after_peer: self.after_peer.take(),
        };
        let work = Arc::clone(&self.work);
        self.claiming = Some(Box::pin(async move { (now, work.claim(order).await) }));
    }

    /// What was claimed waits for places from now on.
    fn take(&mut self, (now, claimed): (Timestamp, Result<Claimed<W::Item>, StoreError>)) {
        let Claimed { operations, next_due, peers_after } = match claimed {
            Ok(claimed) => claimed,
            Err(why) => {
                tracing::warn!(reason = %why, "the store could not be asked for what waits");
                self.look_again(STORE_PAUSE);
                return;
            }
        };
        for item in operations {
            self.places.wait(W::peer(&item), item);
        }
        self.next_due = self.next_due.into_iter().chain(next_due).min();
        self.after_peer = peers_after;
        if self.after_peer.is_none()
            && let Some(due) = self.next_due.take()
        {
            self.look_again(Duration::try_from(due.duration_since(now)).unwrap_or_default());
        }
    }

    /// A place is free, and those that were left in the meantime.
    fn leave(&mut self, number: u64, leaving: &mut mpsc::UnboundedReceiver<u64>) {
        let Bounds { ahead_per_peer_max, .. } = self.work.bounds();
        let mut next = Some(number);
        while let Some(number) = next {
            if let Some(peer) = self.places.free(number) {
                // Else there is enough ahead to take the next places: each claim is a write, and best for several at once.
                self.is_outdated |= self.places.waiting_for(&peer) <= ahead_per_peer_max as usize / 2;
            }
            next = leaving.try_recv().ok();
        }
    }

    /// What was claimed is carried out, unless its peer is held back: nobody else may before its lease has run out.
    async fn end(mut self, mut leaving: mpsc::UnboundedReceiver<u64>) {
        if let Some(claiming) = self.claiming.take() {
            self.take(claiming.await);
        }
        loop {
            self.begin();
            tokio::select! {
                Some(number) = leaving.recv() => self.leave(number, &mut leaving),
                ended = self.calls.join_next() => match ended {
                    Some(ended) => tell_broken(ended),
                    None => return,
                },
            }
        }
    }

    fn held_back(&mut self) -> BTreeMap<Box<str>, u32> {
        let HeldBack { places, until } = self.work.held_back();
        if let Some(until) = until {
            self.look_again(until);
        }
        places
    }

    fn look_again(&mut self, after: Duration) {
        self.look_again_at = self.look_again_at.min(Instant::now() + after.min(SLEEP_MAX));
    }
}

/// Never, where nothing is asked for.
async fn claimed_by<T>(claiming: &mut Option<Claiming<T>>) -> (Timestamp, Result<Claimed<T>, StoreError>) {
    let claimed = match claiming {
        Some(asked) => asked.await,
        None => std::future::pending().await,
    };
    *claiming = None;
    claimed
}

fn tell_broken(ended: Result<(), JoinError>) {
    if let Err(why) = ended {
        tracing::error!(reason = %why, "what a worker did was broken off");
    }
}
