//! Hubs for tests.

use std::sync::Arc;

use dps_core::enrollment::AllocationPolicy;
use dps_core::instance::{ClaimAcrossGroups, HubKind, LinkedHub, ServiceInstance, WhenSourceUnavailable};
use dps_core::ports::{Hub, HubDevice, HubWrite, Placement};
use dps_core::registration::Failure;
use dps_core::x509::ChainRules;
use dps_proto::ids::InstanceSecret;

use super::entries::SCOPE;
use super::registry::{RemoteHub, SimRegistry};

/// A hub kept in the store: its identity is written with the record. Spec: DPS-STORE-5.
#[derive(Debug)]
pub(crate) struct LocalHub;

impl Hub for LocalHub {
    fn place(&self, device: HubDevice) -> Placement {
        Placement::Writes(vec![HubWrite::PutDevice(Box::new(device))])
    }
}

/// A hub that takes nobody.
#[derive(Debug)]
pub(crate) struct PickyHub;

impl Hub for PickyHub {
    fn place(&self, _: HubDevice) -> Placement {
        Placement::Refused(Failure::DeviceIdRefused)
    }
}

pub(crate) fn picky(name: &str) -> LinkedHub {
    linked(name, Arc::new(PickyHub))
}

pub(crate) fn local(name: &str) -> LinkedHub {
    linked(name, Arc::new(LocalHub))
}

/// A hub outside, of which nobody needs to know more.
pub(crate) fn slow(name: &str) -> LinkedHub {
    remote(name, &SimRegistry::new())
}

/// A hub outside.
pub(crate) fn remote(name: &str, registry: &Arc<SimRegistry>) -> LinkedHub {
    linked(name, Arc::new(RemoteHub(Arc::clone(registry))))
}

pub(crate) fn linked(name: &str, hub: Arc<dyn Hub>) -> LinkedHub {
    LinkedHub {
        name: name.parse().unwrap(),
        kind: HubKind::Local,
        allocation_weight: 1,
        applies_allocation_policy: true,
        networks: Vec::new(),
        is_draining: false,
        connection_string: None,
        hub,
    }
}

/// An instance with these hubs, spread by hash, that allows claims across groups.
pub(crate) fn instance(linked_hubs: Vec<LinkedHub>) -> ServiceInstance {
    ServiceInstance {
        id_scope: SCOPE.parse().unwrap(),
        secret: InstanceSecret::new([7; 32]),
        linked_hubs,
        default_allocation_policy: AllocationPolicy::Hashed,
        claim_across_groups: ClaimAcrossGroups::Allow,
        when_source_unavailable: WhenSourceUnavailable::Fail,
        passes_over_unhealthy_hubs: false,
        chain_rules: ChainRules::default(),
        service_hosts: Vec::new(),
        shared_access_policies: Vec::new(),
    }
}
