//! Strangers: well-formed tokens with a wrong signature, the next as soon as one is refused.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, bail};
use bytes::{Bytes, BytesMut};
use clap::Args;
use dps_proto::ids::{IdScope, RegistrationId};
use dps_proto::login::UserName;
use dps_proto::mqtt::{
    Connect, Credentials, Delivery, Packet, Peer, Publish, Qos, Subscribe, Subscription, decode, encode,
};
use dps_proto::topic::{ANSWER_FILTER, AnswerTopic, Ask};
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

use crate::fleet::{self, Fleet};
use crate::target::{self, Target};

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: target::Options,
    /// What the strangers pretend to be enrolled by.
    #[arg(long)]
    fleet: Fleet,
    /// Number of the first device that they pretend to be.
    #[arg(long)]
    first: u64,
    /// Connections, each of which sends one token at a time.
    #[arg(long)]
    at_once: u64,
    /// Registers of one connection before the next; 1 is a new handshake for each.
    #[arg(long, default_value_t = u64::MAX)]
    registers: u64,
}

/// Answers by their status; 0 counts connections that the server ended.
type Counts = Arc<Mutex<BTreeMap<u16, u64>>>;

#[derive(Serialize)]
struct Results {
    answers: BTreeMap<u16, u64>,
}

/// Goes on until standard input ends.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let counts = Counts::default();
    let target = Target::new(&options.target)?;
    let key = fleet::strange_key()?;
    let mut strangers = JoinSet::new();
    for number in options.first..options.first + options.at_once {
        let id = options.fleet.registration_id(number)?;
        let login = fleet::login(&options.target.id_scope, id, &key)?;
        let user_name = UserName::compose(
            &login.id_scope,
            &login.registration_id,
            &login.api_version,
            &login.client_version,
        );
        let connect = Packet::Connect(Connect {
            clean_session: true,
            keep_alive_s: 0,
            client_id: login.registration_id.as_str().into(),
            will: None,
            credentials: Some(Credentials { user_name: user_name.into(), password: login.password }),
        });
        let (target, counts) = (target.clone(), Arc::clone(&counts));
        let (scope, registers) = (options.target.id_scope.clone(), options.registers);
        strangers.spawn(async move {
            let stranger = Stranger { target, connect, id: login.registration_id, scope };
            loop {
                // The service may end it at any time; that is an answer too.
                if stranger.insist(registers, &counts).await.is_err() {
                    count(&counts, 0);
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    tokio::task::spawn_blocking(|| std::io::stdin().lock().read_to_end(&mut Vec::new())).await??;
    let answers = counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
    crate::tell(&Results { answers })?;
    strangers.abort_all();
    Ok(())
}

struct Stranger {
    target: Target,
    connect: Packet,
    id: RegistrationId,
    scope: IdScope,
}

impl Stranger {
    /// One connection, on which one register follows another.
    async fn insist(&self, registers: u64, counts: &Counts) -> anyhow::Result<()> {
        let mut stream = self.target.connect(None).await?;
        let mut buffer = BytesMut::new();
        send(&mut stream, &self.connect).await?;
        receive(&mut stream, &mut buffer).await?;
        let line = Subscription { filter: ANSWER_FILTER.into(), qos: Qos::AtMostOnce };
        let packet_id = std::num::NonZeroU16::MIN;
        send(&mut stream, &Packet::Subscribe(Subscribe { packet_id, subscriptions: vec![line] })).await?;
        receive(&mut stream, &mut buffer).await?;
        for number in 0..registers {
            let topic = Ask::Register { rid: number.to_string().into() }.topic().into();
            let payload = Bytes::from(format!("{{\"registrationId\":\"{}\"}}", self.id));
            let delivery = Delivery::AtMostOnce;
            send(&mut stream, &Packet::Publish(Publish { topic, delivery, retain: false, payload })).await?;
            let Packet::Publish(answer) = receive(&mut stream, &mut buffer).await? else {
                bail!("no answer in {}", self.scope);
            };
            let answer = AnswerTopic::parse(&answer.topic).context("an answer's topic")?;
            count(counts, answer.status);
        }
        Ok(())
    }
}

async fn send(stream: &mut TlsStream<TcpStream>, packet: &Packet) -> anyhow::Result<()> {
    let mut bytes = BytesMut::new();
    encode(packet, &mut bytes)?;
    stream.write_all(&bytes).await?;
    Ok(stream.flush().await?)
}

async fn receive(stream: &mut TlsStream<TcpStream>, buffer: &mut BytesMut) -> anyhow::Result<Packet> {
    loop {
        if let Some(packet) = decode(buffer, Peer::Server)? {
            return Ok(packet);
        }
        if stream.read_buf(buffer).await? == 0 {
            bail!("the connection ended");
        }
    }
}

fn count(counts: &Counts, status: u16) {
    *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(status).or_default() += 1;
}
