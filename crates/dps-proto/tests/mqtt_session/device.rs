//! A device that writes what a test tells it, against a session under a clock of its own.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dps_proto::mqtt::*;
use dps_proto::topic::ANSWER_FILTER;

pub(crate) const USER_NAME: &str = "0ne1/registrations/dev-1/api-version=2019-03-31";
pub(crate) const REGISTER: &str = "$dps/registrations/PUT/iotdps-register/?$rid=";
pub(crate) const POLL: &str = "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=";

/// A session, the buffer before it, and a clock.
pub(crate) struct Device {
    pub(crate) session: Session,
    pub(crate) buffer: BytesMut,
    pub(crate) now: Duration,
}

impl Device {
    pub(crate) fn new() -> Self {
        Self {
            session: Session::new(Duration::ZERO, SessionLimits::default()),
            buffer: BytesMut::new(),
            now: Duration::ZERO,
        }
    }

    pub(crate) fn with(limits: SessionLimits, keep_alive_s: u16) -> Self {
        let mut device = Self { session: Session::new(Duration::ZERO, limits), ..Self::new() };
        let Packet::Connect(connect) = connect_as(Some(USER_NAME), "dev-1") else { unreachable!() };
        device.says(Packet::Connect(Connect { keep_alive_s, ..connect }));
        device.session.verdict(ConnectVerdict::Accept, device.now);
        device.takes();
        device
    }

    pub(crate) fn connected() -> Self {
        Self::with(SessionLimits::default(), 0)
    }

    pub(crate) fn subscribed(qos: Qos) -> Self {
        let mut device = Self::connected();
        device.says(subscribe(1, ANSWER_FILTER, qos));
        device
    }

    pub(crate) fn attested_at(&mut self, now: Duration) {
        self.now = now;
        self.says(publish(&format!("{REGISTER}1"), Qos::AtMostOnce, 0, ""));
        self.session.attested(now);
        self.is_answered(200, None, "{}");
    }

    pub(crate) fn says(&mut self, packet: Packet) -> Vec<Output> {
        self.writes(&bytes_of(&[packet]))
    }

    pub(crate) fn writes(&mut self, bytes: &[u8]) -> Vec<Output> {
        self.buffer.extend_from_slice(bytes);
        self.session.receive(&mut self.buffer, self.now);
        self.takes()
    }

    pub(crate) fn is_answered(
        &mut self,
        status: u16,
        retry_after_s: Option<u32>,
        body: &'static str,
    ) -> Vec<Output> {
        self.session
            .answer(Answer { status, retry_after_s, body: Bytes::from_static(body.as_bytes()) }, self.now);
        self.takes()
    }

    pub(crate) fn waits_until(&mut self, now: Duration) -> Vec<Output> {
        self.now = now;
        self.session.handle_timeout(now);
        self.takes()
    }

    pub(crate) fn takes(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.session.poll()).collect()
    }
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn connect_as(user_name: Option<&str>, client_id: &str) -> Packet {
    let credentials = user_name.map(|user_name| Credentials { user_name: user_name.into(), password: None });
    Packet::Connect(Connect {
        clean_session: true,
        keep_alive_s: 0,
        client_id: client_id.into(),
        will: None,
        credentials,
    })
}

pub(crate) fn subscribe(packet_id: u16, filter: &str, qos: Qos) -> Packet {
    let subscriptions = vec![Subscription { filter: filter.into(), qos }];
    Packet::Subscribe(Subscribe { packet_id: packet_id.try_into().unwrap(), subscriptions })
}

pub(crate) fn publish(topic: &str, qos: Qos, packet_id: u16, payload: &str) -> Packet {
    let delivery = match qos {
        Qos::AtMostOnce => Delivery::AtMostOnce,
        Qos::AtLeastOnce => Delivery::AtLeastOnce { packet_id: packet_id.try_into().unwrap(), dup: false },
        Qos::ExactlyOnce => Delivery::ExactlyOnce { packet_id: packet_id.try_into().unwrap(), dup: false },
    };
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    Packet::Publish(Publish { topic: topic.into(), delivery, retain: false, payload })
}

pub(crate) fn bytes_of(packets: &[Packet]) -> Bytes {
    let mut bytes = BytesMut::new();
    for packet in packets {
        encode(packet, &mut bytes).unwrap();
    }
    bytes.freeze()
}

/// What the service sent, as the device reads it.
pub(crate) fn packets(outputs: &[Output]) -> Vec<Packet> {
    let mut bytes = BytesMut::new();
    for output in outputs {
        if let Output::Send(sent) = output {
            bytes.extend_from_slice(sent);
        }
    }
    let packets = std::iter::from_fn(|| decode(&mut bytes, Peer::Server).unwrap()).collect();
    assert!(bytes.is_empty());
    packets
}
