//! One try of an operation at hubs outside. Spec: DPS-REG-40 to DPS-REG-45.

use std::time::Duration;

use dps_proto::ids::{DeviceId, HubName, IdScope, RegistrationId};
use jiff::Timestamp;

use super::at_registry::{Bringing, Coming, Stopped};
use super::hold::{Hold, Open, Over};
use super::luggage::Luggage;
use super::{Clock, STRAYS_FOR, later, patience};
use crate::attestation::Entry;
use crate::destination;
use crate::instance::WhenSourceUnavailable;
use crate::moment::Moment;
use crate::ports::{
    ClaimedOperation, CleanUp, Commit, HubDevice, HubDeviceStatus, HubHealth, HubWrite, Placement,
    Postponement, RegistrationWrite, RegistryError, StoreError,
};
use crate::refusal::Refusal;
use crate::register::{DECISIONS_MAX, Registrar};
use crate::registration::{Assignment, Failure, Placing, Registration, State, Substatus};

/// What became of a claimed operation.
#[derive(Debug, Clone)]
pub enum Placed {
    /// It has ended: this is the record.
    Recorded {
        /// As it was written.
        registration: Box<Registration>,
        /// What a hub did, where that is why it failed, or why the device begins anew.
        trouble: Option<Trouble>,
    },
    /// It is tried again.
    Postponed {
        /// Not before then.
        until: Timestamp,
        /// What a hub did; `None` where the claim had no time left, or others changed the device.
        trouble: Option<Trouble>,
    },
    /// It is no longer the one that was claimed: nothing was written, but what was made is to be gone.
    Superseded,
    /// No instance of its ID scope is served: it is claimed again when its lease has run out.
    Unserved,
}

/// What a hub did not do, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The hub.
    pub hub: HubName,
    /// Why: no key, no token, nothing of what the hub said.
    pub reason: Box<str>,
}

/// How one try ends.
enum Ends {
    /// The device is at its hub, or is with the commit of its record.
    There { substatus: Substatus, hub_writes: Vec<HubWrite> },
    /// Not, and it is not tried again.
    Fails(Failure),
}

/// What of a try has to be known after it.
#[derive(Default)]
struct Tracks {
    /// Where a call has made the device.
    made: Option<Made>,
    /// When a call was given up that may be carried out yet.
    unanswered_at: Option<Timestamp>,
    trouble: Option<Trouble>,
}

/// Where a device was made.
struct Made {
    id_scope: IdScope,
    hub: HubName,
    device_id: DeviceId,
    registration_id: RegistrationId,
}

impl Registrar {
    /// Asks the hubs of a claimed operation, and ends or postpones it. The entry counts as it is now. Safe to call again, and to be cut
    /// off anywhere. `hubs_are_done` is called when no hub is asked any more and the record is written, unless others have changed it.
    ///
    /// # Errors
    /// Where the store cannot answer: the lease runs out.
    pub async fn place(
        &self,
        claimed: &ClaimedOperation,
        clock: Clock<'_>,
        hubs_are_done: &(dyn Fn() + Send + Sync),
    ) -> Result<Placed, Refusal> {
        let mut tracks = Tracks::default();
        for _ in 0..DECISIONS_MAX {
            let open = match self.hold(claimed).await? {
                Hold::Superseded => return Ok(self.superseded(&tracks, clock).await?),
                Hold::Unserved => return Ok(Placed::Unserved),
                Hold::Open(open) => *open,
                Hold::Ended(over, state) => {
                    match self.end(claimed, *over, state, Vec::new(), &tracks, clock()).await? {
                        Some(registration) => return Ok(Placed::Recorded { registration, trouble: None }),
                        None => continue,
                    }
                }
            };
            let ends = match self.try_once(claimed, &open, &mut tracks, clock).await {
                Ok(ends) => ends,
                Err(Stopped::Outdated) => continue,
                Err(Stopped::Store(why)) => return Err(why.into()),
                Err(stopped) => match self.judge(stopped, &open, claimed, &mut tracks, clock()) {
                    Judged::Ends(ends) => ends,
                    Judged::Again(until) => {
                        let postponement = Postponement { until, unanswered_at: tracks.unanswered_at };
                        return Ok(match self.store.postpone(claimed, postponement).await? {
                            Commit::Done => Placed::Postponed { until, trouble: tracks.trouble },
                            Commit::Outdated => self.superseded(&tracks, clock).await?,
                        });
                    }
                },
            };
            hubs_are_done();
            let over = open.over;
            let (state, hub_writes) = match ends {
                Ends::There { substatus, hub_writes } => {
                    let assignment = over.placing.target.clone();
                    (State::Assigned { assignment, substatus }, hub_writes)
                }
                Ends::Fails(failure) => (State::Failed { failure, last: over.last.clone() }, Vec::new()),
            };
            if let Some(registration) = self.end(claimed, over, state, hub_writes, &tracks, clock()).await? {
                return Ok(Placed::Recorded { registration, trouble: tracks.trouble });
            }
        }
        Err(Refusal::Contended(DECISIONS_MAX))
    }

