//! The registrar: what a register and a poll do. Spec: DPS-REG-6, DPS-REG-9 to DPS-REG-23.

use std::sync::Arc;

use dps_proto::ids::{EnrollmentGroupId, IdScope, OperationId, RegistrationId};
use jiff::Timestamp;

use crate::allocation;
use crate::arrival::Arrival;
use crate::assignment;
use crate::attestation::{Admission, Attested, DeviceClaim, Entry, Judge, tpm};
use crate::destination::{self, Destination};
use crate::enrollment::{AllocationPolicy, EntryRef};
use crate::instance::{ClaimAcrossGroups, ServiceInstance};
use crate::instances::Instances;
use crate::moment::Moment;
use crate::ports::{
    Commit, HubAuthentication, HubWrite, LookUp, RegistrationWrite, SearchPool, Store, StoreError,
};
use crate::refusal::{NoSuchOperation, Refusal};
use crate::registration::{Failure, HubCredential, JsonText, Operation, Registration, State, Waiting};
use crate::x509::Step;

/// How often a decision is made again because its record or entry changed before the write.
pub(crate) const DECISIONS_MAX: u32 = 16;

/// Judges devices and keeps their records. One for all service instances and all transports.
pub struct Registrar {
    pub(crate) store: Arc<dyn Store>,
    pool: Arc<dyn SearchPool>,
    instances: Arc<Instances>,
}

/// What became of a register.
#[derive(Debug, Clone)]
pub enum Registered {
    /// An operation is under way; the device polls it. Spec: DPS-REG-9.
    Accepted {
        /// For the polls.
        operation_id: OperationId,
        /// The record as it is now.
        registration: Registration,
        /// What the log should tell.
        noted: Noted,
    },
    /// The entry is disabled; the record says so. Spec: DPS-REG-20.
    Disabled {
        /// The record as it is now.
        registration: Registration,
    },
}

/// What of an accepted register matters to whoever runs the service, and not to the device.
#[derive(Debug, Clone, Default)]
pub struct Noted {
    /// The group the device came from, where it has moved to another. Spec: DPS-REG-8.
    pub claimed_from: Option<EnrollmentGroupId>,
    /// When the signing certificate expires that its chain led to. Spec: DPS-X509-14.
    pub signer_expires_at: Option<Timestamp>,
    /// The path by which its chain led to the entry, the device's certificate first; told by
    /// [`Registrar::would_register`] alone. Spec: DPS-EXPLAIN-13.
    pub path: Vec<Step>,
}

/// What a poll finds.
#[derive(Debug, Clone)]
pub struct Polled {
    /// As the device gave it.
    pub operation_id: OperationId,
    /// The device's current state. Spec: DPS-REG-14.
    pub registration: Registration,
    /// The key for its hub, wrapped for its TPM, where it is assigned by one. Spec: DPS-TPM-7.
    pub tpm_key: Option<Vec<u8>>,
}

/// What to write for a register, if anything, and what to tell.
struct Decision {
    write: Option<RegistrationWrite>,
    told: Registered,
}

impl Registrar {
    /// A registrar for these instances.
    pub fn new(store: Arc<dyn Store>, pool: Arc<dyn SearchPool>, instances: Arc<Instances>) -> Self {
        Self { store, pool, instances }
    }

    /// Those that it serves.
    pub fn instances(&self) -> &Arc<Instances> {
        &self.instances
    }

    /// Whether a service instance has this ID scope. Spec: DPS-MQTT-4.
    pub fn knows(&self, scope: &IdScope) -> bool {
        self.instances.of_scope(scope).is_some()
    }

    /// Registers a device: judges it, decides its hub, and makes the record durable before it returns. `payload` is for the webhook
    /// that chooses a hub, where one does. Spec: DPS-REG-12, DPS-REG-27.
    pub async fn register(
        &self,
        device: &DeviceClaim,
        payload: Option<&JsonText>,
        moment: Moment,
    ) -> Result<Registered, Refusal> {
        self.register_if(device, payload, moment, || Ok(())).await
    }

