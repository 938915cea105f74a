//! Servers that are wrong in one way each: exactly the clients named break, the others bear it.

use serde_json::{Value, json};

use crate::models::{ALL, AZURE_SDK_FOR_C, Model, NETX, NRF};
use crate::reading::Outcome;
use crate::script::Script;
use crate::{DEVICE, SCOPE, assigned, service};

/// Those that read answers with azure-sdk-for-c.
const EMBEDDED: [&str; 4] = ["azure-sdk-for-c", "FreeRTOS", "NetX", "nRF"];

const ANSWER_202: &str = "$dps/registrations/res/202/?$rid={rid}";

async fn told(model: &Model, change: impl Fn(&mut Script)) -> Outcome {
    let mut script = Script::right();
    change(&mut script);
    model.run(script.serve(), SCOPE, DEVICE, &service::key("x")).await.outcome
}

/// The clients named break; the others report `borne`.
async fn break_to(breaking: &[&str], borne: Outcome, change: impl Fn(&mut Script)) {
    for model in &ALL {
        let outcome = told(model, &change).await;
        if breaking.contains(&model.name) {
            assert!(matches!(outcome, Outcome::Broken(_)), "{} bears it: {outcome:?}", model.name);
        } else {
            assert_eq!(outcome, borne, "{}", model.name);
        }
    }
}

/// The clients named break; the others are assigned.
async fn breaks(breaking: &[&str], change: impl Fn(&mut Script)) {
    break_to(breaking, assigned(), change).await;
}

/// A final answer whose `registrationState` has these members more, or other ones.
async fn state_breaks(breaking: &[&str], members: Value) {
    breaks(breaking, |script| {
        let mut body: Value = serde_json::from_str(&script.body_200).unwrap();
        for (name, value) in members.as_object().unwrap() {
            body["registrationState"][name] = value.clone();
        }
        script.body_200 = body.to_string();
    })
    .await;
}

fn with(first: &'static str, rest: &[&'static str]) -> Vec<&'static str> {
    [&[first], rest].concat()
}

/// DPS-MQTT-20, DPS-MQTT-21, DPS-BODY-2, DPS-BODY-4
#[tokio::test(start_paused = true)]
async fn a_server_that_is_right_breaks_no_client() {
    breaks(&[], |_| {}).await;
}

/// DPS-MQTT-6, DPS-MQTT-21, DPS-MQTT-25
#[tokio::test(start_paused = true)]
async fn packets_out_of_place_break_csharp_alone() {
    breaks(&["C#"], |script| script.session_present = true).await;
    breaks(&["C#"], |script| script.receipt_first = false).await;
    breaks(&["C#"], |script| script.unasked_pingresp = true).await;
}

/// DPS-MQTT-21
#[tokio::test(start_paused = true)]
async fn a_second_answer_breaks_those_that_count() {
    breaks(&["C#", "NetX"], |script| script.register_answered_twice = true).await;
    breaks(&["C#", "NetX"], |script| script.poll_answered_twice = true).await;
}

/// DPS-MQTT-11, DPS-MQTT-12
#[tokio::test(start_paused = true)]
async fn a_refused_subscription_breaks_c_and_an_answer_above_the_granted_qos_whoever_asked_for_0() {
    breaks(&["C"], |script| script.suback = Some(0x80)).await;
    breaks(&["FreeRTOS", "NetX", "nRF"], |script| script.answer_qos = 1).await;
}

/// DPS-MQTT-4
#[tokio::test(start_paused = true)]
async fn a_refused_connect_is_told_by_its_code() {
    break_to(&[], Outcome::NotLetIn(5), |script| script.connack_code = 5).await;
}

/// DPS-MQTT-20
#[tokio::test(start_paused = true)]
async fn the_form_of_the_topic_matters_to_those_that_cut_it_by_place() {
    let rows: [(&str, &[&str]); 4] = [
        ("$dps/registrations/res/202/?retry-after=3&$rid={rid}", &["C#", "Java"]),
        ("$dps/registrations/res/202?$rid={rid}&retry-after=3", &with("C#", &EMBEDDED)),
        ("$dps/registrations/res/202/?$rid={rid}&retry-after=soon", &with("Java", &EMBEDDED)),
        // Python alone minds; it is not among these seven.
        ("$dps/registrations/res/202/?$rid={rid}&retry-after=3&", &[]),
    ];
    for (topic, breaking) in rows {
        breaks(breaking, |script| script.topic_202 = topic.to_owned()).await;
    }
}

/// DPS-REG-9, DPS-MQTT-20
#[tokio::test(start_paused = true)]
async fn assigning_without_retry_after_breaks_netx_and_sends_azure_sdk_for_c_round_in_circles() {
    for end in ["", "&Retry-After=3", "&retry-after=0"] {
        breaks(&["azure-sdk-for-c", "NetX"], |script| script.topic_202 = format!("{ANSWER_202}{end}")).await;
    }
}

