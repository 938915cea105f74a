//! A device that lives at one of two hubs outside, and what becomes of it.

use std::sync::Arc;

use dps_core::attestation::DeviceClaim;
use dps_core::enrollment::{EnrollmentGroup, ReprovisionPolicy, TwinDocument};
use dps_core::instance::{ServiceInstance, WhenSourceUnavailable};
use dps_core::registration::State;

use crate::common::desk::{Desk, assigned};
use crate::common::entries::{AnyEntry, group};
use crate::common::hubs::{instance, remote};
use crate::common::inline_pool::InlinePool;
use crate::common::registry::SimRegistry;

pub(crate) const NORTH: &str = "north.example";
pub(crate) const SOUTH: &str = "south.example";

pub(crate) const RESET: ReprovisionPolicy =
    ReprovisionPolicy { update_hub_assignment: true, migrate_device_data: false };

/// As a hub has it: with what the device reported.
pub(crate) const LIVED_IN: &str = r#"{"tags":{"n":1},"properties":{"desired":{"d":1},"reported":{"r":1}}}"#;

/// A device that lives at the northern hub, both hubs outside.
pub(crate) struct Lived {
    pub(crate) desk: Desk,
    pub(crate) device: DeviceClaim,
    pub(crate) north: Arc<SimRegistry>,
    pub(crate) south: Arc<SimRegistry>,
}

pub(crate) fn twin(number: u32) -> TwinDocument {
    TwinDocument(format!(r#"{{"tags":{{"n":{number}}}}}"#).into())
}

/// The group, at one hub, with a twin of that number.
pub(crate) fn at(hub: &str, number: u32) -> EnrollmentGroup {
    let mut group = group("alpha").at_hubs(&[hub]);
    group.settings.initial_twin = Some(twin(number));
    group
}

impl Lived {
    pub(crate) fn new() -> Self {
        Self::with(WhenSourceUnavailable::Fail)
    }

    pub(crate) fn with(when_source_unavailable: WhenSourceUnavailable) -> Self {
        let (north, south) = (SimRegistry::new(), SimRegistry::new());
        let hubs = vec![remote(NORTH, &north), remote(SOUTH, &south)];
        let instance = ServiceInstance { when_source_unavailable, ..instance(hubs) };
        let desk = Desk::with(instance, Arc::new(InlinePool::default()));
        desk.put_group(at(NORTH, 1));
        let device = desk.by_group("line-1", "alpha");
        desk.accepted(&device);
        assert_eq!(assigned(&desk.placed()).0.hub.as_str(), NORTH);
        let mut kept = north.device("line-1").unwrap();
        kept.twin = Some(TwinDocument(LIVED_IN.into()));
        kept.iot_edge = true;
        north.put("line-1", kept);
        north.take_calls();
        south.take_calls();
        Self { desk, device, north, south }
    }

    /// It is to live there from its next register on, which it makes.
    pub(crate) fn sent_to(&self, group: EnrollmentGroup) {
        self.desk.put_group(group);
        let device = self.desk.by_group("line-1", "alpha");
        let (_, record) = self.desk.accepted(&device);
        assert!(matches!(record.state, State::Assigning { .. }), "{record:?}");
    }

    /// All that waits is done, over every pause, and what is to be looked at again is.
    pub(crate) fn settle(&self) {
        for minutes in [2, 2, 70, 70] {
            self.desk.step_clock(minutes * 60);
            for claimed in self.desk.claim() {
                self.desk.start_place(&claimed).end().unwrap();
            }
            self.desk.clean_up();
        }
    }

    /// It lives there with its twin, and nowhere else.
    #[track_caller]
    pub(crate) fn check_home(&self, hub: &str, why: &str) {
        let (home, other) =
            if hub == NORTH { (&self.north, &self.south) } else { (&self.south, &self.north) };
        let record = self.desk.record("line-1").unwrap();
        assert_eq!(assigned(&record.state).0.hub.as_str(), hub, "{why}");
        let kept = home.device("line-1").unwrap_or_else(|| panic!("{why}: it is nowhere"));
        assert_eq!(&*kept.twin.unwrap().0, LIVED_IN, "{why}");
        assert!(kept.iot_edge, "{why}");
        assert!(other.device("line-1").is_none(), "{why}: it is still at the other hub");
        assert!(self.desk.claim_clean_ups().is_empty(), "{why}");
    }
}

/// A device that has moved, and is to be gone from where it was.
pub(crate) fn moved_to_south() -> Lived {
    let lived = Lived::new();
    lived.sent_to(at(SOUTH, 2));
    assert!(matches!(lived.desk.placed(), State::Assigned { .. }));
    lived
}
