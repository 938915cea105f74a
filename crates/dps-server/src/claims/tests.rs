//! A worker whose store and peers answer when the test lets them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::*;

/// Three places for each peer, and two more ahead.
const BOUNDS: Bounds =
    Bounds { calls_max: 100, per_peer_max: 3, ahead_per_peer_max: 2, lease: Duration::from_secs(60) };

struct Stage {
    due: Due,
    /// How much waits in the store.
    waiting: AtomicU32,
    /// One for each claim; none is given back.
    claims: Semaphore,
    /// One for each piece of work; none is given back.
    answers: Semaphore,
    begun: AtomicU32,
    ended: AtomicU32,
    orders: Mutex<Vec<ClaimOrder>>,
    /// Places of the peer that are not to be used.
    held_back: AtomicU32,
    fails: AtomicU32,
}

impl Stage {
    fn new(waiting: u32, claims: usize) -> Arc<Self> {
        Arc::new(Self {
            due: Due::default(),
            waiting: waiting.into(),
            claims: Semaphore::new(claims),
            answers: Semaphore::new(0),
            begun: 0.into(),
            ended: 0.into(),
            orders: Mutex::default(),
            held_back: 0.into(),
            fails: 0.into(),
        })
    }

    fn begun(&self) -> u32 {
        self.begun.load(Ordering::SeqCst)
    }

    fn orders(&self) -> Vec<(u32, Option<u32>)> {
        let orders = self.orders.lock().unwrap();
        orders.iter().map(|order| (order.room_for("peer"), order.in_flight.get("peer").copied())).collect()
    }
}

impl Work for Stage {
    type Item = u32;

    fn bounds(&self) -> Bounds {
        BOUNDS
    }

    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn due(&self) -> &Due {
        &self.due
    }

    fn held_back(&self) -> HeldBack {
        match self.held_back.load(Ordering::SeqCst) {
            0 => HeldBack::default(),
            places => HeldBack {
                places: BTreeMap::from([("peer".into(), places)]),
                until: Some(Duration::from_secs(5)),
            },
        }
    }

    async fn claim(&self, order: ClaimOrder) -> Result<Claimed<u32>, StoreError> {
        self.orders.lock().unwrap().push(order.clone());
        self.claims.acquire().await.unwrap().forget();
        if self.fails.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(StoreError::Unavailable("as the test wants it".to_owned()));
        }
        let most = order.room_for("peer").min(order.limit);
        let before = self
            .waiting
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |waiting| Some(waiting.saturating_sub(most)));
        let operations = (0..most.min(before.unwrap())).collect();
        Ok(Claimed { operations, ..Claimed::default() })
    }

    fn peer(_: &u32) -> Box<str> {
        "peer".into()
    }

    async fn carry_out(&self, _: u32, _place: Place) {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.answers.acquire().await.unwrap().forget();
        self.ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// Virtual time goes on once nobody has anything else to do.
async fn settle() {
    sleep(Duration::from_millis(10)).await;
}

/// DPS-REG-40
#[tokio::test(start_paused = true)]
async fn a_peer_is_asked_the_next_while_the_store_is_asked_for_more() {
    let stage = Stage::new(50, 1);
    let (stop, stopping) = watch::channel(false);
    let running = tokio::spawn(run(Arc::clone(&stage), stopping));
    settle().await;
    assert_eq!(stage.begun(), 3, "as many as there are places");
    assert_eq!(stage.orders(), [(5, None)], "and two were claimed ahead");

    // The store answers no further claim.
    stage.answers.add_permits(1);
    settle().await;
    assert_eq!(stage.begun(), 4);
    stage.answers.add_permits(1);
    settle().await;
    assert_eq!(stage.begun(), 5);
    assert_eq!(stage.orders()[1..], [(2, Some(3))], "one claim for two places, once half were left");
    stage.answers.add_permits(1);
    settle().await;
    assert_eq!(stage.begun(), 5, "nothing is ahead any more");

    stage.claims.add_permits(1);
    settle().await;
    assert_eq!((stage.begun(), stage.orders().len()), (6, 3));
    stop.send(true).unwrap();
    settle().await;
    assert!(!running.is_finished(), "the claim under way and what comes of it are awaited");
    stage.claims.add_permits(1);
    stage.answers.add_permits(100);
    running.await.unwrap();
    assert_eq!(stage.begun(), stage.ended.load(Ordering::SeqCst));
    let claimed = 50 - stage.waiting.load(Ordering::SeqCst);
    assert_eq!(stage.begun(), claimed, "nothing is left under a lease");
}

/// DPS-REG-45
#[tokio::test(start_paused = true)]
async fn of_a_peer_that_is_held_back_nothing_is_claimed_ahead() {
    let stage = Stage::new(50, 100);
    stage.held_back.store(2, Ordering::SeqCst);
    let (_stop, stopping) = watch::channel(false);
    tokio::spawn(run(Arc::clone(&stage), stopping));
    settle().await;
    assert_eq!((stage.begun(), stage.orders()), (1, vec![(1, Some(4))]));
    stage.held_back.store(3, Ordering::SeqCst);
    stage.answers.add_permits(1);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(stage.begun(), 1);
    stage.held_back.store(0, Ordering::SeqCst);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(stage.begun(), 4, "it is looked again when the pause ends");
}

/// DPS-REG-32
#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_asked_again_after_a_second() {
    let stage = Stage::new(1, 100);
    stage.fails.store(3, Ordering::SeqCst);
    let (_stop, stopping) = watch::channel(false);
    tokio::spawn(run(Arc::clone(&stage), stopping));
    sleep(Duration::from_millis(2_900)).await;
    assert_eq!((stage.begun(), stage.orders().len()), (0, 3));
    sleep(Duration::from_millis(200)).await;
    assert_eq!((stage.begun(), stage.orders().len()), (1, 4));
    stage.answers.add_permits(1);
    sleep(Duration::from_secs(59)).await;
    assert_eq!(
        stage.orders().len(),
        5,
        "once for the place that was left, and then not until something is due"
    );
    stage.waiting.store(1, Ordering::SeqCst);
    stage.due.wake();
    settle().await;
    assert_eq!(stage.begun(), 2);
}
