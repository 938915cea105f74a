//! Paths of the service API. Spec: DPS-SERVICE-3.

use dps_core::access::Right;
use dps_core::enrollment::EntryRef;
use dps_proto::ids::{BadId, EnrollmentGroupId, RegistrationId};
use dps_proto::percent;
use hyper::Method;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// `/enrollments/{id}` and `/enrollmentGroups/{id}`.
    Entry(EntryRef, EntryAction),
    /// `/enrollments` and `/enrollmentGroups`.
    Bulk(EntryKind),
    /// `/enrollments/query`.
    IndividualEnrollments,
    /// `/enrollmentGroups/query`.
    EnrollmentGroups,
    /// `/registrations/{id}`.
    Record(RegistrationId, RecordAction),
    /// `/registrations/{group}/query`.
    RecordsOfGroup(EnrollmentGroupId),
}

/// Which entries a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryKind {
    Individual,
    Group,
}

impl EntryKind {
    /// The member of a bulk request that has the entries, and the one of each that names it.
    pub(super) fn members(self) -> (&'static str, &'static str) {
        match self {
            Self::Individual => ("enrollments", "registrationId"),
            Self::Group => ("enrollmentGroups", "enrollmentGroupId"),
        }
    }

    /// The entry of that id.
    pub(super) fn name(self, id: &str) -> Result<EntryRef, BadId> {
        Ok(match self {
            Self::Individual => EntryRef::Individual(id.parse()?),
            Self::Group => EntryRef::Group(id.parse()?),
        })
    }
}

/// What is done with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryAction {
    /// GET.
    Read,
    /// PUT.
    Write,
    /// DELETE.
    Delete,
    /// POST to `attestationmechanism`.
    ReadKeys,
}

/// What is done with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordAction {
    /// GET.
    Read,
    /// DELETE.
    Delete,
}

/// Why a path leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// No path looks like it.
    #[error("the service API has no such path")]
    Path,
    /// The path is there and does not take this method, or wants an id.
    #[error("the path does not take this method, or lacks an id")]
    Method,
    /// The id cannot be one.
    #[error("the id of the path: {0}")]
    Id(#[from] BadId),
    /// The id is not percent-encoded UTF-8.
    #[error("the id of the path is not percent-encoded text")]
    Encoding,
}

impl Route {
    /// Reads method and path.
    pub(super) fn parse(method: &Method, path: &str) -> Result<Self, NoRoute> {
        let path = path.strip_prefix('/').unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        let segments: Vec<&str> = path.splitn(4, '/').collect();
        let Some((collection, rest)) = segments.split_first() else { return Err(NoRoute::Path) };
        let is = |name: &str| collection.eq_ignore_ascii_case(name);
        match () {
            () if is("enrollments") => {
                Self::of_entries(method, rest, Self::IndividualEnrollments, EntryKind::Individual)
            }
            () if is("enrollmentGroups") => {
                Self::of_entries(method, rest, Self::EnrollmentGroups, EntryKind::Group)
            }
            () if is("registrations") => Self::of_records(method, rest),
            () => Err(NoRoute::Path),
        }
    }

    fn of_entries(method: &Method, rest: &[&str], query: Self, kind: EntryKind) -> Result<Self, NoRoute> {
        let name = |id: &str| kind.name(id);
        match (method, rest) {
            (&Method::POST, []) => Ok(Self::Bulk(kind)),
            // An entry may be called "query"; only POST means the list.
            (&Method::POST, [word]) if word.eq_ignore_ascii_case("query") => Ok(query),
            (&Method::POST, [id, word]) if word.eq_ignore_ascii_case("attestationmechanism") => {
                Ok(Self::Entry(name(&decoded(id)?)?, EntryAction::ReadKeys))
            }
            (_, [_, word]) if !word.eq_ignore_ascii_case("attestationmechanism") => Err(NoRoute::Path),
            (&Method::GET, [id]) => Ok(Self::Entry(name(&decoded(id)?)?, EntryAction::Read)),
            (&Method::PUT, [id]) => Ok(Self::Entry(name(&decoded(id)?)?, EntryAction::Write)),
            (&Method::DELETE, [id]) => Ok(Self::Entry(name(&decoded(id)?)?, EntryAction::Delete)),
            (_, [] | [_] | [_, _]) => Err(NoRoute::Method),
            _ => Err(NoRoute::Path),
        }
    }

