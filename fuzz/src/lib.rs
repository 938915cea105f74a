//! What must hold for any bytes: one function for each fuzz target. Spec: DPS-MQTT-21, DPS-MQTT-24, DPS-MQTT-28,
//! DPS-SAS-1, DPS-LIMIT-15.
//!
//! The fuzz targets call these; so does a test of `dps-proto`, over the committed corpus and its mutations.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dps_proto::login::UserName;
use dps_proto::mqtt::{
    Answer, CloseReason, ConnectVerdict, Output, Packet, Peer, Session, SessionLimits, decode, encode,
};
use dps_proto::proxy_header::{self, HEADER_BYTES_MAX, Progress};
use dps_proto::sas::SasToken;
use dps_proto::topic::{AnswerTopic, Ask};

/// Whatever is read as a packet is written and read again as the same packet.
pub fn mqtt_packet(data: &[u8]) {
    for from in [Peer::Client, Peer::Server] {
        let mut buffer = BytesMut::from(data);
        while let Ok(Some(packet)) = decode(&mut buffer, from) {
            let mut again = BytesMut::new();
            assert_eq!(encode(&packet, &mut again), Ok(()));
            assert_eq!(decode(&mut again, from), Ok(Some(packet)));
            assert!(again.is_empty());
        }
    }
}

/// A session keeps its promises whatever its device and its caller do.
///
/// `data` is a list of steps: a byte that names the step, a byte that says how, and for bytes from the device as many
/// as that second byte says.
pub fn mqtt_session(data: &[u8]) {
    let mut run = Run {
        session: Session::new(Duration::ZERO, SessionLimits::default()),
        buffer: BytesMut::new(),
        now: Duration::ZERO,
        may_send: 0,
        is_closed: false,
    };
    let mut rest = data;
    while let [step, how, after @ ..] = rest {
        rest = after;
        if step % 8 < 3 {
            let (bytes, after) = rest.split_at(rest.len().min(usize::from(*how)));
            rest = after;
            run.device_sends(bytes);
        } else {
            run.step(step % 8, *how);
        }
    }
}

/// What is read of a header does not depend on how it comes, and no more is asked for than a header has.
pub fn proxy_header(data: &[u8]) {
    let whole = proxy_header::read(data);
    if let Ok(Progress::Whole { length, .. }) = whole {
        assert!(length <= data.len().min(HEADER_BYTES_MAX));
    }
    for end in 0..data.len().min(HEADER_BYTES_MAX + 1) {
        match proxy_header::read(&data[..end]) {
            Ok(Progress::Needs(bytes)) => {
                assert!(bytes > end && bytes <= HEADER_BYTES_MAX, "{bytes} at {end}")
            }
            // Sooner or later, it is the same.
            said => assert_eq!(said, whole, "at {end}"),
        }
    }
}

/// Nothing a device writes makes a parser panic, and what they make of it, they read again.
pub fn sas_token(data: &[u8]) {
    if let Ok(token) = SasToken::parse(data) {
        assert!(!format!("{token:?}").is_empty());
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(name) = UserName::parse(text) {
        assert!(text.contains(name.registration_id.as_str()));
    }
    if let Ok(ask) = Ask::parse(text) {
        assert_eq!(Ask::parse(&ask.topic()).map(|again| again.rid().to_owned()), Ok(ask.rid().to_owned()));
    }
    if let Some(topic) = AnswerTopic::parse(text) {
        assert_eq!(AnswerTopic::parse(&topic.compose()), Some(topic));
    }
}

struct Run {
    session: Session,
    buffer: BytesMut,
    now: Duration,
    /// How many bytes the session may have sent: what came in bounds what goes out.
    may_send: usize,
    is_closed: bool,
}

impl Run {
    fn device_sends(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.may_send += bytes.len();
        let waiting = self.buffer.len();
        self.session.receive(&mut self.buffer, self.now);
        assert!(!self.is_closed || self.buffer.len() == waiting, "nothing is read after the end");
        let packets = self.take_outputs();
        assert!(!packets.iter().any(|packet| matches!(packet, Packet::PubAck { .. } | Packet::Publish(_))));
    }

    fn step(&mut self, step: u8, how: u8) {
        match step {
            3 => {
                self.now += Duration::from_secs(u64::from(how));
                self.session.handle_timeout(self.now);
            }
            4 => {
                self.may_send += 4;
                let verdict =
                    if how == 0xFF { ConnectVerdict::UnknownIdScope } else { ConnectVerdict::Accept };
                self.session.verdict(verdict, self.now);
            }
            5 => return self.service_answers(how),
            6 => self.session.attested(self.now),
            _ if how == 0xFF => self.session.close(CloseReason::Shutdown),
            _ => {}
        }
        let packets = self.take_outputs();
        assert!(!packets.iter().any(|packet| matches!(packet, Packet::PubAck { .. } | Packet::Publish(_))));
    }

    fn service_answers(&mut self, how: u8) {
        let body = Bytes::from(vec![b'x'; usize::from(how)]);
        let status = [200, 202, 401, 429, 500][usize::from(how % 5)];
        // A topic is as long as the one of the request, but for the words around its request id.
        self.may_send += body.len() + 64;
        let retry_after_s = Some(u32::from(how));
        self.session.answer(Answer { status, retry_after_s, body: body.clone() }, self.now);
        match &self.take_outputs()[..] {
            [] | [Packet::PubAck { .. }] => {}
            // The receipt comes first. Spec: DPS-MQTT-21.
            [Packet::Publish(answer)] | [Packet::PubAck { .. }, Packet::Publish(answer)] => {
                assert_eq!(answer.payload, body);
                assert!(AnswerTopic::parse(&answer.topic).is_some_and(|topic| topic.status == status));
            }
            others => assert!(others.is_empty(), "after an answer came {others:?}"),
        }
    }

    /// The packets that were sent.
    fn take_outputs(&mut self) -> Vec<Packet> {
        let mut packets = Vec::new();
        while let Some(output) = self.session.poll() {
            assert!(!self.is_closed, "after the last output came {output:?}");
            match output {
                Output::Send(bytes) => {
                    assert!(self.may_send >= bytes.len(), "it sends more than it was asked for");
                    self.may_send -= bytes.len();
                    let mut bytes = BytesMut::from(bytes);
                    while let Ok(Some(packet)) = decode(&mut bytes, Peer::Server) {
                        packets.push(packet);
                    }
                    assert!(bytes.is_empty(), "it sends what no service may send");
                }
                // It asks one thing at a time. Spec: DPS-MQTT-24.
                Output::Login(_) | Output::Request(_) => assert!(self.session.is_busy()),
                Output::Unanswered { .. } => {}
                Output::Close(_) => self.is_closed = true,
            }
        }
        assert_eq!(self.session.deadline().is_none(), self.is_closed);
        assert!(!(self.is_closed && self.session.is_busy()));
        packets
    }
}
