//! The server side of one MQTT connection, as a state machine. Spec: DPS-MQTT-1 to DPS-MQTT-27.
//!
//! It knows packets, topics and limits. Who has an enrollment, what is answered, and how bytes travel is the caller's.

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroU16;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::packet::{
    ConnAck, Connect, ConnectCode, Delivery, Kind, Packet, Peer, Publish, Qos, SubAck, Subscribe,
    SubscribeCode, Subscription, Unsubscribe,
};
use super::{CloseReason, ConnectRefusal, Password, decode, encode};
use crate::login::{BadUserName, UserName};
use crate::topic::{ANSWER_FILTER, AnswerTopic, Ask};

/// How long the caller may take for one answer, once the connection is attested.
///
/// A backstop that no working service meets: nothing waits without a deadline.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(300);

/// The server side of one connection.
///
/// Times are counted from when the connection was accepted, and never go back. The caller owns the socket and one
/// buffer, and does this:
///
/// 1. [`new`](Self::new) when the connection is accepted.
/// 2. Take every [`Output`] from [`poll`](Self::poll) until there is none, before anything else is called:
///    - [`Output::Send`]: write the bytes, each in one write, so that a receipt and its answer share a TLS record.
///    - [`Output::Login`]: look up the ID scope, then call [`verdict`](Self::verdict).
///    - [`Output::Request`]: judge and carry it out, calling [`attested`](Self::attested) the first time that the
///      device has proven itself, then [`answer`](Self::answer).
///    - [`Output::Unanswered`]: warn in the log.
///    - [`Output::Close`]: close the socket and drop the session. It is the last output.
/// 3. After `verdict` or `answer`, call [`receive`](Self::receive) again even if no byte has come: packets that were
///    sent ahead wait in the buffer. Spec: DPS-MQTT-24.
/// 4. While [`is_busy`](Self::is_busy), read nothing from the socket: the buffer then never holds more than one
///    largest packet and what came with its end.
/// 5. Otherwise read into the buffer and call `receive`; at [`deadline`](Self::deadline), busy or not, call
///    [`handle_timeout`](Self::handle_timeout). To end the connection for a reason of your own, call
///    [`close`](Self::close).
///
/// A call in a state that does not expect it, such as an answer after a timeout, does nothing.
pub struct Session {
    state: State,
    limits: SessionLimits,
    /// Given out as one before everything in `events`.
    sending: BytesMut,
    events: VecDeque<Output>,
}

/// How long a connection may take. Spec: DPS-MQTT-27.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// From the connection to the end of CONNECT.
    pub connect_within: Duration,
    /// From CONNECT to the first attested request.
    pub attest_within: Duration,
    /// From one packet to the next, once attested; the time of an answer does not count.
    pub idle: Duration,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            connect_within: Duration::from_secs(30),
            attest_within: Duration::from_secs(60),
            idle: Duration::from_secs(15 * 60),
        }
    }
}

/// What the caller is to do, in this order.
#[derive(PartialEq, Eq)]
pub enum Output {
    /// Write these bytes, in one write.
    Send(Bytes),
    /// A CONNECT of good form: call [`Session::verdict`].
    Login(Box<Login>),
    /// The device asks something: call [`Session::answer`].
    Request(Request),
    /// The device did not subscribe, so an answer was dropped: warn. Spec: DPS-MQTT-23.
    Unanswered {
        /// The request id.
        rid: Box<str>,
        /// The status that the device was not told.
        status: u16,
    },
    /// Close the connection: the last output.
    Close(CloseReason),
}

impl fmt::Debug for Output {
    /// Bodies may hold what no log should: of bytes it tells the number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(bytes) => write!(f, "Send({} bytes)", bytes.len()),
            Self::Login(login) => write!(f, "{login:?}"),
            Self::Request(request) => write!(f, "Request({request:?})"),
            Self::Unanswered { rid, status } => write!(f, "Unanswered {{ {rid:?}, {status} }}"),
            Self::Close(reason) => write!(f, "Close({reason:?})"),
        }
    }
}

/// Who a device says it is. Nothing of it is proven. Spec: DPS-MQTT-5.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user name, which says whose device it is, and the api-version.
    pub user: UserName,
    /// A SAS token, or missing where a certificate is shown.
    pub password: Option<Password>,
    /// The registration id once more, in the spelling of the client id.
    pub client_id: Box<str>,
    /// As asked; nothing is ever restored. Spec: DPS-MQTT-6.
    pub clean_session: bool,
    /// Seconds; 0 means none. Spec: DPS-MQTT-8.
    pub keep_alive_s: u16,
}

