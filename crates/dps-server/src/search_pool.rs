//! Threads for searches of many groups. Spec: DPS-REG-4, DPS-LIMIT-8.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use dps_core::ports::{PoolBusy, SearchPool, SearchTurn};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Each search of a guessing address is followed by so many times its own length in which no other such search runs.
/// Spec: DPS-LIMIT-8.
const PAUSE_AFTER_GUESS: u32 = 3;

/// Guessing addresses have so much smaller a budget than all others.
const GUESSES_SHARE: u32 = 4;

/// A bounded pool: so many signatures may wait or run at one time, charged before a job starts.
#[derive(Debug)]
pub struct SearchThreads {
    in_order: Budget,
    after_others: Budget,
    queue: Arc<Queue>,
}

#[derive(Debug)]
struct Budget {
    signatures: u32,
    left: Arc<Semaphore>,
}

struct Job {
    run: Box<dyn FnOnce() + Send>,
    done: oneshot::Sender<()>,
    _charge: OwnedSemaphorePermit,
}

/// What waits, and what wakes a thread for it.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    in_order: VecDeque<Job>,
    after_others: VecDeque<Job>,
    /// When the next search of a guessing address may begin; one at a time.
    next_guess: Option<Instant>,
    guess_runs: bool,
    is_closed: bool,
}

impl SearchThreads {
    /// About a quarter of a second of one core: beyond that, waiting devices would be better off asking again.
    pub const SIGNATURES_DEFAULT: u32 = 500_000;

    /// Starts `threads` threads that share a budget of `signatures`. They end when the pool is dropped.
    ///
    /// # Errors
    /// Where the operating system refuses a thread.
    pub fn start(threads: usize, signatures: u32) -> std::io::Result<Self> {
        let pool = Self {
            in_order: Budget::new(signatures),
            after_others: Budget::new(signatures / GUESSES_SHARE),
            queue: Arc::default(),
        };
        for number in 0..threads.max(1) {
            let queue = Arc::clone(&pool.queue);
            std::thread::Builder::new().name(format!("group-search-{number}")).spawn(move || queue.work())?;
        }
        Ok(pool)
    }
}

impl Drop for SearchThreads {
    fn drop(&mut self) {
        self.queue.lock().is_closed = true;
        self.queue.changed.notify_all();
    }
}

#[async_trait]
impl SearchPool for SearchThreads {
    async fn run(
        &self,
        turn: SearchTurn,
        signatures: u32,
        job: Box<dyn FnOnce() + Send>,
    ) -> Result<(), PoolBusy> {
        let (done, finished) = oneshot::channel();
        let budget = match turn {
            SearchTurn::InOrder => &self.in_order,
            SearchTurn::AfterOthers => &self.after_others,
        };
        // The charge goes with the job: work counts until it has run, whether or not anyone still waits for it.
        let job = Job { run: job, done, _charge: budget.charge(signatures)? };
        {
            let mut waiting = self.queue.lock();
            match turn {
                SearchTurn::InOrder => waiting.in_order.push_back(job),
                SearchTurn::AfterOthers => waiting.after_others.push_back(job),
            }
        }
        self.queue.changed.notify_one();
        finished.await.map_err(|_| PoolBusy)
    }
}

impl Budget {
    fn new(signatures: u32) -> Self {
        let signatures = signatures.max(1);
        Self { signatures, left: Arc::new(Semaphore::new(signatures as usize)) }
    }

    fn charge(&self, signatures: u32) -> Result<OwnedSemaphorePermit, PoolBusy> {
        // A search larger than the whole budget runs alone rather than never; one of nothing still takes its place.
        let charge = signatures.clamp(1, self.signatures);
        Arc::clone(&self.left).try_acquire_many_owned(charge).map_err(|_| PoolBusy)
    }
}

impl Queue {
    /// The life of one thread.
    fn work(&self) {
        while let Some((job, turn)) = self.next() {
            let Job { run, done, _charge } = job;
            let began = Instant::now();
            run();
            if turn == SearchTurn::AfterOthers {
                self.lock().guess_ended(began, Instant::now());
            }
            // The asker may have gone.
            let _ = done.send(());
        }
    }

