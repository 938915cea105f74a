//! Hubs, and devices as they know them. Spec: DPS-REG-17.

use std::sync::Arc;
use std::time::Duration;

use dps_proto::ids::{DeviceId, HubName, IdScope, RegistrationId};
use dps_proto::key::KeyPair;
use jiff::Timestamp;

use super::{CleanUp, DeviceRegistry, HubHealth};
use crate::enrollment::TwinDocument;
use crate::instance_settings::HubSettings;
use crate::registration::Failure;
use crate::x509::Sha256Thumbprint;

/// A hub that devices are assigned to. Spec: DPS-REG-17.
pub trait Hub: Send + Sync {
    /// What has to happen so that the device lives at this hub with this authentication. Asking changes nothing: a register that
    /// is only tried asks too. Spec: DPS-EXPLAIN-6.
    fn place(&self, device: HubDevice) -> Placement;

    /// Where its devices are, if others run it. Spec: DPS-REG-40.
    fn registry(&self) -> Option<&dyn DeviceRegistry> {
        None
    }

    /// How it does. Spec: DPS-REG-46.
    fn health(&self) -> HubHealth {
        HubHealth::Healthy
    }

    /// How long it is left alone because it said so. Spec: DPS-REG-45.
    fn paused_for(&self) -> Option<Duration> {
        None
    }
}

/// Makes hubs of what is kept of them.
pub trait HubFactory: Send + Sync {
    /// The hub with these settings. Making it asks nobody.
    fn hub(&self, settings: &HubSettings) -> Arc<dyn Hub>;
}

/// How a device comes to live at a hub.
#[derive(Debug)]
pub enum Placement {
    /// By writes that go into the commit of the record.
    Writes(Vec<HubWrite>),
    /// By asking its [`Hub::registry`]: the record is kept as `assigning` until a worker has done so. Spec: DPS-REG-40.
    Outside,
    /// Not at all: the hub cannot take the device. Spec: DPS-BROKER-11.
    Refused(Failure),
}

/// A write that goes along with a record, for a hub kept in this store or one outside. A device that is put stays enabled or disabled as it was, at the hub or, where
/// the same commit removes it there, at the one that it comes from. Spec: DPS-BROKER-12.
#[derive(Debug, Clone)]
pub enum HubWrite {
    /// Make the device, or give it this authentication; a twin that it has already is left alone. Spec: DPS-REG-17.
    PutDevice(Box<HubDevice>),
    /// Take the device away, if it is there. Spec: DPS-REG-23.
    RemoveDevice {
        /// The service instance.
        id_scope: IdScope,
        /// The hub.
        hub: HubName,
        /// The device's id there.
        device_id: DeviceId,
    },
    /// Let a device not connect that was put in the same commit. Spec: DPS-REG-42, DPS-BROKER-12.
    DisableDevice {
        /// The service instance.
        id_scope: IdScope,
        /// The hub.
        hub: HubName,
        /// The device's id there.
        device_id: DeviceId,
    },
    /// Have the device gone from a hub outside. Takes the place of one of the same device that waits. Spec: DPS-REG-43.
    CleanUp(Box<CleanUp>),
    /// Forget that the device is to be gone from there: it is there now. Spec: DPS-REG-43.
    Keep {
        /// The service instance.
        id_scope: IdScope,
        /// The hub.
        hub: HubName,
        /// The device's id there.
        device_id: DeviceId,
    },
}

/// A device as its hub should know it.
#[derive(Debug, Clone)]
pub struct HubDevice {
    /// The service instance.
    pub id_scope: IdScope,
    /// The hub.
    pub hub: HubName,
    /// The device's id there.
    pub device_id: DeviceId,
    /// The record it belongs to.
    pub registration_id: RegistrationId,
    /// What it authenticates with.
    pub authentication: HubAuthentication,
    /// Whether it is an IoT Edge device.
    pub iot_edge: bool,
    /// Its twin, if it is new; reported properties too, where it brings them along.
    pub initial_twin: Option<TwinDocument>,
}

/// What a device authenticates with at its hub.
#[derive(Debug, Clone)]
pub enum HubAuthentication {
    /// SAS tokens signed with either key. Spec: DPS-REG-17.
    Keys(KeyPair),
    /// A certificate with either thumbprint, whoever signed it. Spec: DPS-X509-22.
    SelfSigned {
        /// That of the certificate it just used.
        primary: Sha256Thumbprint,
        /// That of the one it may change over to; the same where there is none.
        secondary: Sha256Thumbprint,
    },
}

/// Whether a device of a local hub may connect to it. Spec: DPS-BROKER-12.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubDeviceStatus {
    /// It may.
    Enabled,
    /// It may not, whatever it proves.
    Disabled,
}

impl HubDeviceStatus {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Enabled, Self::Disabled];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
        }
    }
}

/// A device of a local hub as the store keeps it.
#[derive(Debug, Clone)]
pub struct StoredHubDevice {
    /// What it was last given; `initial_twin` is the twin that it has.
    pub device: HubDevice,
    /// Whether it may connect.
    pub status: HubDeviceStatus,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its authentication was last given.
    pub updated_at: Timestamp,
}
