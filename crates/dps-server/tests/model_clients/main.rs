//! Seven model clients against the front end, and against servers that are wrong in a way that each of them cannot bear.
//! Spec: DPS-MQTT-6, DPS-MQTT-12, DPS-MQTT-20, DPS-MQTT-21, DPS-MQTT-24, DPS-MQTT-25, DPS-BODY-1 to DPS-BODY-9.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this program is a test in whole")]

mod models;
mod reading;
mod script;
mod service;
mod wire;

use models::{ALL, C_SDK, CSHARP, EMBEDDED_C, FREERTOS, JAVA, Model, NETX, NRF};
use reading::Outcome;
use script::Script;
use service::{Outage, Service};

const SCOPE: &str = "0ne00000000";

fn assigned() -> Outcome {
    Outcome::Assigned { hub: "hub.localhost".to_owned(), device_id: "dev-1".to_owned() }
}

/// Runs all seven; each must report what `expected` says.
async fn all(service: impl Fn() -> Service, expected: impl Fn(&Model) -> Outcome) {
    for model in &ALL {
        let service = service();
        let told = model.run(service.connect(), SCOPE, "dev-1", &service.device_key("dev-1")).await;
        assert_eq!(told, expected(model), "{}", model.name);
    }
}

/// DPS-MQTT-20, DPS-MQTT-21, DPS-MQTT-24, DPS-MQTT-25, DPS-BODY-2, DPS-BODY-4, DPS-BODY-8
#[tokio::test(start_paused = true)]
async fn every_client_is_assigned() {
    all(Service::new, |_| assigned()).await;
}

