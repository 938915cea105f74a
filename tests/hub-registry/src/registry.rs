//! The devices of a hub, and what can be done with them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::device::Device;
use crate::device_body::{DeviceBody, text};
use crate::refusal::Refusal;
use crate::twin::{Twin, TwinChange};

/// The devices of a hub.
#[derive(Debug, Default)]
pub struct Registry {
    devices: BTreeMap<String, Device>,
    devices_max: Option<usize>,
    writes: u64,
}

/// What `If-Match` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IfMatch {
    Any,
    ETag(String),
}

impl IfMatch {
    /// Clients send quotes or none, around the star too.
    pub(crate) fn parse(text: &str) -> Self {
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        if text == "*" { Self::Any } else { Self::ETag(text.to_owned()) }
    }

    fn judge(&self, found: &str) -> Result<(), Refusal> {
        match self {
            Self::ETag(wanted) if wanted != found => Err(Refusal::precondition_failed(found)),
            Self::Any | Self::ETag(_) => Ok(()),
        }
    }
}

impl Registry {
    pub(crate) fn new(devices_max: Option<usize>) -> Self {
        Self { devices_max, ..Self::default() }
    }

    /// As `GET /devices/{id}` answers.
    ///
    /// # Errors
    /// There is none.
    pub fn identity(&self, id: &str) -> Result<Value, Refusal> {
        self.device(id).map(Device::identity)
    }

    /// As `GET /twins/{id}` answers.
    ///
    /// # Errors
    /// There is none.
    pub fn twin(&self, id: &str) -> Result<Value, Refusal> {
        self.device(id).map(Device::twin_json)
    }

    /// The ids of all devices.
    pub fn ids(&self) -> Vec<String> {
        self.devices.keys().cloned().collect()
    }

    /// The device reports properties.
    ///
    /// # Errors
    /// There is none, or its twin becomes too large.
    pub fn report(&mut self, id: &str, reported: Map<String, Value>) -> Result<(), Refusal> {
        let device = self.device_mut(id)?;
        device.twin = device.twin.reported(reported, Timestamp::now())?;
        Ok(())
    }

    /// Somebody else changes the device and its twin: both have other etags then.
    ///
    /// # Errors
    /// There is none.
    pub fn touch(&mut self, id: &str) -> Result<(), Refusal> {
        self.change(id, &IfMatch::Any, DeviceBody::default())?;
        self.merge_twin(id, &IfMatch::Any, TwinChange::default())
    }

    /// Somebody else deletes the device.
    ///
    /// # Errors
    /// There is none.
    pub fn remove(&mut self, id: &str) -> Result<(), Refusal> {
        self.delete(id, &IfMatch::Any)
    }

    pub(crate) fn create(&mut self, id: &str, body: DeviceBody, twin: TwinChange) -> Result<(), Refusal> {
        if self.devices.contains_key(id) {
            return Err(Refusal::exists(id));
        }
        if let Some(most) = self.devices_max.filter(|most| self.devices.len() >= *most) {
            return Err(Refusal::too_many_devices(most));
        }
        let now = Timestamp::now();
        let twin = Twin::new(twin, now)?;
        let write = self.next_write();
        self.devices.insert(id.to_owned(), Device::new(id, body, twin, write, now));
        Ok(())
    }

    pub(crate) fn change(&mut self, id: &str, if_match: &IfMatch, body: DeviceBody) -> Result<(), Refusal> {
        if_match.judge(&self.device(id)?.etag())?;
        let write = self.next_write();
        let device = self.device_mut(id)?;
        *device = device.changed(body, write, Timestamp::now());
        Ok(())
    }

    pub(crate) fn delete(&mut self, id: &str, if_match: &IfMatch) -> Result<(), Refusal> {
        if_match.judge(&self.device(id)?.etag())?;
        self.devices.remove(id);
        Ok(())
    }

    pub(crate) fn merge_twin(
        &mut self,
        id: &str,
        if_match: &IfMatch,
        change: TwinChange,
    ) -> Result<(), Refusal> {
        if_match.judge(&self.device(id)?.twin.etag())?;
        let device = self.device_mut(id)?;
        device.twin = device.twin.merged(change, Timestamp::now())?;
        Ok(())
    }

    pub(crate) fn replace_twin(
        &mut self,
        id: &str,
        if_match: &IfMatch,
        change: TwinChange,
    ) -> Result<(), Refusal> {
        if_match.judge(&self.device(id)?.twin.etag())?;
        let device = self.device_mut(id)?;
        device.twin = device.twin.replaced(change, Timestamp::now())?;
        Ok(())
    }

    /// `PUT /devices/{id}`: makes it, or with a condition changes it.
    pub(crate) fn put(
        &mut self,
        id: &str,
        if_match: Option<&IfMatch>,
        mut body: Map<String, Value>,
    ) -> Result<(), Refusal> {
        if text(&mut body, "deviceId")?.as_deref() != Some(id) {
            return Err(Refusal::argument_invalid("deviceId is not that of the path."));
        }
        let body = DeviceBody::take(body)?;
        match if_match {
            None => self.create(id, body, TwinChange::default()),
            Some(if_match) => self.change(id, if_match, body),
        }
    }

    pub(crate) fn contains(&self, id: &str) -> bool {
        self.devices.contains_key(id)
    }

    fn device(&self, id: &str) -> Result<&Device, Refusal> {
        self.devices.get(id).ok_or_else(|| Refusal::not_found(id))
    }

    fn device_mut(&mut self, id: &str) -> Result<&mut Device, Refusal> {
        self.devices.get_mut(id).ok_or_else(|| Refusal::not_found(id))
    }

    fn next_write(&mut self) -> u64 {
        self.writes += 1;
        self.writes
    }
}
