//! Hubs for tests.

use std::sync::Arc;

use dps_core::enrollment::AllocationPolicy;
use dps_core::instance::{ClaimAcrossGroups, HubKind, LinkedHub, ServiceInstance};
use dps_core::ports::{Hub, HubDevice, HubWrite, Placement};
use dps_core::registration::Failure;
use dps_core::x509::ChainRules;
use dps_proto::ids::InstanceSecret;

use super::entries::SCOPE;

/// A hub kept in the store: its identity is written with the record. Spec: DPS-STORE-5.
#[derive(Debug)]
pub(crate) struct LocalHub;

impl Hub for LocalHub {
    fn place(&self, device: HubDevice) -> Placement {
        Placement::Writes(vec![HubWrite::PutDevice(Box::new(device))])
    }
}

/// A hub outside: the record stays `assigning` until someone calls `finish`.
#[derive(Debug)]
pub(crate) struct SlowHub;

impl Hub for SlowHub {
    fn place(&self, _: HubDevice) -> Placement {
        Placement::Outside
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

pub(crate) fn slow(name: &str) -> LinkedHub {
    linked(name, Arc::new(SlowHub))
}

fn linked(name: &str, hub: Arc<dyn Hub>) -> LinkedHub {
    LinkedHub {
        name: name.parse().unwrap(),
        kind: HubKind::Local,
        allocation_weight: 1,
        applies_allocation_policy: true,
        networks: Vec::new(),
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
        chain_rules: ChainRules::default(),
        service_hosts: Vec::new(),
        shared_access_policies: Vec::new(),
    }
}
