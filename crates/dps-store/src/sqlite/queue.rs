//! Work that any of several threads takes. Only as many wake as there is work for: threads that hand one receiver around
//! wake each other for every piece of work.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Shared by those who put work in and those who take it.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
}

struct State<T> {
    waiting: VecDeque<T>,
    takers: usize,
    asleep: usize,
    is_closed: bool,
}

/// No thread takes work any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Closed;

/// A thread's right to take work. When the last one is dropped, what waits is dropped too.
pub(super) struct Taker<T>(Arc<Queue<T>>);

impl<T> Queue<T> {
    /// A queue, and so many to take from it.
    pub(super) fn new(takers: usize) -> (Arc<Self>, Vec<Taker<T>>) {
        let state = State { waiting: VecDeque::new(), takers, asleep: 0, is_closed: takers == 0 };
        let queue = Arc::new(Self { state: Mutex::new(state), ready: Condvar::new() });
        let takers = (0..takers).map(|_| Taker(Arc::clone(&queue))).collect();
        (queue, takers)
    }

    /// Puts work at the end.
    pub(super) fn put(&self, work: T) -> Result<(), Closed> {
        let mut state = self.state();
        if state.is_closed {
            return Err(Closed);
        }
        state.waiting.push_back(work);
        let wakes = state.asleep > 0;
        // First, or the thread that wakes would only run into the lock.
        drop(state);
        if wakes {
            self.ready.notify_one();
        }
        Ok(())
    }

    /// Lets the takers end once what waits is done.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.ready.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Taker<T> {
    /// The next work; waits for it. `None` once the queue is closed and empty.
    pub(super) fn take(&self) -> Option<T> {
        let mut state = self.0.state();
        loop {
            if let Some(work) = state.waiting.pop_front() {
                return Some(work);
            }
            if state.is_closed {
                return None;
            }
            state.asleep += 1;
            state = self.0.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.asleep -= 1;
        }
    }
}

impl<T> Drop for Taker<T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.takers -= 1;
        if state.takers == 0 {
            state.is_closed = true;
            let abandoned = std::mem::take(&mut state.waiting);
            drop(state);
            // Whoever waits for it learns so.
            drop(abandoned);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn every_piece_of_work_is_taken_once_by_whoever_is_free() {
        let (queue, takers) = Queue::new(3);
        let (taken, done) = mpsc::channel();
        let threads: Vec<_> = takers
            .into_iter()
            .map(|taker| {
                let taken = taken.clone();
                thread::spawn(move || {
                    while let Some(work) = taker.take() {
                        taken.send(work).unwrap();
                    }
                })
            })
            .collect();
        for number in 0..1_000 {
            queue.put(number).unwrap();
        }
        queue.close();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        drop(taken);
        let mut all: Vec<i32> = done.iter().collect();
        all.sort_unstable();
        assert_eq!(all, (0..1_000).collect::<Vec<_>>());
        assert_eq!(queue.put(1_000), Err(Closed));
    }

    #[test]
    fn work_that_no_one_is_left_to_take_is_dropped() {
        let (queue, takers) = Queue::new(2);
        let work = Arc::new(());
        queue.put(Arc::clone(&work)).unwrap();
        drop(takers);
        assert_eq!(Arc::strong_count(&work), 1);
        assert_eq!(queue.put(work), Err(Closed));
    }
}
