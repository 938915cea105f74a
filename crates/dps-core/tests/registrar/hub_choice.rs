//! Hubs that are being emptied, and hubs that are unhealthy. Spec: DPS-REG-46, DPS-REG-47.

use std::sync::Arc;

use dps_core::enrollment::{AllocationPolicy, ReprovisionPolicy};
use dps_core::instance::{LinkedHub, ServiceInstance};
use dps_core::registration::{Failure, State, Substatus};

use crate::common::desk::{Desk, assigned};
use crate::common::entries::{AnyEntry, group};
use crate::common::hubs::{instance, local, remote};
use crate::common::inline_pool::InlinePool;
use crate::common::registry::SimRegistry;

const NORTH: &str = "north.example";
const SOUTH: &str = "south.example";

fn draining(name: &str) -> LinkedHub {
    LinkedHub { is_draining: true, ..local(name) }
}

/// The hub of each of twenty devices, each for the first time or again.
fn hubs_of_many(desk: &Desk) -> Vec<String> {
    let hub = |number| {
        let (_, record) = desk.accepted(&desk.by_group(&format!("line-{number}"), "alpha"));
        match record.state {
            State::Assigned { assignment, .. } => assignment.hub.as_str().to_owned(),
            State::Assigning { placing, .. } => placing.target.hub.as_str().to_owned(),
            other => panic!("{other:?}"),
        }
    };
    (0..20).map(hub).collect()
}

/// DPS-REG-47
#[test]
fn a_hub_that_is_draining_takes_no_new_device_and_gives_away_those_that_may_move() {
    let mut desk = Desk::new(vec![local(NORTH), local(SOUTH)]);
    desk.put_group(group("alpha"));
    let before = hubs_of_many(&desk);
    assert!(before.iter().any(|hub| hub == NORTH) && before.iter().any(|hub| hub == SOUTH));
    desk.reopen(instance(vec![draining(NORTH), local(SOUTH)]));
    assert!(hubs_of_many(&desk).iter().all(|hub| hub == SOUTH));
    // With its data, as from any hub.
    let moved = before.iter().position(|hub| hub == NORTH).unwrap();
    let record = desk.record(&format!("line-{moved}")).unwrap();
    assert_eq!(assigned(&record.state).1, Substatus::DeviceDataMigrated);
}

/// DPS-REG-47, DPS-REG-22
#[test]
fn a_device_that_has_nowhere_else_to_go_or_is_not_to_move_stays_at_a_hub_that_is_draining() {
    let entries =
        [group("alpha").at_hubs(&[NORTH]), group("alpha").reprovisioned(ReprovisionPolicy::NEVER), {
            let mut fixed = group("alpha").at_hubs(&[NORTH]);
            fixed.settings.allocation_policy = Some(AllocationPolicy::Static);
            fixed
        }];
    for entry in entries {
        let mut desk = Desk::new(vec![local(NORTH)]);
        desk.put_group(entry.clone());
        let device = desk.by_group("line-1", "alpha");
        desk.accepted(&device);
        desk.reopen(instance(vec![draining(NORTH), local(SOUTH)]));
        let (_, record) = desk.accepted(&device);
        let (assignment, substatus) = assigned(&record.state);
        assert_eq!(assignment.hub.as_str(), NORTH);
        assert_eq!(substatus, Substatus::ReprovisionedToInitialAssignment);
    }
    let desk = Desk::new(vec![draining(NORTH)]);
    desk.put_group(group("alpha").at_hubs(&[NORTH]));
    let (_, record) = desk.accepted(&desk.by_group("line-1", "alpha"));
    assert_eq!(record.state, State::Failed { failure: Failure::NoUsableHub, last: None });
}

/// DPS-REG-46
#[test]
fn new_devices_pass_over_a_hub_that_is_unhealthy_where_the_instance_says_so() {
    for passes_over_unhealthy_hubs in [false, true] {
        let (north, south) = (SimRegistry::new(), SimRegistry::new());
        let hubs = vec![remote(NORTH, &north), remote(SOUTH, &south)];
        let instance = ServiceInstance { passes_over_unhealthy_hubs, ..instance(hubs) };
        let desk = Desk::with(instance, Arc::new(InlinePool::default()));
        desk.put_group(group("alpha"));
        north.set_unhealthy(true);
        let chosen = hubs_of_many(&desk);
        assert_eq!(chosen.iter().all(|hub| hub == SOUTH), passes_over_unhealthy_hubs);
        // Where none is healthy, all are as good.
        south.set_unhealthy(true);
        desk.put_group(group("beta").at_hubs(&[NORTH]));
        let (_, record) = desk.accepted(&desk.by_group("cell-1", "beta"));
        let State::Assigning { placing, .. } = &record.state else { panic!("{record:?}") };
        assert_eq!(placing.target.hub.as_str(), NORTH);
    }
}

/// DPS-REG-46: a device is better off where its data is.
#[test]
fn a_device_that_lives_at_a_hub_that_is_unhealthy_stays_there() {
    let (north, south) = (SimRegistry::new(), SimRegistry::new());
    let hubs = vec![remote(NORTH, &north), remote(SOUTH, &south)];
    let instance = ServiceInstance { passes_over_unhealthy_hubs: true, ..instance(hubs) };
    let desk = Desk::with(instance, Arc::new(InlinePool::default()));
    desk.put_group(group("alpha"));
    let before = hubs_of_many(&desk);
    for claimed in desk.claim() {
        desk.start_place(&claimed).end().unwrap();
    }
    north.set_unhealthy(true);
    assert_eq!(hubs_of_many(&desk), before);
}
