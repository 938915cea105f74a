//! Entries as clients of the service API read them. Spec: DPS-SERVICE-10, DPS-SERVICE-12, DPS-SERVICE-16.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dps_core::enrollment::{
    AllocationPolicy, Attestation, EntrySettings, GroupAttestation, ProvisioningStatus, ReprovisionPolicy,
};
use dps_proto::date;
use dps_proto::ids::HubName;
use dps_proto::key::KeyPair;
use serde_json::{Map, Value, json};

use super::read::LEGACY_HUB;
use super::{EnrollmentEntry, Secrets, x509};

/// One entry as a JSON object; `default_policy` is that of its instance.
pub fn entry(entry: &EnrollmentEntry, default_policy: AllocationPolicy, secrets: Secrets) -> Value {
    // What this service knows overwrites what clients wrote along: an old store may hold members that meant nothing then.
    let mut object = entry.settings().other_members.as_ref().map(|kept| parsed(&kept.0)).unwrap_or_default();
    match entry {
        EnrollmentEntry::Individual(enrollment) => {
            put(&mut object, "registrationId", enrollment.registration_id.as_str());
            if let Some(device_id) = &enrollment.device_id {
                put(&mut object, "deviceId", device_id.as_str());
            }
        }
        EnrollmentEntry::Group(group) => {
            put(&mut object, "enrollmentGroupId", group.id.as_str());
            if let Some(prefix) = &group.registration_id_prefix {
                put(&mut object, "registrationIdPrefix", prefix.as_str());
            }
        }
    }
    put(&mut object, "attestation", attestation(entry, secrets));
    settings(&mut object, entry.settings(), default_policy);
    Value::Object(object)
}

/// How the entry's devices prove themselves, as a JSON object.
pub fn attestation(entry: &EnrollmentEntry, secrets: Secrets) -> Value {
    match entry {
        EnrollmentEntry::Individual(enrollment) => match &enrollment.attestation {
            Attestation::SymmetricKey(keys) => symmetric_key(keys, secrets),
            Attestation::ClientCertificates(pair) => x509::client(pair),
            Attestation::Signers(signers) => x509::signers(signers),
            Attestation::Tpm { endorsement_key } => {
                json!({"type": "tpm", "tpm": {"endorsementKey": STANDARD.encode(endorsement_key)}})
            }
        },
        EnrollmentEntry::Group(group) => match &group.attestation {
            GroupAttestation::SymmetricKey(keys) => symmetric_key(keys, secrets),
            GroupAttestation::Signers(signers) => x509::signers(signers),
        },
    }
}

fn symmetric_key(keys: &KeyPair, secrets: Secrets) -> Value {
    match secrets {
        Secrets::Hidden => json!({"type": "symmetricKey"}),
        Secrets::Shown => json!({
            "type": "symmetricKey",
            "symmetricKey": {
                "primaryKey": *keys.primary.expose_base64(),
                "secondaryKey": *keys.secondary.expose_base64(),
            },
        }),
    }
}

fn settings(object: &mut Map<String, Value>, settings: &EntrySettings, default_policy: AllocationPolicy) {
    let status = match settings.provisioning_status {
        ProvisioningStatus::Enabled => "enabled",
        ProvisioningStatus::Disabled => "disabled",
    };
    let policy = settings.allocation_policy.unwrap_or(default_policy).as_str();
    let ReprovisionPolicy { update_hub_assignment, migrate_device_data } = settings
        .reprovision_policy
        .unwrap_or(ReprovisionPolicy { update_hub_assignment: true, migrate_device_data: true });
    put(object, "capabilities", json!({"iotEdge": settings.iot_edge}));
    if let Some(twin) = &settings.initial_twin {
        put(object, "initialTwin", parsed(&twin.0));
    }
    put(object, "provisioningStatus", status);
    let reprovision_policy =
        json!({"updateHubAssignment": update_hub_assignment, "migrateDeviceData": migrate_device_data});
    put(object, "reprovisionPolicy", reprovision_policy);
    put(object, "allocationPolicy", policy);
    if let Some(custom) = &settings.custom_allocation {
        let definition =
            json!({"webhookUrl": custom.webhook_url.expose(), "apiVersion": &*custom.api_version});
        put(object, "customAllocationDefinition", definition);
    }
    // A hub that came as the legacy member alone goes back so: beside `iotHubs` a change of it would count for nothing.
    let legacy_hub = object.get(LEGACY_HUB).and_then(Value::as_str);
    let is_legacy =
        |hub: &HubName| legacy_hub.is_some_and(|legacy| hub.as_str().eq_ignore_ascii_case(legacy));
    if !settings.hubs.is_empty() && !matches!(&*settings.hubs, [hub] if is_legacy(hub)) {
        let hubs: Vec<_> = settings.hubs.iter().map(|hub| hub.as_str()).collect();
        put(object, "iotHubs", hubs);
    }
    put(object, "etag", settings.etag.as_str());
    put(object, "createdDateTimeUtc", date::format(settings.created_at));
    put(object, "lastUpdatedDateTimeUtc", date::format(settings.updated_at));
}

fn put(object: &mut Map<String, Value>, name: &str, value: impl Into<Value>) {
    object.insert(name.to_owned(), value.into());
}

