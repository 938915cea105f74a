//! A hub outside, as its registry: devices with versions and twins, and a script of what goes wrong.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use dps_core::enrollment::TwinDocument;
use dps_core::ports::{
    DeviceRegistry, Hub, HubAuthentication, HubDevice, HubDeviceStatus, HubHealth, Placement, RegistryDevice,
    RegistryError,
};
use dps_proto::ids::DeviceId;
use jiff::Timestamp;

use super::executor::turn;
use super::prng::Prng;

/// What the devices of a hub are, over every crash of those who ask it.
#[derive(Default)]
pub(crate) struct SimRegistry(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    devices: BTreeMap<DeviceId, Kept>,
    versions: u64,
    script: VecDeque<(Step, Fate)>,
    calls: Vec<(Step, DeviceId)>,
    /// How long calls are on their way, there and back.
    waits: Waits,
    /// Calls that nobody waits for any more, and until when they may be carried out.
    late: Vec<(Timestamp, Write)>,
    is_unhealthy: bool,
}

#[derive(Default)]
enum Waits {
    #[default]
    Not,
    ATurn,
    Drawn(Prng),
}

/// A device as the hub keeps it.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) etag: Box<str>,
    pub(crate) authentication: HubAuthentication,
    pub(crate) iot_edge: bool,
    pub(crate) status: HubDeviceStatus,
    pub(crate) twin: Option<TwinDocument>,
}

/// The calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Create,
    Identity,
    SetAuthentication,
    Delete,
    Twin,
}

/// What becomes of a call that does not just succeed.
#[derive(Debug, Clone)]
pub(crate) enum Fate {
    Throttled,
    Unavailable,
    /// Not carried out, and no answer.
    Lost,
    /// Carried out, and no answer.
    Unheard,
    /// No answer, and carried out whenever [`SimRegistry::carry_out_late`] is called until then.
    Late(Timestamp),
    Refused(&'static str),
    NotAllowed,
    /// Someone else writes the device first.
    Overtaken,
}

#[derive(Clone)]
enum Write {
    Create(Box<HubDevice>, HubDeviceStatus),
    SetAuthentication(RegistryDevice, HubAuthentication),
    Delete(RegistryDevice),
}

impl SimRegistry {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Calls wait for some turns before they are carried out and before they are answered.
    pub(crate) fn wait_drawn(&self, prng: Prng) {
        self.with(|inner| inner.waits = Waits::Drawn(prng));
    }

    /// Calls wait for a turn before they are carried out and before they are answered, or for none.
    pub(crate) fn wait_a_turn(&self, waits: bool) {
        self.with(|inner| inner.waits = if waits { Waits::ATurn } else { Waits::Not });
    }

    /// The next call of that kind meets this fate; others go before it unharmed.
    pub(crate) fn script(&self, step: Step, fate: Fate) {
        self.with(|inner| inner.script.push_back((step, fate)));
    }

    /// From now on calls just succeed.
    pub(crate) fn forget_script(&self) {
        self.with(|inner| inner.script.clear());
    }

    pub(crate) fn set_unhealthy(&self, is_unhealthy: bool) {
        self.with(|inner| inner.is_unhealthy = is_unhealthy);
    }

    pub(crate) fn device(&self, id: &str) -> Option<Kept> {
        self.with(|inner| inner.devices.get(&id.parse().unwrap()).cloned())
    }

    pub(crate) fn devices(&self) -> BTreeMap<DeviceId, Kept> {
        self.with(|inner| inner.devices.clone())
    }

    /// As someone would who runs the hub.
    pub(crate) fn put(&self, id: &str, kept: Kept) {
        self.with(|inner| {
            let etag = inner.version();
            inner.devices.insert(id.parse().unwrap(), Kept { etag, ..kept });
        });
    }

    /// As someone would who runs the hub.
    pub(crate) fn remove(&self, id: &str) {
        self.with(|inner| inner.devices.remove(&id.parse().unwrap()));
    }

    /// The calls since this was last asked.
    pub(crate) fn take_calls(&self) -> Vec<Step> {
        self.with(|inner| std::mem::take(&mut inner.calls)).into_iter().map(|(step, _)| step).collect()
    }

