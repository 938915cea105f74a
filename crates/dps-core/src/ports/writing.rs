//! What is written, on which condition and for whom, and why it was not.

use dps_proto::ids::{ETag, IdScope};

use super::HubWrite;
use crate::access::ServiceHost;
use crate::audit::Author;
use crate::ca_certificate::CaName;
use crate::enrollment::EntryRef;
use crate::registration::Registration;

/// A record to write, and what must still hold for it. Spec: DPS-STORE-4.
#[derive(Debug, Clone)]
pub struct RegistrationWrite {
    /// The whole new record.
    pub registration: Registration,
    /// The etag of the record it replaces; `None` if there must be none.
    pub replaces: Option<ETag>,
    /// The number of the claim that it was decided under, where it ends an operation that waits: still the newest one.
    /// Spec: DPS-REG-32.
    pub under_claim: Option<u32>,
    /// The entry it was decided on, and the etag it must still have; `None` where the decision needs no entry.
    /// Spec: DPS-REG-13.
    pub decided_on: Option<(EntryRef, ETag)>,
    /// What the hub wants written along. Spec: DPS-STORE-5.
    pub hub_writes: Vec<HubWrite>,
}

/// What became of a [`RegistrationWrite`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// It is durable.
    Done,
    /// The record or the entry has changed meanwhile: nothing was written; decide again.
    Outdated,
}

/// On what condition an entry or record is written. Spec: DPS-STORE-10.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Whatever is there.
    Always,
    /// Only if there is none.
    IfAbsent,
    /// Only if it has this etag.
    IfMatches(ETag),
}

/// On what condition something is written, and for whom.
#[derive(Debug, Clone)]
pub struct WriteOrder {
    /// What must hold.
    pub condition: Condition,
    /// Whom the audit names; `None` for what nobody asked for. Spec: DPS-AUDIT-1, DPS-AUDIT-2.
    pub by: Option<Box<Author>>,
}

impl WriteOrder {
    /// Asked for by `author`.
    pub fn by(author: Author, condition: Condition) -> Self {
        Self { condition, by: Some(Box::new(author)) }
    }
}

impl From<Condition> for WriteOrder {
    fn from(condition: Condition) -> Self {
        Self { condition, by: None }
    }
}

/// How far deleted instances are gone. Spec: DPS-INST-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sweep {
    /// There may be more.
    More,
    /// Nothing is left.
    Clean,
}

/// Why a write did not happen.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// [`Condition::IfAbsent`], and there is one.
    #[error("it exists already")]
    Exists,
    /// A deletion, or [`Condition::IfMatches`], and there is none.
    #[error("it does not exist")]
    Missing,
    /// [`Condition::IfMatches`], and it has another etag.
    #[error("it has changed since it was read")]
    Changed,
    /// One symmetric-key group without prefix too many. Spec: DPS-REG-3.
    #[error(
        "the instance has {0} enrollment groups without a registrationIdPrefix, the most it may have; \
         give this one a registrationIdPrefix"
    )]
    TooManyOpenGroups(usize),
    /// One symmetric-key group too many whose prefixes one registration id begins with. Spec: DPS-REG-21.
    #[error(
        "a registration id could begin with the registrationIdPrefix of {0} enrollment groups, this one included, which is more \
         than it may; give this one a longer registrationIdPrefix, or another one"
    )]
    TooManyPrefixedGroups(usize),
    /// One group too many with signing certificates of one subject, or with a reference to one CA certificate. Spec: DPS-X509-30.
    #[error(
        "{0} enrollment groups have a signing certificate of this subject, the most that may: the groups would be told apart by \
         their keys alone; give the certificate another subject, or put its devices into one of these groups"
    )]
    TooManyGroupsOfOneSubject(usize),
    /// One CA certificate too many. Spec: DPS-X509-23.
    #[error("the instance has {0} CA certificates, the most it may have")]
    TooManyCaCertificates(usize),
    /// The entry refers to it, and it is not there. Spec: DPS-X509-25.
    #[error("there is no CA certificate {0}")]
    NoSuchCaCertificate(CaName),
    /// It is not deleted while this entry refers to it. Spec: DPS-X509-25.
    #[error("{0} refers to it")]
    CaCertificateInUse(EntryRef),
    /// One service instance too many. Spec: DPS-INST-2.
    #[error("there are {0} service instances, the most that may be")]
    TooManyInstances(usize),
    /// A service host is that of another instance. Spec: DPS-INST-3.
    #[error("serviceHosts: {0} belongs to the service instance {1}")]
    ServiceHostTaken(ServiceHost, IdScope),
    /// An instance of that ID scope was deleted, and not all of it is gone; or all of it is, to whom it was served until now. Spec:
    /// DPS-INST-8, DPS-STORE-24.
    #[error("the service instance {0} is being deleted; it can be made again when nothing is left of it")]
    InstanceBeingDeleted(IdScope),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the store could not answer. The text is for the log.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It may work again later: disk full, locked, closed.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// What is stored cannot be read: a wrong sealing key, a damaged file.
    #[error("what is stored cannot be read: {0}")]
    Unreadable(String),
}
