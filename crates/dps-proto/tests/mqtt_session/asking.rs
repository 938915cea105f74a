//! Subscribing, asking and being answered. Spec: DPS-MQTT-8, DPS-MQTT-11 to DPS-MQTT-25.

use bytes::Bytes;
use dps_proto::mqtt::*;
use dps_proto::topic::{ANSWER_FILTER, BadTopic};

use crate::device::*;

/// DPS-MQTT-8, DPS-MQTT-25
#[test]
fn a_ping_is_answered_and_a_receipt_is_not() {
    let mut device = Device::subscribed(Qos::AtLeastOnce);
    assert_eq!(device.says(Packet::PingReq), [Output::Send(Bytes::from_static(&[0xD0, 0]))]);
    // DPS-MQTT-22
    for packet_id in [0, 1, 65_535] {
        assert_eq!(device.says(Packet::PubAck { packet_id }), []);
    }
}

/// DPS-MQTT-11, DPS-MQTT-12
#[test]
fn only_the_filter_of_answers_is_granted_and_with_qos_1_at_most() {
    let rows = [
        (ANSWER_FILTER, Qos::AtMostOnce, SubscribeCode::Granted(Qos::AtMostOnce)),
        (ANSWER_FILTER, Qos::AtLeastOnce, SubscribeCode::Granted(Qos::AtLeastOnce)),
        (ANSWER_FILTER, Qos::ExactlyOnce, SubscribeCode::Granted(Qos::AtLeastOnce)),
        ("#", Qos::AtLeastOnce, SubscribeCode::Refused),
        ("+", Qos::AtLeastOnce, SubscribeCode::Refused),
        ("$dps/#", Qos::AtLeastOnce, SubscribeCode::Refused),
        ("$dps/registrations/res/+", Qos::AtLeastOnce, SubscribeCode::Refused),
        ("$dps/registrations/res/200/?", Qos::AtLeastOnce, SubscribeCode::Refused),
        ("$dps/registrations/res/# ", Qos::AtLeastOnce, SubscribeCode::Refused),
        ("a#b", Qos::AtLeastOnce, SubscribeCode::Refused),
    ];
    for (filter, asked, code) in rows {
        let mut device = Device::connected();
        let sent = packets(&device.says(subscribe(3, filter, asked)));
        let [Packet::SubAck(SubAck { packet_id, codes })] = &sent[..] else {
            unreachable!("{filter}: {sent:?}")
        };
        assert_eq!((packet_id.get(), &codes[..]), (3, &[code][..]), "{filter}");
        assert!(!device.says(Packet::PingReq).is_empty(), "{filter}: the connection stays");
    }
}

/// DPS-MQTT-11
#[test]
fn a_subscribe_of_many_filters_is_answered_line_by_line() {
    let mut device = Device::connected();
    let line = |filter: &str| Subscription { filter: filter.into(), qos: Qos::AtLeastOnce };
    let subscriptions = vec![line("#"), line(ANSWER_FILTER), line("x")];
    let outputs =
        device.says(Packet::Subscribe(Subscribe { packet_id: 4.try_into().unwrap(), subscriptions }));
    assert_eq!(outputs, [Output::Send(Bytes::from_static(&[0x90, 5, 0, 4, 0x80, 1, 0x80]))]);
}

/// DPS-MQTT-13
#[test]
fn there_are_no_answers_between_unsubscribe_and_the_next_subscribe() {
    let mut device = Device::subscribed(Qos::AtLeastOnce);
    let unsubscribe = |packet_id: u16, filter: &str| {
        let (packet_id, filters) = (packet_id.try_into().unwrap(), vec![filter.into()]);
        Packet::Unsubscribe(Unsubscribe { packet_id, filters })
    };
    assert_eq!(device.says(unsubscribe(5, "other")), [Output::Send(Bytes::from_static(&[0xB0, 2, 0, 5]))]);
    device.says(publish(&format!("{REGISTER}1"), Qos::AtMostOnce, 0, ""));
    assert!(matches!(&device.is_answered(200, None, "{}")[..], [Output::Send(_)]));
    assert_eq!(
        device.says(unsubscribe(6, ANSWER_FILTER)),
        [Output::Send(Bytes::from_static(&[0xB0, 2, 0, 6]))]
    );
    device.says(publish(&format!("{REGISTER}2"), Qos::AtMostOnce, 0, ""));
    assert_eq!(device.is_answered(200, None, "{}"), [Output::Unanswered { rid: "2".into(), status: 200 }]);
    device.says(subscribe(7, ANSWER_FILTER, Qos::AtMostOnce));
    device.says(publish(&format!("{REGISTER}3"), Qos::AtMostOnce, 0, ""));
    assert!(matches!(&device.is_answered(200, None, "{}")[..], [Output::Send(_)]));
}

