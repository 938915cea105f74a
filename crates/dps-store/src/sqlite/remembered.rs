//! What is asked for at every register and seldom changes, remembered: a search through up to 1,000 groups must not read and
//! unseal them each time, nor a chain all CA certificates.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dps_proto::ids::IdScope;
use rusqlite::{Connection, OptionalExtension as _};

use super::fault::Fault;
use crate::sealing::Sealer;

/// Rows of an ID scope whose writes are counted, each in its own transaction.
pub(super) trait Versioned {
    /// One of them.
    type Item;

    /// Selects how many writes there were; no row as long as there was none.
    const SELECT_VERSION: &'static str;

    /// All of them, at the point in time that `connection` sees.
    fn read(connection: &Connection, sealer: &Sealer, scope: &IdScope)
    -> Result<Vec<Arc<Self::Item>>, Fault>;
}

type Items<V> = Arc<[Arc<<V as Versioned>::Item>]>;

/// The rows of one ID scope as they were at one version; `None` before the first reading.
type OfScope<V> = Mutex<Option<(i64, Items<V>)>>;

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
    /// The rows at the point in time that `connection` sees. Each write counts a version in its own transaction, and the
    /// version is read in this one: what is remembered is used only if it is exactly what would be read.
    pub(super) fn at(
        &self,
        connection: &Connection,
        sealer: &Sealer,
        scope: &IdScope,
    ) -> Result<Items<V>, Fault> {
        let mut statement = connection.prepare_cached(V::SELECT_VERSION)?;
        let version: Option<i64> = statement.query_row([scope.folded()], |row| row.get(0)).optional()?;
        let Some(version) = version else { return Ok(Items::<V>::from([])) };
        let remembered = Arc::clone(lock(&self.by_scope).entry(scope.clone()).or_default());
        // Held while the rows are read: whoever else wants them would only read and unseal the same.
        let mut remembered = lock(&remembered);
        if let Some((known, items)) = &*remembered
            && *known == version
        {
            return Ok(Arc::clone(items));
        }
        let items: Items<V> = V::read(connection, sealer, scope)?.into();
        // Another reader may see a later point in time and have been quicker.
        if remembered.as_ref().is_none_or(|(newest, _)| *newest < version) {
            *remembered = Some((version, Arc::clone(&items)));
        }
        Ok(items)
    }

    /// Lets go of what a deleted instance had: nobody asks for it again.
    pub(super) fn forget(&self, scope: &IdScope) {
        lock(&self.by_scope).remove(scope);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What it holds is replaced in one step, so a panic leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
