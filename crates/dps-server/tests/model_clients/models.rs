//! Seven clients that people have in their devices, each with the habits and the weak points of the real one.
//!
//! The nRF client of the field proves itself by certificate only; here it has a token, everything else is its own.

use std::time::Duration;

use dps_proto::key::SymmetricKey;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

use crate::reading::{self, Outcome, Read, Topic};
use crate::wire::{self, Seen};

/// How one client goes about it.
pub(crate) struct Model {
    pub(crate) name: &'static str,
    clean: bool,
    keep_alive_s: u16,
    subscribe_qos: u8,
    publish_qos: u8,
    waits_for_suback: bool,
    /// The request id is 1 each time, not a counter.
    constant_rid: bool,
    register_body: fn(&str) -> String,
    /// Whether a poll carries the register body; else it is empty.
    poll_has_body: bool,
    token: fn(&str, &str, &SymmetricKey) -> String,
    /// Every packet in its place, session-present 0.
    is_strict: bool,
    topic_bytes_max: usize,
    payload_bytes_max: usize,
    polls_max: u32,
    read_topic: fn(&str) -> Result<Topic, &'static str>,
    read: fn(Topic, &Value) -> Read,
}

/// No client waits longer for one packet.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a client asks the same thing again before this test has seen enough.
const TRIES_MAX: u32 = 10;

