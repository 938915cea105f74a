//! What the decisions need from outside: a store, hubs, a place for long computations.
//!
//! Storage is named for use cases, one transaction each. The futures need no runtime: the simulation drives them by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dps_proto::ids::{DeviceId, ETag, EnrollmentGroupId, HubName, IdScope, InstanceSecret, RegistrationId};
use dps_proto::key::KeyPair;
use jiff::Timestamp;
use uuid::Uuid;

use crate::access::ServiceHost;
use crate::audit::{AuditFilter, AuditRecord, Author};
use crate::ca_certificate::{CaCertificate, CaName};
use crate::custom_allocation::WebhookUrl;
use crate::enrollment::{EnrollmentGroup, EntryRef, IndividualEnrollment, TwinDocument};
use crate::entry_filter::EntryFilter;
use crate::instance_settings::{HubSettings, StoredInstance};
use crate::registration::{Failure, JsonText, Registration};
use crate::x509::{NameKey, Sha256Thumbprint};

/// Where enrollments, records and the devices of local hubs are kept. Spec: DPS-STORE-1 to DPS-STORE-11.
#[async_trait]
pub trait Store: Send + Sync {
    /// The secret of an instance; `fresh` becomes it if the instance is new.
    async fn open_instance(
        &self,
        scope: &IdScope,
        fresh: InstanceSecret,
    ) -> Result<InstanceSecret, StoreError>;

    /// The ID scopes of all instances that were ever opened, in the order of their creation.
    async fn id_scopes(&self) -> Result<Vec<IdScope>, StoreError>;

    /// The instances whose settings are kept here, in the order of their creation; at most
    /// [`crate::instance_settings::INSTANCES_MAX`]. Spec: DPS-INST-1.
    async fn service_instances(&self) -> Result<Vec<StoredInstance>, StoreError>;

    /// The instance of that ID scope, if its settings are kept here.
    async fn service_instance(&self, scope: &IdScope) -> Result<Option<StoredInstance>, StoreError>;

    /// Creates an instance or replaces its settings; etag and dates are stored as given, `created_at` only at creation. The
    /// secret is that of [`Store::open_instance`] where there is one. Each change is recorded for itself.
    /// Spec: DPS-INST-2, DPS-INST-3, DPS-INST-10.
    async fn put_service_instance(
        &self,
        instance: StoredInstance,
        order: WriteOrder,
    ) -> Result<(), WriteError>;

    /// Takes an instance's settings away for good; what belongs to it is deleted by [`Store::sweep_deleted_instances`].
    /// Spec: DPS-INST-8.
    async fn delete_service_instance(&self, scope: &IdScope, order: WriteOrder) -> Result<(), WriteError>;

    /// Deletes up to `limit` rows of each kind of what a deleted instance left, the one of this ID scope or any; whether there may
    /// be more. Nobody may be writing to it any more. Spec: DPS-INST-8.
    async fn sweep_deleted_instances(&self, of: Option<&IdScope>, limit: u32) -> Result<Sweep, StoreError>;

    /// Whether a write would be durable now: something is written that changes nothing. Spec: DPS-METRICS-4.
    async fn is_writable(&self) -> Result<(), StoreError>;

    /// What is known of a registration id, all seen at one point in time.
    async fn look_up(&self, scope: &IdScope, id: &RegistrationId) -> Result<LookUp, StoreError>;

    /// The symmetric-key groups that a device with this id may belong to, all seen at one point in time. Spec: DPS-REG-2.
    async fn candidate_groups(
        &self,
        scope: &IdScope,
        id: &RegistrationId,
    ) -> Result<CandidateGroups, StoreError>;

    /// Writes a record and what its hub wants written, all or nothing. `Ok(Commit::Done)` means durable.
    /// Spec: DPS-STORE-2, DPS-STORE-4, DPS-STORE-5.
    async fn commit(&self, write: RegistrationWrite) -> Result<Commit, StoreError>;

    /// Claims operations that wait for a webhook and are due, the longest due first: each gets the next number of its tries and is not
    /// due before the lease has run out. Spec: DPS-REG-32.
    async fn claim_waiting(&self, order: ClaimOrder) -> Result<Claimed, StoreError>;

