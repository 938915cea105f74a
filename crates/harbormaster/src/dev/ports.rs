//! Binding. Spec: DPS-DEV-4.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::anyhow;
use tokio::net::TcpListener;

use crate::exit::Failure;

/// The port that official SDKs connect to and cannot be told otherwise.
const MQTT: u16 = 8883;

/// The MQTT port: the asked one or none; without one, 8883 or any free one.
pub(super) async fn mqtt(bind: IpAddr, asked: Option<u16>) -> Result<TcpListener, Failure> {
    let Some(port) = asked else {
        return match TcpListener::bind((bind, MQTT)).await {
            Ok(listener) => Ok(listener),
            Err(why) => {
                let listener = at(bind, 0, "--mqtt-port").await?;
                let port = listener.local_addr()?.port();
                tracing::warn!(
                    %why,
                    port,
                    "port {MQTT} cannot be bound, so MQTT is on another one; official SDKs connect to {MQTT} only: \
                     free it, or give --bind 127.0.0.2 and connect there"
                );
                Ok(listener)
            }
        };
    };
    at(bind, port, "--mqtt-port").await
}

/// The admin port, on loopback whatever `--bind` says.
pub(super) async fn admin(port: u16) -> Result<TcpListener, Failure> {
    at(IpAddr::V4(Ipv4Addr::LOCALHOST), port, "--admin-port").await
}

async fn at(bind: IpAddr, port: u16, option: &str) -> Result<TcpListener, Failure> {
    let address = SocketAddr::new(bind, port);
    TcpListener::bind(address).await.map_err(|why| {
        let advice = match why.kind() {
            ErrorKind::AddrInUse => format!(
                "another process listens there: stop it, or choose another port with {option} (0 picks a free one)"
            ),
            ErrorKind::PermissionDenied => format!(
                "this user may not bind ports below 1024: choose another with {option}, or allow it with \
                 sysctl net.ipv4.ip_unprivileged_port_start={port}"
            ),
            ErrorKind::AddrNotAvailable => "this machine has no such address: choose another with --bind".to_owned(),
            _ => format!("choose another with --bind and {option}"),
        };
        Failure::usage(anyhow!("{option}: cannot listen on {address}: {why}; {advice}"))
    })
}
