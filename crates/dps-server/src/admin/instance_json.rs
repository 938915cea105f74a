//! A service instance and its parts in JSON. Spec: DPS-INST-2, DPS-INST-5, DPS-INST-6.

use dps_core::access::{Right, SharedAccessPolicy};
use dps_core::enrollment::AllocationPolicy;
use dps_core::instance::{ClaimAcrossGroups, HubKind};
use dps_core::instance_settings::{ALLOCATION_WEIGHT_MAX, HubSettings, InstanceSettings};
use dps_core::x509::{CaLeaf, ChainRules};
use dps_proto::ids::IdScope;
use dps_proto::key::{BadKey, KeyPair, SymmetricKey};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::fingerprint;
use super::refused::Refused;
use crate::new_key::new_key;

/// How a hub is chosen, by the admin API's words.
const ALLOCATION_POLICIES: [(&str, AllocationPolicy); 2] =
    [("hashed", AllocationPolicy::Hashed), ("static", AllocationPolicy::Static)];

/// The body of a PUT of an instance. What is only ever read is taken and left alone, so that an answer can be sent back.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct InstanceBody {
    id_scope: Option<String>,
    #[serde(rename = "managedBy")]
    _managed_by: Option<IgnoredAny>,
    #[serde(rename = "etag")]
    _etag: Option<IgnoredAny>,
    #[serde(rename = "createdDateTimeUtc")]
    _created_date_time_utc: Option<IgnoredAny>,
    #[serde(rename = "lastUpdatedDateTimeUtc")]
    _last_updated_date_time_utc: Option<IgnoredAny>,
    service_hosts: Vec<String>,
    default_allocation_policy: Option<String>,
    claim_across_groups: Option<String>,
    x509: RulesBody,
    linked_hubs: Vec<NamedHub>,
    shared_access_policies: Option<Vec<NamedPolicy>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct RulesBody {
    allow_v1_leaf: Option<bool>,
    allow_v1_self_signed_anchor: Option<bool>,
    allow_ca_leaf: Option<String>,
    enforce_anchor_expiry: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NamedHub {
    name: String,
    kind: Option<String>,
    allocation_weight: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NamedPolicy {
    name: String,
    rights: Vec<String>,
    primary_key: Option<String>,
    secondary_key: Option<String>,
    #[serde(rename = "primaryKeySha256")]
    _primary_key_sha256: Option<IgnoredAny>,
    #[serde(rename = "secondaryKeySha256")]
    _secondary_key_sha256: Option<IgnoredAny>,
}

/// The body of a PUT of one hub.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct HubBody {
    #[serde(rename = "name")]
    _name: Option<IgnoredAny>,
    #[serde(rename = "etag")]
    _etag: Option<IgnoredAny>,
    kind: Option<String>,
    allocation_weight: Option<u64>,
}

/// The body of a PUT of one policy.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PolicyBody {
    #[serde(rename = "name")]
    _name: Option<IgnoredAny>,
    #[serde(rename = "etag")]
    _etag: Option<IgnoredAny>,
    rights: Vec<String>,
    primary_key: Option<String>,
    secondary_key: Option<String>,
    #[serde(rename = "primaryKeySha256")]
    _primary_key_sha256: Option<IgnoredAny>,
    #[serde(rename = "secondaryKeySha256")]
    _secondary_key_sha256: Option<IgnoredAny>,
}

impl InstanceBody {
    /// The settings that it asks for, where `current` are those that there are.
    pub(super) fn settings(
        self,
        id_scope: IdScope,
        current: Option<&InstanceSettings>,
    ) -> Result<InstanceSettings, Refused> {
        if let Some(named) = self.id_scope.filter(|named| !named.eq_ignore_ascii_case(id_scope.as_str())) {
            return Err(Refused::Bad(format!("idScope: {named:?} is not {id_scope}, that of the path")));
        }
        let hosts = self.service_hosts.iter().enumerate();
        let service_hosts =
            hosts.map(|(at, host)| parse(&format!("serviceHosts[{at}]"), host)).collect::<Result<_, _>>()?;
        let hubs = self.linked_hubs.into_iter().enumerate();
        let linked_hubs = hubs.map(|(at, hub)| hub.settings(at)).collect::<Result<_, _>>()?;
        let shared_access_policies = match (self.shared_access_policies, current) {
            (None, Some(current)) => current.shared_access_policies.clone(),
            (None, None) => vec![owner()?],
            (Some(policies), current) => policies
                .into_iter()
                .enumerate()
                .map(|(at, policy)| policy.policy(at, current))
                .collect::<Result<_, _>>()?,
        };
        let allocation_policy = self.default_allocation_policy.as_deref();
        let claims = ClaimAcrossGroups::ALL.map(|claim| (claim.as_str(), claim));
        Ok(InstanceSettings {
            id_scope,
            service_hosts,
            default_allocation_policy: word(
                "defaultAllocationPolicy",
                allocation_policy,
                &ALLOCATION_POLICIES,
            )?
            .unwrap_or(AllocationPolicy::Hashed),
            claim_across_groups: word("claimAcrossGroups", self.claim_across_groups.as_deref(), &claims)?
                .unwrap_or(ClaimAcrossGroups::Allow),
            chain_rules: self.x509.rules()?,
            linked_hubs,
            shared_access_policies,
        }
        .checked()?)
    }
}

