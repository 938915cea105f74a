//! Both sides of the session against each other, under a virtual clock. Spec: DPS-MQTT-6 to DPS-MQTT-27.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dps_proto::mqtt::{
    Answer, CloseReason, ConnectCode, ConnectVerdict, DeviceFailure, DeviceLogin, DeviceOptions,
    DeviceOutcome, DeviceOutput, DeviceSession, DeviceStep, Kind, Malformed, Output, Packet, Password, Qos,
    RETRY_AFTER_MAX, Request, Session, SessionLimits, TRIES_MAX,
};

const ASSIGNED: &str = r#"{"operationId":"5.1.x","status":"assigned","registrationState":{}}"#;

/// DPS-MQTT-6, DPS-MQTT-12, DPS-MQTT-14, DPS-MQTT-20, DPS-MQTT-21: however the bytes are cut and whatever QoS is used.
#[test]
fn a_device_registers_polls_and_leaves_whatever_its_options() {
    for subscribe_qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
        for publish_qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
            for (clean_session, chunk) in [(true, 1), (false, 2), (true, 7), (false, usize::MAX)] {
                let options =
                    DeviceOptions { subscribe_qos, publish_qos, clean_session, ..DeviceOptions::default() };
                check_registration(options, chunk);
            }
        }
    }
}

