//! A place for long computations. Spec: DPS-REG-4.

use async_trait::async_trait;

/// Where a search of many groups runs, and what keeps such searches from taking the node. Spec: DPS-REG-4.
#[async_trait]
pub trait SearchPool: Send + Sync {
    /// Charges `signatures` (HMAC computations), then runs the job to its end when it is its turn. [`PoolBusy`] if the
    /// budget is spent.
    async fn run(
        &self,
        turn: SearchTurn,
        signatures: u32,
        job: Box<dyn FnOnce() + Send>,
    ) -> Result<(), PoolBusy>;
}

/// When a search may run. Spec: DPS-LIMIT-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchTurn {
    /// In the order of asking.
    InOrder,
    /// When no one else waits, and in a part of the pool's time only: it is asked for by an address that guesses.
    AfterOthers,
}

/// So much work waits already that this search may not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the pool for group searches is busy")]
pub struct PoolBusy;
