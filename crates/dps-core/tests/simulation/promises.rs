//! What must hold in every schedule. Each check answers with the first promise that it finds broken.

use std::sync::Arc;

use dps_core::enrollment::{ProvisioningStatus, TwinDocument};
use dps_core::ports::{HubWrite, WriteError};
use dps_core::refusal::Refusal;
use dps_core::register::Registered;
use dps_core::registration::{Assignment, Registration, State, Substatus};
use dps_proto::ids::DeviceId;

use crate::asked::{Asked, Done, Named};
use crate::common::desk::scope;
use crate::common::image::{Applied, Image};
use crate::common::registry::SimRegistry;
use crate::fleet::{Device, Signer, home};
use crate::world::{HUBS, Movement};

/// DPS-REG-13.
pub(crate) const ENTRY_DID_NOT_ADMIT: &str = "was assigned under an entry that is disabled, changed or gone";
/// DPS-REG-32.
pub(crate) const OUTDATED_CLAIM: &str = "was ended by a worker whose claim is not the newest";
/// DPS-REG-11, as the record is written.
pub(crate) const RECORD_FORGOT: &str = "has a record that forgot where the device lives";
/// DPS-REG-11, as the device is told.
pub(crate) const HOME_FORGOTTEN: &str = "was told another home than before";
/// DPS-REG-14.
pub(crate) const OPERATION_LOST: &str = "was told an operation id that is no longer found";
/// DPS-ID-5.
const OPERATION_OF_OTHERS: &str = "was answered for an operation id that it was never told";
/// DPS-REG-1, DPS-REG-2.
const STRANGER_LET_IN: &str = "was let in with a key that no entry has";
/// DPS-STORE-3: others who write, and crashes that are over, are nobody's trouble.
const TROUBLED: &str = "a request came to nothing for a reason that is none here";
/// DPS-REG-23.
const STAYED_BEHIND: &str = "moved and left its identity behind";
/// DPS-REG-10, DPS-REG-23, DPS-STORE-5.
pub(crate) const TWO_HOMES: &str = "has an identity at a hub where its record does not have it";

/// DPS-REG-42.
pub(crate) const DATA_LOST: &str = "was told that its data was migrated, and it was not";

/// Spec: DPS-REG-11, DPS-REG-13, DPS-REG-23: judges a commit by what held at the moment it was applied.
pub(crate) fn check_commit(applied: &Applied, movement: Movement) -> Result<(), String> {
    let record = &applied.write.registration;
    if let Some(claim) = applied.write.under_claim {
        let newest = applied.before.as_ref().and_then(|before| match &before.state {
            State::Choosing { waiting, .. } => Some(waiting.tries),
            State::Assigning { placing, .. } => Some(placing.tries),
            _ => None,
        });
        if newest != Some(claim) {
            return Err(format!("{} {OUTDATED_CLAIM}: {claim}, not {newest:?}", record.registration_id));
        }
    }
    if let State::Assigned { .. } = record.state {
        let decided_on = applied.write.decided_on.as_ref().map(|(_, etag)| etag);
        let admits = applied
            .entry
            .as_ref()
            .is_some_and(|(etag, status)| *status == ProvisioningStatus::Enabled && Some(etag) == decided_on);
        if !admits {
            return Err(format!("{} {ENTRY_DID_NOT_ADMIT}", record.registration_id));
        }
    }
    // Every hub stays linked here, so nothing but a deletion makes a device move where no entry does.
    let before = applied.before.as_ref().and_then(Registration::assignment).map(home);
    let after = record.assignment().map(home);
    let moves = movement == Movement::Some && matches!(record.state, State::Assigned { .. });
    if moves && let Some((hub, device_id)) = before.clone().filter(|before| Some(before) != after.as_ref()) {
        let leaves = |write: &HubWrite| match write {
            HubWrite::RemoveDevice { hub: at, device_id: id, .. } => (at, id) == (&hub, &device_id),
            HubWrite::CleanUp(clean_up) => (&clean_up.hub, &clean_up.device_id) == (&hub, &device_id),
            HubWrite::PutDevice(_) | HubWrite::DisableDevice { .. } | HubWrite::Keep { .. } => false,
        };
        if !applied.write.hub_writes.iter().any(leaves) {
            return Err(format!("{} {STAYED_BEHIND}: {hub} {device_id}", record.registration_id));
        }
    } else if before.is_some() && before != after {
        return Err(format!("{} {RECORD_FORGOT}: {before:?}, now {after:?}", record.registration_id));
    }
    Ok(())
}

