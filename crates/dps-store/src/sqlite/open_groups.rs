//! The groups without a prefix, remembered: a search through up to 1,000 of them must not read and unseal them each time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use dps_core::enrollment::EnrollmentGroup;
use dps_core::ports::StoreError;
use dps_proto::ids::IdScope;
use rusqlite::Connection;

use super::enrollment_group;
use super::fault::Fault;
use crate::sealing::Sealer;

type Groups = Arc<[Arc<EnrollmentGroup>]>;

type ByScope = HashMap<IdScope, (i64, Groups)>;

/// The open groups of each ID scope as they were at one version of its groups.
#[derive(Default)]
pub(super) struct OpenGroups {
    remembered: Mutex<ByScope>,
}

impl OpenGroups {
    /// The open groups at the point in time that `connection` sees. Each write to a group counts a version in its own
    /// transaction, and the version is read in this one: what is remembered is used only if it is exactly what would be read.
    pub(super) fn at(
        &self,
        connection: &Connection,
        sealer: &Sealer,
        scope: &IdScope,
    ) -> Result<Groups, Fault> {
        let Some(version) = enrollment_group::version(connection, scope)? else {
            return Ok(Groups::from([]));
        };
        if let Some((remembered, groups)) = self.remembered()?.get(scope)
            && *remembered == version
        {
            return Ok(Arc::clone(groups));
        }
        let groups: Groups = enrollment_group::open_groups(connection, sealer, scope)?.into();
        let mut remembered = self.remembered()?;
        // Another reader may see a later point in time and have been quicker.
        if remembered.get(scope).is_none_or(|(newest, _)| *newest < version) {
            remembered.insert(scope.clone(), (version, Arc::clone(&groups)));
        }
        Ok(groups)
    }

    fn remembered(&self) -> Result<MutexGuard<'_, ByScope>, Fault> {
        let broken = |_| Fault(StoreError::Unavailable("a reader was broken off by a panic".to_owned()));
        self.remembered.lock().map_err(broken)
    }
}
