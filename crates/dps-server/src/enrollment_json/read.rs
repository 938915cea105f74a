//! Entries as clients of the service API write them. Spec: DPS-DEV-9, DPS-SERVICE-9, DPS-SERVICE-18.
//!
//! Read member by member rather than by derive, so that an error names the path of the member that is wrong.

use dps_core::Moment;
use dps_core::custom_allocation::{BadWebhookUrl, CustomAllocation};
use dps_core::enrollment::{
    AllocationPolicy, Attestation, EnrollmentGroup, EntrySettings, GroupAttestation, IndividualEnrollment,
    OtherMembers, ProvisioningStatus, ReprovisionPolicy, TwinDocument,
};
use dps_core::tpm::StorageKey;
use dps_proto::api_version::ApiVersion;
use dps_proto::ids::ETag;
use dps_proto::key::{KeyPair, SymmetricKey};
use serde_json::{Map, Value};

use super::EnrollmentEntry;
use super::x509::{self, X509};
use crate::json_members::{BadMember, Members, bad};
use crate::new_key::new_key;

/// What this service reads of both kinds, or writes itself; everything else is kept as it came. Spec: DPS-SERVICE-16.
pub(super) const KNOWN: [&str; 13] = [
    "registrationId",
    "enrollmentGroupId",
    "attestation",
    "capabilities",
    "initialTwin",
    "etag",
    "provisioningStatus",
    "reprovisionPolicy",
    "createdDateTimeUtc",
    "lastUpdatedDateTimeUtc",
    "allocationPolicy",
    "customAllocationDefinition",
    "iotHubs",
];

/// The same of individual enrollments alone.
pub(super) const KNOWN_OF_INDIVIDUALS: [&str; 2] = ["deviceId", "registrationState"];

/// The same of groups alone.
pub(super) const KNOWN_OF_GROUPS: [&str; 1] = ["registrationIdPrefix"];

/// The one hub of an entry, as old clients name it; it counts where there is no `iotHubs`, and is kept like a member of no
/// meaning here.
pub(super) const LEGACY_HUB: &str = "iotHubHostName";

/// Azure's words.
const DEFINITION_MISSING: &str =
    "A CustomAllocationDefinition is required when the allocation policy is set to 'Custom'";

/// Reads one entry: keys and certificates that it leaves out are those of `kept`, the entry as it stands; other keys are made.
/// Dates and etag are new; read-only members are ignored.
pub fn read(
    json: &Value,
    kept: Option<&EnrollmentEntry>,
    moment: Moment,
) -> Result<EnrollmentEntry, BadMember> {
    let object = json.as_object().ok_or_else(|| bad("entry", "must be a JSON object"))?;
    let entry = Members { object, path: String::new() };
    match (entry.present("registrationId"), entry.present("enrollmentGroupId")) {
        (Some(_), None) => individual(&entry, kept, moment).map(EnrollmentEntry::Individual),
        (None, Some(_)) => group(&entry, kept, moment).map(EnrollmentEntry::Group),
        (Some(_), Some(_)) => Err(bad("registrationId", "must not stand beside enrollmentGroupId")),
        (None, None) => {
            Err(bad("registrationId", "is missing, and so is enrollmentGroupId: one of them names the entry"))
        }
    }
}

fn individual(
    entry: &Members<'_>,
    kept: Option<&EnrollmentEntry>,
    moment: Moment,
) -> Result<IndividualEnrollment, BadMember> {
    let attestation = entry.object("attestation")?.ok_or_else(|| entry.missing("attestation"))?;
    let mechanism = one_mechanism(&attestation)?;
    let attestation = match mechanism {
        "symmetricKey" => {
            Attestation::SymmetricKey(key_pair(&attestation, kept.and_then(EnrollmentEntry::keys))?)
        }
        "x509" => match x509::read(&attestation, kept)? {
            X509::Client(pair) => Attestation::ClientCertificates(pair),
            X509::Signers(signers) => Attestation::Signers(signers),
        },
        "tpm" => tpm(&attestation)?,
        other => {
            return Err(attestation.wrong("type", format!("{other:?} is none of symmetricKey, x509, tpm")));
        }
    };
    Ok(IndividualEnrollment {
        registration_id: entry.required("registrationId")?,
        device_id: entry.parsed("deviceId")?,
        attestation,
        settings: settings(entry, &KNOWN_OF_INDIVIDUALS, moment)?,
    })
}

