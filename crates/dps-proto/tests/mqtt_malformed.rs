//! Malformed packets, each refused by its own name. Spec: DPS-MQTT-26, DPS-MQTT-28.
//!
//! The rows marked `laxity` are those that at least one existing MQTT codec lets through or dies of.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::BytesMut;
use dps_proto::mqtt::{
    CloseReason, ConnectVerdict, Field, Kind, Limit, Malformed, Output, Peer, Session, SessionLimits, decode,
};

/// DPS-MQTT-28: whole, byte by byte, and with a good packet behind it.
#[test]
fn every_malformed_packet_is_refused_by_name() {
    for row in rows() {
        check(&row);
    }
}

/// DPS-MQTT-28
#[test]
fn every_misbehaviour_that_has_a_name_has_a_row() {
    let name = |row: &Row| format!("{:?}", row.expected).split([' ', '(']).next().map(str::to_owned);
    let names: BTreeSet<_> = rows().iter().filter_map(name).collect();
    assert_eq!(names.len(), 26, "{names:?}");
    assert!(rows().len() >= 120);
}

/// DPS-MQTT-1, DPS-MQTT-9, DPS-MQTT-28: the session closes, tells why, and sends nothing.
#[test]
fn a_session_closes_at_a_malformed_packet_and_answers_nothing() {
    for row in rows().iter().filter(|row| row.from == Peer::Client && row.bytes.len() > 1) {
        let is_connect = Kind::of(row.bytes[0]) == Some(Kind::Connect);
        let new = || Session::new(Duration::ZERO, SessionLimits::default());
        let mut session = if is_connect { new() } else { connected() };
        let expected = CloseReason::Malformed(row.expected);
        session.receive(&mut BytesMut::from(&row.bytes[..]), Duration::ZERO);
        assert_eq!(session.poll(), Some(Output::Close(expected)), "{}", row.name);
        assert_eq!(session.poll(), None, "{}", row.name);
    }
}

/// DPS-MQTT-26: judged on the announced length, with nothing reserved for it.
#[test]
fn a_packet_that_is_too_large_is_refused_before_its_body_comes() {
    let connect = |remaining| header_only(0x10, remaining);
    let publish =
        |topic: u16, remaining| [header_only(0x30, remaining), topic.to_be_bytes().to_vec()].concat();
    let rows = [
        (connect(8_192), None),
        (connect(8_193), Some(oversize(Limit::Connect, 8_193))),
        (header_only(0x82, 4_096), None),
        (header_only(0x82, 4_097), Some(oversize(Limit::Subscribe, 4_097))),
        (header_only(0xA2, 4_096), None),
        (header_only(0xA2, 4_097), Some(oversize(Limit::Unsubscribe, 4_097))),
        (publish(1_024, 2 + 1_024 + 98_304), None),
        (publish(1_024, 2 + 1_024 + 98_305), Some(oversize(Limit::Payload, 98_305))),
        (publish(1_025, 2_000), Some(oversize(Limit::Topic, 1_025))),
        (publish(1, 2 + 1 + 98_305), Some(oversize(Limit::Payload, 98_305))),
        (header_only(0x30, 268_435_455), Some(oversize(Limit::Publish, 268_435_455))),
    ];
    for (bytes, expected) in rows {
        let mut buffer = BytesMut::from(&bytes[..]);
        let capacity = buffer.capacity();
        let outcome = decode(&mut buffer, Peer::Client);
        assert_eq!(outcome, expected.map_or(Ok(None), Err), "{bytes:02x?}");
        assert_eq!(buffer.capacity(), capacity, "{bytes:02x?}");
    }
}

struct Row {
    name: String,
    from: Peer,
    bytes: Vec<u8>,
    expected: Malformed,
}

