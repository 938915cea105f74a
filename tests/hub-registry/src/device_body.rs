//! What requests say of a device.

use dps_proto::key::SymmetricKey;
use serde_json::{Map, Value, json};

use crate::access::fresh_key;
use crate::refusal::Refusal;

/// What clients send back that only the hub writes.
const WRITTEN_BY_THE_HUB: [&str; 8] = [
    "generationId",
    "etag",
    "eTag",
    "connectionState",
    "connectionStateUpdatedTime",
    "statusUpdatedTime",
    "lastActivityTime",
    "cloudToDeviceMessageCount",
];

/// The members of a device that a request may set.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeviceBody {
    pub(crate) is_enabled: Option<bool>,
    pub(crate) status_reason: Option<String>,
    pub(crate) authentication: Option<Authentication>,
    pub(crate) iot_edge: Option<bool>,
    pub(crate) device_scope: Option<String>,
    pub(crate) parent_scopes: Option<Vec<String>>,
}

/// What a device authenticates with.
#[derive(Debug, Clone)]
pub(crate) enum Authentication {
    Sas { primary: SymmetricKey, secondary: SymmetricKey },
    SelfSigned { primary: Option<String>, secondary: Option<String> },
    CertificateAuthority,
    None,
}

impl DeviceBody {
    /// Takes all of `body`; a member that is not known is refused.
    pub(crate) fn take(mut body: Map<String, Value>) -> Result<Self, Refusal> {
        let is_enabled = match text(&mut body, "status")?.map(|status| status.to_ascii_lowercase()).as_deref()
        {
            None => None,
            Some("enabled") => Some(true),
            Some("disabled") => Some(false),
            Some(other) => return Err(Refusal::argument_invalid(format!("status is '{other}'."))),
        };
        let taken = Self {
            is_enabled,
            status_reason: text(&mut body, "statusReason")?,
            authentication: object(&mut body, "authentication")?.map(Authentication::take).transpose()?,
            iot_edge: object(&mut body, "capabilities")?.map(iot_edge).transpose()?,
            device_scope: text(&mut body, "deviceScope")?,
            parent_scopes: scopes(&mut body)?,
        };
        WRITTEN_BY_THE_HUB.iter().for_each(|member| drop(body.shift_remove(*member)));
        nothing_else(&body, "")?;
        Ok(taken)
    }
}

impl Authentication {
    /// That of a device which brings none.
    pub(crate) fn generated() -> Self {
        Self::Sas { primary: fresh_key(), secondary: fresh_key() }
    }

    fn take(mut body: Map<String, Value>) -> Result<Self, Refusal> {
        let kind = text(&mut body, "type")?;
        let mut keys = object(&mut body, "symmetricKey")?.unwrap_or_default();
        let mut thumbprints = object(&mut body, "x509Thumbprint")?.unwrap_or_default();
        nothing_else(&body, "authentication.")?;
        let keys = [text(&mut keys, "primaryKey")?, text(&mut keys, "secondaryKey")?];
        let thumbprints =
            [text(&mut thumbprints, "primaryThumbprint")?, text(&mut thumbprints, "secondaryThumbprint")?];
        match kind.as_deref() {
            None | Some("sas") => Self::sas(keys),
            Some("selfSigned") => Self::self_signed(thumbprints),
            Some("certificateAuthority") => Ok(Self::CertificateAuthority),
            Some("none") => Ok(Self::None),
            Some(other) => Err(Refusal::argument_invalid(format!("authentication.type is '{other}'."))),
        }
    }

    fn sas(keys: [Option<String>; 2]) -> Result<Self, Refusal> {
        match keys {
            [None, None] => Ok(Self::generated()),
            [Some(primary), Some(secondary)] => {
                let key = |text: String| {
                    text.parse()
                        .map_err(|_| Refusal::argument_invalid("A key is no Base64 of 16 to 64 bytes."))
                };
                Ok(Self::Sas { primary: key(primary)?, secondary: key(secondary)? })
            }
            _ => Err(Refusal::argument_invalid("One of two keys is missing.")),
        }
    }

    fn self_signed([primary, secondary]: [Option<String>; 2]) -> Result<Self, Refusal> {
        let is_digest = |text: &String| {
            matches!(text.len(), 40 | 64) && text.bytes().all(|digit| digit.is_ascii_hexdigit())
        };
        if primary.iter().chain(&secondary).all(is_digest) && (primary.is_some() || secondary.is_some()) {
            Ok(Self::SelfSigned { primary, secondary })
        } else {
            Err(Refusal::argument_invalid("A thumbprint has 40 or 64 hexadecimal digits."))
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Sas { .. } => "sas",
            Self::SelfSigned { .. } => "selfSigned",
            Self::CertificateAuthority => "certificateAuthority",
            Self::None => "none",
        }
    }

    pub(crate) fn json(&self) -> Value {
        let keys = match self {
            Self::Sas { primary, secondary } => {
                [Some(primary.expose_base64().to_string()), Some(secondary.expose_base64().to_string())]
            }
            _ => [None, None],
        };
        let thumbprints = match self {
            Self::SelfSigned { primary, secondary } => [primary.clone(), secondary.clone()],
            _ => [None, None],
        };
        json!({
            "symmetricKey": {"primaryKey": keys[0], "secondaryKey": keys[1]},
            "x509Thumbprint": {"primaryThumbprint": thumbprints[0], "secondaryThumbprint": thumbprints[1]},
            "type": self.kind(),
        })
    }
}

/// A text; null and the empty text are none.
pub(crate) fn text(body: &mut Map<String, Value>, member: &str) -> Result<Option<String>, Refusal> {
    match body.shift_remove(member) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(_) => Err(Refusal::argument_invalid(format!("{member} is no text."))),
    }
}

fn object(body: &mut Map<String, Value>, member: &str) -> Result<Option<Map<String, Value>>, Refusal> {
    match body.shift_remove(member) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(_) => Err(Refusal::argument_invalid(format!("{member} is no object."))),
    }
}

fn iot_edge(mut capabilities: Map<String, Value>) -> Result<bool, Refusal> {
    let iot_edge = capabilities.shift_remove("iotEdge").unwrap_or(Value::Bool(false));
    nothing_else(&capabilities, "capabilities.")?;
    iot_edge
        .as_bool()
        .ok_or_else(|| Refusal::argument_invalid("capabilities.iotEdge is neither true nor false."))
}

fn scopes(body: &mut Map<String, Value>) -> Result<Option<Vec<String>>, Refusal> {
    match body.shift_remove("parentScopes") {
        None | Some(Value::Null) => Ok(None),
        Some(scopes) => serde_json::from_value(scopes)
            .map(Some)
            .map_err(|_| Refusal::argument_invalid("parentScopes is no list of texts.")),
    }
}

fn nothing_else(body: &Map<String, Value>, within: &str) -> Result<(), Refusal> {
    match body.keys().next() {
        None => Ok(()),
        Some(member) => Err(Refusal::argument_invalid(format!("Unknown member {within}{member}."))),
    }
}
