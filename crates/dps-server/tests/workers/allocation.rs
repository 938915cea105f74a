//! The worker that asks webhooks. Spec: DPS-REG-28 to DPS-REG-33.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use dps_core::custom_allocation::{CustomAllocation, WebhookUrl};
use dps_core::enrollment::AllocationPolicy;
use dps_core::ports::{AllocationHook, AllocationOutcome, HookAnswer, NamedHub};
use dps_core::registration::{Failure, State};
use dps_hub::LocalHub;
use dps_server::allocation::{AllocationWorker, CALLS_PER_HOST_MAX};
use dps_server::explain::Wanted;
use dps_server::limits::Limits;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::desk::{Desk, group, is_assigned, linked};

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
    desk: Desk,
    hook: Arc<Hook>,
}

impl Service {
    async fn new() -> Self {
        // The devices of a group ask the webhook at its name.
        let groups = ["slow", "quick", "broken", "refusing"].map(|name| {
            let webhook_url = format!("https://{name}.example/choose").parse().unwrap();
            let mut group = group(name);
            group.settings.allocation_policy = Some(AllocationPolicy::Custom);
            group.settings.custom_allocation =
                Some(CustomAllocation { webhook_url, api_version: "2019-03-31".into() });
            group
        });
        let hub = linked("hub.example", Arc::new(LocalHub::default()));
        let hook = Hook {
            permits: Semaphore::new(0),
            slow_calls: AtomicUsize::new(0),
            slow_calls_most: AtomicUsize::new(0),
            broken_calls: AtomicUsize::new(0),
        };
        let desk = Desk::new(groups.into(), vec![hub], Limits::default()).await;
        Self { desk, hook: Arc::new(hook) }
    }

    /// A worker, and what stops it.
    fn start(&self) -> (watch::Sender<bool>, tokio::task::JoinHandle<()>) {
        let (stop, stopping) = watch::channel(false);
        let worker = AllocationWorker::new(Arc::clone(&self.desk.front_end), Arc::clone(&self.hook) as _);
        (stop, tokio::spawn(worker.run(stopping)))
    }
}

/// DPS-REG-33
#[tokio::test]
async fn a_webhook_that_does_not_answer_keeps_no_other_waiting_and_a_stop_lets_calls_end() {
    let service = Service::new().await;
    for number in 0..40 {
        service.desk.register(&format!("slow-{number}"), "slow").await;
    }
    service.desk.register("quick-1", "quick").await;
    let (stop, worker) = service.start();
    service.desk.until("quick-1", is_assigned).await;
    assert_eq!(service.hook.slow_calls.load(Ordering::SeqCst), CALLS_PER_HOST_MAX as usize);
    service.hook.permits.add_permits(20);
    service.desk.until("slow-19", is_assigned).await;
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
        assigned += usize::from(is_assigned(&service.desk.state(&format!("slow-{number}")).await));
    }
    assert_eq!(assigned, 20 + CALLS_PER_HOST_MAX as usize, "what was under way ended, and no more began");
}

/// DPS-REG-28, DPS-EXPLAIN-14
#[tokio::test]
async fn a_device_that_its_webhook_refuses_is_explained_without_a_connection() {
    let service = Service::new().await;
    service.desk.register("dev-1", "refusing").await;
    let (stop, worker) = service.start();
    service.desk.until("dev-1", |state| matches!(state, State::Failed { .. })).await;
    let expected = State::Failed { failure: Failure::WebhookStatus(404), last: None };
    assert_eq!(service.desk.state("dev-1").await, expected);
    stop.send_replace(true);
    worker.await.unwrap();
    let wanted = Wanted { registration_id: Some("dev-1".parse().unwrap()), ..Wanted::default() };
    let found = service.desk.front_end.explanations.find(&wanted, 9);
    assert_eq!((found.len(), found[0].told.as_str(), found[0].connection), (1, "400207", None));
    assert_eq!(found[0].reason, "the webhook answered 404 (the webhook said so)");
    assert!(found[0].tracking_id.is_some() && found[0].advice.is_some());
    let metrics = service.desk.front_end.metrics.render();
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
        service.desk.register(&format!("broken-{number}"), "broken").await;
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
    let metrics = service.desk.front_end.metrics.render();
    assert!(metrics.contains("harbormaster_webhook_calls 0"), "{metrics}");
}