    /// Lets a claimed operation be due at another time, if the claim is still its newest. Spec: DPS-REG-32.
    async fn postpone(&self, claimed: &ClaimedOperation, until: Timestamp) -> Result<Commit, StoreError>;

    /// Deletes a record. The device's identity at its hub stays.
    async fn delete_registration(
        &self,
        scope: &IdScope,
        id: &RegistrationId,
        order: WriteOrder,
    ) -> Result<(), WriteError>;

    /// Creates or replaces an individual enrollment; its etag and dates are stored as given, `created_at` only at creation.
    async fn put_individual_enrollment(
        &self,
        scope: &IdScope,
        enrollment: IndividualEnrollment,
        order: WriteOrder,
    ) -> Result<(), WriteError>;

    /// Deletes an individual enrollment; the record of its device stays.
    async fn delete_individual_enrollment(
        &self,
        scope: &IdScope,
        id: &RegistrationId,
        order: WriteOrder,
    ) -> Result<(), WriteError>;

    /// Up to `limit` individual enrollments that `filter` takes and whose ids come after `after`, in the order of their folded
    /// ids. Spec: DPS-STORE-11.
    async fn individual_enrollments(
        &self,
        scope: &IdScope,
        filter: &EntryFilter,
        after: Option<&RegistrationId>,
        limit: u32,
    ) -> Result<Vec<Arc<IndividualEnrollment>>, StoreError>;

    /// The enrollment group of that id.
    async fn enrollment_group(
        &self,
        scope: &IdScope,
        id: &EnrollmentGroupId,
    ) -> Result<Option<Arc<EnrollmentGroup>>, StoreError>;

    /// Creates or replaces an enrollment group, as [`Store::put_individual_enrollment`] does. Spec: DPS-REG-3, DPS-REG-21.
    async fn put_enrollment_group(
        &self,
        scope: &IdScope,
        group: EnrollmentGroup,
        order: WriteOrder,
    ) -> Result<(), WriteError>;

    /// Deletes an enrollment group; the records of its devices stay.
    async fn delete_enrollment_group(
        &self,
        scope: &IdScope,
        id: &EnrollmentGroupId,
        order: WriteOrder,
    ) -> Result<(), WriteError>;

    /// Up to `limit` enrollment groups that `filter` takes and whose ids come after `after`, in the order of their folded ids.
    /// Spec: DPS-STORE-11.
    async fn enrollment_groups(
        &self,
        scope: &IdScope,
        filter: &EntryFilter,
        after: Option<&EnrollmentGroupId>,
        limit: u32,
    ) -> Result<Vec<Arc<EnrollmentGroup>>, StoreError>;

    /// Up to `limit` records that came from this group, whether or not it still exists, whose registration ids come after
    /// `after`, in the order of their folded ids. Spec: DPS-STORE-11.
    async fn registrations_of_group(
        &self,
        scope: &IdScope,
        group: &EnrollmentGroupId,
        after: Option<&RegistrationId>,
        limit: u32,
    ) -> Result<Vec<Registration>, StoreError>;

    /// The newest `limit` records of changes that `filter` takes, newest first. Spec: DPS-AUDIT-4.
    async fn audit_records(
        &self,
        scope: &IdScope,
        filter: &AuditFilter,
        limit: u32,
    ) -> Result<Vec<AuditRecord>, StoreError>;

    /// The device of that id at a local hub.
    async fn hub_device(
        &self,
        scope: &IdScope,
        hub: &HubName,
        device_id: &DeviceId,
    ) -> Result<Option<StoredHubDevice>, StoreError>;

    /// Up to `limit` devices of a local hub whose ids come after `after`, in the order of their ids.
    async fn hub_devices(
        &self,
        scope: &IdScope,
        hub: &HubName,
        after: Option<&DeviceId>,
        limit: u32,
    ) -> Result<Vec<StoredHubDevice>, StoreError>;

    /// Enables or disables a device of a local hub, which stays so when it registers again. [`WriteError::Missing`] where
    /// there is none. Spec: DPS-BROKER-12.
    async fn set_hub_device_status(
        &self,
        scope: &IdScope,
        hub: &HubName,
        device_id: &DeviceId,
        status: HubDeviceStatus,
        by: Option<Box<Author>>,
    ) -> Result<(), WriteError>;

