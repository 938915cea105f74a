//! A TPM: the device proves that it has the one whose endorsement key is enrolled. Spec: DPS-TPM-1 to DPS-TPM-7.

use std::sync::Arc;

use super::{Admission, Attested, Entry, Judge};
use crate::enrollment::{Attestation, IndividualEnrollment};
use crate::instance::ServiceInstance;
use crate::moment::Moment;
use crate::ports::HubAuthentication;
use crate::refusal::{Refusal, TpmChallenge, Unproven};
use crate::registration::{HubCredential, Registration, State};
use crate::tpm::{
    BadTpmKey, Randomness, StorageKey, TpmEvidence, TpmKeys, WINDOW_SECONDS, hub_keys, nonce_key, wrap,
};

impl Judge<'_> {
    /// Spec: DPS-TPM-1, DPS-TPM-5.
    pub(super) fn by_tpm(&self, entry: Entry, enrolled: &[u8]) -> Result<Attested, Refusal> {
        let known = || {
            let storage_root = self.look_up.registration.as_ref().and_then(storage_root_of)?;
            Some(known(enrolled, storage_root).map_err(Unproven::TpmKeys))
        };
        let keys = match &self.device.credential.tpm {
            TpmEvidence::NotCarried => return Err(Refusal::TpmWanted),
            TpmEvidence::Presented(Err(why)) => return Err(Unproven::TpmKeys(why.clone()).into()),
            TpmEvidence::Presented(Ok(keys)) if keys.endorsement.as_bytes() != enrolled => {
                let enrolled = StorageKey::parse(enrolled);
                let enrolled = enrolled.map_or_else(|why| why.to_string(), |key| key.to_string());
                let (entry, presented) = (entry.name(), keys.endorsement.to_string());
                return Err(Unproven::OtherTpm { entry, presented, enrolled }.into());
            }
            TpmEvidence::Presented(Ok(keys)) => (**keys).clone(),
            // Someone else may have presented a TPM in the device's name since: what the record says counts too.
            TpmEvidence::Remembered(keys)
                if keys.endorsement.as_bytes() == enrolled && self.prove(keys, true).is_ok() =>
            {
                (**keys).clone()
            }
            // A poll says no more of a TPM than its token.
            TpmEvidence::Absent | TpmEvidence::Remembered(_) => {
                known().ok_or_else(|| Unproven::TpmKeysWanted(entry.name()))??
            }
        };
        self.prove(&keys, true)?;
        let keys_at_hub = hub_keys(self.secret, &self.device.id_scope, &self.device.registration_id, &keys);
        Ok(Attested {
            entry,
            admission: Admission::Admitted {
                authentication: HubAuthentication::Keys(keys_at_hub),
                credential: HubCredential::Tpm { storage_root_key: keys.storage_root.as_bytes().into() },
            },
            signer_expires_at: None,
            path: Vec::new(),
        })
    }

    /// What a device hears that presents a TPM which nobody has enrolled: nothing that tells it so before it has proved itself.
    /// `None` where it presents none, or something else beside. Spec: DPS-TPM-6.
    pub(super) fn by_unknown_tpm(&self) -> Option<Refusal> {
        let credential = &self.device.credential;
        let presented = match &credential.tpm {
            TpmEvidence::Presented(presented) => presented,
            TpmEvidence::Remembered(keys) => {
                return self.prove(keys, false).is_ok().then_some(Refusal::TpmNotEnrolled);
            }
            TpmEvidence::NotCarried | TpmEvidence::Absent => return None,
        };
        if credential.certificates.is_some() && credential.password.is_none() {
            return None;
        }
        Some(match presented {
            Err(why) => Unproven::TpmKeys(why.clone()).into(),
            Ok(keys) => self.prove(keys, false).err().unwrap_or(Refusal::TpmNotEnrolled),
        })
    }

    /// Spec: DPS-TPM-1, DPS-TPM-4.
    fn prove(&self, keys: &TpmKeys, is_enrolled: bool) -> Result<(), Refusal> {
        let (scope, id) = (&self.device.id_scope, &self.device.registration_id);
        let challenge_of = |at| nonce_key(self.secret, scope, id, keys, at);
        if self.device.credential.password.is_none() {
            let randomness = Randomness::new(self.secret, &self.moment.random);
            let wrapped = wrap(keys, &challenge_of(self.moment.now), &randomness);
            let authentication_key = wrapped.map_err(|_| Unproven::TpmKeys(BadTpmKey::Algorithms))?;
            return Err(Refusal::TpmChallenge(TpmChallenge { authentication_key, is_enrolled }));
        }
        let token = self.token()?;
        // Those of the operation's beginning too: a device polls with the token that it registered with.
        let windows = [self.moment.now, self.judged_at]
            .into_iter()
            .flat_map(|at| [Some(at), at.checked_sub(jiff::SignedDuration::from_secs(WINDOW_SECONDS)).ok()]);
        match windows.flatten().any(|at| token.is_signed_by(&challenge_of(at))) {
            true => Ok(()),
            false => Err(Unproven::NotTheChallenge.into()),
        }
    }
}

/// The key for the hub of a device that is assigned by its TPM, wrapped for that. Spec: DPS-TPM-7.
pub(crate) fn hub_key(
    instance: &ServiceInstance,
    enrollment: &Option<Arc<IndividualEnrollment>>,
    registration: &Registration,
    moment: Moment,
) -> Option<Vec<u8>> {
    let State::Assigned { .. } = &registration.state else { return None };
    let Attestation::Tpm { endorsement_key } = &enrollment.as_ref()?.attestation else { return None };
    let keys = known(endorsement_key, storage_root_of(registration)?).ok()?;
    let at_hub = hub_keys(&instance.secret, &instance.id_scope, &registration.registration_id, &keys);
    wrap(&keys, &at_hub.primary, &Randomness::new(&instance.secret, &moment.random)).ok()
}

fn storage_root_of(registration: &Registration) -> Option<&[u8]> {
    registration.storage_root_key.as_deref()
}

pub(super) fn known(endorsement: &[u8], storage_root: &[u8]) -> Result<TpmKeys, BadTpmKey> {
    Ok(TpmKeys {
        endorsement: StorageKey::parse(endorsement)?,
        storage_root: StorageKey::parse(storage_root)?,
    })
}
