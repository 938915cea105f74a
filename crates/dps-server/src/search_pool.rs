//! Threads for searches of many groups. Spec: DPS-REG-4.

use std::sync::Arc;

use async_trait::async_trait;
use dps_core::ports::{PoolBusy, SearchPool};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// A bounded pool: so many signatures may wait or run at one time, charged before a job starts.
#[derive(Debug)]
pub struct SearchThreads {
    budget: Arc<Semaphore>,
    budget_signatures: u32,
    jobs: mpsc::Sender<Job>,
}

struct Job {
    run: Box<dyn FnOnce() + Send>,
    done: oneshot::Sender<()>,
}

impl SearchThreads {
    /// About a quarter of a second of one core: beyond that, waiting devices would be better off asking again.
    pub const SIGNATURES_DEFAULT: u32 = 500_000;

    /// Starts `threads` threads that share a budget of `signatures`. They end when the pool is dropped.
    ///
    /// # Errors
    /// Where the operating system refuses a thread.
    pub fn start(threads: usize, signatures: u32) -> std::io::Result<Self> {
        // As many jobs as the budget admits at a signature each could never wait: the budget bounds the queue.
        let (jobs, waiting) = mpsc::channel::<Job>(1_024);
        let waiting = Arc::new(std::sync::Mutex::new(waiting));
        for number in 0..threads.max(1) {
            let waiting = Arc::clone(&waiting);
            std::thread::Builder::new().name(format!("group-search-{number}")).spawn(move || {
                loop {
                    let next = match waiting.lock() {
                        Ok(mut waiting) => waiting.blocking_recv(),
                        Err(_) => None,
                    };
                    let Some(Job { run, done }) = next else { return };
                    run();
                    // The asker may have gone.
                    let _ = done.send(());
                }
            })?;
        }
        Ok(Self {
            budget: Arc::new(Semaphore::new(signatures as usize)),
            budget_signatures: signatures,
            jobs,
        })
    }
}

#[async_trait]
impl SearchPool for SearchThreads {
    async fn run(&self, signatures: u32, job: Box<dyn FnOnce() + Send>) -> Result<(), PoolBusy> {
        // A search larger than the whole budget runs alone rather than never.
        let charge = signatures.min(self.budget_signatures);
        let permit = Arc::clone(&self.budget).try_acquire_many_owned(charge).map_err(|_| PoolBusy)?;
        let (done, finished) = oneshot::channel();
        // The permit goes with the job: work is charged until it has run, whether or not anyone still waits for it.
        let run = Box::new(move || {
            job();
            drop(permit);
        });
        self.jobs.try_send(Job { run, done }).map_err(|_| PoolBusy)?;
        finished.await.map_err(|_| PoolBusy)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as blocking;

    use super::*;

    /// DPS-REG-4
    #[tokio::test]
    async fn a_search_beyond_the_budget_does_not_begin() {
        let pool = Arc::new(SearchThreads::start(1, 100).unwrap());
        let (started, has_started) = blocking::channel();
        let (release, released) = blocking::channel::<()>();
        let long = {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move {
                let job = move || {
                    started.send(()).unwrap();
                    released.recv().unwrap();
                };
                pool.run(60, Box::new(job)).await
            })
        };
        tokio::task::spawn_blocking(move || has_started.recv().unwrap()).await.unwrap();
        assert_eq!(pool.run(60, Box::new(|| panic!("it must not run"))).await, Err(PoolBusy));
        release.send(()).unwrap();
        assert_eq!(long.await.unwrap(), Ok(()));
        assert_eq!(pool.run(1_000, Box::new(|| ())).await, Ok(()), "a lone search may exceed the budget");
    }
}