/// DPS-BODY-3, DPS-REG-9
#[tokio::test(start_paused = true)]
async fn every_client_waits_while_a_hub_outside_is_asked() {
    all(Service::with_slow_hub, |_| assigned()).await;
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

/// DPS-BODY-9: no client registers again for it.
#[tokio::test(start_paused = true)]
async fn every_client_reports_a_refused_credential() {
    for model in &ALL {
        let service = Service::new();
        let told = model.run(service.connect(), SCOPE, "dev-1", &service.device_key("another")).await;
        assert_eq!(told, Outcome::Refused(401_002), "{}", model.name);
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

/// DPS-MQTT-20
#[tokio::test(start_paused = true)]
async fn clients_that_honour_503_get_through_and_the_others_say_so() {
    all(|| Service::out_of_order(Outage::Hangs, 2), |model| after_an_outage(model, 503)).await;
}

/// A server that is right but for what `change` does to it: the client breaks.
async fn breaks(model: &Model, change: impl Fn(&mut Script)) {
    let mut script = Script::right();
    change(&mut script);
    let told = model.run(script.serve(), SCOPE, "dev-1", &service::key("x")).await;
    assert!(matches!(told, Outcome::Broken(_)), "{} bears it: {told:?}", model.name);
}

#[tokio::test(start_paused = true)]
async fn every_client_is_assigned_by_a_scripted_server_that_is_right() {
    for model in &ALL {
        let told = model.run(Script::right().serve(), SCOPE, "dev-1", &service::key("x")).await;
        assert_eq!(told, assigned(), "{}", model.name);
    }
}

/// DPS-MQTT-6, DPS-MQTT-21, DPS-MQTT-25, DPS-MQTT-20, DPS-REG-20
#[tokio::test(start_paused = true)]
async fn the_csharp_model_fails_on_order_session_present_topics_and_missing_state() {
    breaks(&CSHARP, |script| script.session_present = true).await;
    breaks(&CSHARP, |script| script.receipt_first = false).await;
    breaks(&CSHARP, |script| script.unasked_pingresp = true).await;
    breaks(&CSHARP, |script| script.answers_twice = true).await;
    breaks(&CSHARP, |script| {
        script.topic_202 = "$dps/registrations/res/202/?retry-after=3&$rid={rid}".into()
    })
    .await;
    breaks(&CSHARP, |script| script.body_200 = r#"{"operationId":"5.x","status":"disabled"}"#.into()).await;
    breaks(&CSHARP, |script| {
        script.topic_202 = "$dps/registrations/res/401/?$rid={rid}".into();
        script.body_202 = r#"{"errorCode":401002}"#.into();
    })
    .await;
}

/// DPS-MQTT-20, DPS-BODY-3, DPS-BODY-6
#[tokio::test(start_paused = true)]
async fn the_java_model_fails_on_property_order_and_missing_members() {
    breaks(&JAVA, |script| script.topic_202 = "$dps/registrations/res/202/?retry-after=3&$rid={rid}".into())
        .await;
    for state in [
        r#"{"registrationId":"dev-1","assignedHub":"h","deviceId":"d"}"#,
        r#"{"status":"assigned","assignedHub":"h","deviceId":"d"}"#,
        r#"{"registrationId":"dev-1","status":"assigned","assignedHub":"h","deviceId":"d","payload":"text"}"#,
        r#"{"registrationId":"dev-1","status":"assigned","assignedHub":"h","deviceId":"d","x509":{"certificateInfo":{}}}"#,
        r#"{"registrationId":"dev-1","status":"assigned"}"#,
    ] {
        let body = format!(r#"{{"operationId":"5.x","status":"assigned","registrationState":{state}}}"#);
        breaks(&JAVA, |script| script.body_200.clone_from(&body)).await;
    }
    breaks(&JAVA, |script| script.body_200 = r#"{"operationId":"5.x","status":"failed"}"#.into()).await;
}

/// DPS-MQTT-11, DPS-MQTT-12, DPS-REG-9
#[tokio::test(start_paused = true)]
async fn the_c_model_fails_on_a_refused_subscription_and_on_unassigned() {
    breaks(&C_SDK, |script| script.suback = Some(0x80)).await;
    breaks(&C_SDK, |script| script.body_202 = r#"{"operationId":"5.x","status":"unassigned"}"#.into()).await;
    breaks(&C_SDK, |script| script.body_200 = r#"{"status":"failed","registrationState":{}}"#.into()).await;
    breaks(&C_SDK, |script| script.body_200 = r#"{"operationId":"5.x","status":"assigned"}"#.into()).await;
}

/// DPS-BODY-1, DPS-BODY-4, DPS-REG-9
#[tokio::test(start_paused = true)]
async fn the_azure_sdk_for_c_model_fails_on_nulls_pairs_and_polls_without_a_pause() {
    for state in [
        "null",
        r#"{"assignedHub":"h"}"#,
        r#"{"deviceId":"d"}"#,
        r#"{"assignedHub":null,"deviceId":null}"#,
        r#"{"assignedHub":"h","deviceId":"d","errorMessage":null}"#,
        r#"{"assignedHub":"h","deviceId":"d","payload":"text"}"#,
    ] {
        let body = format!(r#"{{"operationId":"5.x","status":"assigned","registrationState":{state}}}"#);
        breaks(&EMBEDDED_C, |script| script.body_200.clone_from(&body)).await;
    }
    breaks(&EMBEDDED_C, |script| script.body_200 = r#"{"message":"x"}"#.into()).await;
    breaks(&EMBEDDED_C, |script| script.topic_202 = "$dps/registrations/res/202/?$rid={rid}".into()).await;
    breaks(&EMBEDDED_C, |script| {
        script.topic_202 = "$dps/registrations/res/202/?$rid={rid}&Retry-After=3".into()
    })
    .await;
}

/// DPS-BODY-8, DPS-MQTT-12
#[tokio::test(start_paused = true)]
async fn the_freertos_model_fails_on_what_does_not_fit_and_on_unassigned() {
    breaks(&FREERTOS, |script| {
        let missing = 513 - script.body_200.len();
        script.body_200 = format!("{}{}", script.body_200, " ".repeat(missing));
    })
    .await;
    breaks(&FREERTOS, |script| {
        let topic = "$dps/registrations/res/200/?$rid={rid}&x=";
        // `{rid}` becomes one character.
        script.topic_200 = format!("{topic}{}", "x".repeat(129 + 4 - topic.len()));
    })
    .await;
    breaks(&FREERTOS, |script| script.body_202 = r#"{"operationId":"5.x","status":"unassigned"}"#.into())
        .await;
    breaks(&FREERTOS, |script| script.answer_qos = 1).await;
}

/// DPS-MQTT-20, DPS-MQTT-24
#[tokio::test(start_paused = true)]
async fn the_netx_model_fails_without_retry_after_and_asks_again_where_a_refusal_has_one() {
    breaks(&NETX, |script| script.topic_202 = "$dps/registrations/res/202/?$rid={rid}".into()).await;
    let mut script = Script::right();
    script.topic_202 = "$dps/registrations/res/401/?$rid={rid}&retry-after=3".into();
    script.body_202 = r#"{"errorCode":401002,"trackingId":"x","message":"x"}"#.into();
    let told = NETX.run(script.serve(), SCOPE, "dev-1", &service::key("x")).await;
    assert_eq!(told, Outcome::GaveUp(401), "a final refusal must not have a retry-after");
}

/// DPS-BODY-8, DPS-ID-4, DPS-REG-9
#[tokio::test(start_paused = true)]
async fn the_nrf_model_fails_on_long_names_and_after_ten_polls() {
    breaks(&NRF, |script| script.body_200 = script.body_200.replace("hub.localhost", &"h".repeat(64))).await;
    breaks(&NRF, |script| script.body_202 = script.body_202.replace("5.x", &"5".repeat(60))).await;
    breaks(&NRF, |script| {
        script.topic_200 = script.topic_202.clone();
        script.body_200 = script.body_202.clone();
    })
    .await;
}
