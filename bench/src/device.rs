//! One simulated device: `dps-proto`'s device session over TLS or a WebSocket.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::{Bytes, BytesMut};
use dps_proto::mqtt::{
    ConnAck, ConnectCode, DeviceOptions, DeviceOutcome, DeviceOutput, DeviceSession, DeviceStep, Packet,
};
use dps_proto::topic::AnswerTopic;
use tokio::time::{Instant, timeout};

use crate::fleet::Credentials;
use crate::link::Link;
use crate::target::{Target, Transport};

/// How long a server may take to end a connection that the device has left.
const END_WITHIN: Duration = Duration::from_secs(5);

/// How far a device goes.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Stage {
    /// CONNACK has come.
    Connected,
    /// Subscribed, and the answer to one register has come.
    Attested,
}

/// A device and its connection.
pub(crate) struct Device {
    link: Link,
    session: DeviceSession,
    received: BytesMut,
    opened: Instant,
    /// Whether it waits as long as it is told to, or lets its session believe so.
    is_patient: bool,
    /// Time that the session believes to have passed and that has not.
    skipped: Duration,
    /// What a status of 429 or above asked for.
    deferred: Duration,
    /// What was received since the last packet that wants an answer; kept for [`Device::register_recorded`] only.
    record: Option<Vec<Vec<u8>>>,
}

/// Why [`Device::advance`] returned.
enum Reached {
    Stage,
    Outcome(DeviceOutcome),
}

/// How long one complete registration took.
pub(crate) struct Completed {
    /// From before TCP to the final answer, with the waits of 429 and above; with that which a 202 asks for where the device is patient.
    pub(crate) latency: Duration,
    /// Part of it that was asked for by 429 or above.
    pub(crate) deferred: Duration,
}

impl Device {
    /// TCP, TLS; CONNECT is not sent yet.
    pub(crate) async fn connect(
        target: &Target,
        credentials: Credentials,
        keep_alive_s: u16,
    ) -> anyhow::Result<Self> {
        let opened = Instant::now();
        let Credentials { login, identity } = credentials;
        let stream = target.connect(identity).await.context("TCP or TLS")?;
        let link = match target.transport {
            Transport::MqttWs => Link::web_socket(stream).await?,
            _ => Link::Tls(Box::new(stream)),
        };
        let options = DeviceOptions { keep_alive_s, ..DeviceOptions::default() };
        Ok(Self {
            link,
            session: DeviceSession::new(login, options, Duration::ZERO),
            received: BytesMut::new(),
            opened,
            is_patient: false,
            skipped: Duration::ZERO,
            deferred: Duration::ZERO,
            record: None,
        })
    }

    /// Everything from TCP to the end of the connection; the device must be assigned.
    pub(crate) async fn register(target: &Target, credentials: Credentials) -> anyhow::Result<Completed> {
        let mut device = Box::pin(Self::connect(target, credentials, 60)).await?;
        device.complete().await
    }

    /// As [`Device::register`], with every wait that the server asks for.
    pub(crate) async fn register_patiently(
        target: &Target,
        credentials: Credentials,
    ) -> anyhow::Result<Completed> {
        let mut device = Box::pin(Self::connect(target, credentials, 60)).await?;
        device.is_patient = true;
        device.complete().await
    }

