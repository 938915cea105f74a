//! `harbormaster apply`, `diff` and `export`: service instances as a file says them. Spec: DPS-CLI-30 to DPS-CLI-32.
//!
//! The file is that of [`configuration::read_declared`]; [`difference`] compares it with what the server has.

mod difference;
pub(crate) mod export;
mod wanted;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;
use dps_client::admin::AdminEndpoint;
use serde_json::{Value, json};

use crate::configuration::{self, Declared};
use crate::exit::Failure;
use crate::instance_option::{Output, ServerOptions, failed};
use crate::{admin_option, config};
use difference::Difference;
use wanted::Wanted;

/// Where instances are on the admin listener.
pub(crate) const ALL: &str = "/admin/v1/id-scopes";

#[derive(Args)]
pub(crate) struct ApplyOptions {
    /// The file: `[[instance]]` tables as a configuration has them; `harbormaster export` writes one.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    server: ServerOptions,
}

#[derive(Args)]
#[command(after_help = "Exit code 0: nothing differs; 1: something does, or it could not be found out.")]
pub(crate) struct DiffOptions {
    /// The file: `[[instance]]` tables as a configuration has them; `harbormaster export` writes one.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    server: ServerOptions,
}

/// What a server has of one instance, and what a file wants of it.
struct Compared {
    wanted: Wanted,
    /// As the server tells it, where it is there.
    current: Option<Current>,
    differences: Vec<Difference>,
}

/// What the server has of one instance.
pub(crate) struct Current {
    /// As it tells the settings.
    pub(crate) settings: Value,
    /// As it tells the CA certificates.
    pub(crate) certificates: Vec<Value>,
}

/// Makes the server what the file says. Instances that the file does not name stay as they are.
pub(crate) fn apply(options: ApplyOptions) -> Result<ExitCode, Failure> {
    let ApplyOptions { file, server } = options;
    let declared = match configuration::read_declared(&file) {
        Ok(declared) => declared,
        Err(faults) => return config::refuse(&faults),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let endpoint = admin_option::find(&server.admin, None)?.endpoint;
    runtime.block_on(async {
        let compared = compare(&endpoint, declared).await?;
        // Before anything is changed.
        for one in &compared {
            one.refuse_configured()?;
        }
        let mut told = Vec::new();
        for one in &compared {
            one.carry_out(&endpoint).await?;
            tell(&server, &one.wanted, &one.differences, &mut told)?;
        }
        finish(&server, told)?;
        Ok::<_, Failure>(())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Says what `apply` would do.
pub(crate) fn diff(options: DiffOptions) -> Result<ExitCode, Failure> {
    let DiffOptions { file, server } = options;
    let declared = match configuration::read_declared(&file) {
        Ok(declared) => declared,
        Err(faults) => return config::refuse(&faults),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let endpoint = admin_option::find(&server.admin, None)?.endpoint;
    let compared = runtime.block_on(compare(&endpoint, declared))?;
    let mut told = Vec::new();
    for one in &compared {
        tell(&server, &one.wanted, &one.differences, &mut told)?;
    }
    finish(&server, told)?;
    let is_same = compared.iter().all(|one| one.differences.is_empty());
    Ok(if is_same { ExitCode::SUCCESS } else { ExitCode::from(crate::exit::FAILED) })
}

async fn compare(endpoint: &AdminEndpoint, declared: Declared) -> Result<Vec<Compared>, Failure> {
    for warning in &declared.warnings {
        writeln!(io::stderr(), "warning: {warning}")?;
    }
    let all = read_all(endpoint).await?;
    let mut compared = Vec::new();
    for instance in declared.instances {
        let wanted = Wanted::of(instance).map_err(|why| Failure::usage(anyhow!("--file: {why}")))?;
        let settings = all.iter().find(|settings| is_named(&settings["idScope"], &wanted.id_scope));
        let current = match settings {
            Some(settings) => Some(Current::of(endpoint, settings.clone()).await?),
            None => None,
        };
        let differences = difference::between(&wanted, current.as_ref());
        compared.push(Compared { wanted, current, differences });
    }
    Ok(compared)
}

/// Every instance of the server, as it tells them.
async fn read_all(endpoint: &AdminEndpoint) -> Result<Vec<Value>, Failure> {
    let all = endpoint.get(ALL).await.map_err(failed)?;
    Ok(all.as_array().cloned().unwrap_or_default())
}

impl Current {
    async fn of(endpoint: &AdminEndpoint, settings: Value) -> Result<Self, Failure> {
        let id_scope = settings["idScope"].as_str().unwrap_or_default();
        let certificates = endpoint.get(&format!("{ALL}/{id_scope}/certificates")).await.map_err(failed)?;
        Ok(Self { certificates: certificates.as_array().cloned().unwrap_or_default(), settings })
    }
}

impl Compared {
    /// Spec: DPS-INST-1.
    fn refuse_configured(&self) -> Result<(), Failure> {
        let is_configured =
            self.current.as_ref().is_some_and(|current| current.settings["managedBy"] == "configuration");
        if is_configured && self.differences.iter().any(Difference::is_of_settings) {
            return Err(Failure::from(anyhow!(
                "the service instance {} stands in the configuration of the service: change it there; nothing was changed",
                self.wanted.id_scope
            )));
        }
        Ok(())
    }

    async fn carry_out(&self, endpoint: &AdminEndpoint) -> Result<(), Failure> {
        let path = format!("{ALL}/{}", self.wanted.id_scope);
        if self.current.is_none() {
            endpoint.put(&path, &self.wanted.body).await.map_err(failed)?;
        } else if self.differences.iter().any(Difference::is_of_settings) {
            // On the version that was compared.
            let etag = self.current.as_ref().and_then(|current| current.settings["etag"].as_str());
            endpoint.put_over(&path, &self.wanted.body, etag.unwrap_or("*")).await.map_err(failed)?;
        }
        for difference in &self.differences {
            let Some((name, certificate)) = difference.certificate() else { continue };
            let path = format!("{path}/certificates/{name}");
            match certificate {
                Some(wanted) => {
                    let body = json!({"certificate": wanted.certificate, "isVerified": wanted.is_verified});
                    endpoint.put_over(&path, &body, "*").await.map_err(failed)?;
                }
                None => endpoint.delete(&path).await.map_err(failed)?,
            }
        }
        Ok(())
    }
}

fn tell(
    server: &ServerOptions,
    wanted: &Wanted,
    differences: &[Difference],
    told: &mut Vec<Value>,
) -> io::Result<()> {
    if server.output == Output::Json {
        told.extend(differences.iter().map(|difference| difference.to_json(&wanted.id_scope)));
        return Ok(());
    }
    let mut out = io::stdout().lock();
    if !differences.is_empty() {
        writeln!(out, "instance {}", wanted.id_scope)?;
    }
    differences.iter().try_for_each(|difference| writeln!(out, "  {difference}"))
}

fn finish(server: &ServerOptions, told: Vec<Value>) -> io::Result<()> {
    match server.output {
        Output::Json => writeln!(io::stdout(), "{}", Value::Array(told)),
        Output::Text => Ok(()),
    }
}

/// Whether that is the name, in any case.
fn is_named(value: &Value, name: &str) -> bool {
    value.as_str().is_some_and(|text| text.eq_ignore_ascii_case(name))
}
