//! The device side of one registration over MQTT, as a state machine. Spec: DPS-MQTT-1, DPS-MQTT-2, DPS-MQTT-11,
//! DPS-MQTT-14, DPS-MQTT-20.
//!
//! It connects, subscribes, registers, polls as it is told, and disconnects. Of a body it reads `operationId` and
//! `status` and nothing else.

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroU16;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde_json::value::RawValue;

use super::packet::{
    ConnAck, Connect, ConnectCode, Credentials, Delivery, Kind, Packet, Peer, Publish, Qos, Subscribe,
    SubscribeCode, Subscription,
};
use super::{DeviceFailure, DeviceOutcome, DeviceStep, Password, decode, encode};
use crate::api_version::ApiVersion;
use crate::ids::{IdScope, RegistrationId};
use crate::login::UserName;
use crate::percent;
use crate::topic::{ANSWER_FILTER, AnswerTopic, Ask};

/// How often one request is sent before a status of 429 or above is final.
pub const TRIES_MAX: u32 = 10;

/// The longest wait that the service can ask for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// The device side of one registration.
///
/// Times are counted from when the connection was opened, and never go back. The caller owns the socket and one buffer:
/// take every [`DeviceOutput`] from [`poll`](Self::poll) until there is none; then read into the buffer and call
/// [`receive`](Self::receive), at [`deadline`](Self::deadline) call [`handle_timeout`](Self::handle_timeout), and at
/// the end of the stream [`connection_ended`](Self::connection_ended); and take the outputs again.
/// [`DeviceOutput::Done`] is the last one.
#[derive(Debug)]
pub struct DeviceSession {
    state: State,
    registration_id: RegistrationId,
    options: DeviceOptions,
    last_sent: Duration,
    last_id: u16,
    outputs: VecDeque<DeviceOutput>,
}

/// Who the device is.
#[derive(Debug, Clone)]
pub struct DeviceLogin {
    /// The service instance.
    pub id_scope: IdScope,
    /// The device; also its client id.
    pub registration_id: RegistrationId,
    /// Sent in the user name.
    pub api_version: ApiVersion,
    /// Sent in the user name, percent-encoded here.
    pub client_version: String,
    /// A SAS token; `None` where the TLS layer shows a certificate.
    pub password: Option<Password>,
}

/// How it goes about it. The default is what the official clients do most.
#[derive(Debug, Clone)]
pub struct DeviceOptions {
    /// CleanSession of CONNECT.
    pub clean_session: bool,
    /// Seconds after which a PINGREQ is sent; 0 sends none.
    pub keep_alive_s: u16,
    /// Asked for answers.
    pub subscribe_qos: Qos,
    /// Of requests. QoS 2 is not served: the connection is closed.
    pub publish_qos: Qos,
    /// The member `payload` of the register body.
    pub register_payload: Option<Box<RawValue>>,
    /// For each packet that must be answered.
    pub answer_within: Duration,
    /// Between polls where the service does not say how long to wait.
    pub poll_every: Duration,
}

impl Default for DeviceOptions {
    fn default() -> Self {
        Self {
            clean_session: true,
            keep_alive_s: 60,
            subscribe_qos: Qos::AtLeastOnce,
            publish_qos: Qos::AtLeastOnce,
            register_payload: None,
            answer_within: Duration::from_secs(30),
            poll_every: Duration::from_secs(2),
        }
    }
}

/// What the caller is to do, in this order.
#[derive(PartialEq, Eq)]
pub enum DeviceOutput {
    /// Write these bytes.
    Send(Bytes),
    /// For a trace: what the bytes of the next [`DeviceOutput::Send`] say.
    Sent(Packet),
    /// For a trace: what came.
    Received(Packet),
    /// The registration is over: close the connection. The last output.
    Done(Result<DeviceOutcome, DeviceFailure>),
}

impl fmt::Debug for DeviceOutput {
    /// The bytes of CONNECT hold the password: of bytes it tells the number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(bytes) => write!(f, "Send({} bytes)", bytes.len()),
            Self::Sent(packet) => write!(f, "Sent({packet:?})"),
            Self::Received(packet) => write!(f, "Received({packet:?})"),
            Self::Done(result) => write!(f, "Done({result:?})"),
        }
    }
}

/// Named for what it waits for.
#[derive(Debug)]
enum State {
    ExpectConnAck { until: Duration },
    ExpectSubAck { until: Duration, packet_id: NonZeroU16 },
    ExpectAnswer { until: Duration, question: Question, rid: Box<str> },
    Pause { until: Duration, question: Question },
    Done,
}

/// What is asked, and how often it was asked in a row.
#[derive(Debug, Clone)]
struct Question {
    /// `None` registers.
    operation_id: Option<Box<str>>,
    tries: u32,
}

