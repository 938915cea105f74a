//! `[[instance]]` with its hubs and shared access policies. Spec: DPS-SERVE-1, DPS-SERVE-4, DPS-SERVE-5.

use dps_core::access::{Right, ServiceHost, SharedAccessPolicy};
use dps_core::enrollment::AllocationPolicy;
use dps_core::instance::{ClaimAcrossGroups, HubKind};
use dps_core::instance_settings::{HubSettings, InstanceSettings, NETWORKS_MAX};
use dps_core::x509::ChainRules;
use dps_proto::ids::{HubName, IdScope, PolicyName};
use dps_proto::key::{BadKey, KeyPair, SymmetricKey};
use ipnet::IpNet;

use super::chain_rules;
use super::document::Table;
use super::fault::Located;
use super::key::{Key, Section, Standard};
use super::names::{self, Names};
use super::secret::Secret;

pub(super) const ALLOCATION_POLICIES: [(&str, AllocationPolicy); 3] = [
    ("hashed", AllocationPolicy::Hashed),
    ("static", AllocationPolicy::Static),
    ("geoLatency", AllocationPolicy::GeoLatency),
];
pub(super) const CLAIMS: [(&str, ClaimAcrossGroups); 2] =
    [("allow", ClaimAcrossGroups::Allow), ("refuse", ClaimAcrossGroups::Refuse)];
pub(super) const HUB_KINDS: [(&str, HubKind); 2] = [("local", HubKind::Local), ("static", HubKind::Static)];

/// A service instance.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) id_scope: Located<IdScope>,
    pub(crate) service_hosts: Vec<Located<ServiceHost>>,
    pub(crate) default_allocation_policy: AllocationPolicy,
    pub(crate) claim_across_groups: ClaimAcrossGroups,
    pub(crate) chain_rules: ChainRules,
    pub(crate) hubs: Vec<Hub>,
    pub(crate) policies: Vec<Policy>,
}

/// A linked hub.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) name: Located<HubName>,
    pub(crate) kind: HubKind,
    pub(crate) allocation_weight: u16,
    pub(crate) applies_allocation_policy: bool,
    pub(crate) networks: Vec<IpNet>,
}

/// A shared access policy.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) name: Located<PolicyName>,
    pub(crate) rights: Vec<Right>,
    pub(crate) primary: Secret<SymmetricKey>,
    /// The same as the primary where there is none.
    pub(crate) secondary: Option<Secret<SymmetricKey>>,
}

pub(super) fn section() -> Section {
    let value = |text: &str| Standard::Value(format!("{text:?}"));
    Section {
        path: "instance",
        repeated: true,
        about: "A service instance. Nothing crosses from one to another. What stands here is changed here, and read again at SIGHUP; instances that are \
                made with `harbormaster instance` or `apply` are kept in the store, beside these.",
        keys: vec![
            Key::new(
                "id_scope",
                "4 to 32 letters and digits",
                Standard::Required,
                "The ID scope by which devices choose the instance. It stays for the life of the devices.",
            ),
            Key::new(
                "service_hosts",
                "list of host names or addresses",
                Standard::Value("[]".to_owned()),
                "Names by which clients call the instance's service API. Without any, nobody can.",
            ),
            Key::new(
                "default_allocation_policy",
                r#""hashed", "static" or "geoLatency""#,
                value("hashed"),
                "How a hub is chosen where the enrollment does not say: spread by weight, the one hub that is named, or the hub in \
                 whose networks the device is.",
            ),
            Key::new(
                "claim_across_groups",
                r#""allow" or "refuse""#,
                value("allow"),
                "What happens when a device of one enrollment group comes in by another: it moves there, as on Azure, or is \
                 refused.",
            ),
        ],
    }
}

