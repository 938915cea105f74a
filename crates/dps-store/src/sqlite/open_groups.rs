//! The groups without a prefix, remembered: a search through up to 1,000 of them must not read and unseal them each time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dps_core::enrollment::EnrollmentGroup;
use dps_proto::ids::IdScope;
use rusqlite::Connection;

use super::enrollment_group;
use super::fault::Fault;
use crate::sealing::Sealer;

type Groups = Arc<[Arc<EnrollmentGroup>]>;

/// The open groups of one ID scope as they were at one version; `None` before the first reading.
type Remembered = Mutex<Option<(i64, Groups)>>;

/// The open groups of each ID scope as they were at one version of its groups.
#[derive(Default)]
pub(super) struct OpenGroups {
    by_scope: Mutex<HashMap<IdScope, Arc<Remembered>>>,
}

impl OpenGroups {
    /// The open groups at the point in time that `connection` sees. Each write to one counts a version in its own transaction,
    /// and the version is read in this one: what is remembered is used only if it is exactly what would be read.
    pub(super) fn at(
        &self,
        connection: &Connection,
        sealer: &Sealer,
        scope: &IdScope,
    ) -> Result<Groups, Fault> {
        let Some(version) = enrollment_group::version(connection, scope)? else {
            return Ok(Groups::from([]));
        };
        let remembered = Arc::clone(lock(&self.by_scope).entry(scope.clone()).or_default());
        // Held while the groups are read: whoever else wants them would only read and unseal the same.
        let mut remembered = lock(&remembered);
        if let Some((known, groups)) = &*remembered
            && *known == version
        {
            return Ok(Arc::clone(groups));
        }
        let groups: Groups = enrollment_group::open_groups(connection, sealer, scope)?.into();
        // Another reader may see a later point in time and have been quicker.
        if remembered.as_ref().is_none_or(|(newest, _)| *newest < version) {
            *remembered = Some((version, Arc::clone(&groups)));
        }
        Ok(groups)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What it holds is replaced in one step, so a panic leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
