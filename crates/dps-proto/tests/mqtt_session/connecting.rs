//! Connecting and leaving. Spec: DPS-MQTT-1 to DPS-MQTT-10.

use bytes::{Bytes, BytesMut};
use dps_proto::login::BadUserName;
use dps_proto::mqtt::*;
use dps_proto::topic::ANSWER_FILTER;

use crate::device::*;

/// DPS-MQTT-1, DPS-MQTT-2, DPS-MQTT-3: the form is judged before anyone is asked.
#[test]
fn a_connect_of_bad_form_is_told_why_and_closed() {
    let rows = [
        (Some(""), "dev-1", 4),
        (None, "dev-1", 4),
        (Some("dev-1"), "dev-1", 4),
        (Some("0ne1/devices/dev-1/api-version=2019-03-31"), "dev-1", 4),
        (Some("x/registrations/dev-1/"), "dev-1", 4),
        (Some("0ne1/registrations/dev%2D1/"), "dev%2D1", 4),
        (Some(USER_NAME), "", 2),
        (Some(USER_NAME), "dev-2", 2),
        (Some(USER_NAME), "dev-11", 2),
    ];
    for (user_name, client_id, code) in rows {
        let mut device = Device::new();
        let outputs = device.says(connect_as(user_name, client_id));
        let [Output::Send(connack), Output::Close(CloseReason::RefusedConnect(refusal))] = &outputs[..]
        else {
            unreachable!("{user_name:?} {client_id}: {outputs:?}")
        };
        assert_eq!(connack[..], [0x20, 2, 0, code], "{user_name:?} {client_id}");
        assert_eq!(refusal.code() as u8, code);
    }
    let mut device = Device::new();
    let missing = CloseReason::RefusedConnect(ConnectRefusal::UserName(BadUserName::Missing));
    assert_eq!(device.says(connect_as(None, "dev-1")).pop(), Some(Output::Close(missing)));
}

/// DPS-MQTT-1: nothing past the level is read, for it is another protocol's.
#[test]
fn another_protocol_level_is_answered_connack_1() {
    let mqtt5 = b"\x10\x17\0\x04MQTT\x05\x02\0\x3C\x05\x11\0\0\0\x0A\0\x05dev-1";
    let mqtt31 = b"\x10\x11\0\x06MQIsdp\x03\x02\0\x3C\0\x03dev";
    for (bytes, level) in [(&mqtt5[..], 5), (&mqtt31[..], 3)] {
        let mut device = Device::new();
        let close = Output::Close(CloseReason::RefusedConnect(ConnectRefusal::Level { level }));
        assert_eq!(device.writes(bytes), [Output::Send(Bytes::from_static(&[0x20, 2, 0, 1])), close]);
    }
}

/// DPS-MQTT-3
#[test]
fn the_client_id_may_differ_from_the_registration_id_in_case() {
    let mut device = Device::new();
    let outputs = device.says(connect_as(Some(USER_NAME), "DEV-1"));
    assert!(matches!(&outputs[..], [Output::Login(login)] if &*login.client_id == "DEV-1"), "{outputs:?}");
}

/// DPS-MQTT-4
#[test]
fn an_unknown_id_scope_is_answered_connack_5() {
    let mut device = Device::new();
    device.says(connect_as(Some(USER_NAME), "dev-1"));
    device.session.verdict(ConnectVerdict::UnknownIdScope, device.now);
    let close = Output::Close(CloseReason::RefusedConnect(ConnectRefusal::UnknownIdScope));
    assert_eq!(device.takes(), [Output::Send(Bytes::from_static(&[0x20, 2, 0, 5])), close]);
}

/// DPS-MQTT-1: judged on the first byte; a PUBLISH of 96 KiB is not waited for.
#[test]
fn a_connection_that_begins_with_something_else_is_closed_without_an_answer() {
    for first_byte in [0x30, 0x82, 0xC0, 0xE0, 0x20, 0x00, 0xF0, b'G'] {
        let mut device = Device::new();
        let close = Output::Close(CloseReason::NotConnectFirst { first_byte });
        assert_eq!(device.writes(&[first_byte]), [close], "{first_byte:#x}");
    }
}

/// DPS-MQTT-9
#[test]
fn a_second_connect_closes_the_connection_at_its_first_byte() {
    let mut device = Device::subscribed(Qos::AtLeastOnce);
    assert_eq!(device.writes(&[0x10]), [Output::Close(CloseReason::SecondConnect)]);
}

