//! A single-threaded executor that is driven by hand: nothing is polled but what was woken, in the order that the caller or
//! a seed chooses. With it a clock that moves only when told.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use jiff::{SignedDuration, Timestamp};

use super::prng::Prng;

/// Runs a future to its end.
///
/// Panics where it waits for something that nobody is left to do.
pub(crate) fn drive<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let flag = Arc::new(Flag::raised());
    let waker = Waker::from(Arc::clone(&flag));
    while flag.lower() {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
    }
    panic!("the future waits, and nothing will wake it");
}

/// Many futures, each polled when it was woken and its turn comes.
pub(crate) struct Executor<T> {
    tasks: BTreeMap<TaskId, Running<T>>,
    next: u32,
}

/// Numbers tasks in the order of their start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskId(pub(crate) u32);

impl<T> Executor<T> {
    pub(crate) fn new() -> Self {
        Self { tasks: BTreeMap::new(), next: 0 }
    }

    pub(crate) fn spawn(&mut self, future: impl Future<Output = T> + 'static) -> TaskId {
        let id = TaskId(self.next);
        self.next += 1;
        self.tasks.insert(id, Running::start(future));
        id
    }

    /// Polls one woken task, chosen by `prng`. `None` if no task is woken.
    pub(crate) fn poll_any(&mut self, prng: &mut Prng) -> Option<(TaskId, Poll<T>)> {
        let woken: Vec<TaskId> =
            self.tasks.iter().filter(|(_, task)| task.is_woken()).map(|(id, _)| *id).collect();
        if woken.is_empty() {
            return None;
        }
        let id = *prng.pick(&woken);
        let polled = self.tasks.get_mut(&id)?.step();
        if polled.is_ready() {
            self.tasks.remove(&id);
        }
        Some((id, polled))
    }

    /// The tasks that have not ended.
    pub(crate) fn unfinished(&self) -> Vec<TaskId> {
        self.tasks.keys().copied().collect()
    }

    /// Drops a task where it stands, as the end of its process does.
    pub(crate) fn abandon(&mut self, task: TaskId) {
        self.tasks.remove(&task);
    }
}

/// One future that is polled by hand.
pub(crate) struct Running<T> {
    future: Pin<Box<dyn Future<Output = T>>>,
    flag: Arc<Flag>,
}

impl<T> Running<T> {
    pub(crate) fn start(future: impl Future<Output = T> + 'static) -> Self {
        Self { future: Box::pin(future), flag: Arc::new(Flag::raised()) }
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.flag.0.load(Ordering::Relaxed)
    }

    /// One poll.
    pub(crate) fn step(&mut self) -> Poll<T> {
        self.flag.lower();
        let waker = Waker::from(Arc::clone(&self.flag));
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    /// Polls for as long as it is woken; `Pending` where it waits for someone else.
    pub(crate) fn run(&mut self) -> Poll<T> {
        while self.is_woken() {
            if let Poll::Ready(value) = self.step() {
                return Poll::Ready(value);
            }
        }
        Poll::Pending
    }

    /// Its result, which it must come to now.
    pub(crate) fn end(mut self) -> T {
        match self.run() {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("the future waits, and nothing will wake it"),
        }
    }
}

/// Waits for one more turn.
pub(crate) async fn turn() {
    let mut has_yielded = false;
    std::future::poll_fn(|context| {
        if has_yielded {
            return Poll::Ready(());
        }
        has_yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Whether a task was woken since it was last polled.
struct Flag(AtomicBool);

impl Flag {
    fn raised() -> Self {
        Self(AtomicBool::new(true))
    }

    fn lower(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A wall clock that moves only when told, in either direction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(pub(crate) Timestamp);

impl Clock {
    /// 2026-01-01T00:00:00Z.
    pub(crate) fn new() -> Self {
        Self(Timestamp::from_second(1_767_225_600).unwrap())
    }

    /// The time so many seconds from now, or ago.
    pub(crate) fn after(&self, seconds: i64) -> Timestamp {
        self.0 + SignedDuration::from_secs(seconds)
    }

    pub(crate) fn step(&mut self, seconds: i64) {
        self.0 = self.after(seconds);
    }
}
