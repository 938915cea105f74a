//! One registration over MQTT, on TLS or a WebSocket: the socket around [`dps_proto::mqtt::DeviceSession`].

mod link;

use std::time::Duration;

use bytes::BytesMut;
use dps_proto::mqtt::{DeviceLogin, DeviceOptions, DeviceOutcome, DeviceOutput, DeviceSession};
use tokio::time::{Instant, sleep_until, timeout};

use crate::device::{Endpoint, FinalAnswer, RegisterError, Step};
use link::Link;

/// What carries the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// TLS, usually on port 8883.
    Tls,
    /// A WebSocket over TLS, usually on port 443.
    WebSocket,
}

/// Registers one device and polls until the final answer. `watch` sees every step.
pub async fn register(
    endpoint: &Endpoint,
    carrier: Carrier,
    login: DeviceLogin,
    options: DeviceOptions,
    mut watch: impl FnMut(Duration, Step<'_>),
) -> Result<FinalAnswer, RegisterError> {
    let started = Instant::now();
    let stream = endpoint.connect().await?;
    watch(started.elapsed(), Step::connected(&stream));
    let mut link = match carrier {
        Carrier::Tls => Link::Tls(Box::new(stream)),
        Carrier::WebSocket => {
            let link = Link::web_socket(endpoint, stream).await?;
            watch(started.elapsed(), Step::Upgraded);
            link
        }
    };

    let opened = Instant::now();
    let mut session = DeviceSession::new(login, options, Duration::ZERO);
    let mut buffer = BytesMut::new();
    loop {
        while let Some(output) = session.poll() {
            match output {
                DeviceOutput::Send(bytes) => link.send(bytes).await?,
                DeviceOutput::Sent(packet) => watch(started.elapsed(), Step::Sent(&packet)),
                DeviceOutput::Received(packet) => watch(started.elapsed(), Step::Received(&packet)),
                DeviceOutput::Done(done) => {
                    // The answer is here; how the connection ends no longer matters.
                    let _ = timeout(Duration::from_secs(1), link.close()).await;
                    let DeviceOutcome::Final { status, body } = done?;
                    return Ok(FinalAnswer { status, body });
                }
            }
        }
        let deadline = session.deadline().map_or(opened, |deadline| opened + deadline);
        tokio::select! {
            read = link.receive(&mut buffer) => match read {
                Ok(0) => session.connection_ended(),
                Ok(_) => session.receive(&mut buffer, opened.elapsed()),
                Err(why) if why.kind() == std::io::ErrorKind::UnexpectedEof => {
                    session.connection_ended();
                }
                Err(why) => return Err(why.into()),
            },
            () = sleep_until(deadline) => session.handle_timeout(opened.elapsed()),
        }
    }
}
