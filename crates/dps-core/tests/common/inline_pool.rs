//! Search pools for tests. Spec: DPS-REG-4.

use std::sync::Mutex;

use async_trait::async_trait;
use dps_core::ports::{PoolBusy, SearchPool, SearchTurn};

/// Runs each job where it is asked for, and remembers what it was charged.
#[derive(Debug, Default)]
pub(crate) struct InlinePool {
    charges: Mutex<Vec<u32>>,
}

impl InlinePool {
    /// What each job so far was charged, in signatures.
    pub(crate) fn charges(&self) -> Vec<u32> {
        self.charges.lock().unwrap().clone()
    }
}

#[async_trait]
impl SearchPool for InlinePool {
    async fn run(
        &self,
        _: SearchTurn,
        signatures: u32,
        job: Box<dyn FnOnce() + Send>,
    ) -> Result<(), PoolBusy> {
        self.charges.lock().unwrap().push(signatures);
        job();
        Ok(())
    }
}

/// Never has room.
#[derive(Debug, Default)]
pub(crate) struct BusyPool;

#[async_trait]
impl SearchPool for BusyPool {
    async fn run(&self, _: SearchTurn, _: u32, _: Box<dyn FnOnce() + Send>) -> Result<(), PoolBusy> {
        Err(PoolBusy)
    }
}

/// Says that it ran a job that it dropped.
#[derive(Debug, Default)]
pub(crate) struct ForgetfulPool;

#[async_trait]
impl SearchPool for ForgetfulPool {
    async fn run(&self, _: SearchTurn, _: u32, _: Box<dyn FnOnce() + Send>) -> Result<(), PoolBusy> {
        Ok(())
    }
}
