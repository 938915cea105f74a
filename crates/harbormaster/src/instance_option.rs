//! Which service instance, and the admin listener of its service. Spec: DPS-CLI-7, DPS-CLI-14, DPS-CLI-17.

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use dps_client::admin::{AdminEndpoint, AdminError};
use dps_proto::ids::IdScope;

use crate::admin_option::{self, AdminOptions};
use crate::exit::{self, Failure};

#[derive(Args)]
pub(crate) struct InstanceOptions {
    /// ID scope of the service instance [default: that of the running `harbormaster dev`].
    #[arg(long, value_name = "ID")]
    id_scope: Option<IdScope>,
    #[command(flatten)]
    server: ServerOptions,
}

/// Which server, and how to print.
#[derive(Args)]
pub(crate) struct ServerOptions {
    #[command(flatten)]
    pub(crate) admin: AdminOptions,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// The admin API's own JSON.
    Json,
}

/// One instance, by way of the admin listener.
pub(crate) struct Instance {
    pub(crate) endpoint: AdminEndpoint,
    /// That of the instance, without a slash behind.
    pub(crate) path: String,
    pub(crate) output: Output,
    /// Where the running `dev` serves the service API, if it is that.
    pub(crate) https_port: Option<u16>,
}

impl Instance {
    pub(crate) fn of(options: InstanceOptions) -> Result<Self, Failure> {
        Self::at(options.id_scope, options.server)
    }

    /// The one of that ID scope; without one, that of the running `harbormaster dev`.
    pub(crate) fn at(id_scope: Option<IdScope>, server: ServerOptions) -> Result<Self, Failure> {
        let ServerOptions { admin, output } = server;
        let found = admin_option::find(&admin, id_scope.as_ref())?;
        let id_scope = id_scope.map(|id_scope| id_scope.as_str().to_owned()).or(found.id_scope);
        let id_scope = id_scope
            .ok_or_else(|| Failure::usage(anyhow!("--id-scope: name the service instance of --admin")))?;
        let path = format!("/admin/v1/id-scopes/{id_scope}");
        Ok(Self { endpoint: found.endpoint, path, output, https_port: found.https_port })
    }
}

/// Spec: DPS-CLI-14.
pub(crate) fn failed(why: AdminError) -> Failure {
    let code = match &why {
        AdminError::Refused { status, .. } => match status.as_u16() {
            401 => exit::NOT_ALLOWED,
            404 => exit::NOT_FOUND,
            409 => exit::EXISTS,
            412 => exit::CHANGED,
            503 => exit::UNAVAILABLE,
            _ => exit::FAILED,
        },
        AdminError::Unreachable(..) | AdminError::TimedOut(_) => exit::UNAVAILABLE,
        AdminError::Http(..) | AdminError::Body(..) | AdminError::Request(_) => exit::FAILED,
    };
    Failure { code, why: why.into() }
}
