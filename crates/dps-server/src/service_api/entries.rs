//! Individual enrollments and groups: read, write, delete. Spec: DPS-SERVICE-7 to DPS-SERVICE-13, DPS-SERVICE-17.

use dps_core::audit::Author;
use dps_core::enrollment::EntryRef;
use dps_core::instance::ServiceInstance;
use dps_core::ports::{Condition, Store, StoreError, WriteError, WriteOrder};
use dps_core::registration::Registration;
use serde_json::Value;

use super::ServiceFault;
use crate::enrollment_json::{self, BadMember, EnrollmentEntry, Secrets};
use crate::if_match::IfMatch;
use crate::moments::Moments;
use crate::render;

/// How often a write is tried again because its entry changed meanwhile.
const WRITES_MAX: u32 = 16;

/// The entries of one instance.
pub(super) struct Entries<'s> {
    pub(super) store: &'s dyn Store,
    pub(super) instance: &'s ServiceInstance,
    pub(super) moments: &'s dyn Moments,
    /// Whom the audit names for what is written.
    pub(super) author: Author,
}

impl Entries<'_> {
    pub(super) async fn read(&self, name: &EntryRef) -> Result<Value, ServiceFault> {
        let (entry, registration) = self.load(name).await?;
        let entry = entry.ok_or_else(|| ServiceFault::NoEntry(name.clone()))?;
        let mut json = self.json(&entry, Secrets::Hidden);
        // Spec: DPS-SERVICE-17.
        if let Some(registration) = registration {
            json["registrationState"] = render::record(&registration);
        }
        Ok(json)
    }

    pub(super) async fn read_keys(&self, name: &EntryRef) -> Result<Value, ServiceFault> {
        let (entry, _) = self.load(name).await?;
        let entry = entry.ok_or_else(|| ServiceFault::NoEntry(name.clone()))?;
        Ok(enrollment_json::attestation(&entry, Secrets::Shown))
    }

    pub(super) async fn write(
        &self,
        name: &EntryRef,
        mut body: Value,
        if_match: &IfMatch,
    ) -> Result<Value, ServiceFault> {
        for _ in 0..WRITES_MAX {
            let (current, _) = self.load(name).await?;
            let condition = match (if_match, &current) {
                (IfMatch::Absent | IfMatch::Any, None) => Condition::IfAbsent,
                (IfMatch::Existing, None) => return Err(ServiceFault::NoEntry(name.clone())),
                (IfMatch::Absent, Some(_)) => return Err(ServiceFault::Exists(name.clone())),
                (IfMatch::Tag(_), None) => {
                    return Err(ServiceFault::ETagMismatch(
                        "If-Match names an etag, and there is no such entry",
                    ));
                }
                (_, Some(current)) if !if_match.fits(&current.settings().etag) => {
                    return Err(ServiceFault::ETagMismatch("If-Match names another etag than the entry has"));
                }
                // On the very version that kept keys are taken from, even for `*`.
                (_, Some(current)) => Condition::IfMatches(current.settings().etag.clone()),
            };
            name_in_body(&mut body, name, current.as_ref())?;
            let mut entry = enrollment_json::read(&body, current.as_ref(), self.moments.moment())?;
            if let Some(current) = &current {
                entry.settings_mut().created_at = current.settings().created_at;
            }
            self.check_hubs(&entry)?;
            match self.put(entry.clone(), condition).await {
                Ok(()) => return Ok(self.json(&entry, Secrets::Shown)),
                // Someone else was faster: what they wrote decides now.
                Err(WriteError::Exists | WriteError::Missing | WriteError::Changed) => {}
                Err(WriteError::Store(why)) => return Err(why.into()),
                Err(
                    why @ (WriteError::TooManyOpenGroups(_)
                    | WriteError::TooManyPrefixedGroups(_)
                    | WriteError::TooManyGroupsOfOneSubject(_)
                    | WriteError::TooManyCaCertificates(_)
                    | WriteError::NoSuchCaCertificate(_)
                    | WriteError::CaCertificateInUse(_)
                    | WriteError::TooManyInstances(_)
                    | WriteError::ServiceHostTaken(..)
                    | WriteError::InstanceBeingDeleted(_)),
                ) => return Err(ServiceFault::NotTaken(why)),
            }
        }
        Err(ServiceFault::Contended)
    }

    pub(super) async fn delete(&self, name: &EntryRef, if_match: &IfMatch) -> Result<(), ServiceFault> {
        let (current, _) = self.load(name).await?;
        let current = current.ok_or_else(|| ServiceFault::NoEntry(name.clone()))?;
        let condition = delete_condition(if_match, &current.settings().etag)?;
        let (store, scope) = (self.store, &self.instance.id_scope);
        let order = WriteOrder::by(self.author.clone(), condition);
        let deleted = match name {
            EntryRef::Individual(id) => store.delete_individual_enrollment(scope, id, order).await,
            EntryRef::Group(id) => store.delete_enrollment_group(scope, id, order).await,
        };
        deleted.map_err(|why| delete_fault(why, ServiceFault::NoEntry(name.clone())))
    }

    /// The entry, and the record of the device that it is for.
    async fn load(
        &self,
        name: &EntryRef,
    ) -> Result<(Option<EnrollmentEntry>, Option<Registration>), StoreError> {
        let scope = &self.instance.id_scope;
        match name {
            EntryRef::Individual(id) => {
                let found = self.store.look_up(scope, id).await?;
                let entry =
                    found.individual_enrollment.map(|entry| EnrollmentEntry::Individual((*entry).clone()));
                Ok((entry, found.registration))
            }
            EntryRef::Group(id) => {
                let group = self.store.enrollment_group(scope, id).await?;
                Ok((group.map(|group| EnrollmentEntry::Group((*group).clone())), None))
            }
        }
    }

    async fn put(&self, entry: EnrollmentEntry, condition: Condition) -> Result<(), WriteError> {
        let scope = &self.instance.id_scope;
        let order = WriteOrder::by(self.author.clone(), condition);
        match entry {
            EnrollmentEntry::Individual(entry) => {
                self.store.put_individual_enrollment(scope, entry, order).await
            }
            EnrollmentEntry::Group(group) => self.store.put_enrollment_group(scope, group, order).await,
        }
    }

    /// Spec: DPS-SERVICE-18.
    fn check_hubs(&self, entry: &EnrollmentEntry) -> Result<(), BadMember> {
        let hubs = entry.settings().hubs.iter().enumerate();
        match hubs.into_iter().find(|(_, hub)| self.instance.linked_hub(hub).is_none()) {
            None => Ok(()),
            Some((at, hub)) => Err(BadMember {
                path: format!("iotHubs[{at}]"),
                why: format!("{hub} is not linked to this service instance"),
            }),
        }
    }

    fn json(&self, entry: &EnrollmentEntry, secrets: Secrets) -> Value {
        enrollment_json::entry(entry, self.instance.default_allocation_policy, secrets)
    }
}

