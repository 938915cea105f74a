//! MQTT over WebSocket, frame by frame. Time is virtual.

use std::time::Duration;

use dps_proto::mqtt::{DeviceLogin, DeviceOptions, DeviceOutcome, DeviceOutput, DeviceSession, Password};
use dps_server::explain::Wanted;
use dps_server::limits::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::client::Client;
use crate::connection::Connection;
use crate::devices::{device_key, service, service_with, token};
use crate::{HOST, SCOPE};

const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];

/// A frame as RFC 6455 section 5.2 has it.
#[derive(Debug, PartialEq)]
struct Frame {
    /// FIN, the reserved bits and the opcode.
    first: u8,
    payload: Vec<u8>,
}

const BINARY: u8 = 0x82;
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn upgrade(target: &str, protocol: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: {HOST}:443\r\nUpgrade: websocket\r\nConnection: Upgrade,Keep-Alive\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {protocol}\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
    )
}

/// A connection that has become a WebSocket.
async fn open(service: &Client, target: &str, protocol: &str) -> Connection {
    let mut connection = Connection::to(service, Vec::new()).await;
    connection.send(&upgrade(target, protocol)).await;
    let answer = connection.answer().await;
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
    // The Java client splits each line at a colon and a space, and takes no empty value.
    for line in answer.trim_end().lines().skip(1) {
        assert!(line.split_once(": ").is_some_and(|(_, value)| !value.is_empty()), "{line}");
    }
    let has = |line: &str| answer.lines().any(|found| found.eq_ignore_ascii_case(line));
    assert!(has("upgrade: websocket") && has("connection: upgrade"), "{answer}");
    assert!(has("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    assert!(answer.contains(&format!("sec-websocket-protocol: {protocol}\r\n")), "{answer}");
    assert!(!answer.to_ascii_lowercase().contains("sec-websocket-extensions"), "{answer}");
    connection
}

async fn frame(connection: &mut Connection) -> Frame {
    let mut head = [0; 2];
    connection.stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[1] & 0x80, 0, "what the service sends is not masked");
    let length = match head[1] {
        126 => usize::from(connection.stream.read_u16().await.unwrap()),
        short => usize::from(short),
    };
    let mut payload = vec![0; length];
    connection.stream.read_exact(&mut payload).await.unwrap();
    Frame { first: head[0], payload }
}

fn session(id: &str) -> DeviceSession {
    let login = DeviceLogin {
        id_scope: SCOPE.parse().unwrap(),
        registration_id: id.parse().unwrap(),
        api_version: "2019-03-31".parse().unwrap(),
        client_version: "test".to_owned(),
        password: Some(Password::new(token(id, &device_key(id)))),
    };
    DeviceSession::new(login, DeviceOptions::default(), Duration::ZERO)
}

/// Registers over frames that `write` makes of each packet, and checks those that come.
async fn register(
    connection: &mut Connection,
    id: &str,
    write: impl Fn(&[u8]) -> Vec<u8>,
) -> serde_json::Value {
    let (mut session, opened) = (session(id), Instant::now());
    let mut received = bytes::BytesMut::new();
    loop {
        while let Some(output) = session.poll() {
            match output {
                DeviceOutput::Send(bytes) => connection.stream.write_all(&write(&bytes)).await.unwrap(),
                DeviceOutput::Done(done) => {
                    let DeviceOutcome::Final { body, .. } = done.unwrap();
                    return serde_json::from_slice(&body).unwrap();
                }
                DeviceOutput::Sent(_) | DeviceOutput::Received(_) => {}
            }
        }
        let wait = session.deadline().unwrap_or_default().saturating_sub(opened.elapsed());
        match tokio::time::timeout(wait, frame(connection)).await {
            Ok(Frame { first: PONG, .. }) => {}
            Ok(Frame { first, payload }) => {
                // DPS-WS-4: binary, whole, and one packet in it.
                assert_eq!(first, BINARY);
                assert_eq!(dps_proto::mqtt::packet_length(&payload), Some(payload.len()));
                received.extend_from_slice(&payload);
                session.receive(&mut received, opened.elapsed());
            }
            Err(_) => session.handle_timeout(opened.elapsed()),
        }
    }
}

/// DPS-WS-1, DPS-WS-2, DPS-WS-4, DPS-MQTT-20: the paths and spellings of Python, Node, Java and C#, and of the C client.
#[tokio::test(start_paused = true)]
async fn a_device_registers_whatever_the_path_and_the_spelling() {
    let service = service().await;
    let absolute = format!("https://{HOST}/$iothub/websocket?iothub-no-client-cert=true");
    for (target, protocol) in [
        ("/$iothub/websocket", "mqtt"),
        ("/mqtt", "mqtt"),
        ("/", "mqtt"),
        ("/$iothub/websocket", "MQTT"),
        (&absolute, "mqtt"),
    ] {
        let mut connection = open(&service, target, protocol).await;
        let body = register(&mut connection, "dev-1", |packet| masked(BINARY, packet)).await;
        assert_eq!(body["status"], "assigned", "{target}");
    }
    let numbers = service.front_end.metrics.render();
    let proven = r#"harbormaster_attestation_attempts_total{outcome="Proven",transport="mqtt-ws"} 10"#;
    assert!(numbers.contains(proven), "{numbers}");
}

/// DPS-WS-5, DPS-WS-6
#[tokio::test(start_paused = true)]
async fn frames_may_split_and_join_packets_and_have_pings_between_them() {
    let service = service().await;
    let mut connection = open(&service, "/mqtt", "mqtt").await;
    connection.stream.write_all(&masked(PING, b"are you there")).await.unwrap();
    assert_eq!(frame(&mut connection).await, Frame { first: PONG, payload: b"are you there".to_vec() });
    let in_pieces = |packet: &[u8]| {
        // The first half in three frames, with a ping among them.
        let halves = packet.chunks(packet.len().div_ceil(2)).collect::<Vec<_>>();
        let mut frames = masked(0x02, &halves[0][..1]);
        frames.extend(masked(PING, b"in between"));
        frames.extend(masked(0x00, &halves[0][1..]));
        frames.extend(masked(0x80, &[]));
        frames.extend(halves.get(1).map(|half| masked(BINARY, half)).unwrap_or_default());
        frames
    };
    assert_eq!(register(&mut connection, "dev-1", in_pieces).await["status"], "assigned");

    let mut connection = open(&service, "/mqtt", "mqtt").await;
    connection.stream.write_all(&masked(CLOSE, &1_000_u16.to_be_bytes())).await.unwrap();
    assert_eq!(frame(&mut connection).await.first, CLOSE);

    let mut connection = open(&service, "/mqtt", "mqtt").await;
    let (mut session, mut joined) = (session("dev-1"), Vec::new());
    while let Some(output) = session.poll() {
        if let DeviceOutput::Send(bytes) = output {
            joined.extend_from_slice(&bytes);
        }
    }
    // SUBSCRIBE and PINGREQ in the message of CONNECT.
    joined.extend_from_slice(b"\x82\x1d\x00\x01\x00\x18$dps/registrations/res/#\x01\xc0\x00");
    connection.stream.write_all(&masked(BINARY, &joined)).await.unwrap();
    let kinds = [frame(&mut connection).await, frame(&mut connection).await, frame(&mut connection).await];
    assert_eq!(kinds.map(|frame| frame.payload[0]), [0x20, 0x90, 0xd0]);
}

/// DPS-WS-3, DPS-HTTPS-7
#[tokio::test(start_paused = true)]
async fn another_subprotocol_is_refused_in_words() {
    let service = service().await;
    for (request, message) in [
        (upgrade("/", "AMQPWSB10"), "The WebSocket subprotocol must be mqtt."),
        (upgrade("/", "mqtt").replace("Version: 13", "Version: 8"), "The request is no WebSocket handshake."),
        (upgrade("/", "mqtt").replace("GET", "POST"), "The request is no WebSocket handshake."),
    ] {
        let mut connection = Connection::to(&service, Vec::new()).await;
        connection.send(&request).await;
        let (said, _) = connection.end().await;
        assert!(said.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{said}");
        assert!(said.contains("content-type: application/json; charset=utf-8\r\n"), "{said}");
        assert!(said.contains("sec-websocket-version: 13\r\n") && said.contains(message), "{said}");
        let found = service.front_end.explanations.find(&Wanted::default(), 1);
        assert_eq!((found[0].transport, found[0].told.as_str()), (Some("mqtt-ws"), "400000"));
    }
}

/// DPS-WS-7, DPS-EXPLAIN-4, DPS-METRICS-2
#[tokio::test(start_paused = true)]
async fn what_breaks_the_rules_closes_with_its_code_and_is_explained() {
    let service = service().await;
    let mut unmasked = masked(BINARY, &[]);
    unmasked = vec![unmasked[0], 0x00];
    let too_long = [&[BINARY, 0x80 | 127][..], &200_000_u64.to_be_bytes(), &MASK].concat();
    let rows = [
        (masked(TEXT, b"hello"), 1_003_u16, "the device sent a text message; MQTT is binary"),
        (too_long, 1_009, "the device sent a frame or message of more than 102400 bytes"),
        (unmasked, 1_002, "the device broke the rules of WebSocket: "),
        (masked(0xf2, b"x"), 1_002, "the device broke the rules of WebSocket: "),
        (masked(0x80, b"x"), 1_002, "the device broke the rules of WebSocket: "),
    ];
    for (bytes, code, reason) in rows {
        let mut connection = open(&service, "/mqtt", "mqtt").await;
        connection.stream.write_all(&bytes).await.unwrap();
        let closed = frame(&mut connection).await;
        assert_eq!((closed.first, closed.payload), (CLOSE, code.to_be_bytes().to_vec()), "{reason}");
        connection.end().await;
        let found = service.front_end.explanations.find(&Wanted::default(), 1);
        assert!(found[0].reason.starts_with(reason), "{}", found[0].reason);
        assert_eq!((found[0].transport, found[0].advice.is_some()), (Some("mqtt-ws"), true));
    }
}

/// DPS-WS-8, DPS-LIMIT-3: a frame that never ends, one that comes byte by byte, and another device in the meantime.
#[tokio::test(start_paused = true)]
async fn a_frame_that_never_ends_is_cut_off_by_the_deadline_of_connect() {
    let service = service().await;
    let within = Limits::default().session.connect_within;
    let mut slow = open(&service, "/mqtt", "mqtt").await;
    slow.stream.write_all(&[BINARY, 0x80 | 100]).await.unwrap();
    let began = Instant::now();
    let trickle = tokio::spawn(async move {
        while slow.stream.write_all(&[0]).await.is_ok() && began.elapsed() < Duration::from_secs(99) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        began.elapsed()
    });
    let mut other = open(&service, "/mqtt", "mqtt").await;
    assert_eq!(register(&mut other, "dev-1", |packet| masked(BINARY, packet)).await["status"], "assigned");
    let ended = trickle.await.unwrap();
    // And the time that a device has for taking the end of its connection.
    assert!(
        ended >= within && ended < within + Limits::default().write_within + Duration::from_secs(2),
        "{ended:?}"
    );
}

/// DPS-WS-8, DPS-MQTT-30: what was sent may stay in buffers that never shrink, whatever became of it.
#[tokio::test(start_paused = true)]
async fn all_that_strangers_send_counts_until_they_have_proved_themselves() {
    let service = service_with(Limits { unattested_bytes: 10_000, ..Limits::default() }).await;
    let mut connection = open(&service, "/mqtt", "mqtt").await;
    let mut sent = 0;
    // Pings, whose answers wait to be written, and messages of nothing between them.
    let refused = loop {
        connection.stream.write_all(&masked(PING, &[7; 100])).await.unwrap();
        connection.stream.write_all(&masked(BINARY, &[])).await.unwrap();
        sent += 100;
        let answer = frame(&mut connection).await;
        if answer.first == CLOSE {
            break answer;
        }
    };
    assert_eq!(refused.payload, 1_013_u16.to_be_bytes());
    assert!((10_000..14_200).contains(&sent), "{sent}");
}

/// DPS-WS-8, DPS-MQTT-30: whoever has not proved itself shares a budget for what is more than 4 KiB; whoever has does not.
#[tokio::test(start_paused = true)]
async fn unfinished_messages_of_strangers_share_a_budget() {
    let limits = Limits { unattested_bytes: 10_000, ..Limits::default() };
    let service = service_with(limits).await;
    let mut connection = open(&service, "/mqtt", "mqtt").await;
    let began = [&[0x02, 0x80 | 126][..], &30_000_u16.to_be_bytes(), &MASK].concat();
    connection.stream.write_all(&began).await.unwrap();
    connection.stream.write_all(&[0; 20_000]).await.unwrap();
    let closed = frame(&mut connection).await;
    assert_eq!((closed.first, closed.payload), (CLOSE, 1_013_u16.to_be_bytes().to_vec()));
    let mut proven = open(&service, "/mqtt", "mqtt").await;
    let without_disconnect =
        |packet: &[u8]| if packet[0] == 0xe0 { Vec::new() } else { masked(BINARY, packet) };
    assert_eq!(register(&mut proven, "dev-1", without_disconnect).await["status"], "assigned");
    proven.stream.write_all(&began).await.unwrap();
    proven.stream.write_all(&[0; 20_000]).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(5), frame(&mut proven)).await.is_err());
}
