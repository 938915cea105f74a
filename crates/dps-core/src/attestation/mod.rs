//! Who the device is: which entry decides, and whether the credential proves it. Spec: DPS-REG-1, DPS-REG-5 to DPS-REG-7,
//! DPS-X509-4 to DPS-X509-8.

mod at_hub;
mod certificate;
pub mod symmetric;
pub(crate) mod tpm;

use std::net::IpAddr;
use std::sync::Arc;

use dps_proto::ids::{DeviceId, ETag, IdScope, InstanceSecret, RegistrationId};
use dps_proto::sas::{MalformedToken, SasToken, device_resource};
use jiff::Timestamp;

use crate::enrollment::{
    Attestation, EnrollmentGroup, EntryRef, EntrySettings, IndividualEnrollment, ProvisioningStatus,
};
use crate::moment::Moment;
use crate::ports::{HubAuthentication, LookUp, SearchPool, SearchTurn, Store};
use crate::refusal::{EntriesTried, Refusal, Unproven};
use crate::registration::HubCredential;
use crate::tpm::TpmEvidence;
use crate::x509::{Certificate, ChainRules, Presented, Step};
pub(crate) use at_hub::authentication;
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
    /// Whether it speaks a version of the protocol from before devices were moved: where its entry has no reprovision policy, it
    /// keeps its hub. Spec: DPS-REG-22.
    pub predates_reprovisioning: bool,
    /// Where its request came from, if that is known. Spec: DPS-REG-24.
    pub address: Option<IpAddr>,
}

/// What a device offers as proof: nothing, a password, a certificate whose key it has proved to have, or both.
#[derive(Debug, Clone, Default)]
pub struct Credential {
    /// A SAS token, or a text that is none. The latter is refused when it is judged, like a wrong token.
    pub password: Option<Result<SasToken, MalformedToken>>,
    /// What it sent in the TLS handshake.
    pub certificates: Option<Presented>,
    /// What its request says of a TPM.
    pub tpm: TpmEvidence,
}

impl Credential {
    /// The certificate that is the device's own, where it sent one that can be read.
    pub(crate) fn leaf(&self) -> Option<Arc<Certificate>> {
        let chain = self.certificates.as_ref()?.as_ref().ok()?;
        Some(Arc::new(chain.leaf().clone()))
    }
}

/// A device that has proven who it is.
#[derive(Debug, Clone)]
pub(crate) struct Attested {
    /// The entry that decides.
    pub(crate) entry: Entry,
    /// Whether that entry admits the device.
    pub(crate) admission: Admission,
    /// When the signing certificate that the chain led to expires, where it led to one. Spec: DPS-X509-14.
    pub(crate) signer_expires_at: Option<Timestamp>,
    /// The path that its chain led by, where that was asked for.
    pub(crate) path: Vec<Step>,
}

/// Whether the deciding entry admits the device.
#[derive(Debug, Clone)]
pub(crate) enum Admission {
    /// It does.
    Admitted {
        /// What it authenticates with at its hub.
        authentication: HubAuthentication,
        /// Where that comes from.
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

/// Judges one device at one time.
pub(crate) struct Judge<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) pool: &'a dyn SearchPool,
    pub(crate) rules: &'a ChainRules,
    pub(crate) secret: &'a InstanceSecret,
    pub(crate) device: &'a DeviceClaim,
    pub(crate) look_up: &'a LookUp,
    /// When the device asks, and random bytes for what it is told.
    pub(crate) moment: Moment,
    /// The time for the expiry of tokens and certificates.
    pub(crate) judged_at: Timestamp,
    /// Whether to tell by which path a chain led to its entry.
    pub(crate) tells_path: bool,
}

