//! A service instance: one ID scope and what belongs to it.

use std::sync::Arc;

use dps_proto::connection_string::ServiceConnectionString;
use dps_proto::ids::{HubName, IdScope, InstanceSecret};
use ipnet::IpNet;

use crate::access::{ServiceHost, SharedAccessPolicy};
use crate::enrollment::AllocationPolicy;
use crate::instance_settings::{HubSettings, InstanceSettings};
use crate::ports::{Hub, HubFactory};
use crate::x509::ChainRules;

/// One ID scope with its settings, as it is served. Nothing crosses from one instance to another. Spec: DPS-STORE-1.
#[derive(Clone)]
pub struct ServiceInstance {
    /// Names the instance.
    pub id_scope: IdScope,
    /// By which it recognises its operation ids. Spec: DPS-ID-4.
    pub secret: InstanceSecret,
    /// The hubs that devices may be assigned to.
    pub linked_hubs: Vec<LinkedHub>,
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
    /// Names by which clients call this instance's service API. Spec: DPS-ACCESS-2.
    pub service_hosts: Vec<ServiceHost>,
    /// Who may manage the instance. Spec: DPS-ACCESS-1.
    pub shared_access_policies: Vec<SharedAccessPolicy>,
}

/// A hub of an instance.
#[derive(Clone)]
pub struct LinkedHub {
    /// Host name that devices are told.
    pub name: HubName,
    /// Who makes the identities of its devices.
    pub kind: HubKind,
    /// Share of new devices, 1 to 1,000. Spec: DPS-REG-16.
    pub allocation_weight: u16,
    /// Whether entries that name no hubs may choose it. Spec: DPS-REG-25.
    pub applies_allocation_policy: bool,
    /// Where the devices are that it is nearest to. Spec: DPS-REG-24.
    pub networks: Vec<IpNet>,
    /// Whether it is being emptied. Spec: DPS-REG-47.
    pub is_draining: bool,
    /// How its registry is reached, if others run it.
    pub connection_string: Option<ServiceConnectionString>,
    /// What makes identities there.
    pub hub: Arc<dyn Hub>,
}

/// Who makes the identities of a hub's devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubKind {
    /// Harbormaster keeps them.
    Local,
    /// Whoever runs the hub: devices are told its name.
    Static,
    /// The registry of an Azure IoT Hub, which is asked to. Spec: DPS-HUB-10.
    Azure,
}

/// What becomes of a device that is to take its data along from a hub that cannot be read. Spec: DPS-REG-42.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenSourceUnavailable {
    /// Its operation fails, and it stays where it is.
    Fail,
    /// It begins anew at its new hub, as by a reset.
    Reset,
}

/// Whether a device's record may pass from one group to another. Spec: DPS-REG-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimAcrossGroups {
    /// As on Azure; the move is logged.
    Allow,
    /// Refused with 401002.
    Refuse,
}

impl HubKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Local, Self::Static, Self::Azure];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Static => "static",
            Self::Azure => "azureIotHub",
        }
    }
}

impl WhenSourceUnavailable {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Fail, Self::Reset];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Reset => "reset",
        }
    }
}

impl ClaimAcrossGroups {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Allow, Self::Refuse];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Refuse => "refuse",
        }
    }
}

impl LinkedHub {
    /// What it was made of.
    pub fn settings(&self) -> HubSettings {
        HubSettings {
            name: self.name.clone(),
            kind: self.kind,
            allocation_weight: self.allocation_weight,
            applies_allocation_policy: self.applies_allocation_policy,
            networks: self.networks.clone(),
            is_draining: self.is_draining,
            connection_string: self.connection_string.clone(),
        }
    }
}

impl ServiceInstance {
    /// An instance with these settings, its hubs made by `hubs`.
    pub fn new(settings: InstanceSettings, secret: InstanceSecret, hubs: &dyn HubFactory) -> Self {
        let linked = |hub: HubSettings| LinkedHub {
            hub: hubs.hub(&hub),
            name: hub.name,
            kind: hub.kind,
            allocation_weight: hub.allocation_weight,
            applies_allocation_policy: hub.applies_allocation_policy,
            networks: hub.networks,
            is_draining: hub.is_draining,
            connection_string: hub.connection_string,
        };
        Self {
            id_scope: settings.id_scope,
            secret,
            linked_hubs: settings.linked_hubs.into_iter().map(linked).collect(),
            default_allocation_policy: settings.default_allocation_policy,
            claim_across_groups: settings.claim_across_groups,
            when_source_unavailable: settings.when_source_unavailable,
            passes_over_unhealthy_hubs: settings.passes_over_unhealthy_hubs,
            chain_rules: settings.chain_rules,
            service_hosts: settings.service_hosts,
            shared_access_policies: settings.shared_access_policies,
        }
    }

    /// What it was made of.
    pub fn settings(&self) -> InstanceSettings {
        InstanceSettings {
            id_scope: self.id_scope.clone(),
            service_hosts: self.service_hosts.clone(),
            default_allocation_policy: self.default_allocation_policy,
            claim_across_groups: self.claim_across_groups,
            when_source_unavailable: self.when_source_unavailable,
            passes_over_unhealthy_hubs: self.passes_over_unhealthy_hubs,
            chain_rules: self.chain_rules,
            linked_hubs: self.linked_hubs.iter().map(LinkedHub::settings).collect(),
            shared_access_policies: self.shared_access_policies.clone(),
        }
    }

    /// The linked hub of that name.
    pub fn linked_hub(&self, name: &HubName) -> Option<&LinkedHub> {
        self.linked_hubs.iter().find(|linked| linked.name == *name)
    }
}