    /// As [`Registrar::register`], for a device that has proved itself and that `may` register then: asked once, before
    /// anything is written, so that nobody else's tries count. Spec: DPS-LIMIT-5.
    pub async fn register_if<E: From<Refusal>>(
        &self,
        device: &DeviceClaim,
        payload: Option<&JsonText>,
        moment: Moment,
        may: impl FnOnce() -> Result<(), E>,
    ) -> Result<Registered, E> {
        let mut may = Some(may);
        for _ in 0..DECISIONS_MAX {
            let Decision { write, told } = self.decide((device, payload), moment, false).await?;
            if let Some(may) = may.take() {
                may()?;
            }
            let Some(write) = write else { return Ok(told) };
            match self.store.commit(write).await.map_err(Refusal::from)? {
                Commit::Done => return Ok(told),
                Commit::Outdated => {}
            }
        }
        Err(Refusal::Contended(DECISIONS_MAX).into())
    }

    /// What [`Registrar::register`] would answer at this moment. Nothing is written and no hub is asked; the operation id of
    /// the answer is of no use to anyone. Spec: DPS-EXPLAIN-6.
    pub async fn would_register(&self, device: &DeviceClaim, moment: Moment) -> Result<Registered, Refusal> {
        self.decide((device, None), moment, true).await.map(|decision| decision.told)
    }

    async fn decide(
        &self,
        (device, payload): (&DeviceClaim, Option<&JsonText>),
        moment: Moment,
        tells_path: bool,
    ) -> Result<Decision, Refusal> {
        let instance = &*self.instance(&device.id_scope)?;
        let look_up = self.store.look_up(&device.id_scope, &device.registration_id).await?;
        let attested = self.attest(instance, device, &look_up, (moment, moment.now), tells_path).await?;
        let before = look_up.registration.as_ref();
        // Before anything is told or written, `disabled` included: the record is not this device's to learn of.
        let claimed_from = claim(instance, before, &attested.entry)?;
        Ok(match attested.admission {
            Admission::Disabled => disable(instance, device, before, &attested.entry, moment),
            Admission::Admitted { authentication, credential } => match join(instance, before) {
                Some(told) => Decision { write: None, told },
                None => {
                    let entry = &attested.entry;
                    let Attested { signer_expires_at, path, .. } = attested;
                    let noted = Noted { claimed_from, signer_expires_at, path };
                    if entry.settings().allocation_policy == Some(AllocationPolicy::Custom) {
                        let device = (device, payload);
                        return Ok(wait(instance, device, before, (entry, credential), noted, moment));
                    }
                    let (policy, id) = (
                        destination::policy_of(entry, device.predates_reprovisioning),
                        (&device.registration_id, device.address),
                    );
                    let destination =
                        Destination::find(&*self.store, instance, id, before, entry, policy).await?;
                    let by = (entry, authentication, credential);
                    assign(instance, device, before, by, destination, noted, moment)
                }
            },
        })
    }

    /// Tells the device's current state to whoever proves to be that device and names an operation of it.
    /// Spec: DPS-REG-6, DPS-REG-14.
    pub async fn poll(
        &self,
        device: &DeviceClaim,
        operation_id: &str,
        moment: Moment,
    ) -> Result<Polled, Refusal> {
        let instance = &*self.instance(&device.id_scope)?;
        let look_up = self.store.look_up(&device.id_scope, &device.registration_id).await?;
        // A token may run out while a device polls; it must have been good when the operation began. An older operation
        // of the device began earlier still, so the current one's time is never too lenient.
        let judged_at = match &look_up.registration {
            Some(registration) => registration.operation.began_at.min(moment.now),
            None => moment.now,
        };
        let attested = self.attest(instance, device, &look_up, (moment, judged_at), false).await?;

        let operation_id: OperationId = operation_id.parse().map_err(|_| NoSuchOperation::Malformed)?;
        if !operation_id.belongs_to(&instance.secret, &device.id_scope, &device.registration_id) {
            return Err(NoSuchOperation::NotThisDevices.into());
        }
        let registration = look_up.registration.ok_or(NoSuchOperation::NoRecord)?;
        let registration = told(instance, registration, &attested)?;
        let tpm_key = tpm::hub_key(instance, &look_up.individual_enrollment, &registration, moment);
        Ok(Polled { operation_id, registration, tpm_key })
    }

    /// Tells the device's current state to whoever proves to be that device, without an operation. Spec: DPS-HTTPS-6.
    pub async fn look_up(&self, device: &DeviceClaim, moment: Moment) -> Result<Registration, Refusal> {
        let instance = &*self.instance(&device.id_scope)?;
        let look_up = self.store.look_up(&device.id_scope, &device.registration_id).await?;
        let attested = self.attest(instance, device, &look_up, (moment, moment.now), false).await?;
        let registration = look_up.registration.ok_or(Refusal::NoRecord)?;
        told(instance, registration, &attested)
    }

