//! `[listen.broker]`: where a broker that is a local hub asks about its devices. Spec: DPS-BROKER-1, DPS-BROKER-5, DPS-BROKER-8.

use std::net::SocketAddr;
use std::path::PathBuf;

use dps_core::broker::BrokerRules;
use dps_proto::ids::HubName;
use dps_server::broker_auth::ClientCa;

use super::document::Table;
use super::fault::Located;
use super::key::{Key, Section, Standard};
use super::secret::check_small;

/// Where a broker asks, and how it is answered.
#[derive(Debug, Clone)]
pub(crate) struct Broker {
    pub(crate) address: Located<SocketAddr>,
    /// Asked of the broker's certificate; none on loopback.
    pub(crate) client_ca: Option<(Located<PathBuf>, ClientCa)>,
    pub(crate) hub: Option<Located<HubName>>,
    pub(crate) certificate_login: bool,
}

pub(super) fn section() -> Section {
    Section {
        path: "listen.broker",
        repeated: false,
        about: "Where a broker that is a local hub asks who its devices are, as RabbitMQ's HTTP backend does (docs/broker.md). Without an \
                address there is no such socket.",
        keys: vec![
            Key::new(
                "address",
                r#""ADDRESS:PORT""#,
                Standard::Nothing("no broker may ask"),
                "Where the broker asks: on loopback, or with `client_ca_file` anywhere.",
            ),
            Key::new(
                "client_ca_file",
                "path of a PEM file",
                Standard::Nothing("plain HTTP, on loopback alone"),
                "CA certificates, one of which has signed the broker's certificate and those of nobody else. The socket then speaks TLS, \
                 with the certificates of `[tls]`.",
            ),
            Key::new(
                "hub",
                "host name",
                Standard::Nothing("the only local hub there is"),
                "The local hub that the broker's virtual host `/` is. A virtual host that has a hub's name is that hub.",
            ),
            Key::new(
                "certificate_login",
                "true or false",
                Standard::Value("false".to_owned()),
                "Whether a name that the broker took from a certificate, without a password, proves the device of that id which was \
                 assigned by certificate. The broker judges the certificate; its thumbprint is not known here.",
            ),
        ],
    }
}

impl Broker {
    /// What the table says; `None` without an address.
    pub(super) fn read(table: &Table<'_>) -> Option<Self> {
        let address: Option<Located<SocketAddr>> = table.parsed(
            "address",
            r#"write an address and a port, such as "127.0.0.1:9884"; port 0 picks a free one"#,
        );
        let client_ca = read_client_ca(table);
        let hub = table.parsed("hub", "write the host name of a local hub, such as \"hub.example\"");
        let certificate_login = table.flag("certificate_login").is_some_and(|flag| flag.value);
        if !table.has("address") && (table.has("client_ca_file") || table.has("hub")) {
            table.missing("address", "say where the broker asks, such as \"127.0.0.1:9884\"");
        }
        let address = address?;
        if !address.value.ip().is_loopback() && !table.has("client_ca_file") {
            let why = format!("{} can be reached from outside, and would answer anyone", address.value);
            let advice = "name the CA of the broker's certificate with client_ca_file, or listen on loopback";
            table.fault(address.at, "address", why, advice);
        }
        Some(Self { address, client_ca, hub, certificate_login })
    }

    /// How it is answered.
    pub(crate) fn rules(&self) -> BrokerRules {
        BrokerRules {
            root_hub: self.hub.as_ref().map(|hub| hub.value.clone()),
            trusts_certificates: self.certificate_login,
        }
    }
}

fn read_client_ca(table: &Table<'_>) -> Option<(Located<PathBuf>, ClientCa)> {
    let path = table.path("client_ca_file")?;
    let read = check_small(&path.value).and_then(|()| Ok(std::fs::read(&path.value)?));
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(why) => {
            table.fault(path.at, "client_ca_file", why.to_string(), why.advice());
            return None;
        }
    };
    match ClientCa::from_pem(&bytes) {
        Ok(client_ca) => Some((path, client_ca)),
        Err(why) => {
            table.fault(path.at, "client_ca_file", why.to_string(), "name a PEM file of CA certificates");
            None
        }
    }
}
