//! An Azure IoT Hub behind the ports [`Hub`] and [`DeviceRegistry`]. Spec: DPS-REG-40, DPS-HUB-16, DPS-HUB-19.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use dps_core::enrollment::TwinDocument;
use dps_core::ports::{
    DeviceRegistry, Hub, HubAuthentication, HubDevice, HubDeviceStatus, HubHealth, Placement, RegistryDevice,
    RegistryError,
};
use dps_proto::connection_string::ServiceConnectionString;
use dps_proto::ids::DeviceId;
use jiff::Timestamp;

use super::condition::{Condition, Sign, wanted_pause};
use super::refusal::{HubError, HubRefusal};
use super::{AzureHub, Identity, NewIdentity, TwinContent};
use crate::outbound::{Outbound, OutboundError};

/// An Azure IoT Hub that devices are assigned to, and what this node knows of how it does.
pub struct RegistryHub {
    /// The client, or why there is none.
    client: Result<AzureHub, Box<str>>,
    condition: Mutex<Condition>,
}

impl RegistryHub {
    /// The hub of a connection string. Where its host is none that can be connected to, every call is
    /// [`RegistryError::NotAllowed`]. Spec: DPS-HUB-19.
    pub fn new(connection_string: ServiceConnectionString, outbound: Outbound) -> Self {
        match AzureHub::new(connection_string, outbound) {
            Ok(client) => Self { client: Ok(client), condition: Mutex::default() },
            Err(why) => Self::unreachable(HubError::Url(why).to_string()),
        }
    }

    /// A hub of which nothing can be asked; `why` is for the log.
    pub fn unreachable(why: impl Into<Box<str>>) -> Self {
        let why = why.into();
        let condition = Condition::hopeless(Timestamp::now(), why.clone());
        Self { client: Err(why), condition: Mutex::new(condition) }
    }

    /// The same hub with another deadline for each call.
    pub fn within(self, within: Duration) -> Self {
        Self { client: self.client.map(|client| client.within(within)), ..self }
    }

    /// Whether it is asked by this connection string.
    pub(crate) fn speaks_by(&self, connection_string: &ServiceConnectionString) -> bool {
        self.client.as_ref().is_ok_and(|client| client.speaks_by(connection_string))
    }

    /// One call, and what it says of the hub.
    async fn ask<T>(
        &self,
        call: impl AsyncFnOnce(&AzureHub) -> Result<T, HubError>,
    ) -> Result<T, RegistryError> {
        let client = self.client.as_ref().map_err(|why| RegistryError::NotAllowed { reason: why.clone() })?;
        let began = Instant::now();
        let outcome = call(client).await;
        let reason = || outcome.as_ref().err().map(ToString::to_string).unwrap_or_default().into();
        self.condition().note(&Sign::of(&outcome), reason, began, (Instant::now(), Timestamp::now()));
        outcome.map_err(meaning)
    }

    fn condition(&self) -> MutexGuard<'_, Condition> {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub for RegistryHub {
    fn place(&self, _device: HubDevice) -> Placement {
        Placement::Outside
    }

    fn registry(&self) -> Option<&dyn DeviceRegistry> {
        Some(self)
    }

    fn health(&self) -> HubHealth {
        self.condition().health()
    }

    fn paused_for(&self) -> Option<Duration> {
        self.condition().paused_for(Instant::now())
    }
}

#[async_trait]
impl DeviceRegistry for RegistryHub {
    async fn create(&self, device: &HubDevice, status: HubDeviceStatus) -> Result<(), RegistryError> {
        let twin = device.initial_twin.as_ref().map(TwinContent::try_from).transpose();
        // Checked where it came in, so it is there by other ways only.
        let twin = twin.map_err(|why| {
            let why: Box<str> = why.to_string().into();
            RegistryError::Refused { said: why.clone(), reason: why }
        })?;
        let new = NewIdentity {
            device_id: &device.device_id,
            authentication: &device.authentication,
            status,
            iot_edge: device.iot_edge,
            twin: twin.as_ref(),
        };
        self.ask(async |client| client.create(new).await).await
    }

    async fn identity(&self, device_id: &DeviceId) -> Result<RegistryDevice, RegistryError> {
        self.ask(async |client| client.identity(device_id).await).await.map(|read| RegistryDevice {
            device_id: read.device_id().clone(),
            etag: read.etag().as_str().into(),
            iot_edge: read.is_iot_edge(),
            status: if read.is_enabled() { HubDeviceStatus::Enabled } else { HubDeviceStatus::Disabled },
            written: read.written(),
        })
    }

    async fn set_authentication(
        &self,
        device: &RegistryDevice,
        authentication: &HubAuthentication,
    ) -> Result<(), RegistryError> {
        let RegistryDevice { device_id, etag, written, .. } = device;
        let read = Identity::of_written(device_id, etag, written).map_err(meaning)?;
        self.ask(async |client| client.set_authentication(&read, authentication).await).await.map(drop)
    }

    async fn delete(&self, device: &RegistryDevice) -> Result<(), RegistryError> {
        let RegistryDevice { device_id, etag, written, .. } = device;
        let read = Identity::of_written(device_id, etag, written).map_err(meaning)?;
        self.ask(async |client| client.delete(device_id, read.etag()).await).await
    }

    async fn twin(&self, device_id: &DeviceId) -> Result<TwinDocument, RegistryError> {
        self.ask(async |client| client.twin(device_id).await).await.map(|twin| twin.content.document())
    }
}

impl fmt::Debug for RegistryHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryHub").field("client", &self.client).finish_non_exhaustive()
    }
}

/// What is done about it. Spec: DPS-HUB-16, DPS-HUB-19.
fn meaning(why: HubError) -> RegistryError {
    let reason: Box<str> = why.to_string().into();
    match why {
        HubError::Exists(_) => RegistryError::Exists,
        HubError::Absent(_) => RegistryError::Absent,
        HubError::PreconditionFailed(_) => RegistryError::Changed,
        HubError::Unauthorized(refusal) | HubError::TooManyDevices(refusal) | HubError::Rejected(refusal) => {
            RegistryError::Refused { said: said(&refusal, &reason), reason }
        }
        HubError::Throttled(refusal) => {
            RegistryError::Throttled { retry_after: wanted_pause(&refusal), reason }
        }
        HubError::Unavailable(refusal) if refusal.is_of_waiting() => RegistryError::Unanswered { reason },
        HubError::Unavailable(_) => RegistryError::Unavailable { reason },
        HubError::NoAnswer(OutboundError::Refused(_)) | HubError::Url(_) => {
            RegistryError::NotAllowed { reason }
        }
        HubError::NoAnswer(why) if !why.may_have_been_sent() => RegistryError::Unavailable { reason },
        HubError::NoAnswer(_) | HubError::Malformed(_) => RegistryError::Unanswered { reason },
        HubError::Unaddressable => RegistryError::Unaddressable,
    }
}

/// The hub's body, for the device; where it has none, what the log says. Spec: DPS-HUB-17.
fn said(refusal: &HubRefusal, reason: &str) -> Box<str> {
    if refusal.body().trim().is_empty() { reason.into() } else { refusal.body().into() }
}
