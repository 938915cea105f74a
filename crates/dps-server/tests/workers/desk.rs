//! A front end without listeners, and devices that register at it.

use std::sync::Arc;
use std::time::Duration;

use dps_core::attestation::{Credential, DeviceClaim};
use dps_core::enrollment::{
    AllocationPolicy, EnrollmentGroup, EntrySettings, GroupAttestation, ProvisioningStatus,
};
use dps_core::instance::{ClaimAcrossGroups, HubKind, LinkedHub, ServiceInstance, WhenSourceUnavailable};
use dps_core::instances::{Instances, Origin};
use dps_core::ports::{Condition, Hub, SearchTurn, Store};
use dps_core::register::Registrar;
use dps_core::registration::State;
use dps_core::x509::ChainRules;
use dps_proto::ids::{ETag, InstanceSecret};
use dps_proto::key::{KeyPair, SymmetricKey};
use dps_proto::sas::{SasToken, sign_device_token};
use dps_server::front_end::FrontEnd;
use dps_server::limits::Limits;
use dps_server::moments::{Moments as _, SystemMoments};
use dps_server::search_pool::SearchThreads;
use dps_store::MemoryStore;
use jiff::{SignedDuration, Timestamp};
use tokio::time::{sleep, timeout};

const SCOPE: &str = "0ne00000001";

pub(crate) struct Desk {
    pub(crate) front_end: Arc<FrontEnd>,
    pub(crate) store: Arc<MemoryStore>,
}

fn key(text: &str) -> SymmetricKey {
    SymmetricKey::from_bytes(format!("{text:.<32}").into_bytes()).unwrap()
}

/// A group of that name, open to every device.
pub(crate) fn group(name: &str) -> EnrollmentGroup {
    EnrollmentGroup {
        id: name.parse().unwrap(),
        registration_id_prefix: None,
        attestation: GroupAttestation::SymmetricKey(KeyPair { primary: key(name), secondary: key("second") }),
        settings: EntrySettings {
            provisioning_status: ProvisioningStatus::Enabled,
            allocation_policy: None,
            custom_allocation: None,
            hubs: Vec::new(),
            initial_twin: None,
            iot_edge: false,
            reprovision_policy: None,
            other_members: None,
            etag: ETag::generate([1; 16], 0),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        },
    }
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

impl Desk {
    pub(crate) async fn new(groups: Vec<EnrollmentGroup>, hubs: Vec<LinkedHub>, limits: Limits) -> Self {
        let store = Arc::new(MemoryStore::new());
        let scope = SCOPE.parse().unwrap();
        store.open_instance(&scope, InstanceSecret::new([7; 32])).await.unwrap();
        for group in groups {
            store.put_enrollment_group(&scope, group, Condition::Always.into()).await.unwrap();
        }
        let instance = ServiceInstance {
            id_scope: SCOPE.parse().unwrap(),
            secret: InstanceSecret::new([7; 32]),
            linked_hubs: hubs,
            default_allocation_policy: AllocationPolicy::Hashed,
            claim_across_groups: ClaimAcrossGroups::Allow,
            when_source_unavailable: WhenSourceUnavailable::Fail,
            passes_over_unhealthy_hubs: false,
            chain_rules: ChainRules::default(),
            service_hosts: Vec::new(),
            shared_access_policies: Vec::new(),
        };
        let pool = Arc::new(SearchThreads::start(1, SearchThreads::SIGNATURES_DEFAULT).unwrap());
        let instances = Instances::of(Origin::Configuration, [instance]);
        let registrar = Arc::new(Registrar::new(Arc::clone(&store) as _, pool, instances));
        let front_end = FrontEnd::new(registrar, Arc::new(SystemMoments), limits);
        Self { front_end: Arc::new(front_end), store }
    }

    /// A device of that group registers.
    pub(crate) async fn register(&self, id: &str, group: &str) {
        let expiry = Timestamp::now() + SignedDuration::from_hours(1);
        let (scope, registration_id) = (SCOPE.parse().unwrap(), id.parse().unwrap());
        let token = sign_device_token(&scope, &registration_id, &key(group).derive(id), expiry);
        let claim = DeviceClaim {
            id_scope: scope,
            registration_id,
            credential: Credential {
                password: Some(SasToken::parse(token.as_bytes())),
                ..Credential::default()
            },
            search_turn: SearchTurn::InOrder,
            predates_reprovisioning: false,
            address: None,
        };
        self.front_end.registrar.register(&claim, None, SystemMoments.moment()).await.unwrap();
    }

    pub(crate) async fn put_group(&self, group: EnrollmentGroup) {
        let scope = SCOPE.parse().unwrap();
        self.store.put_enrollment_group(&scope, group, Condition::Always.into()).await.unwrap();
    }

    pub(crate) async fn state(&self, id: &str) -> State {
        let found = self.store.look_up(&SCOPE.parse().unwrap(), &id.parse().unwrap()).await.unwrap();
        found.registration.unwrap().state
    }

    pub(crate) async fn until(&self, id: &str, holds: impl Fn(&State) -> bool) {
        let waits = async {
            while !holds(&self.state(id).await) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        if timeout(Duration::from_secs(10), waits).await.is_err() {
            panic!("{id} is {:?}", self.state(id).await);
        }
    }
}

pub(crate) fn is_assigned(state: &State) -> bool {
    matches!(state, State::Assigned { .. })
}

/// Waits for something to come about.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let waits = async {
        while !holds() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(Duration::from_secs(10), waits).await.is_ok(), "{what}");
}
