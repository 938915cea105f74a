//! `[[instance.hub]]`: a linked hub. Spec: DPS-SERVE-4, DPS-SERVE-5, DPS-SERVE-17.

use std::str::Utf8Error;

use dps_core::instance::HubKind;
use dps_core::instance_settings::{HubSettings, NETWORKS_MAX};
use dps_proto::connection_string::{BadConnectionString, ServiceConnectionString};
use dps_proto::ids::HubName;
use ipnet::IpNet;

use super::document::Table;
use super::fault::Located;
use super::key::{Key, Section, Standard};
use super::names;
use super::secret::Secret;

pub(super) const HUB_KINDS: [(&str, HubKind); 3] =
    [("local", HubKind::Local), ("static", HubKind::Static), ("azureIotHub", HubKind::Azure)];

/// A linked hub.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) name: Located<HubName>,
    pub(crate) kind: HubKind,
    pub(crate) allocation_weight: u16,
    pub(crate) applies_allocation_policy: bool,
    pub(crate) networks: Vec<IpNet>,
    pub(crate) is_draining: bool,
    /// There for an Azure IoT Hub, and for no other.
    pub(crate) connection_string: Option<Secret<ServiceConnectionString>>,
}

pub(super) fn section() -> Section {
    const CONNECTION_STRING: &str = "the connection string of an Azure IoT Hub";
    let mut keys = vec![
        Key::new("name", "host name", Standard::Required, "What devices are told."),
        Key::new(
            "kind",
            r#""local", "static" or "azureIotHub""#,
            Standard::Required,
            "Who makes the device's identity there: `local`, Harbormaster keeps it; `static`, whoever runs the hub does; \
             `azureIotHub`, the registry of the hub, which Harbormaster asks.",
        ),
        Key::new(
            "allocation_weight",
            "share, 1 to 1000",
            Standard::Value("1".to_owned()),
            "Share of new devices among the hubs that may take them.",
        ),
        Key::new(
            "apply_allocation_policy",
            "true or false",
            Standard::Value("true".to_owned()),
            "Whether enrollments that name no hubs may choose it.",
        ),
        Key::new(
            "networks",
            "list of networks, up to 64",
            Standard::Value("[]".to_owned()),
            "Where the devices are that the hub is nearest to, such as `\"10.1.0.0/16\"`; for the allocation policy `geoLatency`.",
        ),
        Key::new(
            "draining",
            "true or false",
            Standard::Value("false".to_owned()),
            "Whether it is being emptied: no device goes there that can go elsewhere, and those that it has go elsewhere when they \
             register again, as their enrollments allow.",
        ),
    ];
    keys.extend(Key::secret(
        ["connection_string_file", "connection_string_env"],
        CONNECTION_STRING,
        Standard::Nothing("the hub is no Azure IoT Hub"),
        "How its registry is reached: `HostName=...;SharedAccessKeyName=...;SharedAccessKey=...`, of a policy with the rights RegistryWrite \
         and ServiceConnect. A hub of the kind `azureIotHub` needs one of the two. SIGHUP reads it again.",
    ));
    Section { path: "instance.hub", repeated: true, about: "A linked hub of the instance above it.", keys }
}

/// The hubs of the instance that `table` is.
pub(super) fn read_all(table: &Table<'_>) -> Option<Vec<Hub>> {
    let mut names = Vec::new();
    let hubs: Vec<_> = table.tables("hub").iter().map(|hub| Hub::read(hub, &mut names)).collect();
    let named = names.iter().map(|name| (name.value.folded(), name));
    let advice = "link each hub once; allocation_weight gives it a larger share";
    names::note_repeated(table.context, "instance.hub.name", named, advice);
    if hubs.is_empty() {
        let why = "the instance has no linked hub: no device can be assigned";
        table.context.warning(table.at(), "instance.hub", why, "add an [[instance.hub]]");
    }
    hubs.into_iter().collect()
}

impl Hub {
    fn read(table: &Table<'_>, names: &mut Vec<Located<HubName>>) -> Option<Self> {
        let name: Option<Located<HubName>> =
            table.parsed("name", "write a host name, such as \"hub.example\"");
        names.extend(name.clone());
        let kind = table.word("kind", &HUB_KINDS);
        for (key, advice) in [
            ("name", "write the hub's host name"),
            ("kind", "write \"local\", \"static\" or \"azureIotHub\""),
        ] {
            if !table.has(key) {
                table.missing(key, advice);
            }
        }
        let weight = table.number("allocation_weight", 1..=1_000);
        let allocation_weight = weight.and_then(|weight| u16::try_from(weight.value).ok()).unwrap_or(1);
        let applies = table.flag("apply_allocation_policy");
        let networks: Vec<Located<IpNet>> =
            table.all_parsed("networks", "write a network, such as \"10.1.0.0/16\"").unwrap_or_default();
        if let Some(more) = networks.get(NETWORKS_MAX) {
            table.fault(more.at, "networks", format!("there are {}", networks.len()), "64 may be");
        }
        let is_draining = table.flag("draining").is_some_and(|flag| flag.value);
        let connection_string = read_connection_string(table, kind.as_ref());
        if let (Some(name), Some(read)) = (&name, &connection_string)
            && !read.value.host().eq_ignore_ascii_case(name.value.as_str())
        {
            let why = format!(
                "the connection string leads to {}, and devices are told {}",
                read.value.host(),
                name.value
            );
            table.context.warning(name.at, &table.key("name"), why, "make sure that both are the same hub");
        }
        Some(Self {
            name: name?,
            kind: kind?.value,
            allocation_weight,
            applies_allocation_policy: applies.is_none_or(|applies| applies.value),
            networks: networks.into_iter().map(|network| network.value).collect(),
            is_draining,
            connection_string,
        })
    }

    /// What it comes to.
    pub(super) fn settings(self) -> HubSettings {
        HubSettings {
            name: self.name.value,
            kind: self.kind,
            allocation_weight: self.allocation_weight,
            applies_allocation_policy: self.applies_allocation_policy,
            networks: self.networks,
            is_draining: self.is_draining,
            connection_string: self.connection_string.map(|secret| secret.value),
        }
    }
}

/// Spec: DPS-SERVE-17.
fn read_connection_string(
    table: &Table<'_>,
    kind: Option<&Located<HubKind>>,
) -> Option<Secret<ServiceConnectionString>> {
    const NAME: &str = "connection_string";
    const ADVICE: &str = "copy it from the hub's shared access policy: HostName=...;SharedAccessKeyName=...;SharedAccessKey=...";
    let read = table.secret(NAME, connection_string, ADVICE);
    match kind {
        Some(Located { value: HubKind::Azure, .. }) if !table.has_secret(NAME) => {
            let advice = "name the file that holds it, or give connection_string_env";
            table.missing("connection_string_file", advice);
        }
        Some(Located { value: HubKind::Local | HubKind::Static, at }) if table.has_secret(NAME) => {
            let advice = "write kind = \"azureIotHub\", or leave the connection string out";
            table.fault(*at, "kind", "the hub has a connection string and is no Azure IoT Hub", advice);
        }
        _ => {}
    }
    read
}

/// Why a secret is no connection string. Shows nothing of it.
#[derive(Debug, thiserror::Error)]
enum NoConnectionString {
    #[error("the connection string is not text")]
    NotText(#[from] Utf8Error),
    #[error("the connection string: {0}")]
    Bad(#[from] BadConnectionString),
}

fn connection_string(bytes: &[u8]) -> Result<ServiceConnectionString, NoConnectionString> {
    Ok(std::str::from_utf8(bytes)?.parse()?)
}
