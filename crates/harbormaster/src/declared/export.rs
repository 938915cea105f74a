//! `harbormaster export`: service instances written as a file that `apply` takes. Spec: DPS-CLI-32.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;
use dps_client::admin::AdminEndpoint;
use dps_proto::ids::IdScope;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{ALL, Current, is_named, read_all};
use crate::admin_option::{self, AdminOptions};
use crate::exit::{self, Failure};
use crate::instance_option::failed;
use crate::new_file;

/// The file in the directory of an export.
const DOCUMENT: &str = "instances.toml";

#[derive(Args)]
pub(crate) struct Options {
    /// A new directory for the file and, each in a file of its own, the keys of its policies and the connection strings of its hubs.
    /// Without it, the file is printed, and names environment variables in place of them.
    directory: Option<PathBuf>,
    /// Only the instance of this ID scope. May be repeated.
    #[arg(long = "id-scope", value_name = "ID")]
    id_scopes: Vec<IdScope>,
    #[command(flatten)]
    admin: AdminOptions,
}

/// Where the keys of an export go.
enum Keys<'d> {
    /// Each into a file below this directory.
    Files(&'d Path),
    /// Nowhere: whoever applies the file sets variables of these names.
    Variables(HashSet<String>),
}

pub(crate) fn run(options: Options) -> Result<ExitCode, Failure> {
    let Options { directory, id_scopes, admin } = options;
    let endpoint = admin_option::find(&admin, None)?.endpoint;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let Some(directory) = &directory {
        let is_empty = std::fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none());
        if !is_empty {
            return Err(Failure::usage(anyhow!(
                "{}: there is something in it already; name another directory",
                directory.display()
            )));
        }
        new_file::directory(directory)?;
    }
    let document = runtime.block_on(async {
        let all = read_all(&endpoint).await?;
        let mut keys = match &directory {
            Some(directory) => Keys::Files(directory),
            None => Keys::Variables(HashSet::new()),
        };
        let mut document = String::from("# For harbormaster apply --file.\n");
        for settings in chosen(&all, &id_scopes)? {
            let current = Current::of(&endpoint, settings.clone()).await?;
            write_instance(&mut document, &endpoint, &current, &mut keys).await?;
        }
        Ok::<_, Failure>(document)
    })?;
    match &directory {
        Some(directory) => new_file::write_public(&directory.join(DOCUMENT), &document)?,
        None => io::stdout().lock().write_all(document.as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Those of these ID scopes; all where none is given.
fn chosen<'a>(all: &'a [Value], id_scopes: &[IdScope]) -> Result<Vec<&'a Value>, Failure> {
    if id_scopes.is_empty() {
        return Ok(all.iter().collect());
    }
    let find = |id_scope: &IdScope| {
        let found = all.iter().find(|settings| is_named(&settings["idScope"], id_scope.as_str()));
        found.ok_or_else(|| Failure {
            code: exit::NOT_FOUND,
            why: anyhow!("there is no service instance {id_scope}"),
        })
    };
    id_scopes.iter().map(find).collect()
}

async fn write_instance(
    document: &mut String,
    endpoint: &AdminEndpoint,
    current: &Current,
    keys: &mut Keys<'_>,
) -> Result<(), Failure> {
    let settings = &current.settings;
    let id_scope = settings["idScope"].as_str().unwrap_or_default();
    let rules = &settings["x509"];
    // A text cannot fail to be written to.
    let _ = write!(
        document,
        "\n[[instance]]\nid_scope = {}\nservice_hosts = {}\ndefault_allocation_policy = {}\nclaim_across_groups = {}\n\
         when_source_unavailable = {}\npass_over_unhealthy_hubs = {}\n\
         \n[instance.x509]\nallow_v1_leaf = {}\nallow_v1_self_signed_anchor = {}\nallow_ca_leaf = {}\n\
         enforce_anchor_expiry = {}\n",
        toml(&settings["idScope"]),
        toml(&settings["serviceHosts"]),
        toml(&settings["defaultAllocationPolicy"]),
        toml(&settings["claimAcrossGroups"]),
        toml(&settings["whenSourceUnavailable"]),
        toml(&settings["passOverUnhealthyHubs"]),
        toml(&rules["allowV1Leaf"]),
        toml(&rules["allowV1SelfSignedAnchor"]),
        toml(&rules["allowCaLeaf"]),
        toml(&rules["enforceAnchorExpiry"]),
    );
    for hub in settings["linkedHubs"].as_array().into_iter().flatten() {
        let _ = write!(
            document,
            "\n[[instance.hub]]\nname = {}\nkind = {}\nallocation_weight = {}\napply_allocation_policy = {}\nnetworks = {}\n\
             draining = {}\n",
            toml(&hub["name"]),
            toml(&hub["kind"]),
            toml(&hub["allocationWeight"]),
            toml(&hub["applyAllocationPolicy"]),
            toml(&hub["networks"]),
            toml(&hub["draining"]),
        );
        if hub["connection"].is_object() {
            let name = hub["name"].as_str().unwrap_or_default();
            document.push_str(&keys.keep_connection_string(endpoint, id_scope, name).await?);
        }
    }
    for policy in settings["sharedAccessPolicies"].as_array().into_iter().flatten() {
        let name = policy["name"].as_str().unwrap_or_default();
        let _ = write!(
            document,
            "\n[[instance.shared_access_policy]]\nname = {}\nrights = {}\n",
            toml(&policy["name"]),
            toml(&policy["rights"]),
        );
        document.push_str(&keys.keep_both(endpoint, id_scope, name).await?);
    }
    for certificate in &current.certificates {
        let _ = write!(
            document,
            "\n[[instance.ca_certificate]]\nname = {}\nverified = {}\ncertificate = {}\n",
            toml(&certificate["name"]),
            toml(&certificate["isVerified"]),
            toml(&certificate["certificate"]),
        );
    }
    Ok(())
}