    /// What a chain may lead to, by way of [`ChainWanted::anchors`], all seen at one point in time. Spec: DPS-X509-6, DPS-X509-7.
    async fn chain_entries(&self, scope: &IdScope, wanted: &ChainWanted) -> Result<ChainEntries, StoreError>;

    /// All CA certificates of an instance, verified or not, in the order of their folded names; at most
    /// [`crate::ca_certificate::CA_CERTIFICATES_MAX`]. Asked for at every register by certificate: not to be read and parsed
    /// each time. Spec: DPS-X509-23.
    async fn ca_certificates(&self, scope: &IdScope) -> Result<Arc<[Arc<CaCertificate>]>, StoreError>;

    /// Creates or replaces a CA certificate; its etag and dates are stored as given, `created_at` only at creation.
    async fn put_ca_certificate(
        &self,
        scope: &IdScope,
        certificate: CaCertificate,
        order: WriteOrder,
    ) -> Result<(), WriteError>;

    /// Deletes a CA certificate that no entry refers to. Spec: DPS-X509-25.
    async fn delete_ca_certificate(
        &self,
        scope: &IdScope,
        name: &CaName,
        order: WriteOrder,
    ) -> Result<(), WriteError>;

    /// Tells `observer`, the first that is given, of every write from now on. A store in which no write ever waits tells
    /// nothing. Spec: DPS-METRICS-5.
    fn observe_writes(&self, _observer: Arc<dyn WriteObserver>) {}
}

/// Hears how long the writes of a store take. Called on the store's own threads: it must not block. Spec: DPS-METRICS-5.
pub trait WriteObserver: Send + Sync {
    /// Someone asked for a write, which waits from now on.
    fn asked(&self);

    /// A write that was asked for has ended, well or not, `took` after it was asked for: the time in the queue and its
    /// share of a common commit are in it.
    fn ended(&self, took: Duration);
}

/// What is known of a registration id.
#[derive(Debug, Clone, Default)]
pub struct LookUp {
    /// Its individual enrollment.
    pub individual_enrollment: Option<Arc<IndividualEnrollment>>,
    /// Its record.
    pub registration: Option<Registration>,
    /// The group that the record came from, if it came from one that still exists.
    pub registration_group: Option<Arc<EnrollmentGroup>>,
}

/// The groups that a device may belong to. Spec: DPS-REG-2.
#[derive(Debug, Clone)]
pub struct CandidateGroups {
    /// Those whose prefix matches, longest prefix first; at most [`crate::enrollment::PREFIXED_GROUPS_MAX`].
    pub prefixed: Vec<Arc<EnrollmentGroup>>,
    /// Those without a prefix, oldest first; at most [`crate::enrollment::OPEN_GROUPS_MAX`].
    pub open: Arc<[Arc<EnrollmentGroup>]>,
}

/// What is wanted for a chain. Spec: DPS-X509-6, DPS-X509-7.
#[derive(Debug, Clone)]
pub struct ChainWanted {
    /// Individual enrollments that have exactly this client certificate, primary or secondary, are wanted.
    pub leaf: Sha256Thumbprint,
    /// Who issued that.
    pub issuer: NameKey,
    /// Subject and issuer of each certificate that came with it.
    pub sent: Vec<(NameKey, NameKey)>,
}

/// By what groups are found. Spec: DPS-X509-7.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchorsWanted {
    /// Groups that have a signing certificate with one of these subjects are wanted; at most 256.
    pub subjects: BTreeSet<NameKey>,
    /// And groups that refer to one of these CA certificates.
    pub ca_names: Vec<CaName>,
}

impl ChainWanted {
    /// The names of all that may stand above the device's certificate, by name alone: no signature is verified for it.
    pub fn anchors(&self, authorities: &[Arc<CaCertificate>]) -> AnchorsWanted {
        let uploaded = authorities.iter().filter(|ca| ca.is_verified());
        let uploaded = uploaded.map(|ca| (ca.certificate.subject(), ca.certificate.issuer()));
        let known: Vec<_> = self.sent.iter().copied().chain(uploaded).collect();
        let mut subjects = BTreeSet::from([self.issuer]);
        loop {
            let before = subjects.len();
            for (subject, issuer) in &known {
                if subjects.contains(subject) {
                    subjects.insert(*issuer);
                }
            }
            if subjects.len() == before {
                break;
            }
        }
        let named = authorities.iter().filter(|ca| subjects.contains(&ca.certificate.subject()));
        AnchorsWanted { ca_names: named.map(|ca| ca.name.clone()).collect(), subjects }
    }
}

