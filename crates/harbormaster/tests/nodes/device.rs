//! A device that notes all that it is told, and takes nothing for lost.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use dps_proto::ids::{IdScope, RegistrationId};
use dps_proto::key::SymmetricKey;
use dps_proto::login::UserName;
use dps_proto::mqtt::{
    Connect, Credentials, Delivery, Packet, Password, Peer, Publish, Qos, Subscribe, Subscription, decode,
    encode,
};
use dps_proto::sas::sign_device_token;
use dps_proto::topic::{ANSWER_FILTER, AnswerTopic, Ask};
use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// As the Java SDK: longer than a node takes to say that it cannot decide.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Who it is.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) id_scope: IdScope,
    pub(crate) id: RegistrationId,
    pub(crate) key: SymmetricKey,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) retry_after_s: Option<u32>,
    pub(crate) body: Value,
}

/// A connection that is logged in and subscribed.
pub(crate) struct Link {
    stream: TlsStream<TcpStream>,
    buffer: BytesMut,
    last_rid: u32,
}

impl Link {
    /// Connects within a device's patience. [`ErrorKind::PermissionDenied`] where the CONNECT is refused.
    pub(crate) async fn connect(
        at: SocketAddr,
        tls: &Arc<rustls::ClientConfig>,
        who: &Identity,
    ) -> std::io::Result<Self> {
        timeout(ANSWER_WITHIN, Self::open(at, tls, who))
            .await
            .map_err(|_| Error::from(ErrorKind::TimedOut))?
    }

    async fn open(at: SocketAddr, tls: &Arc<rustls::ClientConfig>, who: &Identity) -> std::io::Result<Self> {
        let tcp = TcpStream::connect(at).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").map_err(Error::other)?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await?;
        let mut link = Self { stream, buffer: BytesMut::new(), last_rid: 0 };
        let expiry = Timestamp::now() + SignedDuration::from_hours(1);
        let token = sign_device_token(&who.id_scope, &who.id, &who.key, expiry);
        let version = "2021-06-01".parse().unwrap();
        let user_name = UserName::compose(&who.id_scope, &who.id, &version, "nodes").into();
        let credentials = Credentials { user_name, password: Some(Password::new(token.into_bytes())) };
        link.send(&Packet::Connect(Connect {
            clean_session: true,
            keep_alive_s: 0,
            client_id: who.id.as_str().into(),
            will: None,
            credentials: Some(credentials),
        }))
        .await?;
        match link.receive().await? {
            Packet::ConnAck(connack) if connack.code as u8 == 0 => {}
            _ => return Err(ErrorKind::PermissionDenied.into()),
        }
        let subscription = Subscription { filter: ANSWER_FILTER.into(), qos: Qos::AtMostOnce };
        let packet_id = NonZeroU16::MIN;
        link.send(&Packet::Subscribe(Subscribe { packet_id, subscriptions: vec![subscription] })).await?;
        link.receive().await?;
        Ok(link)
    }

    pub(crate) async fn register(&mut self) -> std::io::Result<Told> {
        self.ask(|rid| Ask::Register { rid }).await
    }

    pub(crate) async fn poll(&mut self, operation_id: &str) -> std::io::Result<Told> {
        self.ask(|rid| Ask::Poll { rid, operation_id: operation_id.into() }).await
    }

    async fn ask(&mut self, ask: impl FnOnce(Box<str>) -> Ask) -> std::io::Result<Told> {
        self.last_rid += 1;
        let topic = ask(self.last_rid.to_string().into()).topic().into();
        let payload = bytes::Bytes::new();
        self.send(&Packet::Publish(Publish {
            topic,
            delivery: Delivery::AtMostOnce,
            retain: false,
            payload,
        }))
        .await?;
        let answer = timeout(ANSWER_WITHIN, self.receive()).await;
        let Packet::Publish(answer) = answer.map_err(|_| Error::from(ErrorKind::TimedOut))?? else {
            return Err(Error::other("another packet than an answer"));
        };
        let topic = AnswerTopic::parse(&answer.topic).unwrap();
        assert_eq!(*topic.rid, self.last_rid.to_string());
        let body = serde_json::from_slice(&answer.payload).unwrap();
        Ok(Told { status: topic.status, retry_after_s: topic.retry_after_s, body })
    }

    async fn send(&mut self, packet: &Packet) -> std::io::Result<()> {
        let mut bytes = BytesMut::new();
        encode(packet, &mut bytes).unwrap();
        self.stream.write_all(&bytes).await?;
        self.stream.flush().await
    }

    async fn receive(&mut self) -> std::io::Result<Packet> {
        loop {
            if let Some(packet) = decode(&mut self.buffer, Peer::Server).unwrap() {
                return Ok(packet);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// All that a device was told on its way.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) operation_ids: Vec<String>,
    pub(crate) hub: Option<String>,
    pub(crate) device_id: Option<String>,
    /// Answers that asked it to come again, and connections that broke.
    pub(crate) setbacks: u32,
}

impl Notes {
    /// What a first answer or a poll says. Panics where it takes back what was told before, or is no answer that a device can do
    /// something with.
    fn take(&mut self, told: &Told, who: &Identity) -> Next {
        match told.status {
            503 | 429 => {
                assert!(told.retry_after_s.is_some(), "{told:?}");
                return Next::Later;
            }
            200 | 202 => {}
            _ => panic!("{}: {told:?} after {self:?}", who.id.as_str()),
        }
        let operation_id = told.body["operationId"].as_str().unwrap();
        if self.operation_ids.iter().all(|known| known != operation_id) {
            self.operation_ids.push(operation_id.to_owned());
        }
        let state = &told.body["registrationState"];
        match (told.status, state["status"].as_str()) {
            (200, Some("assigned")) => {
                let (hub, device_id) = (text(&state["assignedHub"]), text(&state["deviceId"]));
                assert!(self.hub.as_ref().is_none_or(|known| *known == hub), "{told:?} after {self:?}");
                (self.hub, self.device_id) = (Some(hub), Some(device_id));
                Next::Assigned
            }
            (202, _) => Next::Poll(operation_id.to_owned()),
            _ => panic!("{told:?}"),
        }
    }
}

enum Next {
    Assigned,
    Poll(String),
    Later,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Registers, again and again until it is assigned; `within` is when it is given up.
pub(crate) async fn provision(
    at: SocketAddr,
    tls: &Arc<rustls::ClientConfig>,
    who: &Identity,
    within: Duration,
) -> Notes {
    let mut notes = Notes::default();
    let on_its_way = async {
        loop {
            match attempt(at, tls, who, &mut notes).await {
                Ok(true) => return,
                Ok(false) | Err(_) => notes.setbacks += 1,
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    let in_time = timeout(within, on_its_way).await.is_ok();
    assert!(in_time, "{} was not assigned within {within:?}: {notes:?}", who.id.as_str());
    notes
}

/// One connection: whether it was told where the device lives.
async fn attempt(
    at: SocketAddr,
    tls: &Arc<rustls::ClientConfig>,
    who: &Identity,
    notes: &mut Notes,
) -> std::io::Result<bool> {
    let mut link = Link::connect(at, tls, who).await?;
    // An operation that was told stands on every node, whatever happened since.
    let mut next = match notes.operation_ids.last().cloned() {
        Some(operation_id) => notes.take(&link.poll(&operation_id).await?, who),
        None => notes.take(&link.register().await?, who),
    };
    loop {
        match next {
            Next::Assigned => return Ok(true),
            Next::Later => return Ok(false),
            Next::Poll(operation_id) => next = notes.take(&link.poll(&operation_id).await?, who),
        }
    }
}
