//! Which hub a device goes to. Pure. Spec: DPS-REG-15, DPS-REG-16, DPS-REG-22, DPS-REG-24, DPS-REG-25.

use std::net::IpAddr;

use aws_lc_rs::digest;
use dps_proto::ids::{HubName, RegistrationId};
use ipnet::IpNet;

use crate::enrollment::{AllocationPolicy, EntrySettings, ReprovisionPolicy};
use crate::instance::{LinkedHub, ServiceInstance};
use crate::ports::HubHealth;

/// The hub for this device, or `None` where no linked hub may take it. Under a policy that leaves devices where they are, one
/// that has a hub stays there while that hub is linked.
pub(crate) fn decide<'i>(
    instance: &'i ServiceInstance,
    settings: &EntrySettings,
    policy: ReprovisionPolicy,
    current: Option<&HubName>,
    (id, address): (&RegistrationId, Option<IpAddr>),
) -> Option<&'i LinkedHub> {
    if let Some(linked) = stays_at(instance, policy, current) {
        return Some(linked);
    }
    let allowed = allowed(instance, settings, current).into_iter();
    match settings.allocation_policy.unwrap_or(instance.default_allocation_policy) {
        AllocationPolicy::Hashed => weighted_rendezvous(allowed, id),
        AllocationPolicy::GeoLatency => {
            weighted_rendezvous(nearest(allowed.collect(), address).into_iter(), id)
        }
        AllocationPolicy::Static => {
            // The entry's first hub; where it names none, the instance must leave no choice.
            let named = settings.hubs.first();
            let mut allowed = allowed.filter(|linked| named.is_none_or(|name| linked.name == *name));
            let only = allowed.next();
            only.filter(|_| allowed.next().is_none())
        }
        // Its webhook is asked among the candidates.
        AllocationPolicy::Custom => None,
    }
}

/// The hubs that a webhook may choose from. Spec: DPS-REG-27.
pub(crate) fn candidates<'i>(
    instance: &'i ServiceInstance,
    settings: &EntrySettings,
    policy: ReprovisionPolicy,
    current: Option<&HubName>,
) -> Vec<&'i LinkedHub> {
    match stays_at(instance, policy, current) {
        Some(linked) => vec![linked],
        None => allowed(instance, settings, current),
    }
}

/// Spec: DPS-REG-22.
fn stays_at<'i>(
    instance: &'i ServiceInstance,
    policy: ReprovisionPolicy,
    current: Option<&HubName>,
) -> Option<&'i LinkedHub> {
    let current = current.filter(|_| !policy.update_hub_assignment)?;
    instance.linked_hub(current)
}

/// Spec: DPS-REG-25, DPS-REG-46, DPS-REG-47.
fn allowed<'i>(
    instance: &'i ServiceInstance,
    settings: &EntrySettings,
    current: Option<&HubName>,
) -> Vec<&'i LinkedHub> {
    let may_have = |linked: &&LinkedHub| match settings.hubs.is_empty() {
        true => linked.applies_allocation_policy,
        false => settings.hubs.contains(&linked.name),
    };
    let is_there = |linked: &&LinkedHub| current == Some(&linked.name);
    let allowed: Vec<_> = instance.linked_hubs.iter().filter(may_have).collect();
    let mut open: Vec<_> = allowed.iter().copied().filter(|linked| !linked.is_draining).collect();
    if open.is_empty() {
        open = allowed.into_iter().filter(is_there).collect();
    }
    if !instance.passes_over_unhealthy_hubs {
        return open;
    }
    let is_healthy = |linked: &&LinkedHub| linked.hub.health() == HubHealth::Healthy;
    let healthy: Vec<_> =
        open.iter().copied().filter(|linked| is_there(linked) || is_healthy(linked)).collect();
    if healthy.is_empty() { open } else { healthy }
}

