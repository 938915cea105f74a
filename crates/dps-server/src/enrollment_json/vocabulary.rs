//! The names of members that the service API has, Azure's previews included. Spec: DPS-DEV-9.
//!
//! The API itself keeps members that it does not know. A file that somebody wrote is another matter: a misspelt member would
//! silently leave its default in force, and admit a device that was to be refused.

use serde_json::Value;

use super::read::{KNOWN, KNOWN_OF_GROUPS, KNOWN_OF_INDIVIDUALS};

/// What the API has at the top of an entry beside what is read of it.
const OTHERS: [&str; 12] = [
    "optionalDeviceInformation",
    "iotHubHostName",
    "trustBundleId",
    "clientCertificateIssuancePolicy",
    "serverCertificateIssuancePolicy",
    "deviceHostname",
    "deviceIpAddress",
    "credentialPolicyName",
    "namespaceName",
    "certificateAuthorityName",
    "certificatePolicyName",
    "deviceTypeRefs",
];

/// Objects within an entry whose members are all known, by their JSON pointers.
const WITHIN: [(&str, &[&str]); 7] = [
    ("/attestation", &["type", "symmetricKey", "tpm", "x509"]),
    ("/attestation/symmetricKey", &["primaryKey", "secondaryKey"]),
    ("/attestation/tpm", &["endorsementKey", "storageRootKey"]),
    ("/attestation/x509", &["clientCertificates", "signingCertificates", "caReferences"]),
    ("/capabilities", &["iotEdge"]),
    ("/reprovisionPolicy", &["updateHubAssignment", "migrateDeviceData"]),
    ("/customAllocationDefinition", &["webhookUrl", "apiVersion"]),
];

/// A member that the service API does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownMember {
    /// Such as `attestation.`, or nothing at the top.
    pub parent: String,
    /// As it was written.
    pub name: String,
    /// Those that there are in its place.
    pub known: Vec<&'static str>,
}

/// The members of an entry that the service API does not have.
pub fn unknown_members(entry: &Value) -> Vec<UnknownMember> {
    let top: Vec<_> =
        KNOWN.into_iter().chain(KNOWN_OF_INDIVIDUALS).chain(KNOWN_OF_GROUPS).chain(OTHERS).collect();
    let objects = std::iter::once(("", top)).chain(WITHIN.map(|(path, known)| (path, known.to_vec())));
    let mut unknown = Vec::new();
    for (path, known) in objects {
        let members =
            entry.pointer(path).and_then(Value::as_object).into_iter().flat_map(|object| object.keys());
        for name in members.filter(|name| !known.contains(&name.as_str())) {
            let parent = path.split('/').skip(1).map(|part| format!("{part}.")).collect();
            unknown.push(UnknownMember { parent, name: name.clone(), known: known.clone() });
        }
    }
    unknown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// DPS-DEV-9
    #[test]
    fn a_misspelt_member_is_found_wherever_it_stands() {
        let entry = json!({
            "registrationId": "a",
            "provisioningstatus": "disabled",
            "attestation": {"type": "symmetricKey", "symmetricKey": {"primarykey": "x"}},
            "initialTwin": {"tags": {"any": 1}, "properties": {"desired": {"thing": 1}}},
            "deviceTypeRefs": [],
        });
        let found: Vec<_> = unknown_members(&entry)
            .into_iter()
            .map(|unknown| (format!("{}{}", unknown.parent, unknown.name), unknown.known.len()))
            .collect();
        let expected =
            [("provisioningstatus", 16 + OTHERS.len()), ("attestation.symmetricKey.primarykey", 2)];
        assert_eq!(found, expected.map(|(name, known)| (name.to_owned(), known)));
        assert_eq!(unknown_members(&json!(7)), []);
    }
}
