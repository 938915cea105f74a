//! The devices of the simulation: what they sign with, and what each of them was told.

use dps_core::attestation::DeviceClaim;
use dps_core::registration::Assignment;
use dps_proto::ids::{DeviceId, HubName, OperationId, RegistrationId};
use jiff::Timestamp;

use crate::common::entries::{keys, signed};
use crate::common::prng::Prng;

/// Every group. The first has a prefix that only some of the devices have.
pub(crate) const GROUPS: [(&str, Option<&str>); 3] =
    [("alpha", Some("line-")), ("beta", None), ("gamma", None)];

/// A device, which remembers what it was told since an operator last deleted its record.
pub(crate) struct Device {
    pub(crate) name: &'static str,
    /// Every operation id that it was told.
    pub(crate) told: Vec<OperationId>,
    /// Those that it was told before.
    pub(crate) forgotten: Vec<OperationId>,
    /// Where it was told that it lives.
    pub(crate) home: Option<Home>,
    /// Changes when an operator deletes the record, at the beginning and at the end: what was asked before proves nothing.
    pub(crate) life: u32,
    /// An operation that was to bring it to its first hub, and did not: what is there may be older than the service for all that this
    /// knows.
    pub(crate) left_at_first: bool,
    /// Deletions of its record that are under way: what it is told meanwhile may not hold.
    pub(crate) deletions: u32,
}

/// A hub, and the device's id there.
pub(crate) type Home = (HubName, DeviceId);

/// Whose key a device signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signer {
    /// That of its individual enrollment.
    Own,
    /// The one derived from that of a group.
    Group(&'static str),
    /// A key that no entry ever had.
    Nobody,
}

pub(crate) fn fleet() -> Vec<Device> {
    // Two spelled with capitals: such a device may derive its key, and name itself, in either spelling.
    ["Line-1", "line-2", "cell-3", "Cell-4"]
        .map(|name| Device {
            name,
            told: Vec::new(),
            forgotten: Vec::new(),
            home: None,
            life: 0,
            left_at_first: false,
            deletions: 0,
        })
        .into()
}

/// The keys that an entry has in a version; an operator may give it new ones.
pub(crate) fn key_name(entry: &str, version: u32) -> String {
    format!("{entry} v{version}")
}

pub(crate) fn home(assignment: &Assignment) -> Home {
    (assignment.hub.clone(), assignment.device_id.clone())
}

impl Signer {
    /// Any; seldom a stranger.
    pub(crate) fn draw(prng: &mut Prng) -> Self {
        match prng.below(20) {
            0 => Self::Nobody,
            1..=6 => Self::Own,
            _ => Self::Group(prng.pick(&GROUPS).0),
        }
    }
}

impl Device {
    pub(crate) fn id(&self) -> RegistrationId {
        self.name.parse().unwrap()
    }

    /// A claim with the keys of that version of the entry.
    pub(crate) fn claim(
        &self,
        signer: Signer,
        version: u32,
        expires_at: Timestamp,
        prng: &mut Prng,
    ) -> DeviceClaim {
        let folded = self.name.to_lowercase();
        let presented = if prng.percent(70) { self.name } else { &folded };
        let derived_over = if prng.percent(50) { presented } else { &folded };
        let entry = match signer {
            Signer::Own => self.name,
            Signer::Group(group) => group,
            Signer::Nobody => "nobody",
        };
        let keys = keys(&key_name(entry, version));
        let key = if prng.percent(50) { keys.primary } else { keys.secondary };
        let key = if let Signer::Group(_) = signer { key.derive(derived_over) } else { key };
        signed(presented, &key, expires_at)
    }

    /// Whether what was asked in that life still holds.
    pub(crate) fn is_in(&self, life: u32) -> bool {
        self.life == life && self.deletions == 0
    }

    /// A new life: the record is being deleted, or is gone.
    pub(crate) fn begin_anew(&mut self) {
        self.life += 1;
        self.forgotten.append(&mut self.told);
        self.home = None;
    }
}
