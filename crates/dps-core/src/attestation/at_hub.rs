//! What a device that proved itself earlier authenticates with at its hub. Spec: DPS-REG-17, DPS-REG-31.

use dps_proto::ids::RegistrationId;

use super::Entry;
use super::tpm::known;
use crate::enrollment::{Attestation, GroupAttestation};
use crate::instance::ServiceInstance;
use crate::ports::HubAuthentication;
use crate::registration::HubCredential;
use crate::tpm::hub_keys;

/// From the entry as it stands now; `None` where the entry does not take such a credential any more.
pub(crate) fn authentication(
    instance: &ServiceInstance,
    entry: &Entry,
    id: &RegistrationId,
    credential: &HubCredential,
) -> Option<HubAuthentication> {
    match (credential, attestation(entry)) {
        (HubCredential::EnrollmentKeys, Of::Device(Attestation::SymmetricKey(keys))) => {
            Some(HubAuthentication::Keys(keys.clone()))
        }
        (HubCredential::DerivedKeys { spelling }, Of::Group(GroupAttestation::SymmetricKey(keys))) => {
            Some(HubAuthentication::Keys(keys.derive(spelling)))
        }
        (HubCredential::Tpm { storage_root_key }, Of::Device(Attestation::Tpm { endorsement_key })) => {
            let keys = known(endorsement_key, storage_root_key).ok()?;
            Some(HubAuthentication::Keys(hub_keys(&instance.secret, &instance.id_scope, id, &keys)))
        }
        (HubCredential::Certificate { thumbprint }, Of::Device(Attestation::ClientCertificates(pair))) => {
            let enrolled: Vec<_> = pair.iter().map(|certificate| certificate.thumbprint()).collect();
            let other = enrolled.iter().copied().find(|other| other != thumbprint);
            enrolled.contains(thumbprint).then(|| HubAuthentication::SelfSigned {
                primary: *thumbprint,
                secondary: other.unwrap_or(*thumbprint),
            })
        }
        (
            HubCredential::Certificate { thumbprint },
            Of::Device(Attestation::Signers(_)) | Of::Group(GroupAttestation::Signers(_)),
        ) => Some(HubAuthentication::SelfSigned { primary: *thumbprint, secondary: *thumbprint }),
        _ => None,
    }
}

enum Of<'e> {
    Device(&'e Attestation),
    Group(&'e GroupAttestation),
}

fn attestation(entry: &Entry) -> Of<'_> {
    match entry {
        Entry::Individual(enrollment) => Of::Device(&enrollment.attestation),
        Entry::Group(group) => Of::Group(&group.attestation),
    }
}