    fn of_records(method: &Method, rest: &[&str]) -> Result<Self, NoRoute> {
        match (method, rest) {
            (&Method::GET, [id]) => Ok(Self::Record(decoded(id)?.parse()?, RecordAction::Read)),
            (&Method::DELETE, [id]) => Ok(Self::Record(decoded(id)?.parse()?, RecordAction::Delete)),
            (&Method::POST, [group, word]) if word.eq_ignore_ascii_case("query") => {
                Ok(Self::RecordsOfGroup(decoded(group)?.parse()?))
            }
            (_, [_, word]) if !word.eq_ignore_ascii_case("query") => Err(NoRoute::Path),
            (_, [] | [_] | [_, _]) => Err(NoRoute::Method),
            _ => Err(NoRoute::Path),
        }
    }

    /// What a policy must allow. Spec: DPS-ACCESS-7.
    pub(super) fn right(&self) -> Right {
        match self {
            Self::Entry(_, EntryAction::Read) | Self::IndividualEnrollments | Self::EnrollmentGroups => {
                Right::EnrollmentRead
            }
            // Whoever may replace a key may read it: a right to read alone must not hand out secrets.
            Self::Entry(_, EntryAction::Write | EntryAction::Delete | EntryAction::ReadKeys)
            | Self::Bulk(_) => Right::EnrollmentWrite,
            Self::Record(_, RecordAction::Read) | Self::RecordsOfGroup(_) => Right::RegistrationStatusRead,
            Self::Record(_, RecordAction::Delete) => Right::RegistrationStatusWrite,
        }
    }

    /// The word for logs and metrics.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Entry(_, EntryAction::Read) => "read-entry",
            Self::Entry(_, EntryAction::Write) => "write-entry",
            Self::Entry(_, EntryAction::Delete) => "delete-entry",
            Self::Entry(_, EntryAction::ReadKeys) => "read-keys",
            Self::Bulk(EntryKind::Individual) => "bulk-enrollments",
            Self::Bulk(EntryKind::Group) => "bulk-groups",
            Self::IndividualEnrollments => "list-enrollments",
            Self::EnrollmentGroups => "list-groups",
            Self::Record(_, RecordAction::Read) => "read-record",
            Self::Record(_, RecordAction::Delete) => "delete-record",
            Self::RecordsOfGroup(_) => "list-records",
        }
    }

    /// Whether it changes anything or hands out keys: who did so must be found later. Spec: DPS-SERVICE-19.
    pub(super) fn is_audited(&self) -> bool {
        match self {
            Self::Entry(_, EntryAction::Write | EntryAction::Delete | EntryAction::ReadKeys)
            | Self::Bulk(_)
            | Self::Record(_, RecordAction::Delete) => true,
            Self::Entry(_, EntryAction::Read)
            | Self::IndividualEnrollments
            | Self::EnrollmentGroups
            | Self::Record(_, RecordAction::Read)
            | Self::RecordsOfGroup(_) => false,
        }
    }

    /// What it is about, for logs.
    pub(super) fn subject(&self) -> String {
        match self {
            Self::Entry(name, _) => name.to_string(),
            Self::IndividualEnrollments | Self::Bulk(EntryKind::Individual) => {
                "individual enrollments".to_owned()
            }
            Self::EnrollmentGroups | Self::Bulk(EntryKind::Group) => "enrollment groups".to_owned(),
            Self::Record(id, _) => format!("registration {id}"),
            Self::RecordsOfGroup(group) => format!("registrations of enrollment group {group}"),
        }
    }

    /// The device it is about, if it is about one.
    pub(super) fn registration_id(&self) -> Option<&RegistrationId> {
        match self {
            Self::Entry(EntryRef::Individual(id), _) | Self::Record(id, _) => Some(id),
            _ => None,
        }
    }
}

