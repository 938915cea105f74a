//! The fuzz targets' checks over the committed corpus and mutations of it, without a fuzzer. Spec: DPS-MQTT-21,
//! DPS-MQTT-24, DPS-MQTT-28, DPS-SAS-1, DPS-LIMIT-15.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "it is a library of its own for the fuzz targets")]
mod checks;
#[path = "../../../fuzz/src/replay.rs"]
mod replay;

use std::path::Path;

/// How many mutations of the corpus are tried for each target.
const MUTATIONS: usize = 20_000;

/// DPS-MQTT-28
#[test]
fn every_packet_that_is_read_can_be_written_and_read_again() {
    replay("mqtt_packet", checks::mqtt_packet);
}

/// DPS-MQTT-21, DPS-MQTT-24
#[test]
fn a_session_keeps_its_promises_whatever_comes() {
    replay("mqtt_session", checks::mqtt_session);
}

/// DPS-MQTT-2, DPS-MQTT-14, DPS-SAS-1
#[test]
fn no_token_topic_or_user_name_makes_its_parser_panic() {
    replay("sas_token", checks::sas_token);
}

/// DPS-LIMIT-15
#[test]
fn a_header_of_a_balancer_is_the_same_however_it_comes() {
    replay("proxy_header", checks::proxy_header);
}

fn replay(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    replay::replay(&corpus, MUTATIONS, check);
}