/// On what condition something of this version may be deleted.
pub(super) fn delete_condition(
    if_match: &IfMatch,
    etag: &dps_proto::ids::ETag,
) -> Result<Condition, ServiceFault> {
    match if_match {
        IfMatch::Absent | IfMatch::Any | IfMatch::Existing => Ok(Condition::Always),
        IfMatch::Tag(_) if if_match.fits(etag) => Ok(Condition::IfMatches(etag.clone())),
        IfMatch::Tag(_) => Err(ServiceFault::ETagMismatch("If-Match names another etag than there is")),
    }
}

/// Why something was not deleted after all; `missing` says that it is not there.
pub(super) fn delete_fault(why: WriteError, missing: ServiceFault) -> ServiceFault {
    match why {
        WriteError::Store(why) => why.into(),
        WriteError::Missing => missing,
        WriteError::Exists
        | WriteError::Changed
        | WriteError::TooManyOpenGroups(_)
        | WriteError::TooManyPrefixedGroups(_)
        | WriteError::TooManyGroupsOfOneSubject(_)
        | WriteError::TooManyCaCertificates(_)
        | WriteError::NoSuchCaCertificate(_)
        | WriteError::CaCertificateInUse(_)
        | WriteError::TooManyInstances(_)
        | WriteError::ServiceHostTaken(..)
        | WriteError::InstanceBeingDeleted(_) => {
            ServiceFault::ETagMismatch("it changed while it was being deleted")
        }
    }
}

/// Makes the id of the body that of the entry, in its first spelling. Spec: DPS-SERVICE-11.
fn name_in_body(
    body: &mut Value,
    name: &EntryRef,
    current: Option<&EnrollmentEntry>,
) -> Result<(), BadMember> {
    let Value::Object(body) = body else { return Ok(()) };
    let (member, in_path) = member_of(name);
    let id = match body.get(member) {
        None | Some(Value::Null) => in_path.to_owned(),
        Some(Value::String(id)) if id.eq_ignore_ascii_case(in_path) => id.clone(),
        Some(_) => {
            let why = format!("is not {in_path:?}, the id of the path");
            return Err(BadMember { path: member.to_owned(), why });
        }
    };
    let id = current.map_or(id, |current| member_of(&current.name()).1.to_owned());
    body.insert(member.to_owned(), id.into());
    Ok(())
}

fn member_of(name: &EntryRef) -> (&'static str, &str) {
    match name {
        EntryRef::Individual(id) => ("registrationId", id.as_str()),
        EntryRef::Group(id) => ("enrollmentGroupId", id.as_str()),
    }
}
