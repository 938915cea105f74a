//! Who the device is: which entry decides, and whether the credential proves it. Spec: DPS-REG-1, DPS-REG-5 to DPS-REG-7.

pub mod symmetric;

use std::sync::Arc;

use dps_proto::ids::{DeviceId, ETag, IdScope, RegistrationId};
use dps_proto::key::KeyPair;
use dps_proto::sas::{MalformedToken, SasToken, device_resource};
use jiff::Timestamp;

use crate::enrollment::{
    Attestation, EnrollmentGroup, EntryRef, EntrySettings, IndividualEnrollment, ProvisioningStatus,
};
use crate::ports::{LookUp, SearchPool, SearchTurn, Store};
use crate::refusal::{EntriesTried, Refusal, Unproven};
use crate::registration::HubCredential;
use symmetric::GroupMatch;

/// Who a device says it is, and what it offers as proof.
#[derive(Debug, Clone)]
pub struct DeviceClaim {
    /// The service instance it asks for.
    pub id_scope: IdScope,
    /// The device, in its own spelling.
    pub registration_id: RegistrationId,
    /// Its proof.
    pub credential: Credential,
    /// When a search for its group may run. Spec: DPS-LIMIT-8.
    pub search_turn: SearchTurn,
}

/// What a device offers as proof.
#[derive(Debug, Clone)]
pub enum Credential {
    /// Nothing.
    None,
    /// A password: a SAS token, or a text that is none. The latter is refused when it is judged, like a wrong token.
    Sas(Result<SasToken, MalformedToken>),
}

/// A device that has proven who it is.
#[derive(Debug, Clone)]
pub(crate) struct Attested {
    /// The entry that decides.
    pub(crate) entry: Entry,
    /// Whether that entry admits the device.
    pub(crate) admission: Admission,
}

/// Whether the deciding entry admits the device.
#[derive(Debug, Clone)]
pub(crate) enum Admission {
    /// It does; these are the keys for the hub.
    Admitted {
        /// Keys of the device.
        keys: KeyPair,
        /// Where they come from.
        credential: HubCredential,
    },
    /// It is disabled. Spec: DPS-REG-5.
    Disabled,
}

/// An entry of either kind.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    Individual(Arc<IndividualEnrollment>),
    Group(Arc<EnrollmentGroup>),
}

impl Entry {
    pub(crate) fn name(&self) -> EntryRef {
        match self {
            Self::Individual(enrollment) => EntryRef::Individual(enrollment.registration_id.clone()),
            Self::Group(group) => EntryRef::Group(group.id.clone()),
        }
    }

    pub(crate) fn settings(&self) -> &EntrySettings {
        match self {
            Self::Individual(enrollment) => &enrollment.settings,
            Self::Group(group) => &group.settings,
        }
    }

    pub(crate) fn version(&self) -> (EntryRef, ETag) {
        (self.name(), self.settings().etag.clone())
    }

    /// Spec: DPS-REG-18. `first_spelling` is that of the record, so that a device keeps one id at its hub.
    pub(crate) fn device_id(&self, first_spelling: &RegistrationId) -> DeviceId {
        match self {
            Self::Individual(enrollment) => {
                enrollment.device_id.clone().unwrap_or_else(|| DeviceId::from(first_spelling))
            }
            Self::Group(_) => DeviceId::from(first_spelling),
        }
    }

    fn is_enabled(&self) -> bool {
        self.settings().provisioning_status == ProvisioningStatus::Enabled
    }
}

/// Finds the entry that decides and judges the credential by it. `judged_at` is the time for the token's expiry.
pub(crate) async fn attest(
    store: &dyn Store,
    pool: &dyn SearchPool,
    device: &DeviceClaim,
    look_up: &LookUp,
    judged_at: Timestamp,
) -> Result<Attested, Refusal> {
    let individual = look_up.individual_enrollment.as_ref();
    if let Some(enrollment) = individual
        && matches!(enrollment.attestation, Attestation::Tpm { .. })
        && enrollment.settings.provisioning_status == ProvisioningStatus::Enabled
    {
        return Err(Refusal::TpmWanted);
    }
    let token = well_formed_token(device, judged_at)?;
    match individual {
        Some(enrollment) if enrollment.settings.provisioning_status == ProvisioningStatus::Enabled => {
            by_individual(token, enrollment).map_err(Refusal::from)
        }
        Some(enrollment) => by_disabled_individual(store, pool, device, token, look_up, enrollment).await,
        None => by_group(store, pool, device, token, look_up).await,
    }
}

