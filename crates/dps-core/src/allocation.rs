//! Which hub a device goes to. Pure. Spec: DPS-REG-15, DPS-REG-16, DPS-REG-22.

use aws_lc_rs::digest;
use dps_proto::ids::{HubName, RegistrationId};

use crate::enrollment::{AllocationPolicy, EntrySettings, ReprovisionPolicy};
use crate::instance::{LinkedHub, ServiceInstance};

/// The hub for this device, or `None` where no linked hub may take it. Under a policy that leaves devices where they are, one
/// that has a hub stays there while that hub is linked.
pub(crate) fn decide<'i>(
    instance: &'i ServiceInstance,
    settings: &EntrySettings,
    policy: ReprovisionPolicy,
    current: Option<&HubName>,
    id: &RegistrationId,
) -> Option<&'i LinkedHub> {
    if !policy.update_hub_assignment
        && let Some(linked) = current.and_then(|name| instance.linked_hub(name))
    {
        return Some(linked);
    }
    let allowed = instance
        .linked_hubs
        .iter()
        .filter(|linked| settings.hubs.is_empty() || settings.hubs.contains(&linked.name));
    match settings.allocation_policy.unwrap_or(instance.default_allocation_policy) {
        AllocationPolicy::Hashed => weighted_rendezvous(allowed, id),
        AllocationPolicy::Static => {
            // The entry's first hub; where it names none, the instance must leave no choice.
            let named = settings.hubs.first();
            let mut allowed = allowed.filter(|linked| named.is_none_or(|name| linked.name == *name));
            let only = allowed.next();
            only.filter(|_| allowed.next().is_none())
        }
    }
}

/// Highest score wins; a hub that joins takes only its own share, and no device moves between the others.
fn weighted_rendezvous<'i>(
    hubs: impl Iterator<Item = &'i LinkedHub>,
    id: &RegistrationId,
) -> Option<&'i LinkedHub> {
    hubs.map(|linked| (score(linked, id), linked))
        .max_by(|(a, left), (b, right)| a.total_cmp(b).then_with(|| left.name.cmp(&right.name)))
        .map(|(_, linked)| linked)
}

