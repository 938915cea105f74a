//! Seven model clients against the front end, and against servers that are wrong in a way that some of them cannot bear.
//! Spec: DPS-MQTT-4 to DPS-MQTT-6, DPS-MQTT-12, DPS-MQTT-20 to DPS-MQTT-25, DPS-BODY-1 to DPS-BODY-9, DPS-SAS-2.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this program is a test in whole")]

mod certificates;
mod client;
mod failing_store;
mod faults;
mod https;
mod models;
mod reading;
mod script;
mod service;
#[path = "../common/showing.rs"]
mod showing;
mod token;
mod waits;
mod web_socket;
mod wire;

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use models::{ALL, Model};
use reading::Outcome;
use service::{Outage, Service};

const SCOPE: &str = "0ne00000000";

/// The device of most tests.
const DEVICE: &str = "dev-1";

/// Bytes on the way at one time, where it does not matter.
const TOGETHER: usize = 16_384;

fn assigned() -> Outcome {
    assigned_as(DEVICE)
}

fn assigned_as(id: &str) -> Outcome {
    Outcome::Assigned { hub: "hub.localhost".to_owned(), device_id: id.to_owned() }
}

/// Runs all seven with certificates; each must report what `expected` says.
async fn all_by_certificate(service: impl Fn() -> Service, of: &str, expected: impl Fn(&Model) -> Outcome) {
    for model in &ALL {
        let service = service();
        let stream = service.connect_showing(TOGETHER, certificates::chain(of));
        let report = model.run_by_certificate(stream, SCOPE, DEVICE).await;
        assert_eq!(report.outcome, expected(model), "{}", model.name);
    }
}

/// DPS-X509-7, DPS-MQTT-20, DPS-MQTT-21
#[tokio::test(start_paused = true)]
async fn every_client_is_assigned_by_its_certificate() {
    all_by_certificate(Service::new, DEVICE, |_| assigned()).await;
}

/// DPS-X509-7, DPS-BODY-3
#[tokio::test(start_paused = true)]
async fn every_client_with_a_certificate_polls_until_a_hub_outside_has_it() {
    all_by_certificate(Service::with_slow_hub, DEVICE, |_| assigned()).await;
}

/// DPS-X509-8, DPS-REG-20
#[tokio::test(start_paused = true)]
async fn every_client_with_a_certificate_reports_a_disabled_enrollment() {
    all_by_certificate(Service::disabled, DEVICE, |_| Outcome::Disabled).await;
}

/// DPS-X509-3, DPS-X509-31, DPS-EXPLAIN-12
#[tokio::test(start_paused = true)]
async fn every_client_reports_a_certificate_that_is_refused() {
    all_by_certificate(Service::new, "dev-2", |_| Outcome::Refused(401_002)).await;
    let service = Service::new();
    let stream = service.connect_showing(TOGETHER, certificates::chain("dev-2"));
    ALL[0].run_by_certificate(stream, SCOPE, DEVICE).await;
    let kept = service.explanations();
    let chain = kept[0].chain.as_ref().unwrap().to_json();
    assert_eq!(chain["received"][0]["subjectName"], "CN=dev-2");
    assert_eq!(chain["received"][1]["subjectName"], "CN=Plant issuing CA");
    assert_eq!((&chain["rule"], &chain["brokeAt"]["source"]), (&"registration-id".into(), &"device".into()));
}

/// DPS-X509-2: beyond a connection's own bytes, certificates of a device that has proved nothing yet share a budget.
#[tokio::test(start_paused = true)]
async fn certificates_count_against_the_bytes_of_those_who_are_not_attested() {
    let padding = rustls_pki_types::CertificateDer::from(vec![0x30; 16 * 1_024]);
    let shown = || certificates::chain(DEVICE).into_iter().chain([padding.clone()]).collect();
    for (bytes, is_let_in) in [(32 * 1_024, true), (8 * 1_024, false)] {
        let service = Service::with_bytes(bytes);
        let stream = service.connect_showing(TOGETHER, shown());
        let report = ALL[0].run_by_certificate(stream, SCOPE, DEVICE).await;
        assert_eq!(matches!(report.outcome, Outcome::Broken(_)), !is_let_in, "{:?}", report.outcome);
    }
}

