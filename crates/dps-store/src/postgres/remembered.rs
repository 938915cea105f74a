//! What is asked for at every register and seldom changes, remembered: a search through up to 1,000 groups must not read and
//! unseal them each time, nor a chain all CA certificates. Spec: DPS-STORE-21.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use dps_proto::ids::IdScope;

use super::columns::Columns;
use super::fault::Fault;
use super::transaction::query_opt;
use crate::sealing::Sealer;

/// Rows of an ID scope whose writes are counted, each in its own transaction.
#[async_trait]
pub(super) trait Versioned {
    /// One of them.
    type Item: Send + Sync;

    /// Selects how many writes there were; no row as long as there was none.
    const SELECT_VERSION: &'static str;

    /// All of them, at the point in time that `transaction` sees.
    async fn read(
        transaction: &Transaction<'_>,
        sealer: &Sealer,
        scope: &IdScope,
    ) -> Result<Vec<Arc<Self::Item>>, Fault>;
}

type Items<V> = Arc<[Arc<<V as Versioned>::Item>]>;

/// The rows of one ID scope as they were at one version; `None` before the first reading.
type OfScope<V> = tokio::sync::Mutex<Option<(i64, Items<V>)>>;

/// The rows of each ID scope as they were at one version.
pub(super) struct Remembered<V: Versioned> {
    by_scope: Mutex<HashMap<IdScope, Arc<OfScope<V>>>>,
}

impl<V: Versioned> Default for Remembered<V> {
    fn default() -> Self {
        Self { by_scope: Mutex::default() }
    }
}

impl<V: Versioned> Remembered<V> {
    /// The rows at the one point in time that `transaction` sees. Each write counts a version in its own transaction, on whichever
    /// node, and the version is read in this one: what is remembered is used only if it is exactly what would be read.
    pub(super) async fn at(
        &self,
        transaction: &Transaction<'_>,
        sealer: &Sealer,
        scope: &IdScope,
    ) -> Result<Items<V>, Fault> {
        let row = query_opt(transaction, V::SELECT_VERSION, &[&scope.folded()]).await?;
        let Some(row) = row else { return Ok(Items::<V>::from([])) };
        let version: i64 = Columns::of(&row).value()?;
        let remembered = {
            let mut by_scope = self.by_scope.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(by_scope.entry(scope.clone()).or_default())
        };
        // Held while the rows are read: whoever else wants them would only read and unseal the same.
        let mut remembered = remembered.lock().await;
        if let Some((known, items)) = &*remembered
            && *known == version
        {
            return Ok(Arc::clone(items));
        }
        let items: Items<V> = V::read(transaction, sealer, scope).await?.into();
        // Another reader may see a later point in time and have been quicker.
        if remembered.as_ref().is_none_or(|(newest, _)| *newest < version) {
            *remembered = Some((version, Arc::clone(&items)));
        }
        Ok(items)
    }

    /// Lets go of what a deleted instance had: nobody asks for it again.
    pub(super) fn forget(&self, scope: &IdScope) {
        self.by_scope.lock().unwrap_or_else(PoisonError::into_inner).remove(scope);
    }
}
