//! What a service instance is made of, as it is kept. Spec: DPS-INST-2 (docs/spec/instances.md).

use std::collections::HashSet;

use dps_proto::connection_string::ServiceConnectionString;
use dps_proto::ids::{ETag, HubName, IdScope, InstanceSecret, PolicyName};
use ipnet::IpNet;
use jiff::Timestamp;

use crate::access::{ServiceHost, SharedAccessPolicy};
use crate::audit::{Action, Subject};
use crate::enrollment::AllocationPolicy;
use crate::instance::{ClaimAcrossGroups, HubKind, WhenSourceUnavailable};
use crate::moment::Moment;
use crate::x509::ChainRules;

/// Most service instances that a store keeps: all of them are held in memory.
pub const INSTANCES_MAX: usize = 1_000;

/// Most service hosts of one instance.
pub const SERVICE_HOSTS_MAX: usize = 64;

/// Most linked hubs of one instance: each is weighed for every new device.
pub const LINKED_HUBS_MAX: usize = 100;

/// Most shared access policies of one instance.
pub const POLICIES_MAX: usize = 100;

/// Most networks of one hub: each is looked at for every device that is placed by its address.
pub const NETWORKS_MAX: usize = 64;

/// Most of a new device's share that a hub may have.
pub const ALLOCATION_WEIGHT_MAX: u16 = 1_000;

/// The settings of an instance.
#[derive(Debug, Clone)]
pub struct InstanceSettings {
    /// Names the instance.
    pub id_scope: IdScope,
    /// Names by which clients call its service API. Spec: DPS-ACCESS-2.
    pub service_hosts: Vec<ServiceHost>,
    /// How a hub is chosen where the entry does not say.
    pub default_allocation_policy: AllocationPolicy,
    /// What happens when a device of one group comes in by another. Spec: DPS-REG-8.
    pub claim_across_groups: ClaimAcrossGroups,
    /// What becomes of a device that is to take its data along from a hub that cannot be read. Spec: DPS-REG-42.
    pub when_source_unavailable: WhenSourceUnavailable,
    /// Whether new devices go to other hubs than those that are unhealthy. Spec: DPS-REG-46.
    pub passes_over_unhealthy_hubs: bool,
    /// What of certificates passes that standards leave open.
    pub chain_rules: ChainRules,
    /// The hubs that devices may be assigned to.
    pub linked_hubs: Vec<HubSettings>,
    /// Who may manage it. Spec: DPS-ACCESS-1.
    pub shared_access_policies: Vec<SharedAccessPolicy>,
}

/// The settings of a linked hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubSettings {
    /// Host name that devices are told.
    pub name: HubName,
    /// Who makes the identities of its devices.
    pub kind: HubKind,
    /// Share of new devices, 1 to [`ALLOCATION_WEIGHT_MAX`]. Spec: DPS-REG-16.
    pub allocation_weight: u16,
    /// Whether entries that name no hubs may choose it. Spec: DPS-REG-25.
    pub applies_allocation_policy: bool,
    /// Where the devices are that it is nearest to; at most [`NETWORKS_MAX`]. Spec: DPS-REG-24.
    pub networks: Vec<IpNet>,
    /// Whether it is being emptied: no device goes there that can go elsewhere. Spec: DPS-REG-47.
    pub is_draining: bool,
    /// How its registry is reached; there for [`HubKind::Azure`], and for no other. Spec: DPS-HUB-10.
    pub connection_string: Option<ServiceConnectionString>,
}

impl HubSettings {
    /// A hub that takes its share of all devices.
    pub fn new(name: HubName, kind: HubKind) -> Self {
        Self {
            name,
            kind,
            allocation_weight: 1,
            applies_allocation_policy: true,
            networks: Vec::new(),
            is_draining: false,
            connection_string: None,
        }
    }

    /// An Azure IoT Hub that takes its share of all devices.
    pub fn azure(name: HubName, connection_string: ServiceConnectionString) -> Self {
        Self { connection_string: Some(connection_string), ..Self::new(name, HubKind::Azure) }
    }
}

