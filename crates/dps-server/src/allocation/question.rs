//! What a webhook is told, in JSON. Spec: DPS-HUB-24.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dps_core::custom_allocation::{AllocationRequest, AskingEntry, Proof};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::enrollment_json::{self, EnrollmentEntry, Secrets};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Question<'r> {
    #[serde(skip_serializing_if = "Option::is_none")]
    individual_enrollment: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enrollment_group: Option<Value>,
    device_runtime_context: RuntimeContext<'r>,
    linked_hubs: Vec<&'r str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RuntimeContext<'r> {
    registration_id: &'r str,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_iot_hub_host_name: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_device_id: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    symmetric_key: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x509: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tpm: Option<Value>,
    /// Byte for byte as the device sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'r RawValue>,
}

/// The body of the request: no key of anyone stands in it, nor the query of the webhook's own URL.
pub fn question(request: &AllocationRequest) -> Vec<u8> {
    let (individual_enrollment, enrollment_group) = match &request.entry {
        AskingEntry::Individual(enrollment) => {
            (Some(EnrollmentEntry::Individual((**enrollment).clone())), None)
        }
        AskingEntry::Group(group) => (None, Some(EnrollmentEntry::Group((**group).clone()))),
    };
    let shown = |entry: EnrollmentEntry| entry_json(&entry, request);
    let (symmetric_key, x509, tpm) = match &request.proof {
        Proof::SymmetricKey => (Some(json!({})), None, None),
        Proof::X509(certificate) => {
            let info = certificate.as_ref().map(|certificate| enrollment_json::info(certificate));
            (None, Some(info.map_or_else(|| json!({}), |info| json!({"clientCertificate": info}))), None)
        }
        Proof::Tpm { endorsement_key, storage_root_key } => {
            let tpm = json!({
                "endorsementKey": STANDARD.encode(endorsement_key),
                "storageRootKey": STANDARD.encode(storage_root_key),
            });
            (None, None, Some(tpm))
        }
    };
    let question = Question {
        individual_enrollment: individual_enrollment.map(shown),
        enrollment_group: enrollment_group.map(shown),
        device_runtime_context: RuntimeContext {
            registration_id: request.registration_id.as_str(),
            current_iot_hub_host_name: request.current.as_ref().map(|current| current.hub.as_str()),
            current_device_id: request.current.as_ref().map(|current| current.device_id.as_str()),
            symmetric_key,
            x509,
            tpm,
            // It was JSON when it came in.
            payload: request.payload.as_ref().and_then(|payload| serde_json::from_str(&payload.0).ok()),
        },
        linked_hubs: request.candidates.iter().map(|hub| hub.as_str()).collect(),
    };
    // It holds text and numbers only.
    serde_json::to_vec(&question).unwrap_or_default()
}

/// The entry as clients read it, but for its etag, which Azure shows a webhook as it stands in its own store.
fn entry_json(entry: &EnrollmentEntry, request: &AllocationRequest) -> Value {
    let mut json = enrollment_json::entry(entry, request.default_policy, Secrets::Hidden);
    if let Some(custom) = &entry.settings().custom_allocation {
        json["customAllocationDefinition"]["webhookUrl"] = custom.webhook_url.to_string().into();
    }
    let etag = STANDARD.decode(entry.settings().etag.as_str()).ok();
    if let Some(etag) = etag.and_then(|etag| String::from_utf8(etag).ok()) {
        json["etag"] = etag.into();
    }
    json
}

#[cfg(test)]
mod tests {
    use dps_core::Moment;
    use dps_core::enrollment::AllocationPolicy;
    use dps_core::registration::{Assignment, HubCredential, JsonText};
    use jiff::Timestamp;

    use super::*;

    const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAA==";

    fn request(entry: &Value) -> AllocationRequest {
        let moment = Moment { now: Timestamp::from_second(1_657_056_436).unwrap(), random: [0x11; 32] };
        let entry = enrollment_json::read(entry, None, moment).unwrap();
        let webhook = entry.settings().custom_allocation.clone().unwrap();
        AllocationRequest {
            webhook,
            entry: match entry {
                EnrollmentEntry::Individual(enrollment) => AskingEntry::Individual(enrollment.into()),
                EnrollmentEntry::Group(group) => AskingEntry::Group(group.into()),
            },
            default_policy: AllocationPolicy::Hashed,
            registration_id: "Sensor-7".parse().unwrap(),
            current: None,
            proof: Proof::SymmetricKey,
            payload: None,
            candidates: vec!["hub-a.example".parse().unwrap(), "hub-b.example".parse().unwrap()],
        }
    }