/// What can be said against a token before any key is looked at: cheap, and tells nothing about entries.
fn well_formed_token(device: &DeviceClaim, judged_at: Timestamp) -> Result<&SasToken, Unproven> {
    let token = match &device.credential {
        Credential::None => return Err(Unproven::NoCredential),
        Credential::Sas(Err(why)) => return Err(Unproven::Malformed(*why)),
        Credential::Sas(Ok(token)) => token,
    };
    if !token.is_for(&device.id_scope, &device.registration_id) {
        return Err(Unproven::OtherResource {
            received: token.shown_resource().to_owned(),
            expected: device_resource(&device.id_scope, &device.registration_id),
        });
    }
    if token.is_expired_at(judged_at) {
        return Err(Unproven::Expired { expired_at: token.expiry(), judged_at });
    }
    Ok(token)
}

/// Spec: DPS-REG-1.
fn by_individual(token: &SasToken, enrollment: &Arc<IndividualEnrollment>) -> Result<Attested, Unproven> {
    let entry = Entry::Individual(Arc::clone(enrollment));
    match &enrollment.attestation {
        Attestation::SymmetricKey(keys) if symmetric::signed_by_either(token, keys) => Ok(Attested {
            entry,
            admission: Admission::Admitted { keys: keys.clone(), credential: HubCredential::EnrollmentKeys },
        }),
        Attestation::SymmetricKey(_) => Err(Unproven::WrongKey(entry.name())),
        Attestation::X509 { .. } | Attestation::Tpm { .. } => Err(Unproven::CertificateWanted(entry.name())),
    }
}

/// Spec: DPS-REG-5: told `disabled` is who proves itself by this entry or by a group it would otherwise have come in by.
async fn by_disabled_individual(
    store: &dyn Store,
    pool: &dyn SearchPool,
    device: &DeviceClaim,
    token: &SasToken,
    look_up: &LookUp,
    enrollment: &Arc<IndividualEnrollment>,
) -> Result<Attested, Refusal> {
    let disabled =
        Attested { entry: Entry::Individual(Arc::clone(enrollment)), admission: Admission::Disabled };
    match &enrollment.attestation {
        Attestation::SymmetricKey(keys) if symmetric::signed_by_either(token, keys) => Ok(disabled),
        _ => match by_group(store, pool, device, token, look_up).await {
            Ok(_) => Ok(disabled),
            Err(Refusal::Unproven(Unproven::NoEntry(tried))) => {
                let disabled = Some(enrollment.registration_id.clone());
                Err(Unproven::NoEntry(EntriesTried { disabled, ..tried }).into())
            }
            Err(refusal) => Err(refusal),
        },
    }
}

/// Spec: DPS-REG-2.
async fn by_group(
    store: &dyn Store,
    pool: &dyn SearchPool,
    device: &DeviceClaim,
    token: &SasToken,
    look_up: &LookUp,
) -> Result<Attested, Refusal> {
    let known = look_up.registration_group.as_ref();
    // A device that comes back is the usual case, and costs one group.
    let found = match known.and_then(|group| symmetric::verify_group(token, group, &device.registration_id)) {
        Some(found) => found,
        None => {
            let candidates = store.candidate_groups(&device.id_scope, &device.registration_id).await?;
            symmetric::search(pool, device.search_turn, token, &device.registration_id, candidates).await?
        }
    };
    let GroupMatch { group, spelling, keys } = found;
    let entry = Entry::Group(group);
    let admission = if entry.is_enabled() {
        Admission::Admitted { keys, credential: HubCredential::DerivedKeys { spelling } }
    } else {
        Admission::Disabled
    };
    Ok(Attested { entry, admission })
}
