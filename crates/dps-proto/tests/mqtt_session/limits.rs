//! How long a connection may take, and how much it holds. Spec: DPS-MQTT-8, DPS-MQTT-26, DPS-MQTT-27.

use std::time::Duration;

use dps_proto::mqtt::*;
use dps_proto::topic::ANSWER_FILTER;

use crate::device::*;

/// DPS-MQTT-27
#[test]
fn a_device_that_never_sends_connect_is_closed_after_thirty_seconds() {
    let mut device = Device::new();
    assert_eq!(device.writes(&[0x10]), []);
    assert_eq!(device.session.deadline(), Some(seconds(30)));
    assert_eq!(device.waits_until(Duration::from_millis(29_999)), []);
    let close = Output::Close(CloseReason::ConnectTimeout { within: seconds(30) });
    assert_eq!(device.waits_until(seconds(30)), [close]);
}

/// DPS-MQTT-27: bytes that come with the timer still pending do not help.
#[test]
fn a_connect_that_is_complete_too_late_is_not_read() {
    let mut device = Device::new();
    device.now = seconds(31);
    let outputs = device.says(connect_as(Some(USER_NAME), "dev-1"));
    assert_eq!(outputs, [Output::Close(CloseReason::ConnectTimeout { within: seconds(30) })]);
}

/// DPS-MQTT-27: neither packets nor failed requests put it off.
#[test]
fn a_device_that_is_not_attested_is_closed_sixty_seconds_after_connect() {
    let mut device = Device::new();
    device.now = seconds(20);
    device.says(connect_as(Some(USER_NAME), "dev-1"));
    device.session.verdict(ConnectVerdict::Accept, device.now);
    device.now = seconds(50);
    device.says(publish(&format!("{REGISTER}1"), Qos::AtMostOnce, 0, ""));
    device.is_answered(401, None, "{}");
    device.now = seconds(79);
    device.says(Packet::PingReq);
    let close = || vec![Output::Close(CloseReason::NotAttestedInTime { within: seconds(60) })];
    assert_eq!(device.session.deadline(), Some(seconds(80)));
    assert_eq!(device.waits_until(seconds(80)), close());

    let mut busy = Device::subscribed(Qos::AtMostOnce);
    busy.says(publish(&format!("{REGISTER}1"), Qos::AtMostOnce, 0, ""));
    assert_eq!(busy.waits_until(seconds(60)), close());
    assert_eq!(busy.is_answered(200, None, "{}"), [], "an answer after the end does nothing");
}

/// DPS-MQTT-27
#[test]
fn an_attested_device_is_closed_after_fifteen_minutes_without_a_packet() {
    let mut device = Device::subscribed(Qos::AtMostOnce);
    device.attested_at(seconds(10));
    assert_eq!(device.session.deadline(), Some(seconds(10 + 900)));
    device.now = seconds(800);
    device.says(Packet::PingReq);
    assert_eq!(device.waits_until(seconds(1_699)), []);
    assert_eq!(
        device.waits_until(seconds(1_700)),
        [Output::Close(CloseReason::Idle { after: seconds(900) })]
    );
}

/// DPS-MQTT-27: while the service works the device is not idle.
#[test]
fn the_time_of_an_answer_does_not_count_as_idle_or_against_the_keepalive() {
    let limits = SessionLimits { idle: seconds(20), ..SessionLimits::default() };
    let mut device = Device::with(limits, 10);
    device.attested_at(seconds(1));
    device.now = seconds(2);
    device.says(subscribe(1, ANSWER_FILTER, Qos::AtMostOnce));
    device.says(publish(&format!("{POLL}1&operationId=x"), Qos::AtMostOnce, 0, ""));
    assert_eq!(device.waits_until(seconds(200)), []);
    assert!(matches!(&device.is_answered(200, None, "{}")[..], [Output::Send(_)]));
    assert_eq!(device.session.deadline(), Some(seconds(215)));
}

/// DPS-MQTT-27: a service that never answers holds no connection for ever.
#[test]
fn a_request_that_is_never_answered_ends_with_the_fault_named() {
    let mut device = Device::subscribed(Qos::AtMostOnce);
    device.attested_at(seconds(1));
    device.says(publish(&format!("{REGISTER}1"), Qos::AtMostOnce, 0, ""));
    assert_eq!(device.waits_until(seconds(301)), [Output::Close(CloseReason::AnswerOverdue)]);
}

/// DPS-MQTT-8
#[test]
fn a_device_that_breaks_its_keepalive_is_closed_after_one_and_a_half_of_it() {
    let mut device = Device::with(SessionLimits::default(), 5);
    device.now = seconds(4);
    device.says(Packet::PingReq);
    assert_eq!(device.waits_until(Duration::from_millis(11_499)), []);
    let close = Output::Close(CloseReason::KeepAlive { keep_alive_s: 5 });
    assert_eq!(device.waits_until(Duration::from_millis(11_500)), [close]);
}

/// DPS-MQTT-8: two official clients say 0 and never ping.
#[test]
fn a_keepalive_of_zero_promises_nothing() {
    let mut device = Device::with(SessionLimits::default(), 0);
    device.attested_at(seconds(1));
    assert_eq!(device.waits_until(seconds(900)), []);
}

/// DPS-MQTT-26: ten thousand idle connections are ten thousand of these and nothing behind them.
#[test]
fn a_session_is_small() {
    let bytes = size_of::<Session>();
    assert!(bytes <= 256, "{bytes}");
}
