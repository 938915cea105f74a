//! What operators do meanwhile: entries are written, given new keys, disabled and deleted, records deleted.

use std::collections::BTreeMap;

use dps_core::custom_allocation::CustomAllocation;
use dps_core::enrollment::{
    AllocationPolicy, Attestation, EnrollmentGroup, GroupAttestation, IndividualEnrollment, ReprovisionPolicy,
};
use dps_core::ports::{Condition, Store as _};
use dps_proto::ids::ETag;

use crate::asked::Done;
use crate::common::desk::scope;
use crate::common::entries::{AnyEntry, group, individual, keys};
use crate::common::prng::Prng;
use crate::fleet::{GROUPS, key_name};
use crate::world::{HUBS, Movement, World};

/// The version of each entry's keys that was issued last. Devices hear of it before the store has it.
#[derive(Debug, Default)]
pub(crate) struct KeyVersions(BTreeMap<&'static str, u32>);

impl KeyVersions {
    pub(crate) fn latest(&self, entry: &str) -> u32 {
        self.0.get(entry).copied().unwrap_or(0)
    }

    /// The one before is still tried by devices that have not heard.
    pub(crate) fn draw(&self, entry: &str, prng: &mut Prng) -> u32 {
        let stale = u32::from(prng.percent(10));
        self.latest(entry).saturating_sub(stale)
    }

    fn renew(&mut self, entry: &'static str) {
        *self.0.entry(entry).or_default() += 1;
    }
}

impl World {
    pub(crate) fn operator(&mut self) {
        let (group, _) = *self.prng.pick(&GROUPS);
        let device = self.prng.below(self.devices.len());
        match self.prng.below(20) {
            0..=9 => {
                let enabled = self.prng.percent(75);
                self.put_group(group, enabled);
            }
            10 => self.delete_group(group),
            11..=14 => self.put_individual(device),
            15..=17 => self.delete_individual(device),
            _ => self.delete_record(device),
        }
    }

    pub(crate) fn put_group(&mut self, name: &'static str, enabled: bool) {
        let prefix = GROUPS.iter().find_map(|(group, prefix)| (*group == name).then_some(*prefix)).flatten();
        let keys = keys(&key_name(name, self.version_to_write(name)));
        let entry = EnrollmentGroup {
            registration_id_prefix: prefix.map(|prefix| prefix.parse().unwrap()),
            attestation: GroupAttestation::SymmetricKey(keys),
            ..group(name)
        };
        let (entry, how) = self.drawn_settings(entry, enabled);
        let store = self.store_of_a_node();
        let task = self.spawn(async move {
            Done::Enrolled(store.put_enrollment_group(&scope(), entry, Condition::Always.into()).await)
        });
        self.note(&format!("{task:?} writes group {name}, {how}"));
    }

    fn put_individual(&mut self, device: usize) {
        let name = self.devices[device].name;
        let version = self.version_to_write(name);
        // A name that no other device has, or none.
        let device_id = self.prng.percent(50).then(|| format!("{name}#{version}").parse().unwrap());
        let attestation = Attestation::SymmetricKey(keys(&key_name(name, version)));
        let enabled = self.prng.percent(60);
        let entry = IndividualEnrollment { device_id, attestation, ..individual(name) };
        let (entry, how) = self.drawn_settings(entry, enabled);
        let store = self.store_of_a_node();
        let task = self.spawn(async move {
            Done::Enrolled(store.put_individual_enrollment(&scope(), entry, Condition::Always.into()).await)
        });
        self.note(&format!("{task:?} writes individual enrollment {name}, {how}"));
    }

    fn version_to_write(&mut self, entry: &'static str) -> u32 {
        if self.prng.percent(25) {
            self.versions.renew(entry);
        }
        self.versions.latest(entry)
    }

    /// A new etag, one of the sets of hubs, and a policy: where nothing moves, a device that lives at another hub stays there
    /// nevertheless.
    fn drawn_settings<E: AnyEntry>(&mut self, entry: E, enabled: bool) -> (E, String) {
        let chosen = match self.far {
            true => 2 + self.prng.below(2),
            false => self.prng.below(HUBS.len() + 1),
        };
        let hubs = HUBS.get(chosen..=chosen).unwrap_or_default();
        let mut entry = entry.at_hubs(hubs);
        let policy = match self.movement {
            Movement::None => Some(ReprovisionPolicy::NEVER),
            Movement::Some => *self.prng.pick(&[
                None,
                Some(ReprovisionPolicy::MIGRATE),
                Some(ReprovisionPolicy { update_hub_assignment: true, migrate_device_data: false }),
                Some(ReprovisionPolicy::NEVER),
            ]),
        };
        // Another thing that the seed decides: half of the worlds know webhooks, and half of their entries have one.
        let is_custom = self.webhooks && self.prng.percent(50);
        if is_custom {
            let url = self.prng.pick(&["https://one.example/", "https://two.example/"]).parse().unwrap();
            entry.settings().allocation_policy = Some(AllocationPolicy::Custom);
            entry.settings().custom_allocation =
                Some(CustomAllocation { webhook_url: url, api_version: "2019-03-31".into() });
        }
        entry.settings().reprovision_policy = policy;
        entry.settings().etag = ETag::generate(self.prng.bytes(), self.clock.0.as_second());
        let entry = if enabled { entry } else { entry.disabled() };
        (entry, format!("enabled {enabled}, hubs {hubs:?}, custom {is_custom}"))
    }

    fn delete_group(&mut self, name: &'static str) {
        let store = self.store_of_a_node();
        let task = self.spawn(async move {
            let id = name.parse().unwrap();
            Done::Enrolled(store.delete_enrollment_group(&scope(), &id, Condition::Always.into()).await)
        });
        self.note(&format!("{task:?} deletes group {name}"));
    }

    pub(crate) fn delete_individual(&mut self, device: usize) {
        let (store, id) = (self.store_of_a_node(), self.devices[device].id());
        let task = self.spawn(async move {
            Done::Enrolled(store.delete_individual_enrollment(&scope(), &id, Condition::Always.into()).await)
        });
        self.note(&format!("{task:?} deletes individual enrollment {}", self.devices[device].name));
    }

    fn delete_record(&mut self, device: usize) {
        let (store, id) = (self.store_of_a_node(), self.devices[device].id());
        self.devices[device].begin_anew();
        self.devices[device].deletions += 1;
        let task = self.spawn(async move {
            let result = store.delete_registration(&scope(), &id, Condition::Always.into()).await;
            Done::Deleted(result)
        });
        self.deletions.insert(task, device);
        self.note(&format!("{task:?} deletes the record of {}", self.devices[device].name));
    }
}