/// `weight / -ln(u)`, u uniform in (0, 1) from a hash of hub and device: the logarithmic method of weighted rendezvous
/// hashing gives each hub exactly its share.
fn score(linked: &LinkedHub, id: &RegistrationId) -> f64 {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(linked.name.folded().as_bytes());
    context.update(b"\n");
    context.update(id.folded().as_bytes());
    let hash = context.finish();
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_ref()[..8]);
    // 53 bits fill a double's mantissa; the half keeps u off both ends.
    let unit = ((u64::from_be_bytes(first) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    f64::from(linked.allocation_weight) / -unit.ln()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use dps_proto::ids::{ETag, InstanceSecret};
    use jiff::Timestamp;

    use super::*;
    use crate::enrollment::ProvisioningStatus;
    use crate::instance::{ClaimAcrossGroups, HubKind};
    use crate::ports::{Hub, HubDevice, Placement};
    use crate::x509::ChainRules;

    struct NoWrites;
    impl Hub for NoWrites {
        fn place(&self, _: HubDevice) -> Placement {
            Placement::Writes(Vec::new())
        }
    }

    fn instance(hubs: &[(&str, u16)]) -> ServiceInstance {
        let linked = |(name, weight): &(&str, u16)| LinkedHub {
            name: name.parse().unwrap(),
            kind: HubKind::Local,
            allocation_weight: *weight,
            hub: Arc::new(NoWrites),
        };
        ServiceInstance {
            id_scope: "0ne00000000".parse().unwrap(),
            secret: InstanceSecret::new([0; 32]),
            linked_hubs: hubs.iter().map(linked).collect(),
            default_allocation_policy: AllocationPolicy::Hashed,
            claim_across_groups: ClaimAcrossGroups::Allow,
            chain_rules: ChainRules::default(),
            service_hosts: Vec::new(),
            shared_access_policies: Vec::new(),
        }
    }

    fn settings(policy: Option<AllocationPolicy>, hubs: &[&str]) -> EntrySettings {
        EntrySettings {
            provisioning_status: ProvisioningStatus::Enabled,
            allocation_policy: policy,
            hubs: hubs.iter().map(|name| name.parse().unwrap()).collect(),
            initial_twin: None,
            iot_edge: false,
            reprovision_policy: None,
            other_members: None,
            etag: ETag::generate([0; 16], 0),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn chosen(instance: &ServiceInstance, settings: &EntrySettings, number: u32) -> Option<String> {
        let id = format!("device-{number}").parse().unwrap();
        decide(instance, settings, ReprovisionPolicy::MIGRATE, None, &id)
            .map(|linked| linked.name.to_string())
    }

    /// DPS-REG-16
    #[test]
    fn each_hub_gets_its_share_and_a_new_one_takes_only_its_own() {
        let three = instance(&[("a.x", 1), ("b.x", 2), ("c.x", 3)]);
        let four = instance(&[("a.x", 1), ("b.x", 2), ("c.x", 3), ("d.x", 4)]);
        let open = settings(None, &[]);
        let mut shares: HashMap<String, u32> = HashMap::new();
        for number in 0..20_000 {
            let before = chosen(&three, &open, number).unwrap();
            let after = chosen(&four, &open, number).unwrap();
            assert!(after == before || after == "d.x", "device-{number} moved from {before} to {after}");
            *shares.entry(after).or_default() += 1;
        }
        for (hub, weight) in [("a.x", 1), ("b.x", 2), ("c.x", 3), ("d.x", 4)] {
            let share = shares[hub];
            assert!(share.abs_diff(weight * 2_000) < 250, "{hub} got {share}");
        }
    }

    /// DPS-REG-15
    #[test]
    fn no_linked_hub_or_none_that_the_entry_allows_gives_none() {
        assert_eq!(chosen(&instance(&[]), &settings(None, &[]), 1), None);
        assert_eq!(chosen(&instance(&[("a.x", 1)]), &settings(None, &["b.x"]), 1), None);
    }

    /// DPS-REG-16
    #[test]
    fn a_static_entry_goes_to_the_hub_it_names() {
        let two = instance(&[("a.x", 1), ("b.x", 1)]);
        assert_eq!(
            chosen(&two, &settings(Some(AllocationPolicy::Static), &["B.x"]), 1).as_deref(),
            Some("b.x")
        );
        assert_eq!(chosen(&two, &settings(Some(AllocationPolicy::Static), &[]), 1), None);
        let one = instance(&[("a.x", 1)]);
        assert_eq!(chosen(&one, &settings(Some(AllocationPolicy::Static), &[]), 1).as_deref(), Some("a.x"));
    }

    /// DPS-REG-22
    #[test]
    fn an_assigned_device_stays_where_its_policy_says_never_while_that_hub_is_linked() {
        let two = instance(&[("a.x", 1), ("b.x", 1_000)]);
        let id = "device-1".parse().unwrap();
        let at = |name: &str, policy| {
            let name = name.parse().unwrap();
            decide(&two, &settings(None, &[]), policy, Some(&name), &id).map(|linked| linked.name.to_string())
        };
        let chosen = at("gone.x", ReprovisionPolicy::NEVER).unwrap();
        let other = if chosen == "a.x" { "b.x" } else { "a.x" };
        assert_eq!(at(other, ReprovisionPolicy::NEVER).as_deref(), Some(other));
        let never_and_migrate = ReprovisionPolicy { update_hub_assignment: false, migrate_device_data: true };
        assert_eq!(at(other, never_and_migrate).as_deref(), Some(other));
        assert_eq!(at(other, ReprovisionPolicy::MIGRATE), Some(chosen));
    }
}
