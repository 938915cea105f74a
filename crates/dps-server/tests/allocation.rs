//! The worker that asks webhooks, over a store in memory. Spec: DPS-REG-28 to DPS-REG-33.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this program is a test in whole")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use dps_core::attestation::{Credential, DeviceClaim};
use dps_core::custom_allocation::{CustomAllocation, WebhookUrl};
use dps_core::enrollment::{
    AllocationPolicy, EnrollmentGroup, EntrySettings, GroupAttestation, ProvisioningStatus,
};
use dps_core::instance::{ClaimAcrossGroups, HubKind, LinkedHub, ServiceInstance, WhenSourceUnavailable};
use dps_core::instances::{Instances, Origin};
use dps_core::ports::{
    AllocationHook, AllocationOutcome, Condition, HookAnswer, NamedHub, SearchTurn, Store,
};
use dps_core::register::Registrar;
use dps_core::registration::{Failure, State};
use dps_core::x509::ChainRules;
use dps_hub::LocalHub;
use dps_proto::ids::{ETag, InstanceSecret};
use dps_proto::key::{KeyPair, SymmetricKey};
use dps_proto::sas::{SasToken, sign_device_token};
use dps_server::allocation::{AllocationWorker, CALLS_PER_HOST_MAX};
use dps_server::explain::Wanted;
use dps_server::front_end::FrontEnd;
use dps_server::limits::Limits;
use dps_server::moments::{Moments as _, SystemMoments};
use dps_server::search_pool::SearchThreads;
use dps_store::MemoryStore;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

const SCOPE: &str = "0ne00000001";

/// Answers by the host: `slow` when a permit is there, `broken` panics, all others at once.
struct Hook {
    permits: Semaphore,
    slow_calls: AtomicUsize,
    slow_calls_most: AtomicUsize,
    broken_calls: AtomicUsize,
}