/// An instance that a store keeps.
#[derive(Debug, Clone)]
pub struct StoredInstance {
    /// What was set.
    pub settings: InstanceSettings,
    /// By which it recognises its operation ids; stays as it was first written.
    pub secret: InstanceSecret,
    /// Version of the settings; a new one at each write.
    pub etag: ETag,
    /// First write.
    pub created_at: Timestamp,
    /// Last write.
    pub updated_at: Timestamp,
}

/// Why settings are none of an instance. Spec: DPS-INST-2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSettings {
    /// Nobody could manage it.
    #[error("sharedAccessPolicies: the instance needs an owner, a policy with all six rights")]
    NoOwner,
    /// More than may be.
    #[error("{member}: there are {count}, and {most} may be")]
    TooMany {
        /// Of what.
        member: &'static str,
        /// How many were given.
        count: usize,
        /// How many may be.
        most: usize,
    },
    /// One name twice.
    #[error("{member}: {name} stands there twice; names are compared ignoring case")]
    Twice {
        /// Of what.
        member: &'static str,
        /// The name.
        name: String,
    },
    /// More networks of one hub than may be.
    #[error("linkedHubs: {0} has {1} networks, and {NETWORKS_MAX} may be")]
    TooManyNetworks(HubName, usize),
    /// A connection string is missing, or has no place.
    #[error("linkedHubs: {0} {1}")]
    ConnectionString(HubName, &'static str),
    /// A weight that is none.
    #[error("linkedHubs: the allocationWeight of {0} is not 1 to {ALLOCATION_WEIGHT_MAX}")]
    Weight(HubName),
}

impl StoredInstance {
    /// A new one.
    pub fn first(settings: InstanceSettings, secret: InstanceSecret, moment: Moment) -> Self {
        Self { settings, secret, etag: moment.etag(), created_at: moment.now, updated_at: moment.now }
    }

    /// The same instance with other settings.
    pub fn with(&self, settings: InstanceSettings, moment: Moment) -> Self {
        let (secret, etag) = (self.secret.clone(), moment.etag());
        let updated_at = self.updated_at.max(moment.now);
        Self { settings, secret, etag, created_at: self.created_at, updated_at }
    }
}

impl InstanceSettings {
    /// An instance that nobody but `owner` can reach.
    pub fn new(id_scope: IdScope, owner: SharedAccessPolicy) -> Self {
        Self {
            id_scope,
            service_hosts: Vec::new(),
            default_allocation_policy: AllocationPolicy::Hashed,
            claim_across_groups: ClaimAcrossGroups::Allow,
            when_source_unavailable: WhenSourceUnavailable::Fail,
            passes_over_unhealthy_hubs: false,
            chain_rules: ChainRules::default(),
            linked_hubs: Vec::new(),
            shared_access_policies: vec![owner],
        }
    }

    /// The same, if they can be those of an instance. Spec: DPS-INST-2.
    pub fn checked(self) -> Result<Self, BadSettings> {
        let hosts = self.service_hosts.iter().map(|host| host.as_str().to_owned());
        each_once("serviceHosts", SERVICE_HOSTS_MAX, hosts)?;
        let hubs = self.linked_hubs.iter().map(|hub| hub.name.folded().to_owned());
        each_once("linkedHubs", LINKED_HUBS_MAX, hubs)?;
        let policies = self.shared_access_policies.iter().map(|policy| policy.name.folded().to_owned());
        each_once("sharedAccessPolicies", POLICIES_MAX, policies)?;
        let is_weight = |weight| (1..=ALLOCATION_WEIGHT_MAX).contains(&weight);
        if let Some(hub) = self.linked_hubs.iter().find(|hub| !is_weight(hub.allocation_weight)) {
            return Err(BadSettings::Weight(hub.name.clone()));
        }
        if let Some(hub) = self.linked_hubs.iter().find(|hub| hub.networks.len() > NETWORKS_MAX) {
            return Err(BadSettings::TooManyNetworks(hub.name.clone(), hub.networks.len()));
        }
        for HubSettings { name, kind, connection_string, .. } in &self.linked_hubs {
            let wrong = match (kind, connection_string) {
                (HubKind::Azure, Some(_)) | (HubKind::Local | HubKind::Static, None) => continue,
                (HubKind::Azure, None) => "is an Azure IoT Hub and has no connectionString",
                (HubKind::Local | HubKind::Static, Some(_)) => {
                    "has a connectionString and is no Azure IoT Hub"
                }
            };
            return Err(BadSettings::ConnectionString(name.clone(), wrong));
        }
        if !self.shared_access_policies.iter().any(SharedAccessPolicy::is_owner) {
            return Err(BadSettings::NoOwner);
        }
        Ok(self)
    }