fn decoded(id: &str) -> Result<String, NoRoute> {
    percent::decode(id).ok_or(NoRoute::Encoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, action: EntryAction) -> Result<Route, NoRoute> {
        Ok(Route::Entry(EntryRef::Individual(id.parse().unwrap()), action))
    }

    fn group(id: &str, action: EntryAction) -> Result<Route, NoRoute> {
        Ok(Route::Entry(EntryRef::Group(id.parse().unwrap()), action))
    }

    /// DPS-SERVICE-19
    #[test]
    fn whoever_writes_or_reads_keys_can_be_found_later() {
        let is_audited = |method: &Method, path: &str| Route::parse(method, path).unwrap().is_audited();
        for collection in ["enrollments", "enrollmentGroups"] {
            let path = format!("/{collection}/a");
            assert!(is_audited(&Method::PUT, &path) && is_audited(&Method::DELETE, &path));
            assert!(is_audited(&Method::POST, &format!("{path}/attestationmechanism")));
            assert!(!is_audited(&Method::GET, &path));
            assert!(!is_audited(&Method::POST, &format!("/{collection}/query")));
        }
        assert!(is_audited(&Method::DELETE, "/registrations/a"));
        assert!(!is_audited(&Method::GET, "/registrations/a"));
    }

    /// DPS-SERVICE-3
    #[test]
    fn every_path_is_found_in_any_case_and_with_a_slash_at_its_end() {
        use EntryAction::*;
        let (get, put, post, delete) = (Method::GET, Method::PUT, Method::POST, Method::DELETE);
        let rows = [
            (&get, "/enrollments/Sensor-7", entry("Sensor-7", Read)),
            (&put, "/ENROLLMENTS/a%3Ab/", entry("a:b", Write)),
            (&delete, "/enrollments/query", entry("query", Delete)),
            (&post, "/enrollments/query", Ok(Route::IndividualEnrollments)),
            (&post, "/enrollments/query/attestationMechanism", entry("query", ReadKeys)),
            (&post, "/enrollmentgroups/g/attestationmechanism", group("g", ReadKeys)),
            (&put, "/enrollmentGroups/g", group("g", Write)),
            (&post, "/enrollmentGroups/query/", Ok(Route::EnrollmentGroups)),
            (&get, "/registrations/d", Ok(Route::Record("d".parse().unwrap(), RecordAction::Read))),
            (&delete, "/registrations/d", Ok(Route::Record("d".parse().unwrap(), RecordAction::Delete))),
            (&post, "/registrations/g/query", Ok(Route::RecordsOfGroup("g".parse().unwrap()))),
            (&get, "/", Err(NoRoute::Path)),
            (&get, "/devices/a", Err(NoRoute::Path)),
            (&get, "/enrollments/a/b", Err(NoRoute::Path)),
            (&get, "/enrollments/a/attestationmechanism/b", Err(NoRoute::Path)),
            (&get, "/registrations/a/register", Err(NoRoute::Path)),
            (&put, "/enrollments/", Err(NoRoute::Method)),
            (&post, "/enrollments/", Ok(Route::Bulk(EntryKind::Individual))),
            (&post, "/EnrollmentGroups", Ok(Route::Bulk(EntryKind::Group))),
            (&get, "/enrollments", Err(NoRoute::Method)),
            (&post, "/enrollments/a", Err(NoRoute::Method)),
            (&put, "/registrations/a", Err(NoRoute::Method)),
            (&get, "/enrollments/a/attestationmechanism", Err(NoRoute::Method)),
            (&get, "/enrollments/a%2Fb", Err(NoRoute::Id(BadId::Character('/')))),
            (&get, "/enrollments/%zz", Err(NoRoute::Encoding)),
        ];
        for (method, path, expected) in rows {
            assert_eq!(Route::parse(method, path), expected, "{method} {path}");
        }
    }

    /// DPS-ACCESS-7
    #[test]
    fn each_path_wants_its_right() {
        let right = |method, path| Route::parse(&method, path).unwrap().right();
        assert_eq!(right(Method::GET, "/enrollments/a"), Right::EnrollmentRead);
        assert_eq!(right(Method::POST, "/enrollmentGroups/query"), Right::EnrollmentRead);
        assert_eq!(right(Method::PUT, "/enrollments/a"), Right::EnrollmentWrite);
        assert_eq!(right(Method::DELETE, "/enrollmentGroups/a"), Right::EnrollmentWrite);
        assert_eq!(right(Method::POST, "/enrollments/a/attestationmechanism"), Right::EnrollmentWrite);
        assert_eq!(right(Method::GET, "/registrations/a"), Right::RegistrationStatusRead);
        assert_eq!(right(Method::POST, "/registrations/a/query"), Right::RegistrationStatusRead);
        assert_eq!(right(Method::DELETE, "/registrations/a"), Right::RegistrationStatusWrite);
    }
}
