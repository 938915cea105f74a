//! What `serve` says once every port accepts. Spec: DPS-SERVE-12.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::service::Listeners;

/// The service as it runs.
pub(super) struct Ready {
    id_scopes: Vec<String>,
    mqtt: Vec<SocketAddr>,
    https: Vec<SocketAddr>,
    admin: SocketAddr,
    broker: Option<SocketAddr>,
    /// Where the token for the admin listener lies, if it was made here.
    admin_token_file: Option<PathBuf>,
}

impl Ready {
    pub(super) fn of(
        listeners: &Listeners,
        id_scopes: Vec<String>,
        admin_token_file: Option<PathBuf>,
    ) -> io::Result<Self> {
        let addresses =
            |all: &[TcpListener]| all.iter().map(TcpListener::local_addr).collect::<io::Result<_>>();
        Ok(Self {
            id_scopes,
            mqtt: addresses(&listeners.mqtt)?,
            https: addresses(&listeners.https)?,
            admin: listeners.admin.local_addr()?,
            broker: listeners.broker.as_ref().map(TcpListener::local_addr).transpose()?,
            admin_token_file,
        })
    }

    /// One line of the log for each listener.
    pub(super) fn log(&self) {
        let listeners = (self.mqtt.iter().map(|address| ("mqtt", address)))
            .chain(self.https.iter().map(|address| ("https", address)))
            .chain([("admin", &self.admin)])
            .chain(self.broker.iter().map(|address| ("broker", address)));
        for (listener, address) in listeners {
            tracing::info!(listener, %address, "listening");
        }
        tracing::info!(id_scopes = self.id_scopes.join(" "), "ready");
    }

    /// For programs. Members are only ever added.
    pub(super) fn json(&self) -> Value {
        let place =
            |address: &SocketAddr| json!({"address": address.ip().to_string(), "port": address.port()});
        let places = |all: &[SocketAddr]| all.iter().map(place).collect::<Vec<_>>();
        let mut admin = place(&self.admin);
        if let Some(file) = &self.admin_token_file {
            admin["tokenFile"] = file.display().to_string().into();
        }
        let mut contract = json!({
            "idScopes": self.id_scopes,
            "mqtt": places(&self.mqtt),
            "https": places(&self.https),
            "admin": admin,
        });
        if let Some(broker) = &self.broker {
            contract["broker"] = place(broker);
        }
        contract
    }
}
