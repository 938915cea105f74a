//! Enrollment entries: who may come in, and with what settings. Spec: DPS-REG-1 to DPS-REG-3, DPS-REG-18.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use dps_proto::ids::{BadId, DeviceId, ETag, EnrollmentGroupId, HubName, RegistrationId};
use dps_proto::key::KeyPair;
use jiff::Timestamp;

use crate::ca_certificate::CaName;
use crate::custom_allocation::CustomAllocation;
use crate::x509::Certificate;

/// Most symmetric-key groups of an instance that have no `registrationIdPrefix`. Spec: DPS-REG-3.
pub const OPEN_GROUPS_MAX: usize = 1_000;

/// Most symmetric-key groups of an instance whose `registrationIdPrefix` one registration id may begin with: all of them are
/// read for every attempt of such an id, before anything is charged for it. Spec: DPS-REG-21.
pub const PREFIXED_GROUPS_MAX: usize = 100;

/// Most groups of one instance that have signing certificates of one and the same subject: each of them may cost a signature
/// at every attempt of a device. Spec: DPS-X509-30.
pub const GROUPS_OF_ONE_SUBJECT_MAX: usize = 16;

/// An entry for exactly one device.
#[derive(Debug, Clone)]
pub struct IndividualEnrollment {
    /// The device it is for.
    pub registration_id: RegistrationId,
    /// The device id to use at the hub, where it is not the registration id. Spec: DPS-REG-18.
    pub device_id: Option<DeviceId>,
    /// How the device proves itself.
    pub attestation: Attestation,
    /// What groups have as well.
    pub settings: EntrySettings,
}

/// An entry for every device that holds a key derived from the group's, or a certificate that one of the group's leads to.
#[derive(Debug, Clone)]
pub struct EnrollmentGroup {
    /// Names the group.
    pub id: EnrollmentGroupId,
    /// If set, only registration ids that begin with it are tried; of symmetric-key groups alone. Spec: DPS-REG-2.
    pub registration_id_prefix: Option<RegistrationIdPrefix>,
    /// How its devices prove themselves.
    pub attestation: GroupAttestation,
    /// What individual enrollments have as well.
    pub settings: EntrySettings,
}

/// How one device proves itself: a closed choice.
#[derive(Debug, Clone)]
pub enum Attestation {
    /// By a SAS token signed with either key.
    SymmetricKey(KeyPair),
    /// By exactly one of these certificates. Spec: DPS-X509-4.
    ClientCertificates(CertificatePair),
    /// By a chain that reaches one of these. Spec: DPS-X509-5.
    Signers(Signers),
    /// By a TPM that holds this endorsement key.
    Tpm {
        /// TPM2B_PUBLIC of the endorsement key.
        endorsement_key: Box<[u8]>,
    },
}

/// How the devices of a group prove themselves. A TPM group has no spelling: there is none.
#[derive(Debug, Clone)]
pub enum GroupAttestation {
    /// By a SAS token signed with a key derived from either key.
    SymmetricKey(KeyPair),
    /// By a chain that reaches one of these. Spec: DPS-X509-7.
    Signers(Signers),
}

/// Certificates that chains have to reach. Spec: DPS-X509-9.
#[derive(Debug, Clone)]
pub enum Signers {
    /// The entry's own.
    Certificates(CertificatePair),
    /// CA certificates of the instance.
    CaReferences(CaReferences),
}

/// One certificate, or two of which either will do. Spec: DPS-X509-10.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificatePair {
    /// The one.
    pub primary: Arc<Certificate>,
    /// The one to change over to.
    pub secondary: Option<Arc<Certificate>>,
}

/// The names of one CA certificate of the instance, or of two. Spec: DPS-X509-9.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaReferences {
    /// The one.
    pub primary: CaName,
    /// The one to change over to.
    pub secondary: Option<CaName>,
}

impl CertificatePair {
    /// Both, as far as there are two.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        std::iter::once(&self.primary).chain(&self.secondary)
    }
}

impl CaReferences {
    /// Both, as far as there are two.
    pub fn iter(&self) -> impl Iterator<Item = &CaName> {
        std::iter::once(&self.primary).chain(&self.secondary)
    }
}

/// What individual enrollments and groups have in common.
#[derive(Debug, Clone)]
pub struct EntrySettings {
    /// Whether devices may come in by this entry.
    pub provisioning_status: ProvisioningStatus,
    /// How a hub is chosen; the instance's default where absent.
    pub allocation_policy: Option<AllocationPolicy>,
    /// Whom the policy [`AllocationPolicy::Custom`] asks; kept whatever the policy is. Spec: DPS-REG-26.
    pub custom_allocation: Option<CustomAllocation>,
    /// Hubs to choose from; every linked hub where empty.
    pub hubs: Vec<HubName>,
    /// JSON object with `tags` and `properties.desired`, given to a device that is new at its hub.
    pub initial_twin: Option<TwinDocument>,
    /// Whether the device is made as an IoT Edge device.
    pub iot_edge: bool,
    /// What happens to an assignment at the next registration; absent is Azure's default for new entries.
    pub reprovision_policy: Option<ReprovisionPolicy>,
    /// What clients wrote along and this service only keeps. Spec: DPS-SERVICE-16.
    pub other_members: Option<OtherMembers>,
    /// Version of the entry; a new one at each write. Spec: DPS-STORE-4.
    pub etag: ETag,
    /// First creation.
    pub created_at: Timestamp,
    /// Last write.
    pub updated_at: Timestamp,
}

