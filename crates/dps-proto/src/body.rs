//! JSON bodies of the device API. Spec: DPS-BODY-1 to DPS-BODY-9 (docs/spec/bodies.md), DPS-MQTT-17.
//!
//! Serde lives here and ends here: what these texts mean is decided in `dps-core`, which never sees them.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::ids::RegistrationId;

/// The body of a register request, as far as the service reads it.
#[derive(Debug, Default)]
pub struct RegisterBody {
    /// The custom payload, any JSON value but null.
    pub payload: Option<Box<RawValue>>,
    /// The keys of a TPM, not read yet: where a transport does not carry TPM attestation, they mean nothing.
    tpm: Option<Box<RawValue>>,
}

/// The public parts of a TPM's keys, as a device sends them. Spec: DPS-TPM-1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TpmBody {
    /// TPM2B_PUBLIC of its endorsement key.
    pub endorsement_key: Vec<u8>,
    /// TPM2B_PUBLIC of its storage root key.
    pub storage_root_key: Vec<u8>,
}

/// Why a register body is refused with status 400. Spec: DPS-MQTT-17.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRegisterBody {
    /// Not a JSON object with members of the right types.
    #[error("the body is not a registration in JSON: {0}")]
    Json(String),
    /// The member `tpm` is not one. Spec: DPS-TPM-1.
    #[error("the body's tpm is no object with the texts endorsementKey and storageRootKey, both in Base64")]
    Tpm,
    /// The body names another device than the connection.
    #[error("the body's registrationId is {0:?}, not the one of the connection")]
    OtherRegistrationId(String),
}

impl RegisterBody {
    /// Reads a register body that was sent for `registration_id`. Spec: DPS-MQTT-17.
    pub fn parse(bytes: &[u8], registration_id: &RegistrationId) -> Result<Self, BadRegisterBody> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire {
            registration_id: Option<String>,
            payload: Option<Box<RawValue>>,
            tpm: Option<Box<RawValue>>,
        }

        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        let wire: Wire = serde_json::from_slice(bytes).map_err(|why| {
            // Such an error repeats what it found, which may be long, or a token in the wrong place.
            let is_of_another_shape = why.classify() == serde_json::error::Category::Data;
            BadRegisterBody::Json(if is_of_another_shape {
                format!(
                    "it is JSON of another shape at line {} column {}, not an object whose registrationId is a text",
                    why.line(),
                    why.column()
                )
            } else {
                why.to_string()
            })
        })?;
        match wire.registration_id {
            Some(other) if !other.eq_ignore_ascii_case(registration_id.as_str()) => {
                // Only as much of it as an id may hold: the text goes to the log.
                Err(BadRegisterBody::OtherRegistrationId(other.chars().take(128).collect()))
            }
            _ => {
                let said = |json: Option<Box<RawValue>>| json.filter(|json| json.get() != "null");
                Ok(Self { payload: said(wire.payload), tpm: said(wire.tpm) })
            }
        }
    }

    /// The keys of the TPM that the device presents, if it presents one. Spec: DPS-TPM-1.
    pub fn tpm(&self) -> Result<Option<TpmBody>, BadRegisterBody> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire {
            endorsement_key: String,
            storage_root_key: String,
        }

        let Some(json) = &self.tpm else { return Ok(None) };
        let Wire { endorsement_key, storage_root_key } =
            serde_json::from_str(json.get()).map_err(|_| BadRegisterBody::Tpm)?;
        let decoded = |text: &str| STANDARD.decode(text).map_err(|_| BadRegisterBody::Tpm);
        Ok(Some(TpmBody {
            endorsement_key: decoded(&endorsement_key)?,
            storage_root_key: decoded(&storage_root_key)?,
        }))
    }
}

/// The answer to a register or a poll. Spec: DPS-BODY-2 to DPS-BODY-6.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OperationStatus<'a> {
    /// Empty for a disabled device, never absent.
    pub operation_id: String,
    /// Equal to the status inside [`RegistrationState`].
    pub status: Status,
    /// Absent in the answer to register.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration_state: Option<RegistrationState<'a>>,
}

/// A device's record as the device sees it; members in the order that captures show.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistrationState<'a> {
    /// What the device authenticates with at its hub, where its TPM proved it. Spec: DPS-TPM-7.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tpm: Option<TpmState>,
    /// How the device proved itself, where that was a certificate; first, as Azure writes it. Spec: DPS-BODY-11.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x509: Option<ProvedByCertificate>,
    /// The id in its first spelling.
    pub registration_id: &'a str,
    /// First creation of the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_date_time_utc: Option<String>,
    /// Host name of the hub, and the device id there: both or neither. Spec: DPS-BODY-4.
    #[serde(flatten)]
    pub assignment: Option<AssignmentState<'a>>,
    /// Equal to the root's.
    pub status: Status,
    /// With `assigned` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub substatus: Option<&'static str>,
    /// With `failed` only. Spec: DPS-BODY-5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<u32>,
    /// With `failed` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<Cow<'a, str>>,
    /// Last write of the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated_date_time_utc: Option<String>,
    /// Version of the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<&'a str>,
    /// What the webhook that chose the hub has for the device, byte for byte. Spec: DPS-BODY-12.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<&'a RawValue>,
}

