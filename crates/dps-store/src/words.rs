//! The words by which stores of tables keep what is one of a few.

use dps_core::audit::Action;
use dps_core::enrollment::{AllocationPolicy, ProvisioningStatus};
use dps_core::instance::{ClaimAcrossGroups, HubKind, WhenSourceUnavailable};
use dps_core::ports::HubDeviceStatus;
use dps_core::registration::Substatus;
use dps_core::x509::CaLeaf;

/// A value that is stored as one of a few words.
pub(crate) trait Word: Copy + 'static {
    /// All of them.
    const ALL: &'static [Self];
    /// The word for it.
    fn word(self) -> &'static str;
}

impl Word for ProvisioningStatus {
    const ALL: &'static [Self] = &[Self::Enabled, Self::Disabled];
    fn word(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
        }
    }
}

impl Word for Substatus {
    const ALL: &'static [Self] = &[
        Self::InitialAssignment,
        Self::ReprovisionedToInitialAssignment,
        Self::DeviceDataMigrated,
        Self::DeviceDataReset,
    ];
    fn word(self) -> &'static str {
        match self {
            Self::InitialAssignment => "initial",
            Self::ReprovisionedToInitialAssignment => "reprovisioned_to_initial",
            Self::DeviceDataMigrated => "data_migrated",
            Self::DeviceDataReset => "data_reset",
        }
    }
}

/// Those that have words of their own.
macro_rules! own_words {
    ($($name:ty),* $(,)?) => {
        $(impl Word for $name {
            const ALL: &'static [Self] = &<$name>::ALL;
            fn word(self) -> &'static str {
                self.as_str()
            }
        })*
    };
}

own_words!(
    Action,
    AllocationPolicy,
    CaLeaf,
    ClaimAcrossGroups,
    HubDeviceStatus,
    HubKind,
    WhenSourceUnavailable
);
