//! What the service API is asked about, and the paths that name it.

use std::fmt;

use dps_proto::ids::{EnrollmentGroupId, RegistrationId};
use dps_proto::percent;

/// An entry of the enrollment list, of either kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryName {
    /// An individual enrollment.
    Individual(RegistrationId),
    /// An enrollment group.
    Group(EnrollmentGroupId),
}

/// One thing that can be read and deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// An entry of the enrollment list.
    Entry(EntryName),
    /// A device's registration record.
    Registration(RegistrationId),
}

/// Things that come page by page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listing {
    /// Every individual enrollment.
    Individuals,
    /// Every enrollment group.
    Groups,
    /// The registration records of a group's devices.
    RegistrationsOf(EnrollmentGroupId),
}

impl EntryName {
    /// The id, as it was spelled.
    pub fn id(&self) -> &str {
        match self {
            Self::Individual(id) => id.as_str(),
            Self::Group(id) => id.as_str(),
        }
    }

    pub(super) fn path(&self) -> String {
        let collection = match self {
            Self::Individual(_) => "enrollments",
            Self::Group(_) => "enrollmentGroups",
        };
        format!("/{collection}/{}", percent::encode(self.id()))
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

impl Resource {
    pub(super) fn path(&self) -> String {
        match self {
            Self::Entry(entry) => entry.path(),
            Self::Registration(id) => format!("/registrations/{}", percent::encode(id.as_str())),
        }
    }
}

impl From<EntryName> for Resource {
    fn from(entry: EntryName) -> Self {
        Self::Entry(entry)
    }
}

impl Listing {
    pub(super) fn path(&self) -> String {
        match self {
            Self::Individuals => "/enrollments/query".to_owned(),
            Self::Groups => "/enrollmentGroups/query".to_owned(),
            Self::RegistrationsOf(group) => {
                format!("/registrations/{}/query", percent::encode(group.as_str()))
            }
        }
    }
}