impl Keys<'_> {
    /// Keeps both keys of a policy, and gives the two lines that refer to them.
    async fn keep_both(
        &mut self,
        endpoint: &AdminEndpoint,
        id_scope: &str,
        policy: &str,
    ) -> Result<String, Failure> {
        let told = self.told(endpoint, &format!("{id_scope}/shared-access-policies/{policy}")).await?;
        let mut lines = String::new();
        for (which, member) in [("primary", "primaryKey"), ("secondary", "secondaryKey")] {
            let (key, file) = (format!("{which}_key"), format!("{policy}-{which}.key"));
            let variable = format!("{id_scope}_{policy}_{which}_KEY");
            lines.push_str(&self.keep(&key, id_scope, &file, &told[member], &variable)?);
        }
        Ok(lines)
    }

    /// Keeps the connection string of a hub, and gives the line that refers to it. Spec: DPS-INST-13.
    async fn keep_connection_string(
        &mut self,
        endpoint: &AdminEndpoint,
        id_scope: &str,
        hub: &str,
    ) -> Result<String, Failure> {
        let told = self.told(endpoint, &format!("{id_scope}/hubs/{hub}")).await?;
        // With nothing behind it: a host name may be nearly as long as a file's may.
        let file = format!("hubs/{hub}");
        let variable = format!("{id_scope}_{hub}_CONNECTION_STRING");
        self.keep("connection_string", id_scope, &file, &told["connectionString"], &variable)
    }

    /// What the server tells of the secrets of something, where they go into files.
    async fn told(&self, endpoint: &AdminEndpoint, of: &str) -> Result<Value, Failure> {
        match self {
            Keys::Files(_) => {
                endpoint.post(&format!("{ALL}/{of}/list-keys"), &json!({})).await.map_err(failed)
            }
            Keys::Variables(_) => Ok(Value::Null),
        }
    }

    /// Keeps one secret, and gives the line that refers to it.
    fn keep(
        &mut self,
        key: &str,
        id_scope: &str,
        file: &str,
        secret: &Value,
        variable: &str,
    ) -> Result<String, Failure> {
        Ok(match self {
            Keys::Files(directory) => {
                let secret = Zeroizing::new(secret.as_str().unwrap_or_default().to_owned());
                let file = Path::new("keys").join(id_scope).join(file);
                file.parent().map_or(Ok(()), |below| new_file::directory(&directory.join(below)))?;
                new_file::write_secret(&directory.join(&file), &secret)?;
                format!("{key}_file = {}\n", toml(&Value::from(file.display().to_string())))
            }
            Keys::Variables(taken) => {
                let name = self::variable(taken, &format!("HARBORMASTER_{variable}"));
                format!("{key}_env = {}\n", toml(&Value::from(name)))
            }
        })
    }
}

/// A name of a variable that no other key has.
fn variable(taken: &mut HashSet<String>, text: &str) -> String {
    let name: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    let mut unique = name.clone();
    let mut number = 2_u32;
    while !taken.insert(unique.clone()) {
        unique = format!("{name}_{number}");
        number += 1;
    }
    unique
}

/// A value as TOML has it.
fn toml(value: &Value) -> String {
    match value {
        Value::String(text) => ::toml::Value::String(text.clone()).to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-CLI-32
    #[test]
    fn each_key_has_a_variable_of_its_own() {
        let mut taken = HashSet::new();
        let names = ["A_b-c_KEY", "a_b.c_key", "A_B_C_KEY"].map(|text| variable(&mut taken, text));
        assert_eq!(names, ["A_B_C_KEY", "A_B_C_KEY_2", "A_B_C_KEY_3"]);
    }
}