impl DeviceSession {
    /// A registration over a connection that was just opened: CONNECT is the first output.
    pub fn new(login: DeviceLogin, options: DeviceOptions, now: Duration) -> Self {
        let DeviceLogin { id_scope, registration_id, api_version, client_version, password } = login;
        let user_name = UserName::compose(&id_scope, &registration_id, &api_version, &client_version);
        let connect = Connect {
            clean_session: options.clean_session,
            keep_alive_s: options.keep_alive_s,
            client_id: registration_id.as_str().into(),
            will: None,
            credentials: Some(Credentials { user_name: user_name.into(), password }),
        };
        let state = State::ExpectConnAck { until: now + options.answer_within };
        let outputs = VecDeque::new();
        let mut session = Self { state, registration_id, options, last_sent: now, last_id: 0, outputs };
        session.send(Packet::Connect(connect), now);
        session
    }

    /// Takes every complete packet from the front of the buffer.
    pub fn receive(&mut self, buffer: &mut BytesMut, now: Duration) {
        while !matches!(self.state, State::Done) {
            match decode(buffer, Peer::Server) {
                Ok(Some(packet)) => {
                    self.outputs.push_back(DeviceOutput::Received(packet.clone()));
                    self.handle_packet(packet, now);
                }
                Ok(None) => return,
                Err(malformed) => return self.finish(Err(malformed.into())),
            }
        }
    }

    /// The service closed the connection.
    pub fn connection_ended(&mut self) {
        self.finish(Err(DeviceFailure::ConnectionEnded(self.step())));
    }