/// DPS-MQTT-7
#[test]
fn a_will_and_the_retain_flag_are_ignored() {
    let will = Will { topic: "t".into(), message: "m".into(), qos: Qos::ExactlyOnce, retain: true };
    let credentials = Some(Credentials { user_name: USER_NAME.into(), password: None });
    let connect = Connect {
        clean_session: true,
        keep_alive_s: 0,
        client_id: "dev-1".into(),
        will: Some(will),
        credentials,
    };
    let mut device = Device::new();
    assert!(matches!(&device.says(Packet::Connect(connect))[..], [Output::Login(_)]));
    device.session.verdict(ConnectVerdict::Accept, device.now);
    device.says(subscribe(1, ANSWER_FILTER, Qos::AtMostOnce));
    let Packet::Publish(register) = publish(&format!("{REGISTER}1"), Qos::AtMostOnce, 0, "") else {
        unreachable!()
    };
    let outputs = device.says(Packet::Publish(Publish { retain: true, ..register }));
    assert_eq!(outputs, [Output::Request(Request::Register { payload: Bytes::new() })]);
    let sent = packets(&device.is_answered(200, None, "{}"));
    assert!(matches!(&sent[..], [Packet::Publish(Publish { retain: false, .. })]), "{sent:?}");
}

/// DPS-MQTT-10
#[test]
fn what_follows_disconnect_is_not_read() {
    let mut device = Device::subscribed(Qos::AtLeastOnce);
    let outputs = device.writes(&[0xC0, 0, 0xE0, 0, 0xC0, 0, 0xFF]);
    let pong = Output::Send(Bytes::from_static(&[0xD0, 0]));
    assert_eq!(outputs, [pong, Output::Close(CloseReason::Disconnected)]);
    assert_eq!(&device.buffer[..], &[0xC0, 0, 0xFF]);
    assert_eq!(device.writes(&[0xC0, 0]), []);
    assert_eq!(device.session.deadline(), None);
}

/// DPS-MQTT-29: the session says the reason that it is given, after what was still to be sent.
#[test]
fn a_connection_that_is_taken_over_sends_what_was_answered_and_ends() {
    let mut device = Device::subscribed(Qos::AtMostOnce);
    device.says(publish(&format!("{REGISTER}1"), Qos::AtMostOnce, 0, ""));
    device.session.answer(Answer { status: 200, retry_after_s: None, body: "{}".into() }, device.now);
    device.session.close(CloseReason::TakenOver);
    device.session.close(CloseReason::Shutdown);
    assert!(matches!(&device.takes()[..], [Output::Send(_), Output::Close(CloseReason::TakenOver)]));
    let mut asking = Device::subscribed(Qos::AtMostOnce);
    let register = bytes_of(&[publish(&format!("{REGISTER}1"), Qos::AtMostOnce, 0, "")]);
    asking.session.receive(&mut BytesMut::from(&register[..]), asking.now);
    asking.session.close(CloseReason::Shutdown);
    assert_eq!(asking.takes(), [Output::Close(CloseReason::Shutdown)], "the question is not asked any more");
}

/// DPS-MQTT-19: what is wrong with it is for the answers to tell.
#[test]
fn a_login_without_an_api_version_stays() {
    let mut device = Device::new();
    let outputs = device.says(connect_as(Some("0ne1/registrations/dev-1/"), "dev-1"));
    assert!(matches!(&outputs[..], [Output::Login(login)] if login.user.api_version.is_err()), "{outputs:?}");
}

/// DPS-MQTT-28: calls that come at the wrong time change nothing.
#[test]
fn a_verdict_or_answer_that_nobody_waits_for_does_nothing() {
    let mut device = Device::new();
    device.session.verdict(ConnectVerdict::Accept, device.now);
    device.session.attested(device.now);
    assert_eq!(device.is_answered(200, None, "{}"), []);
    assert_eq!(device.session.deadline(), Some(seconds(30)));
    device.says(connect_as(Some(USER_NAME), "dev-1"));
    assert_eq!(device.is_answered(200, None, "{}"), []);
    assert!(device.session.is_busy());
}

/// DPS-MQTT-5
#[test]
fn what_a_log_shows_of_a_login_or_a_request_holds_no_secret() {
    let credentials = Credentials { user_name: USER_NAME.into(), password: Some(Password::new(*b"hush")) };
    let mut device = Device::new();
    let login = device.says(Packet::Connect(Connect {
        clean_session: true,
        keep_alive_s: 0,
        client_id: "dev-1".into(),
        will: None,
        credentials: Some(credentials),
    }));
    device.session.verdict(ConnectVerdict::Accept, device.now);
    let request = device.says(publish(&format!("{REGISTER}1"), Qos::AtMostOnce, 0, "hush"));
    let text = format!("{login:?} {request:?}");
    assert!(text.contains("Password(..)") && text.contains("4 bytes") && !text.contains("hush"), "{text}");
    assert!(!device.buffer.windows(4).any(|bytes| bytes == b"hush"));
}
