//! What holds for every packet and every byte. Spec: DPS-MQTT-24, DPS-MQTT-26, DPS-MQTT-28.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::num::NonZeroU16;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dps_proto::mqtt::*;
use dps_proto::topic::ANSWER_FILTER;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

proptest! {
    /// DPS-MQTT-28
    #[test]
    fn every_packet_reads_back_as_it_was_written((packet, from) in any_packet()) {
        let mut buffer = BytesMut::new();
        encode(&packet, &mut buffer).unwrap();
        let bytes = buffer.clone();
        buffer.extend_from_slice(&[0xC0]);
        prop_assert_eq!(decode(&mut buffer, from), Ok(Some(packet)));
        prop_assert_eq!(&buffer[..], &[0xC0], "what follows is left alone");
        for end in 0..bytes.len() {
            let mut part = BytesMut::from(&bytes[..end]);
            prop_assert_eq!(decode(&mut part, from), Ok(None));
            prop_assert_eq!(&part[..], &bytes[..end], "and so is what is not whole");
        }
    }

    /// DPS-MQTT-28
    #[test]
    fn no_bytes_make_the_codec_panic(bytes in near_packets()) {
        for from in [Peer::Client, Peer::Server] {
            let mut buffer = BytesMut::from(&bytes[..]);
            let capacity = buffer.capacity();
            while let Ok(Some(packet)) = decode(&mut buffer, from) {
                let mut again = BytesMut::new();
                encode(&packet, &mut again).unwrap();
                prop_assert_eq!(decode(&mut again, from), Ok(Some(packet)));
            }
            prop_assert!(buffer.capacity() <= capacity, "nothing is reserved");
        }
    }

    /// DPS-MQTT-26, DPS-MQTT-28: what is judged early is judged as it would be late.
    #[test]
    fn bytes_that_come_in_pieces_say_the_same(bytes in near_packets(), pieces in vec(1..9usize, 1..64)) {
        for from in [Peer::Client, Peer::Server] {
            let mut whole = BytesMut::from(&bytes[..]);
            let expected: Vec<_> = read(&mut whole, from);
            let (mut buffer, mut outcomes, mut at) = (BytesMut::new(), Vec::new(), 0);
            for piece in pieces.iter().cycle() {
                if at == bytes.len() || outcomes.last().is_some_and(Result::is_err) {
                    break;
                }
                let end = bytes.len().min(at + piece);
                buffer.extend_from_slice(&bytes[at..end]);
                outcomes.extend(read(&mut buffer, from));
                at = end;
            }
            prop_assert_eq!(outcomes, expected);
        }
    }

    /// DPS-MQTT-24: a session that is fed piece by piece says and asks the same as one that is fed at once.
    #[test]
    fn a_session_does_not_care_how_its_bytes_are_cut(packets in vec(device_packet(), 0..12), piece in 1..40usize) {
        let mut stream = BytesMut::new();
        for packet in [connect()].iter().chain(&packets) {
            encode(packet, &mut stream).unwrap();
        }
        prop_assert_eq!(session_outputs(&stream, stream.len()), session_outputs(&stream, piece));
    }
}

/// Every outcome up to the first error or the end.
fn read(buffer: &mut BytesMut, from: Peer) -> Vec<Result<Packet, Malformed>> {
    let mut outcomes = Vec::new();
    while let Some(outcome) = decode(buffer, from).transpose() {
        let is_error = outcome.is_err();
        outcomes.push(outcome);
        if is_error {
            break;
        }
    }
    outcomes
}

/// The bytes sent, joined, and everything else that was put out.
fn session_outputs(stream: &[u8], piece: usize) -> (Vec<u8>, Vec<Output>) {
    let mut session = Session::new(Duration::ZERO, SessionLimits::default());
    let (mut buffer, mut sent, mut others) = (BytesMut::new(), Vec::new(), Vec::new());
    for arriving in stream.chunks(piece) {
        buffer.extend_from_slice(arriving);
        session.receive(&mut buffer, Duration::ZERO);
        while let Some(output) = session.poll() {
            match output {
                Output::Send(bytes) => {
                    sent.extend_from_slice(&bytes);
                    continue;
                }
                Output::Login(_) => session.verdict(ConnectVerdict::Accept, Duration::ZERO),
                Output::Request(_) => {
                    let body = Bytes::from_static(b"{}");
                    session.answer(Answer { status: 202, retry_after_s: Some(3), body }, Duration::ZERO);
                }
                Output::Unanswered { .. } | Output::Close(_) => {}
            }
            others.push(output);
            session.receive(&mut buffer, Duration::ZERO);
        }
    }
    (sent, others)
}

/// Bytes that are packets, nearly packets, or nothing of the kind.
fn near_packets() -> impl Strategy<Value = Vec<u8>> {
    let noise = vec(any::<u8>(), 0..64);
    let headed = (any::<u8>(), vec(any::<u8>(), 0..40)).prop_map(|(first_byte, body)| {
        let mut bytes = vec![first_byte, body.len() as u8];
        bytes.extend(body);
        bytes
    });
    let damaged = (vec(any_packet(), 1..4), vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)).prop_map(
        |(packets, damages)| {
            let mut bytes = BytesMut::new();
            for (packet, _) in packets {
                encode(&packet, &mut bytes).unwrap();
            }
            for (at, byte) in damages {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.to_vec()
        },
    );
    prop_oneof![noise, headed, damaged]
}

