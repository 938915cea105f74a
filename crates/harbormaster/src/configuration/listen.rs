//! `[listen]`: the sockets. Spec: DPS-SERVE-4, DPS-SERVE-20.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;

use super::broker::Broker;
use super::document::Table;
use super::fault::{Located, Position};
use super::key::{Key, Section, Standard};
use super::secret::Secret;

const MQTT_PORT: u16 = 8_883;
const HTTPS_PORT: u16 = 443;
const ADMIN_PORT: u16 = 9_883;

const ADDRESS: &str =
    r#"write an address and a port, such as "0.0.0.0:8883" or "[::]:8883"; port 0 picks a free one"#;

const BALANCER: &str = r#"write an address or a network, such as "192.0.2.1" or "10.0.0.0/8""#;

/// Most networks of balancers: each connection is compared with all of them.
const BALANCERS_MAX: usize = 64;

/// Fewest characters of an admin token: 128 bits in hexadecimal.
const TOKEN_CHARACTERS_MIN: usize = 32;

/// Where to listen.
#[derive(Debug, Clone)]
pub(crate) struct Listen {
    pub(crate) mqtt: Vec<Located<SocketAddr>>,
    pub(crate) https: Vec<Located<SocketAddr>>,
    pub(crate) admin: Located<SocketAddr>,
    /// Whose connections to `mqtt` and `https` begin with a header that names the client.
    pub(crate) proxy_protocol_from: Vec<Located<BalancerNetwork>>,
    /// Without one, the data directory's own.
    pub(crate) admin_token: Option<Secret<String>>,
    /// For brokers that are local hubs.
    pub(crate) broker: Option<Broker>,
}

/// Where balancers are: a network, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BalancerNetwork(pub(crate) IpNet);

/// Why a text is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadBalancerNetwork {
    #[error("it is neither an address nor a network")]
    Form,
    #[error("it has bits beyond its prefix; the network is {0}")]
    BitsBeyondPrefix(IpNet),
}

impl FromStr for BalancerNetwork {
    type Err = BadBalancerNetwork;

    fn from_str(text: &str) -> Result<Self, BadBalancerNetwork> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.into()));
        }
        let network: IpNet = text.parse().map_err(|_| BadBalancerNetwork::Form)?;
        // A slip would have more addresses believed than were meant.
        if network.trunc() == network {
            Ok(Self(network))
        } else {
            Err(BadBalancerNetwork::BitsBeyondPrefix(network.trunc()))
        }
    }
}

pub(super) fn section() -> Section {
    let any = |port: u16| Standard::Value(format!(r#"["0.0.0.0:{port}"]"#));
    let mut keys = vec![
        Key::new(
            "mqtt",
            r#"list of "ADDRESS:PORT""#,
            any(MQTT_PORT),
            "Where devices connect for MQTT over TLS. Official SDKs know port 8883 only. Port 0 picks a free one.",
        ),
        Key::new(
            "https",
            r#"list of "ADDRESS:PORT""#,
            any(HTTPS_PORT),
            "Where devices connect over WebSocket and HTTPS, and clients of the service API. Official SDKs know port 443 only.",
        ),
        Key::new(
            "admin",
            r#""ADDRESS:PORT""#,
            Standard::Value(format!(r#""127.0.0.1:{ADMIN_PORT}""#)),
            "Where the person who runs the service looks at it: explanations, metrics, health. It speaks plain HTTP: \
             keep it on loopback or behind a proxy.",
        ),
        Key::new(
            "proxy_protocol_from",
            "list of networks and addresses, up to 64",
            Standard::Value("[]".to_owned()),
            "Balancers, such as `\"10.0.0.0/8\"` or `\"192.0.2.1\"`: each connection from there to `mqtt` or `https` must begin with a header of the \
             PROXY protocol in version 2, and what it says of the client's address is believed, for limits, logs and `geoLatency`. A \
             connection from elsewhere must not have one.",
        ),
    ];
    keys.extend(Key::secret(
        ["admin_token_file", "admin_token_env"],
        "the token that opens the admin listener, 32 characters or more",
        Standard::Nothing("the file admin-token of the data directory, made at the first start"),
        "What clients of the admin listener send as `Authorization: Bearer`.",
    ));
    Section { path: "listen", repeated: false, about: "The sockets.", keys }
}

impl Listen {
    pub(super) fn read(table: &Table<'_>) -> Self {
        let any = |port| Located { value: SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), at: table.at() };
        let listen = Self {
            mqtt: table.all_parsed("mqtt", ADDRESS).unwrap_or_else(|| vec![any(MQTT_PORT)]),
            https: table.all_parsed("https", ADDRESS).unwrap_or_else(|| vec![any(HTTPS_PORT)]),
            admin: table.parsed("admin", ADDRESS).unwrap_or_else(|| {
                let value = SocketAddr::from((Ipv4Addr::LOCALHOST, ADMIN_PORT));
                Located { value, at: table.at() }
            }),
            proxy_protocol_from: table.all_parsed("proxy_protocol_from", BALANCER).unwrap_or_default(),
            admin_token: table.secret("admin_token", token, "make one with openssl rand -hex 32"),
            broker: Broker::read(&table.table("broker")),
        };
        listen.check(table);
        listen
    }

    fn check(&self, table: &Table<'_>) {
        let mut taken: Vec<(SocketAddr, Position)> = Vec::new();
        let broker = self.broker.as_ref().map(|broker| std::slice::from_ref(&broker.address));
        let named = [
            ("mqtt", &*self.mqtt),
            ("https", &*self.https),
            ("admin", std::slice::from_ref(&self.admin)),
            ("broker.address", broker.unwrap_or_default()),
        ];
        for (name, addresses) in named {
            for address in addresses.iter().filter(|address| address.value.port() != 0) {
                if let Some((_, first)) = taken.iter().find(|(other, _)| *other == address.value) {
                    let why = format!("{} is listened on already, in line {}", address.value, first.line);
                    table.fault(address.at, name, why, "give each listener an address of its own");
                }
                taken.push((address.value, address.at));
            }
        }
        self.check_balancers(table);
        if !self.admin.value.ip().is_loopback() {
            let why = format!("{} can be reached from outside, and speaks plain HTTP", self.admin.value);
            let advice = "keep it on loopback, or where nobody listens in";
            table.context.warning(self.admin.at, &table.key("admin"), why, advice);
        }
    }

    fn check_balancers(&self, table: &Table<'_>) {
        const KEY: &str = "proxy_protocol_from";
        let balancers = &self.proxy_protocol_from;
        if let Some(more) = balancers.get(BALANCERS_MAX) {
            let advice = format!("{BALANCERS_MAX} may be: write larger networks");
            table.fault(more.at, KEY, format!("there are {}", balancers.len()), advice);
        }
        for all in balancers.iter().filter(|balancer| balancer.value.0.prefix_len() == 0) {
            let why =
                format!("{} is every address: whoever connects can name any address as its own", all.value.0);
            let advice =
                "name the addresses of the balancers, or make sure that nobody else reaches these ports";
            table.context.warning(all.at, &table.key(KEY), why, advice);
        }
    }
}

/// Why a token cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("an admin token has {TOKEN_CHARACTERS_MIN} or more printable ASCII characters and no space")]
struct BadToken;

fn token(bytes: &[u8]) -> Result<String, BadToken> {
    let text = std::str::from_utf8(bytes).map_err(|_| BadToken)?.trim();
    let good = text.len() >= TOKEN_CHARACTERS_MIN && text.bytes().all(|byte| byte.is_ascii_graphic());
    if good { Ok(text.to_owned()) } else { Err(BadToken) }
}
