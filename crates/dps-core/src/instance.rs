//! A service instance: one ID scope and what belongs to it.

use std::sync::Arc;

use dps_proto::ids::{HubName, IdScope, InstanceSecret};

use crate::access::{ServiceHost, SharedAccessPolicy};
use crate::enrollment::AllocationPolicy;
use crate::ports::Hub;
use crate::x509::ChainRules;

/// One ID scope with its settings. Nothing crosses from one instance to another. Spec: DPS-STORE-1.
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
    /// Share of new devices, 1 to 1,000. Spec: DPS-REG-16.
    pub allocation_weight: u16,
    /// What makes identities there.
    pub hub: Arc<dyn Hub>,
}

/// Whether a device's record may pass from one group to another. Spec: DPS-REG-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimAcrossGroups {
    /// As on Azure; the move is logged.
    Allow,
    /// Refused with 401002.
    Refuse,
}

impl ServiceInstance {
    /// The linked hub of that name.
    pub fn linked_hub(&self, name: &HubName) -> Option<&LinkedHub> {
        self.linked_hubs.iter().find(|linked| linked.name == *name)
    }
}