#[track_caller]
fn check(row: &Row) {
    let Row { name, from, bytes, expected } = row;
    let followed = [&bytes[..], &[0xC0, 0x00]].concat();
    for whole in [bytes, &followed] {
        assert_eq!(decode(&mut BytesMut::from(&whole[..]), *from), Err(*expected), "{name}: {whole:02x?}");
    }
    let mut buffer = BytesMut::new();
    let first_outcome = bytes.iter().find_map(|byte| {
        buffer.extend_from_slice(&[*byte]);
        decode(&mut buffer, *from).transpose()
    });
    assert_eq!(first_outcome, Some(Err(*expected)), "{name}: byte by byte {bytes:02x?}");
}

fn connected() -> Session {
    let user_name = text("0ne1/registrations/dev/api-version=2019-03-31");
    let connect = packet(0x10, &[&connect_head(0x82)[..], &text("dev"), &user_name].concat());
    let mut session = Session::new(Duration::ZERO, SessionLimits::default());
    session.receive(&mut BytesMut::from(&connect[..]), Duration::ZERO);
    session.verdict(ConnectVerdict::Accept, Duration::ZERO);
    while session.poll().is_some() {}
    session
}

fn rows() -> Vec<Row> {
    [headers(), lengths(), connects(), publishes(), subscribes(), unsubscribes(), from_the_service()]
        .into_iter()
        .flatten()
        .collect()
}

fn client(name: &str, bytes: Vec<u8>, expected: Malformed) -> Row {
    Row { name: name.to_owned(), from: Peer::Client, bytes, expected }
}

fn server(name: &str, bytes: Vec<u8>, expected: Malformed) -> Row {
    Row { name: name.to_owned(), from: Peer::Server, bytes, expected }
}

/// A packet whose header announces what follows it.
fn packet(first_byte: u8, body: &[u8]) -> Vec<u8> {
    [header_only(first_byte, body.len()), body.to_vec()].concat()
}

fn header_only(first_byte: u8, mut remaining: usize) -> Vec<u8> {
    let mut bytes = vec![first_byte];
    loop {
        let more = if remaining > 0x7F { 0x80 } else { 0 };
        bytes.push((remaining & 0x7F) as u8 | more);
        remaining >>= 7;
        if remaining == 0 {
            return bytes;
        }
    }
}

fn text(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&(text.len() as u16).to_be_bytes()[..], text].concat()
}

fn connect_head(flags: u8) -> Vec<u8> {
    [&text("MQTT")[..], &[4, flags, 0, 60]].concat()
}

fn oversize(limit: Limit, bytes: usize) -> Malformed {
    Malformed::Oversize { limit, bytes }
}

