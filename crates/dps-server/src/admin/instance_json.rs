//! A service instance and its parts as they are told. Spec: DPS-INST-6, DPS-INST-13.

use dps_core::access::SharedAccessPolicy;
use dps_core::instance_settings::{HubSettings, InstanceSettings};
use serde_json::{Value, json};

use super::hub_devices::fingerprint;

/// Settings as they are told: of keys, their fingerprints.
pub fn describe_settings(settings: &InstanceSettings) -> Value {
    let rules = settings.chain_rules;
    json!({
        "idScope": settings.id_scope.as_str(),
        "serviceHosts": settings.service_hosts.iter().map(|host| host.as_str()).collect::<Vec<_>>(),
        "defaultAllocationPolicy": settings.default_allocation_policy.as_str(),
        "claimAcrossGroups": settings.claim_across_groups.as_str(),
        "whenSourceUnavailable": settings.when_source_unavailable.as_str(),
        "passOverUnhealthyHubs": settings.passes_over_unhealthy_hubs,
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
    let mut described = json!({
        "name": hub.name.as_str(),
        "kind": hub.kind.as_str(),
        "allocationWeight": hub.allocation_weight,
        "applyAllocationPolicy": hub.applies_allocation_policy,
        "networks": hub.networks.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "draining": hub.is_draining,
    });
    if let Some(connection_string) = &hub.connection_string {
        described["connection"] = json!({
            "hostName": connection_string.authority(),
            "sharedAccessKeyName": connection_string.policy(),
            "sharedAccessKeySha256": fingerprint(connection_string.key()),
        });
    }
    described
}

/// The connection string itself, where the hub has one. Spec: DPS-INST-13.
pub(super) fn hub_with_connection_string(hub: &HubSettings) -> Value {
    let mut described = describe_hub(hub);
    if let Some(connection_string) = &hub.connection_string {
        described["connectionString"] = connection_string.expose().as_str().into();
    }
    described
}

pub(super) fn describe_policy(policy: &SharedAccessPolicy) -> Value {
    json!({
        "name": policy.name.as_str(),
        "rights": policy.rights.iter().map(|right| right.as_str()).collect::<Vec<_>>(),
        "primaryKeySha256": fingerprint(&policy.keys.primary),
        "secondaryKeySha256": fingerprint(&policy.keys.secondary),
    })
}

/// As a PUT of the instance takes them, keys and connection strings and all.
pub fn settings_with_keys(settings: &InstanceSettings) -> Value {
    let mut described = describe_settings(settings);
    described["linkedHubs"] = settings.linked_hubs.iter().map(hub_with_connection_string).collect();
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