    async fn try_once(
        &self,
        claimed: &ClaimedOperation,
        open: &Open,
        tracks: &mut Tracks,
        clock: Clock<'_>,
    ) -> Result<Ends, Stopped> {
        let Some(target) = open.target() else { return Ok(Ends::Fails(Failure::NoUsableHub)) };
        // Those that wait for a hub that is known not to answer are told so without another ten seconds each.
        if let HubHealth::Unhealthy { reason, .. } = target.hub.health()
            && waited(&open.over.placing, clock().now) > patience::FOR_HUB
        {
            tracks.trouble = Some(Trouble { hub: target.name.clone(), reason });
            return Ok(Ends::Fails(Failure::HubUnavailable));
        }
        let luggage = match self.luggage(claimed, open, clock).await {
            Ok(luggage) => luggage,
            Err(stopped) => self.without_luggage(stopped, open, tracks, clock().now)?,
        };
        let device = HubDevice {
            id_scope: open.over.instance.id_scope.clone(),
            hub: target.name.clone(),
            device_id: open.over.placing.target.device_id.clone(),
            registration_id: open.over.record.registration_id.clone(),
            authentication: open.authentication.clone(),
            iot_edge: luggage.iot_edge,
            initial_twin: luggage.twin,
        };
        let (coming, substatus) = match (&open.over.last, open.over.leaves()) {
            (None, _) => (Coming::First, Substatus::InitialAssignment),
            (Some(_), None) => (Coming::Stays, Substatus::ReprovisionedToInitialAssignment),
            (Some(_), Some(_)) if luggage.is_taken_along => (Coming::Moves, Substatus::DeviceDataMigrated),
            (Some(_), Some(_)) => (Coming::Moves, Substatus::DeviceDataReset),
        };
        let status = luggage.status;
        let mut hub_writes = match target.hub.place(device.clone()) {
            Placement::Writes(writes) => writes,
            Placement::Refused(failure) => return Ok(Ends::Fails(failure)),
            Placement::Outside => match target.hub.registry() {
                Some(registry) => {
                    let bringing = Bringing { claimed, registry, device: &device, status, coming };
                    if self.bring(&bringing, clock).await? {
                        tracks.made = Some(Made::of(&device));
                    }
                    Vec::new()
                }
                None => return Ok(Ends::Fails(Failure::NoUsableHub)),
            },
        };
        if status == HubDeviceStatus::Disabled && !hub_writes.is_empty() {
            let HubDevice { id_scope, hub, device_id, .. } = device;
            hub_writes.push(HubWrite::DisableDevice { id_scope, hub, device_id });
        }
        Ok(Ends::There { substatus, hub_writes })
    }

    /// A device whose data cannot be had, where it may go without. Spec: DPS-REG-42.
    fn without_luggage(
        &self,
        stopped: Stopped,
        open: &Open,
        tracks: &mut Tracks,
        now: Timestamp,
    ) -> Result<Luggage, Stopped> {
        let Stopped::By(hub, why) = stopped else { return Err(stopped) };
        let is_given_up = match &why {
            RegistryError::Refused { .. }
            | RegistryError::NotAllowed { .. }
            | RegistryError::Unaddressable => true,
            RegistryError::Throttled { .. } => waited(&open.over.placing, now) > patience::FOR_THROTTLE,
            _ => waited(&open.over.placing, now) > patience::FOR_SOURCE,
        };
        match open.over.instance.when_source_unavailable {
            WhenSourceUnavailable::Reset if is_given_up => {
                tracks.trouble = Some(Trouble { hub, reason: why.to_string().into() });
                Ok(Luggage::new(open))
            }
            WhenSourceUnavailable::Reset | WhenSourceUnavailable::Fail => Err(Stopped::By(hub, why)),
        }
    }