#[async_trait]
impl AllocationHook for Hook {
    async fn ask(&self, url: &WebhookUrl, json: Vec<u8>) -> HookAnswer {
        assert!(String::from_utf8(json).unwrap().contains(r#""linkedHubs":["hub.example"]"#));
        let outcome = match &*url.host() {
            "slow.example" => {
                let now = self.slow_calls.fetch_add(1, Ordering::SeqCst) + 1;
                self.slow_calls_most.fetch_max(now, Ordering::SeqCst);
                self.permits.acquire().await.unwrap().forget();
                self.slow_calls.fetch_sub(1, Ordering::SeqCst);
                named()
            }
            "broken.example" => {
                self.broken_calls.fetch_add(1, Ordering::SeqCst);
                panic!("as a bug would")
            }
            "refusing.example" => AllocationOutcome::Refused { status: 404 },
            _ => named(),
        };
        HookAnswer { outcome, told: "the webhook said so".to_owned() }
    }
}

fn named() -> AllocationOutcome {
    let hub = "hub.example".parse().unwrap();
    AllocationOutcome::Named(Box::new(NamedHub { hub, initial_twin: None, payload: None }))
}

struct Service {
    front_end: Arc<FrontEnd>,
    store: Arc<MemoryStore>,
    hook: Arc<Hook>,
}

fn key(text: &str) -> SymmetricKey {
    SymmetricKey::from_bytes(format!("{text:.<32}").into_bytes()).unwrap()
}

/// A group whose devices ask the webhook at its name.
fn group(name: &str) -> EnrollmentGroup {
    let webhook_url = format!("https://{name}.example/choose").parse().unwrap();
    EnrollmentGroup {
        id: name.parse().unwrap(),
        registration_id_prefix: None,
        attestation: GroupAttestation::SymmetricKey(KeyPair { primary: key(name), secondary: key("second") }),
        settings: EntrySettings {
            provisioning_status: ProvisioningStatus::Enabled,
            allocation_policy: Some(AllocationPolicy::Custom),
            custom_allocation: Some(CustomAllocation { webhook_url, api_version: "2019-03-31".into() }),
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

impl Service {
    async fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        for name in ["slow", "quick", "broken", "refusing"] {
            let scope = SCOPE.parse().unwrap();
            store.put_enrollment_group(&scope, group(name), Condition::Always.into()).await.unwrap();
        }
        let hub = LinkedHub {
            name: "hub.example".parse().unwrap(),
            kind: HubKind::Local,
            allocation_weight: 1,
            applies_allocation_policy: true,
            networks: Vec::new(),
            is_draining: false,
            connection_string: None,
            hub: Arc::new(LocalHub::default()),
        };
        let instance = ServiceInstance {
            id_scope: SCOPE.parse().unwrap(),
            secret: InstanceSecret::new([7; 32]),
            linked_hubs: vec![hub],
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
        let front_end = FrontEnd::new(registrar, Arc::new(SystemMoments), Limits::default());
        let hook = Hook {
            permits: Semaphore::new(0),
            slow_calls: AtomicUsize::new(0),
            slow_calls_most: AtomicUsize::new(0),
            broken_calls: AtomicUsize::new(0),
        };
        Self { front_end: Arc::new(front_end), store, hook: Arc::new(hook) }
    }

    async fn register(&self, id: &str, group: &str) {
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

    async fn state(&self, id: &str) -> State {
        let found = self.store.look_up(&SCOPE.parse().unwrap(), &id.parse().unwrap()).await.unwrap();
        found.registration.unwrap().state
    }

    async fn until(&self, id: &str, holds: impl Fn(&State) -> bool) {
        let waits = async {
            while !holds(&self.state(id).await) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        if timeout(Duration::from_secs(10), waits).await.is_err() {
            panic!("{id} is {:?}", self.state(id).await);
        }
    }

    /// A worker, and what stops it.
    fn start(&self) -> (watch::Sender<bool>, tokio::task::JoinHandle<()>) {
        let (stop, stopping) = watch::channel(false);
        let worker = AllocationWorker::new(Arc::clone(&self.front_end), Arc::clone(&self.hook) as _);
        (stop, tokio::spawn(worker.run(stopping)))
    }
}

fn is_assigned(state: &State) -> bool {
    matches!(state, State::Assigned { .. })
}

/// DPS-REG-33
#[tokio::test]
async fn a_webhook_that_does_not_answer_keeps_no_other_waiting_and_a_stop_lets_calls_end() {
    let service = Service::new().await;
    for number in 0..40 {
        service.register(&format!("slow-{number}"), "slow").await;
    }
    service.register("quick-1", "quick").await;
    let (stop, worker) = service.start();
    service.until("quick-1", is_assigned).await;
    assert_eq!(service.hook.slow_calls.load(Ordering::SeqCst), CALLS_PER_HOST_MAX as usize);
    service.hook.permits.add_permits(20);
    service.until("slow-19", is_assigned).await;
    while service.hook.slow_calls.load(Ordering::SeqCst) < CALLS_PER_HOST_MAX as usize {
        sleep(Duration::from_millis(5)).await;
    }
    stop.send_replace(true);
    sleep(Duration::from_millis(50)).await;
    assert!(!worker.is_finished(), "calls are under way");
    service.hook.permits.add_permits(1_000);
    timeout(Duration::from_secs(10), worker).await.unwrap().unwrap();
    assert_eq!(service.hook.slow_calls_most.load(Ordering::SeqCst), CALLS_PER_HOST_MAX as usize);
    let mut assigned = 0;
    for number in 0..40 {
        assigned += usize::from(is_assigned(&service.state(&format!("slow-{number}")).await));
    }
    assert_eq!(assigned, 20 + CALLS_PER_HOST_MAX as usize, "what was under way ended, and no more began");
}

/// DPS-REG-28, DPS-EXPLAIN-14
#[tokio::test]
async fn a_device_that_its_webhook_refuses_is_explained_without_a_connection() {
    let service = Service::new().await;
    service.register("dev-1", "refusing").await;
    let (stop, worker) = service.start();
    service.until("dev-1", |state| matches!(state, State::Failed { .. })).await;
    let expected = State::Failed { failure: Failure::WebhookStatus(404), last: None };
    assert_eq!(service.state("dev-1").await, expected);
    stop.send_replace(true);
    worker.await.unwrap();
    let wanted = Wanted { registration_id: Some("dev-1".parse().unwrap()), ..Wanted::default() };
    let found = service.front_end.explanations.find(&wanted, 9);
    assert_eq!((found.len(), found[0].told.as_str(), found[0].connection), (1, "400207", None));
    assert_eq!(found[0].reason, "the webhook answered 404 (the webhook said so)");
    assert!(found[0].tracking_id.is_some() && found[0].advice.is_some());
    let metrics = service.front_end.metrics.render();
    assert!(metrics.contains(r#"harbormaster_webhook_allocations_total{status="failed"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"harbormaster_webhook_seconds_count{outcome="Refused"} 1"#), "{metrics}");
    assert!(metrics.contains("harbormaster_webhook_calls 0"), "{metrics}");
}

/// DPS-REG-33
#[tokio::test]
async fn a_call_that_dies_leaves_its_place_to_the_next() {
    let service = Service::new().await;
    let one_more = CALLS_PER_HOST_MAX as usize + 1;
    for number in 0..one_more {
        service.register(&format!("broken-{number}"), "broken").await;
    }
    let (stop, worker) = service.start();
    let called = async {
        while service.hook.broken_calls.load(Ordering::SeqCst) < one_more {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), called).await.unwrap();
    stop.send_replace(true);
    timeout(Duration::from_secs(10), worker).await.unwrap().unwrap();
    let metrics = service.front_end.metrics.render();
    assert!(metrics.contains("harbormaster_webhook_calls 0"), "{metrics}");
}