fn any_packet() -> impl Strategy<Value = (Packet, Peer)> {
    let client = prop_oneof![
        any_connect().prop_map(Packet::Connect),
        any::<u8>()
            .prop_filter("4 is served", |level| *level != 4)
            .prop_map(|level| Packet::ConnectOfOtherLevel { level }),
        any_publish().prop_map(Packet::Publish),
        any::<u16>().prop_map(|packet_id| Packet::PubAck { packet_id }),
        (id(), vec(subscription(), 1..5))
            .prop_map(|(packet_id, subscriptions)| Packet::Subscribe(Subscribe { packet_id, subscriptions })),
        (id(), vec(filter(), 1..5))
            .prop_map(|(packet_id, filters)| Packet::Unsubscribe(Unsubscribe { packet_id, filters })),
        Just(Packet::PingReq),
        Just(Packet::Disconnect),
    ];
    let server = prop_oneof![
        any_conn_ack().prop_map(Packet::ConnAck),
        any_publish().prop_map(Packet::Publish),
        any::<u16>().prop_map(|packet_id| Packet::PubAck { packet_id }),
        (id(), vec(code(), 1..5)).prop_map(|(packet_id, codes)| Packet::SubAck(SubAck { packet_id, codes })),
        id().prop_map(|packet_id| Packet::UnsubAck { packet_id }),
        Just(Packet::PingResp),
    ];
    prop_oneof![
        client.prop_map(|packet| (packet, Peer::Client)),
        server.prop_map(|packet| (packet, Peer::Server))
    ]
}

/// What a device may send once it is let in, requests first of all.
fn device_packet() -> impl Strategy<Value = Packet> {
    let topic = prop_oneof![
        "\\$dps/registrations/PUT/iotdps-register/\\?\\$rid=[a-z0-9]{0,9}",
        "\\$dps/registrations/GET/iotdps-get-operationstatus/\\?\\$rid=[0-9]&operationId=[a-z.%0-9]{0,9}",
    ];
    let request = (topic, delivery(), payload()).prop_map(|(topic, delivery, payload)| {
        Packet::Publish(Publish { topic: topic.into(), delivery, retain: false, payload })
    });
    let subscribe = (id(), qos()).prop_map(|(packet_id, qos)| {
        let subscriptions = vec![Subscription { filter: ANSWER_FILTER.into(), qos }];
        Packet::Subscribe(Subscribe { packet_id, subscriptions })
    });
    let any =
        any_packet().prop_filter_map("a device's", |(packet, from)| (from == Peer::Client).then_some(packet));
    prop_oneof![4 => request, 2 => subscribe, 1 => Just(Packet::PingReq), 1 => any]
}

fn connect() -> Packet {
    let user_name = "0ne1/registrations/dev-1/api-version=2019-03-31".into();
    Packet::Connect(Connect {
        clean_session: true,
        keep_alive_s: 0,
        client_id: "dev-1".into(),
        will: None,
        credentials: Some(Credentials { user_name, password: None }),
    })
}

fn any_connect() -> impl Strategy<Value = Connect> {
    let credentials = (text(), option::of(payload()))
        .prop_map(|(user_name, password)| Credentials { user_name, password: password.map(Password::new) });
    let will = (topic(), payload(), qos(), any::<bool>()).prop_map(|(topic, message, qos, retain)| Will {
        topic,
        message,
        qos,
        retain,
    });
    (any::<bool>(), any::<u16>(), text(), option::of(will), option::of(credentials)).prop_map(
        |(clean_session, keep_alive_s, client_id, will, credentials)| Connect {
            clean_session,
            keep_alive_s,
            client_id,
            will,
            credentials,
        },
    )
}

fn any_conn_ack() -> impl Strategy<Value = ConnAck> {
    (0..6u8, any::<bool>()).prop_map(|(code, present)| {
        let code = ConnectCode::from_byte(code).unwrap();
        ConnAck { session_present: present && code == ConnectCode::Accepted, code }
    })
}

fn any_publish() -> impl Strategy<Value = Publish> {
    (topic(), delivery(), any::<bool>(), payload()).prop_map(|(topic, delivery, retain, payload)| Publish {
        topic,
        delivery,
        retain,
        payload,
    })
}

fn delivery() -> impl Strategy<Value = Delivery> {
    prop_oneof![
        Just(Delivery::AtMostOnce),
        (id(), any::<bool>()).prop_map(|(packet_id, dup)| Delivery::AtLeastOnce { packet_id, dup }),
        (id(), any::<bool>()).prop_map(|(packet_id, dup)| Delivery::ExactlyOnce { packet_id, dup }),
    ]
}

fn subscription() -> impl Strategy<Value = Subscription> {
    (filter(), qos()).prop_map(|(filter, qos)| Subscription { filter, qos })
}

fn code() -> impl Strategy<Value = SubscribeCode> {
    prop_oneof![Just(SubscribeCode::Refused), qos().prop_map(SubscribeCode::Granted)]
}

fn qos() -> impl Strategy<Value = Qos> {
    prop_oneof![Just(Qos::AtMostOnce), Just(Qos::AtLeastOnce), Just(Qos::ExactlyOnce)]
}

fn id() -> impl Strategy<Value = NonZeroU16> {
    (1..=u16::MAX).prop_map(|id| id.try_into().unwrap())
}

fn text() -> impl Strategy<Value = Box<str>> {
    "[^\0]{0,20}".prop_map(Into::into)
}

fn topic() -> impl Strategy<Value = Box<str>> {
    "[^\0+#]{1,20}".prop_map(Into::into)
}

fn filter() -> impl Strategy<Value = Box<str>> {
    prop_oneof![Just(ANSWER_FILTER.into()), "[^\0]{1,20}".prop_map(Into::into)]
}

fn payload() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Into::into)
}
