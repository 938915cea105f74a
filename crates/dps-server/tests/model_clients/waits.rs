//! How long each client waits: for the next poll, and for an answer.

use std::time::Duration;

use tokio::time::timeout;

use crate::models::{ALL, C_SDK, JAVA};
use crate::reading::Outcome;
use crate::script::Script;
use crate::{DEVICE, SCOPE, assigned, service};

/// DPS-REG-9: no other value than 2 to 5 is honoured by all.
#[tokio::test(start_paused = true)]
async fn only_a_retry_after_of_2_to_5_seconds_is_honoured_by_everyone() {
    // Seconds to the first poll of C#, Java, C, azure-sdk-for-c, FreeRTOS, NetX, nRF; none where the client breaks first.
    type Waits = [Option<u64>; 7];
    let [one, two, three, nine] = [Some(1), Some(2), Some(3), Some(9)];
    let rows: [(&str, Waits); 7] = [
        ("", [two, two, one, None, three, None, Some(20)]),
        ("&retry-after=1", [two, two, one, one, one, one, one]),
        ("&retry-after=2", [two; 7]),
        ("&retry-after=3", [three; 7]),
        ("&retry-after=5", [Some(5); 7]),
        ("&retry-after=9", [nine, two, nine, nine, nine, nine, nine]),
        ("&retry-after=301", [None, two, one, Some(301), Some(301), Some(301), None]),
    ];
    for (end, waits) in rows {
        for (model, wait_s) in ALL.iter().zip(waits) {
            let script = Script {
                topic_202: format!("$dps/registrations/res/202/?$rid={{rid}}{end}"),
                ..Script::right()
            };
            let report = model.run(script.serve(), SCOPE, DEVICE, &service::key("x")).await;
            assert_eq!(report.asked_at_s.get(1).copied(), wait_s, "{} {end:?}", model.name);
        }
    }
}

/// DPS-MQTT-21
#[tokio::test(start_paused = true)]
async fn a_late_answer_loses_the_impatient_and_c_waits_for_it_for_ever() {
    let rows: [(u64, &[&str]); 4] =
        [(9, &[]), (11, &["Java"]), (61, &["C#", "Java"]), (91, &["C#", "Java", "nRF"])];
    for (seconds, impatient) in rows {
        for model in &ALL {
            let script = Script { answers_after: Duration::from_secs(seconds), ..Script::right() };
            let outcome = model.run(script.serve(), SCOPE, DEVICE, &service::key("x")).await.outcome;
            if impatient.contains(&model.name) {
                assert!(matches!(outcome, Outcome::Broken(_)), "{} waits {seconds} s", model.name);
            } else {
                assert_eq!(outcome, assigned(), "{} after {seconds} s", model.name);
            }
        }
    }
    for (model, is_patient) in [(&C_SDK, true), (&JAVA, false)] {
        let script = Script { answers_after: Duration::from_secs(1_000_000), ..Script::right() };
        let key = service::key("x");
        let run = model.run(script.serve(), SCOPE, DEVICE, &key);
        assert_eq!(
            timeout(Duration::from_secs(24 * 3_600), run).await.is_err(),
            is_patient,
            "{}",
            model.name
        );
    }
}
