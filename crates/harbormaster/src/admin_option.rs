//! The admin listener of a service: that of the options, else that of the running `harbormaster dev`. Spec: DPS-CLI-7.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use dps_client::admin::AdminEndpoint;
use dps_proto::ids::IdScope;

use crate::argument;
use crate::exit::Failure;
use crate::file_option;
use crate::running_dev::{self, NoRunningDev, RunningDev};

/// Which admin listener; without these, that of the running `harbormaster dev`.
#[derive(Args)]
pub(crate) struct AdminOptions {
    /// Address of the admin listener [default: that of the running `harbormaster dev`].
    #[arg(long, env = "HARBORMASTER_ADMIN", value_name = "ADDR:PORT", value_parser = argument::socket_address, requires = "admin_token_file")]
    admin: Option<SocketAddr>,
    /// File with the admin token: admin-token of the data directory.
    #[arg(long, env = "HARBORMASTER_ADMIN_TOKEN_FILE", value_name = "FILE", requires = "admin")]
    admin_token_file: Option<PathBuf>,
}

impl AdminOptions {
    /// Whether the options name one.
    pub(crate) fn is_named(&self) -> bool {
        self.admin.is_some()
    }

    fn named(&self) -> Option<(SocketAddr, &Path)> {
        self.admin.zip(self.admin_token_file.as_deref())
    }
}

/// An admin listener, and the ID scope of the `dev` that it belongs to.
pub(crate) struct Found {
    pub(crate) endpoint: AdminEndpoint,
    /// That of the running `dev`; nothing is known of a service that options name.
    pub(crate) id_scope: Option<String>,
    /// Where the running `dev` serves the service API.
    pub(crate) https_port: Option<u16>,
}

/// Finds it and reads its token. `id_scope` chooses one of several running `dev`.
pub(crate) fn find(options: &AdminOptions, id_scope: Option<&IdScope>) -> Result<Found, Failure> {
    let (address, token_file, dev) = match options.named() {
        Some((address, token_file)) => (address, token_file.to_owned(), None),
        None => {
            let (admin, dev) = of_running_dev(id_scope).map_err(Failure::usage)?;
            (admin.listener.reachable(), admin.token_file, Some(dev))
        }
    };
    let token = file_option::text("--admin-token-file", &token_file).map_err(Failure::usage)?.to_string();
    if token.trim().is_empty() || !token.trim().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::usage(anyhow!(
            "--admin-token-file {}: it must hold the admin token, one word, and nothing else",
            token_file.display()
        )));
    }
    let https_port = dev.as_ref().and_then(|dev| Some(dev.https.as_ref()?.reachable().port()));
    let id_scope = dev.map(|dev| dev.id_scope);
    Ok(Found { endpoint: AdminEndpoint { address, token }, id_scope, https_port })
}

fn of_running_dev(id_scope: Option<&IdScope>) -> anyhow::Result<(running_dev::Admin, RunningDev)> {
    let instead = "--id-scope, or --admin and --admin-token-file";
    let dev = match (running_dev::find(), id_scope) {
        (Err(several @ NoRunningDev::Several(_)), Some(id_scope)) => several.with_id_scope(id_scope),
        (found, _) => found,
    };
    let dev = dev.map_err(|why| match why {
        NoRunningDev::Several(_) => why.or_give(instead),
        _ => why.or_give("--admin and --admin-token-file"),
    })?;
    let admin = dev.admin.clone().context("the running `harbormaster dev` names no admin listener")?;
    Ok((admin, dev))
}