/// DPS-REG-9: the read timeout of C# and the progress timer of nRF run while they wait.
#[tokio::test(start_paused = true)]
async fn a_retry_after_of_minutes_breaks_those_that_must_hear_something() {
    breaks(&["C#"], |script| script.topic_202 = format!("{ANSWER_202}&retry-after=70")).await;
    breaks(&["C#", "nRF"], |script| script.topic_202 = format!("{ANSWER_202}&retry-after=100")).await;
}

/// DPS-MQTT-20, DPS-BODY-9
#[tokio::test(start_paused = true)]
async fn a_retry_after_on_a_final_refusal_makes_netx_register_again_and_again() {
    let change = |script: &mut Script| {
        script.topic_202 = "$dps/registrations/res/401/?$rid={rid}&retry-after=3".into();
        script.body_202 = r#"{"errorCode":401002,"trackingId":"x","message":"x"}"#.into();
    };
    for model in &ALL {
        let expected = if model.name == NETX.name { Outcome::GaveUp(401) } else { Outcome::Refused(401_002) };
        assert_eq!(told(model, change).await, expected, "{}", model.name);
    }
}

/// DPS-BODY-9
#[tokio::test(start_paused = true)]
async fn a_refusal_without_a_json_body_breaks_everyone_and_one_without_a_code_the_embedded_clients() {
    let everyone = ALL.map(|model| model.name);
    for body in ["", "Unauthorized"] {
        breaks(&everyone, |script| {
            script.topic_202 = "$dps/registrations/res/401/?$rid={rid}".into();
            script.body_202 = body.into();
        })
        .await;
    }
    for model in ALL.iter().filter(|model| EMBEDDED.contains(&model.name)) {
        let outcome = told(model, |script| script.body_202 = r#"{"message":"x"}"#.into()).await;
        assert!(matches!(outcome, Outcome::Broken(_)), "{}: {outcome:?}", model.name);
    }
}

/// DPS-BODY-1
#[tokio::test(start_paused = true)]
async fn null_members_break_the_embedded_clients() {
    let nulls = [
        r#""registrationState":null"#,
        r#""trackingId":null"#,
        r#""message":null"#,
        r#""timestampUtc":null"#,
    ];
    for member in nulls {
        breaks(&EMBEDDED, |script| {
            script.body_202 = format!(r#"{{"operationId":"5.x","status":"assigning",{member}}}"#);
        })
        .await;
    }
    state_breaks(&EMBEDDED, json!({"errorMessage": null})).await;
    state_breaks(&EMBEDDED, json!({"lastUpdatedDateTimeUtc": null})).await;
    state_breaks(&[], json!({"etag": null, "payload": null})).await;
    breaks(&with("Java", &EMBEDDED), |script| script.body_200 = script.body_200.replace(r#""5.x""#, "null"))
        .await;
}

/// DPS-BODY-3, DPS-BODY-4, DPS-BODY-6
#[tokio::test(start_paused = true)]
async fn an_assigning_state_must_be_whole_for_java_and_in_pairs_for_the_embedded_clients() {
    let rows: [(&str, &[&str]); 5] = [
        (r#"{"registrationId":"dev-1","status":"assigning"}"#, &[]),
        (r#"{"registrationId":"dev-1"}"#, &["Java"]),
        (r#"{"status":"assigning"}"#, &["Java"]),
        (r#"{"registrationId":"dev-1","status":"assigning","assignedHub":"h"}"#, &EMBEDDED),
        (r#"{"registrationId":"dev-1","status":"assigning","deviceId":"d"}"#, &EMBEDDED),
    ];
    for (state, breaking) in rows {
        breaks(breaking, |script| {
            script.body_202 =
                format!(r#"{{"operationId":"5.x","status":"assigning","registrationState":{state}}}"#);
        })
        .await;
    }
}

/// DPS-BODY-4, DPS-BODY-5, DPS-REG-20
#[tokio::test(start_paused = true)]
async fn a_final_answer_without_its_state_breaks_those_that_look_into_it() {
    let body = |status: &str| format!(r#"{{"operationId":"5.x","status":"{status}"}}"#);
    breaks(&ALL.map(|model| model.name), |script| script.body_200 = body("assigned")).await;
    break_to(&["C#", "Java"], Outcome::Disabled, |script| script.body_200 = body("disabled")).await;
    break_to(&["C#", "Java", "C"], Outcome::Failed(0), |script| script.body_200 = body("failed")).await;
    break_to(&["C"], Outcome::Refused(401_001), |script| {
        script.body_200 = r#"{"status":"failed","errorCode":401001,"trackingId":"x","message":"x","registrationState":{"registrationId":"dev-1","status":"failed","errorCode":401001}}"#.into();
        script.topic_200 = "$dps/registrations/res/401/?$rid={rid}".into();
    })
    .await;
}

/// DPS-BODY-4
#[tokio::test(start_paused = true)]
async fn payloads_and_certificate_infos_must_have_their_form() {
    state_breaks(&[], json!({"payload": {"a": 1}, "x509": {}})).await;
    state_breaks(&with("Java", &EMBEDDED), json!({"payload": "text"})).await;
    state_breaks(&["Java"], json!({"x509": {"certificateInfo": {"subjectName": "CN=x"}}})).await;
}

/// DPS-REG-9
#[tokio::test(start_paused = true)]
async fn unassigned_is_a_tpm_challenge_to_c_and_a_dead_end_to_freertos() {
    breaks(&["C", "FreeRTOS"], |script| script.body_202 = script.body_202.replace("assigning", "unassigned"))
        .await;
}

/// DPS-BODY-8
#[tokio::test(start_paused = true)]
async fn freertos_holds_512_bytes_under_a_topic_of_128_and_nrf_a_topic_of_224() {
    for (bytes, breaking) in [(512, &[][..]), (513, &["FreeRTOS"])] {
        breaks(breaking, |script| script.body_200 = format!("{:<bytes$}", script.body_200)).await;
    }
    let rows: [(usize, &[&str]); 4] =
        [(128, &[]), (129, &["FreeRTOS"]), (224, &["FreeRTOS"]), (225, &["FreeRTOS", "nRF"])];
    for (bytes, breaking) in rows {
        breaks(breaking, |script| {
            // Every client's request id is one character long in the second request.
            let topic = "$dps/registrations/res/200/?$rid={rid}&x=";
            let filled = bytes + "{rid}".len() - 1;
            script.topic_200 = format!("{topic:x<filled$}");
        })
        .await;
    }
}

/// DPS-BODY-8, DPS-ID-4, DPS-ID-8
#[tokio::test(start_paused = true)]
async fn nrf_holds_60_bytes_of_an_operation_id_63_of_a_hub_and_128_of_a_device_id() {
    for (bytes, breaking) in [(60, &[][..]), (61, &["nRF"])] {
        let operation_id = "5".repeat(bytes);
        breaks(breaking, |script| script.body_202 = script.body_202.replace("5.x", &operation_id)).await;
    }
    for (hub_bytes, id_bytes, fits) in [(63, 128, true), (64, 128, false), (63, 129, false)] {
        let (hub, device_id) = ("h".repeat(hub_bytes), "d".repeat(id_bytes));
        let outcome = told(&NRF, |script| {
            let mut body: Value = serde_json::from_str(&script.body_200).unwrap();
            body["registrationState"]["assignedHub"] = json!(hub);
            body["registrationState"]["deviceId"] = json!(device_id);
            script.body_200 = body.to_string();
        })
        .await;
        assert_eq!(matches!(outcome, Outcome::Assigned { .. }), fits, "{hub_bytes} {id_bytes}: {outcome:?}");
        assert_eq!(matches!(outcome, Outcome::Broken(_)), !fits, "{hub_bytes} {id_bytes}: {outcome:?}");
    }
}

/// DPS-REG-9
#[tokio::test(start_paused = true)]
async fn nrf_gives_up_after_ten_polls() {
    let mut script = Script::right();
    script.topic_200.clone_from(&script.topic_202);
    script.body_200.clone_from(&script.body_202);
    let report = NRF.run(script.serve(), SCOPE, DEVICE, &service::key("x")).await;
    assert_eq!((report.outcome, report.asked_at_s.len()), (Outcome::Broken("too many polls"), 11));
}

/// DPS-BODY-9: a body with both members of an operation is one, whatever the status of its topic.
#[tokio::test(start_paused = true)]
async fn java_takes_a_refusal_that_names_an_operation_for_an_answer() {
    for model in &ALL {
        let outcome = told(model, |script| {
            script.topic_202 = "$dps/registrations/res/401/?$rid={rid}&retry-after=3".into();
            script.body_202 = r#"{"errorCode":401002,"trackingId":"x","message":"x","operationId":"5.x","status":"assigning"}"#.into();
        })
        .await;
        match model.name {
            "C#" => assert_eq!(outcome, Outcome::Refused(401_002)),
            _ => assert_eq!(outcome, assigned(), "{}", model.name),
        }
    }
    let outcome = told(&AZURE_SDK_FOR_C, |script| script.body_202 = r#"{"errorCode":401002}"#.into()).await;
    assert_eq!(outcome, Outcome::Refused(401_002));
}
