//! `[outbound]`: where the service may send requests that users cause. Spec: DPS-SERVE-16.

use std::path::PathBuf;
use std::str::FromStr;

use dps_hub::outbound::{AllowedTargets, BadTarget, Trust, TrustedRoots};

use super::document::Table;
use super::fault::Located;
use super::key::{Key, Section, Standard};

/// Where requests may go, and whom they trust.
#[derive(Debug)]
pub(crate) struct Outbound {
    /// As they were written.
    pub(crate) allow: Vec<String>,
    pub(crate) ca_file: Option<Located<PathBuf>>,
}

/// One entry of `allow`, judged.
struct Target(String);

impl FromStr for Target {
    type Err = BadTarget;
    fn from_str(text: &str) -> Result<Self, BadTarget> {
        AllowedTargets::parse([text]).map(|_| Self(text.to_owned()))
    }
}

pub(super) const PUBLIC: &str = "public";

pub(super) fn section() -> Section {
    Section {
        path: "outbound",
        repeated: false,
        about: "Where the service may send requests that users cause: the webhooks that enrollments name, and the Azure IoT Hubs that are linked.",
        keys: vec![
            Key::new(
                "allow",
                "list of \"public\", host names, `*.` and a name, addresses and networks",
                Standard::Value(format!("[{PUBLIC:?}]")),
                "The only targets of such requests. `public` is every address on the public internet. Link-local addresses, \
                 where clouds keep their metadata services, are never allowed.",
            ),
            Key::new(
                "ca_file",
                "path of a PEM file",
                Standard::Nothing("what the system trusts"),
                "Certificates of authorities that are trusted for such requests beside those of the system.",
            ),
        ],
    }
}

impl Outbound {
    pub(super) fn read(table: &Table<'_>) -> Self {
        let advice = "write public, a host name, an address, or a network";
        let allow = table.all_parsed::<Target>("allow", advice);
        let allow = match allow {
            Some(allow) if !allow.is_empty() => allow.into_iter().map(|target| target.value.0).collect(),
            _ => vec![PUBLIC.to_owned()],
        };
        let ca_file = table.path("ca_file");
        if let Some(ca_file) = &ca_file
            && let Err(why) = TrustedRoots::read(&Trust::Only(ca_file.value.clone()))
        {
            let advice = "name a PEM file with one CA certificate or more";
            table.fault(ca_file.at, "ca_file", why.to_string(), advice);
        }
        Self { allow, ca_file }
    }

    /// Whose certificates count.
    pub(crate) fn trust(&self) -> Trust {
        self.ca_file.as_ref().map_or(Trust::System, |file| Trust::SystemAnd(file.value.clone()))
    }
}