fn group(
    entry: &Members<'_>,
    kept: Option<&EnrollmentEntry>,
    moment: Moment,
) -> Result<EnrollmentGroup, BadMember> {
    let attestation = entry.object("attestation")?.ok_or_else(|| entry.missing("attestation"))?;
    let mechanism = one_mechanism(&attestation)?;
    let attestation = match mechanism {
        "symmetricKey" => {
            GroupAttestation::SymmetricKey(key_pair(&attestation, kept.and_then(EnrollmentEntry::keys))?)
        }
        "tpm" => return Err(attestation.wrong("type", "a group cannot have TPM attestation")),
        "x509" => match x509::read(&attestation, kept)? {
            X509::Signers(signers) => GroupAttestation::Signers(signers),
            X509::Client(_) => {
                let why = "a group has no clientCertificates; use signingCertificates or caReferences";
                return Err(attestation.wrong("x509", why));
            }
        },
        other => return Err(attestation.wrong("type", format!("{other:?} is none of symmetricKey, x509"))),
    };
    let registration_id_prefix = entry.parsed("registrationIdPrefix")?;
    if registration_id_prefix.is_some() && matches!(attestation, GroupAttestation::Signers(_)) {
        // It would promise to keep devices out that the certificate lets in.
        return Err(entry.wrong("registrationIdPrefix", "is for groups with symmetric keys"));
    }
    Ok(EnrollmentGroup {
        id: entry.required("enrollmentGroupId")?,
        registration_id_prefix,
        attestation,
        settings: settings(entry, &KNOWN_OF_GROUPS, moment)?,
    })
}

/// The `type`, where the attestation has the members of no other.
fn one_mechanism<'v>(attestation: &Members<'v>) -> Result<&'v str, BadMember> {
    let mechanism = attestation.required_text("type")?;
    let others = ["symmetricKey", "tpm", "x509"].into_iter().filter(|name| *name != mechanism);
    match others.into_iter().find(|name| attestation.present(name).is_some_and(Value::is_object)) {
        Some(other) => Err(attestation.wrong(other, format!("must not stand beside type {mechanism:?}"))),
        None => Ok(mechanism),
    }
}

fn settings(entry: &Members<'_>, known: &[&str], moment: Moment) -> Result<EntrySettings, BadMember> {
    let provisioning_status = match entry.text("provisioningStatus")? {
        None | Some("enabled") => ProvisioningStatus::Enabled,
        Some("disabled") => ProvisioningStatus::Disabled,
        Some(other) => {
            return Err(
                entry.wrong("provisioningStatus", format!("{other:?} is neither enabled nor disabled"))
            );
        }
    };
    let allocation_policy = match entry.text("allocationPolicy")? {
        None => None,
        Some(text) => match AllocationPolicy::ALL.into_iter().find(|policy| policy.as_str() == text) {
            Some(policy) => Some(policy),
            None => {
                return Err(entry.wrong(
                    "allocationPolicy",
                    format!("{text:?} is none of hashed, static, geoLatency, custom"),
                ));
            }
        },
    };
    let custom_allocation = custom_allocation(entry)?;
    if allocation_policy == Some(AllocationPolicy::Custom) && custom_allocation.is_none() {
        return Err(entry.wrong("customAllocationDefinition", DEFINITION_MISSING));
    }
    let mut hubs = entry.list("iotHubs")?;
    let legacy_hub = entry.parsed(LEGACY_HUB)?;
    if hubs.is_empty() {
        hubs.extend(legacy_hub);
    }
    let iot_edge = match entry.object("capabilities")? {
        Some(capabilities) => capabilities.flag("iotEdge")?.unwrap_or(false),
        None => false,
    };
    let reprovision_policy = match entry.object("reprovisionPolicy")? {
        Some(policy) => Some(ReprovisionPolicy {
            update_hub_assignment: policy.flag("updateHubAssignment")?.unwrap_or(true),
            migrate_device_data: policy.flag("migrateDeviceData")?.unwrap_or(true),
        }),
        None => None,
    };
    let initial_twin = entry.object("initialTwin")?.map(|twin| TwinDocument(twin.to_json().into()));
    Ok(EntrySettings {
        provisioning_status,
        allocation_policy,
        custom_allocation,
        hubs,
        initial_twin,
        iot_edge,
        reprovision_policy,
        other_members: other_members(entry.object, known),
        etag: ETag::generate(half(moment.random, 0), moment.now.as_second()),
        created_at: moment.now,
        updated_at: moment.now,
    })
}