    /// The next job, when it may begin; `None` when the pool is closed.
    fn next(&self) -> Option<(Job, SearchTurn)> {
        let mut waiting = self.lock();
        loop {
            if waiting.is_closed {
                return None;
            }
            if let Some(job) = waiting.in_order.pop_front() {
                return Some((job, SearchTurn::InOrder));
            }
            let pause = waiting.pause_before_guess(Instant::now());
            waiting = match pause {
                Some(Duration::ZERO) => {
                    let job = waiting.after_others.pop_front()?;
                    waiting.guess_runs = true;
                    return Some((job, SearchTurn::AfterOthers));
                }
                Some(pause) => {
                    let woken = self.changed.wait_timeout(waiting, pause);
                    woken.map_or_else(|poisoned| poisoned.into_inner().0, |(waiting, _)| waiting)
                }
                None => self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it is held.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn guess_ended(&mut self, began: Instant, ended: Instant) {
        self.guess_runs = false;
        self.next_guess = ended.checked_add((ended - began) * PAUSE_AFTER_GUESS);
    }

    /// How long the search of a guessing address still has to wait; `None` where there is none, or one runs.
    fn pause_before_guess(&self, now: Instant) -> Option<Duration> {
        if self.after_others.is_empty() || self.guess_runs {
            return None;
        }
        Some(self.next_guess.map_or(Duration::ZERO, |at| at.saturating_duration_since(now)))
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waiting = self.lock();
        f.debug_struct("Queue")
            .field("in_order", &waiting.in_order.len())
            .field("after_others", &waiting.after_others.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::SearchTurn::{AfterOthers, InOrder};
    use super::*;

    /// A pool of one thread that is busy until the sender is used or dropped.
    async fn busy(signatures: u32, turn: SearchTurn, charged: u32) -> (Arc<SearchThreads>, mpsc::Sender<()>) {
        let pool = Arc::new(SearchThreads::start(1, signatures).unwrap());
        let (started, has_started) = mpsc::channel();
        let (release, released) = mpsc::channel();
        let job = move || {
            started.send(()).unwrap();
            let _ = released.recv();
        };
        let asker = Arc::clone(&pool);
        tokio::spawn(async move { asker.run(turn, charged, Box::new(job)).await });
        tokio::task::spawn_blocking(move || has_started.recv().unwrap()).await.unwrap();
        (pool, release)
    }

    /// DPS-REG-4
    #[tokio::test]
    async fn a_search_beyond_the_budget_does_not_begin() {
        let (pool, release) = busy(100, InOrder, 60).await;
        assert_eq!(pool.run(InOrder, 60, Box::new(|| panic!("it must not run"))).await, Err(PoolBusy));
        release.send(()).unwrap();
        while pool.in_order.left.available_permits() < 100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            pool.run(InOrder, 1_000, Box::new(|| ())).await,
            Ok(()),
            "a lone search may exceed the budget"
        );
    }

    /// DPS-LIMIT-8
    #[tokio::test]
    async fn searches_of_guessing_addresses_wait_for_all_others() {
        let (pool, release) = busy(1_000, InOrder, 1).await;
        let (ran, order) = mpsc::channel();
        let mut asked = Vec::new();
        for turn in [AfterOthers, AfterOthers, InOrder, AfterOthers, InOrder] {
            let (asker, ran) = (Arc::clone(&pool), ran.clone());
            let job = move || ran.send(turn).unwrap();
            asked.push(tokio::spawn(async move { asker.run(turn, 1, Box::new(job)).await }));
            // On this test's one thread the task has asked when it is back here.
            tokio::task::yield_now().await;
        }
        release.send(()).unwrap();
        for asked in asked {
            assert_eq!(asked.await.unwrap(), Ok(()));
        }
        drop(ran);
        let order: Vec<_> = order.iter().collect();
        assert_eq!(order, [InOrder, InOrder, AfterOthers, AfterOthers, AfterOthers]);
    }

    /// DPS-LIMIT-8
    #[test]
    fn a_search_of_a_guessing_address_is_followed_by_a_pause_three_times_its_length() {
        let mut waiting = Waiting::default();
        let (began, ms) = (Instant::now(), Duration::from_millis);
        assert_eq!(waiting.pause_before_guess(began), None, "none waits");
        let (done, _) = oneshot::channel();
        let charge = Budget::new(1).charge(1).unwrap();
        waiting.after_others.push_back(Job { run: Box::new(|| ()), done, _charge: charge });
        assert_eq!(waiting.pause_before_guess(began), Some(ms(0)));
        waiting.guess_runs = true;
        assert_eq!(waiting.pause_before_guess(began), None, "one runs");
        waiting.guess_ended(began, began + ms(10));
        assert_eq!(waiting.pause_before_guess(began + ms(10)), Some(ms(30)));
        assert_eq!(waiting.pause_before_guess(began + ms(33)), Some(ms(7)));
        assert_eq!(waiting.pause_before_guess(began + ms(40)), Some(ms(0)));
    }

    /// DPS-LIMIT-8
    #[tokio::test]
    async fn guessing_addresses_use_up_their_own_budget_and_no_one_elses() {
        let (pool, _release) = busy(100, AfterOthers, 25).await;
        assert_eq!(pool.run(AfterOthers, 1, Box::new(|| panic!("it must not run"))).await, Err(PoolBusy));
        assert!(pool.in_order.charge(100).is_ok());
    }
}