/// Runs all seven; each must report what `expected` says.
async fn all(service: impl Fn() -> Service, expected: impl Fn(&Model) -> Outcome) {
    for model in &ALL {
        let service = service();
        let stream = service.connect(TOGETHER);
        let report = model.run(stream, SCOPE, DEVICE, &service.device_key(DEVICE)).await;
        assert_eq!(report.outcome, expected(model), "{}", model.name);
    }
}

/// DPS-MQTT-20, DPS-MQTT-21, DPS-MQTT-24, DPS-MQTT-25, DPS-BODY-2, DPS-BODY-4, DPS-BODY-8
#[tokio::test(start_paused = true)]
async fn every_client_is_assigned() {
    all(Service::new, |_| assigned()).await;
}

/// DPS-MQTT-21, DPS-MQTT-24: packets come and go a few bytes at a time.
#[tokio::test(start_paused = true)]
async fn every_client_is_assigned_over_a_connection_that_takes_packets_apart() {
    for together in [1, 7, 100] {
        for model in &ALL {
            let service = Service::new();
            let stream = service.connect(together);
            let report = model.run(stream, SCOPE, DEVICE, &service.device_key(DEVICE)).await;
            assert_eq!(report.outcome, assigned(), "{} with {together} bytes at a time", model.name);
        }
    }
}

/// DPS-WS-1, DPS-WS-2, DPS-WS-4, DPS-WS-5, DPS-MQTT-24: each asks for its WebSocket in its own way, and bears what the strictest bears.
#[tokio::test(start_paused = true)]
async fn every_client_is_assigned_over_a_web_socket() {
    for together in [TOGETHER, 7] {
        for model in &ALL {
            let service = Service::new();
            let stream = web_socket::open(service.connect_to_443(together), model.web_socket).await;
            let report = model.run(stream, SCOPE, DEVICE, &service.device_key(DEVICE)).await;
            assert_eq!(report.outcome, assigned(), "{}", model.name);
            let service = Service::with_slow_hub();
            let stream = web_socket::open(service.connect_to_443(together), model.web_socket).await;
            let report = model.run(stream, SCOPE, DEVICE, &service.device_key(DEVICE)).await;
            assert_eq!((report.outcome, report.asked_at_s), (assigned(), vec![0, 3, 6, 9]), "{}", model.name);
        }
    }
}

/// DPS-WS-4, DPS-BODY-9
#[tokio::test(start_paused = true)]
async fn every_client_reports_a_refused_credential_over_a_web_socket() {
    for model in &ALL {
        let service = Service::new();
        let stream = web_socket::open(service.connect_to_443(TOGETHER), model.web_socket).await;
        let report = model.run(stream, SCOPE, DEVICE, &service.device_key("another")).await;
        assert_eq!(report.outcome, Outcome::Refused(401_002), "{}", model.name);
        assert_eq!(service.explanations()[0].transport, Some("mqtt-ws"));
    }
}

/// DPS-HTTPS-1, DPS-HTTPS-3 to DPS-HTTPS-5, DPS-HTTPS-9: also while a hub outside is asked, at each client's own pace.
#[tokio::test(start_paused = true)]
async fn every_client_is_assigned_over_https() {
    for model in &https::ALL {
        let service = Service::new();
        let run = |id: &'static str| {
            let key = service.device_key(id);
            let service = &service;
            async move { model.run(|| service.connect_to_443(TOGETHER), SCOPE, id, &key).await.0 }
        };
        assert_eq!(run(DEVICE).await, assigned(), "{}", model.name);
        assert_eq!(run("line:7.press_a").await, assigned_as("line:7.press_a"), "{}", model.name);
        let service = Service::with_slow_hub();
        let key = service.device_key(DEVICE);
        let (outcome, took) = model.run(|| service.connect_to_443(TOGETHER), SCOPE, DEVICE, &key).await;
        assert_eq!(outcome, assigned(), "{}", model.name);
        assert!((8..=10).contains(&took), "{} {took}", model.name);
    }
}