fn headers() -> Vec<Row> {
    let mut rows = vec![
        client("type 0", vec![0x00, 0x00], Malformed::ReservedType(0)),
        client("type 15", vec![0xF0, 0x00], Malformed::ReservedType(15)),
        server("type 0 from the service", vec![0x00, 0x00], Malformed::ReservedType(0)),
        server("type 15 from the service", vec![0xF0, 0x00], Malformed::ReservedType(15)),
        client("laxity: CONNECT flags 1", vec![0x11, 0x00], flags(Kind::Connect, 1)),
        client("laxity: SUBSCRIBE flags 0", vec![0x80, 0x00], flags(Kind::Subscribe, 0)),
        client("laxity: DISCONNECT flags 1", vec![0xE1, 0x00], flags(Kind::Disconnect, 1)),
        client("PUBLISH of QoS 3", vec![0x36, 0x00], Malformed::PublishQos3),
        client("PUBLISH of QoS 3, retained", vec![0x37, 0x00], Malformed::PublishQos3),
        client("PUBLISH of QoS 3, again", vec![0x3E, 0x00], Malformed::PublishQos3),
        client("PUBLISH of QoS 0, again", vec![0x38, 0x00], Malformed::DupWithoutQos),
        client("PUBLISH of QoS 0, again and retained", vec![0x39, 0x00], Malformed::DupWithoutQos),
    ];
    let to_the_service = [Kind::Connect, Kind::Subscribe, Kind::Unsubscribe, Kind::PingReq, Kind::Disconnect];
    let to_the_device = [Kind::ConnAck, Kind::SubAck, Kind::UnsubAck, Kind::PingResp];
    let first_byte = |kind: Kind, flags: u8| (kind as u8) << 4 | flags;
    for kind in to_the_device {
        rows.push(client("sent to devices only", vec![first_byte(kind, 0), 0], Malformed::WrongSide(kind)));
        rows.push(server("flags", vec![first_byte(kind, 4), 0], flags(kind, 4)));
    }
    for kind in to_the_service {
        rows.push(server("sent by devices only", vec![first_byte(kind, 2), 0], Malformed::WrongSide(kind)));
    }
    for kind in [Kind::PubRec, Kind::PubRel, Kind::PubComp] {
        let bytes = vec![first_byte(kind, 2 * u8::from(kind == Kind::PubRel)), 2, 0, 1];
        rows.push(client("QoS 2 handshake", bytes.clone(), Malformed::Qos2Handshake(kind)));
        rows.push(server("QoS 2 handshake", bytes, Malformed::Qos2Handshake(kind)));
    }
    for wrong in [1, 2, 4, 8, 15] {
        for kind in [Kind::Connect, Kind::PubAck, Kind::PingReq, Kind::Disconnect] {
            rows.push(client("flags", vec![first_byte(kind, wrong), 0], flags(kind, wrong)));
        }
    }
    for wrong in [0, 1, 3, 6, 10, 15] {
        for kind in [Kind::Subscribe, Kind::Unsubscribe] {
            rows.push(client("flags", vec![first_byte(kind, wrong), 0], flags(kind, wrong)));
        }
    }
    rows
}

fn flags(kind: Kind, flags: u8) -> Malformed {
    Malformed::HeaderFlags { kind, flags }
}

fn lengths() -> Vec<Row> {
    let too_long = Malformed::RemainingLength;
    let fixed = |kind, remaining| Malformed::FixedLength { kind, remaining };
    vec![
        client("laxity: five bytes of length", vec![0x10, 0x80, 0x80, 0x80, 0x80, 0x01], too_long),
        client("five bytes of length, all set", vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F], too_long),
        client("a length that goes on and on", vec![0xC0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80], too_long),
        server("five bytes of length", vec![0x30, 0x80, 0x80, 0x80, 0x80, 0x01], too_long),
        client("CONNECT too large", header_only(0x10, 8_193), oversize(Limit::Connect, 8_193)),
        client("CONNECT of 256 MiB", header_only(0x10, 268_435_455), oversize(Limit::Connect, 268_435_455)),
        client("SUBSCRIBE too large", header_only(0x82, 4_097), oversize(Limit::Subscribe, 4_097)),
        client("UNSUBSCRIBE too large", header_only(0xA2, 4_097), oversize(Limit::Unsubscribe, 4_097)),
        client("PUBLISH of 256 MiB", header_only(0x30, 268_435_455), oversize(Limit::Publish, 268_435_455)),
        server("SUBACK too large", header_only(0x90, 4_097), oversize(Limit::SubAck, 4_097)),
        client("PUBACK of 0 bytes", vec![0x40, 0x00], fixed(Kind::PubAck, 0)),
        client("PUBACK of 1 byte", vec![0x40, 0x01, 0x00], fixed(Kind::PubAck, 1)),
        client("PUBACK of 3 bytes", vec![0x40, 0x03, 0x00, 0x01, 0x00], fixed(Kind::PubAck, 3)),
        client("PINGREQ of 1 byte", vec![0xC0, 0x01, 0x00], fixed(Kind::PingReq, 1)),
        client(
            "DISCONNECT of 2 bytes, as in MQTT 5",
            vec![0xE0, 0x02, 0x00, 0x00],
            fixed(Kind::Disconnect, 2),
        ),
        client("DISCONNECT of 256 MiB", header_only(0xE0, 268_435_455), fixed(Kind::Disconnect, 268_435_455)),
        server("CONNACK of 3 bytes, as in MQTT 5", vec![0x20, 0x03, 0, 0, 0], fixed(Kind::ConnAck, 3)),
        server("CONNACK of 0 bytes", vec![0x20, 0x00], fixed(Kind::ConnAck, 0)),
        server("UNSUBACK of 4 bytes", vec![0xB0, 0x04, 0, 1, 0, 0], fixed(Kind::UnsubAck, 4)),
        server("PINGRESP of 1 byte", vec![0xD0, 0x01, 0x00], fixed(Kind::PingResp, 1)),
    ]
}

