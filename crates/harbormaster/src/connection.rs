//! Which service API a command speaks to, and whom it trusts. Spec: DPS-CLI-3, DPS-CLI-4, DPS-CLI-7.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::Args;
use dps_client::service::{Deadlines, ServiceClient};
use dps_client::tls;
use dps_proto::connection_string::ServiceConnectionString;
use zeroize::Zeroizing;

use crate::exit::Failure;
use crate::{file_option, running_dev};

const CONNECTION_STRING: &str = "HARBORMASTER_CONNECTION_STRING";
const CA_FILE: &str = "HARBORMASTER_CA_FILE";

#[derive(Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionOptions {
    /// HostName=...;SharedAccessKeyName=...;SharedAccessKey=... of the service API; other users of this machine can read what
    /// stands on a command line.
    ///
    /// Without it: --connection-string-file, else the environment variable HARBORMASTER_CONNECTION_STRING, else the running
    /// `harbormaster dev`.
    #[arg(long, value_name = "TEXT", conflicts_with = "connection_string_file")]
    connection_string: Option<String>,
    /// File with the connection string; - is standard input.
    #[arg(long, value_name = "FILE")]
    connection_string_file: Option<PathBuf>,
    /// PEM file of the only certificates to trust.
    ///
    /// Without it: the environment variable HARBORMASTER_CA_FILE, else ca.pem of the running `harbormaster dev` if that is what is
    /// asked, else what the system trusts.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl ConnectionOptions {
    /// A client that has not connected yet. Every failure is one of options or environment.
    pub(crate) fn client(self) -> Result<ServiceClient, Failure> {
        self.prepare().map_err(Failure::usage)
    }

    fn prepare(self) -> anyhow::Result<ServiceClient> {
        let mut ca_file = match self.ca_file {
            Some(file) => Some(("--ca-file", file)),
            None => environment(CA_FILE)?.map(|file| (CA_FILE, PathBuf::from(&*file))),
        };
        let given = match (self.connection_string, self.connection_string_file) {
            (Some(text), _) => Some(("--connection-string", Zeroizing::new(text))),
            (None, Some(file)) => {
                let option = "--connection-string-file";
                Some((option, file_option::text(option, &file)?))
            }
            (None, None) => environment(CONNECTION_STRING)?.map(|text| (CONNECTION_STRING, text)),
        };
        let mut address = None;
        let (source, text) = match given {
            Some(given) => given,
            None => {
                let dev = running_dev::find().map_err(|why| why.or_give("--connection-string"))?;
                let text = dev.service_connection_string.context(
                    "the running `harbormaster dev` serves no service API; give --connection-string for another service",
                )?;
                ca_file = ca_file.or(dev.ca_file.map(|file| ("the running `harbormaster dev`", file)));
                // Its host name may be one that only devices resolve.
                address = dev.https.map(|listener| listener.reachable());
                ("the running `harbormaster dev`", Zeroizing::new(text))
            }
        };
        let connection_string: ServiceConnectionString = text.parse().context(source)?;
        let tls = match ca_file {
            Some((source, file)) => tls::trusting(&file).context(source)?,
            None => tls::trusting_the_system().context("give --ca-file")?,
        };
        let client = ServiceClient::new(connection_string, tls, Deadlines::default());
        Ok(match address {
            Some(address) => client.connecting_to(address),
            None => client,
        })
    }
}

/// A variable that is set to nothing counts as not set: scripts unset them so.
fn environment(name: &'static str) -> anyhow::Result<Option<Zeroizing<String>>> {
    let Some(value) = std::env::var_os(name).filter(|value| !value.is_empty()) else { return Ok(None) };
    // The value may be a secret: the error does not show it.
    let text = value.into_string().map_err(|_| anyhow!("{name}: it is not text"))?;
    Ok(Some(Zeroizing::new(text)))
}