#[track_caller]
fn check_registration(options: DeviceOptions, chunk: usize) {
    let expected_receipts = if options.publish_qos == Qos::AtLeastOnce { 3 } else { 0 };
    let mut pair = Pair::new(options, |asked, _| match asked {
        1 => assigning(Some(3)),
        2 => assigning(Some(5)),
        _ => answer(200, None, ASSIGNED),
    });
    pair.chunk = chunk;
    assert_eq!(pair.run(), finally(200, ASSIGNED));
    assert_eq!(pair.now, seconds(8));
    assert_eq!(pair.closed, Some(CloseReason::Disconnected));
    assert_eq!(
        pair.requests,
        [Request::Register { payload: r#"{"registrationId":"dev-1"}"#.into() }, poll("5.1.x"), poll("5.1.x")]
    );
    let received = |kind| pair.received.iter().filter(move |packet| packet.kind() == kind);
    assert_eq!(received(Kind::PubAck).count(), expected_receipts);
    assert_eq!(received(Kind::Publish).count(), 3);
    if expected_receipts > 0 {
        // One official client takes no other order.
        let kinds: Vec<_> = pair.received.iter().skip(2).map(Packet::kind).collect();
        assert_eq!(kinds, [Kind::PubAck, Kind::Publish].repeat(3));
    }
}

/// DPS-MQTT-20
#[test]
fn the_device_waits_as_long_as_it_is_told_within_bounds() {
    let rows = [
        (None, seconds(2)),
        (Some(0), seconds(2)),
        (Some(1), seconds(1)),
        (Some(5), seconds(5)),
        (Some(u32::MAX), RETRY_AFTER_MAX),
    ];
    for (retry_after_s, waited) in rows {
        let mut pair = Pair::new(DeviceOptions::default(), move |asked, _| match asked {
            1 => assigning(retry_after_s),
            _ => answer(200, None, ASSIGNED),
        });
        pair.limits(SessionLimits { idle: 2 * RETRY_AFTER_MAX, ..SessionLimits::default() });
        assert_eq!(pair.run(), finally(200, ASSIGNED), "{retry_after_s:?}");
        assert_eq!(pair.now, waited, "{retry_after_s:?}");
    }
}

/// DPS-MQTT-20
#[test]
fn a_busy_service_is_asked_again_but_not_for_ever() {
    for status in [429, 500, 503] {
        let mut pair = Pair::new(DeviceOptions::default(), move |_, _| answer(status, Some(1), "{}"));
        let failure = DeviceFailure::GaveUp { status, body: "{}".into() };
        assert_eq!(pair.run(), Err(failure));
        assert_eq!(pair.requests.len(), TRIES_MAX as usize);
        assert_eq!(pair.now, seconds(u64::from(TRIES_MAX) - 1));
        assert_eq!(pair.closed, Some(CloseReason::Disconnected));
    }
}

/// DPS-MQTT-20: each answer that helps begins the count anew, for the register message and each poll.
#[test]
fn a_service_that_is_busy_now_and_then_is_asked_until_it_answers() {
    let mut pair = Pair::new(DeviceOptions::default(), |asked, _| match asked {
        9 | 18 => assigning(Some(2)),
        27 => answer(200, None, ASSIGNED),
        _ => answer(429, Some(1), "{}"),
    });
    assert_eq!(pair.run(), finally(200, ASSIGNED));
    assert_eq!(pair.requests[8], Request::Register { payload: r#"{"registrationId":"dev-1"}"#.into() });
    assert_eq!(pair.requests[9], poll("5.1.x"));
}

/// DPS-MQTT-5: whatever is final is handed over as it came.
#[test]
fn a_final_answer_ends_the_registration_good_or_bad() {
    let rows = [
        (200, ASSIGNED),
        (200, r#"{"operationId":"","status":"disabled"}"#),
        (401, r#"{"errorCode":401002}"#),
        (404, ""),
        (400, "not JSON"),
    ];
    for (status, body) in rows {
        let mut pair = Pair::new(DeviceOptions::default(), move |_, _| answer(status, None, body));
        assert_eq!(pair.run(), finally(status, body));
        assert_eq!(pair.requests.len(), 1);
    }
}

#[test]
fn an_answer_that_is_assigning_by_its_body_alone_is_polled_too() {
    let mut pair = Pair::new(DeviceOptions::default(), |asked, _| match asked {
        1 => answer(200, None, r#"{"operationId":"5.1.x","status":"assigning"}"#),
        2 => answer(202, Some(3), "{}"),
        _ => answer(200, None, ASSIGNED),
    });
    assert_eq!(pair.run(), finally(200, ASSIGNED));
    assert_eq!(pair.requests[1..], [poll("5.1.x"), poll("5.1.x")]);
}

/// DPS-MQTT-14
#[test]
fn an_operation_id_arrives_as_the_service_wrote_it() {
    let mut pair = Pair::new(DeviceOptions::default(), |asked, _| match asked {
        1 => answer(202, Some(3), r##"{"operationId":"a/b+#&$rid=9 ä","status":"assigning"}"##),
        _ => answer(200, None, ASSIGNED),
    });
    assert_eq!(pair.run(), finally(200, ASSIGNED));
    assert_eq!(pair.requests[1], poll("a/b+#&$rid=9 ä"));
}

#[test]
fn a_device_that_may_poll_but_has_no_operation_id_gives_up() {
    for body in ["{}", "", r#"{"operationId":7}"#, r#"{"operationId":""}"#, "[]"] {
        let mut pair = Pair::new(DeviceOptions::default(), move |_, _| answer(202, Some(3), body));
        assert_eq!(pair.run(), Err(DeviceFailure::NoOperationId), "{body}");
    }
}

/// DPS-MQTT-17
#[test]
fn a_payload_stands_in_the_register_body_as_given() {
    let register_payload =
        Some(serde_json::value::RawValue::from_string(r#"{"a": [1, null]}"#.into()).unwrap());
    let options = DeviceOptions { register_payload, ..DeviceOptions::default() };
    let mut pair = Pair::new(options, |_, _| answer(200, None, ASSIGNED));
    assert_eq!(pair.run(), finally(200, ASSIGNED));
    let body = r#"{"registrationId":"dev-1","payload":{"a": [1, null]}}"#;
    assert_eq!(pair.requests, [Request::Register { payload: body.into() }]);
}

/// DPS-MQTT-4
#[test]
fn a_refused_connection_tells_its_code() {
    let mut pair = Pair::new(DeviceOptions::default(), |_, _| answer(200, None, ASSIGNED));
    pair.verdict = ConnectVerdict::UnknownIdScope;
    assert_eq!(pair.run(), Err(DeviceFailure::ConnectRefused(ConnectCode::NotAuthorized)));
    let text = DeviceFailure::ConnectRefused(ConnectCode::NotAuthorized).to_string();
    assert_eq!(text, "the service refused the connection: NotAuthorized (CONNACK 5)");
}

/// DPS-MQTT-16
#[test]
fn a_device_that_publishes_with_qos_2_is_cut_off() {
    let options = DeviceOptions { publish_qos: Qos::ExactlyOnce, ..DeviceOptions::default() };
    let mut pair = Pair::new(options, |_, _| answer(200, None, ASSIGNED));
    assert_eq!(pair.run(), Err(DeviceFailure::ConnectionEnded(DeviceStep::Registering)));
    assert_eq!(pair.closed, Some(CloseReason::Qos2Publish));
}

/// DPS-MQTT-21
#[test]
fn a_request_that_is_never_answered_times_out_at_the_device() {
    let mut pair = Pair::new(DeviceOptions::default(), |asked, _| match asked {
        1 => assigning(Some(3)),
        _ => None,
    });
    let failure = DeviceFailure::TimedOut { step: DeviceStep::Polling, within: seconds(30) };
    assert_eq!(pair.run(), Err(failure));
    assert_eq!(pair.now, seconds(33));
}

/// DPS-MQTT-8
#[test]
fn a_device_that_waits_long_keeps_its_keepalive() {
    let options = DeviceOptions { keep_alive_s: 20, ..DeviceOptions::default() };
    let mut pair = Pair::new(options, |asked, _| match asked {
        1 => assigning(Some(90)),
        _ => answer(200, None, ASSIGNED),
    });
    assert_eq!(pair.run(), finally(200, ASSIGNED));
    assert_eq!(pair.received.iter().filter(|packet| packet.kind() == Kind::PingResp).count(), 4);
}

/// DPS-MQTT-27: a device that is told to wait longer than the service is ready to.
#[test]
fn a_device_that_is_not_attested_in_time_learns_that_the_connection_ended() {
    let mut pair = Pair::new(DeviceOptions::default(), |_, _| assigning(Some(120)));
    pair.attests = false;
    assert_eq!(pair.run(), Err(DeviceFailure::ConnectionEnded(DeviceStep::Waiting)));
    assert_eq!(pair.closed, Some(CloseReason::NotAttestedInTime { within: seconds(60) }));
    assert_eq!(pair.now, seconds(60));
}

/// DPS-MQTT-28: what only a broken or foreign service does.
#[test]
fn a_device_gives_each_fault_of_a_service_its_name() {
    let connack = &[0x20, 2, 0, 0][..];
    let suback = &[0x90, 3, 0, 1, 1][..];
    let unexpected = |kind, step| DeviceFailure::Unexpected { kind, step };
    let rows: [(&[&[u8]], DeviceFailure); 9] = [
        (&[&[0x20, 2, 0, 3]], DeviceFailure::ConnectRefused(ConnectCode::ServerUnavailable)),
        (&[&[0xD0, 0]], unexpected(Kind::PingResp, DeviceStep::Connecting)),
        (&[&[0xC0, 0]], DeviceFailure::Malformed(Malformed::WrongSide(Kind::PingReq))),
        (&[connack, connack], unexpected(Kind::ConnAck, DeviceStep::Subscribing)),
        (&[connack, &[0x90, 3, 0, 1, 0x80]], DeviceFailure::SubscriptionRefused),
        (&[connack, &[0x90, 3, 0, 2, 1]], unexpected(Kind::SubAck, DeviceStep::Subscribing)),
        (&[connack, suback, suback], unexpected(Kind::SubAck, DeviceStep::Registering)),
        (&[connack, suback, b"\x34\x06\0\x01t\0\x01x"], unexpected(Kind::Publish, DeviceStep::Registering)),
        (&[connack, suback, b"\x30\x03\0\x01t"], DeviceFailure::NotAnAnswer("t".into())),
    ];
    for (packets, failure) in rows {
        let mut device = DeviceSession::new(login(), DeviceOptions::default(), Duration::ZERO);
        device.receive(&mut BytesMut::from(&packets.concat()[..]), Duration::ZERO);
        let outputs: Vec<_> = std::iter::from_fn(|| device.poll()).collect();
        assert_eq!(outputs.last(), Some(&DeviceOutput::Done(Err(failure))));
        assert_eq!((device.deadline(), device.step()), (None, DeviceStep::Done));
    }
}

/// DPS-MQTT-15: an answer to something else is not taken for one's own.
#[test]
fn a_device_waits_for_the_answer_with_its_own_request_id() {
    let mut device = DeviceSession::new(login(), DeviceOptions::default(), Duration::ZERO);
    let head = [&[0x20, 2, 0, 0][..], &[0x90, 3, 0, 1, 1]].concat();
    device.receive(&mut BytesMut::from(&head[..]), Duration::ZERO);
    assert_eq!(device.step(), DeviceStep::Registering);
    let other = b"\x30\x26\0\x24$dps/registrations/res/200/?$rid=999";
    device.receive(&mut BytesMut::from(&other[..]), Duration::ZERO);
    assert_eq!(device.step(), DeviceStep::Registering);
    let own = b"\x32\x26\0\x22$dps/registrations/res/200/?$rid=2\0\x07";
    device.receive(&mut BytesMut::from(&own[..]), Duration::ZERO);
    let outputs: Vec<_> = std::iter::from_fn(|| device.poll()).collect();
    let last = [
        DeviceOutput::Sent(Packet::PubAck { packet_id: 7 }),
        DeviceOutput::Send(Bytes::from_static(&[0x40, 2, 0, 7])),
        DeviceOutput::Sent(Packet::Disconnect),
        DeviceOutput::Send(Bytes::from_static(&[0xE0, 0])),
        DeviceOutput::Done(Ok(DeviceOutcome::Final { status: 200, body: Bytes::new() })),
    ];
    assert!(outputs.ends_with(&last), "{outputs:?}");
}

/// DPS-MQTT-5
#[test]
fn the_trace_of_a_device_holds_no_password() {
    let mut device = DeviceSession::new(login(), DeviceOptions::default(), Duration::ZERO);
    let sent = device.poll();
    let text = format!("{:?} {device:?}", login());
    assert!(matches!(&sent, Some(DeviceOutput::Sent(Packet::Connect(_)))), "{sent:?}");
    assert!(!format!("{sent:?} {text}").contains("hush"));
    let Some(DeviceOutput::Send(bytes)) = device.poll() else { unreachable!() };
    assert!(bytes.ends_with(b"hush"), "but it is sent");
}

#[test]
fn what_does_not_fit_into_a_packet_ends_the_registration() {
    let login = DeviceLogin { client_version: "x".repeat(70_000), ..login() };
    let mut device = DeviceSession::new(login, DeviceOptions::default(), Duration::ZERO);
    assert_eq!(device.poll(), Some(DeviceOutput::Done(Err(DeviceFailure::TooLarge))));
    device.connection_ended();
    assert_eq!(device.poll(), None);
}

/// What the service says to the n-th request, counted from 1; `None` never answers.
type Service = Box<dyn FnMut(usize, &Request) -> Option<Answer>>;

/// The two sides, the wires between them, and their clock.
struct Pair {
    device: DeviceSession,
    server: Session,
    service: Service,
    verdict: ConnectVerdict,
    attests: bool,
    /// How many bytes arrive at once.
    chunk: usize,
    to_server: BytesMut,
    to_device: BytesMut,
    server_buffer: BytesMut,
    device_buffer: BytesMut,
    now: Duration,
    requests: Vec<Request>,
    received: Vec<Packet>,
    closed: Option<CloseReason>,
    done: Option<Result<DeviceOutcome, DeviceFailure>>,
}

impl Pair {
    fn new(options: DeviceOptions, service: impl FnMut(usize, &Request) -> Option<Answer> + 'static) -> Self {
        Self {
            device: DeviceSession::new(login(), options, Duration::ZERO),
            server: Session::new(Duration::ZERO, SessionLimits::default()),
            service: Box::new(service),
            verdict: ConnectVerdict::Accept,
            attests: true,
            chunk: usize::MAX,
            to_server: BytesMut::new(),
            to_device: BytesMut::new(),
            server_buffer: BytesMut::new(),
            device_buffer: BytesMut::new(),
            now: Duration::ZERO,
            requests: Vec::new(),
            received: Vec::new(),
            closed: None,
            done: None,
        }
    }

    fn limits(&mut self, limits: SessionLimits) {
        self.server = Session::new(Duration::ZERO, limits);
    }

    /// Until the device is done, then until the server has read what it left behind.
    fn run(&mut self) -> Result<DeviceOutcome, DeviceFailure> {
        for _ in 0..100_000 {
            self.take_from_device();
            let moved = self.carry_to_server() | self.carry_to_device();
            if moved {
                continue;
            }
            if let Some(done) = self.done.take() {
                return done;
            }
            if self.closed.is_some() {
                self.device.connection_ended();
                continue;
            }
            let deadlines = self.device.deadline().into_iter().chain(self.server.deadline());
            self.now = deadlines.min().unwrap();
            self.device.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
            self.take_from_server();
        }
        unreachable!("they never come to an end")
    }

    fn take_from_device(&mut self) {
        while let Some(output) = self.device.poll() {
            assert!(self.done.is_none(), "{output:?} after the last");
            match output {
                DeviceOutput::Send(bytes) => self.to_server.extend_from_slice(&bytes),
                DeviceOutput::Sent(_) => {}
                DeviceOutput::Received(packet) => self.received.push(packet),
                DeviceOutput::Done(result) => self.done = Some(result),
            }
        }
    }

    /// The loop that [`Session`] asks of its caller.
    fn carry_to_server(&mut self) -> bool {
        if self.closed.is_some() || self.server.is_busy() || self.to_server.is_empty() {
            return false;
        }
        let arriving = self.to_server.split_to(self.chunk.min(self.to_server.len()));
        self.server_buffer.extend_from_slice(&arriving);
        self.server.receive(&mut self.server_buffer, self.now);
        while self.take_from_server() {
            self.server.receive(&mut self.server_buffer, self.now);
        }
        true
    }

    /// Whether a question was answered, so that the buffer is to be read again.
    fn take_from_server(&mut self) -> bool {
        let mut answered = false;
        while let Some(output) = self.server.poll() {
            assert!(self.closed.is_none(), "{output:?} after the last");
            match output {
                Output::Send(bytes) => self.to_device.extend_from_slice(&bytes),
                Output::Login(login) => {
                    assert_eq!(login.password.unwrap().expose(), b"hush");
                    self.server.verdict(self.verdict, self.now);
                    answered = true;
                }
                Output::Request(request) => {
                    self.requests.push(request.clone());
                    if self.attests {
                        self.server.attested(self.now);
                    }
                    if let Some(answer) = (self.service)(self.requests.len(), &request) {
                        self.server.answer(answer, self.now);
                        answered = true;
                    }
                }
                Output::Unanswered { .. } => unreachable!("the device subscribes before it asks"),
                Output::Close(reason) => self.closed = Some(reason),
            }
        }
        answered
    }

    fn carry_to_device(&mut self) -> bool {
        if self.done.is_some() || self.to_device.is_empty() {
            return false;
        }
        let arriving = self.to_device.split_to(self.chunk.min(self.to_device.len()));
        self.device_buffer.extend_from_slice(&arriving);
        self.device.receive(&mut self.device_buffer, self.now);
        true
    }
}

fn login() -> DeviceLogin {
    DeviceLogin {
        id_scope: "0ne1".parse().unwrap(),
        registration_id: "dev-1".parse().unwrap(),
        api_version: "2021-06-01".parse().unwrap(),
        client_version: "harbormaster/1".into(),
        password: Some(Password::new(*b"hush")),
    }
}

fn assigning(retry_after_s: Option<u32>) -> Option<Answer> {
    answer(202, retry_after_s, r#"{"operationId":"5.1.x","status":"assigning"}"#)
}

fn answer(status: u16, retry_after_s: Option<u32>, body: &'static str) -> Option<Answer> {
    Some(Answer { status, retry_after_s, body: Bytes::from_static(body.as_bytes()) })
}

fn finally(status: u16, body: &'static str) -> Result<DeviceOutcome, DeviceFailure> {
    Ok(DeviceOutcome::Final { status, body: Bytes::from_static(body.as_bytes()) })
}

fn poll(operation_id: &str) -> Request {
    Request::Poll { operation_id: operation_id.into() }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