    /// The policy of that name.
    pub fn policy(&self, name: &PolicyName) -> Option<&SharedAccessPolicy> {
        self.shared_access_policies.iter().find(|policy| policy.name == *name)
    }

    /// The hub of that name.
    pub fn linked_hub(&self, name: &HubName) -> Option<&HubSettings> {
        self.linked_hubs.iter().find(|hub| hub.name == *name)
    }

    /// What was done where these settings take the place of `before`. Spec: DPS-INST-10.
    pub fn changes_since(&self, before: Option<&Self>) -> Vec<(Action, Subject)> {
        let instance = Subject::ServiceInstance(self.id_scope.clone());
        let Some(before) = before else { return vec![(Action::Created, instance)] };
        let mut changes = Vec::new();
        let hub = |hub: &HubSettings| Subject::LinkedHub(hub.name.clone());
        compare(&before.linked_hubs, &self.linked_hubs, |hub| &hub.name, HubSettings::eq, hub, &mut changes);
        let policy = |policy: &SharedAccessPolicy| Subject::SharedAccessPolicy(policy.name.clone());
        let (old, new) = (&before.shared_access_policies, &self.shared_access_policies);
        compare(old, new, |policy| &policy.name, SharedAccessPolicy::is_same, policy, &mut changes);
        let own = |settings: &Self| {
            (
                settings.service_hosts.clone(),
                settings.default_allocation_policy,
                settings.claim_across_groups,
                settings.when_source_unavailable,
                settings.passes_over_unhealthy_hubs,
                settings.chain_rules,
            )
        };
        if own(before) != own(self) || changes.is_empty() {
            changes.push((Action::Replaced, instance));
        }
        changes
    }
}