impl PartialEq for Login {
    fn eq(&self, other: &Self) -> bool {
        (&self.user.id_scope, &self.user.registration_id, &self.user.api_version)
            == (&other.user.id_scope, &other.user.registration_id, &other.user.api_version)
            && (&self.password, &self.client_id) == (&other.password, &other.client_id)
            && (self.clean_session, self.keep_alive_s) == (other.clean_session, other.keep_alive_s)
    }
}

impl Eq for Login {}

/// What a device asks. Spec: DPS-MQTT-14.
#[derive(Clone, PartialEq, Eq)]
pub enum Request {
    /// Register this device.
    Register {
        /// The body as received, up to 96 KiB; nothing of it is judged here. It shares the memory of the buffer that
        /// it was read from: drop it before reading on. Spec: DPS-MQTT-17.
        payload: Bytes,
    },
    /// Tell the state of an operation. Its body is not passed on. Spec: DPS-MQTT-18.
    Poll {
        /// The operation id as received; any text.
        operation_id: Box<str>,
    },
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Register { payload } => write!(f, "Register {{ {} bytes }}", payload.len()),
            Self::Poll { operation_id } => write!(f, "Poll {{ {operation_id:?} }}"),
        }
    }
}

/// Whether a login may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectVerdict {
    /// A service instance has the ID scope.
    Accept,
    /// None has. Spec: DPS-MQTT-4.
    UnknownIdScope,
}

/// The answer to a request. The session puts the request id to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP-like status.
    pub status: u16,
    /// Seconds to wait before asking again; left out unless the status is 202, 429 or 5xx. Spec: DPS-MQTT-20.
    pub retry_after_s: Option<u32>,
    /// JSON text.
    pub body: Bytes,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, retry_after_s, body } = self;
        write!(f, "Answer {{ {status}, retry_after_s: {retry_after_s:?}, {} bytes }}", body.len())
    }
}

/// Named for what it waits for.
#[derive(Debug)]
enum State {
    ExpectConnect { until: Duration },
    ExpectVerdict(Connected),
    Ready(Connected),
    ExpectAnswer(Connected, Asked),
    Closed,
}

/// What is known of a connection after CONNECT.
#[derive(Debug, Clone, Copy)]
struct Connected {
    keep_alive_s: u16,
    /// `None` once attested.
    attest_until: Option<Duration>,
    last_heard: Duration,
    /// The granted QoS.
    subscription: Option<Qos>,
    /// Of our own QoS 1 messages; 0 before the first.
    last_packet_id: u16,
}

