//! What is asked for of a service instance and its parts. Spec: DPS-INST-2, DPS-INST-5, DPS-INST-6, DPS-INST-13.
//!
//! What an answer holds and nobody can set is taken and left alone, so that an answer can be sent back.

use dps_core::access::{Right, ServiceHost, SharedAccessPolicy, UnknownRight};
use dps_core::enrollment::AllocationPolicy;
use dps_core::instance::{ClaimAcrossGroups, HubKind, WhenSourceUnavailable};
use dps_core::instance_settings::{ALLOCATION_WEIGHT_MAX, HubSettings, InstanceSettings};
use dps_core::x509::{CaLeaf, ChainRules};
use dps_proto::connection_string::ServiceConnectionString;
use dps_proto::ids::{HubName, IdScope, PolicyName};
use dps_proto::key::{KeyPair, SymmetricKey};
use serde_json::{Map, Value};

use super::refused::Refused;
use crate::excerpt::excerpt;
use crate::json_members::{BadMember, Members};
use crate::new_key::{NoRandomness, new_key};

/// What is set of a hub, and after that what an answer holds beside it.
const HUB_MEMBERS: [&str; 9] = [
    "kind",
    "allocationWeight",
    "applyAllocationPolicy",
    "networks",
    "draining",
    "connectionString",
    "connection",
    "health",
    "load",
];

/// Longest connection string of a hub, in bytes: with a host name as long as names are and the longest key, it leaves a policy's
/// name 100 bytes. Spec: DPS-INST-13.
const CONNECTION_STRING_BYTES_MAX: usize = 512;

/// Most characters of a text that an error shows where one of a few words should stand.
const SHOWN_CHARACTERS_MAX: usize = 64;

/// The settings that are asked for; of policies, `None` where nothing is said of them.
pub(super) struct WantedInstance {
    service_hosts: Vec<ServiceHost>,
    default_allocation_policy: AllocationPolicy,
    claim_across_groups: ClaimAcrossGroups,
    when_source_unavailable: WhenSourceUnavailable,
    passes_over_unhealthy_hubs: bool,
    chain_rules: ChainRules,
    linked_hubs: Vec<WantedHub>,
    policies: Option<Vec<WantedPolicy>>,
}

/// A hub that is asked for, with the connection string that was given.
pub(super) struct WantedHub(HubSettings);

/// A policy that is asked for, with the keys that were given.
pub(super) struct WantedPolicy {
    name: PolicyName,
    rights: Vec<Right>,
    primary: Option<SymmetricKey>,
    secondary: Option<SymmetricKey>,
}

/// Which key of a policy is made anew. Spec: DPS-INST-7.
#[derive(Clone, Copy)]
pub(super) enum RenewedKey {
    Primary,
    Secondary,
    /// Neither: they exchange places.
    Swap,
}

