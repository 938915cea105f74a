//! Who changed what, and when. Spec: DPS-AUDIT-1 to DPS-AUDIT-4 (docs/spec/audit.md).

use std::net::IpAddr;

use dps_proto::ids::{DeviceId, ETag, EnrollmentGroupId, HubName, IdScope, PolicyName, RegistrationId};
use jiff::Timestamp;
use uuid::Uuid;

use crate::ca_certificate::CaName;
use crate::enrollment::EntryRef;
use crate::ports::HubDeviceStatus;

/// Most records that a store keeps; the oldest go first. Spec: DPS-AUDIT-3.
pub const AUDIT_RECORDS_MAX: u64 = 1_000_000;

/// Who asks for a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// By which right.
    pub principal: Principal,
    /// Where the request came from, where that is known.
    pub address: Option<IpAddr>,
    /// That of its answer, where it has one.
    pub tracking_id: Option<Uuid>,
    /// When it was asked for.
    pub at: Timestamp,
}

/// What lets someone change something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A shared access policy of the instance, by its name.
    Policy(Box<str>),
    /// The token of the admin listener.
    Admin,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It was not there before.
    Created,
    /// It was, and is now as the request had it.
    Replaced,
    /// It is gone.
    Deleted,
    /// It may be used again. Spec: DPS-BROKER-12.
    Enabled,
    /// It may not be used any more. Spec: DPS-BROKER-12.
    Disabled,
}

/// What it was done to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// An entry of the enrollment list.
    Entry(EntryRef),
    /// A device's record.
    Registration(RegistrationId),
    /// A CA certificate of the instance.
    CaCertificate(CaName),
    /// The instance itself: it came, its own settings changed, or it went. Spec: DPS-INST-10.
    ServiceInstance(IdScope),
    /// A linked hub of the instance.
    LinkedHub(HubName),
    /// A shared access policy of the instance.
    SharedAccessPolicy(PolicyName),
    /// A device of a local hub.
    HubDevice(HubDeviceName),
}

/// Names a device of a hub: `{hub}/{deviceId}`. Found ignoring case, as all that the audit names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubDeviceName {
    spelling: Box<str>,
    folded: Box<str>,
}

impl HubDeviceName {
    /// The device of that id there.
    pub fn new(hub: &HubName, device_id: &DeviceId) -> Self {
        let spelling = format!("{hub}/{device_id}");
        Self { folded: spelling.to_ascii_lowercase().into(), spelling: spelling.into() }
    }

    fn parse(text: &str) -> Option<Self> {
        let (hub, device_id) = text.split_once('/')?;
        Some(Self::new(&hub.parse().ok()?, &device_id.parse().ok()?))
    }
}

/// One change. It holds no secret: of what was written, the version alone. Spec: DPS-AUDIT-1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Later ones are higher.
    pub number: u64,
    /// Who did it.
    pub author: Author,
    /// What was done.
    pub action: Action,
    /// To what.
    pub subject: Subject,
    /// The version that was written.
    pub etag: Option<ETag>,
}

/// Which records are wanted. Spec: DPS-AUDIT-4.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only those before this one.
    pub before: Option<u64>,
    /// Only those of this id, folded, whatever it names.
    pub subject: Option<Box<str>>,
}

impl Subject {
    /// The word for its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Entry(EntryRef::Individual(_)) => "enrollment",
            Self::Entry(EntryRef::Group(_)) => "enrollmentGroup",
            Self::Registration(_) => "registration",
            Self::CaCertificate(_) => "certificate",
            Self::ServiceInstance(_) => "serviceInstance",
            Self::LinkedHub(_) => "linkedHub",
            Self::SharedAccessPolicy(_) => "sharedAccessPolicy",
            Self::HubDevice(_) => "hubDevice",
        }
    }

    /// The one of this kind, if `kind` is one and `id` can be an id of it.
    pub fn named(kind: &str, id: &str) -> Option<Self> {
        Some(match kind {
            "enrollment" => Self::Entry(EntryRef::Individual(id.parse::<RegistrationId>().ok()?)),
            "enrollmentGroup" => Self::Entry(EntryRef::Group(id.parse::<EnrollmentGroupId>().ok()?)),
            "registration" => Self::Registration(id.parse().ok()?),
            "certificate" => Self::CaCertificate(id.parse().ok()?),
            "serviceInstance" => Self::ServiceInstance(id.parse().ok()?),
            "linkedHub" => Self::LinkedHub(id.parse().ok()?),
            "sharedAccessPolicy" => Self::SharedAccessPolicy(id.parse().ok()?),
            "hubDevice" => Self::HubDevice(HubDeviceName::parse(id)?),
            _ => return None,
        })
    }

    /// Its id, as it was spelled.
    pub fn id(&self) -> &str {
        match self {
            Self::Entry(EntryRef::Individual(id)) | Self::Registration(id) => id.as_str(),
            Self::Entry(EntryRef::Group(id)) => id.as_str(),
            Self::CaCertificate(name) => name.as_str(),
            Self::ServiceInstance(id_scope) => id_scope.as_str(),
            Self::LinkedHub(name) => name.as_str(),
            Self::SharedAccessPolicy(name) => name.as_str(),
            Self::HubDevice(name) => &name.spelling,
        }
    }

    /// Its id, as ids are compared.
    pub fn folded(&self) -> &str {
        match self {
            Self::Entry(EntryRef::Individual(id)) | Self::Registration(id) => id.folded(),
            Self::Entry(EntryRef::Group(id)) => id.folded(),
            Self::CaCertificate(name) => name.folded(),
            Self::ServiceInstance(id_scope) => id_scope.folded(),
            Self::LinkedHub(name) => name.folded(),
            Self::SharedAccessPolicy(name) => name.folded(),
            Self::HubDevice(name) => &name.folded,
        }
    }
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Created, Self::Replaced, Self::Deleted, Self::Enabled, Self::Disabled];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Replaced => "replaced",
            Self::Deleted => "deleted",
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
        }
    }
}

impl From<HubDeviceStatus> for Action {
    fn from(status: HubDeviceStatus) -> Self {
        match status {
            HubDeviceStatus::Enabled => Self::Enabled,
            HubDeviceStatus::Disabled => Self::Disabled,
        }
    }
}

impl AuditFilter {
    /// Whether a list holds this record.
    pub fn takes(&self, record: &AuditRecord) -> bool {
        self.before.is_none_or(|before| record.number < before)
            && self.subject.as_ref().is_none_or(|wanted| **wanted == *record.subject.folded())
    }
}