/// Notes what came, changed and went.
fn compare<'t, T, N: PartialEq + 't>(
    before: &'t [T],
    after: &'t [T],
    name: impl Fn(&'t T) -> &'t N,
    is_same: impl Fn(&T, &T) -> bool,
    subject: impl Fn(&T) -> Subject,
    changes: &mut Vec<(Action, Subject)>,
) {
    for new in after {
        match before.iter().find(|old| name(old) == name(new)) {
            None => changes.push((Action::Created, subject(new))),
            Some(old) if !is_same(old, new) => changes.push((Action::Replaced, subject(new))),
            Some(_) => {}
        }
    }
    let gone = before.iter().filter(|old| !after.iter().any(|new| name(new) == name(old)));
    changes.extend(gone.map(|old| (Action::Deleted, subject(old))));
}

fn each_once(
    member: &'static str,
    most: usize,
    names: impl ExactSizeIterator<Item = String>,
) -> Result<(), BadSettings> {
    let count = names.len();
    if count > most {
        return Err(BadSettings::TooMany { member, count, most });
    }
    let mut seen = HashSet::new();
    for name in names {
        if let Some(name) = seen.replace(name) {
            return Err(BadSettings::Twice { member, name });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use dps_proto::key::{KeyPair, SymmetricKey};

    use super::*;
    use crate::access::Right;

    fn policy(name: &str, key: u8, rights: &[Right]) -> SharedAccessPolicy {
        let key = SymmetricKey::from_bytes(vec![key; 32]).unwrap();
        let keys = KeyPair { primary: key.clone(), secondary: key };
        SharedAccessPolicy { name: name.parse().unwrap(), keys, rights: rights.to_vec() }
    }

    fn hub(name: &str, allocation_weight: u16) -> HubSettings {
        HubSettings { allocation_weight, ..HubSettings::new(name.parse().unwrap(), HubKind::Local) }
    }

    fn settings() -> InstanceSettings {
        InstanceSettings::new("0ne0000000A".parse().unwrap(), policy("owner", 1, &Right::ALL))
    }

    /// DPS-INST-2
    #[test]
    fn settings_that_could_not_be_served_are_refused_by_name() {
        let refused = |change: &dyn Fn(&mut InstanceSettings)| {
            let mut settings = settings();
            change(&mut settings);
            settings.checked().map(drop).unwrap_err().to_string()
        };
        assert!(settings().checked().is_ok());
        assert!(refused(&|of| of.shared_access_policies[0].rights.truncate(5)).contains("needs an owner"));
        assert!(refused(&|of| of.linked_hubs = vec![hub("a.x", 0)]).contains("allocationWeight of a.x"));
        assert!(refused(&|of| of.linked_hubs = vec![hub("a.x", 1_001)]).contains("allocationWeight of a.x"));
        assert!(
            refused(&|of| of.linked_hubs = vec![hub("A.x", 1), hub("a.X", 1)])
                .contains("a.x stands there twice")
        );
        let hosts = |count| (0..count).map(|number| format!("h{number}.x").parse().unwrap()).collect();
        assert!(refused(&|of| of.service_hosts = hosts(65)).contains("serviceHosts: there are 65, and 64"));
        let mut many = settings();
        many.linked_hubs = (0..LINKED_HUBS_MAX).map(|number| hub(&format!("h{number}.x"), 1)).collect();
        many.service_hosts = hosts(SERVICE_HOSTS_MAX);
        assert!(many.clone().checked().is_ok());
        many.linked_hubs.push(hub("more.x", 1));
        assert!(matches!(many.checked(), Err(BadSettings::TooMany { most: LINKED_HUBS_MAX, .. })));
        let twice = refused(&|of| of.shared_access_policies.push(policy("OWNER", 2, &[])));
        assert!(twice.contains("sharedAccessPolicies: owner stands there twice"), "{twice}");
    }

    /// DPS-INST-10
    #[test]
    fn each_change_is_of_what_it_is_made_to() {
        let told = |after: &InstanceSettings, before: Option<&InstanceSettings>| {
            let changes = after.changes_since(before);
            let told = changes
                .iter()
                .map(|(action, subject)| format!("{} {} {}", action.as_str(), subject.kind(), subject.id()));
            told.collect::<Vec<_>>().join(", ")
        };
        let before = settings();
        assert_eq!(told(&before, None), "created serviceInstance 0ne0000000A");
        assert_eq!(told(&before, Some(&before)), "replaced serviceInstance 0ne0000000A");
        let mut after = before.clone();
        after.linked_hubs.push(hub("A.x", 1));
        assert_eq!(told(&after, Some(&before)), "created linkedHub A.x");
        let mut heavier = after.clone();
        heavier.linked_hubs[0].allocation_weight = 2;
        heavier.default_allocation_policy = AllocationPolicy::Static;
        assert_eq!(
            told(&heavier, Some(&after)),
            "replaced linkedHub A.x, replaced serviceInstance 0ne0000000A"
        );
        let mut renewed = before.clone();
        renewed.shared_access_policies = vec![policy("owner", 2, &Right::ALL), policy("reader", 3, &[])];
        let expected =
            "replaced sharedAccessPolicy owner, created sharedAccessPolicy reader, deleted linkedHub A.x";
        let without_hub = told(&renewed, Some(&after));
        assert_eq!(
            without_hub.split(", ").collect::<HashSet<_>>(),
            expected.split(", ").collect::<HashSet<_>>()
        );
    }
}
