//! A registration as a model client goes through it, and what it reports.

use std::time::Duration;

use dps_proto::key::SymmetricKey;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use crate::models::Model;
use crate::reading::{Outcome, Read, Topic};
use crate::wire::{self, Link, Seen};

/// How often a client asks the same thing again before these tests have seen enough.
const TRIES_MAX: u32 = 10;

/// How long a client that has its answer still notices what comes.
const LINGERS: Duration = Duration::from_millis(400);

/// What became of a registration.
#[derive(Debug, PartialEq)]
pub(crate) struct Report {
    pub(crate) outcome: Outcome,
    /// When each request was sent, in seconds since CONNECT.
    pub(crate) asked_at_s: Vec<u64>,
}

impl Model {
    /// The whole registration, with a SAS token.
    pub(crate) async fn run<S>(&self, stream: S, scope: &str, id: &str, key: &SymmetricKey) -> Report
    where
        S: AsyncRead + AsyncWrite,
    {
        self.go(stream, scope, id, Some(key)).await
    }

    /// The whole registration without a password: the device has shown a certificate.
    pub(crate) async fn run_by_certificate<S>(&self, stream: S, scope: &str, id: &str) -> Report
    where
        S: AsyncRead + AsyncWrite,
    {
        self.go(stream, scope, id, None).await
    }

    async fn go<S>(&self, stream: S, scope: &str, id: &str, key: Option<&SymmetricKey>) -> Report
    where
        S: AsyncRead + AsyncWrite,
    {
        let now = Instant::now();
        let mut talk = Talk {
            model: self,
            link: Link::new(stream),
            began: now,
            last_heard: now,
            granted: self.subscribe_qos,
            wants_suback: false,
            receipts_due: Vec::new(),
            is_asking: false,
            asked_at_s: Vec::new(),
        };
        let outcome = talk.exchange(scope, id, key).await.unwrap_or_else(Outcome::Broken);
        Report { outcome, asked_at_s: talk.asked_at_s }
    }
}

/// One connection of one client. An error is what the client holds against the server.
struct Talk<'m, S> {
    model: &'m Model,
    link: Link<S>,
    began: Instant,
    last_heard: Instant,
    granted: u8,
    wants_suback: bool,
    receipts_due: Vec<u16>,
    /// A request has no answer yet.
    is_asking: bool,
    asked_at_s: Vec<u64>,
}