    /// The record of a device, for whoever manages the instance.
    pub async fn registration(
        &self,
        scope: &IdScope,
        id: &RegistrationId,
    ) -> Result<Option<Registration>, StoreError> {
        Ok(self.store.look_up(scope, id).await?.registration)
    }

    async fn attest(
        &self,
        instance: &ServiceInstance,
        device: &DeviceClaim,
        look_up: &LookUp,
        (moment, judged_at): (Moment, Timestamp),
        tells_path: bool,
    ) -> Result<Attested, Refusal> {
        let ServiceInstance { chain_rules: rules, secret, .. } = instance;
        let (store, pool) = (&*self.store, &*self.pool);
        Judge { store, pool, rules, secret, device, look_up, moment, judged_at, tells_path }.attest().await
    }

    fn instance(&self, scope: &IdScope) -> Result<Arc<ServiceInstance>, Refusal> {
        self.instances.of_scope(scope).ok_or_else(|| Refusal::UnknownIdScope(scope.clone()))
    }
}

/// The record as a device is told it that only asks: nothing is written.
fn told(
    instance: &ServiceInstance,
    registration: Registration,
    attested: &Attested,
) -> Result<Registration, Refusal> {
    claim(instance, Some(&registration), &attested.entry)?;
    Ok(match attested.admission {
        Admission::Admitted { .. } => registration,
        Admission::Disabled => registration.disabled(),
    })
}

/// Spec: DPS-REG-10.
fn join(instance: &ServiceInstance, before: Option<&Registration>) -> Option<Registered> {
    let registration = before?;
    matches!(registration.state, State::Choosing { .. } | State::Assigning { .. }).then(|| {
        Registered::Accepted {
            operation_id: operation_id(instance, registration),
            registration: registration.clone(),
            noted: Noted::default(),
        }
    })
}

/// Decides for a device that an enabled entry admits. Spec: DPS-REG-11, DPS-REG-15 to DPS-REG-18, DPS-REG-23.
fn assign(
    instance: &ServiceInstance,
    device: &DeviceClaim,
    before: Option<&Registration>,
    (entry, authentication, credential): (&Entry, HubAuthentication, HubCredential),
    destination: Destination<'_>,
    noted: Noted,
    moment: Moment,
) -> Decision {
    let current = before.and_then(Registration::assignment);
    let storage_root_key = storage_root_key_of(&credential);
    let arrival = Arrival {
        instance,
        registration_id: first_spelling(device, before),
        entry,
        authentication,
        credential,
        current,
        initial_twin: None,
        strays_until: before.and_then(|record| record.strays_until),
        moment,
    };
    let (state, hub_writes) = arrival.at(destination);
    let registration = Registration { storage_root_key, ..record(device, before, entry, state, moment) };
    let told = Registered::Accepted {
        operation_id: operation_id(instance, &registration),
        registration: registration.clone(),
        noted,
    };
    Decision { write: Some(write(registration, before, entry, hub_writes)), told }
}

/// Leaves the choice of a device's hub to the webhook of its entry. Spec: DPS-REG-27.
fn wait(
    instance: &ServiceInstance,
    (device, payload): (&DeviceClaim, Option<&JsonText>),
    before: Option<&Registration>,
    (entry, credential): (&Entry, HubCredential),
    noted: Noted,
    moment: Moment,
) -> Decision {
    let last = before.and_then(Registration::assignment).cloned();
    let storage_root_key = storage_root_key_of(&credential);
    let policy = destination::policy_of(entry, device.predates_reprovisioning);
    let hub = last.as_ref().map(|last| &last.hub);
    let state = if allocation::candidates(instance, entry.settings(), policy, hub).is_empty() {
        State::Failed { failure: Failure::NoUsableHub, last }
    } else {
        let webhook = entry.settings().custom_allocation.as_ref();
        let certificate = match &credential {
            HubCredential::Certificate { .. } => device.credential.leaf(),
            HubCredential::EnrollmentKeys | HubCredential::DerivedKeys { .. } | HubCredential::Tpm { .. } => {
                None
            }
        };
        let waiting = Waiting {
            credential,
            certificate,
            payload: payload.cloned(),
            predates_reprovisioning: device.predates_reprovisioning,
            webhook_host: webhook.map(|webhook| webhook.webhook_url.host()).unwrap_or_default(),
            tries: 0,
            due_at: moment.now,
        };
        State::Choosing { waiting: Box::new(waiting), last }
    };
    let registration = Registration { storage_root_key, ..record(device, before, entry, state, moment) };
    let told = Registered::Accepted {
        operation_id: operation_id(instance, &registration),
        registration: registration.clone(),
        noted,
    };
    Decision { write: Some(write(registration, before, entry, Vec::new())), told }
}