/// What an answer needs to know of its request.
#[derive(Debug)]
struct Asked {
    rid: Box<str>,
    /// Of a QoS 1 request, whose PUBACK waits for the answer. Spec: DPS-MQTT-21.
    packet_id: Option<NonZeroU16>,
    since: Duration,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Session {
    /// A connection that was just accepted.
    pub fn new(now: Duration, limits: SessionLimits) -> Self {
        let state = State::ExpectConnect { until: now + limits.connect_within };
        Self { state, limits, sending: BytesMut::new(), events: VecDeque::new() }
    }

    /// Takes every complete packet from the front of the buffer, until one needs an answer from the caller.
    pub fn receive(&mut self, buffer: &mut BytesMut, now: Duration) {
        self.handle_timeout(now);
        while let Some(&first_byte) = buffer.first() {
            // Judged on the first byte, before a large packet is waited for. Spec: DPS-MQTT-1, DPS-MQTT-9.
            let is_connect = Kind::of(first_byte) == Some(Kind::Connect);
            match &self.state {
                State::ExpectConnect { .. } if !is_connect => {
                    return self.close(CloseReason::NotConnectFirst { first_byte });
                }
                State::Ready(_) if is_connect => return self.close(CloseReason::SecondConnect),
                State::ExpectConnect { .. } | State::Ready(_) => {}
                State::ExpectVerdict(_) | State::ExpectAnswer(..) | State::Closed => return,
            }
            match decode(buffer, Peer::Client) {
                Ok(Some(packet)) => self.handle_packet(packet, now),
                Ok(None) => return,
                Err(malformed) => return self.close(malformed.into()),
            }
        }
    }

    /// The answer to [`Output::Login`].
    pub fn verdict(&mut self, verdict: ConnectVerdict, now: Duration) {
        let State::ExpectVerdict(connected) = self.state else {
            return;
        };
        match verdict {
            ConnectVerdict::Accept => {
                self.state = State::Ready(Connected { last_heard: now, ..connected });
                // DPS-MQTT-6: one official client breaks on session-present 1.
                self.send(&Packet::ConnAck(ConnAck { session_present: false, code: ConnectCode::Accepted }));
            }
            ConnectVerdict::UnknownIdScope => self.refuse(ConnectRefusal::UnknownIdScope),
        }
    }

    /// The answer to [`Output::Request`].
    pub fn answer(&mut self, answer: Answer, now: Duration) {
        let State::ExpectAnswer(connected, asked) = &mut self.state else {
            return;
        };
        let (rid, packet_id) = (std::mem::take(&mut asked.rid), asked.packet_id);
        // The device may have kept its keepalive while nobody read: its clock starts again.
        let mut connected = Connected { last_heard: now, ..*connected };
        let delivery = connected.next_delivery();
        self.state = State::Ready(connected);
        if let Some(packet_id) = packet_id {
            self.send(&Packet::PubAck { packet_id: packet_id.get() });
        }
        let Answer { status, retry_after_s, body } = answer;
        let Some(delivery) = delivery else {
            return self.events.push_back(Output::Unanswered { rid, status });
        };
        let retry_after_s = retry_after_s.filter(|_| matches!(status, 202 | 429 | 500..=599));
        let topic = AnswerTopic { status, rid, retry_after_s }.compose().into();
        self.send(&Packet::Publish(Publish { topic, delivery, retain: false, payload: body }));
    }

    /// The device has proven itself: from now on the idle limit counts, not the one for attestation.
    pub fn attested(&mut self, now: Duration) {
        if let State::Ready(connected) | State::ExpectAnswer(connected, _) = &mut self.state {
            connected.attest_until = None;
            connected.last_heard = now;
        }
    }

    /// Closes the connection if its deadline has passed; harmless before.
    pub fn handle_timeout(&mut self, now: Duration) {
        if let Some((at, reason)) = self.next_timeout()
            && now >= at
        {
            self.close(reason);
        }
    }

    /// Ends the session for a reason of the caller's. What was to be sent is still given out, then the reason.
    pub fn close(&mut self, reason: CloseReason) {
        if !matches!(self.state, State::Closed) {
            self.state = State::Closed;
            // Nobody waits for the answer to a question any more.
            self.events.retain(|event| matches!(event, Output::Unanswered { .. }));
            self.events.push_back(Output::Close(reason));
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); `None` only when closed.
    pub fn deadline(&self) -> Option<Duration> {
        self.next_timeout().map(|(at, _)| at)
    }

    /// The next thing to do; `None` when there is nothing.
    pub fn poll(&mut self) -> Option<Output> {
        if !self.sending.is_empty() {
            // Taken, not split off: a session that idles holds no buffer.
            return Some(Output::Send(std::mem::take(&mut self.sending).freeze()));
        }
        let event = self.events.pop_front();
        if event.is_none() {
            self.events = VecDeque::new();
        }
        event
    }

    /// Whether it waits for a verdict or an answer: the caller must not read more.
    pub fn is_busy(&self) -> bool {
        matches!(self.state, State::ExpectVerdict(_) | State::ExpectAnswer(..))
    }

    fn handle_packet(&mut self, packet: Packet, now: Duration) {
        match (&self.state, packet) {
            (State::ExpectConnect { .. }, Packet::Connect(connect)) => self.handle_connect(connect, now),
            (State::ExpectConnect { .. }, Packet::ConnectOfOtherLevel { level }) => {
                self.refuse(ConnectRefusal::Level { level });
            }
            (&State::Ready(connected), packet) => {
                self.handle_when_ready(Connected { last_heard: now, ..connected }, packet, now);
            }
            (_, packet) => self.close(CloseReason::OutOfPlace(packet.kind())),
        }
    }

    fn handle_connect(&mut self, connect: Connect, now: Duration) {
        let Connect { clean_session, keep_alive_s, client_id, credentials, .. } = connect;
        let Some(credentials) = credentials else {
            return self.refuse(BadUserName::Missing.into());
        };
        let user = match UserName::parse(&credentials.user_name) {
            Ok(user) => user,
            Err(bad) => return self.refuse(bad.into()),
        };
        if !client_id.eq_ignore_ascii_case(user.registration_id.as_str()) {
            return self.refuse(ConnectRefusal::client_id(&client_id, &user.registration_id));
        }
        self.state = State::ExpectVerdict(Connected {
            keep_alive_s,
            attest_until: Some(now + self.limits.attest_within),
            last_heard: now,
            subscription: None,
            last_packet_id: 0,
        });
        let login = Login { user, password: credentials.password, client_id, clean_session, keep_alive_s };
        self.events.push_back(Output::Login(Box::new(login)));
    }

    fn handle_when_ready(&mut self, mut connected: Connected, packet: Packet, now: Duration) {
        match packet {
            Packet::Publish(publish) => return self.handle_publish(connected, publish, now),
            Packet::Subscribe(Subscribe { packet_id, subscriptions }) => {
                let codes = subscriptions.iter().map(|line| connected.subscribe(line)).collect();
                self.send(&Packet::SubAck(SubAck { packet_id, codes }));
            }
            Packet::Unsubscribe(Unsubscribe { packet_id, filters }) => {
                // DPS-MQTT-13: another filter was never granted, so it ends nothing.
                if filters.iter().any(|filter| &**filter == ANSWER_FILTER) {
                    connected.subscription = None;
                }
                self.send(&Packet::UnsubAck { packet_id });
            }
            Packet::PingReq => self.send(&Packet::PingResp),
            // DPS-MQTT-22: nothing is ever sent again, so a receipt tells nothing.
            Packet::PubAck { .. } => {}
            Packet::Disconnect => return self.close(CloseReason::Disconnected),
            other => return self.close(CloseReason::OutOfPlace(other.kind())),
        }
        self.state = State::Ready(connected);
    }

    fn handle_publish(&mut self, connected: Connected, publish: Publish, now: Duration) {
        let packet_id = match publish.delivery {
            Delivery::AtMostOnce => None,
            Delivery::AtLeastOnce { packet_id, .. } => Some(packet_id),
            Delivery::ExactlyOnce { .. } => return self.close(CloseReason::Qos2Publish),
        };
        let (rid, request) = match Ask::parse(&publish.topic) {
            Ok(Ask::Register { rid }) => (rid, Request::Register { payload: publish.payload }),
            Ok(Ask::Poll { rid, operation_id }) => (rid, Request::Poll { operation_id }),
            Err(why) => return self.close(CloseReason::BadTopic { topic: publish.topic, why }),
        };
        self.state = State::ExpectAnswer(connected, Asked { rid, packet_id, since: now });
        self.events.push_back(Output::Request(request));
    }

    fn refuse(&mut self, refusal: ConnectRefusal) {
        self.send(&Packet::ConnAck(ConnAck { session_present: false, code: refusal.code() }));
        self.close(refusal.into());
    }

    fn send(&mut self, packet: &Packet) {
        if encode(packet, &mut self.sending).is_err() {
            self.close(CloseReason::AnswerTooLarge);
        }
    }

    /// The nearest limit and what it means to reach it.
    fn next_timeout(&self) -> Option<(Duration, CloseReason)> {
        let SessionLimits { connect_within, attest_within, idle } = self.limits;
        let not_attested = |connected: &Connected| {
            let reason = CloseReason::NotAttestedInTime { within: attest_within };
            connected.attest_until.map(|until| (until, reason))
        };
        match &self.state {
            State::ExpectConnect { until } => {
                Some((*until, CloseReason::ConnectTimeout { within: connect_within }))
            }
            State::ExpectVerdict(connected) => not_attested(connected),
            // Nothing is read now, so neither keepalive nor idle can be judged.
            State::ExpectAnswer(connected, asked) => {
                not_attested(connected).or(Some((asked.since + ANSWER_WITHIN, CloseReason::AnswerOverdue)))
            }
            State::Ready(connected) => {
                let quiet = not_attested(connected)
                    .unwrap_or((connected.last_heard + idle, CloseReason::Idle { after: idle }));
                let keep_alive = connected.keep_alive_until().filter(|(until, _)| *until < quiet.0);
                Some(keep_alive.unwrap_or(quiet))
            }
            State::Closed => None,
        }
    }
}

impl Connected {
    /// Spec: DPS-MQTT-11, DPS-MQTT-12.
    fn subscribe(&mut self, line: &Subscription) -> SubscribeCode {
        if &*line.filter != ANSWER_FILTER {
            return SubscribeCode::Refused;
        }
        let granted = line.qos.min(Qos::AtLeastOnce);
        self.subscription = Some(granted);
        SubscribeCode::Granted(granted)
    }

    /// How the next answer goes out; `None` without a subscription.
    fn next_delivery(&mut self) -> Option<Delivery> {
        if self.subscription? == Qos::AtMostOnce {
            return Some(Delivery::AtMostOnce);
        }
        let packet_id = NonZeroU16::new(self.last_packet_id.wrapping_add(1)).unwrap_or(NonZeroU16::MIN);
        self.last_packet_id = packet_id.get();
        Some(Delivery::AtLeastOnce { packet_id, dup: false })
    }

    /// Spec: DPS-MQTT-8.
    fn keep_alive_until(&self) -> Option<(Duration, CloseReason)> {
        let keep_alive_s = self.keep_alive_s;
        let patience = Duration::from_millis(u64::from(keep_alive_s) * 1_500);
        (keep_alive_s > 0).then(|| (self.last_heard + patience, CloseReason::KeepAlive { keep_alive_s }))
    }
}
