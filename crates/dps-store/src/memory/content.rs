//! What a store in memory holds, and what must hold of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use dps_core::audit::{AUDIT_RECORDS_MAX, Action, AuditRecord, Subject};
use dps_core::ca_certificate::{CaCertificate, CaName};
use dps_core::enrollment::{
    Attestation, EnrollmentGroup, EntryRef, GROUPS_OF_ONE_SUBJECT_MAX, GroupAttestation,
    IndividualEnrollment, Signers,
};
use dps_core::ports::{
    CleanUp, HubDevice, HubDeviceStatus, HubWrite, StoredHubDevice, WriteError, WriteOrder,
};
use dps_core::registration::Registration;
use dps_core::x509::NameKey;
use dps_proto::ids::{DeviceId, ETag, EnrollmentGroupId, HubName, IdScope, RegistrationId};
use jiff::Timestamp;

use super::instances::Instances;

/// A device at a hub of an instance.
pub(super) type HubDeviceKey = (IdScope, HubName, DeviceId);

/// Each key begins with the ID scope. Spec: DPS-STORE-1.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) instances: Instances,
    /// How often one of them was changed. Spec: DPS-NODE-3.
    pub(super) settings_version: i64,
    pub(super) individual_enrollments: BTreeMap<(IdScope, RegistrationId), Arc<IndividualEnrollment>>,
    pub(super) enrollment_groups: BTreeMap<(IdScope, EnrollmentGroupId), Arc<EnrollmentGroup>>,
    pub(super) registrations: BTreeMap<(IdScope, RegistrationId), Registration>,
    /// The records that were claimed, and neither written nor given back since. Spec: DPS-STORE-13.
    pub(super) leased: BTreeSet<(IdScope, RegistrationId)>,
    pub(super) hub_devices: BTreeMap<HubDeviceKey, StoredHubDevice>,
    pub(super) clean_ups: BTreeMap<HubDeviceKey, CleanUp>,
    /// By their folded names.
    pub(super) ca_certificates: BTreeMap<(IdScope, Box<str>), Arc<CaCertificate>>,
    pub(super) audit: VecDeque<(IdScope, AuditRecord)>,
}

/// Whether a group is tried for every registration id. Spec: DPS-REG-3.
pub(super) fn is_open(group: &EnrollmentGroup) -> bool {
    group.registration_id_prefix.is_none() && signers_of(group).is_none()
}

pub(super) fn signers_of(group: &EnrollmentGroup) -> Option<&Signers> {
    match &group.attestation {
        GroupAttestation::SymmetricKey(_) => None,
        GroupAttestation::Signers(signers) => Some(signers),
    }
}

/// What a chain finds signers by.
#[derive(PartialEq)]
pub(super) enum Anchor {
    Subject(NameKey),
    Ca(Box<str>),
}

pub(super) fn anchors(signers: &Signers) -> Vec<Anchor> {
    match signers {
        Signers::Certificates(pair) => {
            pair.iter().map(|certificate| Anchor::Subject(certificate.subject())).collect()
        }
        Signers::CaReferences(names) => names.iter().map(|name| Anchor::Ca(name.folded().into())).collect(),
    }
}

/// What a put does.
pub(super) fn written_over(existed: bool) -> Action {
    if existed { Action::Replaced } else { Action::Created }
}

impl Content {
    /// Spec: DPS-AUDIT-1, DPS-AUDIT-3.
    pub(super) fn note(
        &mut self,
        scope: &IdScope,
        order: WriteOrder,
        action: Action,
        subject: Subject,
        etag: Option<ETag>,
    ) {
        let Some(author) = order.by else { return };
        let number = self.audit.back().map_or(1, |(_, record)| record.number + 1);
        if self.audit.len() as u64 >= AUDIT_RECORDS_MAX {
            self.audit.pop_front();
        }
        self.audit.push_back((scope.clone(), AuditRecord { number, author: *author, action, subject, etag }));
    }

    /// Deletes all that belongs to an instance but its audit. Spec: DPS-INST-8.
    pub(super) fn forget(&mut self, scope: &IdScope) {
        self.individual_enrollments.retain(|(of, _), _| of != scope);
        self.enrollment_groups.retain(|(of, _), _| of != scope);
        self.registrations.retain(|(of, _), _| of != scope);
        self.leased.retain(|(of, _)| of != scope);
        self.hub_devices.retain(|(of, _, _), _| of != scope);
        self.clean_ups.retain(|(of, _, _), _| of != scope);
        self.ca_certificates.retain(|(of, _), _| of != scope);
    }

    pub(super) fn ca_certificates(&self, scope: &IdScope) -> impl Iterator<Item = &Arc<CaCertificate>> {
        self.ca_certificates.iter().filter(move |((of, _), _)| of == scope).map(|(_, ca)| ca)
    }