    /// Carries out one of the calls that nobody waits for, if one may still be; those that may not are forgotten.
    pub(crate) fn carry_out_late(&self, now: Timestamp) -> bool {
        self.with(|inner| {
            inner.late.retain(|(until, _)| now <= *until);
            let Some((_, write)) = inner.late.pop() else { return false };
            inner.apply(&write).is_ok()
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }

    async fn on_its_way(&self) {
        let turns = self.with(|inner| match &mut inner.waits {
            Waits::Not => 0,
            Waits::ATurn => 1,
            Waits::Drawn(prng) => prng.below(3),
        });
        for _ in 0..turns {
            turn().await;
        }
    }

    /// The fate of a call that is made now.
    async fn fate(&self, step: Step, device_id: &DeviceId) -> Option<Fate> {
        self.on_its_way().await;
        self.with(|inner| {
            inner.calls.push((step, device_id.clone()));
            let at = inner.script.iter().position(|(of, _)| *of == step)?;
            inner.script.remove(at).map(|(_, fate)| fate)
        })
    }

    async fn write(&self, step: Step, device_id: &DeviceId, write: Write) -> Result<(), RegistryError> {
        let fate = self.fate(step, device_id).await;
        match &fate {
            None | Some(Fate::Unheard) => {}
            Some(Fate::Overtaken) => self.with(|inner| inner.touch(device_id)),
            Some(Fate::Late(until)) => {
                self.with(|inner| inner.late.push((*until, write)));
                return Err(unanswered());
            }
            Some(fate) => return Err(fate.error()),
        }
        let answer = self.with(|inner| inner.apply(&write));
        self.on_its_way().await;
        if let Some(Fate::Unheard) = fate { Err(unanswered()) } else { answer }
    }

    async fn read<T: Send>(
        &self,
        step: Step,
        device_id: &DeviceId,
        look: impl FnOnce(&Kept) -> T + Send,
    ) -> Result<T, RegistryError> {
        match self.fate(step, device_id).await {
            None | Some(Fate::Overtaken) => {}
            Some(Fate::Unheard | Fate::Late(_)) => return Err(unanswered()),
            Some(fate) => return Err(fate.error()),
        }
        let seen = self.with(|inner| inner.devices.get(device_id).map(look));
        self.on_its_way().await;
        seen.ok_or(RegistryError::Absent)
    }
}

impl Inner {
    fn version(&mut self) -> Box<str> {
        self.versions += 1;
        format!("v{}", self.versions).into()
    }

    fn touch(&mut self, device_id: &DeviceId) {
        let etag = self.version();
        if let Some(kept) = self.devices.get_mut(device_id) {
            kept.etag = etag;
        }
    }

    fn apply(&mut self, write: &Write) -> Result<(), RegistryError> {
        let etag = self.version();
        match write {
            Write::Create(device, status) => {
                if self.devices.contains_key(&device.device_id) {
                    return Err(RegistryError::Exists);
                }
                let kept = Kept {
                    etag,
                    authentication: device.authentication.clone(),
                    iot_edge: device.iot_edge,
                    status: *status,
                    twin: device.initial_twin.clone(),
                };
                self.devices.insert(device.device_id.clone(), kept);
            }
            Write::SetAuthentication(read, authentication) => {
                let kept = self.devices.get_mut(&read.device_id).ok_or(RegistryError::Absent)?;
                if kept.etag != read.etag {
                    return Err(RegistryError::Changed);
                }
                (kept.etag, kept.authentication) = (etag, authentication.clone());
            }
            Write::Delete(read) => {
                let kept = self.devices.get(&read.device_id).ok_or(RegistryError::Absent)?;
                if kept.etag != read.etag {
                    return Err(RegistryError::Changed);
                }
                self.devices.remove(&read.device_id);
            }
        }
        Ok(())
    }
}

impl Fate {
    fn error(&self) -> RegistryError {
        let reason = || format!("{self:?}").into();
        match self {
            Self::Throttled => {
                RegistryError::Throttled { retry_after: Some(Duration::from_secs(7)), reason: reason() }
            }
            Self::Refused(said) => RegistryError::Refused { said: (*said).into(), reason: reason() },
            Self::NotAllowed => RegistryError::NotAllowed { reason: reason() },
            Self::Unavailable => RegistryError::Unavailable { reason: reason() },
            Self::Lost | Self::Unheard | Self::Late(_) | Self::Overtaken => unanswered(),
        }
    }
}

fn unanswered() -> RegistryError {
    RegistryError::Unanswered { reason: "no answer".into() }
}

#[async_trait]
impl DeviceRegistry for SimRegistry {
    async fn create(&self, device: &HubDevice, status: HubDeviceStatus) -> Result<(), RegistryError> {
        self.write(Step::Create, &device.device_id, Write::Create(Box::new(device.clone()), status)).await
    }

    async fn identity(&self, device_id: &DeviceId) -> Result<RegistryDevice, RegistryError> {
        self.read(Step::Identity, device_id, |kept| RegistryDevice {
            device_id: device_id.clone(),
            etag: kept.etag.clone(),
            iot_edge: kept.iot_edge,
            status: kept.status,
            written: "{}".into(),
        })
        .await
    }

    async fn set_authentication(
        &self,
        device: &RegistryDevice,
        authentication: &HubAuthentication,
    ) -> Result<(), RegistryError> {
        let write = Write::SetAuthentication(device.clone(), authentication.clone());
        self.write(Step::SetAuthentication, &device.device_id, write).await
    }

    async fn delete(&self, device: &RegistryDevice) -> Result<(), RegistryError> {
        self.write(Step::Delete, &device.device_id, Write::Delete(device.clone())).await
    }

    async fn twin(&self, device_id: &DeviceId) -> Result<TwinDocument, RegistryError> {
        let empty = || TwinDocument("{}".into());
        self.read(Step::Twin, device_id, |kept| kept.twin.clone().unwrap_or_else(empty)).await
    }
}

/// A hub whose devices are in a registry outside.
pub(crate) struct RemoteHub(pub(crate) Arc<SimRegistry>);

impl Hub for RemoteHub {
    fn place(&self, _: HubDevice) -> Placement {
        Placement::Outside
    }

    fn registry(&self) -> Option<&dyn DeviceRegistry> {
        Some(&*self.0)
    }

    fn health(&self) -> HubHealth {
        match self.0.with(|inner| inner.is_unhealthy) {
            true => HubHealth::Unhealthy { since: Timestamp::UNIX_EPOCH, reason: "it is said so".into() },
            false => HubHealth::Healthy,
        }
    }
}