/// DPS-HTTPS-4, DPS-HTTPS-7, DPS-REG-15, DPS-REG-20
#[tokio::test(start_paused = true)]
async fn every_client_over_https_reports_what_came_of_it() {
    for model in &https::ALL {
        let rows = [
            (Service::new(), "another", Outcome::Refused(401_002)),
            (Service::without_hubs(), DEVICE, Outcome::Failed(401_001)),
            // iot-identity-service knows no such answer; it finds no operation to poll.
            (
                Service::disabled(),
                DEVICE,
                match model.name {
                    "iot-identity-service" => Outcome::Broken("no operationId"),
                    _ => Outcome::Disabled,
                },
            ),
        ];
        for (service, key_of, expected) in rows {
            let key = service.device_key(key_of);
            let (outcome, _) = model.run(|| service.connect_to_443(TOGETHER), SCOPE, DEVICE, &key).await;
            assert_eq!(outcome, expected, "{}", model.name);
        }
    }
}

/// DPS-SAS-2, DPS-SAS-3, DPS-MQTT-2: raw, upper, lower and mixed percent-encoding of an id that has something to encode.
#[tokio::test(start_paused = true)]
async fn every_client_is_assigned_under_an_id_that_its_token_must_encode() {
    let id = "Line:7:Press.4_a";
    for model in &ALL {
        let service = Service::new();
        let report = model.run(service.connect(TOGETHER), SCOPE, id, &service.device_key(id)).await;
        assert_eq!(report.outcome, assigned_as(id), "{}", model.name);
    }
}

/// DPS-MQTT-6, DPS-REG-14: the device starts anew, over the same record.
#[tokio::test(start_paused = true)]
async fn every_client_is_assigned_again_when_it_connects_again() {
    let service = Service::new();
    for model in ALL.iter().chain(&ALL) {
        let stream = service.connect(TOGETHER);
        let report = model.run(stream, SCOPE, DEVICE, &service.device_key(DEVICE)).await;
        assert_eq!(report.outcome, assigned(), "{}", model.name);
    }
}

/// DPS-BODY-3, DPS-REG-9: the hub takes eight seconds, so that two polls are told `assigning`.
#[tokio::test(start_paused = true)]
async fn every_client_polls_at_the_told_pace_while_a_hub_outside_is_asked() {
    for model in &ALL {
        let service = Service::with_slow_hub();
        let stream = service.connect(TOGETHER);
        let report = model.run(stream, SCOPE, DEVICE, &service.device_key(DEVICE)).await;
        assert_eq!((report.outcome, report.asked_at_s), (assigned(), vec![0, 3, 6, 9]), "{}", model.name);
    }
}

/// DPS-BODY-5, DPS-REG-15
#[tokio::test(start_paused = true)]
async fn every_client_reports_an_operation_that_failed() {
    all(Service::without_hubs, |_| Outcome::Failed(401_001)).await;
}

/// DPS-REG-20
#[tokio::test(start_paused = true)]
async fn every_client_reports_a_disabled_enrollment() {
    all(Service::disabled, |_| Outcome::Disabled).await;
}

/// DPS-EXPLAIN-10
#[tokio::test(start_paused = true)]
async fn a_device_without_a_hub_can_be_explained_though_it_proved_itself() {
    let rows = [
        (
            Service::disabled(),
            "disabled",
            "the credential proves the device, and enrollment group group-8 is disabled",
        ),
        (Service::without_hubs(), "401001", "no linked hub may take the device"),
    ];
    for (service, told, reason) in rows {
        ALL[0].run(service.connect(TOGETHER), SCOPE, DEVICE, &service.device_key(DEVICE)).await;
        let kept = service.explanations();
        assert_eq!(kept.len(), 1, "{kept:?}");
        assert_eq!((&*kept[0].told, &*kept[0].reason), (told, reason));
        assert!(kept[0].advice.is_some());
    }
}

