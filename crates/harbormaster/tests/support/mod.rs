//! A running service, and a device that asks as fast as it is answered.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::io::{BufRead as _, BufReader};
use std::num::NonZeroU16;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
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
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longer than any answer takes on a loaded machine.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A `harbormaster dev` on free ports.
pub(crate) struct Service {
    process: Child,
    pub(crate) id_scope: IdScope,
    pub(crate) group_key: SymmetricKey,
    port: u16,
    tls: Arc<rustls::ClientConfig>,
}

impl Service {
    pub(crate) fn start(data_dir: &Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_harbormaster"))
            .args(["dev", "--output", "json", "--mqtt-port", "0", "--data-dir"])
            .arg(data_dir)
            .env("HARBORMASTER_LOG", "error")
            // What a killed process announced goes with the test's directory.
            .env("XDG_RUNTIME_DIR", data_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|why| panic!("{why}: {line:?}"));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Self {
            process,
            id_scope: text(&ready["idScope"]).parse().unwrap(),
            group_key: text(&ready["enrollmentGroups"][0]["primaryKey"]).parse().unwrap(),
            port: ready["mqtt"]["port"].as_u64().unwrap().try_into().unwrap(),
            tls: dps_client::tls::trusting(Path::new(&text(&ready["caFile"]))).unwrap(),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// SIGKILL: nothing can be finished.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn stop(mut self) -> ExitStatus {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.process.wait().unwrap()
    }

    /// A device of the sample group, connected and subscribed.
    pub(crate) async fn connect(&self, id: &RegistrationId) -> std::io::Result<Device> {
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).await?;
        tcp.set_nodelay(true)?;
        let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await?;
        let mut device = Device { stream, buffer: BytesMut::new(), last_id: 0 };
        device.log_in(self, id).await?;
        Ok(device)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // A test that failed midway leaves nothing running.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) struct Device {
    stream: TlsStream<TcpStream>,
    buffer: BytesMut,
    last_id: u16,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Device {
    /// Registers; the operation id.
    pub(crate) async fn register(&mut self) -> std::io::Result<String> {
        let told = self.ask(|rid| Ask::Register { rid }).await?;
        assert_eq!(told.status, 202, "{told:?}");
        Ok(told.body["operationId"].as_str().unwrap().to_owned())
    }

    pub(crate) async fn poll(&mut self, operation_id: &str) -> std::io::Result<Told> {
        let told = self.ask(|rid| Ask::Poll { rid, operation_id: operation_id.into() }).await?;
        Ok(told)
    }

    async fn log_in(&mut self, service: &Service, id: &RegistrationId) -> std::io::Result<()> {
        let key = service.group_key.derive(id.as_str());
        let expiry = Timestamp::now() + SignedDuration::from_hours(1);
        let token = sign_device_token(&service.id_scope, id, &key, expiry);
        let version = "2021-06-01".parse().unwrap();
        let user_name = UserName::compose(&service.id_scope, id, &version, "durability").into();
        self.send(&Packet::Connect(Connect {
            clean_session: true,
            keep_alive_s: 0,
            client_id: id.as_str().into(),
            will: None,
            credentials: Some(Credentials { user_name, password: Some(Password::new(token.into_bytes())) }),
        }))
        .await?;
        assert!(matches!(self.receive().await?, Packet::ConnAck(connack) if connack.code as u8 == 0));
        let subscription = Subscription { filter: ANSWER_FILTER.into(), qos: Qos::AtMostOnce };
        let packet_id = NonZeroU16::MIN;
        self.send(&Packet::Subscribe(Subscribe { packet_id, subscriptions: vec![subscription] })).await?;
        assert!(matches!(self.receive().await?, Packet::SubAck(_)));
        Ok(())
    }

    async fn ask(&mut self, ask: impl FnOnce(Box<str>) -> Ask) -> std::io::Result<Told> {
        self.last_id += 1;
        let topic = ask(self.last_id.to_string().into()).topic().into();
        let payload = bytes::Bytes::new();
        self.send(&Packet::Publish(Publish {
            topic,
            delivery: Delivery::AtMostOnce,
            retain: false,
            payload,
        }))
        .await?;
        let Packet::Publish(answer) = self.receive().await? else { panic!("no answer") };
        let topic = AnswerTopic::parse(&answer.topic).unwrap();
        assert_eq!(*topic.rid, self.last_id.to_string());
        Ok(Told { status: topic.status, body: serde_json::from_slice(&answer.payload).unwrap() })
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
            let read = tokio::time::timeout(ANSWER_WITHIN, self.stream.read_buf(&mut self.buffer));
            if read.await.expect("an answer within the limit")? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
