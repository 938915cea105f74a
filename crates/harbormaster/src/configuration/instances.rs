//! `[[instance]]` and its shared access policies; its hubs are in [`super::hub`]. Spec: DPS-SERVE-1, DPS-SERVE-4, DPS-SERVE-5.

use dps_core::access::{Right, ServiceHost, SharedAccessPolicy};
use dps_core::enrollment::AllocationPolicy;
use dps_core::instance::{ClaimAcrossGroups, WhenSourceUnavailable};
use dps_core::instance_settings::InstanceSettings;
use dps_core::x509::ChainRules;
use dps_proto::ids::{IdScope, PolicyName};
use dps_proto::key::{BadKey, KeyPair, SymmetricKey};

use super::chain_rules;
use super::document::Table;
use super::fault::Located;
use super::hub::{self, Hub};
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
pub(super) const UNAVAILABLE: [(&str, WhenSourceUnavailable); 2] =
    [("fail", WhenSourceUnavailable::Fail), ("reset", WhenSourceUnavailable::Reset)];
/// A service instance.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) id_scope: Located<IdScope>,
    pub(crate) service_hosts: Vec<Located<ServiceHost>>,
    pub(crate) default_allocation_policy: AllocationPolicy,
    pub(crate) claim_across_groups: ClaimAcrossGroups,
    pub(crate) when_source_unavailable: WhenSourceUnavailable,
    pub(crate) passes_over_unhealthy_hubs: bool,
    pub(crate) chain_rules: ChainRules,
    pub(crate) hubs: Vec<Hub>,
    pub(crate) policies: Vec<Policy>,
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
            Key::new(
                "when_source_unavailable",
                r#""fail" or "reset""#,
                value("fail"),
                "What becomes of a device that is to take its data along from a hub that cannot be read: its registration fails, \
                 or it begins anew at its new hub.",
            ),
            Key::new(
                "pass_over_unhealthy_hubs",
                "true or false",
                Standard::Value("false".to_owned()),
                "Whether new devices go to other hubs than those that do not answer, where they may.",
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
        let when_source_unavailable = table.word("when_source_unavailable", &UNAVAILABLE);
        let passes_over_unhealthy_hubs = table.flag("pass_over_unhealthy_hubs");
        let chain_rules = chain_rules::read(&table.table("x509"));
        let hubs = hub::read_all(table);
        let policies = read_policies(table);
        Some(Self {
            id_scope: id_scope?,
            service_hosts,
            default_allocation_policy: allocation_policy
                .map_or(AllocationPolicy::Hashed, |policy| policy.value),
            claim_across_groups: claim_across_groups.map_or(ClaimAcrossGroups::Allow, |claim| claim.value),
            when_source_unavailable: when_source_unavailable
                .map_or(WhenSourceUnavailable::Fail, |what| what.value),
            passes_over_unhealthy_hubs: passes_over_unhealthy_hubs.is_some_and(|flag| flag.value),
            chain_rules,
            hubs: hubs?,
            policies: policies?,
        })
    }
}

impl Instance {
    /// What it comes to.
    pub(crate) fn settings(self) -> InstanceSettings {
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
            when_source_unavailable: self.when_source_unavailable,
            passes_over_unhealthy_hubs: self.passes_over_unhealthy_hubs,
            chain_rules: self.chain_rules,
            linked_hubs: self.hubs.into_iter().map(Hub::settings).collect(),
            shared_access_policies: self.policies.into_iter().map(policy).collect(),
        }
    }
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
