//! What a device was told survives. Spec: DPS-STORE-2, DPS-REG-12, DPS-DEV-2.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by failing")]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use dps_proto::ids::RegistrationId;
use serde_json::Value;
use support::Service;

/// How often the service is killed.
const KILLS: u32 = 50;

/// Devices that register at the same time.
const DEVICES_AT_ONCE: usize = 12;

/// A device that was told `assigned`.
struct ToldAssigned {
    id: RegistrationId,
    operation_id: String,
    state: Value,
}

/// DPS-STORE-2, DPS-REG-12, DPS-REG-14: SIGKILL under load, and every device told `assigned` is found at the same hub by the
/// operation id it was given.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_device_told_assigned_is_still_assigned_after_a_kill_under_load() {
    let data_dir = tempfile::tempdir().unwrap();
    let mut checked = 0;
    let mut service = Arc::new(Service::start(data_dir.path()));
    for kill in 0..KILLS {
        let told = Arc::new(Mutex::new(Vec::new()));
        let load: Vec<_> = (0..DEVICES_AT_ONCE)
            .map(|lane| {
                tokio::spawn(register_until_killed(Arc::clone(&service), kill, lane, Arc::clone(&told)))
            })
            .collect();
        // Every kill meets the commits at another point.
        tokio::time::sleep(Duration::from_millis(60 + u64::from(kill) * 7 % 90)).await;
        signal_kill(&service);
        for lane in load {
            lane.await.unwrap();
        }
        Arc::into_inner(service).unwrap().kill();

        service = Arc::new(Service::start(data_dir.path()));
        let told = Arc::into_inner(told).unwrap().into_inner().unwrap();
        checked += told.len();
        for ToldAssigned { id, operation_id, state } in told {
            let now = service.connect(&id).await.unwrap().poll(&operation_id).await.unwrap();
            assert_eq!(now.status, 200, "kill {kill}, {id}: {now:?}");
            assert_eq!(now.body["registrationState"], state, "kill {kill}, {id}");
        }
    }
    println!("{checked} devices told assigned were found again after {KILLS} kills");
    assert!(checked >= 2 * KILLS as usize, "only {checked} devices were told assigned before a kill");
}

/// DPS-DEV-5, DPS-REG-14
#[tokio::test]
async fn a_device_is_still_assigned_after_an_orderly_restart() {
    let data_dir = tempfile::tempdir().unwrap();
    let id: RegistrationId = "Press-7".parse().unwrap();
    let service = Service::start(data_dir.path());
    let mut device = service.connect(&id).await.unwrap();
    let operation_id = device.register().await.unwrap();
    let before = device.poll(&operation_id).await.unwrap();
    assert_eq!(before.body["status"], "assigned");
    assert!(service.stop().success());

    let service = Service::start(data_dir.path());
    let mut device = service.connect(&"press-7".parse().unwrap()).await;
    // The derived key depends on the spelling; this one was derived for the lower-case id, and names the same device.
    let after = device.as_mut().unwrap().poll(&operation_id).await.unwrap();
    assert_eq!(after.body, before.body);
}

async fn register_until_killed(
    service: Arc<Service>,
    kill: u32,
    lane: usize,
    told: Arc<Mutex<Vec<ToldAssigned>>>,
) {
    for number in 0.. {
        let id: RegistrationId = format!("device-{kill}-{lane}-{number}").parse().unwrap();
        // An error is the kill; what was told before it counts.
        let Ok(mut device) = service.connect(&id).await else { return };
        let Ok(operation_id) = device.register().await else { return };
        let Ok(answer) = device.poll(&operation_id).await else { return };
        assert_eq!(answer.body["status"], "assigned", "{answer:?}");
        let state = answer.body["registrationState"].clone();
        told.lock().unwrap().push(ToldAssigned { id, operation_id, state });
    }
}

fn signal_kill(service: &Service) {
    assert!(
        std::process::Command::new("kill")
            .args(["-KILL", &service.pid().to_string()])
            .status()
            .unwrap()
            .success()
    );
}
