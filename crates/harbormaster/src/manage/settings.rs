//! Options for what every entry has: status, allocation, reprovisioning, twin.

use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, ValueEnum};
use dps_proto::ids::HubName;
use serde_json::{Value, json};

use super::document::EntryDocument;
use crate::file_option;

#[derive(Args)]
pub(super) struct SettingsOptions {
    /// How a hub is chosen.
    #[arg(long, value_enum, value_name = "POLICY")]
    allocation_policy: Option<AllocationPolicy>,
    /// A hub to choose from, one that the service has linked. May be repeated.
    #[arg(long = "hub", value_name = "NAME")]
    hubs: Vec<HubName>,
    /// Whom allocation policy "custom" asks: an https URL, with its key as ?code=KEY.
    #[arg(long, value_name = "URL")]
    webhook_url: Option<String>,
    /// The api-version in which it is asked.
    #[arg(long, value_name = "DATE", default_value = "2021-10-01", requires = "webhook_url")]
    webhook_api_version: String,
    /// What happens to a device that registers again.
    #[arg(long, value_enum, value_name = "POLICY")]
    reprovision: Option<Reprovision>,
    /// JSON file with the twin that a device begins with: {"tags": {...}, "properties": {"desired": {...}}}.
    #[arg(long, value_name = "FILE")]
    initial_twin: Option<PathBuf>,
    /// The devices are IoT Edge devices; --edge=false takes it back.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    edge: Option<bool>,
    /// Admit devices.
    #[arg(long, conflicts_with = "disabled")]
    enabled: bool,
    /// Refuse devices, as long as it stays so.
    #[arg(long)]
    disabled: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AllocationPolicy {
    /// Spread over the hubs by their weights.
    Hashed,
    /// The nearest hub, as the service judges it.
    GeoLatency,
    /// The hubs of the entry alone.
    Static,
    /// Ask a webhook (--webhook-url).
    Custom,
}

#[derive(Clone, Copy, ValueEnum)]
enum Reprovision {
    /// It stays where it is.
    Never,
    /// It may move, and its twin moves along.
    Migrate,
    /// It may move, and begins anew.
    Reset,
}

impl SettingsOptions {
    /// Whether nothing was given.
    pub(super) fn is_empty(&self) -> bool {
        let Self {
            allocation_policy,
            hubs,
            webhook_url,
            webhook_api_version: _,
            reprovision,
            initial_twin,
            edge,
            enabled,
            disabled,
        } = self;
        allocation_policy.is_none()
            && hubs.is_empty()
            && webhook_url.is_none()
            && reprovision.is_none()
            && initial_twin.is_none()
            && edge.is_none()
            && !enabled
            && !disabled
    }

    /// Sets what was given.
    pub(super) fn apply(&self, document: &mut EntryDocument) -> anyhow::Result<()> {
        let mut set = |name: &str, value: Value| document.set(name, &value);
        if let Some(policy) = self.allocation_policy {
            let policy = match policy {
                AllocationPolicy::Hashed => "hashed",
                AllocationPolicy::GeoLatency => "geoLatency",
                AllocationPolicy::Static => "static",
                AllocationPolicy::Custom => "custom",
            };
            set("allocationPolicy", json!(policy))?;
        }
        if !self.hubs.is_empty() {
            set("iotHubs", self.hubs.iter().map(HubName::as_str).collect())?;
        }
        if let Some(url) = &self.webhook_url {
            set(
                "customAllocationDefinition",
                json!({"webhookUrl": url, "apiVersion": self.webhook_api_version}),
            )?;
        }
        if let Some(reprovision) = self.reprovision {
            let (update, migrate) = match reprovision {
                Reprovision::Never => (false, false),
                Reprovision::Migrate => (true, true),
                Reprovision::Reset => (true, false),
            };
            set("reprovisionPolicy", json!({"updateHubAssignment": update, "migrateDeviceData": migrate}))?;
        }
        if let Some(edge) = self.edge {
            set("capabilities", json!({"iotEdge": edge}))?;
        }
        if self.enabled || self.disabled {
            set("provisioningStatus", json!(if self.enabled { "enabled" } else { "disabled" }))?;
        }
        if let Some(file) = &self.initial_twin {
            document.set_raw("initialTwin", file_option::json_object("--initial-twin", file)?);
        }
        if self.allocation_policy == Some(AllocationPolicy::Custom)
            && document.get("customAllocationDefinition").is_none()
        {
            bail!("--allocation-policy custom: give --webhook-url too");
        }
        Ok(())
    }
}

/// The word of `--reprovision` for a policy, if there is one.
pub(super) fn reprovision_word(policy: &Value) -> Option<&'static str> {
    match (policy["updateHubAssignment"].as_bool()?, policy["migrateDeviceData"].as_bool()?) {
        (false, false) => Some("never"),
        (true, true) => Some("migrate"),
        (true, false) => Some("reset"),
        (false, true) => None,
    }
}