/// What of a [`ChainWanted`] there is, enabled or not.
#[derive(Debug, Clone)]
pub struct ChainEntries {
    /// Holders of the device's certificate, oldest first, then by their folded ids; the first [`Self::HOLDERS_MAX`].
    pub individual_enrollments: Vec<Arc<IndividualEnrollment>>,
    /// Groups of the subjects and CA certificates, each once, oldest first, then by their folded ids. Few: one subject has at most
    /// [`crate::enrollment::GROUPS_OF_ONE_SUBJECT_MAX`], and so has one CA certificate.
    pub groups: Vec<Arc<EnrollmentGroup>>,
    /// All CA certificates of the instance, as [`Store::ca_certificates`] gives them.
    pub authorities: Arc<[Arc<CaCertificate>]>,
}

impl ChainEntries {
    /// Most individual enrollments that are looked at for one certificate.
    pub const HOLDERS_MAX: usize = 16;
}

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

/// Which waiting operations to claim. Spec: DPS-REG-32, DPS-REG-33.
#[derive(Debug, Clone)]
pub struct ClaimOrder {
    /// Those that are due by then.
    pub now: Timestamp,
    /// When they are due again unless they end or are postponed before.
    pub lease_until: Timestamp,
    /// At most so many.
    pub limit: u32,
    /// At most so many of one webhook host, those of `in_flight` included.
    pub per_host_max: u32,
    /// How many of each host are being called.
    pub in_flight: BTreeMap<Box<str>, u32>,
    /// Of hosts that come after this one alone: [`Claimed::hosts_after`] of the claim before.
    pub after_host: Option<Box<str>>,
}

impl ClaimOrder {
    /// How many of this host may be claimed.
    pub fn room_for(&self, host: &str) -> u32 {
        self.per_host_max.saturating_sub(self.in_flight.get(host).copied().unwrap_or(0))
    }
}

/// What was claimed.
#[derive(Debug, Clone, Default)]
pub struct Claimed {
    /// Those that were due, the longest first.
    pub operations: Vec<ClaimedOperation>,
    /// When the next one is due that is not due yet, of the hosts that were looked at.
    pub next_due: Option<Timestamp>,
    /// The last host that was looked at, where there are more: a store looks at [`Claimed::HOSTS_MAX`] or more at a time.
    pub hosts_after: Option<Box<str>>,
}

impl Claimed {
    /// Most webhook hosts that a store steps through in one write: each costs a few steps in an index.
    pub const HOSTS_MAX: usize = 256;
}

/// A waiting operation under a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedOperation {
    /// The service instance.
    pub id_scope: IdScope,
    /// The device.
    pub registration_id: RegistrationId,
    /// The operation.
    pub guid: Uuid,
    /// That of its record.
    pub etag: ETag,
    /// How often it was claimed, this time included: the number of the lease.
    pub tries: u32,
    /// Whom it asks.
    pub webhook_host: Box<str>,
}

/// Asks the webhooks of entries. Spec: DPS-REG-28, DPS-HUB-20.
#[async_trait]
pub trait AllocationHook: Send + Sync {
    /// Tells a webhook this JSON, once, within a bounded time.
    async fn ask(&self, url: &WebhookUrl, json: Vec<u8>) -> HookAnswer;
}

/// What came of asking a webhook.
#[derive(Debug)]
pub struct HookAnswer {
    /// What it means.
    pub outcome: AllocationOutcome,
    /// What happened, for the log: nothing of the URL's query, of the request or of the answer's content.
    pub told: String,
}