impl<S: AsyncRead + AsyncWrite> Talk<'_, S> {
    async fn exchange(
        &mut self,
        scope: &str,
        id: &str,
        key: Option<&SymmetricKey>,
    ) -> Result<Outcome, &'static str> {
        let model = self.model;
        let user = format!("{scope}/registrations/{id}/{}", model.parameters);
        let password = key.map(|key| model.token.write(scope, id, key));
        self.link
            .send(&wire::connect(id, &user, password.as_deref(), model.clean, model.keep_alive_s))
            .await?;
        match self.next(None).await? {
            Some(Seen::ConnAck { session_present: true, .. }) if model.is_strict => {
                return Err("session present");
            }
            Some(Seen::ConnAck { code: 0, .. }) => {}
            Some(Seen::ConnAck { code, .. }) => return Ok(Outcome::NotLetIn(code)),
            _ => return Err("no CONNACK"),
        }
        self.link.send(&wire::subscribe(model.subscribe_qos)).await?;
        self.wants_suback = true;
        while model.waits_for_suback && self.wants_suback {
            if let Some(seen) = self.next(None).await? {
                self.take(seen).await?;
            }
        }

        let (mut operation, mut tries, mut polls) = (None::<String>, 0, 0);
        loop {
            let (topic, body) = self.ask(id, operation.as_deref()).await?;
            match (model.read)(topic, &body) {
                Read::End(outcome) => {
                    self.pause(LINGERS).await?;
                    if model.says_goodbye {
                        self.link.send(&wire::packet(0xE0, &[])).await?;
                    }
                    return Ok(outcome);
                }
                Read::Poll { operation_id, wait_s } => {
                    polls += 1;
                    if polls > model.polls_max {
                        return Err("too many polls");
                    }
                    (operation, tries) = (Some(operation_id), 0);
                    self.pause(Duration::from_secs(wait_s.into())).await?;
                }
                Read::Again { wait_s } => {
                    tries += 1;
                    if tries == TRIES_MAX {
                        return Ok(Outcome::GaveUp(topic.0));
                    }
                    self.pause(Duration::from_secs(wait_s.into())).await?;
                }
            }
        }
    }

    /// A register, or a poll of this operation, and its answer.
    async fn ask(&mut self, id: &str, operation: Option<&str>) -> Result<(Topic, Value), &'static str> {
        let model = self.model;
        self.asked_at_s.push(self.began.elapsed().as_secs());
        let packet_id = self.asked_at_s.len() as u16 + 1;
        let rid = if model.constant_rid { "1".to_owned() } else { packet_id.to_string() };
        let body = (model.register_body)(id);
        let (topic, body, patience_s) = match operation {
            None => {
                let topic = format!("$dps/registrations/PUT/iotdps-register/?$rid={rid}");
                (topic, body, model.patience.register_s)
            }
            Some(operation) => {
                let path = "$dps/registrations/GET/iotdps-get-operationstatus";
                let topic = format!("{path}/?$rid={rid}&operationId={operation}");
                (topic, if model.poll_has_body { body } else { String::new() }, model.patience.poll_s)
            }
        };
        self.link.send(&wire::publish(&topic, model.publish_qos, packet_id, &body)).await?;
        if model.publish_qos > 0 {
            self.receipts_due.push(packet_id);
        }
        self.is_asking = true;
        let until = patience_s.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        loop {
            let seen = self.next(until).await?.ok_or("no answer in time")?;
            if let Some(answer) = self.take(seen).await? {
                return Ok(answer);
            }
        }
    }

    /// Waits, and notices what comes meanwhile.
    async fn pause(&mut self, time: Duration) -> Result<(), &'static str> {
        let until = Instant::now() + time;
        while let Some(seen) = self.next(Some(until)).await? {
            self.take(seen).await?;
        }
        Ok(())
    }

    /// The next packet; `None` if none has come by then.
    async fn next(&mut self, until: Option<Instant>) -> Result<Option<Seen>, &'static str> {
        let silence =
            self.model.patience.silence_s.map(|seconds| self.last_heard + Duration::from_secs(seconds));
        let seen = match [until, silence].into_iter().flatten().min() {
            None => self.link.next().await,
            Some(end) => match timeout_at(end, self.link.next()).await {
                Ok(seen) => seen,
                Err(_) if silence == Some(end) => return Err("not a packet for too long"),
                Err(_) => return Ok(None),
            },
        };
        self.last_heard = Instant::now();
        seen.map(Some).ok_or("the connection was closed")
    }

    /// Judges a packet; the answer, if it is the one that was asked for.
    async fn take(&mut self, seen: Seen) -> Result<Option<(Topic, Value)>, &'static str> {
        let model = self.model;
        match seen {
            Seen::SubAck(1, code) if self.wants_suback => {
                if code == 0x80 && model.minds_suback {
                    return Err("the subscription was refused");
                }
                (self.granted, self.wants_suback) = (code, false);
                Ok(None)
            }
            Seen::PubAck(id) if self.receipts_due.contains(&id) => {
                self.receipts_due.retain(|due| *due != id);
                Ok(None)
            }
            Seen::PingResp if !model.is_strict => Ok(None),
            Seen::Publish { qos, .. } if qos > self.granted => Err("a QoS that was not granted"),
            Seen::Publish { retain: true, .. } | Seen::Publish { duplicate: true, .. } => {
                Err("an answer that is retained or sent again")
            }
            Seen::Publish { .. } if model.is_strict && !self.receipts_due.is_empty() => {
                Err("the answer before PUBACK")
            }
            Seen::Publish { .. } if model.counts_answers && !self.is_asking => Err("an answer too many"),
            Seen::Publish { topic, qos, id, payload, .. } => {
                if topic.len() > model.topic_bytes_max || payload.len() > model.payload_bytes_max {
                    return Err("an answer that does not fit");
                }
                if qos == 1 || model.is_strict {
                    self.link.send(&wire::packet(0x40, &id.to_be_bytes())).await?;
                }
                if !std::mem::take(&mut self.is_asking) {
                    return Ok(None);
                }
                let body = serde_json::from_str(&payload).map_err(|_| "a body that is no JSON")?;
                Ok(Some(((model.read_topic)(&topic)?, body)))
            }
            _ => Err("a packet that was not asked for"),
        }
    }
}
