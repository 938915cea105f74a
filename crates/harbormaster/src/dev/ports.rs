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
                    _ => format!("free it, or give --bind {} and connect there", another(bind)),
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

/// The port for brokers, on loopback whatever `--bind` says.
pub(super) async fn broker(port: u16) -> Result<TcpListener, Failure> {
    at(IpAddr::V4(Ipv4Addr::LOCALHOST), port, "--broker-port").await
}

/// Whether anything can listen on the address.
pub(super) async fn judge(bind: IpAddr) -> Result<(), Failure> {
    at(bind, 0, "--bind").await.map(drop)
}

/// A loopback address beside one that is taken.
fn another(taken: IpAddr) -> Ipv4Addr {
    match taken {
        IpAddr::V4(address) if address.is_loopback() && address.octets()[3] < 254 => {
            let [a, b, c, d] = address.octets();
            Ipv4Addr::new(a, b, c, d + 1)
        }
        _ => Ipv4Addr::new(127, 0, 0, 2),
    }
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
            ErrorKind::AddrNotAvailable => {
                return Failure::usage(anyhow!(
                    "--bind: this machine has no address {bind}; give one that it has, or 0.0.0.0 for all of them"
                ));
            }
            _ => format!("choose another with --bind and {option}"),
        };
        Failure::usage(anyhow!("{option}: cannot listen on {address}: {why}; {advice}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-DEV-4
    #[tokio::test]
    async fn what_cannot_be_bound_is_told_by_the_option_that_mends_it() {
        // Of a network for documentation: no machine has it.
        let nowhere: IpAddr = "192.0.2.1".parse().unwrap();
        for asked in [None, Some(0)] {
            let told = MQTT.bind(nowhere, asked).await.unwrap_err().why.to_string();
            assert!(told.starts_with("--bind: this machine has no address 192.0.2.1"), "{told}");
        }
        for (taken, free) in
            [("127.0.0.1", "127.0.0.2"), ("127.0.0.2", "127.0.0.3"), ("0.0.0.0", "127.0.0.2")]
        {
            assert_eq!(another(taken.parse().unwrap()).to_string(), free);
        }
    }
}