pub(super) fn hub_section() -> Section {
    Section {
        path: "instance.hub",
        repeated: true,
        about: "A linked hub of the instance above it.",
        keys: vec![
            Key::new("name", "host name", Standard::Required, "What devices are told."),
            Key::new(
                "kind",
                r#""local" or "static""#,
                Standard::Required,
                "Who makes the device's identity there: `local`, Harbormaster keeps it; `static`, whoever runs the hub does.",
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
        ],
    }
}

pub(super) fn policy_section() -> Section {
    const KEY: &str = "a key of 16 to 64 bytes, Base64";
    let mut keys = vec![
        Key::new(
            "name",
            "1 to 64 letters, digits, `-`, `_`, `.`",
            Standard::Required,
            "As tokens name it in `skn`.",
        ),
        Key::new(
            "rights",
            "list of rights",
            Standard::Required,
            "Of `ServiceConfig`, `EnrollmentRead`, `EnrollmentWrite`, `DeviceConnect`, `RegistrationStatusRead`, \
             `RegistrationStatusWrite`. Each instance needs an owner: a policy with all six.",
        ),
    ];
    keys.extend(Key::secret(
        ["primary_key_file", "primary_key_env"],
        KEY,
        Standard::Required,
        "Signs the tokens of the policy's holders. One of the two is required.",
    ));
    keys.extend(Key::secret(
        ["secondary_key_file", "secondary_key_env"],
        KEY,
        Standard::Nothing("the primary key alone"),
        "Signs as well, so that one key can be exchanged while the other is in use.",
    ));
    Section {
        path: "instance.shared_access_policy",
        repeated: true,
        about: "A shared access policy of the instance above it: who may manage it.",
        keys,
    }
}

impl Instance {
    /// Reads an instance; what must be the only one of its name goes to `names`, whether or not the rest can be used.
    pub(super) fn read(table: &Table<'_>, names: &mut Names) -> Option<Self> {
        let id_scope: Option<Located<IdScope>> =
            table.parsed("id_scope", "write 4 to 32 letters and digits, such as \"0ne00C0FFEE\"");
        if !table.has("id_scope") {
            table.missing("id_scope", "choose one, such as \"0ne00C0FFEE\"");
        }
        let service_hosts: Vec<Located<ServiceHost>> = table
            .all_parsed("service_hosts", "write a host name or an address, without a port")
            .unwrap_or_default();
        names.id_scopes.extend(id_scope.clone());
        names.service_hosts.extend_from_slice(&service_hosts);
        if service_hosts.is_empty() {
            names.without_hosts.push(table.at());
        }
        let allocation_policy = table.word("default_allocation_policy", &ALLOCATION_POLICIES);
        let claim_across_groups = table.word("claim_across_groups", &CLAIMS);
        let chain_rules = chain_rules::read(&table.table("x509"));
        let hubs = read_hubs(table);
        let policies = read_policies(table);
        Some(Self {
            id_scope: id_scope?,
            service_hosts,
            default_allocation_policy: allocation_policy
                .map_or(AllocationPolicy::Hashed, |policy| policy.value),
            claim_across_groups: claim_across_groups.map_or(ClaimAcrossGroups::Allow, |claim| claim.value),
            chain_rules,
            hubs: hubs?,
            policies: policies?,
        })
    }
}

impl Instance {
    /// What it comes to.
    pub(crate) fn settings(self) -> InstanceSettings {
        let linked = |hub: Hub| HubSettings {
            name: hub.name.value,
            kind: hub.kind,
            allocation_weight: hub.allocation_weight,
            applies_allocation_policy: hub.applies_allocation_policy,
            networks: hub.networks,
        };
        let policy = |policy: Policy| {
            let primary = policy.primary.value;
            let secondary = policy.secondary.map_or_else(|| primary.clone(), |key| key.value);
            SharedAccessPolicy {
                name: policy.name.value,
                keys: KeyPair { primary, secondary },
                rights: policy.rights,
            }
        };
        InstanceSettings {
            id_scope: self.id_scope.value,
            service_hosts: self.service_hosts.into_iter().map(|host| host.value).collect(),
            default_allocation_policy: self.default_allocation_policy,
            claim_across_groups: self.claim_across_groups,
            chain_rules: self.chain_rules,
            linked_hubs: self.hubs.into_iter().map(linked).collect(),
            shared_access_policies: self.policies.into_iter().map(policy).collect(),
        }
    }
}

fn read_hubs(table: &Table<'_>) -> Option<Vec<Hub>> {
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

/// Spec: DPS-SERVE-4: nobody could manage an instance without an owner.
fn read_policies(table: &Table<'_>) -> Option<Vec<Policy>> {
    let mut names = Vec::new();
    let tables = table.tables("shared_access_policy");
    let policies: Vec<_> = tables.iter().map(|policy| Policy::read(policy, &mut names)).collect();
    let named = names.iter().map(|name| (name.value.folded(), name));
    let advice = "give each policy a name of its own; case makes no difference";
    names::note_repeated(table.context, "instance.shared_access_policy.name", named, advice);
    let policies = policies.into_iter().collect::<Option<Vec<_>>>()?;
    if !policies.iter().any(Policy::is_owner) {
        table.fault(
            table.at(),
            "shared_access_policy",
            "the instance has no owner key: no policy has all six rights",
            "add an [[instance.shared_access_policy]] with name = \"provisioningserviceowner\", all six rights and \
             primary_key_file",
        );
    }
    Some(policies)
}

impl Hub {
    fn read(table: &Table<'_>, names: &mut Vec<Located<HubName>>) -> Option<Self> {
        let name: Option<Located<HubName>> =
            table.parsed("name", "write a host name, such as \"hub.example\"");
        names.extend(name.clone());
        let kind = table.word("kind", &HUB_KINDS);
        for (key, advice) in
            [("name", "write the hub's host name"), ("kind", "write \"local\" or \"static\"")]
        {
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
        Some(Self {
            name: name?,
            kind: kind?.value,
            allocation_weight,
            applies_allocation_policy: applies.is_none_or(|applies| applies.value),
            networks: networks.into_iter().map(|network| network.value).collect(),
        })
    }
}

impl Policy {
    fn read(table: &Table<'_>, names: &mut Vec<Located<PolicyName>>) -> Option<Self> {
        const MAKE: &str = "make one with openssl rand -base64 64 | tr -d '\\n'";
        let name: Option<Located<PolicyName>> =
            table.parsed("name", "choose 1 to 64 letters, digits, '-', '_' and '.'");
        names.extend(name.clone());
        let rights = table.all_parsed::<Right>("rights", "take one of the six");
        for (key, advice) in
            [("name", SharedAccessPolicy::OWNER), ("rights", "write a list of rights; an owner has all six")]
        {
            if !table.has(key) {
                table.missing(key, advice);
            }
        }
        let primary = table.secret("primary_key", symmetric_key, MAKE);
        if !table.has_secret("primary_key") {
            table
                .missing("primary_key_file", MAKE.to_owned() + " and name its file, or give primary_key_env");
        }
        let secondary = table.secret("secondary_key", symmetric_key, MAKE);
        Some(Self {
            name: name?,
            rights: rights?.into_iter().map(|right| right.value).collect(),
            primary: primary?,
            secondary,
        })
    }

    /// Whether its holder may do everything.
    fn is_owner(&self) -> bool {
        Right::ALL.iter().all(|right| self.rights.contains(right))
    }
}

fn symmetric_key(bytes: &[u8]) -> Result<SymmetricKey, BadKey> {
    std::str::from_utf8(bytes).map_err(|_| BadKey::NotBase64)?.parse()
}