/// Spec: DPS-REG-42: what a device is told to have been migrated is at its new hub while the old one still has it.
pub(crate) fn check_twin(applied: &Applied, registries: &[Arc<SimRegistry>; 2]) -> Result<(), String> {
    let record = &applied.write.registration;
    let State::Assigned { assignment, substatus: Substatus::DeviceDataMigrated } = &record.state else {
        return Ok(());
    };
    let at = |at: &Assignment| {
        let number = HUBS[2..].iter().position(|hub| *hub == at.hub.as_str())?;
        registries[number].device(at.device_id.as_str())
    };
    let before = applied.before.as_ref().and_then(Registration::assignment);
    let (Some(old), Some(new)) = (before.and_then(at), at(assignment)) else { return Ok(()) };
    let nothing = || TwinDocument("{}".into());
    if old.twin.clone().unwrap_or_else(nothing) != new.twin.clone().unwrap_or_else(nothing) {
        return Err(format!("{} {DATA_LOST}: {old:?}, now {new:?}", record.registration_id));
    }
    Ok(())
}

/// Spec: DPS-REG-45: whether a device that lives nowhere may have been made at a hub all the same.
pub(crate) fn is_left_at_first(applied: &Applied) -> bool {
    let began = applied.before.as_ref().map(|before| &before.state);
    let ends_nowhere = applied.write.registration.assignment().is_none();
    matches!(began, Some(State::Assigning { last: None, .. })) && ends_nowhere
}

/// Spec: DPS-REG-43, DPS-REG-44: when nothing waits any more, a device is where its record has it, and nowhere else.
pub(crate) fn check_one_home(
    devices: &[Device],
    image: &Image,
    registries: &[Arc<SimRegistry>; 2],
) -> Result<(), String> {
    if let Some(clean_up) = image.clean_ups.values().next() {
        return Err(format!("{TWO_HOMES}: still to be gone: {clean_up:?}"));
    }
    for device in devices.iter().filter(|device| device.life == 0 && !device.left_at_first) {
        let home =
            image.registrations.get(&(scope(), device.id())).and_then(Registration::assignment).map(home);
        let mut found = image.identities(&scope(), &device.id());
        for (hub, registry) in HUBS[2..].iter().zip(registries) {
            let is_its = |id: &DeviceId| {
                let name = id.as_str().split('#').next().unwrap_or_default();
                name.eq_ignore_ascii_case(device.name)
            };
            let there = registry.devices().into_keys().filter(is_its);
            found.extend(there.map(|id| (hub.parse().unwrap(), id)));
        }
        if found != Vec::from_iter(home.clone()) {
            return Err(format!("{} {TWO_HOMES}: {found:?}, the record has {home:?}", device.name));
        }
    }
    Ok(())
}