/// Whether an entry admits devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProvisioningStatus {
    /// It does.
    Enabled,
    /// It refuses them, by name. Spec: DPS-REG-5.
    Disabled,
}

/// How a hub is chosen for a new device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllocationPolicy {
    /// Spread over the hubs by their weights. Spec: DPS-REG-16.
    Hashed,
    /// The one hub that the entry names.
    Static,
    /// The hub in whose networks the device is. Spec: DPS-REG-24.
    GeoLatency,
    /// The one that a webhook names; of entries alone. Spec: DPS-REG-26.
    Custom,
}

impl AllocationPolicy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Hashed, Self::Static, Self::GeoLatency, Self::Custom];

    /// Those that an instance may have as its default.
    pub const DEFAULTS: [Self; 3] = [Self::Hashed, Self::Static, Self::GeoLatency];

    /// Azure's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hashed => "hashed",
            Self::Static => "static",
            Self::GeoLatency => "geoLatency",
            Self::Custom => "custom",
        }
    }
}

/// Whether a device may move, and whether its data moves along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReprovisionPolicy {
    /// Judge the hub anew at each registration.
    pub update_hub_assignment: bool,
    /// Carry the twin along when it moves.
    pub migrate_device_data: bool,
}

impl ReprovisionPolicy {
    /// Devices keep their hub.
    pub const NEVER: Self = Self { update_hub_assignment: false, migrate_device_data: false };

    /// Devices go where they belong, and take their data along: Azure's default for new entries.
    pub const MIGRATE: Self = Self { update_hub_assignment: true, migrate_device_data: true };
}

/// A JSON object as text; checked to be one where it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TwinDocument(pub Box<str>);

/// A JSON object as text: members of an entry that mean nothing here and are returned as they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherMembers(pub Box<str>);

/// The beginning of a registration id, folded to lower case. Spec: DPS-REG-2.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistrationIdPrefix(Box<str>);

impl RegistrationIdPrefix {
    /// The folded text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `id` begins with it, ignoring ASCII case.
    pub fn matches(&self, id: &RegistrationId) -> bool {
        id.folded().starts_with(&*self.0)
    }

    /// The most groups that a registration id with this prefix could be tried under, if `others` are the prefixes of all
    /// other groups, or at least of those that share an id with this one. Spec: DPS-REG-21.
    pub fn most_on_one_id(&self, others: impl IntoIterator<Item = Self>) -> usize {
        let share_an_id = |other: &Self| other.0.starts_with(&*self.0) || self.0.starts_with(&*other.0);
        let mut prefixes: Vec<Self> = others.into_iter().filter(share_an_id).collect();
        prefixes.push(self.clone());
        // What continues a prefix follows it, before anything else does.
        prefixes.sort_unstable();
        let (mut on_one_id, mut most): (Vec<&Self>, usize) = (Vec::new(), 0);
        for prefix in &prefixes {
            while on_one_id.last().is_some_and(|last| !prefix.0.starts_with(&*last.0)) {
                on_one_id.pop();
            }
            on_one_id.push(prefix);
            most = most.max(on_one_id.len());
        }
        most
    }
}

impl FromStr for RegistrationIdPrefix {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        // A prefix is one exactly where adding a letter makes a registration id.
        match format!("{text}a").parse::<RegistrationId>() {
            _ if text.is_empty() => Err(BadId::Length(0)),
            Err(BadId::Length(characters)) => Err(BadId::Length(characters - 1)),
            Err(why) => Err(why),
            Ok(_) => Ok(Self(text.to_ascii_lowercase().into())),
        }
    }
}

impl fmt::Display for RegistrationIdPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names an entry of either kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EntryRef {
    /// The individual enrollment with this registration id.
    Individual(RegistrationId),
    /// The enrollment group with this id.
    Group(EnrollmentGroupId),
}

impl fmt::Display for EntryRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Individual(id) => write!(f, "individual enrollment {id}"),
            Self::Group(id) => write!(f, "enrollment group {id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-REG-2
    #[test]
    fn a_prefix_matches_the_ids_that_begin_with_it_ignoring_case() {
        let prefix: RegistrationIdPrefix = "Line-7.".parse().unwrap();
        assert!(prefix.matches(&"LINE-7.press".parse().unwrap()));
        assert!(!prefix.matches(&"line-8.press".parse().unwrap()));
        assert_eq!("".parse::<RegistrationIdPrefix>(), Err(BadId::Length(0)));
        assert_eq!("a/".parse::<RegistrationIdPrefix>(), Err(BadId::Character('/')));
    }

    /// DPS-REG-21
    #[test]
    fn prefixes_are_counted_along_the_registration_id_that_begins_with_most_of_them() {
        let prefix = |text: &str| -> RegistrationIdPrefix { text.parse().unwrap() };
        for (others, expected) in [
            (&[][..], 1),
            (&["m", "m"], 3),
            (&["m-", "m.", "m_"], 2),
            (&["l", "n", "ln"], 1),
            (&["m-1", "m-2-x", "m-2", "m-", "m", "l"], 5),
        ] {
            let others = others.iter().map(|other| prefix(other));
            assert_eq!(prefix("m").most_on_one_id(others), expected);
        }
        let others = ["m", "m-2", "m-3", "m-2-a", "m-22", "m-2-a-b"].map(prefix);
        assert_eq!(prefix("m-2").most_on_one_id(others), 5);
    }
}