fn connects() -> Vec<Row> {
    let connect = |head: Vec<u8>, fields: &[Vec<u8>]| packet(0x10, &[head, fields.concat()].concat());
    let (id, user) = (text("dev"), text("0ne1/registrations/dev/"));
    let only_id = std::slice::from_ref(&id);
    let nul = |field| Malformed::Nul(field);
    let ends = |field| Malformed::EndsInside(field);
    let trailing = |bytes| Malformed::TrailingBytes { kind: Kind::Connect, bytes };
    vec![
        client("empty", vec![0x10, 0x00], ends(Field::ProtocolName)),
        client("half a name length", vec![0x10, 0x01, 0x00], ends(Field::ProtocolName)),
        client("laxity: nothing after the name", packet(0x10, &text("MQTT")), ends(Field::ProtocolLevel)),
        client("nothing after the level", packet(0x10, b"\0\x04MQTT\x04"), ends(Field::ConnectFlags)),
        client("nothing after the flags", packet(0x10, b"\0\x04MQTT\x04\x02"), ends(Field::KeepAlive)),
        client("half a keepalive", packet(0x10, b"\0\x04MQTT\x04\x02\0"), ends(Field::KeepAlive)),
        client("no client id", connect(connect_head(2), &[]), ends(Field::ClientId)),
        client("a client id cut short", connect(connect_head(2), &[vec![0, 9, b'd']]), ends(Field::ClientId)),
        client("a client id of 64 KiB", connect(connect_head(2), &[vec![0xFF, 0xFF]]), ends(Field::ClientId)),
        client("no user name", connect(connect_head(0x82), only_id), ends(Field::UserName)),
        client(
            "no password",
            connect(connect_head(0xC2), &[id.clone(), user.clone()]),
            ends(Field::Password),
        ),
        client("no will topic", connect(connect_head(0x06), only_id), ends(Field::WillTopic)),
        client(
            "no will message",
            connect(connect_head(6), &[id.clone(), text("t")]),
            ends(Field::WillMessage),
        ),
        client("laxity: another protocol", packet(0x10, b"\0\x04MQXX\x04\x02"), Malformed::ProtocolName),
        client("the name in lower case", packet(0x10, b"\0\x04mqtt\x04\x02"), Malformed::ProtocolName),
        client("an empty name", packet(0x10, b"\0\0\x04\x02"), Malformed::ProtocolName),
        client("the old name with level 4", packet(0x10, b"\0\x06MQIsdp\x04\x02"), Malformed::ProtocolName),
        client("a name with more behind", packet(0x10, b"\0\x05MQTTX\x04\x02"), Malformed::ProtocolName),
        client("laxity: reserved flag", connect(connect_head(3), only_id), Malformed::ConnectReservedFlag),
        client("reserved flag alone", connect(connect_head(1), only_id), Malformed::ConnectReservedFlag),
        client(
            "laxity: will of QoS 3",
            connect(connect_head(0x1E), &[id.clone(), text("t"), text("m")]),
            Malformed::WillQos3,
        ),
        client("QoS 3 without a will", connect(connect_head(0x1A), only_id), Malformed::WillQos3),
        client("will QoS, no will", connect(connect_head(0x0A), only_id), Malformed::WillFlagsWithoutWill),
        client("will QoS 2, no will", connect(connect_head(0x12), only_id), Malformed::WillFlagsWithoutWill),
        client("will retain, no will", connect(connect_head(0x22), only_id), Malformed::WillFlagsWithoutWill),
        client(
            "laxity: a password without a user name",
            connect(connect_head(0x42), &[id.clone(), text("secret")]),
            Malformed::PasswordWithoutUserName,
        ),
        client(
            "laxity: NUL in the client id",
            connect(connect_head(2), &[text("d\0v")]),
            nul(Field::ClientId),
        ),
        client("a client id of one NUL", connect(connect_head(2), &[text("\0")]), nul(Field::ClientId)),
        client(
            "NUL in user name",
            connect(connect_head(0x82), &[id.clone(), text("u\0")]),
            nul(Field::UserName),
        ),
        client(
            "NUL in the will topic",
            connect(connect_head(6), &[id.clone(), text("t\0"), text("")]),
            nul(Field::WillTopic),
        ),
        client(
            "laxity: a client id that is not UTF-8",
            connect(connect_head(2), &[text([0xC3, 0x28])]),
            Malformed::NotUtf8(Field::ClientId),
        ),
        client(
            "laxity: a surrogate in the client id",
            connect(connect_head(2), &[text([0xED, 0xA0, 0x80])]),
            Malformed::NotUtf8(Field::ClientId),
        ),
        client(
            "an overlong slash in the user name",
            connect(connect_head(0x82), &[id.clone(), text([0xC0, 0xAF])]),
            Malformed::NotUtf8(Field::UserName),
        ),
        client(
            "a user name cut inside a character",
            connect(connect_head(0x82), &[id.clone(), text([b'u', 0xE2, 0x82])]),
            Malformed::NotUtf8(Field::UserName),
        ),
        client(
            "a character above U+10FFFF in the will topic",
            connect(connect_head(6), &[id.clone(), text([0xF4, 0x90, 0x80, 0x80]), text("")]),
            Malformed::NotUtf8(Field::WillTopic),
        ),
        client(
            "an empty will topic",
            connect(connect_head(6), &[id.clone(), text(""), text("m")]),
            Malformed::Empty(Field::WillTopic),
        ),
        client(
            "a wildcard in the will topic",
            connect(connect_head(6), &[id.clone(), text("a/#"), text("m")]),
            Malformed::Wildcard(Field::WillTopic),
        ),
        client("laxity: trailing bytes", connect(connect_head(2), &[id.clone(), vec![0]]), trailing(1)),
        client(
            "a user name that no flag announces",
            connect(connect_head(2), &[id.clone(), user.clone()]),
            trailing(25),
        ),
        client(
            "a password that no flag announces",
            connect(connect_head(0x82), &[id.clone(), user.clone(), text("secret")]),
            trailing(8),
        ),
    ]
}

