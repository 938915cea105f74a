//! What a webhook is asked. Spec: DPS-REG-27, DPS-REG-28, DPS-REG-31.

use std::sync::Arc;

use dps_proto::ids::{HubName, RegistrationId};

use super::standing::Standing;
use super::{CustomAllocation, RETRIES_MAX, Settled};
use crate::attestation::Entry;
use crate::enrollment::{AllocationPolicy, Attestation, EnrollmentGroup, IndividualEnrollment};
use crate::moment::Moment;
use crate::ports::{AllocationOutcome, ClaimedOperation};
use crate::refusal::Refusal;
use crate::register::Registrar;
use crate::registration::{Assignment, HubCredential, JsonText};
use crate::x509::Certificate;

/// What is to be done for a claimed operation.
#[derive(Debug)]
pub enum Asking {
    /// Its webhook is to be asked this, and [`Registrar::settle_allocation`] to be told the outcome.
    Webhook(Box<AllocationRequest>),
    /// Nothing: it has ended, or is no longer the one that was claimed.
    Settled(Settled),
    /// Nothing: no instance of its ID scope is served. It is claimed again when its lease has run out.
    Unserved,
}

/// What a webhook is asked.
#[derive(Debug, Clone)]
pub struct AllocationRequest {
    /// Whom to ask.
    pub webhook: CustomAllocation,
    /// The entry of the device.
    pub entry: AskingEntry,
    /// The default policy of its instance.
    pub default_policy: AllocationPolicy,
    /// The device, in its first spelling.
    pub registration_id: RegistrationId,
    /// Where the device lives.
    pub current: Option<Assignment>,
    /// How it proved itself.
    pub proof: Proof,
    /// What it sent along.
    pub payload: Option<JsonText>,
    /// The hubs that may be named; at least one.
    pub candidates: Vec<HubName>,
}

/// An entry of either kind.
#[derive(Debug, Clone)]
pub enum AskingEntry {
    /// For the device alone.
    Individual(Arc<IndividualEnrollment>),
    /// Of many devices.
    Group(Arc<EnrollmentGroup>),
}

/// How a device proved itself.
#[derive(Debug, Clone)]
pub enum Proof {
    /// By a symmetric key.
    SymmetricKey,
    /// By this certificate.
    X509(Option<Arc<Certificate>>),
    /// By a TPM with these keys, both TPM2B_PUBLIC.
    Tpm {
        /// The endorsement key.
        endorsement_key: Box<[u8]>,
        /// The storage root key.
        storage_root_key: Box<[u8]>,
    },
}

impl Registrar {
    /// What a claimed operation is to ask its webhook. Where there is nothing to ask it is ended at once.
    ///
    /// # Errors
    /// Where the store cannot answer.
    pub async fn allocation_request(
        &self,
        claimed: &ClaimedOperation,
        moment: Moment,
    ) -> Result<Asking, Refusal> {
        let open = match self.standing(claimed).await? {
            Standing::Superseded => return Ok(Asking::Settled(Settled::Superseded)),
            Standing::Unserved => return Ok(Asking::Unserved),
            Standing::Ended { .. } => return self.unasked(claimed, moment).await,
            Standing::Open(open) => *open,
        };
        // A process that ended during its call has had that try.
        let webhook = open.webhook().filter(|_| claimed.tries <= RETRIES_MAX + 1);
        let Some(webhook) = webhook.cloned() else { return self.unasked(claimed, moment).await };
        let proof = match (&open.waiting.credential, &open.entry) {
            (HubCredential::EnrollmentKeys | HubCredential::DerivedKeys { .. }, _) => Proof::SymmetricKey,
            (HubCredential::Certificate { .. }, _) => Proof::X509(open.waiting.certificate.clone()),
            (HubCredential::Tpm { storage_root_key }, Entry::Individual(enrollment)) => {
                let endorsement_key = match &enrollment.attestation {
                    Attestation::Tpm { endorsement_key } => endorsement_key.clone(),
                    _ => Box::default(),
                };
                Proof::Tpm { endorsement_key, storage_root_key: storage_root_key.clone() }
            }
            (HubCredential::Tpm { storage_root_key }, Entry::Group(_)) => {
                Proof::Tpm { endorsement_key: Box::default(), storage_root_key: storage_root_key.clone() }
            }
        };
        Ok(Asking::Webhook(Box::new(AllocationRequest {
            webhook,
            entry: match &open.entry {
                Entry::Individual(enrollment) => AskingEntry::Individual(Arc::clone(enrollment)),
                Entry::Group(group) => AskingEntry::Group(Arc::clone(group)),
            },
            default_policy: open.instance.default_allocation_policy,
            registration_id: open.record.registration_id.clone(),
            current: open.last.clone(),
            proof,
            payload: open.waiting.payload.clone(),
            candidates: open.candidates().into_iter().map(|linked| linked.name.clone()).collect(),
        })))
    }

    async fn unasked(&self, claimed: &ClaimedOperation, moment: Moment) -> Result<Asking, Refusal> {
        let silent = AllocationOutcome::Retryable { status: None };
        Ok(Asking::Settled(self.settle_allocation(claimed, silent, moment).await?))
    }
}