    /// Spec: DPS-X509-25.
    pub(super) fn check_references(&self, scope: &IdScope, signers: &Signers) -> Result<(), WriteError> {
        let Signers::CaReferences(names) = signers else { return Ok(()) };
        let missing = names.iter().find(|name| !self.ca_certificates(scope).any(|ca| ca.name.is(name)));
        missing.map_or(Ok(()), |name| Err(WriteError::NoSuchCaCertificate(name.clone())))
    }

    /// Spec: DPS-X509-30.
    pub(super) fn check_anchors(
        &self,
        scope: &IdScope,
        id: &EnrollmentGroupId,
        signers: &Signers,
    ) -> Result<(), WriteError> {
        for anchor in anchors(signers) {
            let others = self.groups(scope).filter(|group| group.id != *id);
            let same = others
                .filter(|group| signers_of(group).is_some_and(|signers| anchors(signers).contains(&anchor)));
            if same.count() >= GROUPS_OF_ONE_SUBJECT_MAX {
                return Err(WriteError::TooManyGroupsOfOneSubject(GROUPS_OF_ONE_SUBJECT_MAX));
            }
        }
        Ok(())
    }

    /// An entry that refers to a CA certificate. Spec: DPS-X509-25.
    pub(super) fn referrer(&self, scope: &IdScope, name: &CaName) -> Option<EntryRef> {
        let refers = |signers: &Signers| anchors(signers).contains(&Anchor::Ca(name.folded().into()));
        let group = self.groups(scope).find(|group| signers_of(group).is_some_and(refers));
        let mut enrollments = self.individual_enrollments.iter().filter(|((of, _), _)| of == scope);
        group.map(|group| EntryRef::Group(group.id.clone())).or_else(|| {
            let enrollment = enrollments.find(|(_, enrollment)| match &enrollment.attestation {
                Attestation::Signers(signers) => refers(signers),
                _ => false,
            });
            enrollment.map(|(_, enrollment)| EntryRef::Individual(enrollment.registration_id.clone()))
        })
    }

    pub(super) fn groups(&self, scope: &IdScope) -> impl Iterator<Item = &Arc<EnrollmentGroup>> {
        self.enrollment_groups.iter().filter(move |((of, _), _)| of == scope).map(|(_, group)| group)
    }

    pub(super) fn entry_etag(&self, scope: &IdScope, entry: &EntryRef) -> Option<&ETag> {
        match entry {
            EntryRef::Individual(id) => {
                let enrollment = self.individual_enrollments.get(&(scope.clone(), id.clone()))?;
                Some(&enrollment.settings.etag)
            }
            EntryRef::Group(id) => {
                Some(&self.enrollment_groups.get(&(scope.clone(), id.clone()))?.settings.etag)
            }
        }
    }

    /// In this order. Spec: DPS-REG-17, DPS-REG-23, DPS-REG-43, DPS-BROKER-12.
    pub(super) fn write_at_hubs(&mut self, writes: Vec<HubWrite>, at: Timestamp) {
        let (mut put, mut removed_disabled) = (Vec::new(), false);
        for write in writes {
            match write {
                HubWrite::PutDevice(device) => put.push(self.put_hub_device(*device, at)),
                HubWrite::RemoveDevice { id_scope, hub, device_id } => {
                    let removed = self.hub_devices.remove(&(id_scope, hub, device_id));
                    removed_disabled |=
                        removed.is_some_and(|removed| removed.status == HubDeviceStatus::Disabled);
                }
                HubWrite::DisableDevice { id_scope, hub, device_id } => {
                    self.disable_hub_device(&(id_scope, hub, device_id));
                }
                HubWrite::CleanUp(clean_up) => self.put_clean_up(*clean_up),
                HubWrite::Keep { id_scope, hub, device_id } => {
                    self.clean_ups.remove(&(id_scope, hub, device_id));
                }
            }
        }
        put.iter().filter(|_| removed_disabled).for_each(|key| self.disable_hub_device(key));
    }

    fn disable_hub_device(&mut self, key: &HubDeviceKey) {
        if let Some(device) = self.hub_devices.get_mut(key) {
            device.status = HubDeviceStatus::Disabled;
        }
    }

    fn put_hub_device(&mut self, mut device: HubDevice, at: Timestamp) -> HubDeviceKey {
        let key = (device.id_scope.clone(), device.hub.clone(), device.device_id.clone());
        let (mut created_at, mut status) = (at, HubDeviceStatus::Enabled);
        if let Some(stored) = self.hub_devices.remove(&key) {
            (created_at, status) = (stored.created_at, stored.status);
            device.hub = stored.device.hub;
            device.initial_twin = stored.device.initial_twin;
        }
        self.hub_devices.insert(key.clone(), StoredHubDevice { device, status, created_at, updated_at: at });
        key
    }
}