    fn asked(request: &AllocationRequest) -> Value {
        serde_json::from_slice(&question(request)).unwrap()
    }

    fn definition() -> Value {
        json!({"webhookUrl": "https://hook.example/api/choose?code=s3cret", "apiVersion": "2019-03-31"})
    }

    fn group() -> Value {
        json!({
            "enrollmentGroupId": "line-7", "allocationPolicy": "custom",
            "customAllocationDefinition": definition(),
            "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY}},
        })
    }

    /// DPS-HUB-24
    #[test]
    fn a_webhook_is_told_the_entry_without_its_secrets_the_device_and_the_hubs() {
        let expected = json!({
            "enrollmentGroup": {
                "enrollmentGroupId": "line-7",
                "attestation": {"type": "symmetricKey"},
                "capabilities": {"iotEdge": false},
                "etag": "\"11111111-1111-1111-1111-62c4acb40000\"",
                "provisioningStatus": "enabled",
                "reprovisionPolicy": {"updateHubAssignment": true, "migrateDeviceData": true},
                "createdDateTimeUtc": "2022-07-05T21:27:16.0000000Z",
                "lastUpdatedDateTimeUtc": "2022-07-05T21:27:16.0000000Z",
                "allocationPolicy": "custom",
                "customAllocationDefinition": {
                    "webhookUrl": "https://hook.example/api/choose?****", "apiVersion": "2019-03-31",
                },
            },
            "deviceRuntimeContext": {"registrationId": "Sensor-7", "symmetricKey": {}},
            "linkedHubs": ["hub-a.example", "hub-b.example"],
        });
        assert_eq!(asked(&request(&group())), expected);
    }

    /// DPS-HUB-24
    #[test]
    fn where_the_device_lives_and_what_it_sent_stand_in_its_context() {
        let mut request = request(&json!({
            "registrationId": "Sensor-7", "allocationPolicy": "custom",
            "customAllocationDefinition": definition(), "attestation": {"type": "symmetricKey"},
            "optionalDeviceInformation": {"a": 1},
        }));
        request.current = Some(Assignment {
            hub: "hub-a.example".parse().unwrap(),
            device_id: "press#1".parse().unwrap(),
            credential: HubCredential::EnrollmentKeys,
        });
        request.payload = Some(JsonText(r#"{"modelId":"dtmi:a;1", "n":1.10}"#.into()));
        let asked = asked(&request);
        assert_eq!(asked["individualEnrollment"]["optionalDeviceInformation"], json!({"a": 1}));
        assert_eq!(asked["deviceRuntimeContext"]["currentIotHubHostName"], "hub-a.example");
        assert_eq!(asked["deviceRuntimeContext"]["currentDeviceId"], "press#1");
        let text = String::from_utf8(question(&request)).unwrap();
        assert!(text.contains(r#""payload":{"modelId":"dtmi:a;1", "n":1.10}"#), "{text}");
        assert!(!text.contains("s3cret") && asked.get("enrollmentGroup").is_none());
    }

    /// DPS-HUB-24
    #[test]
    fn how_the_device_proved_itself_is_told() {
        let mut request = request(&group());
        request.proof = Proof::Tpm { endorsement_key: [1, 2, 3].into(), storage_root_key: [4, 5, 6].into() };
        let context = asked(&request)["deviceRuntimeContext"].clone();
        assert_eq!(context["tpm"], json!({"endorsementKey": "AQID", "storageRootKey": "BAUG"}));
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
        let certificate = dps_core::x509::Certificate::from_der(certificate.der()).unwrap();
        let sha1 = certificate.sha1_thumbprint().to_string();
        request.proof = Proof::X509(Some(certificate.into()));
        let context = asked(&request)["deviceRuntimeContext"].clone();
        assert_eq!(context["x509"]["clientCertificate"]["sha1Thumbprint"], sha1);
        assert!(context.get("symmetricKey").is_none() && context.get("tpm").is_none());
    }
}