/// An object that was checked to be one when it came in.
fn parsed(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use dps_core::Moment;
    use jiff::Timestamp;

    use super::super::read;
    use super::*;

    const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAA==";

    fn written(json: &Value, secrets: Secrets) -> Value {
        let moment = Moment { now: Timestamp::from_second(1_600_000_000).unwrap(), random: [7; 32] };
        entry(&read(json, None, moment).unwrap(), AllocationPolicy::Hashed, secrets)
    }

    /// DPS-SERVICE-12
    #[test]
    fn what_a_body_left_out_is_filled_in() {
        let json = json!({"enrollmentGroupId": "g", "attestation": {"type": "symmetricKey"}});
        let expected = json!({
            "enrollmentGroupId": "g", "attestation": {"type": "symmetricKey"}, "capabilities": {"iotEdge": false},
            "provisioningStatus": "enabled", "allocationPolicy": "hashed",
            "reprovisionPolicy": {"updateHubAssignment": true, "migrateDeviceData": true},
            "etag": written(&json, Secrets::Hidden)["etag"],
            "createdDateTimeUtc": "2020-09-13T12:26:40.0000000Z",
            "lastUpdatedDateTimeUtc": "2020-09-13T12:26:40.0000000Z",
        });
        assert_eq!(written(&json, Secrets::Hidden), expected);
        assert!(expected["etag"].is_string());
    }

    /// DPS-SERVICE-10, DPS-SERVICE-16
    #[test]
    fn what_a_body_said_comes_back_and_keys_only_where_they_may() {
        let mut json = json!({
            "registrationId": "Sensor-7", "deviceId": "sensor#7", "optionalDeviceInformation": {"a": [null, 1]},
            "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY}},
            "capabilities": {"iotEdge": true}, "provisioningStatus": "disabled", "allocationPolicy": "static",
            "iotHubs": ["hub.localhost"], "initialTwin": {"tags": {}, "properties": {"desired": {"a": 1.5}}},
            "reprovisionPolicy": {"updateHubAssignment": false, "migrateDeviceData": true},
            "customFutureField": "kept", "customAllocationDefinition": null,
        });
        let shown = written(&json, Secrets::Shown);
        json.as_object_mut().unwrap().remove("customAllocationDefinition");
        for (name, value) in json.as_object().unwrap() {
            assert_eq!(shown[name], *value, "{name}");
        }
        assert!(shown.get("customAllocationDefinition").is_none(), "null is as good as absent");
        assert!(!written(&json, Secrets::Hidden).to_string().contains(KEY));
    }

    /// DPS-SERVICE-16
    #[test]
    fn a_member_of_the_other_kind_and_the_legacy_hub_come_back_as_they_came() {
        let attestation = json!({"type": "symmetricKey"});
        for (mut json, member) in [
            (json!({"enrollmentGroupId": "g"}), "deviceId"),
            (json!({"registrationId": "a"}), "registrationIdPrefix"),
        ] {
            json["attestation"] = attestation.clone();
            json[member] = "kept".into();
            assert_eq!(written(&json, Secrets::Hidden)[member], "kept");
        }
        let mut json =
            json!({"registrationId": "a", "attestation": attestation, "iotHubHostName": "Hub.localhost"});
        let hubs =
            |json: &Value| read(json, None, Moment { now: Timestamp::UNIX_EPOCH, random: [7; 32] }).unwrap();
        let first = written(&json, Secrets::Hidden);
        assert_eq!((first.get("iotHubs"), &first["iotHubHostName"]), (None, &json["iotHubHostName"]));
        // What was read is changed and written back: the change counts.
        let mut changed = first;
        changed["iotHubHostName"] = "other.localhost".into();
        assert_eq!(hubs(&changed).settings().hubs[0].as_str(), "other.localhost");
        json["iotHubs"] = json!(["third.localhost"]);
        let both = written(&json, Secrets::Hidden);
        assert_eq!((&both["iotHubs"], &both["iotHubHostName"]), (&json["iotHubs"], &json["iotHubHostName"]));
        assert_eq!(hubs(&both).settings().hubs.len(), 1);
    }

    /// DPS-SERVICE-12
    #[test]
    fn other_attestations_are_written_as_they_are_read() {
        for attestation in [
            json!({"type": "tpm", "tpm": {"endorsementKey": endorsement_key()}}),
            json!({"type": "x509", "x509": {"caReferences": {"primary": "Plant-CA", "secondary": "next"}}}),
        ] {
            let json = json!({"registrationId": "a", "attestation": attestation});
            assert_eq!(written(&json, Secrets::Hidden)["attestation"], attestation);
        }
    }

    /// One of the default template, with a modulus that nobody has.
    fn endorsement_key() -> String {
        let mut public = vec![0x00, 0x01, 0x00, 0x0b, 0x00, 0x03, 0x00, 0xb2, 0x00, 0x20];
        public.extend([0x83; 32]);
        public.extend([0x00, 0x06, 0x00, 0x80, 0x00, 0x43, 0x00, 0x10, 0x08, 0x00, 0, 0, 0, 0, 0x01, 0x00]);
        public.extend([0xc5; 256]);
        STANDARD.encode([&(public.len() as u16).to_be_bytes()[..], &public].concat())
    }
}