    /// Whether an operation that was stopped is tried again. Spec: DPS-REG-42, DPS-REG-45.
    fn judge(
        &self,
        stopped: Stopped,
        open: &Open,
        claimed: &ClaimedOperation,
        tracks: &mut Tracks,
        moment: Moment,
    ) -> Judged {
        let now = moment.now;
        let Stopped::By(hub, why) = stopped else {
            let pause = if matches!(stopped, Stopped::Late) { Duration::ZERO } else { patience::pause(1) };
            return Judged::Again(later(now, pause));
        };
        let is_source = hub != open.over.placing.target.hub;
        tracks.trouble = Some(Trouble { hub, reason: why.to_string().into() });
        let waited = waited(&open.over.placing, now);
        let silent = match is_source {
            true => (patience::FOR_SOURCE, Failure::SourceUnavailable),
            false => (patience::FOR_HUB, Failure::HubUnavailable),
        };
        let ((most, failure), pause) = match why {
            RegistryError::Refused { said, .. } => {
                return Judged::Ends(Ends::Fails(Failure::HubRefused { said }));
            }
            RegistryError::NotAllowed { .. } => return Judged::Ends(Ends::Fails(Failure::HubNotAllowed)),
            RegistryError::Unaddressable => return Judged::Ends(Ends::Fails(Failure::DeviceIdUnaddressable)),
            RegistryError::Throttled { retry_after, .. } => {
                let pause = retry_after.unwrap_or_else(|| patience::pause(claimed.tries));
                ((patience::FOR_THROTTLE, Failure::HubThrottled), pause)
            }
            RegistryError::Unanswered { .. } => {
                // A read that comes late does no harm.
                if !is_source {
                    tracks.unanswered_at = Some(now);
                }
                (silent, patience::pause(claimed.tries))
            }
            RegistryError::Unavailable { .. }
            | RegistryError::Exists
            | RegistryError::Absent
            | RegistryError::Changed => (silent, patience::pause(claimed.tries)),
        };
        match waited > most {
            true => Judged::Ends(Ends::Fails(failure)),
            false => Judged::Again(later(now, pause)),
        }
    }

    /// Writes the end of an operation; `None` where it has to be looked at again.
    async fn end(
        &self,
        claimed: &ClaimedOperation,
        over: Over,
        state: State,
        arriving: Vec<HubWrite>,
        tracks: &Tracks,
        moment: Moment,
    ) -> Result<Option<Box<Registration>>, StoreError> {
        let leaves = over.leaves().cloned();
        let Over { instance, record, placing, last, entry } = over;
        let unanswered_at = placing.unanswered_at.max(tracks.unanswered_at);
        let until = unanswered_at.and_then(|at| at.checked_add(STRAYS_FOR).ok());
        let strays_until = record.strays_until.max(until).filter(|until| *until > moment.now);
        let registration_id = &record.registration_id;
        let gone = |at: &Assignment| destination::gone(&instance, registration_id, at, strays_until, moment);
        let is_outside = instance.is_outside(&placing.target.hub);
        let mut hub_writes = match (&state, &leaves) {
            (State::Assigned { assignment, .. }, Some(leaves)) => {
                destination::moved(&record.id_scope, assignment, arriving, gone(leaves))
            }
            (State::Assigned { .. }, None) => arriving,
            // It lives at another hub and nowhere else. Where it lives nowhere, what is there may be older than this service, unless
            // it is known who made it.
            _ if is_outside && (leaves.is_some() || last.is_none() && tracks.made.is_some()) => {
                vec![gone(&placing.target)]
            }
            _ => Vec::new(),
        };
        if let State::Assigned { assignment: Assignment { hub, device_id, .. }, .. } = &state
            && is_outside
        {
            let (id_scope, hub, device_id) = (record.id_scope.clone(), hub.clone(), device_id.clone());
            hub_writes.push(HubWrite::Keep { id_scope, hub, device_id });
        }
        let registration = Registration {
            etag: moment.etag(),
            updated_at: record.updated_at.max(moment.now),
            strays_until,
            state,
            ..record.clone()
        };
        let write = RegistrationWrite {
            registration: registration.clone(),
            replaces: Some(record.etag),
            under_claim: Some(claimed.tries),
            decided_on: entry.as_ref().map(Entry::version),
            hub_writes,
        };
        Ok(match self.store.commit(write).await? {
            Commit::Done => Some(Box::new(registration)),
            Commit::Outdated => None,
        })
    }

    /// What was made under a claim that is outdated is to be gone, unless the record has it there. Spec: DPS-REG-44.
    async fn superseded(&self, tracks: &Tracks, clock: Clock<'_>) -> Result<Placed, StoreError> {
        if let Some(made) = &tracks.made {
            let moment = clock();
            let confirm_at = tracks.unanswered_at.and_then(|at| at.checked_add(STRAYS_FOR).ok());
            self.store.clean_up_stray(made.clean_up(confirm_at, moment)).await?;
        }
        Ok(Placed::Superseded)
    }
}

impl Made {
    fn of(device: &HubDevice) -> Self {
        let HubDevice { id_scope, hub, device_id, registration_id, .. } = device.clone();
        Self { id_scope, hub, device_id, registration_id }
    }

    fn clean_up(&self, confirm_at: Option<Timestamp>, moment: Moment) -> CleanUp {
        let Self { id_scope, hub, device_id, registration_id } = self;
        let device = (id_scope.clone(), hub.clone(), device_id.clone());
        CleanUp::new(device, registration_id.clone(), confirm_at, moment)
    }
}

/// Whether an operation that was stopped goes on.
enum Judged {
    Ends(Ends),
    Again(Timestamp),
}

/// How long an operation has waited for hubs.
fn waited(placing: &Placing, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(placing.since)).unwrap_or_default()
}