impl RulesBody {
    fn rules(self) -> Result<ChainRules, Refused> {
        let standard = ChainRules::default();
        let leaves = CaLeaf::ALL.map(|leaf| (leaf.as_str(), leaf));
        Ok(ChainRules {
            allow_v1_leaf: self.allow_v1_leaf.unwrap_or(standard.allow_v1_leaf),
            allow_v1_self_signed_anchor: self
                .allow_v1_self_signed_anchor
                .unwrap_or(standard.allow_v1_self_signed_anchor),
            allow_ca_leaf: word("x509.allowCaLeaf", self.allow_ca_leaf.as_deref(), &leaves)?
                .unwrap_or(standard.allow_ca_leaf),
            enforce_anchor_expiry: self.enforce_anchor_expiry.unwrap_or(standard.enforce_anchor_expiry),
        })
    }
}

impl NamedHub {
    fn settings(self, at: usize) -> Result<HubSettings, Refused> {
        let at = format!("linkedHubs[{at}].");
        hub(&at, &self.name, self.kind.as_deref(), self.allocation_weight)
    }
}

impl HubBody {
    /// The hub of that name.
    pub(super) fn settings(self, name: &str) -> Result<HubSettings, Refused> {
        hub("", name, self.kind.as_deref(), self.allocation_weight)
    }
}

impl NamedPolicy {
    fn policy(self, at: usize, current: Option<&InstanceSettings>) -> Result<SharedAccessPolicy, Refused> {
        let at = format!("sharedAccessPolicies[{at}].");
        let keys = [self.primary_key, self.secondary_key];
        policy(&at, &self.name, &self.rights, keys, current)
    }
}

impl PolicyBody {
    /// The policy of that name.
    pub(super) fn policy(
        self,
        name: &str,
        current: Option<&InstanceSettings>,
    ) -> Result<SharedAccessPolicy, Refused> {
        policy("", name, &self.rights, [self.primary_key, self.secondary_key], current)
    }
}

fn hub(at: &str, name: &str, kind: Option<&str>, weight: Option<u64>) -> Result<HubSettings, Refused> {
    let kinds = HubKind::ALL.map(|kind| (kind.as_str(), kind));
    let kind = word(&format!("{at}kind"), kind, &kinds)?.ok_or_else(|| {
        Refused::Bad(format!(
            "{at}kind: is missing; local, whose devices are kept here, or static, a name alone"
        ))
    })?;
    let weight = weight.unwrap_or(1);
    let allocation_weight =
        u16::try_from(weight).ok().filter(|weight| (1..=ALLOCATION_WEIGHT_MAX).contains(weight));
    let allocation_weight = allocation_weight.ok_or_else(|| {
        Refused::Bad(format!("{at}allocationWeight: {weight} is not 1 to {ALLOCATION_WEIGHT_MAX}"))
    })?;
    Ok(HubSettings { name: parse(&format!("{at}name"), name)?, kind, allocation_weight })
}

