//! The devices of a hub outside. Spec: DPS-REG-41, DPS-REG-42, DPS-HUB-12 to DPS-HUB-16.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use dps_proto::ids::DeviceId;
use jiff::Timestamp;

use super::{HubAuthentication, HubDevice, HubDeviceStatus};
use crate::enrollment::TwinDocument;

/// The registry of a hub that others run. Each call is one request with a deadline of its own, sent once. Spec: DPS-HUB-10.
#[async_trait]
pub trait DeviceRegistry: Send + Sync {
    /// Makes a device with its twin, reported properties included, and with this status: both, or nothing.
    async fn create(&self, device: &HubDevice, status: HubDeviceStatus) -> Result<(), RegistryError>;

    /// Reads a device.
    async fn identity(&self, device_id: &DeviceId) -> Result<RegistryDevice, RegistryError>;

    /// Gives a device that was read other keys or thumbprints, where it has not changed since; that makes it another version,
    /// even if it had them already.
    async fn set_authentication(
        &self,
        device: &RegistryDevice,
        authentication: &HubAuthentication,
    ) -> Result<(), RegistryError>;

    /// Deletes a device that was read, and its twin, where it has not changed since.
    async fn delete(&self, device: &RegistryDevice) -> Result<(), RegistryError>;

    /// Reads the twin of a device: tags, desired and reported properties.
    async fn twin(&self, device_id: &DeviceId) -> Result<TwinDocument, RegistryError>;
}

/// A device as it was read.
#[derive(Clone)]
pub struct RegistryDevice {
    /// Its id.
    pub device_id: DeviceId,
    /// The version that was read.
    pub etag: Box<str>,
    /// Whether it is an IoT Edge device.
    pub iot_edge: bool,
    /// Whether the hub lets it connect.
    pub status: HubDeviceStatus,
    /// All of it but its authentication, in the registry's own words, to be written back.
    pub written: Box<str>,
}

impl fmt::Debug for RegistryDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryDevice")
            .field("device_id", &self.device_id)
            .field("etag", &self.etag)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// Why a registry did not do what it was asked, for the caller to decide by. `reason` is for the log: no key, no token, nothing of
/// what the hub said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// There is a device of that id.
    #[error("the device exists at the hub")]
    Exists,
    /// There is no device of that id.
    #[error("the device does not exist at the hub")]
    Absent,
    /// It has changed since it was read.
    #[error("the device has changed at the hub since it was read")]
    Changed,
    /// The hub is asked too often. Nothing was done.
    #[error("{reason}")]
    Throttled {
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
        /// For the log.
        reason: Box<str>,
    },
    /// It may work later. Nothing was done.
    #[error("{reason}")]
    Unavailable {
        /// For the log.
        reason: Box<str>,
    },
    /// No answer, or none that can be used: what was asked for may have been done, or yet be.
    #[error("{reason}")]
    Unanswered {
        /// For the log.
        reason: Box<str>,
    },
    /// The hub refuses, and would again. Nothing was done.
    #[error("{reason}")]
    Refused {
        /// What the hub said, for the device. Spec: DPS-HUB-17.
        said: Box<str>,
        /// For the log.
        reason: Box<str>,
    },
    /// Nothing was sent: this server does not ask that address. Spec: DPS-HUB-2.
    #[error("{reason}")]
    NotAllowed {
        /// For the log.
        reason: Box<str>,
    },
    /// No request can name a device of this id. Spec: DPS-HUB-11.
    #[error("the device's id cannot stand in the path of a request")]
    Unaddressable,
}

/// How a hub outside does, as this node sees it. Spec: DPS-REG-46.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubHealth {
    /// Its latest answer was one, or it was not asked yet.
    Healthy,
    /// It refuses this service, or cannot be reached.
    Unhealthy {
        /// Since then.
        since: Timestamp,
        /// For whoever runs the service: no key, no token, nothing of what the hub said.
        reason: Box<str>,
    },
}