fn json_id(id: &str) -> String {
    format!(r#"{{"registrationId":"{id}"}}"#)
}

const PLAIN: Model = Model {
    name: "",
    clean: true,
    keep_alive_s: 60,
    subscribe_qos: 1,
    publish_qos: 1,
    waits_for_suback: true,
    constant_rid: false,
    register_body: json_id,
    poll_has_body: false,
    token: token_mixed,
    is_strict: false,
    topic_bytes_max: 1_024,
    payload_bytes_max: 65_536,
    polls_max: u32::MAX,
    read_topic: reading::plain_topic,
    read: reading::embedded_c,
};

pub(crate) const CSHARP: Model = Model {
    name: "C#",
    keep_alive_s: 0,
    register_body: |_| String::new(),
    token: |scope, id, key| token("%2F", scope, id, key, "&skn=registration"),
    is_strict: true,
    read_topic: reading::csharp_topic,
    read: reading::csharp,
    ..PLAIN
};

pub(crate) const JAVA: Model = Model {
    name: "Java",
    clean: false,
    keep_alive_s: 230,
    publish_qos: 0,
    token: |scope, id, key| token("/", scope, id, key, "&skn="),
    read_topic: reading::java_topic,
    read: reading::java,
    ..PLAIN
};

pub(crate) const C_SDK: Model = Model {
    name: "C",
    keep_alive_s: 0,
    publish_qos: 0,
    poll_has_body: true,
    token: |scope, id, key| token("%2f", scope, id, key, "&skn=registration"),
    read: reading::c_sdk,
    ..PLAIN
};

pub(crate) const EMBEDDED_C: Model = Model {
    name: "azure-sdk-for-c",
    clean: false,
    keep_alive_s: 240,
    publish_qos: 0,
    constant_rid: true,
    ..PLAIN
};

pub(crate) const FREERTOS: Model = Model {
    name: "FreeRTOS",
    subscribe_qos: 0,
    publish_qos: 0,
    constant_rid: true,
    poll_has_body: true,
    topic_bytes_max: 128,
    payload_bytes_max: 512,
    read: reading::freertos,
    ..PLAIN
};

pub(crate) const NETX: Model = Model {
    name: "NetX",
    clean: false,
    keep_alive_s: 240,
    subscribe_qos: 0,
    waits_for_suback: false,
    constant_rid: true,
    register_body: |id| format!(r#"{{"registrationId" : "{id}"}}"#),
    poll_has_body: true,
    token: |scope, id, key| token("%2fregistrations%2f", scope, id, key, "&skn=registration"),
    read: reading::netx,
    ..PLAIN
};

pub(crate) const NRF: Model = Model {
    name: "nRF",
    subscribe_qos: 0,
    constant_rid: true,
    register_body: |_| String::new(),
    topic_bytes_max: 224,
    polls_max: 10,
    read: reading::nrf,
    ..PLAIN
};

pub(crate) const ALL: [Model; 7] = [CSHARP, JAVA, C_SDK, EMBEDDED_C, FREERTOS, NETX, NRF];

/// `%2fregistrations%2f` between parts in upper case, no skn.
fn token_mixed(scope: &str, id: &str, key: &SymmetricKey) -> String {
    token("%2fregistrations%2f", scope, id, key, "")
}

/// Far beyond the clock of the tests.
const EXPIRY: &str = "4000000000";

fn token(separator: &str, scope: &str, id: &str, key: &SymmetricKey, end: &str) -> String {
    use base64::Engine as _;
    let middle = if separator.contains("registrations") {
        separator.to_owned()
    } else {
        format!("{separator}registrations{separator}")
    };
    let resource = format!("{scope}{middle}{id}");
    let signature = key.sign(&[resource.as_bytes(), b"\n", EXPIRY.as_bytes()]);
    let signature = base64::engine::general_purpose::STANDARD.encode(signature);
    let signature = signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    format!("SharedAccessSignature sr={resource}&sig={signature}&se={EXPIRY}{end}")
}

impl Model {
    /// The whole registration; what this client reports.
    pub(crate) async fn run<S>(&self, mut stream: S, scope: &str, id: &str, key: &SymmetricKey) -> Outcome
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.exchange(&mut stream, scope, id, key).await.unwrap_or_else(Outcome::Broken)
    }

    async fn exchange<S>(
        &self,
        stream: &mut S,
        scope: &str,
        id: &str,
        key: &SymmetricKey,
    ) -> Result<Outcome, &'static str>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let user = format!("{scope}/registrations/{id}/api-version=2019-03-31");
        let password = (self.token)(scope, id, key);
        send(stream, &wire::connect(id, &user, &password, self.clean, self.keep_alive_s)).await?;
        match next(stream).await? {
            Seen::ConnAck { session_present: true, .. } if self.is_strict => return Err("session present"),
            Seen::ConnAck { code: 0, .. } => {}
            _ => return Err("no CONNACK 0"),
        }
        send(stream, &wire::subscribe(self.subscribe_qos)).await?;
        if self.waits_for_suback {
            self.expect_suback(stream).await?;
        }
        let (mut operation, mut packet_id, mut tries, mut polls) = (None::<String>, 1u16, 0, 0);
        let mut wants_suback = !self.waits_for_suback;
        loop {
            packet_id += 1;
            let rid = if self.constant_rid { "1".to_owned() } else { packet_id.to_string() };
            let (topic, body) = match &operation {
                None => {
                    (format!("$dps/registrations/PUT/iotdps-register/?$rid={rid}"), (self.register_body)(id))
                }
                Some(operation) => (
                    format!(
                        "$dps/registrations/GET/iotdps-get-operationstatus/?$rid={rid}&operationId={operation}"
                    ),
                    if self.poll_has_body { json_id(id) } else { String::new() },
                ),
            };
            send(stream, &wire::publish(&topic, self.publish_qos, packet_id, &body)).await?;
            if std::mem::take(&mut wants_suback) {
                self.expect_suback(stream).await?;
            }
            let (topic, body) = self.answer(stream, packet_id).await?;
            match (self.read)(topic, &body) {
                Read::End(outcome) => return Ok(outcome),
                Read::Poll { operation_id, wait_s } => {
                    polls += 1;
                    if polls > self.polls_max {
                        return Err("too many polls");
                    }
                    (operation, tries) = (Some(operation_id), 0);
                    sleep(Duration::from_secs(wait_s.into())).await;
                }
                Read::Again { wait_s } => {
                    tries += 1;
                    if tries == TRIES_MAX {
                        return Ok(Outcome::GaveUp(topic.0));
                    }
                    sleep(Duration::from_secs(wait_s.into())).await;
                }
            }
        }
    }

    async fn expect_suback<S: AsyncRead + Unpin>(&self, stream: &mut S) -> Result<(), &'static str> {
        match next(stream).await? {
            Seen::SubAck(codes) if codes == [self.subscribe_qos] => Ok(()),
            Seen::SubAck(_) => Err("the subscription was refused"),
            _ => Err("no SUBACK"),
        }
    }

    /// The answer, after the receipt where one is due.
    async fn answer<S>(&self, stream: &mut S, packet_id: u16) -> Result<(Topic, Value), &'static str>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut has_receipt = self.publish_qos == 0;
        loop {
            match next(stream).await? {
                Seen::PubAck(id) if !has_receipt && id == packet_id => has_receipt = true,
                Seen::Publish { .. } if self.is_strict && !has_receipt => {
                    return Err("the answer before PUBACK");
                }
                Seen::Publish { qos, .. } if qos > self.subscribe_qos => {
                    return Err("a QoS that was not granted");
                }
                Seen::Publish { retain: true, .. } | Seen::Publish { duplicate: true, .. } => {
                    return Err("an answer that is retained or sent again");
                }
                Seen::Publish { topic, qos, id, payload, .. } => {
                    if topic.len() > self.topic_bytes_max || payload.len() > self.payload_bytes_max {
                        return Err("an answer that does not fit");
                    }
                    if qos == 1 {
                        send(stream, &wire::packet(0x40, &id.to_be_bytes())).await?;
                    }
                    let body = serde_json::from_str(&payload).map_err(|_| "a body that is no JSON")?;
                    return Ok(((self.read_topic)(&topic)?, body));
                }
                _ => return Err("a packet that was not asked for"),
            }
        }
    }
}

async fn next<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Seen, &'static str> {
    let seen = timeout(PATIENCE, wire::read(stream)).await.map_err(|_| "no packet in time")?;
    seen.ok_or("the connection was closed")
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> Result<(), &'static str> {
    stream.write_all(bytes).await.map_err(|_| "the connection was closed")
}