/// Reads the body of a PUT of the instance `id_scope`, or of a POST, which has the ID scope drawn.
pub(super) fn instance(body: &[u8], id_scope: Option<&IdScope>) -> Result<WantedInstance, Refused> {
    const READ_ONLY: [&str; 4] = ["managedBy", "etag", "createdDateTimeUtc", "lastUpdatedDateTimeUtc"];
    const KNOWN: [&str; 9] = [
        "idScope",
        "serviceHosts",
        "defaultAllocationPolicy",
        "claimAcrossGroups",
        "whenSourceUnavailable",
        "passOverUnhealthyHubs",
        "x509",
        "linkedHubs",
        "sharedAccessPolicies",
    ];
    let object = object(body)?;
    let body = members(&object);
    body.only(&[KNOWN.as_slice(), &READ_ONLY].concat())?;
    check_id_scope(&body, id_scope)?;
    let hub = |hub: &Members<'_>| {
        hub.only(&[HUB_MEMBERS.as_slice(), &["name"]].concat())?;
        let name = hub.required_text("name")?;
        hub_settings(hub, name)
    };
    let policy = |policy: &Members<'_>| {
        let name = policy.secret("name")?.ok_or_else(|| policy.missing("name"))?;
        wanted_policy(policy, name, &["name"])
    };
    let hubs = body.objects("linkedHubs")?.unwrap_or_default();
    let policies = body.objects("sharedAccessPolicies")?;
    let claims = ClaimAcrossGroups::ALL.map(|claim| (claim.as_str(), claim));
    let unavailable = WhenSourceUnavailable::ALL.map(|what| (what.as_str(), what));
    let when_source_unavailable = word(&body, "whenSourceUnavailable", &unavailable)?;
    let allocation_policies = AllocationPolicy::DEFAULTS.map(|policy| (policy.as_str(), policy));
    let allocation_policy = word(&body, "defaultAllocationPolicy", &allocation_policies)?;
    Ok(WantedInstance {
        service_hosts: body.list("serviceHosts")?,
        default_allocation_policy: allocation_policy.unwrap_or(AllocationPolicy::Hashed),
        claim_across_groups: word(&body, "claimAcrossGroups", &claims)?.unwrap_or(ClaimAcrossGroups::Allow),
        when_source_unavailable: when_source_unavailable.unwrap_or(WhenSourceUnavailable::Fail),
        passes_over_unhealthy_hubs: body.flag("passOverUnhealthyHubs")?.unwrap_or(false),
        chain_rules: chain_rules(body.object("x509")?)?,
        linked_hubs: hubs.iter().map(hub).collect::<Result<_, _>>()?,
        policies: policies
            .map(|policies| policies.iter().map(policy).collect::<Result<_, _>>())
            .transpose()?,
    })
}

/// Reads the body of a PUT of the hub of that name.
pub(super) fn hub(body: &[u8], name: &str) -> Result<WantedHub, Refused> {
    let object = object(body)?;
    let body = members(&object);
    body.only(&[HUB_MEMBERS.as_slice(), &["name", "etag"]].concat())?;
    Ok(hub_settings(&body, name)?)
}

/// Reads the body of a PUT of the policy of that name.
pub(super) fn policy(body: &[u8], name: PolicyName) -> Result<WantedPolicy, Refused> {
    let object = object(body)?;
    Ok(wanted_policy(&members(&object), name, &["name", "etag"])?)
}

/// Reads which key is to be made anew.
pub(super) fn renewal(body: &[u8]) -> Result<RenewedKey, Refused> {
    const WORDS: [(&str, RenewedKey); 3] =
        [("primary", RenewedKey::Primary), ("secondary", RenewedKey::Secondary), ("swap", RenewedKey::Swap)];
    let object = object(body)?;
    let body = members(&object);
    body.only(&["key"])?;
    // Nothing of what stands there is repeated: it might be a key.
    let key = body.required_text("key")?;
    let found = WORDS.iter().find(|(word, _)| *word == key).map(|(_, renewed)| *renewed);
    Ok(found.ok_or_else(|| body.wrong("key", "is not primary, secondary or swap"))?)
}

impl WantedInstance {
    /// The settings of the instance, of which `current` are those that there are. Spec: DPS-INST-5.
    pub(super) fn settings(
        self,
        id_scope: IdScope,
        current: Option<&InstanceSettings>,
    ) -> Result<InstanceSettings, Refused> {
        let shared_access_policies = match (self.policies, current) {
            (None, Some(current)) => current.shared_access_policies.clone(),
            (None, None) => vec![owner()?],
            (Some(policies), current) => {
                policies.into_iter().map(|policy| policy.policy(current)).collect::<Result<_, _>>()?
            }
        };
        Ok(InstanceSettings {
            id_scope,
            service_hosts: self.service_hosts,
            default_allocation_policy: self.default_allocation_policy,
            claim_across_groups: self.claim_across_groups,
            when_source_unavailable: self.when_source_unavailable,
            passes_over_unhealthy_hubs: self.passes_over_unhealthy_hubs,
            chain_rules: self.chain_rules,
            linked_hubs: self.linked_hubs.into_iter().map(|hub| hub.settings(current)).collect(),
            shared_access_policies,
        })
    }
}