fn storage_root_key_of(credential: &HubCredential) -> Option<Box<[u8]>> {
    match credential {
        HubCredential::Tpm { storage_root_key } => Some(storage_root_key.clone()),
        HubCredential::EnrollmentKeys
        | HubCredential::DerivedKeys { .. }
        | HubCredential::Certificate { .. } => None,
    }
}

/// Decides for a device whose entry is disabled. Spec: DPS-REG-11, DPS-REG-20.
fn disable(
    instance: &ServiceInstance,
    device: &DeviceClaim,
    before: Option<&Registration>,
    entry: &Entry,
    moment: Moment,
) -> Decision {
    let state = State::Disabled { last: before.and_then(Registration::assignment).cloned() };
    let registration = record(device, before, entry, state, moment);
    let mut write = write(registration, before, entry, Vec::new());
    if let Some(before) = before
        && let State::Assigning { placing, last } = &before.state
    {
        assignment::give_up(instance, before, (placing, last.as_ref()), &mut write, moment);
    }
    let told = Registered::Disabled { registration: write.registration.clone() };
    Decision { write: Some(write), told }
}

/// The record with a new operation in it.
fn record(
    device: &DeviceClaim,
    before: Option<&Registration>,
    entry: &Entry,
    state: State,
    moment: Moment,
) -> Registration {
    Registration {
        id_scope: device.id_scope.clone(),
        registration_id: first_spelling(device, before).clone(),
        entry: entry.name(),
        created_at: before.map_or(moment.now, |record| record.created_at),
        // A wall clock may step back; a record's dates do not.
        updated_at: before.map_or(moment.now, |record| record.updated_at.max(moment.now)),
        etag: moment.etag(),
        operation: Operation { guid: moment.guid(), began_at: moment.now },
        storage_root_key: before.and_then(|record| record.storage_root_key.clone()),
        payload: None,
        strays_until: before.and_then(|record| record.strays_until).filter(|until| *until > moment.now),
        state,
    }
}

fn write(
    registration: Registration,
    before: Option<&Registration>,
    entry: &Entry,
    hub_writes: Vec<HubWrite>,
) -> RegistrationWrite {
    let replaces = before.map(|record| record.etag.clone());
    let decided_on = Some(entry.version());
    RegistrationWrite { registration, replaces, under_claim: None, decided_on, hub_writes }
}

/// The spelling of the registration id that the record was made with. Spec: DPS-ID-2.
fn first_spelling<'a>(device: &'a DeviceClaim, before: Option<&'a Registration>) -> &'a RegistrationId {
    before.map_or(&device.registration_id, |record| &record.registration_id)
}

/// Spec: DPS-REG-8.
fn claim(
    instance: &ServiceInstance,
    before: Option<&Registration>,
    entry: &Entry,
) -> Result<Option<EnrollmentGroupId>, Refusal> {
    let (Some(EntryRef::Group(from)), EntryRef::Group(to)) =
        (before.map(|record| &record.entry), entry.name())
    else {
        return Ok(None);
    };
    match instance.claim_across_groups {
        _ if *from == to => Ok(None),
        ClaimAcrossGroups::Allow => Ok(Some(from.clone())),
        ClaimAcrossGroups::Refuse => Err(Refusal::ClaimedAcrossGroups { from: from.clone(), to }),
    }
}

/// The entry a record came from, if it still exists.
pub(crate) fn entry_of(look_up: &LookUp, name: &EntryRef) -> Option<Entry> {
    match name {
        EntryRef::Individual(_) => look_up.individual_enrollment.clone().map(Entry::Individual),
        EntryRef::Group(_) => look_up.registration_group.clone().map(Entry::Group),
    }
}

fn operation_id(instance: &ServiceInstance, registration: &Registration) -> OperationId {
    OperationId::derive(
        &instance.secret,
        &registration.id_scope,
        &registration.registration_id,
        registration.operation.guid,
    )
}