/// Those in whose smallest network the address is; all where it is in none, or not known.
fn nearest(hubs: Vec<&LinkedHub>, address: Option<IpAddr>) -> Vec<&LinkedHub> {
    let Some(address) = address.map(|address| address.to_canonical()) else { return hubs };
    let closeness = |linked: &LinkedHub| {
        let around = linked.networks.iter().filter(|network| network.contains(&address));
        around.map(IpNet::prefix_len).max()
    };
    let Some(closest) = hubs.iter().filter_map(|linked| closeness(linked)).max() else { return hubs };
    hubs.into_iter().filter(|linked| closeness(linked) == Some(closest)).collect()
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
    use crate::instance::{ClaimAcrossGroups, HubKind, WhenSourceUnavailable};
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
            applies_allocation_policy: true,
            networks: Vec::new(),
            is_draining: false,
            connection_string: None,
            hub: Arc::new(NoWrites),
        };
        ServiceInstance {
            id_scope: "0ne00000000".parse().unwrap(),
            secret: InstanceSecret::new([0; 32]),
            linked_hubs: hubs.iter().map(linked).collect(),
            default_allocation_policy: AllocationPolicy::Hashed,
            claim_across_groups: ClaimAcrossGroups::Allow,
            when_source_unavailable: WhenSourceUnavailable::Fail,
            passes_over_unhealthy_hubs: false,
            chain_rules: ChainRules::default(),
            service_hosts: Vec::new(),
            shared_access_policies: Vec::new(),
        }
    }

    fn settings(policy: Option<AllocationPolicy>, hubs: &[&str]) -> EntrySettings {
        EntrySettings {
            provisioning_status: ProvisioningStatus::Enabled,
            allocation_policy: policy,
            custom_allocation: None,
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
        decide(instance, settings, ReprovisionPolicy::MIGRATE, None, (&id, None))
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

    /// DPS-REG-16: 100,000 fixed ids over weights 1:2:3:4, by the chi-squared test at p = 0.001 with three degrees of freedom.
    #[test]
    fn the_shares_of_the_hubs_are_those_of_their_weights() {
        let four = instance(&[("a.x", 1), ("b.x", 2), ("c.x", 3), ("d.x", 4)]);
        let mut counts: HashMap<String, u32> = HashMap::new();
        for number in 0..100_000 {
            *counts.entry(chosen(&four, &settings(None, &[]), number).unwrap()).or_default() += 1;
        }
        let terms = [("a.x", 1), ("b.x", 2), ("c.x", 3), ("d.x", 4)].map(|(hub, weight)| {
            let expected = f64::from(weight) * 10_000.0;
            (f64::from(counts[hub]) - expected).powi(2) / expected
        });
        let chi_squared: f64 = terms.iter().sum();
        assert!(chi_squared < 16.266, "{chi_squared}: {counts:?}");
    }

    /// DPS-REG-16: within one percentage point of its share, and nobody moves between the others.
    #[test]
    fn a_hub_that_joins_takes_its_share_alone() {
        let three = instance(&[("a.x", 1), ("b.x", 2), ("c.x", 3)]);
        let four = instance(&[("a.x", 1), ("b.x", 2), ("c.x", 3), ("d.x", 4)]);
        let open = settings(None, &[]);
        let mut joined = 0_u32;
        for number in 0..100_000 {
            let (before, after) = (chosen(&three, &open, number), chosen(&four, &open, number));
            if after != before {
                assert_eq!(after.as_deref(), Some("d.x"), "device-{number} moved from {before:?}");
                joined += 1;
            }
        }
        assert!(joined.abs_diff(40_000) < 1_000, "{joined} of 100,000, not 40 %");
    }

    /// DPS-REG-25
    #[test]
    fn a_hub_that_is_kept_out_takes_only_devices_whose_entry_names_it() {
        let mut hubs = instance(&[("a.x", 1), ("b.x", 1_000)]);
        hubs.linked_hubs[1].applies_allocation_policy = false;
        for number in 0..20 {
            assert_eq!(chosen(&hubs, &settings(None, &[]), number).as_deref(), Some("a.x"));
            let open_static = settings(Some(AllocationPolicy::Static), &[]);
            assert_eq!(chosen(&hubs, &open_static, number).as_deref(), Some("a.x"), "there is no other");
        }
        assert_eq!(chosen(&hubs, &settings(None, &["b.x"]), 1).as_deref(), Some("b.x"));
        hubs.linked_hubs[0].applies_allocation_policy = false;
        assert_eq!(chosen(&hubs, &settings(None, &[]), 1), None);
    }

    /// DPS-REG-24
    #[test]
    fn a_device_goes_to_the_hub_in_whose_smallest_network_it_is() {
        let mut hubs = instance(&[("a.x", 1), ("b.x", 1), ("c.x", 1), ("d.x", 1)]);
        let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        hubs.linked_hubs[0].networks = networks(&["10.0.0.0/8", "2001:db8::/32"]);
        hubs.linked_hubs[1].networks = networks(&["10.1.0.0/16", "192.0.2.0/24"]);
        hubs.linked_hubs[2].networks = networks(&["198.51.100.0/24", "10.1.0.0/16"]);
        let at = |address: Option<&str>, settings: &EntrySettings, number: u32| {
            let id = format!("device-{number}").parse().unwrap();
            let address = address.map(|address| address.parse().unwrap());
            let linked = decide(&hubs, settings, ReprovisionPolicy::MIGRATE, None, (&id, address));
            linked.map(|linked| linked.name.to_string())
        };
        let latency = settings(Some(AllocationPolicy::GeoLatency), &[]);
        let reached = |address: Option<&str>| {
            let mut reached: Vec<_> = (0..50).filter_map(|number| at(address, &latency, number)).collect();
            reached.sort_unstable();
            reached.dedup();
            reached
        };
        for (address, expected) in [
            (Some("10.2.0.1"), &["a.x"][..]),
            (Some("::ffff:10.2.0.1"), &["a.x"]),
            (Some("2001:db8:1::1"), &["a.x"]),
            (Some("192.0.2.7"), &["b.x"]),
            (Some("10.1.2.3"), &["b.x", "c.x"]),
            (Some("203.0.113.1"), &["a.x", "b.x", "c.x", "d.x"]),
            (None, &["a.x", "b.x", "c.x", "d.x"]),
        ] {
            assert_eq!(reached(address), expected, "{address:?}");
        }
        // By hash, where several are as near: the same as under the other policy among them.
        let among = settings(None, &["b.x", "c.x"]);
        for number in 0..50 {
            assert_eq!(at(Some("10.1.2.3"), &latency, number), at(None, &among, number));
        }
        // Of the hubs that the entry names.
        let named = settings(Some(AllocationPolicy::GeoLatency), &["a.x", "d.x"]);
        assert_eq!(at(Some("10.1.2.3"), &named, 1).as_deref(), Some("a.x"));
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
            decide(&two, &settings(None, &[]), policy, Some(&name), (&id, None))
                .map(|linked| linked.name.to_string())
        };
        let chosen = at("gone.x", ReprovisionPolicy::NEVER).unwrap();
        let other = if chosen == "a.x" { "b.x" } else { "a.x" };
        assert_eq!(at(other, ReprovisionPolicy::NEVER).as_deref(), Some(other));
        let never_and_migrate = ReprovisionPolicy { update_hub_assignment: false, migrate_device_data: true };
        assert_eq!(at(other, never_and_migrate).as_deref(), Some(other));
        assert_eq!(at(other, ReprovisionPolicy::MIGRATE), Some(chosen));
    }
}