/// DPS-MQTT-15, DPS-MQTT-16
#[test]
fn a_publish_that_asks_nothing_closes_the_connection() {
    let rows = [
        ("$dps/registrations/PUT/iotdps-register/?rid=1", BadTopic::NoRequestId),
        ("$dps/registrations/GET/iotdps-get-operationstatus/?operationId=5", BadTopic::NoRequestId),
        ("$dps/registrations/res/200/?$rid=1", BadTopic::Unknown),
        ("devices/dev-1/messages/events/", BadTopic::Unknown),
    ];
    for (topic, why) in rows {
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
            let mut device = Device::subscribed(Qos::AtLeastOnce);
            let close = Output::Close(CloseReason::BadTopic { topic: topic.into(), why });
            assert_eq!(device.says(publish(topic, qos, 1, "")), [close], "{topic}");
        }
    }
    let mut device = Device::subscribed(Qos::AtLeastOnce);
    let outputs = device.says(publish(&format!("{REGISTER}1"), Qos::ExactlyOnce, 1, ""));
    assert_eq!(outputs, [Output::Close(CloseReason::Qos2Publish)]);
}

/// DPS-MQTT-15
#[test]
fn the_request_id_is_echoed_byte_for_byte_and_repeats_are_answered() {
    let longest = "r".repeat(1_024 - REGISTER.len());
    for rid in ["1", "1", "", "a=b", "ä b/%2F", "$rid", &longest] {
        let mut device = Device::subscribed(Qos::AtMostOnce);
        for _ in 0..2 {
            device.says(publish(&format!("{REGISTER}{rid}"), Qos::AtMostOnce, 0, ""));
            let sent = packets(&device.is_answered(503, Some(u32::MAX), "{}"));
            let [Packet::Publish(Publish { topic, .. })] = &sent[..] else { unreachable!("{rid}: {sent:?}") };
            let expected = format!("$dps/registrations/res/503/?$rid={rid}&retry-after=4294967295");
            assert_eq!(**topic, expected);
        }
    }
}

/// DPS-MQTT-20
#[test]
fn retry_after_stands_on_202_429_and_5xx_only() {
    for (status, stands) in [
        (200, false),
        (202, true),
        (400, false),
        (401, false),
        (404, false),
        (429, true),
        (500, true),
        (503, true),
    ] {
        let mut device = Device::subscribed(Qos::AtMostOnce);
        device.says(publish(&format!("{REGISTER}1"), Qos::AtMostOnce, 0, ""));
        let sent = packets(&device.is_answered(status, Some(3), "{}"));
        let [Packet::Publish(Publish { topic, .. })] = &sent[..] else { unreachable!("{status}: {sent:?}") };
        assert_eq!(topic.contains("retry-after"), stands, "{topic}");
    }
}

/// DPS-MQTT-21: nothing is sent before the answer is there; then both come in one write.
#[test]
fn the_receipt_and_the_answer_come_in_one_write_with_the_receipt_first() {
    let mut device = Device::subscribed(Qos::AtLeastOnce);
    let outputs = device.says(publish(&format!("{REGISTER}1"), Qos::AtLeastOnce, 77, "{}"));
    assert!(matches!(&outputs[..], [Output::Request(Request::Register { .. })]), "{outputs:?}");
    let outputs = device.is_answered(202, Some(3), "{}");
    assert_eq!(outputs.len(), 1, "{outputs:?}");
    let sent = packets(&outputs);
    let [Packet::PubAck { packet_id: 77 }, Packet::Publish(Publish { delivery, retain: false, .. })] =
        &sent[..]
    else {
        unreachable!("{sent:?}")
    };
    assert_eq!(*delivery, Delivery::AtLeastOnce { packet_id: 1.try_into().unwrap(), dup: false });
}

