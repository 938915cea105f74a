//! Work that waits in the store, claimed as it falls due and carried out within bounds: the loop of every worker.
//! Spec: DPS-REG-32, DPS-REG-33, DPS-REG-40.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use dps_core::ports::{ClaimOrder, Claimed, StoreError};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::{Id, JoinError, JoinSet};
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
    /// Most that is claimed of one peer beyond that, and waits here until one of its calls has ended: a claim is a commit, and the peer
    /// would have less to do while it is under way.
    pub(crate) ahead_per_peer_max: u32,
    /// For how long what was claimed is nobody else's.
    pub(crate) lease: Duration,
}

impl Bounds {
    /// Most that is claimed of one peer at one time.
    pub(crate) fn claims_per_peer_max(&self) -> u32 {
        self.per_peer_max.saturating_add(self.ahead_per_peer_max)
    }
}

/// What one kind of worker does.
pub(crate) trait Work: Send + Sync + 'static {
    /// One piece of it.
    type Item: Send + 'static;

    fn bounds(&self) -> Bounds;

    fn now(&self) -> Timestamp;

    /// Told by whoever leaves something.
    fn due(&self) -> &Due;

    /// Makes peers count as asked, up to [`Bounds::claims_per_peer_max`] times, that are not to be asked now; when to look at that again.
    fn hold_back(&self, _in_flight: &mut BTreeMap<Box<str>, u32>) -> Option<Duration> {
        None
    }

    fn claim(
        &self,
        order: ClaimOrder,
    ) -> impl Future<Output = Result<Claimed<Self::Item>, StoreError>> + Send;

    fn peer(item: &Self::Item) -> Box<str>;

    /// Carries it out and tells of it. Where the store fails the lease runs out, and it is claimed again.
    fn carry_out(&self, item: Self::Item) -> impl Future<Output = ()> + Send;

    /// Makes it due again that was claimed ahead and not begun; else its lease runs out.
    fn give_back(&self, _item: Self::Item) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// What is under way.
#[derive(Default)]
struct UnderWay {
    calls: JoinSet<()>,
    /// Whom each of them asks, or waits to ask.
    peers: HashMap<Id, Box<str>>,
    /// Room at each of these peers.
    rooms: HashMap<Box<str>, Arc<Semaphore>>,
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
    let (mut under_way, mut round) = (UnderWay::default(), Round::default());
    while !*stopping.borrow() {
        let pause = begin(&work, &stopping, &mut under_way, &mut round).await;
        tokio::select! {
            changed = stopping.changed() => if changed.is_err() { break },
            () = work.due().woken() => round.is_outdated = true,
            () = sleep(pause) => {}
            Some(ended) = under_way.calls.join_next_with_id() => {
                under_way.forget(ended);
                // What has ended by now makes room for as many at once: each claim is a write.
                while let Some(ended) = under_way.calls.try_join_next_with_id() {
                    under_way.forget(ended);
                }
                round.is_outdated = true;
            }
        }
    }
    while let Some(ended) = under_way.calls.join_next_with_id().await {
        under_way.forget(ended);
    }
}