fn publishes() -> Vec<Row> {
    let topic = |bytes: &[u8]| packet(0x30, &text(bytes));
    let ends = |field| Malformed::EndsInside(field);
    let long = [header_only(0x30, 1_100), text([b'a'; 1_025]), vec![0; 73]].concat();
    let large = [header_only(0x30, 2 + 1 + 98_305), text("t")].concat();
    let large_qos1 = [header_only(0x32, 2 + 1 + 2 + 98_305), text("t")].concat();
    vec![
        client("empty", vec![0x30, 0x00], ends(Field::Topic)),
        client("half a topic length", vec![0x30, 0x01, 0x00], ends(Field::Topic)),
        client("a topic cut short", packet(0x30, &[0, 5, b't']), ends(Field::Topic)),
        client("a topic length over the packet's", packet(0x30, &[0x04, 0x00, b't']), ends(Field::Topic)),
        client("laxity: QoS 1, no packet id", packet(0x32, &text("t")), ends(Field::PacketId)),
        client("QoS 1, half a packet id", packet(0x32, b"\0\x01t\0"), ends(Field::PacketId)),
        client("QoS 2, no packet id", packet(0x34, &text("t")), ends(Field::PacketId)),
        client("QoS 1, packet id 0", packet(0x32, b"\0\x01t\0\0"), Malformed::PacketIdZero(Kind::Publish)),
        client(
            "QoS 1 again, packet id 0",
            packet(0x3A, b"\0\x01t\0\0"),
            Malformed::PacketIdZero(Kind::Publish),
        ),
        client("QoS 2, packet id 0", packet(0x34, b"\0\x01t\0\0"), Malformed::PacketIdZero(Kind::Publish)),
        client("an empty topic", topic(b""), Malformed::Empty(Field::Topic)),
        client("an empty topic with a payload", packet(0x30, b"\0\0{}"), Malformed::Empty(Field::Topic)),
        client("laxity: # in the topic", topic(b"$dps/#"), Malformed::Wildcard(Field::Topic)),
        client("laxity: + in the topic", topic(b"$dps/+/res"), Malformed::Wildcard(Field::Topic)),
        client("a topic of one wildcard", topic(b"#"), Malformed::Wildcard(Field::Topic)),
        client(
            "a wildcard in the request id",
            topic(b"$dps/registrations/PUT/iotdps-register/?$rid=a+b"),
            Malformed::Wildcard(Field::Topic),
        ),
        client("NUL in the topic", topic(b"t\0"), Malformed::Nul(Field::Topic)),
        client("a topic that is not UTF-8", topic(&[0xFF]), Malformed::NotUtf8(Field::Topic)),
        client("a surrogate in the topic", topic(&[0xED, 0xBF, 0xBF]), Malformed::NotUtf8(Field::Topic)),
        client("a long topic", long, oversize(Limit::Topic, 1_025)),
        client("a large payload", large, oversize(Limit::Payload, 98_305)),
        client("a large payload of QoS 1", large_qos1, oversize(Limit::Payload, 98_305)),
    ]
}