    /// As [`Device::register`]; returns what the server sent in answer to CONNECT, SUBSCRIBE, register and poll.
    pub(crate) async fn register_recorded(
        target: &Target,
        credentials: Credentials,
    ) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut device = Box::pin(Self::connect(target, credentials, 60)).await?;
        device.record = Some(Vec::new());
        device.complete().await?;
        Ok(device.record.unwrap_or_default())
    }

    /// Goes as far as `stage` and no further.
    pub(crate) async fn reach(&mut self, stage: Stage) -> anyhow::Result<()> {
        match self.advance(Some(stage)).await? {
            Reached::Stage => Ok(()),
            Reached::Outcome(outcome) => bail!("the registration ended: {outcome:?}"),
        }
    }

    /// Whether the server has kept the connection open and silent.
    pub(crate) fn is_idle(&self) -> bool {
        self.link.is_idle()
    }

    async fn complete(&mut self) -> anyhow::Result<Completed> {
        let outcome = match self.advance(None).await? {
            Reached::Outcome(outcome) => outcome,
            Reached::Stage => bail!("the registration has no end"),
        };
        let skipped = if self.is_patient { Duration::ZERO } else { self.deferred };
        let completed = Completed { latency: self.opened.elapsed() + skipped, deferred: self.deferred };
        let DeviceOutcome::Final { status, body } = outcome;
        if status != 200 || !is_assigned(&body) {
            bail!("{status} {}", String::from_utf8_lossy(&body));
        }
        let farewell = async {
            self.link.shutdown().await?;
            // Until the server has closed too: what it still does belongs to this registration.
            while self.link.receive(&mut self.received).await? > 0 {}
            anyhow::Ok(())
        };
        // How the connection ends, after the answer, changes nothing.
        let _ = timeout(END_WITHIN, farewell).await.context("the server did not close the connection")?;
        Ok(completed)
    }

    async fn advance(&mut self, stage: Option<Stage>) -> anyhow::Result<Reached> {
        loop {
            while let Some(output) = self.session.poll() {
                match output {
                    DeviceOutput::Send(bytes) => self.send(bytes).await?,
                    DeviceOutput::Sent(_) => {}
                    DeviceOutput::Received(packet) => {
                        let is_connected = is_connack(&packet);
                        self.note(&packet);
                        if is_connected && stage == Some(Stage::Connected) {
                            return Ok(Reached::Stage);
                        }
                    }
                    DeviceOutput::Done(done) => return Ok(Reached::Outcome(done?)),
                }
            }
            if self.session.step() == DeviceStep::Waiting {
                if stage == Some(Stage::Attested) {
                    return Ok(Reached::Stage);
                }
                if !self.is_patient {
                    self.skip_wait();
                    continue;
                }
            }
            let wait = self.session.deadline().unwrap_or_default().saturating_sub(self.now());
            let before = self.received.len();
            match timeout(wait, self.link.receive(&mut self.received)).await {
                Ok(Ok(0)) => self.session.connection_ended(),
                Ok(Ok(_)) => {
                    if let Some(answers) = &mut self.record
                        && let Some(answer) = answers.last_mut()
                    {
                        answer.extend_from_slice(&self.received[before..]);
                    }
                    self.session.receive(&mut self.received, self.opened.elapsed() + self.skipped);
                }
                Ok(Err(why)) => return Err(why).context("the connection broke"),
                Err(_) => self.session.handle_timeout(self.opened.elapsed() + self.skipped),
            }
        }
    }

    async fn send(&mut self, bytes: Bytes) -> anyhow::Result<()> {
        if let Some(answers) = &mut self.record
            && bytes.first().is_some_and(|first| wants_answer(*first))
        {
            answers.push(Vec::new());
        }
        self.link.send(bytes).await.context("the connection broke")
    }

    /// Lets the session believe that its wait is over.
    fn skip_wait(&mut self) {
        let until = self.session.deadline().unwrap_or_default();
        self.skipped += until.saturating_sub(self.now());
        self.session.handle_timeout(until);
    }

    fn note(&mut self, packet: &Packet) {
        if let Packet::Publish(publish) = packet
            && let Some(AnswerTopic { status: 429.., retry_after_s, .. }) = AnswerTopic::parse(&publish.topic)
        {
            self.deferred += Duration::from_secs(retry_after_s.unwrap_or_default().into());
        }
    }

    fn now(&self) -> Duration {
        self.opened.elapsed() + self.skipped
    }
}

/// Whether a packet with this first byte is CONNECT, PUBLISH or SUBSCRIBE.
pub(crate) fn wants_answer(first_byte: u8) -> bool {
    matches!(first_byte >> 4, 1 | 3 | 8)
}

fn is_connack(packet: &Packet) -> bool {
    matches!(packet, Packet::ConnAck(ConnAck { code: ConnectCode::Accepted, .. }))
}

fn is_assigned(body: &[u8]) -> bool {
    let word = br#""status":"assigned""#;
    body.windows(word.len()).any(|window| window == word)
}