/// DPS-MQTT-21: 65,535 answers later the ids begin again, and 0 is left out.
#[test]
fn packet_ids_of_answers_run_from_1_to_65535_and_begin_again() {
    let mut device = Device::subscribed(Qos::AtLeastOnce);
    let register = publish(&format!("{REGISTER}1"), Qos::AtMostOnce, 0, "");
    for expected in (1..=65_535u16).chain([1, 2]) {
        device.says(register.clone());
        let sent = packets(&device.is_answered(200, None, ""));
        let [Packet::Publish(Publish { delivery: Delivery::AtLeastOnce { packet_id, dup: false }, .. })] =
            &sent[..]
        else {
            unreachable!("{sent:?}")
        };
        assert_eq!(packet_id.get(), expected);
    }
}

/// DPS-MQTT-23
#[test]
fn a_request_without_a_subscription_is_carried_out_and_its_receipt_sent() {
    let mut device = Device::connected();
    let outputs = device.says(publish(&format!("{REGISTER}1"), Qos::AtLeastOnce, 2, "{}"));
    assert!(matches!(&outputs[..], [Output::Request(Request::Register { .. })]), "{outputs:?}");
    let unanswered = Output::Unanswered { rid: "1".into(), status: 202 };
    let puback = Output::Send(Bytes::from_static(&[0x40, 2, 0, 2]));
    assert_eq!(device.is_answered(202, Some(3), "{}"), [puback, unanswered]);
}

/// DPS-MQTT-24
#[test]
fn requests_sent_ahead_wait_in_the_buffer_and_are_carried_out_in_order() {
    let mut device = Device::new();
    let ahead = [
        connect_as(Some(USER_NAME), "dev-1"),
        subscribe(1, ANSWER_FILTER, Qos::AtMostOnce),
        publish(&format!("{REGISTER}1"), Qos::AtMostOnce, 0, "first"),
        publish(&format!("{POLL}2&operationId=x"), Qos::AtLeastOnce, 9, " "),
        Packet::PingReq,
        Packet::Disconnect,
    ];
    let outputs = device.writes(&bytes_of(&ahead));
    assert!(matches!(&outputs[..], [Output::Login(_)]), "{outputs:?}");
    assert!(device.session.is_busy());
    assert_eq!(device.writes(&[]), [], "nothing goes on before the verdict");
    device.session.verdict(ConnectVerdict::Accept, device.now);
    assert_eq!(device.takes(), [Output::Send(Bytes::from_static(&[0x20, 2, 0, 0]))]);

    let suback = Output::Send(Bytes::from_static(&[0x90, 3, 0, 1, 0]));
    let first = Output::Request(Request::Register { payload: "first".into() });
    assert_eq!(device.writes(&[]), [suback, first]);
    assert_eq!(device.writes(&[]), [], "nothing goes on before the answer");
    assert_eq!(packets(&device.is_answered(202, Some(3), "{}")).len(), 1);

    assert_eq!(device.writes(&[]), [Output::Request(Request::Poll { operation_id: "x".into() })]);
    assert_eq!(packets(&device.is_answered(200, None, "{}")).len(), 2);
    let pong = Output::Send(Bytes::from_static(&[0xD0, 0]));
    assert_eq!(device.writes(&[]), [pong, Output::Close(CloseReason::Disconnected)]);
    assert!(device.buffer.is_empty());
}

/// DPS-MQTT-21
#[test]
fn an_answer_that_mqtt_cannot_say_ends_the_connection() {
    let mut device = Device::subscribed(Qos::AtMostOnce);
    device.says(publish(&format!("{REGISTER}1"), Qos::AtLeastOnce, 3, ""));
    let body = vec![0; 268_435_456].into();
    device.session.answer(Answer { status: 200, retry_after_s: None, body }, device.now);
    let puback = Output::Send(Bytes::from_static(&[0x40, 2, 0, 3]));
    assert_eq!(device.takes(), [puback, Output::Close(CloseReason::AnswerTooLarge)]);
}