    /// Does what is due; harmless before.
    pub fn handle_timeout(&mut self, now: Duration) {
        match &self.state {
            State::ExpectConnAck { until }
            | State::ExpectSubAck { until, .. }
            | State::ExpectAnswer { until, .. }
                if now >= *until =>
            {
                let failure =
                    DeviceFailure::TimedOut { step: self.step(), within: self.options.answer_within };
                self.leave(Err(failure), now);
            }
            State::Pause { until, question } if now >= *until => self.ask(question.clone(), now),
            _ => {}
        }
        if self.ping_at().is_some_and(|at| now >= at) {
            self.send(Packet::PingReq, now);
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); `None` only when done.
    pub fn deadline(&self) -> Option<Duration> {
        let until = match self.state {
            State::ExpectConnAck { until }
            | State::ExpectSubAck { until, .. }
            | State::ExpectAnswer { until, .. }
            | State::Pause { until, .. } => until,
            State::Done => return None,
        };
        Some(self.ping_at().map_or(until, |ping| ping.min(until)))
    }

    /// The next thing to do; `None` when there is nothing.
    pub fn poll(&mut self) -> Option<DeviceOutput> {
        self.outputs.pop_front()
    }

    /// What it is about.
    pub fn step(&self) -> DeviceStep {
        match &self.state {
            State::ExpectConnAck { .. } => DeviceStep::Connecting,
            State::ExpectSubAck { .. } => DeviceStep::Subscribing,
            State::ExpectAnswer { question, .. } if question.operation_id.is_none() => {
                DeviceStep::Registering
            }
            State::ExpectAnswer { .. } => DeviceStep::Polling,
            State::Pause { .. } => DeviceStep::Waiting,
            State::Done => DeviceStep::Done,
        }
    }

    fn ping_at(&self) -> Option<Duration> {
        let may_ping = !matches!(self.state, State::ExpectConnAck { .. } | State::Done);
        let keep_alive = Duration::from_secs(self.options.keep_alive_s.into());
        (may_ping && !keep_alive.is_zero()).then(|| self.last_sent + keep_alive)
    }

    fn handle_packet(&mut self, packet: Packet, now: Duration) {
        match (&self.state, packet) {
            (State::ExpectConnAck { .. }, Packet::ConnAck(ConnAck { code: ConnectCode::Accepted, .. })) => {
                self.subscribe(now);
            }
            (State::ExpectConnAck { .. }, Packet::ConnAck(ConnAck { code, .. })) => {
                self.finish(Err(DeviceFailure::ConnectRefused(code)));
            }
            (State::ExpectSubAck { packet_id, .. }, Packet::SubAck(ack)) if ack.packet_id == *packet_id => {
                if ack.codes.contains(&SubscribeCode::Refused) {
                    return self.leave(Err(DeviceFailure::SubscriptionRefused), now);
                }
                self.ask(Question { operation_id: None, tries: 0 }, now);
            }
            (State::ExpectSubAck { .. } | State::ExpectAnswer { .. } | State::Pause { .. }, packet) => {
                match packet {
                    Packet::Publish(publish) => self.handle_publish(publish, now),
                    Packet::PubAck { .. } | Packet::PingResp => {}
                    other => self.finish_unexpected(other.kind()),
                }
            }
            (_, packet) => self.finish_unexpected(packet.kind()),
        }
    }

    fn handle_publish(&mut self, publish: Publish, now: Duration) {
        match publish.delivery {
            Delivery::AtMostOnce => {}
            Delivery::AtLeastOnce { packet_id, .. } => {
                self.send(Packet::PubAck { packet_id: packet_id.get() }, now);
            }
            Delivery::ExactlyOnce { .. } => return self.finish_unexpected(Kind::Publish),
        }
        let Some(answer) = AnswerTopic::parse(&publish.topic) else {
            return self.finish(Err(DeviceFailure::NotAnAnswer(publish.topic)));
        };
        match &self.state {
            State::ExpectAnswer { question, rid, .. } if *rid == answer.rid => {
                let question = question.clone();
                self.handle_answer(question, &answer, publish.payload, now);
            }
            // An answer to nothing that is open.
            _ => {}
        }
    }

    fn handle_answer(&mut self, question: Question, answer: &AnswerTopic, body: Bytes, now: Duration) {
        let wait = match answer.retry_after_s {
            // Asking again at once would be a hot loop.
            None | Some(0) => self.options.poll_every,
            Some(seconds) => Duration::from_secs(seconds.into()).min(RETRY_AFTER_MAX),
        };
        let status = answer.status;
        if status >= 429 {
            if question.tries >= TRIES_MAX {
                return self.leave(Err(DeviceFailure::GaveUp { status, body }), now);
            }
            self.state = State::Pause { until: now + wait, question };
            return;
        }
        let progress = Progress::read(&body);
        if status != 202 && !progress.is_assigning {
            return self.leave(Ok(DeviceOutcome::Final { status, body }), now);
        }
        match progress.operation_id.or(question.operation_id) {
            None => self.leave(Err(DeviceFailure::NoOperationId), now),
            operation_id => {
                self.state =
                    State::Pause { until: now + wait, question: Question { operation_id, tries: 0 } };
            }
        }
    }

    fn subscribe(&mut self, now: Duration) {
        let packet_id = self.next_id();
        let line = Subscription { filter: ANSWER_FILTER.into(), qos: self.options.subscribe_qos };
        self.state = State::ExpectSubAck { until: now + self.options.answer_within, packet_id };
        self.send(Packet::Subscribe(Subscribe { packet_id, subscriptions: vec![line] }), now);
    }

    fn ask(&mut self, question: Question, now: Duration) {
        let packet_id = self.next_id();
        let rid: Box<str> = packet_id.to_string().into();
        let (ask, payload) = match question.operation_id.clone() {
            None => (Ask::Register { rid: rid.clone() }, self.register_body()),
            Some(operation_id) => {
                // The service chose the text, and some characters would break a topic.
                let operation_id = percent::encode(&operation_id).into();
                (Ask::Poll { rid: rid.clone(), operation_id }, Bytes::new())
            }
        };
        let delivery = match self.options.publish_qos {
            Qos::AtMostOnce => Delivery::AtMostOnce,
            Qos::AtLeastOnce => Delivery::AtLeastOnce { packet_id, dup: false },
            Qos::ExactlyOnce => Delivery::ExactlyOnce { packet_id, dup: false },
        };
        let question = Question { tries: question.tries + 1, ..question };
        self.state = State::ExpectAnswer { until: now + self.options.answer_within, question, rid };
        let topic = ask.topic().into();
        self.send(Packet::Publish(Publish { topic, delivery, retain: false, payload }), now);
    }

    fn register_body(&self) -> Bytes {
        // A registration id needs no escapes in JSON.
        let id = &self.registration_id;
        match &self.options.register_payload {
            None => format!("{{\"registrationId\":\"{id}\"}}"),
            Some(payload) => format!("{{\"registrationId\":\"{id}\",\"payload\":{}}}", payload.get()),
        }
        .into()
    }

    /// For the packet id and, in decimal, the request id.
    fn next_id(&mut self) -> NonZeroU16 {
        let id = NonZeroU16::new(self.last_id.wrapping_add(1)).unwrap_or(NonZeroU16::MIN);
        self.last_id = id.get();
        id
    }

    fn send(&mut self, packet: Packet, now: Duration) {
        let mut bytes = BytesMut::new();
        match encode(&packet, &mut bytes) {
            Ok(()) => {
                self.last_sent = now;
                self.outputs.push_back(DeviceOutput::Sent(packet));
                self.outputs.push_back(DeviceOutput::Send(bytes.freeze()));
            }
            Err(_) => self.finish(Err(DeviceFailure::TooLarge)),
        }
    }

    /// Takes leave of a service that still listens.
    fn leave(&mut self, result: Result<DeviceOutcome, DeviceFailure>, now: Duration) {
        if !matches!(self.state, State::ExpectConnAck { .. }) {
            self.send(Packet::Disconnect, now);
        }
        self.finish(result);
    }

    fn finish_unexpected(&mut self, kind: Kind) {
        self.finish(Err(DeviceFailure::Unexpected { kind, step: self.step() }));
    }

    fn finish(&mut self, result: Result<DeviceOutcome, DeviceFailure>) {
        if !matches!(self.state, State::Done) {
            self.state = State::Done;
            self.outputs.push_back(DeviceOutput::Done(result));
        }
    }
}

/// The two members of an answer's body that steer the device; text that is not JSON has neither.
struct Progress {
    is_assigning: bool,
    operation_id: Option<Box<str>>,
}

impl Progress {
    fn read(body: &[u8]) -> Self {
        let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let member = |name| value.get(name).and_then(serde_json::Value::as_str);
        Self {
            is_assigning: member("status") == Some("assigning"),
            operation_id: member("operationId").filter(|text| !text.is_empty()).map(Into::into),
        }
    }
}