impl WantedHub {
    /// The name that it is asked for under.
    pub(super) fn name(&self) -> &HubName {
        &self.0.name
    }

    /// The hub of an instance with these settings: a connection string that was not given is the one that is there.
    /// Spec: DPS-INST-13.
    pub(super) fn settings(self, current: Option<&InstanceSettings>) -> HubSettings {
        let Self(mut hub) = self;
        if hub.kind == HubKind::Azure && hub.connection_string.is_none() {
            let kept = current.and_then(|current| current.linked_hub(&hub.name));
            hub.connection_string = kept.and_then(|kept| kept.connection_string.clone());
        }
        hub
    }
}

impl WantedPolicy {
    /// The policy of an instance with these settings: a key that was not given is the one that is there, else a new one.
    /// Spec: DPS-INST-5.
    pub(super) fn policy(
        self,
        current: Option<&InstanceSettings>,
    ) -> Result<SharedAccessPolicy, NoRandomness> {
        let kept = current.and_then(|current| current.policy(&self.name)).map(|policy| policy.keys.clone());
        let (primary, secondary) = kept.map(|keys| (keys.primary, keys.secondary)).unzip();
        let or_new = |key: Option<SymmetricKey>| key.map_or_else(new_key, Ok);
        let keys = KeyPair {
            primary: or_new(self.primary.or(primary))?,
            secondary: or_new(self.secondary.or(secondary))?,
        };
        Ok(SharedAccessPolicy { name: self.name, keys, rights: self.rights })
    }
}

/// The policy that an instance begins with.
fn owner() -> Result<SharedAccessPolicy, Refused> {
    let name =
        SharedAccessPolicy::OWNER.parse().map_err(|why| Refused::Broken(format!("the owner: {why}")))?;
    let keys = KeyPair { primary: new_key()?, secondary: new_key()? };
    Ok(SharedAccessPolicy { name, keys, rights: Right::ALL.to_vec() })
}

fn object(body: &[u8]) -> Result<Map<String, Value>, Refused> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Refused::Bad("the body: must be a JSON object".to_owned())),
        Err(why) => Err(Refused::Bad(format!("the body: {why}"))),
    }
}

fn members(object: &Map<String, Value>) -> Members<'_> {
    Members { object, path: String::new() }
}

fn check_id_scope(body: &Members<'_>, id_scope: Option<&IdScope>) -> Result<(), BadMember> {
    let Some(named) = body.parsed::<IdScope>("idScope")? else { return Ok(()) };
    match id_scope {
        Some(id_scope) if named == *id_scope => Ok(()),
        Some(id_scope) => Err(body.wrong("idScope", format!("{named} is not {id_scope}, that of the path"))),
        None => Err(body.wrong(
            "idScope",
            format!(
                "the service draws one here; PUT /admin/v1/id-scopes/{named} makes an instance with this one"
            ),
        )),
    }
}

fn chain_rules(x509: Option<Members<'_>>) -> Result<ChainRules, BadMember> {
    let standard = ChainRules::default();
    let Some(x509) = x509 else { return Ok(standard) };
    x509.only(&["allowV1Leaf", "allowV1SelfSignedAnchor", "allowCaLeaf", "enforceAnchorExpiry"])?;
    let leaves = CaLeaf::ALL.map(|leaf| (leaf.as_str(), leaf));
    let flag = |name, standard| x509.flag(name).map(|flag| flag.unwrap_or(standard));
    Ok(ChainRules {
        allow_v1_leaf: flag("allowV1Leaf", standard.allow_v1_leaf)?,
        allow_v1_self_signed_anchor: flag("allowV1SelfSignedAnchor", standard.allow_v1_self_signed_anchor)?,
        allow_ca_leaf: word(&x509, "allowCaLeaf", &leaves)?.unwrap_or(standard.allow_ca_leaf),
        enforce_anchor_expiry: flag("enforceAnchorExpiry", standard.enforce_anchor_expiry)?,
    })
}

