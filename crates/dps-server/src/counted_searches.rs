//! Searches for groups that wait for a thread, counted. Spec: DPS-METRICS-5.

use std::sync::Arc;

use async_trait::async_trait;
use dps_core::ports::{PoolBusy, SearchPool, SearchTurn};

use crate::metrics::Metrics;

/// A pool whose queue shows in the metrics.
pub struct CountedSearches<P> {
    pool: P,
    metrics: Arc<Metrics>,
}

impl<P: SearchPool> CountedSearches<P> {
    /// Hands every search to `pool`.
    pub fn new(pool: P, metrics: Arc<Metrics>) -> Self {
        Self { pool, metrics }
    }
}

#[async_trait]
impl<P: SearchPool> SearchPool for CountedSearches<P> {
    async fn run(
        &self,
        turn: SearchTurn,
        signatures: u32,
        job: Box<dyn FnOnce() + Send>,
    ) -> Result<(), PoolBusy> {
        // It goes with the job, which is dropped where the pool refuses it, and outlives whoever asked.
        let waits = self.metrics.search_waits();
        let counted = move || {
            drop(waits);
            job();
        };
        self.pool.run(turn, signatures, Box::new(counted)).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Keeps jobs until it is full, and runs none of them.
    #[derive(Default)]
    struct Shelf(Mutex<Vec<Box<dyn FnOnce() + Send>>>);

    #[async_trait]
    impl SearchPool for Shelf {
        async fn run(&self, _: SearchTurn, _: u32, job: Box<dyn FnOnce() + Send>) -> Result<(), PoolBusy> {
            let mut jobs = self.0.lock().unwrap();
            if jobs.len() == 2 {
                return Err(PoolBusy);
            }
            jobs.push(job);
            Ok(())
        }
    }

    /// DPS-METRICS-5
    #[tokio::test]
    async fn a_search_counts_until_it_starts_and_one_that_is_refused_does_not() {
        let metrics = Arc::new(Metrics::default());
        let counted = CountedSearches::new(Shelf::default(), Arc::clone(&metrics));
        let waiting = |count: u32| {
            let text = metrics.render();
            assert!(text.contains(&format!("harbormaster_group_searches_waiting {count}\n")), "{text}");
        };
        for _ in 0..3 {
            let _ = counted.run(SearchTurn::InOrder, 1, Box::new(|| ())).await;
        }
        waiting(2);
        let job = counted.pool.0.lock().unwrap().pop().unwrap();
        job();
        waiting(1);
    }
}
