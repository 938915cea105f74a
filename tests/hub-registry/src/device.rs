//! A device: its identity and its twin.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::device_body::{Authentication, DeviceBody};
use crate::twin::Twin;

/// Never, as .NET writes it.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// A device as the registry keeps it.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    id: String,
    generation: String,
    /// A number that no other write of the registry had.
    write: u64,
    is_enabled: bool,
    status_reason: Option<String>,
    status_changed_at: Option<Timestamp>,
    authentication: Authentication,
    iot_edge: bool,
    device_scope: Option<String>,
    parent_scopes: Vec<String>,
    pub(crate) twin: Twin,
}

impl Device {
    pub(crate) fn new(id: &str, body: DeviceBody, twin: Twin, write: u64, now: Timestamp) -> Self {
        let generation = format!("{}{write:04}", now.as_microsecond());
        let iot_edge = body.iot_edge.unwrap_or_default();
        let own_scope = || format!("ms-azure-iot-edge://{id}-{generation}");
        Self {
            id: id.to_owned(),
            write,
            is_enabled: body.is_enabled.unwrap_or(true),
            status_reason: body.status_reason,
            status_changed_at: None,
            authentication: body.authentication.unwrap_or_else(Authentication::generated),
            iot_edge,
            device_scope: if iot_edge { Some(own_scope()) } else { body.device_scope },
            parent_scopes: body.parent_scopes.unwrap_or_default(),
            generation,
            twin,
        }
    }

    /// The identity with what a request changes; its twin stays.
    pub(crate) fn changed(&self, body: DeviceBody, write: u64, now: Timestamp) -> Self {
        let is_enabled = body.is_enabled.unwrap_or(self.is_enabled);
        Self {
            write,
            is_enabled,
            status_reason: body.status_reason,
            status_changed_at: if is_enabled == self.is_enabled { self.status_changed_at } else { Some(now) },
            authentication: body.authentication.unwrap_or_else(|| self.authentication.clone()),
            iot_edge: body.iot_edge.unwrap_or(self.iot_edge),
            device_scope: body.device_scope.or_else(|| self.device_scope.clone()),
            parent_scopes: body.parent_scopes.unwrap_or_else(|| self.parent_scopes.clone()),
            ..self.clone()
        }
    }

    pub(crate) fn etag(&self) -> String {
        STANDARD.encode(self.write.to_string())
    }

    /// As `GET /devices/{id}` answers.
    pub(crate) fn identity(&self) -> Value {
        let mut json = json!({
            "deviceId": self.id,
            "generationId": self.generation,
            "etag": self.etag(),
            "connectionState": "Disconnected",
            "status": self.status(),
            "statusReason": self.status_reason,
            "connectionStateUpdatedTime": NEVER,
            "statusUpdatedTime": self.status_changed(),
            "lastActivityTime": NEVER,
            "cloudToDeviceMessageCount": 0,
            "authentication": self.authentication.json(),
            "capabilities": {"iotEdge": self.iot_edge},
        });
        self.scopes_into(&mut json);
        json
    }

    /// As `GET /twins/{id}` answers.
    pub(crate) fn twin_json(&self) -> Value {
        let mut json = json!({
            "deviceId": self.id,
            "etag": self.twin.etag(),
            "deviceEtag": self.etag(),
            "status": self.status(),
            "statusReason": self.status_reason,
            "statusUpdateTime": self.status_changed(),
            "connectionState": "Disconnected",
            "lastActivityTime": NEVER,
            "cloudToDeviceMessageCount": 0,
            "authenticationType": self.authentication.kind(),
            "x509Thumbprint": self.authentication.json()["x509Thumbprint"],
            "modelId": "",
            "version": self.twin.version(),
            "tags": self.twin.tags(),
            "properties": self.twin.properties(),
            "capabilities": {"iotEdge": self.iot_edge},
        });
        self.scopes_into(&mut json);
        json
    }

    fn scopes_into(&self, json: &mut Value) {
        if let Some(scope) = &self.device_scope {
            json["deviceScope"] = scope.as_str().into();
        }
        if self.iot_edge || !self.parent_scopes.is_empty() {
            json["parentScopes"] = self.parent_scopes.clone().into();
        }
    }

    fn status(&self) -> &'static str {
        if self.is_enabled { "enabled" } else { "disabled" }
    }

    fn status_changed(&self) -> String {
        self.status_changed_at.map_or_else(|| NEVER.to_owned(), date)
    }
}

/// As hubs write dates.
pub(crate) fn date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.7fZ").to_string()
}
