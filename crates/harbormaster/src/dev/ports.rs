//! Binding. Spec: DPS-DEV-4.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::anyhow;
use tokio::net::TcpListener;

use crate::exit::Failure;

/// A port that official SDKs connect to and mostly cannot be told otherwise.
pub(super) struct Known {
    port: u16,
    option: &'static str,
    serves: &'static str,
}

/// MQTT over TLS.
pub(super) const MQTT: Known = Known { port: 8883, option: "--mqtt-port", serves: "MQTT" };

/// HTTPS.
pub(super) const HTTPS: Known = Known { port: 443, option: "--https-port", serves: "HTTPS" };

impl Known {
    /// The asked port or none; without one, the known one or any free one.
    pub(super) async fn bind(&self, bind: IpAddr, asked: Option<u16>) -> Result<TcpListener, Failure> {
        let Self { port: known, option, serves } = *self;
        if let Some(port) = asked {
            return at(bind, port, option).await;
        }
        match TcpListener::bind((bind, known)).await {
            Ok(listener) => Ok(listener),
            Err(why) => {
                let listener = at(bind, 0, option).await?;
                let port = listener.local_addr()?.port();
                let advice = match why.kind() {
                    ErrorKind::PermissionDenied => {
                        format!("allow it with sysctl net.ipv4.ip_unprivileged_port_start={known}")
                    }
                    _ => "free it, or give --bind 127.0.0.2 and connect there".to_owned(),
                };
                tracing::warn!(
                    reason = %why,
                    port,
                    "port {known} cannot be bound, so {serves} is on another one; most official SDKs connect to {known} \
                     only: {advice}"
                );
                Ok(listener)
            }
        }
    }
}

/// The admin port, on loopback whatever `--bind` says.
pub(super) async fn admin(port: u16) -> Result<TcpListener, Failure> {
    at(IpAddr::V4(Ipv4Addr::LOCALHOST), port, "--admin-port").await
}

/// Whether anything can listen on the address.
pub(super) async fn judge(bind: IpAddr) -> Result<(), Failure> {
    TcpListener::bind((bind, 0)).await.map(drop).map_err(|why| {
        Failure::usage(anyhow!("--bind: cannot listen on {bind}: {why}; give an address of this machine"))
    })
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
