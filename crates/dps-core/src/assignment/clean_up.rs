//! Having a device gone from a hub outside. Spec: DPS-REG-43, DPS-REG-44.

use jiff::Timestamp;

use super::placing::Trouble;
use super::{Clock, has_time, later, patience};
use crate::ports::{
    ClaimOrder, Claimed, CleanUp, CleanUpOutcome, Commit, DeviceRegistry, RegistryError, StoreError,
};
use crate::register::Registrar;

/// How often a device is looked at anew that others change meanwhile.
const ROUNDS_MAX: u32 = 4;

/// Why a try is over that has taken as long as its claim.
const NO_TIME: &str = "the hub takes too long to answer";

/// What became of a claimed clean-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CleanedUp {
    /// The device is gone, for good.
    Gone,
    /// It is gone, and looked at once more then.
    ToConfirm(Timestamp),
    /// The hub did not let it go; it is asked again then.
    Postponed {
        /// Not before then.
        until: Timestamp,
        /// What the hub did.
        trouble: Trouble,
    },
    /// It is no longer the one that was claimed, or the device is to stay.
    Superseded,
    /// No instance of its ID scope is served: it is claimed again when its lease has run out.
    Unserved,
}

/// Why a device is not gone.
enum NotGone {
    Superseded,
    Because { why: Box<str>, again_at: Timestamp },
}

impl Registrar {
    /// Claims devices that are to be gone from hubs outside. Spec: DPS-REG-43.
    ///
    /// # Errors
    /// Where the store cannot answer.
    pub async fn claim_clean_ups(&self, order: ClaimOrder) -> Result<Claimed<CleanUp>, StoreError> {
        self.store.claim_clean_ups(order).await
    }

    /// Asks the hub of a claimed clean-up, and ends or postpones it. Safe to call again, and to be cut off anywhere.
    ///
    /// # Errors
    /// Where the store cannot answer: the lease runs out.
    pub async fn clean_up(&self, claimed: &CleanUp, clock: Clock<'_>) -> Result<CleanedUp, StoreError> {
        let Some(instance) = self.instances().of_scope(&claimed.id_scope) else {
            return Ok(CleanedUp::Unserved);
        };
        let removed = match instance.linked_hub(&claimed.hub).map(|linked| linked.hub.registry()) {
            // It may be linked again.
            None => Err(self.because("the hub is not linked", claimed, None, clock)),
            // It is another hub now, whose devices are kept here or nowhere.
            Some(None) => Ok(()),
            Some(Some(registry)) => self.remove(claimed, registry, clock).await?,
        };
        let now = clock().now;
        let (outcome, told) = match (removed, claimed.confirm_at.filter(|at| *at > now)) {
            (Ok(()), None) => (CleanUpOutcome::Done, CleanedUp::Gone),
            (Ok(()), Some(until)) => {
                let problem =
                    "it is gone; looked at once more, as a call that was given up may make it again";
                let outcome = CleanUpOutcome::Again { until, problem: problem.into() };
                (outcome, CleanedUp::ToConfirm(until))
            }
            (Err(NotGone::Superseded), _) => return Ok(CleanedUp::Superseded),
            (Err(NotGone::Because { why, again_at: until }), _) => {
                let trouble = Trouble { hub: claimed.hub.clone(), reason: why.clone() };
                let outcome = CleanUpOutcome::Again { until, problem: why };
                (outcome, CleanedUp::Postponed { until, trouble })
            }
        };
        Ok(match self.store.settle_clean_up(claimed, outcome).await? {
            Commit::Done => told,
            Commit::Outdated => CleanedUp::Superseded,
        })
    }

    /// Deletes what is there, and what comes in between.
    async fn remove(
        &self,
        claimed: &CleanUp,
        registry: &dyn DeviceRegistry,
        clock: Clock<'_>,
    ) -> Result<Result<(), NotGone>, StoreError> {
        for _ in 0..ROUNDS_MAX {
            if !has_time(clock, claimed.due_at) {
                return Ok(Err(self.because(NO_TIME, claimed, None, clock)));
            }
            // First the version, then whether it is to be gone: one that is made after this is another version.
            let found = match registry.identity(&claimed.device_id).await {
                Ok(found) => found,
                Err(RegistryError::Absent) => return Ok(Ok(())),
                Err(why) => return Ok(Err(self.refused(&why, claimed, clock))),
            };
            if !self.store.clean_up_stands(claimed).await? {
                return Ok(Err(NotGone::Superseded));
            }
            if !has_time(clock, claimed.due_at) {
                return Ok(Err(self.because(NO_TIME, claimed, None, clock)));
            }
            match registry.delete(&found).await {
                Ok(()) | Err(RegistryError::Absent) => return Ok(Ok(())),
                Err(RegistryError::Changed) => {}
                Err(why) => return Ok(Err(self.refused(&why, claimed, clock))),
            }
        }
        Ok(Err(self.because("others change the device", claimed, None, clock)))
    }

    fn refused(&self, why: &RegistryError, claimed: &CleanUp, clock: Clock<'_>) -> NotGone {
        let wanted = match why {
            RegistryError::Throttled { retry_after, .. } => *retry_after,
            _ => None,
        };
        self.because(&why.to_string(), claimed, wanted, clock)
    }

    fn because(
        &self,
        why: &str,
        claimed: &CleanUp,
        wanted: Option<std::time::Duration>,
        clock: Clock<'_>,
    ) -> NotGone {
        let pause = wanted.unwrap_or_else(|| patience::clean_up_pause(claimed.tries));
        NotGone::Because { why: why.into(), again_at: later(clock().now, pause) }
    }
}
