//! What `dev` enrolls: the sample group, and the entries of `--enrollments`. Spec: DPS-DEV-1, DPS-DEV-9.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use dps_core::Moment;
use dps_core::enrollment::{EnrollmentGroup, EntryRef, GroupAttestation, IndividualEnrollment};
use dps_core::ports::{Condition, Store};
use dps_proto::ids::{EnrollmentGroupId, IdScope};
use dps_proto::key::{KeyPair, SymmetricKey};
use dps_server::enrollment_json::{self, EnrollmentEntry, UnknownMember};
use dps_server::moments::{Moments as _, SystemMoments};
use serde_json::{Value, json};

use super::sample_device::{self, SampleDevice};
use crate::exit::Failure;
use crate::likeness;

/// The sample group that every `dev` has.
const SAMPLE_GROUP: &str = "dev-group";

/// A group with symmetric keys that was enrolled, for the announcement.
pub(super) struct Group {
    pub(super) id: EnrollmentGroupId,
    pub(super) keys: KeyPair,
}

/// The entries of a file, read and judged before anything is begun.
pub(super) struct File {
    path: PathBuf,
    entries: Vec<(EntryRef, Value)>,
}

impl File {
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let option = || format!("--enrollments {}", path.display());
        let text = fs::read(path).with_context(option)?;
        let json: Value = serde_json::from_slice(&text).with_context(|| format!("{}: not JSON", option()))?;
        let Value::Array(items) = json else {
            return Err(anyhow!("{}: must be a JSON array of enrollments and groups", option()));
        };
        let mut entries: Vec<(EntryRef, Value)> = Vec::new();
        for (number, item) in items.into_iter().enumerate() {
            let id = item["registrationId"]
                .as_str()
                .or(item["enrollmentGroupId"].as_str())
                .unwrap_or("without an id");
            let place = || format!("{}: [{number}] ({id})", option());
            if let Some(UnknownMember { parent, name, known }) =
                enrollment_json::unknown_members(&item).into_iter().next()
            {
                let advice = match likeness::nearest(&name, &known) {
                    Some(nearest) => format!("did you mean {nearest}?"),
                    None => "take it out".to_owned(),
                };
                return Err(anyhow!("{}: {parent}{name}: there is no such member; {advice}", place()));
            }
            let name = match enrollment_json::read(&item, None, SystemMoments.moment()).with_context(place)? {
                EnrollmentEntry::Individual(enrollment) => EntryRef::Individual(enrollment.registration_id),
                EnrollmentEntry::Group(group) => EntryRef::Group(group.id),
            };
            if entries.iter().any(|(other, _)| *other == name) {
                return Err(anyhow!("{}: {name} stands in the array twice", place()));
            }
            entries.push((name, item));
        }
        Ok(Self { path: path.to_owned(), entries })
    }
}

/// Writes the sample group and the entries of the file; returns all groups among them. Keys that the file leaves out are
/// made once and kept from start to start.
pub(super) async fn prepare(
    store: &dyn Store,
    scope: &IdScope,
    group_key: Option<SymmetricKey>,
    device: &SampleDevice,
    file: Option<&File>,
) -> Result<Vec<Group>, Failure> {
    certified_group(store, scope, device).await?;
    let mut groups: Vec<Group> = sample_group(store, scope, group_key).await?.into_iter().collect();
    for (name, json) in file.iter().flat_map(|file| &file.entries) {
        let path = file.map(|file| file.path.display().to_string()).unwrap_or_default();
        let kept = kept(store, scope, name).await?;
        let read = enrollment_json::read(json, kept.as_ref(), SystemMoments.moment());
        let written = match read.with_context(|| format!("{name} in {path}")).map_err(Failure::usage)? {
            EnrollmentEntry::Individual(enrollment) => {
                store.put_individual_enrollment(scope, enrollment, Condition::Always.into()).await
            }
            EnrollmentEntry::Group(group) => {
                groups.retain(|other| other.id != group.id);
                groups.extend(announced(&group));
                store.put_enrollment_group(scope, group, Condition::Always.into()).await
            }
        };
        written.with_context(|| format!("{name} in {path}")).map_err(Failure::usage)?;
    }
    Ok(groups)
}

async fn sample_group(
    store: &dyn Store,
    scope: &IdScope,
    group_key: Option<SymmetricKey>,
) -> anyhow::Result<Option<Group>> {
    let id: EnrollmentGroupId = SAMPLE_GROUP.parse()?;
    let kept = store.enrollment_group(scope, &id).await?;
    if let (Some(group), None) = (&kept, &group_key) {
        return Ok(announced(group));
    }
    let kept = kept.map(|group| EnrollmentEntry::Group(EnrollmentGroup::clone(&group)));
    let json = json!({"enrollmentGroupId": SAMPLE_GROUP, "attestation": {"type": "symmetricKey"}});
    let moment: Moment = SystemMoments.moment();
    let EnrollmentEntry::Group(mut group) = enrollment_json::read(&json, kept.as_ref(), moment)? else {
        return Err(anyhow!("the sample group is no group"));
    };
    if let (Some(key), GroupAttestation::SymmetricKey(keys)) = (group_key, &mut group.attestation) {
        keys.primary = key;
    }
    let told = announced(&group);
    store.put_enrollment_group(scope, group, Condition::Always.into()).await?;
    Ok(told)
}

/// The sample group of devices with certificates, if there is none of that name.
async fn certified_group(store: &dyn Store, scope: &IdScope, device: &SampleDevice) -> anyhow::Result<()> {
    let id: EnrollmentGroupId = sample_device::GROUP.parse()?;
    if store.enrollment_group(scope, &id).await?.is_some() {
        return Ok(());
    }
    let json = json!({"enrollmentGroupId": sample_device::GROUP, "attestation": {"type": "symmetricKey"}});
    let EnrollmentEntry::Group(group) = enrollment_json::read(&json, None, SystemMoments.moment())? else {
        return Err(anyhow!("the sample group is no group"));
    };
    let group = EnrollmentGroup { attestation: device.attestation(), ..group };
    Ok(store.put_enrollment_group(scope, group, Condition::Always.into()).await?)
}

/// The entry as it stands.
async fn kept(
    store: &dyn Store,
    scope: &IdScope,
    name: &EntryRef,
) -> anyhow::Result<Option<EnrollmentEntry>> {
    Ok(match name {
        EntryRef::Group(id) => {
            let group = store.enrollment_group(scope, id).await?;
            group.map(|group| EnrollmentEntry::Group(EnrollmentGroup::clone(&group)))
        }
        EntryRef::Individual(id) => {
            let enrollment = store.look_up(scope, id).await?.individual_enrollment;
            enrollment.map(|enrollment| EnrollmentEntry::Individual(IndividualEnrollment::clone(&enrollment)))
        }
    })
}

/// What is told of a group: one without keys has none to tell.
fn announced(group: &EnrollmentGroup) -> Option<Group> {
    match &group.attestation {
        GroupAttestation::SymmetricKey(keys) => Some(Group { id: group.id.clone(), keys: keys.clone() }),
        GroupAttestation::Signers(_) => None,
    }
}
