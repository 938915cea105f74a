//! A write that changes nothing that matters. Spec: DPS-METRICS-4.

use async_trait::async_trait;
use deadpool_postgres::Transaction;

use super::fault::Fault;
use super::transaction::{Work, execute};

/// Fails where a write would.
pub(super) struct WriteCheck;

#[async_trait]
impl Work for WriteCheck {
    type Outcome = ();

    async fn run(&self, transaction: &Transaction<'_>) -> Result<(), Fault> {
        execute(transaction, "UPDATE turn SET taken = taken + 1 WHERE name = 'check'", &[]).await?;
        Ok(())
    }
}