/// A key for the TPM alone.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TpmState {
    /// The wrapped key, Base64.
    pub authentication_key: String,
}

/// What a device with a TPM is asked to prove itself by. Spec: DPS-TPM-1.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TpmChallengeBody {
    /// A fixed text.
    pub message: &'static str,
    /// The wrapped key, Base64.
    pub authentication_key: String,
    /// What the token's `skn` is to be.
    pub key_name: &'static str,
}

/// `{}`: Azure says no more of it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ProvedByCertificate {}

/// Where the device lives.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AssignmentState<'a> {
    /// Host name of the hub.
    pub assigned_hub: &'a str,
    /// The device id at that hub.
    pub device_id: &'a str,
}

/// The status words a device may be told, exactly so spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Ask again later.
    Assigning,
    /// The device has a hub.
    Assigned,
    /// This operation ended without one.
    Failed,
    /// The enrollment is disabled.
    Disabled,
}

/// The body of a refusal. Spec: DPS-BODY-9.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody<'a> {
    /// Status times 1,000 plus a detail.
    pub error_code: u32,
    /// Under which the log holds the cause.
    pub tracking_id: String,
    /// A fixed text per code.
    pub message: &'a str,
    /// When it was refused.
    pub timestamp_utc: String,
}

/// The bytes of a body.
pub fn to_bytes(body: &impl Serialize) -> bytes::Bytes {
    // These types have string keys and no fallible parts, so serialisation cannot fail; an empty body would still be
    // refused by every client rather than misread.
    serde_json::to_vec(body).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn reads(text: &str, payload: Option<&str>) {
        let id = "Dev-1".parse().unwrap();
        let body = RegisterBody::parse(text.as_bytes(), &id).unwrap_or_else(|why| panic!("{text}: {why}"));
        assert_eq!(body.payload.as_deref().map(RawValue::get), payload, "{text}");
    }

    /// DPS-MQTT-17: what the official clients really send.
    #[test]
    fn the_register_bodies_of_real_clients_are_read() {
        reads("", None);
        reads(" ", None);
        reads("{}", None);
        reads(r#"{"payload": null, "registrationId": "Dev-1"}"#, None);
        reads(r#"{"registrationId":"dev-1"}"#, None);
        reads("{\"registrationId\" : \"Dev-1\" ,\r\n \"payload\" : {\"a\":1}}", Some(r#"{"a":1}"#));
        reads(r#"{"payload":"{\"a\":1}"}"#, Some(r#""{\"a\":1}""#));
        reads(r#"{"payload":7}"#, Some("7"));
        reads(r#"{"registrationId":"Dev-1","tpm":{"endorsementKey":"AA=="},"unknown":[1]}"#, None);
    }

    /// DPS-MQTT-17
    #[test]
    fn another_registration_id_or_text_that_is_no_object_is_refused() {
        let id = "Dev-1".parse().unwrap();
        let other = RegisterBody::parse(br#"{"registrationId":"dev-2"}"#, &id).unwrap_err();
        assert_eq!(other, BadRegisterBody::OtherRegistrationId("dev-2".into()));
        for text in ["{", "[]x", "null x", "\"dev-1\"", r#"{"registrationId":7}"#, "\u{feff}{}"] {
            let refused = RegisterBody::parse(text.as_bytes(), &id);
            assert!(matches!(refused, Err(BadRegisterBody::Json(_))), "{text}: {refused:?}");
        }
    }

    /// DPS-EXPLAIN-5
    #[test]
    fn what_a_body_of_another_shape_holds_is_not_repeated() {
        for text in
            [r#""SharedAccessSignature sig=s3cret""#, r#"{"registrationId":["s3cret"],"payload":"s3cret"}"#]
        {
            let refused =
                RegisterBody::parse(text.as_bytes(), &"d".parse().unwrap()).unwrap_err().to_string();
            assert!(refused.contains("another shape") && !refused.contains("s3cret"), "{refused}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_not_followed() {
        let text = format!("{{\"payload\":{}}}", "[".repeat(90_000));
        assert!(RegisterBody::parse(text.as_bytes(), &"d".parse().unwrap()).is_err());
    }

    /// DPS-BODY-1, DPS-BODY-2
    #[test]
    fn a_member_without_a_value_is_left_out() {
        let body = OperationStatus {
            operation_id: "5.x".into(),
            status: Status::Assigning,
            registration_state: None,
        };
        assert_eq!(to_bytes(&body), r#"{"operationId":"5.x","status":"assigning"}"#);
    }
}