fn subscribes() -> Vec<Row> {
    let subscribe = |id: u16, lines: &[u8]| packet(0x82, &[&id.to_be_bytes()[..], lines].concat());
    let line = |filter: &[u8], qos: u8| [text(filter), vec![qos]].concat();
    let ends = |field| Malformed::EndsInside(field);
    let reserved = Malformed::SubscribeReservedBits;
    vec![
        client("empty", vec![0x82, 0x00], ends(Field::PacketId)),
        client("half a packet id", vec![0x82, 0x01, 0x00], ends(Field::PacketId)),
        client("nothing subscribed", subscribe(1, &[]), Malformed::NoFilters(Kind::Subscribe)),
        client("laxity: packet id 0", subscribe(0, &line(b"a", 1)), Malformed::PacketIdZero(Kind::Subscribe)),
        client("packet id 0 and nothing else", subscribe(0, &[]), Malformed::PacketIdZero(Kind::Subscribe)),
        client("laxity: an empty filter", subscribe(1, &line(b"", 1)), Malformed::Empty(Field::Filter)),
        client(
            "an empty filter after a good one",
            subscribe(1, &[line(b"a", 0), line(b"", 0)].concat()),
            Malformed::Empty(Field::Filter),
        ),
        client("laxity: QoS 3", subscribe(1, &line(b"a", 3)), Malformed::SubscribeQos3),
        client("a bit beside the QoS", subscribe(1, &line(b"a", 0x04)), reserved),
        client("options as in MQTT 5", subscribe(1, &line(b"a", 0x2D)), reserved),
        client("all bits", subscribe(1, &line(b"a", 0xFF)), reserved),
        client("no QoS", subscribe(1, &text("a")), ends(Field::SubscribeQos)),
        client("half a filter length", subscribe(1, &[0]), ends(Field::Filter)),
        client("a filter cut short", subscribe(1, &[0, 9, b'a']), ends(Field::Filter)),
        client("a filter of 64 KiB", subscribe(1, &[0xFF, 0xFF, b'a']), ends(Field::Filter)),
        client(
            "a byte after the last line",
            subscribe(1, &[line(b"a", 1), vec![0]].concat()),
            ends(Field::Filter),
        ),
        client("NUL in a filter", subscribe(1, &line(b"a\0", 1)), Malformed::Nul(Field::Filter)),
        client(
            "a filter that is not UTF-8",
            subscribe(1, &line(&[0x80], 1)),
            Malformed::NotUtf8(Field::Filter),
        ),
        client(
            "properties as in MQTT 5",
            packet(0x82, &[&[0, 1, 0][..], &line(b"$dps/registrations/res/#", 1)].concat()),
            Malformed::Empty(Field::Filter),
        ),
    ]
}