fn hub_settings(hub: &Members<'_>, name: &str) -> Result<WantedHub, BadMember> {
    let kinds = HubKind::ALL.map(|kind| (kind.as_str(), kind));
    let kind = word(hub, "kind", &kinds)?.ok_or_else(|| {
        hub.wrong(
            "kind",
            "is missing; local, whose devices are kept here, static, a name alone, or azureIotHub, an Azure IoT Hub",
        )
    })?;
    let weight = hub.number("allocationWeight")?.unwrap_or(1);
    let allocation_weight =
        u16::try_from(weight).ok().filter(|weight| (1..=ALLOCATION_WEIGHT_MAX).contains(weight));
    let allocation_weight = allocation_weight.ok_or_else(|| {
        hub.wrong("allocationWeight", format!("{weight} is not 1 to {ALLOCATION_WEIGHT_MAX}"))
    })?;
    let name = name.parse().map_err(|why| hub.wrong("name", format!("{name:?}: {why}")))?;
    let applies_allocation_policy = hub.flag("applyAllocationPolicy")?.unwrap_or(true);
    let networks = hub.list("networks")?;
    let is_draining = hub.flag("draining")?.unwrap_or(false);
    let connection_string = connection_string(hub)?;
    Ok(WantedHub(HubSettings {
        name,
        kind,
        allocation_weight,
        applies_allocation_policy,
        networks,
        is_draining,
        connection_string,
    }))
}

/// Spec: DPS-INST-13.
fn connection_string(hub: &Members<'_>) -> Result<Option<ServiceConnectionString>, BadMember> {
    const MEMBER: &str = "connectionString";
    if hub.text(MEMBER)?.is_some_and(|text| text.len() > CONNECTION_STRING_BYTES_MAX) {
        return Err(hub.wrong(MEMBER, format!("is longer than {CONNECTION_STRING_BYTES_MAX} bytes")));
    }
    hub.secret(MEMBER)
}

/// `more` are members that this one may have beside its own.
fn wanted_policy(policy: &Members<'_>, name: PolicyName, more: &[&str]) -> Result<WantedPolicy, BadMember> {
    const KNOWN: [&str; 5] =
        ["rights", "primaryKey", "secondaryKey", "primaryKeySha256", "secondaryKeySha256"];
    policy.only(&[KNOWN.as_slice(), more].concat())?;
    Ok(WantedPolicy {
        name,
        rights: rights(policy)?,
        primary: policy.secret("primaryKey")?,
        secondary: policy.secret("secondaryKey")?,
    })
}

/// Each once.
fn rights(policy: &Members<'_>) -> Result<Vec<Right>, BadMember> {
    let items = policy.array("rights")?.ok_or_else(|| policy.missing("rights"))?;
    let mut rights = Vec::new();
    for (at, item) in items.iter().enumerate() {
        // What stands there is not repeated: it might be a key.
        let wrong = |why: &str| policy.wrong(&format!("rights[{at}]"), why);
        let right: Right = match item.as_str().map(str::parse) {
            Some(right) => right.map_err(|why: UnknownRight| wrong(&why.to_string()))?,
            None => return Err(wrong("must be a string")),
        };
        if !rights.contains(&right) {
            rights.push(right);
        }
    }
    Ok(rights)
}

fn word<T: Copy>(of: &Members<'_>, member: &str, words: &[(&str, T)]) -> Result<Option<T>, BadMember> {
    let Some(text) = of.text(member)? else { return Ok(None) };
    match words.iter().find(|(word, _)| *word == text) {
        Some((_, value)) => Ok(Some(*value)),
        None => {
            let shown = excerpt(text.to_owned(), SHOWN_CHARACTERS_MAX);
            let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            Err(of.wrong(member, format!("{shown:?} is not {}", known.join(" or "))))
        }
    }
}