impl Judge<'_> {
    /// Finds the entry that decides and judges the credential by it.
    pub(crate) async fn attest(&self) -> Result<Attested, Refusal> {
        match &self.look_up.individual_enrollment {
            Some(enrollment) if enrollment.settings.provisioning_status == ProvisioningStatus::Enabled => {
                self.by_individual(enrollment).await
            }
            Some(enrollment) => self.by_disabled_individual(enrollment).await,
            None => match self.by_unknown_tpm() {
                Some(refusal) => Err(refusal),
                None => self.by_group().await,
            },
        }
    }

    /// Spec: DPS-REG-1, DPS-X509-4, DPS-X509-5, DPS-TPM-5.
    async fn by_individual(&self, enrollment: &Arc<IndividualEnrollment>) -> Result<Attested, Refusal> {
        let entry = Entry::Individual(Arc::clone(enrollment));
        let Credential { password, certificates, .. } = &self.device.credential;
        let chain = || match certificates {
            Some(presented) => certificate::chain_of(presented, &self.device.registration_id),
            None => Err(Unproven::CertificateWanted(entry.name())),
        };
        match &enrollment.attestation {
            Attestation::SymmetricKey(_) if password.is_none() && certificates.is_some() => {
                Err(Unproven::TokenWanted(entry.name()).into())
            }
            Attestation::SymmetricKey(keys) => {
                if !symmetric::signed_by_either(self.token()?, keys) {
                    return Err(Unproven::WrongKey(entry.name()).into());
                }
                let admission = Admission::Admitted {
                    authentication: HubAuthentication::Keys(keys.clone()),
                    credential: HubCredential::EnrollmentKeys,
                };
                Ok(Attested { entry, admission, signer_expires_at: None, path: Vec::new() })
            }
            Attestation::ClientCertificates(enrolled) => {
                Ok(self.by_client_certificate(chain()?, entry.clone(), enrolled)?)
            }
            Attestation::Signers(signers) => self.by_own_signers(chain()?, entry.clone(), signers).await,
            Attestation::Tpm { endorsement_key } => self.by_tpm(entry.clone(), endorsement_key),
        }
    }

    /// Spec: DPS-REG-5, DPS-X509-8: told `disabled` is who proves itself by this entry or by one it would otherwise have come
    /// in by.
    async fn by_disabled_individual(
        &self,
        enrollment: &Arc<IndividualEnrollment>,
    ) -> Result<Attested, Refusal> {
        let entry = Entry::Individual(Arc::clone(enrollment));
        let disabled = Attested {
            entry: entry.clone(),
            admission: Admission::Disabled,
            signer_expires_at: None,
            path: Vec::new(),
        };
        let mut own_refusal = None;
        match (&enrollment.attestation, &self.device.credential) {
            (Attestation::Tpm { endorsement_key }, Credential { tpm: TpmEvidence::Presented(_), .. }) => {
                return self.by_tpm(entry, endorsement_key).map(|_| disabled);
            }
            (Attestation::Tpm { endorsement_key }, Credential { password: Some(_), .. })
                if let Ok(_) = self.by_tpm(entry.clone(), endorsement_key) =>
            {
                return Ok(disabled);
            }
            (Attestation::SymmetricKey(keys), Credential { password: Some(_), .. })
                if symmetric::signed_by_either(self.token()?, keys) =>
            {
                return Ok(disabled);
            }
            (
                Attestation::ClientCertificates(_) | Attestation::Signers(_),
                Credential { certificates: Some(presented), .. },
            ) => {
                let chain = certificate::chain_of(presented, &self.device.registration_id)?;
                match self.proves_itself_by(chain, enrollment, entry).await {
                    Ok(()) => return Ok(disabled),
                    // It says less than what comes of the groups.
                    Err(Refusal::Unproven(Unproven::OtherCertificate(_))) => {}
                    Err(refusal) => own_refusal = Some(refusal),
                }
            }
            _ => {}
        }
        match self.by_group().await {
            Ok(_) => Ok(disabled),
            Err(Refusal::Unproven(Unproven::NoEntry(tried))) => {
                let disabled = Some(enrollment.registration_id.clone());
                Err(Unproven::NoEntry(EntriesTried { disabled, ..tried }).into())
            }
            Err(refusal) => Err(own_refusal.unwrap_or(refusal)),
        }
    }

    /// Spec: DPS-REG-2, DPS-X509-6.
    async fn by_group(&self) -> Result<Attested, Refusal> {
        match &self.device.credential {
            Credential { password: Some(_), .. } => self.by_derived_key(self.token()?).await,
            Credential { certificates: Some(presented), .. } => {
                let chain = certificate::chain_of(presented, &self.device.registration_id)?;
                self.by_chain(chain).await
            }
            Credential { password: None, certificates: None, .. } => Err(Unproven::NoCredential.into()),
        }
    }

    /// Spec: DPS-REG-2.
    async fn by_derived_key(&self, token: &SasToken) -> Result<Attested, Refusal> {
        let Self { device, look_up, .. } = self;
        let known = look_up.registration_group.as_ref();
        // A device that comes back is the usual case, and costs one group.
        let found = match known
            .and_then(|group| symmetric::verify_group(token, group, &device.registration_id))
        {
            Some(found) => found,
            None => {
                let candidates =
                    self.store.candidate_groups(&device.id_scope, &device.registration_id).await?;
                symmetric::search(self.pool, device.search_turn, token, &device.registration_id, candidates)
                    .await?
            }
        };
        let GroupMatch { group, spelling, keys } = found;
        let entry = Entry::Group(group);
        let admission = if entry.is_enabled() {
            Admission::Admitted {
                authentication: HubAuthentication::Keys(keys),
                credential: HubCredential::DerivedKeys { spelling },
            }
        } else {
            Admission::Disabled
        };
        Ok(Attested { entry, admission, signer_expires_at: None, path: Vec::new() })
    }

    /// What can be said against a token before any key is looked at: cheap, and tells nothing about entries.
    fn token(&self) -> Result<&SasToken, Unproven> {
        let Self { device, judged_at, .. } = self;
        let token = match &device.credential.password {
            None => return Err(Unproven::NoCredential),
            Some(Err(why)) => return Err(Unproven::Malformed(*why)),
            Some(Ok(token)) => token,
        };
        if !token.is_for(&device.id_scope, &device.registration_id) {
            return Err(Unproven::OtherResource {
                received: token.shown_resource().to_owned(),
                expected: device_resource(&device.id_scope, &device.registration_id),
            });
        }
        if token.is_expired_at(*judged_at) {
            return Err(Unproven::Expired { expired_at: token.expiry(), judged_at: *judged_at });
        }
        Ok(token)
    }
}