fn unsubscribes() -> Vec<Row> {
    let unsubscribe = |id: u16, filters: &[u8]| packet(0xA2, &[&id.to_be_bytes()[..], filters].concat());
    let ends = |field| Malformed::EndsInside(field);
    vec![
        client("empty", vec![0xA2, 0x00], ends(Field::PacketId)),
        client("nothing unsubscribed", unsubscribe(1, &[]), Malformed::NoFilters(Kind::Unsubscribe)),
        client("packet id 0", unsubscribe(0, &text("a")), Malformed::PacketIdZero(Kind::Unsubscribe)),
        client("an empty filter", unsubscribe(1, &text("")), Malformed::Empty(Field::Filter)),
        client("a filter cut short", unsubscribe(1, &[0, 2, b'a']), ends(Field::Filter)),
        client("a byte after the last filter", unsubscribe(1, b"\0\x01a\0"), ends(Field::Filter)),
        client("NUL in a filter", unsubscribe(1, &text("\0")), Malformed::Nul(Field::Filter)),
        client(
            "a filter that is not UTF-8",
            unsubscribe(1, &text([0xFE])),
            Malformed::NotUtf8(Field::Filter),
        ),
    ]
}

fn from_the_service() -> Vec<Row> {
    let code = |kind, code| Malformed::ReturnCode { kind, code };
    let long = [header_only(0x30, 2_000), text([b'a'; 1_100])].concat();
    vec![
        server("CONNACK 6", vec![0x20, 2, 0, 6], code(Kind::ConnAck, 6)),
        server("CONNACK 0x84, as in MQTT 5", vec![0x20, 2, 0, 0x84], code(Kind::ConnAck, 0x84)),
        server("CONNACK with reserved flags", vec![0x20, 2, 2, 0], Malformed::ConnAckFlags(2)),
        server("CONNACK with all flags", vec![0x20, 2, 0xFF, 0], Malformed::ConnAckFlags(0xFF)),
        server("a refusal with session-present", vec![0x20, 2, 1, 5], Malformed::ConnAckFlags(1)),
        server("SUBACK with nothing in it", vec![0x90, 2, 0, 1], Malformed::NoFilters(Kind::SubAck)),
        server("SUBACK 3", vec![0x90, 3, 0, 1, 3], code(Kind::SubAck, 3)),
        server("SUBACK 0x87, as in MQTT 5", vec![0x90, 3, 0, 1, 0x87], code(Kind::SubAck, 0x87)),
        server("SUBACK of packet id 0", vec![0x90, 3, 0, 0, 1], Malformed::PacketIdZero(Kind::SubAck)),
        server("SUBACK of 1 byte", vec![0x90, 1, 0], Malformed::EndsInside(Field::PacketId)),
        server("UNSUBACK of packet id 0", vec![0xB0, 2, 0, 0], Malformed::PacketIdZero(Kind::UnsubAck)),
        server("a message with a wildcard", packet(0x30, &text("a/#")), Malformed::Wildcard(Field::Topic)),
        server(
            "a message of packet id 0",
            packet(0x32, b"\0\x01t\0\0"),
            Malformed::PacketIdZero(Kind::Publish),
        ),
        server("a message of QoS 3", vec![0x36, 0x00], Malformed::PublishQos3),
        server("a message on a long topic", long, oversize(Limit::AnswerTopic, 1_100)),
    ]
}