/// DPS-MQTT-5, DPS-MQTT-20, DPS-BODY-9: no client registers again for it.
#[tokio::test(start_paused = true)]
async fn every_client_reports_a_refused_credential_and_leaves_it_at_that() {
    for model in &ALL {
        let service = Service::new();
        let stream = service.connect(TOGETHER);
        let report = model.run(stream, SCOPE, DEVICE, &service.device_key("another")).await;
        let told = (report.outcome, report.asked_at_s);
        assert_eq!(told, (Outcome::Refused(401_002), vec![0]), "{}", model.name);
    }
}

/// DPS-LIMIT-8: 22 wrong keys, one after the other: the last is told later.
#[tokio::test(start_paused = true)]
async fn an_address_that_guesses_waits_for_its_refusals() {
    let (service, model) = (Service::new(), &ALL[0]);
    let mut waits = Vec::new();
    for _ in 0..22 {
        let began = tokio::time::Instant::now();
        model.run(service.connect(TOGETHER), SCOPE, DEVICE, &service.device_key("another")).await;
        waits.push(began.elapsed().as_millis());
    }
    assert!(waits[..21].iter().all(|wait| *wait == waits[0]), "{waits:?}");
    assert_eq!(waits[21], waits[0] + 250, "{waits:?}");
}

/// DPS-LIMIT-10, DPS-MQTT-30: strangers hold all that may be buffered, each with most of a CONNECT of 8,000 bytes.
#[tokio::test(start_paused = true)]
async fn devices_register_while_strangers_have_used_up_the_bytes_that_are_shared() {
    for model in &ALL {
        let service = Service::with_bytes(30_000);
        let mut strangers = Vec::new();
        for _ in 0..9 {
            let mut stranger = service.connect(TOGETHER);
            stranger.write_all(&[0x10, 0xC0, 0x3E]).await.unwrap();
            stranger.write_all(&[0; 7_900]).await.unwrap();
            strangers.push(stranger);
        }
        let mut cut = 0;
        for stranger in &mut strangers {
            // At once, or at the deadline of CONNECT, which is later.
            let read = timeout(Duration::from_secs(1), stranger.read(&mut [0])).await;
            cut += usize::from(read.is_ok());
        }
        assert!((1..9).contains(&cut), "the bytes are used up, and whoever has them keeps them: {cut}");
        let stream = service.connect(TOGETHER);
        let report = model.run(stream, SCOPE, DEVICE, &service.device_key(DEVICE)).await;
        assert_eq!(report.outcome, assigned(), "{}", model.name);
    }
}

/// DPS-MQTT-4
#[tokio::test(start_paused = true)]
async fn every_client_reports_an_unknown_id_scope() {
    for model in &ALL {
        let service = Service::new();
        let stream = service.connect(TOGETHER);
        let report = model.run(stream, "0ne0000FFFF", DEVICE, &service.device_key(DEVICE)).await;
        assert_eq!(report.outcome, Outcome::NotLetIn(5), "{}", model.name);
    }
}

/// What each client does in an outage that ends after two refusals: those that ask again are assigned.
fn after_an_outage(model: &Model, status: u16) -> Outcome {
    match model.name {
        "C" | "NetX" | "nRF" => assigned(),
        _ => Outcome::GaveUp(status),
    }
}

/// DPS-REG-4, DPS-MQTT-20
#[tokio::test(start_paused = true)]
async fn clients_that_honour_429_get_through_and_the_others_say_so() {
    all(|| Service::out_of_order(Outage::Busy, 2), |model| after_an_outage(model, 429)).await;
}

/// DPS-MQTT-20: a request that is not decided in time, and a store that cannot be reached.
#[tokio::test(start_paused = true)]
async fn clients_that_honour_503_get_through_and_the_others_say_so() {
    for outage in [Outage::Hangs, Outage::StoreGone] {
        all(|| Service::out_of_order(outage, 2), |model| after_an_outage(model, 503)).await;
    }
}