/// What a webhook answered. Spec: DPS-REG-28.
#[derive(Debug, Clone)]
pub enum AllocationOutcome {
    /// A hub.
    Named(Box<NamedHub>),
    /// Success, and no hub.
    NotNamed,
    /// 401.
    Unauthorized,
    /// Another status, which is for good.
    Refused {
        /// That status.
        status: u16,
    },
    /// Nothing, or a status that may pass.
    Retryable {
        /// That status.
        status: Option<u16>,
    },
    /// Success, and an answer that says nothing.
    Unreadable,
    /// It was not sent anything: its URL is not to be called, or there is too much to tell.
    NotSent,
}

/// What a webhook chose.
#[derive(Debug, Clone)]
pub struct NamedHub {
    /// The hub; it may be one that is not linked.
    pub hub: HubName,
    /// The twin of a device that begins anew there.
    pub initial_twin: Option<TwinDocument>,
    /// For the device: a JSON object.
    pub payload: Option<JsonText>,
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
    /// An instance of that ID scope was deleted, and not all of it is gone. Spec: DPS-INST-8.
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

/// A hub that devices are assigned to. Spec: DPS-REG-17.
pub trait Hub: Send + Sync {
    /// What has to happen so that the device lives at this hub with this authentication. Asking changes nothing: a register that
    /// is only tried asks too. Spec: DPS-EXPLAIN-6.
    fn place(&self, device: HubDevice) -> Placement;
}

/// Makes hubs of what is kept of them.
pub trait HubFactory: Send + Sync {
    /// The hub with these settings. Making it asks nobody.
    fn hub(&self, settings: &HubSettings) -> Arc<dyn Hub>;
}

/// How a device comes to live at a hub.
#[derive(Debug)]
pub enum Placement {
    /// By writes that go into the commit of the record.
    Writes(Vec<HubWrite>),
    /// By asking someone outside: the record is kept as `assigning` until
    /// [`crate::register::Registrar::finish`] is called.
    Outside,
    /// Not at all: the hub cannot take the device. Spec: DPS-BROKER-11.
    Refused(Failure),
}

/// A write that belongs to a hub kept in this store. A device that is put stays enabled or disabled as it was, at the hub or, where
/// the same commit removes it there, at the one that it comes from. Spec: DPS-BROKER-12.
#[derive(Debug, Clone)]
pub enum HubWrite {
    /// Make the device, or give it this authentication; a twin that it has already is left alone. Spec: DPS-REG-17.
    PutDevice(Box<HubDevice>),
    /// Take the device away, if it is there. Spec: DPS-REG-23.
    RemoveDevice {
        /// The service instance.
        id_scope: IdScope,
        /// The hub.
        hub: HubName,
        /// The device's id there.
        device_id: DeviceId,
    },
}

/// A device as its hub should know it.
#[derive(Debug, Clone)]
pub struct HubDevice {
    /// The service instance.
    pub id_scope: IdScope,
    /// The hub.
    pub hub: HubName,
    /// The device's id there.
    pub device_id: DeviceId,
    /// The record it belongs to.
    pub registration_id: RegistrationId,
    /// What it authenticates with.
    pub authentication: HubAuthentication,
    /// Whether it is an IoT Edge device.
    pub iot_edge: bool,
    /// Its twin, if it is new.
    pub initial_twin: Option<TwinDocument>,
}

/// What a device authenticates with at its hub.
#[derive(Debug, Clone)]
pub enum HubAuthentication {
    /// SAS tokens signed with either key. Spec: DPS-REG-17.
    Keys(KeyPair),
    /// A certificate with either thumbprint, whoever signed it. Spec: DPS-X509-22.
    SelfSigned {
        /// That of the certificate it just used.
        primary: Sha256Thumbprint,
        /// That of the one it may change over to; the same where there is none.
        secondary: Sha256Thumbprint,
    },
}

/// Whether a device of a local hub may connect to it. Spec: DPS-BROKER-12.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubDeviceStatus {
    /// It may.
    Enabled,
    /// It may not, whatever it proves.
    Disabled,
}

impl HubDeviceStatus {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Enabled, Self::Disabled];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
        }
    }
}

/// A device of a local hub as the store keeps it.
#[derive(Debug, Clone)]
pub struct StoredHubDevice {
    /// What it was last given; `initial_twin` is the twin that it has.
    pub device: HubDevice,
    /// Whether it may connect.
    pub status: HubDeviceStatus,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its authentication was last given.
    pub updated_at: Timestamp,
}

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