/// Spec: DPS-REG-26. Errors do not show the URL, which often is a password.
fn custom_allocation(entry: &Members<'_>) -> Result<Option<CustomAllocation>, BadMember> {
    let Some(definition) = entry.object("customAllocationDefinition")? else { return Ok(None) };
    let url = definition.required_text("webhookUrl")?.parse();
    let webhook_url = url.map_err(|why: BadWebhookUrl| definition.wrong("webhookUrl", why.to_string()))?;
    let api_version: ApiVersion = definition.required("apiVersion")?;
    Ok(Some(CustomAllocation { webhook_url, api_version: api_version.as_str().into() }))
}

/// What neither [`KNOWN`] nor `known` names. A null member counts as absent here too.
fn other_members(entry: &Map<String, Value>, known: &[&str]) -> Option<OtherMembers> {
    let others: Map<String, Value> = entry
        .iter()
        .filter(|(name, value)| {
            !value.is_null() && !KNOWN.contains(&name.as_str()) && !known.contains(&name.as_str())
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    (!others.is_empty()).then(|| OtherMembers(Value::Object(others).to_string().into()))
}

fn key_pair(attestation: &Members<'_>, kept: Option<&KeyPair>) -> Result<KeyPair, BadMember> {
    let given = attestation.object("symmetricKey")?;
    let key = |name: &str, kept: Option<&SymmetricKey>| -> Result<SymmetricKey, BadMember> {
        match (&given, kept) {
            (Some(keys), _) if !keys.text(name)?.unwrap_or_default().is_empty() => keys.required_secret(name),
            (_, Some(kept)) => Ok(kept.clone()),
            (_, None) => new_key().map_err(|why| bad("attestation.symmetricKey", why.to_string())),
        }
    };
    Ok(KeyPair {
        primary: key("primaryKey", kept.map(|keys| &keys.primary))?,
        secondary: key("secondaryKey", kept.map(|keys| &keys.secondary))?,
    })
}

fn tpm(attestation: &Members<'_>) -> Result<Attestation, BadMember> {
    use base64::Engine as _;
    let tpm = attestation.object("tpm")?.ok_or_else(|| attestation.missing("tpm"))?;
    let endorsement_key = base64::engine::general_purpose::STANDARD
        .decode(tpm.required_text("endorsementKey")?)
        .map_err(|_| tpm.wrong("endorsementKey", "is not Base64"))?;
    if endorsement_key.is_empty() {
        return Err(tpm.wrong("endorsementKey", "is empty"));
    }
    // Spec: DPS-TPM-9.
    if let Err(why) = StorageKey::parse(&endorsement_key) {
        return Err(tpm.wrong("endorsementKey", why.to_string()));
    }
    Ok(Attestation::Tpm { endorsement_key: endorsement_key.into() })
}

fn half(random: [u8; 32], from: usize) -> [u8; 16] {
    std::array::from_fn(|at| random[from + at])
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    fn moment() -> Moment {
        Moment { now: Timestamp::UNIX_EPOCH, random: [7; 32] }
    }

    const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAA==";

    /// DPS-DEV-9
    #[test]
    fn an_individual_enrollment_is_read_with_all_its_members() {
        let json = json!({
            "registrationId": "Sensor-7", "deviceId": "sensor#7", "etag": "ignored", "optionalDeviceInformation": {},
            "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY}},
            "capabilities": {"iotEdge": true}, "provisioningStatus": "disabled", "allocationPolicy": "static",
            "iotHubs": ["hub.localhost"], "initialTwin": {"tags": {"a": 1}},
            "reprovisionPolicy": {"updateHubAssignment": false, "migrateDeviceData": true}
        });
        let EnrollmentEntry::Individual(entry) = read(&json, None, moment()).unwrap() else {
            panic!("a group")
        };
        assert_eq!(entry.registration_id.as_str(), "Sensor-7");
        assert_eq!(entry.device_id.unwrap().as_str(), "sensor#7");
        assert!(matches!(entry.attestation, Attestation::SymmetricKey(_)));
        assert_eq!(entry.settings.provisioning_status, ProvisioningStatus::Disabled);
        assert_eq!(entry.settings.allocation_policy, Some(AllocationPolicy::Static));
        assert_eq!(entry.settings.hubs[0].as_str(), "hub.localhost");
        assert!(entry.settings.iot_edge && !entry.settings.reprovision_policy.unwrap().update_hub_assignment);
        assert_eq!(&*entry.settings.initial_twin.unwrap().0, r#"{"tags":{"a":1}}"#);
    }

    /// DPS-DEV-9, DPS-SERVICE-9
    #[test]
    fn missing_keys_are_made_and_differ() {
        let json = json!({"enrollmentGroupId": "g", "registrationIdPrefix": "Line-", "attestation": {"type": "symmetricKey"}});
        let EnrollmentEntry::Group(group) = read(&json, None, moment()).unwrap() else {
            panic!("an individual enrollment")
        };
        let GroupAttestation::SymmetricKey(keys) = group.attestation else { panic!("certificates") };
        assert_eq!(keys.primary.expose().len(), 64);
        assert_ne!(keys.primary.expose(), keys.secondary.expose());
        assert_eq!(group.registration_id_prefix.unwrap().as_str(), "line-");
    }

    /// DPS-DEV-9, DPS-SERVICE-18
    #[test]
    fn an_error_names_the_member() {
        let rows = [
            (json!(7), "entry: must be a JSON object"),
            (
                json!({}),
                "registrationId: is missing, and so is enrollmentGroupId: one of them names the entry",
            ),
            (
                json!({"registrationId": "a/b", "attestation": {"type": "symmetricKey"}}),
                "registrationId: \"a/b\": it holds the character '/'",
            ),
            (json!({"registrationId": "a"}), "attestation: is missing"),
            (json!({"registrationId": "a", "attestation": {}}), "attestation.type: is missing"),
            (
                json!({"registrationId": "a", "attestation": {"type": "magic"}}),
                "attestation.type: \"magic\" is none of symmetricKey, x509, tpm",
            ),
            (
                json!({"registrationId": "a", "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": "c2hvcnQ="}}}),
                "attestation.symmetricKey.primaryKey: the key has 5 bytes; it must have 16 to 64",
            ),
            (
                json!({"enrollmentGroupId": "g", "attestation": {"type": "tpm"}}),
                "attestation.type: a group cannot have TPM attestation",
            ),
            (
                json!({"registrationId": "a", "attestation": {"type": "symmetricKey"}, "iotHubs": ["x", 7]}),
                "iotHubs[1]: must be a string",
            ),
            (
                json!({"registrationId": "a", "attestation": {"type": "symmetricKey"}, "provisioningStatus": "off"}),
                "provisioningStatus: \"off\" is neither enabled nor disabled",
            ),
            (
                json!({"registrationId": "a", "attestation": {"type": "symmetricKey"}, "capabilities": {"iotEdge": "yes"}}),
                "capabilities.iotEdge: must be true or false",
            ),
            (
                json!({"registrationId": "a", "attestation": {"type": "tpm", "tpm": {"endorsementKey": "*"}}}),
                "attestation.tpm.endorsementKey: is not Base64",
            ),
            (
                json!({"registrationId": "a", "attestation": {"type": "tpm", "tpm": {"endorsementKey": ""}}}),
                "attestation.tpm.endorsementKey: is empty",
            ),
            (
                json!({"registrationId": "a", "attestation": {"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": "garbage"}}}}}),
                "attestation.x509.clientCertificates.primary.certificate: is neither PEM nor Base64 of a certificate",
            ),
            (
                json!({"registrationId": "a", "attestation": {"type": "symmetricKey", "x509": null, "tpm": {"endorsementKey": "AAEC"}}}),
                "attestation.tpm: must not stand beside type \"symmetricKey\"",
            ),
            (
                json!({"enrollmentGroupId": "g", "attestation": {"type": "symmetricKey", "x509": {}}}),
                "attestation.x509: must not stand beside type \"symmetricKey\"",
            ),
        ];
        for (json, expected) in rows {
            assert_eq!(read(&json, None, moment()).unwrap_err().to_string(), expected, "{json}");
        }
    }

    /// DPS-EXPLAIN-11
    #[test]
    fn an_error_shows_no_more_than_the_ends_of_a_long_value() {
        let json = json!({"registrationId": "a", "attestation": {"type": "m".repeat(200_000)}});
        let why = read(&json, None, moment()).unwrap_err().why;
        assert!(why.len() == 256 && why.ends_with("is none of symmetricKey, x509, tpm"), "{why}");
        let json = json!({"registrationId": "ö".repeat(200_000), "attestation": {"type": "symmetricKey"}});
        assert!(read(&json, None, moment()).unwrap_err().why.chars().count() <= 256);
    }

    #[test]
    fn an_error_about_a_key_does_not_hold_the_key() {
        let json = json!({"registrationId": "a", "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": "almost a secret"}}});
        assert!(!read(&json, None, moment()).unwrap_err().to_string().contains("secret"));
    }
}