/// Begins what is due, as far as there is room; how long there is nothing more to begin.
async fn begin<W: Work>(
    work: &Arc<W>,
    stopping: &watch::Receiver<bool>,
    under_way: &mut UnderWay,
    round: &mut Round,
) -> Duration {
    let bounds = work.bounds();
    let limit = bounds.calls_max.saturating_sub(under_way.calls.len());
    if limit == 0 {
        return SLEEP_MAX;
    }
    if round.after_peer.is_none() {
        *round = Round::default();
    }
    let mut in_flight = BTreeMap::new();
    for peer in under_way.peers.values() {
        *in_flight.entry(peer.clone()).or_default() += 1;
    }
    under_way.rooms.retain(|peer, _| in_flight.contains_key(peer));
    let held_back = work.hold_back(&mut in_flight).unwrap_or(SLEEP_MAX);
    let now = work.now();
    let order = ClaimOrder {
        now,
        lease_until: now
            .checked_add(SignedDuration::try_from(bounds.lease).unwrap_or_default())
            .unwrap_or(now),
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
        per_peer_max: bounds.claims_per_peer_max(),
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
        let peer = W::peer(&item);
        let room = under_way.rooms.entry(peer.clone());
        let room = room.or_insert_with(|| Arc::new(Semaphore::new(bounds.per_peer_max as usize)));
        let call = call(Arc::clone(work), item, Arc::clone(room), stopping.clone());
        let call = under_way.calls.spawn(call);
        under_way.peers.insert(call.id(), peer);
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

/// Carries it out, if need be once another call of its peer has ended.
async fn call<W: Work>(work: Arc<W>, item: W::Item, room: Arc<Semaphore>, stopping: watch::Receiver<bool>) {
    let _place = match room.try_acquire() {
        Ok(place) => place,
        Err(_) => {
            // It is never closed.
            let Ok(place) = room.acquire().await else { return };
            let mut held_back = BTreeMap::new();
            work.hold_back(&mut held_back);
            if *stopping.borrow() || held_back.contains_key(&W::peer(&item)) {
                drop(place);
                return work.give_back(item).await;
            }
            place
        }
    };
    work.carry_out(item).await;
}

impl UnderWay {
    fn forget(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(why) => {
                tracing::error!(reason = %why, "what a worker did was broken off");
                why.id()
            }
        };
        self.peers.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;

    const PEER: &str = "peer";

    /// Numbers that wait for one peer; each call of it takes until it is let go.
    struct Numbers {
        due: Due,
        waiting: Mutex<Vec<u32>>,
        claimed: AtomicUsize,
        called: Mutex<Vec<u32>>,
        given_back: Mutex<Vec<u32>>,
        is_held_back: AtomicBool,
        answers: Semaphore,
    }

    impl Numbers {
        fn new(count: u32) -> Arc<Self> {
            Arc::new(Self {
                due: Due::default(),
                waiting: Mutex::new((0..count).rev().collect()),
                claimed: AtomicUsize::new(0),
                called: Mutex::default(),
                given_back: Mutex::default(),
                is_held_back: AtomicBool::new(false),
                answers: Semaphore::new(0),
            })
        }

        fn counts(&self) -> (usize, usize) {
            (self.claimed.load(Ordering::SeqCst), self.called.lock().unwrap().len())
        }
    }

    impl Work for Numbers {
        type Item = u32;

        fn bounds(&self) -> Bounds {
            Bounds { calls_max: 8, per_peer_max: 4, ahead_per_peer_max: 2, lease: Duration::from_secs(60) }
        }

        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }

        fn due(&self) -> &Due {
            &self.due
        }

        fn hold_back(&self, in_flight: &mut BTreeMap<Box<str>, u32>) -> Option<Duration> {
            if self.is_held_back.load(Ordering::SeqCst) {
                in_flight.insert(PEER.into(), self.bounds().claims_per_peer_max());
            }
            None
        }

        async fn claim(&self, order: ClaimOrder) -> Result<Claimed<u32>, StoreError> {
            let room = order.room_for(PEER).min(order.limit) as usize;
            let mut waiting = self.waiting.lock().unwrap();
            let operations: Vec<u32> = (0..room).filter_map(|_| waiting.pop()).collect();
            self.claimed.fetch_add(operations.len(), Ordering::SeqCst);
            Ok(Claimed { operations, next_due: None, peers_after: None })
        }

        fn peer(_: &u32) -> Box<str> {
            PEER.into()
        }

        async fn carry_out(&self, item: u32) {
            self.called.lock().unwrap().push(item);
            self.answers.acquire().await.unwrap().forget();
        }

        async fn give_back(&self, item: u32) {
            self.given_back.lock().unwrap().push(item);
        }
    }

    /// Until there is nothing to do but to wait.
    async fn settle() {
        sleep(Duration::from_millis(1)).await;
    }

    /// DPS-REG-40
    #[tokio::test(start_paused = true)]
    async fn what_is_claimed_ahead_begins_as_soon_as_a_call_has_ended() {
        let numbers = Numbers::new(10);
        let (stop, stopping) = watch::channel(false);
        let running = tokio::spawn(run(Arc::clone(&numbers), stopping));
        settle().await;
        assert_eq!(numbers.counts(), (6, 4));
        numbers.answers.add_permits(1);
        settle().await;
        assert_eq!(numbers.counts(), (7, 5));
        numbers.answers.add_permits(100);
        settle().await;
        assert_eq!(numbers.counts(), (10, 10));
        assert_eq!(*numbers.called.lock().unwrap(), (0..10).collect::<Vec<_>>(), "the longest first");
        assert!(numbers.given_back.lock().unwrap().is_empty());
        stop.send(true).unwrap();
        running.await.unwrap();
    }

    /// DPS-REG-40, DPS-REG-45
    #[tokio::test(start_paused = true)]
    async fn what_is_claimed_ahead_is_given_back_where_its_peer_is_not_to_be_asked() {
        let numbers = Numbers::new(10);
        let (_stop, stopping) = watch::channel(false);
        let running = tokio::spawn(run(Arc::clone(&numbers), stopping));
        settle().await;
        numbers.is_held_back.store(true, Ordering::SeqCst);
        numbers.answers.add_permits(1);
        settle().await;
        assert_eq!(numbers.counts(), (6, 4));
        assert_eq!(*numbers.given_back.lock().unwrap(), [4, 5]);
        running.abort();
    }

    /// DPS-REG-40
    #[tokio::test(start_paused = true)]
    async fn what_is_claimed_ahead_is_given_back_at_the_end() {
        let numbers = Numbers::new(10);
        let (stop, stopping) = watch::channel(false);
        let running = tokio::spawn(run(Arc::clone(&numbers), stopping));
        settle().await;
        stop.send(true).unwrap();
        numbers.answers.add_permits(4);
        running.await.unwrap();
        assert_eq!(numbers.counts(), (6, 4));
        assert_eq!(*numbers.given_back.lock().unwrap(), [4, 5]);
    }
}
