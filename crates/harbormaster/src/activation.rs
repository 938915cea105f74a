//! Sockets that the supervisor bound and passed on. Spec: DPS-SERVE-11.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context as _, anyhow};
use listenfd::ListenFd;

use crate::configuration::Listen;

/// A socket that was passed on.
pub(crate) struct Passed {
    /// As the supervisor names it, which may say nothing.
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) listener: TcpListener,
}

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Mqtt,
    Https,
    Admin,
}

impl Purpose {
    const NAMES: [(&str, Self); 3] = [("mqtt", Self::Mqtt), ("https", Self::Https), ("admin", Self::Admin)];

    /// Whether a supervisor that says `name` means this.
    pub(crate) fn is_named(self, name: &str) -> bool {
        Self::NAMES.contains(&(name, self))
    }
}

/// A socket that the configuration has no use for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the socket {address} that the supervisor passed on (named {name:?}) is none of [listen]: name it mqtt, https or admin \
     (FileDescriptorName=), or list its address"
)]
pub(crate) struct Purposeless {
    name: String,
    address: SocketAddr,
}

/// Takes the sockets from the environment of the process, once, before any thread is started.
pub(crate) fn take() -> anyhow::Result<Vec<Passed>> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut sockets = ListenFd::from_env();
    let mut passed = Vec::new();
    for index in 0..sockets.len() {
        let name = names.next().unwrap_or_default().to_owned();
        let context = || format!("socket {index} that the supervisor passed on (named {name:?})");
        let listener = sockets.take_tcp_listener(index).with_context(context)?;
        let listener = listener.ok_or_else(|| anyhow!("it was taken already")).with_context(context)?;
        listener.set_nonblocking(true).with_context(context)?;
        let address = listener.local_addr().with_context(context)?;
        passed.push(Passed { name, address, listener });
    }
    Ok(passed)
}

/// What the socket is for: by its name, else by its address.
pub(crate) fn purpose(name: &str, address: SocketAddr, listen: &Listen) -> Result<Purpose, Purposeless> {
    let named = Purpose::NAMES.into_iter().find_map(|(known, purpose)| (known == name).then_some(purpose));
    let listed = || {
        let (mqtt, https, admin) = (&listen.mqtt, &listen.https, std::slice::from_ref(&listen.admin));
        [(Purpose::Mqtt, &**mqtt), (Purpose::Https, https), (Purpose::Admin, admin)].into_iter().find_map(
            |(purpose, addresses)| {
                addresses.iter().any(|listed| covers(address, listed.value)).then_some(purpose)
            },
        )
    };
    named.or_else(listed).ok_or_else(|| Purposeless { name: name.to_owned(), address })
}

/// Whether a socket at `passed` does what one at `listed` would. A socket at `[::]` takes IPv4 as well.
pub(crate) fn covers(passed: SocketAddr, listed: SocketAddr) -> bool {
    passed.port() == listed.port()
        && (passed.ip() == listed.ip() || (passed.ip().is_unspecified() && listed.ip().is_unspecified()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::{Located, Position};

    fn listen() -> Listen {
        let at = Position { line: 1, column: 1 };
        let located = |text: &str| Located { value: text.parse().unwrap(), at };
        Listen {
            mqtt: vec![located("0.0.0.0:8883"), located("192.0.2.1:8884")],
            https: vec![located("[::]:443")],
            admin: located("127.0.0.1:9883"),
            proxy_protocol_from: Vec::new(),
            admin_token: None,
            broker: None,
        }
    }

    /// DPS-SERVE-11
    #[test]
    fn a_passed_socket_is_known_by_its_name_else_by_its_address() {
        let check = |name, address: &str, expected| {
            let found = purpose(name, address.parse().unwrap(), &listen()).ok();
            assert_eq!(found, expected, "{name} {address}");
        };
        check("https", "0.0.0.0:8883", Some(Purpose::Https));
        check("admin", "127.0.0.1:1", Some(Purpose::Admin));
        check("mqtt", "127.0.0.1:1", Some(Purpose::Mqtt));
        check("harbormaster.socket", "[::]:8883", Some(Purpose::Mqtt));
        check("", "192.0.2.1:8884", Some(Purpose::Mqtt));
        check("unknown", "[::]:443", Some(Purpose::Https));
        check("", "127.0.0.1:9883", Some(Purpose::Admin));
        check("", "192.0.2.2:8884", None);
        check("", "0.0.0.0:9883", None);
    }
}