fn policy(
    at: &str,
    name: &str,
    rights: &[String],
    [primary, secondary]: [Option<String>; 2],
    current: Option<&InstanceSettings>,
) -> Result<SharedAccessPolicy, Refused> {
    let name = parse(&format!("{at}name"), name)?;
    let parse_right = |(index, right): (usize, &String)| parse(&format!("{at}rights[{index}]"), right);
    let rights = rights.iter().enumerate().map(parse_right).collect::<Result<Vec<Right>, _>>()?;
    let kept = current.and_then(|current| current.policy(&name)).map(|policy| policy.keys.clone());
    let (kept_primary, kept_secondary) = kept.map(|keys| (keys.primary, keys.secondary)).unzip();
    let key = |member: &str, given: Option<String>, kept: Option<SymmetricKey>| match (given, kept) {
        // Nothing of it is repeated.
        (Some(text), _) => text.parse().map_err(|why: BadKey| Refused::Bad(format!("{at}{member}: {why}"))),
        (None, Some(kept)) => Ok(kept),
        // Spec: DPS-INST-5.
        (None, None) => Ok(new_key()?),
    };
    let keys = KeyPair {
        primary: key("primaryKey", primary, kept_primary)?,
        secondary: key("secondaryKey", secondary, kept_secondary)?,
    };
    Ok(SharedAccessPolicy { name, keys, rights })
}

/// The policy that an instance begins with.
pub(super) fn owner() -> Result<SharedAccessPolicy, Refused> {
    let rights: Vec<String> = Right::ALL.iter().map(ToString::to_string).collect();
    policy("", SharedAccessPolicy::OWNER, &rights, [None, None], None)
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(member: &str, text: &str) -> Result<T, Refused> {
    let shown: String = text.chars().take(64).collect();
    text.parse().map_err(|why| Refused::Bad(format!("{member}: {shown:?}: {why}")))
}

fn word<T: Copy>(member: &str, text: Option<&str>, words: &[(&str, T)]) -> Result<Option<T>, Refused> {
    let Some(text) = text else { return Ok(None) };
    match words.iter().find(|(word, _)| *word == text) {
        Some((_, value)) => Ok(Some(*value)),
        None => {
            let shown: String = text.chars().take(64).collect();
            let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            Err(Refused::Bad(format!("{member}: {shown:?} is not {}", known.join(" or "))))
        }
    }
}

/// Settings as they are told: of keys, their fingerprints.
pub fn describe_settings(settings: &InstanceSettings) -> Value {
    let allocation_policy =
        ALLOCATION_POLICIES.iter().find(|(_, policy)| *policy == settings.default_allocation_policy);
    let rules = settings.chain_rules;
    json!({
        "idScope": settings.id_scope.as_str(),
        "serviceHosts": settings.service_hosts.iter().map(|host| host.as_str()).collect::<Vec<_>>(),
        "defaultAllocationPolicy": allocation_policy.map(|(word, _)| word),
        "claimAcrossGroups": settings.claim_across_groups.as_str(),
        "x509": {
            "allowV1Leaf": rules.allow_v1_leaf,
            "allowV1SelfSignedAnchor": rules.allow_v1_self_signed_anchor,
            "allowCaLeaf": rules.allow_ca_leaf.as_str(),
            "enforceAnchorExpiry": rules.enforce_anchor_expiry,
        },
        "linkedHubs": settings.linked_hubs.iter().map(describe_hub).collect::<Vec<_>>(),
        "sharedAccessPolicies": settings.shared_access_policies.iter().map(describe_policy).collect::<Vec<_>>(),
    })
}

pub(super) fn describe_hub(hub: &HubSettings) -> Value {
    json!({
        "name": hub.name.as_str(),
        "kind": hub.kind.as_str(),
        "allocationWeight": hub.allocation_weight,
    })
}

pub(super) fn describe_policy(policy: &SharedAccessPolicy) -> Value {
    json!({
        "name": policy.name.as_str(),
        "rights": policy.rights.iter().map(|right| right.as_str()).collect::<Vec<_>>(),
        "primaryKeySha256": fingerprint(&policy.keys.primary),
        "secondaryKeySha256": fingerprint(&policy.keys.secondary),
    })
}

/// As a PUT of the instance takes them, keys and all.
pub fn settings_with_keys(settings: &InstanceSettings) -> Value {
    let mut described = describe_settings(settings);
    described["sharedAccessPolicies"] = settings.shared_access_policies.iter().map(with_keys).collect();
    described
}

/// The keys themselves. Spec: DPS-INST-6.
pub(super) fn with_keys(policy: &SharedAccessPolicy) -> Value {
    let mut described = describe_policy(policy);
    described["primaryKey"] = policy.keys.primary.expose_base64().as_str().into();
    described["secondaryKey"] = policy.keys.secondary.expose_base64().as_str().into();
    described
}