/// Judges an answer by what its device was told before, and lets the device learn from it.
pub(crate) fn check_answer(
    devices: &mut [Device],
    done: &Done,
    movement: Movement,
    is_shared: bool,
) -> Result<(), String> {
    // Whatever the store came to: who does not hear of it asks again.
    if is_shared && done.is_unanswered() {
        return Ok(());
    }
    match done {
        Done::Registered(asked, result) => {
            let device = &mut devices[asked.device];
            let (operation, registration) = match result {
                Ok(Registered::Accepted { operation_id, registration, .. }) => {
                    (Some(*operation_id), registration)
                }
                Ok(Registered::Disabled { registration }) => (None, registration),
                Err(why) => return check_refusal(why),
            };
            if device.is_in(asked.life) {
                device.told.extend(operation);
            }
            hear(device, asked, registration, movement)
        }
        Done::Polled(asked, named, result) => {
            let device = &mut devices[asked.device];
            match (result, named) {
                (Ok(polled), Named::Own(operation) | Named::Forgotten(operation))
                    if polled.operation_id == *operation =>
                {
                    hear(device, asked, &polled.registration, movement)
                }
                (Ok(_), _) => Err(format!("{} {OPERATION_OF_OTHERS}: {named:?}", device.name)),
                (Err(Refusal::NoSuchOperation(why)), Named::Own(operation)) if device.is_in(asked.life) => {
                    Err(format!("{} {OPERATION_LOST}: {operation}: {why}", device.name))
                }
                (Err(why), _) => check_refusal(why),
            }
        }
        Done::Settled(Ok(_))
        | Done::Placed(Ok(_))
        | Done::Claimed(_, Ok(_))
        | Done::ClaimedCleanUps(Ok(_))
        | Done::CleanedUp(Ok(_)) => Ok(()),
        Done::Settled(Err(why)) | Done::Placed(Err(why)) => check_refusal(why),
        Done::Claimed(_, Err(why)) | Done::ClaimedCleanUps(Err(why)) | Done::CleanedUp(Err(why)) => {
            Err(format!("{TROUBLED}: {why}"))
        }
        Done::Enrolled(Ok(()) | Err(WriteError::Missing))
        | Done::Deleted(Ok(()) | Err(WriteError::Missing)) => Ok(()),
        Done::Enrolled(Err(why)) | Done::Deleted(Err(why)) => Err(format!("{TROUBLED}: {why}")),
    }
}

fn check_refusal(why: &Refusal) -> Result<(), String> {
    match why {
        Refusal::Unproven(_) | Refusal::NoSuchOperation(_) => Ok(()),
        Refusal::UnknownIdScope(_)
        | Refusal::TpmWanted
        | Refusal::TpmChallenge(_)
        | Refusal::TpmNotEnrolled
        | Refusal::NoRecord
        | Refusal::ClaimedAcrossGroups { .. }
        | Refusal::Busy
        | Refusal::Contended(_)
        | Refusal::Store(_) => Err(format!("{TROUBLED}: {why}")),
    }
}

/// Spec: DPS-REG-11: who was told a home hears of no other one, whatever became of the latest operation, unless it moved.
fn hear(
    device: &mut Device,
    asked: &Asked,
    registration: &Registration,
    movement: Movement,
) -> Result<(), String> {
    if asked.signer == Signer::Nobody {
        return Err(format!("{} {STRANGER_LET_IN}", device.name));
    }
    if registration.registration_id != device.id() {
        return Err(format!("{} was told of {}", device.name, registration.registration_id));
    }
    if !device.is_in(asked.life) {
        return Ok(());
    }
    let now = registration.assignment().map(home);
    if movement == Movement::Some {
        if asked.home.is_some() && now.is_none() {
            return Err(format!("{} {HOME_FORGOTTEN}: {:?}, now none", device.name, asked.home));
        }
        device.home = now.or(device.home.take());
        return Ok(());
    }
    // Only what was known as it asked: an answer may have been on its way for long.
    if asked.home.is_some() && asked.home != now {
        return Err(format!("{} {HOME_FORGOTTEN}: {:?}, now {now:?}", device.name, asked.home));
    }
    if now.is_some() && device.home.is_some() && device.home != now {
        return Err(format!("{} {HOME_FORGOTTEN}: {:?}, now {now:?}", device.name, device.home));
    }
    if let State::Assigned { assignment, .. } = &registration.state {
        device.home = Some(home(assignment));
    }
    Ok(())
}

/// Spec: DPS-REG-11, DPS-STORE-5: with nothing under way, the record knows where its device lives, and no other local hub does.
pub(crate) fn check_at_rest(devices: &[Device], image: &Image, movement: Movement) -> Result<(), String> {
    for device in devices {
        let record = image.registrations.get(&(scope(), device.id()));
        let home = record.and_then(Registration::assignment).map(home);
        let is_forgotten = match movement {
            Movement::None => device.home != home,
            Movement::Some => home.is_none(),
        };
        if device.home.is_some() && is_forgotten {
            return Err(format!("{} {HOME_FORGOTTEN}: {:?}, now {home:?}", device.name, device.home));
        }
        let identities = image.identities(&scope(), &device.id());
        if identities.iter().any(|at| Some(at) != home.as_ref()) && record.is_some() {
            return Err(format!("{} {TWO_HOMES}: {identities:?}, the record has {home:?}", device.name));
        }
    }
    Ok(())
}
